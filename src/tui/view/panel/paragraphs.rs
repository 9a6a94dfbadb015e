//! Blocks of lines side by side, as many as there is room for.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::paint;
use crate::tui::palette::Look;
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

/// Draws blocks; the chosen line is kept in view.
pub fn draw(state: &State, look: Look, blocks: &[Block], area: Rect, buffer: &mut Buffer) {
    let most = match area.width {
        THREE.. => 3,
        TWO.. => 2,
        _ => 1,
    };
    let columns = most.min(blocks.len()).max(1);
    let mut first = 0;
    for column in 0..columns {
        let last = column + 1 == columns;
        let here = if last { blocks.get(column..) } else { blocks.get(column..=column) }.unwrap_or_default();
        // What comes last is the longest: stacks, names with their numbers.
        let share = match columns {
            3 => [0, 30, 58, 100],
            2 => [0, 45, 100, 100],
            _ => [0, 100, 100, 100],
        };
        let edge = |i: usize| area.x + (usize::from(area.width) * share[i.min(3)] / 100) as u16;
        let gap = if last { 0 } else { 2.min(edge(column + 1) - edge(column)) };
        let room = Rect { x: edge(column), width: edge(column + 1) - edge(column) - gap, ..area };
        draw_column(state, look, here, first, room, buffer);
        first += here.iter().map(|block| block.lines.len()).sum::<usize>();
    }
}

fn draw_column(state: &State, look: Look, blocks: &[Block], first: usize, area: Rect, buffer: &mut Buffer) {
    let Some(head) = blocks.first() else { return };
    let title = PanelLine::of(Tone::Strong, format!(" {}", head.title));
    paint::line(&title, look, Rect { height: area.height.min(1), ..area }, buffer);
    let area = Rect {
        x: area.x + 1.min(area.width),
        width: area.width.saturating_sub(1),
        y: area.y + 1,
        height: area.height - 1,
    };
    let rows = rows(blocks, first, usize::from(area.width), look);
    let height = usize::from(area.height);
    let chosen: Vec<usize> =
        rows.iter().enumerate().filter(|(_, r)| r.line == Some(state.panel_row)).map(|(i, _)| i).collect();
    let last = chosen.last().map_or(0, |last| last + 1);
    let top = last.saturating_sub(height).min(chosen.first().copied().unwrap_or(0));
    for (row, y) in rows.iter().skip(top).zip(area.top()..area.bottom()) {
        let place = Rect { y, height: 1, ..area };
        paint::spans(&row.spans, look, place, buffer);
        if state.panel_focus && row.line == Some(state.panel_row) {
            buffer.set_style(place.intersection(buffer.area), look.chosen());
            if row.leads && place.width > 0 {
                let mark = look.sign('⏎', '>');
                buffer[(place.right() - 1, y)].set_char(mark).set_style(look.accent());
            }
        }
    }
    // There is more below.
    if top + height < rows.len() && height > 0 && area.width > 0 {
        let more = look.sign('▾', 'v');
        buffer[(area.right() - 1, area.bottom() - 1)].set_char(more).set_style(look.faint());
    }
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
