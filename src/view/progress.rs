//! A status line that moves, on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text;

/// A status line; hidden ones cost nothing and print nothing.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    width: usize,
    unicode: bool,
}

/// Columns left free at the right edge for the spinner and the `^C` that a terminal echoes: if the
/// line wrapped there, it could not be taken away whole.
const MARGIN: usize = 6;

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
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
        // Its thread wakes four times a second and draws only what changed.
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress { bar, width, unicode }
    }

    /// One that is never shown.
    pub fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden(), width: 0, unicode: false }
    }

    /// Changes the line.
    pub fn set(&self, text: &str) {
        self.bar.set_message(text::shorten(text, self.width.saturating_sub(MARGIN), self.unicode));
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
