//! What the lower part of the screen says: the selected slice, a range's statistics, the flame,
//! the table of names, the verdict's evidence. Content only; `view::panel` draws it.
//!
//! Statistics over a long range take longer than a frame, so they are worked out in portions:
//! [`Work::advance`] is called once a frame and the panel shows what there is so far.

mod details;
mod durations;
mod flame;
mod icicle;
mod jump;
mod lines;
mod names;
mod range;
mod stack;
mod summary;
mod table;
mod verdict;
mod walk;
mod words;
mod work;

pub use durations::{BUCKET_ERROR, Durations};
pub use flame::{FlameRun, Frame, Scope};
pub use icicle::Bar;
pub use lines::{Block, PanelLine, Span, Tone};
pub use range::{LayerRow, NameRow, RangeRun};
pub use table::Sort;
pub use work::Work;

use super::state::{Panel, State};

impl State {
    /// Rows of the panel that can be chosen with the arrow keys.
    pub fn panel_rows(&self) -> usize {
        match self.panel {
            Panel::Hidden => 0,
            Panel::Details => self.details().iter().map(|block| block.lines.len()).sum(),
            Panel::Verdict => self.verdict_lines().len(),
            Panel::Table => self.table().0.len(),
            Panel::Flame => self.flame_order().len(),
        }
    }

    /// Goes where the panel's chosen row points to. The row stays chosen where the panel is not
    /// about the slice gone to.
    pub fn panel_enter(&mut self) {
        let row = self.panel_row;
        let jump = match self.panel {
            Panel::Hidden => None,
            Panel::Details => self.details().into_iter().flat_map(|block| block.lines).nth(row).and_then(|l| l.jump),
            Panel::Verdict => self.verdict_lines().into_iter().nth(row).and_then(|l| l.jump),
            Panel::Table => self.table().0.get(row).map(|row| row.longest),
            Panel::Flame => return self.flame_enter(),
        };
        if jump.is_some_and(|at| self.look_at(at)) && self.panel != Panel::Details {
            self.panel_row = row;
        }
    }

    /// Arrow keys to the side: in the flame to the frame beside, in the table to another column.
    pub fn panel_side(&mut self, right: bool) {
        match self.panel {
            Panel::Flame => self.flame_side(right),
            Panel::Table => self.sort_panel(right),
            _ => {}
        }
    }

    /// Esc and Backspace in the panel: out of the frame that the flame is zoomed into. False where
    /// there is nothing to go back from.
    pub fn panel_back(&mut self) -> bool {
        self.panel == Panel::Flame && self.flame_out()
    }
}
