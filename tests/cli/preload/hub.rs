//! From a hub to its cache: what lies there, what a second run does, what other tools see.

use std::fs;

use super::super::environment::TestEnvironment;
use super::super::support;
use super::super::support::http::{COMMIT, Hub, git_digest, noise, sha256};
use super::{command, repository, run, shard, snapshot, wanted};

fn files() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![
        ("config.json", b"{\"model_type\": \"test\"}".to_vec(), false),
        ("empty.txt", Vec::new(), false),
        ("also_empty.txt", Vec::new(), false),
        ("model-00001-of-00002.safetensors", shard(20_000_003, 1), true),
        ("model-00002-of-00002.safetensors", shard(9_000_000, 2), true),
        ("original/params.json", b"{}".to_vec(), false),
        ("original/consolidated.pth", noise(100_000, 3), true),
    ]
}

#[test]
fn a_model_lies_as_the_hubs_own_tools_have_it() {
    let environment = TestEnvironment::new();
    let files = files();
    let hub = Hub::with("org/model", &files);
    let ran = run(&environment, &hub, &["hf://org/model", "-o", "json"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let models: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let model = &models[0];
    assert_eq!(model["schema"], "aictl.model/v1");
    assert_eq!((&model["source"], &model["revision"]), (&"hf://org/model".into(), &COMMIT.into()));
    assert_eq!((&model["files"], &model["state"], &model["verified"]), (&7.into(), &"ready".into(), &true.into()));
    assert_eq!(model["bytes"], model["on_disk_bytes"]);

    let repository = repository(&environment);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(snapshot(&repository), wanted(&files));
    let link = fs::read_link(repository.join(format!("snapshots/{COMMIT}/original/params.json"))).unwrap();
    assert_eq!(link.to_str().unwrap(), format!("../../../blobs/{}", git_digest(b"{}")));
    assert!(repository.join("blobs").join(sha256(&files[3].1)).is_file());
    assert_eq!(fs::read_dir(repository.join(".aictl/incomplete")).unwrap().count(), 0);

    // Each event is a line of JSON, and the last says what came.
    let events: Vec<serde_json::Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["schema"]), (&"finished".into(), &"aictl.preload-event/v1".into()));
    assert_eq!(last["fetched_bytes"], 29_100_027);
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let environment = TestEnvironment::new();
    let hub = Hub::with("org/model", &files());
    assert_eq!(run(&environment, &hub, &["org/model"]).status, Some(0));
    let log = hub.server.take_log();
    let (cdn, own): (Vec<_>, Vec<_>) = log.iter().partition(|request| request.target.starts_with("/cdn/"));
    assert!(!cdn.is_empty() && cdn.iter().all(|request| !request.headers.contains_key("authorization")));
    assert!(own.iter().all(|request| request.headers["authorization"] == "Bearer hf_token-secret"));
}

#[test]
fn a_second_run_asks_once_and_says_nothing() {
    let environment = TestEnvironment::new();
    let hub = Hub::with("org/model", &files());
    let ran = run(&environment, &hub, &["hf://org/model"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("ready"), "{ran}");
    hub.server.take_log();
    hub.server.take_bytes();
    let ran = run(&environment, &hub, &["hf://org/model"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(hub.server.take_log().len(), 1);
    assert_eq!(hub.server.take_bytes(), 0);
    // Fresh enough: not even that.
    let ran = run(&environment, &hub, &["hf://org/model", "--max-age", "1h"]);
    assert_eq!((ran.status, hub.server.take_log().len()), (Some(0), 0), "{ran}");
    // A commit does not change.
    let ran = run(&environment, &hub, &[&format!("hf://org/model@{COMMIT}")]);
    assert_eq!((ran.status, hub.server.take_log().len()), (Some(0), 0), "{ran}");
    let mut offline = command(&environment, &hub, &["hf://org/model"]);
    assert!(offline.env("HF_HUB_OFFLINE", "1").status().unwrap().success());
    assert_eq!(hub.server.take_log().len(), 0);
}

#[test]
fn a_new_revision_fetches_only_what_is_new() {
    let environment = TestEnvironment::new();
    let mut files = files();
    let hub = Hub::with("org/model", &files);
    assert_eq!(run(&environment, &hub, &["hf://org/model"]).status, Some(0));
    hub.server.take_bytes();
    files[0].1 = b"{\"model_type\": \"other\"}".to_vec();
    let next = "f".repeat(40);
    hub.commit(&next, &files);
    let ran = run(&environment, &hub, &["hf://org/model"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(hub.server.take_bytes(), files[0].1.len() as u64);
    assert_eq!(snapshot(&repository(&environment)), wanted(&files));
    // Both revisions are there.
    let ran = run(&environment, &hub, &["status", "-o", "json"]);
    let models: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(models.as_array().unwrap().len(), 2, "{ran}");
}

#[test]
fn patterns_choose_and_may_be_widened_later() {
    let environment = TestEnvironment::new();
    let files = files();
    let hub = Hub::with("org/model", &files);
    let ran = run(&environment, &hub, &["org/model", "--include", "*.json", "--exclude", "original/"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(snapshot(&repository(&environment)), [("config.json".to_owned(), files[0].1.clone())]);
    let ran = run(&environment, &hub, &["org/model", "--include", "*.nothing"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no files that match"), "{ran}");
    assert_eq!(run(&environment, &hub, &["org/model"]).status, Some(0));
    assert_eq!(snapshot(&repository(&environment)), wanted(&files));
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let environment = TestEnvironment::new();
    let hub = Hub::with("org/model", &files());
    let ran = run(&environment, &hub, &["org/model", "--dry-run", "-o", "json", "--limit-rate", "1MB"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let plans: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(plans[0]["schema"], "aictl.preload-plan/v1");
    assert_eq!(plans[0]["fetch_bytes"], 29_100_027);
    assert!((29.0..29.2).contains(&plans[0]["estimate_s"].as_f64().unwrap()));
    assert!(!environment.path("store").exists());
    assert_eq!(hub.server.take_bytes(), 0);
}

#[test]
fn what_the_hub_refuses_is_told() {
    let environment = TestEnvironment::new();
    let hub = Hub::with("org/model", &files());
    let ran = run(&environment, &hub, &["hf://org/none"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("hf://org/none") && ran.stderr.contains("404"), "{ran}");
    assert!(!environment.path("store").exists());
}

/// The hub's own library finds the model without a network, and lists the cache without a warning.
#[test]
fn the_hubs_own_library_takes_it() {
    let python = support::require_some("huggingface_hub (test.sh)", support::models_python());
    let Some(python) = python else { return };
    let environment = TestEnvironment::new();
    let files = files();
    let hub = Hub::with("org/model", &files);
    assert_eq!(run(&environment, &hub, &["org/model"]).status, Some(0));
    let program = "
from huggingface_hub import snapshot_download, scan_cache_dir, hf_hub_download
print(snapshot_download('org/model', local_files_only=True))
print(open(hf_hub_download('org/model', 'original/params.json', local_files_only=True)).read())
info = scan_cache_dir()
print(len(info.repos), [str(warning) for warning in info.warnings])";
    let ran = environment.ran(
        environment
            .command_of(&python)
            .env("HF_HOME", environment.path("store"))
            .args(["-c", program])
            .output()
            .unwrap(),
    );
    let path = format!("$DIR/store/hub/models--org--model/snapshots/{COMMIT}");
    assert_eq!(ran.stdout, format!("{path}\n{{}}\n1 []\n"), "{ran}");
}

/// What that library fetched from our hub of the tests is taken as it is: the hub is a fair one,
/// and nothing is fetched twice.
#[test]
fn what_the_hubs_own_library_fetched_is_adopted() {
    let python = support::require_some("huggingface_hub (test.sh)", support::models_python());
    let Some(python) = python else { return };
    let environment = TestEnvironment::new();
    let files = files();
    let hub = Hub::with("org/model", &files);
    let program = "import huggingface_hub; huggingface_hub.snapshot_download('org/model')";
    let mut fetch = environment.command_of(&python);
    fetch.env("HF_HOME", environment.path("store")).env("HF_ENDPOINT", hub.server.url()).env("HF_HUB_DISABLE_XET", "1");
    let ran = environment.ran(fetch.args(["-c", program]).output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran}");
    hub.server.take_bytes();
    let ran = run(&environment, &hub, &["org/model", "-o", "json"]);
    assert_eq!((ran.status, hub.server.take_bytes()), (Some(0), 0), "{ran}");
    assert_eq!(snapshot(&repository(&environment)), wanted(&files));
}
