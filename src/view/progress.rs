//! A status line that moves, on stderr.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::text;

/// A status line; hidden ones cost nothing and print nothing.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    width: usize,
    unicode: bool,
}

/// Columns of a line that the spinner takes.
const SPINNER: usize = 2;
/// Draws a second at most.
const DRAWS_HZ: u8 = 10;

impl Progress {
    /// Starts it.
    pub(super) fn new(shown: bool, width: usize, unicode: bool, colour: bool) -> Progress {
        if !shown {
            return Progress::hidden();
        }
        let template = if colour { "{spinner:.cyan} {msg}" } else { "{spinner} {msg}" };
        let ticks: &[&str] = if unicode {
            &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", "✓"]
        } else {
            &["-", "\\", "|", "/", "*"]
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .tick_strings(ticks);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Narrow { columns: width }), DRAWS_HZ);
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        // Its thread wakes four times a second and draws only what changed.
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress { bar, width, unicode }
    }

    /// One that is never shown.
    pub fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden(), width: 0, unicode: false }
    }

    /// Whether people see it.
    pub fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Changes the line.
    pub fn set(&self, text: &str) {
        self.bar.set_message(text::shorten(text, self.width.saturating_sub(Narrow::FREE + SPINNER), self.unicode));
    }

    /// Takes the line away while `print` writes to the terminal, then puts it back.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Takes the line away for good.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The terminal behind stderr, said to be a little narrower than it is: indicatif fills the line up
/// to the edge, and the `^C` that the terminal echoes there would push it out of reach.
#[derive(Debug)]
struct Narrow {
    columns: usize,
}

impl Narrow {
    /// Columns left free.
    const FREE: usize = 4;

    fn send(&self, text: &str) -> io::Result<()> {
        io::stderr().write_all(text.as_bytes())
    }

    fn go(&self, columns: usize, direction: char) -> io::Result<()> {
        if columns == 0 { Ok(()) } else { self.send(&format!("\x1b[{columns}{direction}")) }
    }
}

impl TermLike for Narrow {
    fn width(&self) -> u16 {
        // The window may have changed.
        let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { self.columns } else { columns };
        u16::try_from(columns.saturating_sub(Narrow::FREE).max(1)).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.send(text)?;
        self.send("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.send(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.send("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}
