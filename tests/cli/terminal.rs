//! What people see at a real terminal: tmux is one that can be read.

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
