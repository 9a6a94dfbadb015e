//! Blocks of lines side by side, as many as there is room for.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use super::paint;
use crate::tui::palette::{Background, Colors, Look, Marks};
use crate::tui::panel::{Block, PanelLine, Span, Tone};
use crate::tui::state::State;

/// Two columns from this width on, three from the other.
const TWO: u16 = 72;
const THREE: u16 = 150;

/// A row of a column: what is in it, and which line of the panel it belongs to.
struct Row {
    spans: Vec<Span>,
    line: Option<usize>,
    leads: bool,
}

/// A column: where its title goes, where its rows, and which of them is the first shown.
struct Column<'b> {
    title: &'b str,
    head: Rect,
    room: Rect,
    rows: Vec<Row>,
    top: usize,
}

/// Divides blocks over the width; the chosen line is kept in view.
fn columns<'b>(chosen: usize, look: Look, blocks: &'b [Block], area: Rect) -> Vec<Column<'b>> {
    let most = match area.width {
        THREE.. => 3,
        TWO.. => 2,
        _ => 1,
    };
    let count = most.min(blocks.len());
    // What comes last is the longest: stacks, names with their numbers.
    let share = match count {
        3 => [0, 30, 58, 100],
        2 => [0, 45, 100, 100],
        _ => [0, 100, 100, 100],
    };
    let edge = |i: usize| area.x + (usize::from(area.width) * share[i.min(3)] / 100) as u16;
    let mut first = 0;
    let mut columns = Vec::new();
    for column in 0..count {
        let last = column + 1 == count;
        let here = if last { blocks.get(column..) } else { blocks.get(column..=column) }.unwrap_or_default();
        let wide = edge(column + 1) - edge(column);
        let width = if last { wide } else { wide.saturating_sub(2) };
        let head = Rect { x: edge(column), width, height: area.height.min(1), ..area };
        let room = Rect {
            x: head.x + 1.min(width),
            width: width.saturating_sub(1),
            y: area.y + head.height,
            height: area.height - head.height,
        };
        let rows = rows(here, first, usize::from(room.width), look);
        let of_chosen = |row: &Row| row.line == Some(chosen);
        let from = rows.iter().position(of_chosen).unwrap_or(0);
        let to = rows.iter().rposition(of_chosen).map_or(0, |last| last + 1);
        let top = to.saturating_sub(usize::from(room.height)).min(from);
        first += here.iter().map(|block| block.lines.len()).sum::<usize>();
        columns.push(Column { title: here.first().map_or("", |block| &block.title), head, room, rows, top });
    }
    columns
}

/// Draws blocks.
pub fn draw(state: &State, look: Look, blocks: &[Block], area: Rect, buffer: &mut Buffer) {
    for column in columns(state.panel_row, look, blocks, area) {
        let title = PanelLine::of(Tone::Strong, format!(" {}", column.title));
        paint::line(&title, look, column.head, buffer);
        let room = column.room.intersection(buffer.area);
        for (row, y) in column.rows.iter().skip(column.top).zip(room.top()..room.bottom()) {
            let place = Rect { y, height: 1, ..room };
            paint::spans(&row.spans, look, place, buffer);
            if state.panel_focus && row.line == Some(state.panel_row) {
                buffer.set_style(place, look.chosen());
                if row.leads && place.width > 0 {
                    let mark = look.sign('⏎', '>');
                    buffer[(place.right() - 1, y)].set_char(mark).set_style(look.accent());
                }
            }
        }
        let more = column.top + usize::from(room.height) < column.rows.len();
        if more && !room.is_empty() {
            let mark = look.sign('▾', 'v');
            buffer[(room.right() - 1, room.bottom() - 1)].set_char(mark).set_style(look.faint());
        }
    }
}

/// The line at a place.
pub fn line_at(state: &State, blocks: &[Block], area: Rect, at: Position) -> Option<usize> {
    let look = Look { colors: Colors::None, background: Background::Dark, marks: Marks::Ascii };
    let columns = columns(state.panel_row, look, blocks, area);
    let column = columns.iter().find(|column| column.room.contains(at))?;
    column.rows.get(column.top + usize::from(at.y - column.room.y))?.line
}

fn rows(blocks: &[Block], first: usize, width: usize, look: Look) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut number = first;
    for (i, block) in blocks.iter().enumerate() {
        if i > 0 {
            let rule = look.sign('─', '-').to_string();
            let text = format!("{} {}", block.title, rule.repeat(width.saturating_sub(block.title.len() + 1)));
            rows.push(Row { spans: vec![Span { text, tone: Tone::Faint }], line: None, leads: false });
        }
        for line in &block.lines {
            for spans in paint::wrap(line, width) {
                rows.push(Row { spans, line: Some(number), leads: line.jump.is_some() });
            }
            number += 1;
        }
    }
    rows
}
