//! The rows.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::tui::palette::Look;
use crate::tui::state::{LineKind, State};

/// Draws the rows from the first visible one on.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let mut cells = Vec::new();
    let height = usize::from(area.height);
    for (row, y) in (area.top()..area.bottom()).enumerate() {
        let Some(line) = state.line_on_row(row, height).and_then(|at| state.lines.get(at)) else { break };
        if let LineKind::Depth(track, depth) = line.kind {
            let (Some(index), Some(data)) =
                (state.scene.index.get(track.0 as usize), state.scene.trace.tracks.get(track.0 as usize))
            else {
                continue;
            };
            let view = state.view;
            index.cells(data, usize::from(depth), view.from_ns, view.to_ns, usize::from(area.width), &mut cells);
            for (x, cell) in (area.left()..).zip(&cells).filter(|(_, cell)| cell.count > 0) {
                buffer[(x, y)].set_char('#').set_style(Style::new().fg(look.class(cell.class)));
            }
        } else if let Some(node) = state.scene.tree.get(line.node) {
            buffer.set_stringn(area.left(), y, &node.label, usize::from(area.width), Style::new());
        }
    }
}
