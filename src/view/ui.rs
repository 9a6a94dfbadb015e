//! The one way to stdout and stderr.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use serde::Serialize;

use super::style::{self, paint};
use super::{Bars, Progress, text, yaml};

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// On a terminal, unless NO_COLOR or TERM=dumb says no.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to talk.
#[derive(Debug, Clone, Copy, Default)]
pub struct UiOptions {
    /// When to colour.
    pub color: Color,
    /// No status, progress or hints; errors stay.
    pub quiet: bool,
    /// More detail: 0, 1, 2.
    pub verbose: u8,
    /// No characters outside ASCII, whatever the locale.
    pub ascii: bool,
    /// No moving progress line, whatever stderr is (programs read the output).
    pub still: bool,
}

/// Prints: data to stdout, the rest to stderr.
#[derive(Debug)]
pub struct Ui {
    choice: ColorChoice,
    options: UiOptions,
    width: usize,
    unicode: bool,
}

/// Lines are not wrapped wider than this, however wide the terminal is.
const WIDEST: usize = 120;

impl Ui {
    /// Looks at the terminal and the environment once.
    pub fn new(options: UiOptions) -> Ui {
        let choice = match options.color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Ui { choice, options, width: terminal_width(), unicode: !options.ascii && locale_is_utf8() }
    }

    /// Columns to fill, at most 120.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether characters outside ASCII can be shown.
    pub fn unicode(&self) -> bool {
        self.unicode
    }

    /// Whether colours on stdout reach people.
    pub fn colours_stdout(&self) -> bool {
        AutoStream::new(io::stdout(), self.choice).current_choice() != ColorChoice::Never
    }

    /// Whether colours were ruled out by who asked, whatever stdout is.
    pub fn never_colours(&self) -> bool {
        self.options.color == Color::Never
    }

    /// Whether ASCII alone was asked for, whatever the locale.
    pub fn wants_ascii(&self) -> bool {
        self.options.ascii
    }

    /// How much more detail is wanted.
    pub fn verbose(&self) -> u8 {
        self.options.verbose
    }

    /// Prints data. A line end is added.
    pub fn print(&self, text: &str) -> io::Result<()> {
        let mut out = AutoStream::new(io::stdout(), self.choice).lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Prints a line of a program's output: byte for byte into a pipe or a file; on a terminal
    /// with nothing in it that would act on the terminal (see [`text::on_terminal`]).
    pub fn line(&self, prefix: &str, line: &str) -> io::Result<()> {
        if io::stdout().is_terminal() {
            let mut out = AutoStream::new(io::stdout(), self.choice).lock();
            return writeln!(out, "{prefix}{}", text::on_terminal(line)).and_then(|()| out.flush());
        }
        let prefix =
            if self.colours_stdout() { prefix.to_owned() } else { anstream::adapter::strip_str(prefix).to_string() };
        let mut out = io::stdout().lock();
        writeln!(out, "{prefix}{line}").and_then(|()| out.flush())
    }

    /// Prints a value as JSON.
    pub fn json<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        text.push('\n');
        self.print(&text)
    }

    /// Prints a value as YAML.
    pub fn yaml<T: Serialize>(&self, value: &T) -> io::Result<()> {
        self.print(&yaml::to_string(value).map_err(io::Error::other)?)
    }

    /// Says what is going on; silent with `-q`.
    pub fn note(&self, text: &str) {
        if !self.options.quiet {
            self.to_stderr(text);
        }
    }

    /// Says what to do next; silent with `-q`.
    pub fn hint(&self, text: &str) {
        self.note(&format!("{} {text}", paint(style::HINT, "hint:")));
    }

    /// Says what may be wrong; silent with `-q`.
    pub fn warn(&self, text: &str) {
        self.note(&format!("{} {text}", paint(style::WARN, "warning:")));
    }

    /// Says what went wrong.
    pub fn error(&self, text: &str) {
        self.to_stderr(&format!("{} {text}", paint(style::BAD, "error:")));
    }

    /// Adds a line to an error.
    pub fn more(&self, label: &str, text: &str) {
        self.to_stderr(&format!("{} {text}", paint(style::HINT, &format!("{label}:"))));
    }

    /// A moving status line; hidden unless people look at stderr.
    pub fn progress(&self) -> Progress {
        let shown = !self.options.quiet && !self.options.still && io::stderr().is_terminal();
        let colour = AutoStream::new(io::stderr(), self.choice).current_choice() != ColorChoice::Never;
        Progress::new(shown, self.width, self.unicode, colour)
    }

    /// Bars for work with many parts; `None` unless people look at stderr.
    pub fn bars(&self) -> Option<Bars> {
        let shown = !self.options.quiet && !self.options.still && io::stderr().is_terminal();
        let colour = AutoStream::new(io::stderr(), self.choice).current_choice() != ColorChoice::Never;
        shown.then(|| Bars::new(self.width, self.unicode, colour))
    }

    /// Whether status and hints are not wanted.
    pub fn is_quiet(&self) -> bool {
        self.options.quiet
    }

    /// Nobody can be told that stderr is gone, so a failure to write is left alone.
    fn to_stderr(&self, text: &str) {
        let mut err = AutoStream::new(io::stderr(), self.choice).lock();
        // At one go: what another process writes to the same terminal comes before or after it, not within.
        let _ = err.write_all(format!("{}\n", text.trim_end()).as_bytes());
    }
}

/// COLUMNS, else the terminal's width, else 80; people read no lines longer than [`WIDEST`].
fn terminal_width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|c| c.parse::<usize>().ok());
    let terminal = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    asked.or_else(terminal).filter(|&columns| columns > 0).unwrap_or(80).clamp(40, WIDEST)
}

/// The locale's character set, by the usual order of variables; the C locale is taken as UTF-8
/// only where it says so.
fn locale_is_utf8() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"))
}
