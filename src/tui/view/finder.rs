//! The finder's list of tracks, over the body.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::tui::palette::Look;
use crate::tui::state::{Mode, Prompt, PromptKind, State};

/// Draws it while the finder is open.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let Mode::Prompt(Prompt { kind: PromptKind::Finder, choice, .. }) = state.mode else { return };
    let area = area.intersection(buffer.area);
    let hits = &state.finder.hits;
    if area.is_empty() {
        return;
    }
    // Best at the bottom, beside what is typed.
    let rows = hits.len().max(1).min(usize::from(area.height));
    let first = (choice + 1).saturating_sub(rows);
    let y = |row: usize| area.bottom() - 1 - row as u16;
    for row in 0..rows {
        let style = if first + row == choice { look.chosen() } else { look.bar() };
        let line = Rect { y: y(row), height: 1, ..area };
        buffer.set_style(line, Style::reset());
        for x in line.left()..line.right() {
            buffer[(x, line.y)].set_char(' ');
        }
        buffer.set_style(line, style);
        let text = match hits.get(first + row) {
            Some((_, id)) => state.node_path(*id),
            None if state.finder.next.is_some() => "looking".to_owned(),
            None => "nothing fits".to_owned(),
        };
        let mark = if first + row == choice && !hits.is_empty() { look.sign('▸', '>') } else { ' ' };
        let text = format!("{mark} {}", look.text(&text));
        buffer.set_stringn(line.x, line.y, text, usize::from(line.width), style);
    }
}
