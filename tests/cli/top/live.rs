//! The live screen at a real terminal.

use super::machine::Machine;
use crate::environment::binary;
use crate::tmux::{self, Terminal};

#[test]
fn the_screen_goes_in_and_out_lends_the_terminal_and_gives_it_back() {
    if !tmux::there_is_one() {
        return;
    }
    let Some(machine) = Machine::new("") else { return };
    let terminal = Terminal::start(&machine.place, 110, 30);
    terminal.line(&machine.line("--interval 1s"));
    let screen = terminal.wait_for("team-a/train-0");
    assert!(screen.contains("2 GPUs") && screen.contains("1 busy") && screen.contains("93%"), "{screen}");
    assert!(terminal.switches().starts_with("alternate 1 cursor 0"));
    terminal.keys(&["Enter"]);
    let screen = terminal.wait_for("PROGRAM");
    assert!(screen.contains("python") && screen.contains("sm clock") && screen.contains("power-cap"), "{screen}");
    terminal.resize(60, 12);
    terminal.wait_until("drawn anew", |screen| screen.contains("PID") && !screen.contains("sm clock"));
    terminal.resize(110, 30);
    terminal.keys(&["?"]);
    terminal.wait_for("as in a shell");
    terminal.keys(&["Escape"]);
    terminal.wait_for("PROGRAM");
    // Another program has the terminal, and its Ctrl-C is not ours.
    terminal.keys(&["d"]);
    terminal.wait_for("$ aictl diagnose --local");
    terminal.wait_for("Enter goes back]");
    terminal.keys(&["Enter"]);
    terminal.wait_for("PROGRAM");
    terminal.keys(&["C-z"]);
    terminal.wait_until("stopped", |screen| screen.contains("Stopped"));
    assert!(terminal.switches().starts_with("alternate 0 cursor 1"));
    terminal.line("fg");
    terminal.wait_for("PROGRAM");
    terminal.keys(&["q"]);
    terminal.wait_until("the shell", |_| terminal.switches().starts_with("alternate 0 cursor 1"));
    // By a signal, too.
    terminal.line(&format!("clear; {}; echo code $?", machine.line("--interval 1s --filter train")));
    terminal.wait_for("filter: train");
    let pid = terminal.child("aictl");
    // SAFETY: a signal to a process that this test started.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    terminal.wait_for("code 130");
    assert!(terminal.switches().starts_with("alternate 0 cursor 1"));
    terminal.line(&format!("clear; TERM=dumb {} top; echo code $?", binary().display()));
    let screen = terminal.wait_for("code 2");
    assert!(screen.contains("TERM=dumb") && screen.contains("aictl top --once"), "{screen}");
}
