//! The few styles in use; colour never carries meaning alone.

use anstyle::{AnsiColor, Style};

/// A table's header line.
pub const HEADER: Style = Style::new().bold();
/// The one thing to read first.
pub const STRONG: Style = Style::new().bold();
/// What may be skipped.
pub const FAINT: Style = Style::new().dimmed();
/// Something is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something deserves a look.
pub const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// All is well.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// What to do next.
pub const HINT: Style = AnsiColor::Cyan.on_default();

/// Returns `text` in a style.
pub fn paint(style: Style, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
}
