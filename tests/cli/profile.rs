//! `aictl profile` on real processes.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::environment::TestEnvironment;
use super::support;

/// A shell that does a little work for a long time, ended when dropped.
struct Victim(Child);

impl Victim {
    fn start() -> Victim {
        let work = "while true; do for i in 1 2 3 4 5 6 7 8 9; do :; done; sleep 0.01; done";
        Victim(Command::new("sh").args(["-c", work]).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn can_trace() -> bool {
    support::require("root and a kernel with BTF", support::can_trace())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until `done`, or fails after a while.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: not after 60 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_running_process_is_recorded_and_reported() {
    if !can_trace() {
        return;
    }
    let (environment, victim) = (TestEnvironment::new(), Victim::start());
    let ran = environment.run(["profile", "--pid", &victim.pid(), "-d", "1", "-w", "run.pftrace", "-o", "json"]);
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}");
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["schema"], "aictl.report/v1");
    let duration = report["duration_s"].as_f64().unwrap();
    assert!((0.8..60.0).contains(&duration), "{duration}");
    assert!(ran.stderr.contains("attached in ") && ran.stderr.contains("recorded run.pftrace ("), "{ran}");

    let again = environment.run(["report", "run.pftrace", "-o", "json"]);
    assert_eq!(again.stdout, ran.stdout, "the same recording gives the same report");
    assert_eq!(again.status, ran.status);
}

#[test]
fn a_command_keeps_its_output_and_its_exit_code_is_told() {
    if !can_trace() {
        return;
    }
    let environment = TestEnvironment::new();
    let script = "echo to stdout; echo to stderr >&2; sleep 0.2; exit 7";
    let ran = environment.run(["profile", "--no-report", "-w", "run.pftrace", "--", "sh", "-c", script]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(ran.stdout, "to stdout\n");
    assert!(ran.stderr.contains("to stderr\n"), "{ran}");
    assert!(ran.stderr.contains("sh ended with exit code 7"), "{ran}");
    assert!(environment.path("run.pftrace").metadata().unwrap().len() > 0);
}

#[test]
fn a_command_outlives_the_capture() {
    if !can_trace() {
        return;
    }
    let environment = TestEnvironment::new();
    let script = "sleep 2; echo done";
    let ran = environment.run(["profile", "--no-report", "-d", "500ms", "-w", "run.pftrace", "--", "sh", "-c", script]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "done\n"), "{ran}");
    assert!(ran.stderr.contains("goes on; aictl waits for it"), "{ran}");
}

#[test]
fn quiet_says_nothing() {
    if !can_trace() {
        return;
    }
    let (environment, victim) = (TestEnvironment::new(), Victim::start());
    let ran =
        environment.run(["profile", "-q", "--no-report", "--pid", &victim.pid(), "-d", "300ms", "-w", "run.pftrace"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn an_interrupt_ends_the_capture_cleanly() {
    if !can_trace() {
        return;
    }
    for sent in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (environment, victim) = (TestEnvironment::new(), Victim::start());
        let child = environment
            .command()
            .args(["profile", "--no-report", "--pid", &victim.pid(), "-w", "run.pftrace"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let file = environment.path("run.pftrace");
        wait_until("the recording grows", || file.metadata().is_ok_and(|data| data.len() > 0));
        signal(&child, sent);
        let ran = environment.ran(child.wait_with_output().unwrap());
        assert_eq!(ran.status, Some(0), "{ran}");
        assert!(ran.stderr.contains("recorded run.pftrace ("), "{ran}");
        assert!(matches!(environment.run(["report", "run.pftrace"]).status, Some(0 | 4)));
    }
}

#[test]
fn the_end_of_aictl_reaches_its_command() {
    if !can_trace() {
        return;
    }
    let environment = TestEnvironment::new();
    let mut child = environment
        .command()
        .args(["profile", "--no-report", "-w", "run.pftrace", "--", "sh", "-c", "echo $$ > pid; exec sleep 1000"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let file = environment.path("pid");
    wait_until("the command runs", || file.metadata().is_ok_and(|data| data.len() > 0));
    let pid = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    wait_until("the command's end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn killed_aictl_leaves_a_recording_and_an_unharmed_process() {
    if !can_trace() {
        return;
    }
    let (environment, mut victim) = (TestEnvironment::new(), Victim::start());
    let mut child = environment
        .command()
        .args(["profile", "--pid", &victim.pid(), "-w", "run.pftrace"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let file = environment.path("run.pftrace");
    wait_until("the recording grows", || file.metadata().is_ok_and(|data| data.len() > 10_000));
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = environment.run(["report", "run.pftrace", "-o", "json"]);
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}");
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["duration_s"].as_f64().unwrap() > 0.0, "{ran}");
    assert!(victim.0.try_wait().unwrap().is_none(), "the process died");
}

#[test]
fn a_recording_goes_down_a_pipe() {
    if !can_trace() {
        return;
    }
    let (environment, victim) = (TestEnvironment::new(), Victim::start());
    let output =
        environment.command().args(["profile", "--pid", &victim.pid(), "-d", "500ms", "-w", "-"]).output().unwrap();
    assert!(output.status.success());
    environment.write("piped.pftrace", &output.stdout);
    assert!(matches!(environment.run(["report", "piped.pftrace"]).status, Some(0 | 4)));
}

#[test]
fn a_command_does_not_write_into_the_data() {
    if !can_trace() {
        return;
    }
    let environment = TestEnvironment::new();
    let script = ["--", "sh", "-c", "echo from the program; sleep 0.3"];
    let output = environment.command().args(["profile", "-w", "-"]).args(script).output().unwrap();
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("from the program\n"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("from the program\n"));
    environment.write("piped.pftrace", &output.stdout);
    assert!(matches!(environment.run(["report", "piped.pftrace"]).status, Some(0 | 4)));
    let ran = environment.run([&["profile", "-w", "run.pftrace", "-o", "json"][..], &script].concat());
    assert!(serde_json::from_str::<serde_json::Value>(&ran.stdout).is_ok(), "{ran}");
    assert!(ran.stderr.contains("from the program\n"), "{ran}");
}

#[test]
fn what_was_recorded_before_survives_a_failed_attach() {
    if !can_trace() {
        return;
    }
    let environment = TestEnvironment::new();
    let old = environment.write("old.pftrace", b"\x0a\x00");
    let ran = environment.run(["profile", "--pid", "1073741823", "-w", "old.pftrace"]);
    assert_eq!(ran.status, Some(1), "{ran}");
    assert_eq!(std::fs::read(old).unwrap(), b"\x0a\x00");
}

#[test]
fn a_full_disk_is_told() {
    if !can_trace() {
        return;
    }
    let (environment, victim) = (TestEnvironment::new(), Victim::start());
    let ran = environment.run(["profile", "--pid", &victim.pid(), "-d", "20s", "-w", "/dev/full"]);
    assert_eq!(ran.status, Some(1), "{ran}");
    assert!(ran.stderr.contains("error: cannot write the recording\ncaused by: No space left on device"), "{ran}");
}
