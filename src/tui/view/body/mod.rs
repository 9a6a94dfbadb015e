//! The rows: slices, counters, points in time, summaries, over what guides the eye.

mod counters;
mod ground;
mod instants;
mod runs;
mod slices;
mod summary;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use std::ops::Range;

use super::layout::{column_of, edge_ns};
use crate::tui::palette::Look;
use crate::tui::scene::Window;
use crate::tui::state::{LineKind, State};

pub use counters::{maximum, words};
pub use summary::class_of_category;

/// One row being drawn.
struct Row<'a> {
    state: &'a State,
    look: Look,
    /// Its cells, one row high.
    area: Rect,
    /// It is the chosen line.
    chosen: bool,
}

impl Row<'_> {
    /// First and last moment of a column, as the levels of detail divide a view.
    fn stretch(&self, column: u16) -> (u64, u64) {
        let from = edge_ns(self.state, column, self.area.width);
        (from, edge_ns(self.state, column + 1, self.area.width).max(from.saturating_add(1)))
    }

    /// Columns that a window touches.
    fn columns_of(&self, window: Option<Window>) -> Range<u16> {
        let view = self.state.view;
        let Some(window) = window.filter(|w| w.from_ns < view.to_ns && w.to_ns > view.from_ns) else { return 0..0 };
        let column = |ts: u64| column_of(self.state, ts.clamp(view.from_ns, view.to_ns - 1), self.area.width);
        match (column(window.from_ns), column(window.to_ns - 1)) {
            (Some(first), Some(last)) => first..(last + 1).min(self.area.width),
            _ => 0..0,
        }
    }
}

/// Draws the rows that are on the screen.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let height = usize::from(area.height);
    let guides = ground::guides(state, area.width);
    let mut cells = Vec::new();
    for (row, y) in (area.top()..area.bottom()).enumerate() {
        let here = Rect { y, height: 1, ..area };
        let Some(at) = state.line_on_row(row, height).filter(|at| *at < state.lines.len()) else {
            ground::draw(&Row { state, look, area: here, chosen: false }, &guides, buffer);
            continue;
        };
        let line = state.lines[at];
        let row = Row { state, look, area: here, chosen: at == state.line };
        ground::draw(&row, &guides, buffer);
        match line.kind {
            LineKind::Depth(track, depth) => slices::draw(&row, track, depth, &mut cells, buffer),
            LineKind::Counter(track) => counters::draw(&row, track, buffer),
            LineKind::Instants(track) => instants::draw(&row, track, buffer),
            LineKind::Header => summary::draw(&row, line.node, buffer),
        }
        ground::cursor(&row, buffer);
    }
}
