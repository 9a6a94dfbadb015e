//! `aictl profile --live` on a real Python, in a real terminal.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use insta::assert_snapshot;

use super::environment::{TestEnvironment, binary};
use super::support;
use super::tmux::{self, Terminal};

fn can_watch() -> bool {
    support::require("root and a kernel with BTF", support::can_trace())
        && tmux::there_is_one()
        && support::require("python3", support::program("python3").is_some())
}

/// A Python that works in steps for a long time, ended when dropped.
struct Target(Child);

impl Target {
    fn start() -> Target {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/std_balanced.py");
        let mut command = Command::new("python3");
        command.arg(script).args(["--seconds", "300"]).current_dir(std::env::temp_dir());
        Target(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn live_needs_a_terminal_and_stdout() {
    let environment = TestEnvironment::new();
    assert_snapshot!(environment.run(["profile", "--live", "--pid", "1"]), @r#"
    status: 2
    ----- stderr
    error: stdout is no terminal, and the viewer needs one
    hint: without a terminal, leave out --live; aictl timeline shows the recording later
    "#);
    assert_snapshot!(environment.run(["profile", "--live", "--pid", "1", "-w", "-"]), @r#"
    status: 2
    ----- stderr
    error: --live draws on stdout, where the recording was to go
    hint: name a file with -w FILE, or leave -w out
    "#);
    assert_eq!(std::fs::read_dir(environment.path("")).unwrap().count(), 0, "a file was left behind");
}

#[test]
fn a_running_process_is_watched_saved_and_goes_on() {
    if !can_watch() {
        return;
    }
    let (environment, mut target) = (TestEnvironment::new(), Target::start());
    let terminal = Terminal::start(&environment, 120, 40);
    let pid = target.0.id();
    terminal.run(&format!("{} profile --live --pid {pid} -w run.pftrace", binary().display()));
    // Rows of the target's threads, while the capture runs.
    let screen = terminal.wait_until("rows", |screen| screen.contains("REC") && screen.contains("python"));
    assert!(screen.contains(&format!("pid {pid}")), "{screen}");
    // The view is frozen, and the capture is not.
    terminal.keys(&["Space"]);
    let size = || environment.path("run.pftrace").metadata().unwrap().len();
    let before = size();
    let start = std::time::Instant::now();
    while size() <= before {
        assert!(start.elapsed().as_secs() < 60, "the capture does not go on");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    terminal.keys(&["q"]);
    let (code, screen) = terminal.ended();
    assert!(matches!(code, 0 | 4) && screen.contains("aictl report run.pftrace"), "{code}: {screen}");
    terminal.assert_as_before();
    terminal.line("echo modes are there");
    terminal.wait_for("\nmodes are there");
    let ran = environment.run(["report", "run.pftrace", "-o", "json"]);
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}");
    assert!(target.0.try_wait().unwrap().is_none(), "the process died");
    let ran = environment.run(["timeline", "run.pftrace", "--snapshot", "120x40"]);
    assert!(ran.stdout.contains("python"), "{ran}");
}

#[test]
fn the_view_stays_when_the_command_ends_and_its_output_is_kept() {
    if !can_watch() {
        return;
    }
    let environment = TestEnvironment::new();
    let terminal = Terminal::start(&environment, 100, 30);
    let command = "sh -c 'echo said; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1; done'";
    terminal.run(&format!("{} profile --live --no-report -w run.pftrace -- {command}", binary().display()));
    let screen = terminal.wait_for("over");
    assert!(!screen.contains("said\n"), "{screen}");
    terminal.keys(&["q"]);
    let (code, screen) = terminal.ended();
    assert!(code == 0 && screen.contains("recorded run.pftrace ("), "{code}: {screen}");
    assert_eq!(std::fs::read_to_string(environment.path("run.pftrace.log")).unwrap(), "said\n");
}

#[test]
fn what_cannot_be_attached_leaves_the_screen_alone() {
    if !can_watch() {
        return;
    }
    let environment = TestEnvironment::new();
    let terminal = Terminal::start(&environment, 100, 30);
    terminal.run(&format!("{} profile --live --pid 1073741823", binary().display()));
    let (code, screen) = terminal.ended();
    assert!(code == 1 && screen.contains("error: no process with pid 1073741823"), "{code}: {screen}");
    assert_eq!(terminal.switches(), "alternate 0 cursor 1 mouse 0");
}
