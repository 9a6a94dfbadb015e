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
    terminal.run(&machine.line("--interval 1s"));
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
    // Not before the page is gone: Escape and a key in one read are Alt and that key.
    let is_back = |screen: &str| screen.contains("PROGRAM") && !screen.contains("as in a shell");
    terminal.wait_until("the page gone", is_back);
    // Another program has the terminal, and its Ctrl-C is not ours.
    terminal.keys(&["d"]);
    terminal.wait_for("$ aictl diagnose --local");
    terminal.wait_for("Enter goes back]");
    terminal.keys(&["Enter"]);
    terminal.wait_for("PROGRAM");
    terminal.keys(&["C-z"]);
    let (_, screen) = terminal.ended();
    assert!(screen.contains("Stopped"), "{screen}");
    assert!(terminal.switches().starts_with("alternate 0 cursor 1"));
    terminal.run("fg");
    terminal.wait_for("PROGRAM");
    terminal.keys(&["q"]);
    let (code, screen) = terminal.ended();
    assert!(code == 0 && terminal.switches().starts_with("alternate 0 cursor 1"), "{code}: {screen}");
    // By a signal, too.
    terminal.run(&machine.line("--interval 1s --filter train"));
    terminal.wait_for("filter: train");
    let pid = terminal.child("aictl");
    // SAFETY: a signal to a process that this test started.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let (code, screen) = terminal.ended();
    assert_eq!(code, 130, "{screen}");
    assert!(terminal.switches().starts_with("alternate 0 cursor 1"));
    terminal.run(&format!("TERM=dumb {} top", binary().display()));
    let (code, screen) = terminal.ended();
    assert!(code == 2 && screen.contains("TERM=dumb") && screen.contains("aictl top --once"), "{code}: {screen}");
}
