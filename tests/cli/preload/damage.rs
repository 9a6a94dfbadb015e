//! Wrong content, damaged files, full disks.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::super::environment::TestEnvironment;
use super::super::support;
use super::super::support::http::{COMMIT, Fault, Hub, noise, sha256};
use super::{repository, run, snapshot, wanted};

#[test]
fn wrong_content_is_put_apart_and_not_published() {
    let environment = TestEnvironment::new();
    let files = [("a.bin", noise(12_000_000, 1), true), ("b.json", b"{}".to_vec(), false)];
    let hub = Hub::with("org/model", &files);
    hub.server.faults(|request, _| {
        let first =
            request.headers.get("range").is_some_and(|range| range.starts_with("bytes=0-") && range != "bytes=0-1");
        first.then_some(Fault::Wrong)
    });
    let ran = run(&environment, &hub, &["org/model"]);
    assert!(ran.status == Some(3) && ran.stderr.contains("a.bin has sha256"), "{ran}");
    let repository = repository(&environment);
    let sum = sha256(&files[0].1);
    assert!(!repository.join("refs/main").exists() && !repository.join("blobs").join(&sum).exists());
    assert_eq!(fs::metadata(repository.join(".aictl/quarantine").join(&sum)).unwrap().len(), 12_000_000);
    // The next run fetches it anew, and only it.
    hub.server.faults(|_, _| None);
    hub.server.take_bytes();
    assert_eq!(run(&environment, &hub, &["org/model"]).status, Some(0));
    assert_eq!(hub.server.take_bytes(), 12_000_000);
    assert_eq!(snapshot(&repository), wanted(&files));
}

#[test]
fn damage_is_seen_and_repaired() {
    let environment = TestEnvironment::new();
    let files = [("a.bin", noise(12_000_000, 1), true), ("b.bin", noise(1_000_000, 2), true)];
    let hub = Hub::with("org/model", &files);
    assert_eq!(run(&environment, &hub, &["org/model"]).status, Some(0));
    let repository = repository(&environment);
    let blob = repository.join("blobs").join(sha256(&files[0].1));
    let before = fs::metadata(&blob).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&blob).unwrap();
    file.write_all_at(b"X", 5_000_000).unwrap();
    drop(file);
    let ran = run(&environment, &hub, &["status", "-o", "json"]);
    let models: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.status, &models[0]["state"], &models[0]["verified"]), (Some(3), &"damaged".into(), &false.into()));
    // A flipped bit without a trace is found by hashing alone.
    fs::OpenOptions::new().write(true).open(&blob).unwrap().set_modified(before).unwrap();
    let ran = run(&environment, &hub, &["status"]);
    assert!(ran.stdout.contains("ready"), "{ran}");
    hub.server.take_bytes();
    let ran = run(&environment, &hub, &["org/model", "--verify"]);
    assert!(ran.status == Some(0) && ran.stderr.contains("a.bin was damaged on disk"), "{ran}");
    assert_eq!(hub.server.take_bytes(), 12_000_000);
    assert_eq!(snapshot(&repository), wanted(&files));
    let ran = run(&environment, &hub, &["org/model", "--verify"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_name_that_was_removed_comes_back_without_a_byte() {
    let environment = TestEnvironment::new();
    let files = [("sub/a.bin", noise(2_000_000, 1), true)];
    let hub = Hub::with("org/model", &files);
    assert_eq!(run(&environment, &hub, &["org/model"]).status, Some(0));
    let repository = repository(&environment);
    fs::remove_dir_all(repository.join("snapshots").join(COMMIT)).unwrap();
    hub.server.take_bytes();
    assert_eq!(run(&environment, &hub, &["org/model"]).status, Some(0));
    assert_eq!(hub.server.take_bytes(), 0);
    assert_eq!(snapshot(&repository), wanted(&files));
}

/// A file system of 24 MB of our own.
pub struct Small(pub std::path::PathBuf);

impl Small {
    pub fn mount(path: std::path::PathBuf) -> Option<Small> {
        fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(&path).status();
        mounted.is_ok_and(|status| status.success()).then_some(Small(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_met_before_the_first_byte_and_on_the_way() {
    if !support::require("root", support::is_root()) {
        return;
    }
    let environment = TestEnvironment::new();
    let Some(small) = support::require_some("tmpfs", Small::mount(environment.path("store"))) else { return };
    let files = [("a.bin", noise(10_000_000, 1), true), ("b.bin", noise(10_000_000, 2), true)];
    let hub = Hub::with("org/model", &files);
    let ballast = small.0.join("ballast");
    fs::write(&ballast, vec![1; 10_000_000]).unwrap();
    let ran = run(&environment, &hub, &["org/model"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("free") && ran.stderr.contains("hint: make room"), "{ran}");
    assert_eq!(hub.server.take_bytes(), 0);
    let ran = run(&environment, &hub, &["org/model", "--dry-run", "-o", "json"]);
    assert!(ran.stdout.contains("\"fits\": false"), "{ran}");

    // Somebody else fills it while we are at it.
    fs::remove_file(&ballast).unwrap();
    hub.server.faults(|_, _| Some(Fault::Slow(4_000_000)));
    let full = ballast.clone();
    let filler = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let _ = fs::write(full, vec![1; 24_000_000]);
    });
    let ran = run(&environment, &hub, &["org/model", "--connections", "1"]);
    filler.join().unwrap();
    let repository = repository(&environment);
    if ran.status != Some(0) {
        assert!(ran.status == Some(1) && ran.stderr.contains("hint: make room"), "{ran}");
        assert!(!repository.join("refs/main").exists());
    }
    fs::remove_file(&ballast).unwrap();
    hub.server.faults(|_, _| None);
    let ran = run(&environment, &hub, &["org/model"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(snapshot(&repository), wanted(&files));
}
