//! What the user sees of the scene: plain data, no terminal, no drawing.

mod filter;
mod history;
mod lines;
mod mouse;
mod prompt;
mod scroll;
mod search;

use std::collections::BTreeSet;

pub use filter::Filter;
pub use history::History;
pub use lines::{Line, LineKind};
pub use mouse::{Drag, Mouse};
pub use prompt::{Prompt, PromptKind, Typed};
pub use search::{Finder, SEARCH_LIMIT, Scan, Search};

use super::panel::Work;
use super::scene::{NodeId, Scene, SliceRef, Window};

/// A terminal's size in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// What the keys mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mode {
    /// Moving about.
    #[default]
    Browse,
    /// Typing a line at the bottom.
    Prompt(Prompt),
    /// The page of keys, scrolled down by so many lines.
    Help(u16),
}

/// What the lower part of the screen shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Panel {
    /// The selected slice, or the selected range.
    #[default]
    Details,
    /// Python frames of the range, widest first.
    Flame,
    /// The heaviest names of the range.
    Table,
    /// The verdict's evidence, to jump to.
    Verdict,
    /// Nothing: all room for the tracks.
    Hidden,
}

/// How the last action went, for the bottom line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// For people, one line.
    pub text: String,
    /// Something failed.
    pub bad: bool,
}

/// A capture that is still running.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Live {
    /// The view follows the newest events.
    pub follows: bool,
    /// The capture is over, and the recording is whole.
    pub ended: bool,
    /// Since the probes are in place, in ns.
    pub elapsed_ns: u64,
    /// Events recorded.
    pub events: u64,
    /// Events lost.
    pub lost: u64,
    /// Slow-down of the targets, 0–1.
    pub overhead: f64,
    /// What was thinned to hold the budget, for people.
    pub thinned: Vec<String>,
    /// The oldest events were dropped from the view (not from the recording) to save memory.
    pub forgot: bool,
}

/// Everything the screen depends on.
#[derive(Debug, Clone)]
pub struct State {
    /// The recording.
    pub scene: Scene,
    /// What the recording is called: file names, or the target.
    pub title: String,
    /// The terminal.
    pub size: Size,
    /// What is on the screen; inside the recording's bounds.
    pub view: Window,
    /// Views before and after this one.
    pub history: History,
    /// The moment that zoom and steps are about; inside the recording's bounds.
    pub cursor_ns: u64,
    /// Rows of the body, from `scene.tree`, after folds, pins and filters.
    pub lines: Vec<Line>,
    /// So many of the lines are pinned, and stay when the others scroll.
    pub pinned_lines: usize,
    /// First unpinned line on the screen.
    pub top: usize,
    /// The line that the keys are about, an index into `lines`.
    pub line: usize,
    /// Nodes that are folded.
    pub folded: BTreeSet<NodeId>,
    /// Tracks that show all their depths, instead of the first few.
    pub expanded: BTreeSet<NodeId>,
    /// Nodes pinned to the top, in the order they were pinned.
    pub pinned: Vec<NodeId>,
    /// The slice looked at.
    pub selected: Option<SliceRef>,
    /// The stretch that statistics are about; the view where there is none.
    pub range: Option<Window>,
    /// What was looked at when marking a range by keys began; the range grows from there.
    pub mark: Option<Window>,
    /// What the keys mean.
    pub mode: Mode,
    /// What the mouse is in the middle of.
    pub mouse: Mouse,
    /// Lines typed before.
    pub typed: Typed,
    /// What the finder has found.
    pub finder: Finder,
    /// Lower part of the screen.
    pub panel: Panel,
    /// Lines the panel is scrolled down by, or its chosen row.
    pub panel_row: usize,
    /// The arrow keys move in the panel, not among the tracks.
    pub panel_focus: bool,
    /// How another recording differs from this one, for the verdict's panel.
    pub compared: Vec<String>,
    /// The panel's statistics.
    pub work: Work,
    /// What is left out.
    pub filter: Filter,
    /// The last search.
    pub search: Option<Search>,
    /// Set while a capture runs, and after it.
    pub live: Option<Live>,
    /// Bottom line.
    pub message: Option<Message>,
}

/// What an empty recording shows: a second of nothing.
const NOTHING: Window = Window { from_ns: 0, to_ns: 1_000_000_000 };

impl State {
    /// Shows the whole of a recording.
    pub fn new(scene: Scene, title: impl Into<String>, size: Size) -> State {
        let view = scene.bounds.unwrap_or(NOTHING);
        let folded = scene.tree.folded_at_first();
        let mut state = State {
            scene,
            title: title.into(),
            size,
            view,
            history: History::default(),
            cursor_ns: view.from_ns + view.len_ns() / 2,
            lines: Vec::new(),
            pinned_lines: 0,
            top: 0,
            line: 0,
            folded,
            expanded: BTreeSet::new(),
            pinned: Vec::new(),
            selected: None,
            range: None,
            mark: None,
            mode: Mode::default(),
            mouse: Mouse::default(),
            typed: Typed::default(),
            finder: Finder::default(),
            panel: Panel::default(),
            panel_row: 0,
            panel_focus: false,
            compared: Vec::new(),
            work: Work::default(),
            filter: Filter::default(),
            search: None,
            live: None,
            message: None,
        };
        state.rebuild_lines();
        state
    }

    /// Limits of every view: the recording's bounds.
    pub fn bounds(&self) -> Window {
        self.scene.bounds.unwrap_or(NOTHING)
    }

    /// The stretch that statistics are about.
    pub fn focus(&self) -> Window {
        self.range.unwrap_or(self.view)
    }
}
