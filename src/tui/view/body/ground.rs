//! What lies under the cells of a row: the selected range, lines at steps, the chosen row; and
//! the cursor's hairline above them.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Style};

use super::Row;
use crate::tui::palette::{Background, Colors, Look};
use crate::tui::state::State;
use crate::tui::view::layout::column_of;
use crate::tui::view::pen;

/// Lines closer than this would hide more than they guide.
const APART: u64 = 6;

/// Columns at which a step begins, where steps are wide enough.
pub fn guides(state: &State, width: u16) -> Vec<u16> {
    let Some(steps) = state.scene.steps.first() else { return Vec::new() };
    let view = state.view;
    let first = steps.boundaries_ns.partition_point(|ts| *ts < view.from_ns);
    let last = steps.boundaries_ns.partition_point(|ts| *ts < view.to_ns);
    if (last - first) as u64 * APART > u64::from(width) {
        return Vec::new();
    }
    steps.boundaries_ns[first..last].iter().filter_map(|ts| column_of(state, *ts, width)).collect()
}

/// Draws the ground.
pub fn draw(row: &Row<'_>, guides: &[u16], buffer: &mut Buffer) {
    let (look, area) = (row.look, row.area);
    if row.chosen && matches!(look.colors, Colors::True | Colors::Indexed) {
        buffer.set_style(area, Style::new().bg(ground_of(row)));
    }
    for &column in guides {
        pen::sign(buffer, (area.x + column, area.y), look.sign('┊', ':'), look.guide());
    }
    for column in row.columns_of(row.state.range) {
        let Some(cell) = buffer.cell_mut((area.x + column, area.y)) else { continue };
        match look.range() {
            Some(color) => drop(cell.set_bg(color)),
            None if cell.symbol() == " " => drop(cell.set_char(look.sign('·', '.')).set_style(look.guide())),
            None => {}
        }
    }
    if let Some(column) = column_of(row.state, row.state.cursor_ns, area.width) {
        let color = look.accent().fg.unwrap_or(Color::Reset);
        let style = Style::new().fg(look.blend(color, [0x60; 3], 0.4));
        pen::sign(buffer, (area.x + column, area.y), hairline(look), style);
    }
}

fn hairline(look: Look) -> char {
    look.sign('│', '|')
}

fn ground_of(row: &Row<'_>) -> Color {
    let chosen = row.look.chosen().bg.unwrap_or(Color::Reset);
    let ground = if row.look.background == Background::Dark { [0; 3] } else { [255; 3] };
    row.look.blend(chosen, ground, 0.45)
}

/// Tints what the cursor's hairline is hidden behind.
pub fn cursor(row: &Row<'_>, buffer: &mut Buffer) {
    let (look, width) = (row.look, row.area.width);
    let Some(column) = column_of(row.state, row.state.cursor_ns, width) else { return };
    let Some(cell) = buffer.cell_mut((row.area.x + column, row.area.y)) else { return };
    if cell.symbol().starts_with(hairline(look)) || !matches!(look.colors, Colors::True | Colors::Indexed) {
        return;
    }
    let towards = if look.background == Background::Dark { [255; 3] } else { [0; 3] };
    if cell.symbol() == " " || cell.symbol().is_ascii() && cell.bg != Color::Reset {
        cell.bg = look.blend(cell.bg, towards, 0.25);
        cell.fg = look.on(cell.bg);
    } else if cell.fg != Color::Reset {
        cell.fg = look.blend(cell.fg, towards, 0.3);
    }
}
