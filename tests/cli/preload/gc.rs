//! Making room.

use std::fs;
use std::process::Stdio;

use super::super::environment::TestEnvironment;
use super::super::support::http::{Hub, noise};
use super::{command, repository, run};

fn two_revisions(environment: &TestEnvironment) -> (Hub, String) {
    let shared = ("shared.bin", noise(2_000_000, 1), true);
    let hub = Hub::with("org/model", &[shared.clone(), ("a.bin", noise(3_000_000, 2), true)]);
    assert_eq!(run(environment, &hub, &["org/model"]).status, Some(0));
    let next = "e".repeat(40);
    hub.commit(&next, &[shared, ("a.bin", noise(3_000_000, 3), true)]);
    assert_eq!(run(environment, &hub, &["org/model"]).status, Some(0));
    (hub, next)
}

#[test]
fn the_quota_takes_the_oldest_and_leaves_what_others_share() {
    let environment = TestEnvironment::new();
    let (hub, next) = two_revisions(&environment);
    let ran = run(&environment, &hub, &["gc"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("nothing to hold to"), "{ran}");
    let ran = run(&environment, &hub, &["gc", "--max-size", "100MB"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    let ran = run(&environment, &hub, &["gc", "--max-size", "6MB", "--dry-run"]);
    assert!(
        ran.status == Some(0) && ran.stdout.contains("remove") && ran.stderr.contains("3.00 MB would be freed"),
        "{ran}"
    );
    let snapshots = repository(&environment).join("snapshots");
    assert_eq!(fs::read_dir(&snapshots).unwrap().count(), 2);
    let ran = run(&environment, &hub, &["gc", "--max-size", "6MB"]);
    assert!(ran.status == Some(0) && ran.stderr.contains("3.00 MB freed"), "{ran}");
    let left: Vec<_> = fs::read_dir(&snapshots).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, [next.as_str()]);
    // What is left is whole: nothing is fetched for it.
    hub.server.take_bytes();
    assert_eq!(run(&environment, &hub, &["org/model", "--verify"]).status, Some(0));
    assert_eq!(hub.server.take_bytes(), 0);
}

#[test]
fn what_is_open_or_mapped_stays() {
    let environment = TestEnvironment::new();
    let (hub, next) = two_revisions(&environment);
    let first = repository(&environment).join("snapshots").join(super::super::support::http::COMMIT).join("a.bin");
    let reader = "import mmap, sys, time
file = open(sys.argv[1], 'rb')
held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
file.close()
print('held', flush=True)
time.sleep(60)";
    let mut child = environment
        .command_of("/usr/bin/python3".as_ref())
        .args(["-c", reader])
        .arg(&first)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 4];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    let output = command(&environment, &hub, &["gc", "--max-size", "1", "-o", "json"]).output().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = environment.ran(output);
    let verdicts: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let of =
        |revision: &str| verdicts.as_array().unwrap().iter().find(|one| one["revision"] == revision).unwrap().clone();
    let (held, free) = (of(super::super::support::http::COMMIT), of(&next));
    assert_eq!((&held["action"], &free["action"]), (&"keep".into(), &"remove".into()), "{ran}");
    assert!(held["why"].as_str().unwrap().contains(&format!("pid {}", child.id())), "{ran}");
    assert_eq!(fs::read(&first).unwrap().len(), 3_000_000);
    // Now that nobody has it, it goes.
    let ran = run(&environment, &hub, &["gc", "--max-size", "1"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(!first.exists());
    assert_eq!(fs::read_dir(repository(&environment).join("blobs")).unwrap().count(), 0);
}
