//! Points in time.

use ratatui::buffer::Buffer;

use super::Row;
use crate::trace::TrackId;
use crate::tui::view::pen;
use crate::view::text::plain;

/// Draws a mark in each column that has a point, and its name where there is room before the next.
pub fn draw(row: &Row<'_>, track: TrackId, buffer: &mut Buffer) {
    let scene = &row.state.scene;
    let Some(track) = scene.trace.tracks.get(track.0 as usize) else { return };
    let instants = &track.instants;
    for column in 0..row.area.width {
        let (from, to) = row.stretch(column);
        let first = instants.partition_point(|i| i.ts_ns < from);
        let Some(instant) = instants.get(first).filter(|i| i.ts_ns < to) else { continue };
        let at = (row.area.x + column, row.area.y);
        pen::sign(buffer, at, row.look.sign('◆', '*'), row.look.warn());
        let next = instants.get(first + 1).filter(|i| i.ts_ns < row.state.view.to_ns);
        let room = match next.and_then(|i| super::column_of(row.state, i.ts_ns, row.area.width)) {
            Some(next) => next.saturating_sub(column + 2),
            None => row.area.width.saturating_sub(column + 2),
        };
        let name = plain(scene.trace.text(instant.name));
        if usize::from(room) >= pen::columns(&name) && !name.is_empty() {
            pen::put(buffer, (at.0 + 1, at.1), room, &format!(" {name}"), row.look.faint(), row.look);
        }
    }
}
