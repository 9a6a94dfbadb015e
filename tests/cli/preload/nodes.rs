//! `--nodes`, against a real API server: Jobs that really run, and what is said of them.

use std::process::Stdio;

use serde_json::{Value, json};

use super::super::support::http::{Fault, Hub, noise};
use super::town::Town;
use super::{snapshot, wanted};

fn files() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![("a.bin", noise(20_000_000, 1), true), ("b.json", b"{}".to_vec(), false)]
}

fn reports(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn every_node_gets_the_model_and_a_node_that_fails_is_tried_again() {
    let Some(town) = Town::new("preload", 3) else { return };
    let files = files();
    let hub = Hub::with("org/model", &files);
    let away = town.other_node("away", json!({"ready": "False"}));
    let cordoned = town.other_node("cordoned", json!({"spec": {"unschedulable": true}}));
    let url = hub.server.url();

    // A dry run makes nothing, and prints what would be made.
    let ran = town.run(&url, &["org/model", "--dry-run"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(
        ran.stdout.contains("create") && ran.stdout.contains("not ready") && ran.stdout.contains("cordoned"),
        "{ran}"
    );
    assert!(ran.stdout.contains("20.0 MB a node, at most 60.0 MB from the source."), "{ran}");
    let ran = town.run(&url, &["org/model", "--dry-run", "-o", "json", "--limit-rate", "10MB"]);
    let plan = reports(&ran.stdout);
    let amounts = [&plan["bytes"], &plan["source_bytes"], &plan["estimate_s"], &plan["unknown"]];
    assert_eq!(
        amounts,
        [&20_000_002.into(), &60_000_006.into(), &6.000_000_6.into(), &serde_json::Value::Null],
        "{ran}"
    );
    let ran = town.run(&url, &["org/absent", "--dry-run"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("Size unknown: "), "{ran}");
    let ran = town.run(&url, &["org/model", "--dry-run", "-o", "yaml"]);
    assert!(ran.stdout.contains("kind: List") && ran.stdout.contains("activeDeadlineSeconds"), "{ran}");
    assert!(town.jobs().is_empty());

    town.break_next(&town.nodes[1], &[1]);
    let ran = town.run(&url, &["org/model", "--at-once", "2", "-o", "json"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let nodes = reports(&ran.stdout);
    assert_eq!(nodes.as_array().unwrap().len(), 3, "{ran}");
    for (node, tries) in town.nodes.iter().zip([1, 2, 1]) {
        let report = nodes.as_array().unwrap().iter().find(|report| report["node"] == node.as_str()).unwrap();
        assert_eq!((&report["state"], &report["tries"]), (&"done".into(), &tries.into()), "{report:#}");
        assert_eq!(report["fetched_bytes"], 20_000_002, "{report:#}");
        assert_eq!(report["models"][0]["state"], "ready", "{report:#}");
        assert!(snapshot(&town.disk(node).join("store/hub/models--org--model")) == wanted(&files));
    }
    assert!(town.most_at_once() <= 2, "{} at once", town.most_at_once());
    assert!(ran.stderr.contains("node_retry") && ran.stderr.contains("this node is broken"), "{ran}");
    let trouble = ran.stderr.lines().find(|line| line.contains("node_trouble")).unwrap_or_else(|| panic!("{ran}"));
    assert!(trouble.contains("ImagePullBackOff: no such[2J image"), "{trouble}");
    assert!(ran.stderr.contains(&away) && ran.stderr.contains(&cordoned), "{ran}");

    // All is there: it runs everywhere again, and fetches nothing.
    hub.server.take_bytes();
    town.started();
    let ran = town.run(&url, &["org/model"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("done"), "{ran}");
    assert_eq!((town.started(), hub.server.take_bytes()), (3, 0));
}

#[test]
fn a_second_run_takes_up_what_runs_and_does_again_only_what_failed() {
    let Some(town) = Town::new("preload-again", 3) else { return };
    let files = files();
    let hub = Hub::with("org/model", &files);
    let url = hub.server.url();
    // Content that is wrong is wrong the next time: it is not tried again, and the code says so.
    town.break_next(&town.nodes[0], &[3]);
    town.break_next(&town.nodes[1], &[1, 1]);
    let ran = town.run(&url, &["org/model", "--node-retries", "1", "-o", "json"]);
    assert_eq!(ran.status, Some(1), "{ran}");
    let nodes = reports(&ran.stdout);
    let states: Vec<&str> = nodes.as_array().unwrap().iter().map(|node| node["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["wrong", "failed", "done"], "{ran}");
    assert_eq!(nodes[1]["why"], "this node is broken; hint: mend it");
    assert_eq!((nodes[0]["exit_code"].clone(), nodes[1]["tries"].clone()), (3.into(), 2.into()));
    assert_eq!(town.started(), 4);

    let ran = town.run(&url, &["org/model", "--dry-run", "-o", "json"]);
    let plan = reports(&ran.stdout);
    let actions: Vec<&str> =
        plan["nodes"].as_array().unwrap().iter().map(|node| node["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["run-again", "run-again", "keep"], "{ran}");

    // Interrupted, it says how to go on and how to end; the Jobs go on.
    hub.server.faults(|_, _| Some(Fault::Slow(6_000_000)));
    let selector = format!("aictl-test={}", town.namespace);
    let mut command = town.command(&url, &["org/model", "--nodes", "-l", &selector, "-o", "json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    hub.server.take_bytes();
    hub.server.wait_for_bytes(1);
    // No pod is done before it hears of that.
    hub.server.hold(true);
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ran = town.place.ran(child.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(130), "{ran}");
    assert!(ran.stderr.contains("the same command takes them up"), "{ran}");
    assert!(ran.stderr.contains("kubectl -n ") && ran.stderr.contains("delete jobs"), "{ran}");
    let started = town.started();
    assert!((1..=2).contains(&started), "{started}");
    hub.server.hold(false);
    let ran = town.run(&url, &["org/model", "-o", "json"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(started + town.started(), 2, "what ran was taken up");
    for node in &town.nodes {
        assert!(snapshot(&town.disk(node).join("store/hub/models--org--model")) == wanted(&files));
    }
}

#[test]
fn nodes_take_it_from_each_other() {
    let Some(town) = Town::new("preload-peers", 4) else { return };
    let files = files();
    let hub = Hub::with("org/model", &files);
    let ran = town.run(&hub.server.url(), &["org/model", "--peer", "-o", "json"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    for node in &town.nodes {
        assert!(snapshot(&town.disk(node).join("store/hub/models--org--model")) == wanted(&files));
    }
    let sent = hub.server.take_bytes();
    assert!(sent <= 24_000_000, "{sent} bytes of 20,000,002");
    let nodes = reports(&ran.stdout);
    let from_peers: u64 = nodes.as_array().unwrap().iter().filter_map(|node| node["peer_bytes"].as_u64()).sum();
    assert!(from_peers >= 56_000_000, "{nodes:#}");
    // The token is gone with the run.
    let left = town.kube.block_on(async {
        use k8s_openapi::api::core::v1::{Secret, Service};
        let list = kube::api::ListParams::default().labels("aictl.dev/preload");
        let secrets: kube::Api<Secret> = kube::Api::namespaced(town.kube.client(), &town.namespace);
        let services: kube::Api<Service> = kube::Api::namespaced(town.kube.client(), &town.namespace);
        secrets.list(&list).await.unwrap().items.len() + services.list(&list).await.unwrap().items.len()
    });
    assert_eq!(left, 0);
}

#[test]
fn what_is_for_this_node_alone_is_refused() {
    let Some(town) = Town::new("preload-usage", 0) else { return };
    let run = |arguments: &[&str]| town.place.ran(town.command("http://127.0.0.1:1", arguments).output().unwrap());
    for arguments in [
        &["org/model", "--nodes", "-l", "a=b", "--pin"][..],
        &["org/model", "--nodes", "-l", "a=b", "--gpu", "0"],
        &["org/model", "--nodes"],
        &["org/model", "--nodes", "x", "-l", "a=b"],
        &["org/model", "-l", "a=b"],
        &["org/model", "--peer"],
    ] {
        let ran = run(arguments);
        assert_eq!(ran.status, Some(2), "{arguments:?}: {ran}");
    }
    let ran = run(&["org/model", "--nodes", "-l", "aictl-test=nobody"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no node has the labels"), "{ran}");
    let ran = run(&["org/model", "--nodes", "no-such-node"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no-such-node"), "{ran}");
}
