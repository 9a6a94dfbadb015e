//! Lines of the panel as data: what they say, how loudly, and where they lead.

use crate::trace::Class;
use crate::tui::scene::SliceRef;

/// How a piece of text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// To be read.
    Plain,
    /// May be skipped.
    Faint,
    /// To be read first.
    Strong,
    /// Something is wrong.
    Bad,
    /// Something deserves a look.
    Warn,
    /// Can be acted on.
    Accent,
    /// In the colour of a class.
    Class(Class),
}

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Free of control characters.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

/// One line, or one paragraph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PanelLine {
    /// Its pieces.
    pub spans: Vec<Span>,
    /// Where Enter on it leads.
    pub jump: Option<SliceRef>,
    /// It goes on below when it is too long for the panel, instead of being cut.
    pub wraps: bool,
}

/// Lines that belong together, under a heading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The heading; may be empty.
    pub title: String,
    /// The lines.
    pub lines: Vec<PanelLine>,
}

impl PanelLine {
    /// An empty line.
    pub fn new() -> PanelLine {
        PanelLine::default()
    }

    /// A line of one piece.
    pub fn of(tone: Tone, text: impl Into<String>) -> PanelLine {
        PanelLine::new().with(tone, text)
    }

    /// A name, in a column of its own, and what it stands for.
    pub fn fact(name: &str, text: impl Into<String>) -> PanelLine {
        PanelLine::of(Tone::Faint, format!("{name:<10} ")).with(Tone::Plain, text)
    }

    /// Adds a piece. What comes from a recording must have been made plain.
    #[must_use]
    pub fn with(mut self, tone: Tone, text: impl Into<String>) -> PanelLine {
        self.spans.push(Span { text: text.into(), tone });
        self
    }

    /// Leads to a slice.
    #[must_use]
    pub fn to(mut self, at: Option<SliceRef>) -> PanelLine {
        self.jump = at;
        self
    }

    /// Goes on below when it is long.
    #[must_use]
    pub fn wrapped(mut self) -> PanelLine {
        self.wraps = true;
        self
    }

    /// The text alone.
    pub fn text(&self) -> String {
        self.spans.iter().map(|span| span.text.as_str()).collect()
    }
}

/// Columns from none to full; the view finds other signs where a terminal lacks these.
pub const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A picture of counts: a column each, the marked one in another tone.
pub(super) fn picture(counts: &[u64], marked: usize) -> Vec<Span> {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    // Few beside many must not vanish.
    let height = |n: u64| if n == 0 { 0 } else { (n as f64 / most as f64 * 7.0).round() as usize + 1 };
    let sign = |n: u64| HEIGHTS[height(n).min(8)];
    let part = |counts: &[u64]| counts.iter().map(|n| sign(*n)).collect::<String>();
    let (before, rest) = counts.split_at(marked.min(counts.len()));
    let (at, after) = rest.split_at(rest.len().min(1));
    let span = |counts, tone| Span { text: part(counts), tone };
    vec![span(before, Tone::Faint), span(at, Tone::Accent), span(after, Tone::Faint)]
}

/// A bar of a share of `width` cells, in eighths of a cell.
pub(super) fn bar(share: f64, width: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(PARTS[eighths % 8]);
    }
    let used = eighths.div_ceil(8);
    text + &" ".repeat(width.saturating_sub(used))
}
