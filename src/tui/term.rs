//! The guard of the terminal: it comes back on return, error, panic and signal.
//!
//! Talks to the terminal without ever waiting for it for long: one that takes no more output
//! (a stopped reader, a dead connection) must not keep aictl from ending.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};

use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, QueueSelector, Termios, isatty, tcflush, tcgetattr, tcgetwinsize, tcsetattr};

use super::state::Size;

/// The screen as ratatui draws on it.
pub(super) type Screen = Terminal<CrosstermBackend<BufWriter<Output>>>;

/// Alternate screen, cursor hidden, pasted text marked as such.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h";
/// Presses, drags and the wheel, in the form that knows wide screens; not every movement, which
/// would be a flood over ssh.
const MOUSE: &[u8] = b"\x1b[?1000h\x1b[?1002h\x1b[?1006h";
/// All of it back, whatever was half written.
const LEAVE: &[u8] =
    b"\x1b[?2026l\x1b[?1006l\x1b[?1002l\x1b[?1000l\x1b[?2004l\x1b[0m\x1b[2J\x1b[?1049l\x1b[?25h\x1b[0m";

/// A terminal that takes nothing for this long when we leave is left as it is.
const PATIENCE_MS: i64 = 300;

/// The terminal as it was found. Set once; a signal handler reads it.
struct Found {
    input: OwnedFd,
    output: OwnedFd,
    before: Termios,
    mouse: bool,
    owner: ThreadId,
}

static FOUND: OnceLock<Found> = OnceLock::new();
static TAKEN: AtomicBool = AtomicBool::new(false);

/// While it lives, the terminal is ours: raw, on its alternate screen, with the mouse.
#[derive(Debug)]
pub struct TerminalGuard {
    stop: Arc<AtomicBool>,
}

impl TerminalGuard {
    /// Takes the terminal that stdout is, and the keys from stdin, or from the controlling
    /// terminal where stdin is something else. Once `stop` is set, nothing waits for it any more.
    pub fn take(mouse: bool, stop: Arc<AtomicBool>) -> io::Result<TerminalGuard> {
        if FOUND.get().is_none() {
            let found = find(mouse)?;
            let _ = FOUND.set(found);
        }
        let guard = TerminalGuard { stop };
        guard.enter()?;
        Ok(guard)
    }

    /// Makes the terminal ours again after [`TerminalGuard::leave`].
    pub(super) fn enter(&self) -> io::Result<()> {
        let found = found()?;
        let mut raw = found.before.clone();
        raw.make_raw();
        tcsetattr(&found.input, OptionalActions::Now, &raw)?;
        TAKEN.store(true, Ordering::SeqCst);
        let mut out = self.output();
        out.write_all(ENTER)?;
        if found.mouse { out.write_all(MOUSE) } else { Ok(()) }
    }

    /// Gives it back for a while.
    pub(super) fn leave(&self) {
        restore();
    }

    /// A screen to draw on.
    pub(super) fn screen(&self, size: Size) -> io::Result<Screen> {
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 << 10, self.output()));
        let viewport = Viewport::Fixed(Rect::new(0, 0, size.columns, size.rows));
        Terminal::with_options(backend, TerminalOptions { viewport })
    }

    fn output(&self) -> Output {
        Output { stop: Arc::clone(&self.stop) }
    }

    /// The terminal's size; what is usual where it tells none.
    pub fn size(&self) -> Size {
        let told = found().ok().and_then(|found| tcgetwinsize(&found.output).ok());
        match told {
            Some(size) if size.ws_col > 0 && size.ws_row > 0 => Size { columns: size.ws_col, rows: size.ws_row },
            _ => Size { columns: 80, rows: 24 },
        }
    }

    /// Waits for keys; returns early at a signal. Whether there are any.
    pub(super) fn wait(&self, ms: u64) -> io::Result<bool> {
        let found = found()?;
        let ready = wait_for(found.input.as_fd(), PollFlags::IN, ms as i64)?;
        if ready.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the terminal is gone"));
        }
        Ok(ready.contains(PollFlags::IN))
    }

    /// Reads what is there; call it when [`TerminalGuard::wait`] says so.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&found()?.input, buffer) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the terminal is gone")),
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        restore();
    }
}

fn find(mouse: bool) -> io::Result<Found> {
    let stdin = io::stdin();
    let input = if isatty(&stdin) {
        stdin.as_fd().try_clone_to_owned()?
    } else {
        let none = |error| io::Error::new(io::ErrorKind::NotFound, format!("no terminal to read keys from: {error}"));
        OpenOptions::new().read(true).open("/dev/tty").map_err(none)?.into()
    };
    let before = tcgetattr(&input)?;
    Ok(Found { input, output: own_output()?, before, mouse, owner: thread::current().id() })
}

/// The terminal opened anew, since not to block is a setting of the open file, which stdout shares
/// with the shell.
fn own_output() -> io::Result<OwnedFd> {
    let stdout = io::stdout();
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let name = rustix::termios::ttyname(&stdout, Vec::new()).ok().and_then(|name| name.into_string().ok());
    let opened = name.and_then(|name| OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(name).ok());
    match opened.filter(|file| isatty(file)) {
        Some(file) => Ok(file.into()),
        // Another user's terminal (after su): then with waiting.
        None => stdout.as_fd().try_clone_to_owned(),
    }
}

fn found() -> io::Result<&'static Found> {
    FOUND.get().ok_or_else(|| io::Error::other("the terminal was not taken"))
}

/// The way to the terminal.
#[derive(Debug)]
pub(super) struct Output {
    stop: Arc<AtomicBool>,
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let output = found()?.output.as_fd();
        loop {
            match rustix::io::write(output, data) {
                Ok(count) => return Ok(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let ready = wait_for(output, PollFlags::OUT, 100)?;
                    if !ready.contains(PollFlags::OUT) && self.stop.load(Ordering::Relaxed) {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "the terminal takes no output"));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for a descriptor; nothing is ready after a signal.
fn wait_for(descriptor: BorrowedFd<'_>, what: PollFlags, ms: i64) -> io::Result<PollFlags> {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, what)];
    let timeout = Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
    match poll(&mut descriptors, Some(&timeout)) {
        Ok(_) => Ok(descriptors[0].revents()),
        Err(rustix::io::Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error.into()),
    }
}

/// Gives the terminal back; harmless where it is not ours. Only system calls, no memory and no
/// locks: a signal handler may call it.
pub fn restore() {
    let Some(found) = FOUND.get() else { return };
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that is gone can't be told.
    let mut left = LEAVE;
    while !left.is_empty() {
        let ready = wait_for(found.output.as_fd(), PollFlags::OUT, PATIENCE_MS);
        if !matches!(ready, Ok(ready) if ready.contains(PollFlags::OUT)) {
            break;
        }
        match rustix::io::write(&found.output, left) {
            Ok(count) => left = &left[count..],
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    if found.mouse {
        // The mouse's reports are no words for the shell.
        let _ = tcflush(&found.input, QueueSelector::IFlush);
    }
    let _ = tcsetattr(&found.input, OptionalActions::Now, &found.before);
}

/// From now on, a panic gives the terminal back before it is told. One on another thread, whose
/// end is told by who waits for it, leaves the viewer alone.
pub fn restore_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if TAKEN.load(Ordering::SeqCst) && FOUND.get().is_some_and(|found| found.owner != thread::current().id()) {
            return;
        }
        restore();
        before(info);
    }));
}
