//! A slurmrestd that is busy, silent, of another version, or none at all: a submission makes one job
//! or none, and what is wrong is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::environment::TestEnvironment;
use crate::remediate::cluster::proxy::{Fate, Proxy};
use crate::submit_faults::interrupted;
use crate::support::http::Server;
use crate::support::slurm::{Nodes, Slurm};

/// A place whose only target is a slurmrestd.
fn place(address: &str) -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.write(
        "config.yaml",
        format!("targets:\n- {{name: lab, engine: slurm, address: '{address}', token_file: token, user: root}}\n"),
    );
    environment.write("token", "");
    environment.set("AICTL_CONFIG", "config.yaml")
}

const SUBMIT: [&str; 9] = ["submit", "--to", "lab", "--name", "train", "--hold", "--", "sleep", "1"];
const LIST: [&str; 4] = ["queue", "list", "--on", "lab"];

#[test]
fn a_real_slurmrestd_behind_a_bad_wire() {
    let Some(mut slurm) = Slurm::start(Nodes { count: 1, gpus: 0, shards: 0, more: "" }) else { return };
    let Some(address) = slurm.rest_at_port() else { return };
    let proxy = Proxy::new(&address);
    let place = place(&proxy.url);
    place.write("token", slurm.token(600));
    let queued = || slurm.said("squeue", &["--noheader", "--all", "--format=%i"]).lines().count();
    let is_submission = |method: &str, path: &str| method == "POST" && path.ends_with("/job/submit");

    // It did not arrive: nothing is made, and the same command may be tried again.
    proxy.judge(move |method, path| if is_submission(method, path) { Fate::Refuse } else { Fate::Pass });
    let ran = place.run(SUBMIT);
    assert!(ran.status == Some(4) && ran.stderr.contains("cannot reach lab at"), "{ran}");
    assert_eq!(queued(), 0);
    // It is busy: what only reads is asked again.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    proxy.judge(move |_, _| match counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
        true => Fate::Answer(503),
        false => Fate::Pass,
    });
    let ran = place.run(LIST);
    assert!(ran.status == Some(0) && asked.load(Ordering::SeqCst) > 2, "{ran}");
    // The answer was lost: the job is there, and is found.
    proxy.judge(move |method, path| if is_submission(method, path) { Fate::Lose } else { Fate::Pass });
    let ran = place.run(SUBMIT);
    assert!(ran.status == Some(0) && ran.stdout.starts_with("lab:") && ran.stdout.contains("submitted"), "{ran}");
    assert_eq!(queued(), 1);
    let ran = place.run(SUBMIT);
    assert!(ran.status == Some(0) && ran.stdout.contains("is there already"), "{ran}");
    assert_eq!(queued(), 1);
    // It hangs, and whoever waits has enough: what may have been made is named.
    proxy.judge(move |method, path| if is_submission(method, path) { Fate::Hang } else { Fate::Pass });
    let other = [&["submit", "--id", "other"], &SUBMIT[1..]].concat();
    let ran = interrupted(&place, &other, || queued() == 2);
    assert_eq!(ran.status, Some(130), "{ran}");
    assert!(ran.stderr.contains("train may have been made: the same command goes on with it"), "{ran}");
    proxy.judge(|_, _| Fate::Pass);
    let ran = place.run(&other);
    assert!(ran.status == Some(0) && ran.stdout.contains("is there already") && queued() == 2, "{ran}");
    // A token that it does not take, and an error of its own.
    proxy.judge(|_, _| Fate::Answer(401));
    let ran = place.run(LIST);
    assert!(ran.status == Some(4) && ran.stderr.contains("`scontrol token` makes one"), "{ran}");
    proxy.judge(|_, path| if path.ends_with("/jobs") { Fate::Answer(500) } else { Fate::Pass });
    let ran = place.run(LIST);
    assert!(ran.status == Some(4) && ran.stderr.contains("cannot list the jobs of lab at"), "{ran}");
    assert!(ran.stderr.contains("made up"), "its own words: {ran}");
    // A queue that is not there.
    proxy.judge(|_, _| Fate::Pass);
    let ran = place.run(["submit", "--to", "lab", "--queue", "mian", "--", "true"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("did you mean main?"), "{ran}");
}

/// As slurmrestd of Slurm 25 describes itself, as far as aictl looks.
fn document(version: &str) -> Value {
    let number = json!({"$ref": "#/components/schemas/no_val"});
    let text = json!({"type": "string"});
    let of_type = |kind: &str| json!({"type": kind});
    let job = json!({"type": "object", "properties": {
        "name": text, "comment": text, "partition": text, "nodes": text, "tres_per_node": text, "hold": of_type("boolean"),
        "current_working_directory": text, "standard_output": text, "cpus_per_task": of_type("integer"),
        "tasks_per_node": of_type("integer"), "memory_per_node": number, "time_limit": number, "requeue": of_type("boolean"),
        "environment": {"$ref": "#/components/schemas/string_array"},
    }});
    let submission =
        json!({"type": "object", "properties": {"script": text, "job": {"$ref": "#/components/schemas/job"}}});
    let body = json!({"post": {"requestBody": {"content": {"application/json": {"schema": submission}}}}});
    let place = |name: &str| format!("/slurm/{version}/{name}");
    json!({
        "openapi": "3.0.3",
        "paths": {
            place("jobs/"): {"get": {}}, place("nodes/"): {"get": {}}, place("partitions/"): {"get": {}},
            place("job/{job_id}"): {"get": {}}, place("job/submit"): body,
            "/slurm/v0.0.38/ping/": {"get": {}},
        },
        "components": {"schemas": {"job": job, "string_array": {"type": "array", "items": text},
            "no_val": {"type": "object", "properties": {"set": of_type("boolean"), "number": of_type("integer")}}}},
    })
}

/// Slurm 22.05 is what can be run here. What later ones say is written from their descriptions.
#[test]
fn a_slurmrestd_of_another_version_is_read_and_asked_in_its_own_words() {
    let number = |value: u64| json!({"set": true, "infinite": false, "number": value});
    let (server, version) = (Server::start(), "v0.0.43");
    let place = place(&server.url());
    let serve = |path: &str, body: Value| server.document(path, &[], body.to_string());
    serve("/openapi/v3", document(version));
    serve(
        "/slurm/v0.0.43/jobs/",
        json!({"jobs": [{"job_id": 7, "name": "train", "user_name": "ada", "partition": "gpu", "job_state": ["PENDING"],
            "state_reason": "Resources", "node_count": number(2), "priority": number(9), "tres_per_node": "gres/gpu:8",
            "submit_time": number(1_795_882_570), "a key of tomorrow": {"deep": [1]}}], "errors": [], "warnings": [], "meta": {}}),
    );
    let node = |name: &str| json!({"name": name, "state": ["IDLE"], "cpus": 64, "real_memory": 512_000, "gres": "gpu:h100:8", "partitions": ["gpu"]});
    serve("/slurm/v0.0.43/nodes/", json!({"nodes": [node("n1"), node("n2")], "errors": []}));
    serve(
        "/slurm/v0.0.43/partitions/",
        json!({"partitions": [{"name": "gpu", "partition": {"state": ["UP"]}, "nodes": {"configured": "n[1-2]", "total": 2}}], "errors": []}),
    );
    let ran = place.run(["queue", "list", "--on", "lab", "-o", "json"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let jobs: Value = serde_json::from_str(&ran.stdout).unwrap();
    let job = &jobs[0];
    assert_eq!(
        (&job["id"], &job["state"], &job["nodes"], &job["gpus"], &job["reason"]["kind"]),
        (&"7".into(), &"pending".into(), &2.into(), &16.into(), &"waiting_for_resources".into()),
        "{job:#}"
    );
    let submit = ["submit", "--to", "lab", "--dry-run", "-o", "json", "--queue", "gpu", "--nodes", "2"];
    let ran = place.run([&submit[..], &["--gpus-per-node", "8", "--time", "90m", "--", "train"]].concat());
    assert_eq!(ran.status, Some(0), "{ran}");
    let request: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(request["url"].as_str().unwrap().ends_with("/slurm/v0.0.43/job/submit"), "{request:#}");
    let job = &request["body"]["job"];
    assert_eq!((&job["tres_per_node"], &job["time_limit"]), (&"gres/gpu:8".into(), &number(90)), "{request:#}");
    assert!(job["environment"].is_array() && job["nodes"] == "2", "{request:#}");

    // One that serves nothing that aictl could use, and a web page where slurmrestd should be.
    serve("/openapi/v3", json!({"paths": {"/slurm/v0.0.43/ping/": {"get": {}}}}));
    let ran = place.run(LIST);
    assert_eq!(ran.status, Some(4), "{ran}");
    assert!(ran.stderr.contains("names no version that lists and submits jobs"), "{ran}");
    server.document("/openapi/v3", &[], "<html>\x1b[2J It works!</html>");
    let ran = place.run(LIST);
    assert!(ran.status == Some(4) && ran.stderr.contains("does not answer as slurmrestd does"), "{ran}");
    assert!(!ran.stderr.contains('\x1b'), "{ran}");
    let wrong = place.run(["queue", "list", "--on", "lba"]);
    assert!(wrong.status == Some(2) && wrong.stderr.contains("lab"), "{wrong}");
}
