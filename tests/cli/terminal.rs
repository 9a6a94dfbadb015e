//! What people see at a real terminal: tmux is one that can be read.

use std::process::Command;
use std::time::{Duration, Instant};

use super::environment::{TestEnvironment, binary};
use super::support;

/// A tmux server of the test's own, ended when dropped.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn start(environment: &TestEnvironment) -> Terminal {
        let terminal = Terminal { socket: environment.path("tmux").display().to_string() };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "40",
            "env PS1='$ ' LANG=C.UTF-8 sh",
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-S", &self.socket]).args(arguments).env_remove("TMUX");
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows a text.
    fn wait_for(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "no {text:?} on\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn the_progress_line_moves_and_goes() {
    if !support::require("root and a kernel with BTF", support::can_trace())
        || !support::require("tmux", support::program("tmux").is_some())
    {
        return;
    }
    let environment = TestEnvironment::new();
    let terminal = Terminal::start(&environment);
    let (program, file) = (binary().display(), environment.path("run.pftrace"));
    let line = format!("clear; sleep 1000 & {program} profile --no-report --pid $! -w {}; kill %1", file.display());
    terminal.keys(&[&line, "Enter"]);
    let screen = terminal.wait_for("· Ctrl-C ends");
    assert!(screen.contains(" recording ") && screen.contains("1 process"), "{screen}");
    terminal.keys(&["C-c"]);
    let screen = terminal.wait_for("recorded ");
    assert!(!screen.contains("Ctrl-C ends"), "the line stayed:\n{screen}");
    assert!(screen.contains("hint: aictl report"), "{screen}");
}
