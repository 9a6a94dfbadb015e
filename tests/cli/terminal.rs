//! What people see at a real terminal: tmux is one that can be read.

use std::process::Command;

use super::environment::{TestEnvironment, binary};
use super::support;
use super::tmux::{self, Terminal};

#[test]
fn the_progress_line_moves_and_goes() {
    if !support::require("root and a kernel with BTF", support::can_trace()) || !tmux::there_is_one() {
        return;
    }
    let environment = TestEnvironment::new();
    let terminal = Terminal::start(&environment, 80, 40);
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    terminal.run(&format!("{} profile --no-report --pid {} -w run.pftrace", binary().display(), sleeper.id()));
    let screen = terminal.wait_for("· Ctrl-C ends");
    assert!(screen.contains(" recording ") && screen.contains("1 process"), "{screen}");
    terminal.keys(&["C-c"]);
    let (_, screen) = terminal.ended();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(screen.contains("recorded run.pftrace"), "{screen}");
    assert!(!screen.contains("Ctrl-C ends"), "the line stayed:\n{screen}");
    assert!(screen.contains("hint: aictl report"), "{screen}");
}
