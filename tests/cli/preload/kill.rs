//! Runs that are cut off at any moment, and runs that meet each other.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use super::super::environment::TestEnvironment;
use super::super::support::http::{Fault, Hub, noise};
use super::{command, repository, run, snapshot, wanted};

/// kill -9 at random moments, one run after the other into the same store; then one run to the end.
/// AICTL_TEST_KILLS=200 for all of them.
#[test]
fn killed_again_and_again_it_ends_with_the_right_bytes() {
    let kills = std::env::var("AICTL_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let environment = TestEnvironment::new();
    let files = [
        ("a.bin", noise(40_000_000, 1), true),
        ("b.bin", noise(17_000_000, 2), true),
        ("c.json", b"{}".to_vec(), false),
    ];
    let size: u64 = files.iter().map(|(_, content, _)| content.len() as u64).sum();
    let hub = Hub::with("org/model", &files);
    // Slow enough that no run comes to its end before it is killed.
    let rate = (size as usize / kills.max(1) * 4).max(200_000);
    hub.server.faults(move |_, _| Some(Fault::Slow(rate)));
    let mut random = 0x5eed_u64;
    let mut killed = 0;
    for _ in 0..kills {
        let mut child = command(&environment, &hub, &["org/model", "--connections", "8"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(5 + (random >> 33) % 250));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().signal() == Some(9));
        // Nothing is visible that is not whole.
        let blobs = std::fs::read_dir(repository(&environment).join("blobs")).into_iter().flatten().flatten();
        for blob in blobs {
            let length = blob.metadata().unwrap().len() as usize;
            assert!(files.iter().any(|(_, content, _)| content.len() == length), "{length} bytes under a final name");
        }
    }
    assert!(killed > 0);
    hub.server.faults(|_, _| None);
    let before = hub.server.take_bytes();
    let here: u64 = {
        let ran = run(&environment, &hub, &["status", "-o", "json"]);
        let models: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        models[0]["on_disk_bytes"].as_u64().unwrap_or_default()
    };
    let ran = run(&environment, &hub, &["org/model"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(snapshot(&repository(&environment)), wanted(&files));
    let last = hub.server.take_bytes();
    // The last run fetched what was missing, and not a byte of what was there.
    assert!(last + here <= size + 2, "{last} bytes fetched, {here} of {size} were there");
    // All runs together: each kill loses at most what was in eight connections' buffers.
    assert!(before + last <= size + killed as u64 * 8 * (4 << 20), "{before} + {last} of {size}");
}

#[test]
fn of_two_runs_one_works_and_one_says_so() {
    let environment = TestEnvironment::new();
    let files = [("a.bin", noise(20_000_000, 1), true)];
    let hub = Hub::with("org/model", &files);
    // The first does not end before the second is refused.
    hub.server.faults(|_, _| Some(Fault::Slow(8_000_000)));
    let first =
        command(&environment, &hub, &["org/model"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    hub.server.wait_for_bytes(1);
    hub.server.hold(true);
    let second = run(&environment, &hub, &["org/model"]);
    assert!(second.status == Some(1) && second.stderr.contains("another run is at work"), "{second}");
    hub.server.hold(false);
    let third = run(&environment, &hub, &["org/model", "--wait", "60s"]);
    assert_eq!(third.status, Some(0), "{third}");
    let first = environment.ran(first.wait_with_output().unwrap());
    assert_eq!(first.status, Some(0), "{first}");
    assert_eq!(snapshot(&repository(&environment)), wanted(&files));
    assert_eq!(hub.server.take_bytes(), 20_000_000);
}

#[test]
fn ctrl_c_ends_it_and_the_next_goes_on() {
    let environment = TestEnvironment::new();
    let files = [("a.bin", noise(30_000_000, 1), true)];
    let hub = Hub::with("org/model", &files);
    hub.server.faults(|_, _| Some(Fault::Slow(4_000_000)));
    let child = command(&environment, &hub, &["org/model"]).stderr(Stdio::piped()).spawn().unwrap();
    hub.server.wait_for_bytes(1_000_000);
    // It is not done before it hears of the end.
    hub.server.hold(true);
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ran = environment.ran(child.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(130), "{ran}");
    hub.server.faults(|_, _| None);
    hub.server.hold(false);
    hub.server.take_bytes();
    assert_eq!(run(&environment, &hub, &["org/model"]).status, Some(0));
    assert!(hub.server.take_bytes() < 30_000_000);
    assert_eq!(snapshot(&repository(&environment)), wanted(&files));
}
