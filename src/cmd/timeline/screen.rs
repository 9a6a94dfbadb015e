//! The viewer on a real terminal: is there one, take it, and give it back whatever happens.

use std::io::{self, IsTerminal};

use super::super::error::{Error, Kind};
use super::super::interrupt::Interrupt;
use crate::tui::state::State;
use crate::tui::{Feed, Left, Look, TerminalGuard, restore_on_panic, run};

/// Says what is wrong with the terminal before anything is read or started; `instead` is what to
/// do without one.
pub fn check(instead: &str) -> Result<(), Error> {
    let none = |what: &str| Err(Error::usage(what).hint(instead));
    if !io::stdout().is_terminal() {
        return none("stdout is no terminal, and the viewer needs one");
    }
    match std::env::var("TERM").as_deref() {
        Ok("dumb") => none("this terminal can't place its cursor (TERM=dumb), and the viewer must"),
        Ok("") | Err(_) => none("TERM is not set, so this is no terminal the viewer can draw on"),
        Ok(_) => Ok(()),
    }
}

/// Shows the viewer until the user, a signal or the terminal's end closes it.
pub fn show(
    state: &mut State,
    look: Look,
    mouse: bool,
    interrupt: &Interrupt,
    feed: &mut dyn Feed,
) -> Result<Left, Error> {
    show_with(mouse, interrupt, |guard| run(state, look, guard, feed))
}

/// The same for any screen: `run` has the terminal until it returns.
pub fn show_with(
    mouse: bool,
    interrupt: &Interrupt,
    run: impl FnOnce(&TerminalGuard) -> io::Result<Left>,
) -> Result<Left, Error> {
    restore_on_panic();
    let guard = TerminalGuard::take(mouse, interrupt.shared()).map_err(|error| {
        let kind = if error.kind() == io::ErrorKind::NotFound { Kind::Usage } else { Kind::Failed };
        Error::new(kind, "cannot take the terminal").because(error)
    })?;
    let left = run(&guard);
    drop(guard);
    match left {
        Ok(left) => Ok(left),
        // Its window was closed, or its connection broke: nobody is there to be told.
        Err(error) if is_gone(&error) => Ok(Left::Signal),
        Err(error) => Err(Error::failed("the terminal failed", error)),
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, TimedOut, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | TimedOut | UnexpectedEof) || error.raw_os_error() == Some(libc::EIO)
}
