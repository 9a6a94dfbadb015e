//! Draws the panel: a bar that says what it is about, and its content below.

mod flame;
mod paint;
mod paragraphs;
mod table;
#[cfg(test)]
mod tests;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::tui::palette::Look;
use crate::tui::panel::{Block, PanelLine, Tone};
use crate::tui::state::{Panel, State};

/// Draws whatever panel is chosen into a room of any size.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    if area.is_empty() || state.panel == Panel::Hidden {
        return;
    }
    buffer.set_style(Rect { height: 1, ..area }, look.bar());
    let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
    match state.panel {
        Panel::Hidden => {}
        Panel::Details => {
            let blocks = state.details();
            paragraphs::draw(state, look, &blocks, area, buffer);
        }
        Panel::Verdict => paragraphs::draw(state, look, &[verdict(state)], area, buffer),
        Panel::Table => table::draw(state, look, area, buffer),
        Panel::Flame => flame::draw(state, look, area, buffer),
    }
    if below.height > 0 {
        hint(state, look, area, buffer);
    }
}

fn verdict(state: &State) -> Block {
    Block { title: "verdict".to_owned(), lines: state.verdict_lines() }
}

/// The panel's row at a place on the screen, as [`State::panel_row`] counts them.
pub fn row_at(state: &State, area: Rect, at: Position) -> Option<usize> {
    if !area.contains(at) {
        return None;
    }
    match state.panel {
        Panel::Hidden => None,
        Panel::Details => paragraphs::line_at(state, &state.details(), area, at),
        Panel::Verdict => paragraphs::line_at(state, &[verdict(state)], area, at),
        Panel::Table => table::row_at(state, area, at),
        Panel::Flame => flame::row_at(state, area, at),
    }
}

/// The panel's name and key, at the right of its bar where that is free.
fn hint(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let (name, key) = match state.panel {
        Panel::Details => ("details", 'i'),
        Panel::Table => ("table", 't'),
        Panel::Flame => ("flame", 'F'),
        Panel::Verdict | Panel::Hidden => return,
    };
    let text = format!(" {name} [{key}] ");
    let width = text.len() as u16;
    let Some(x) = area.right().checked_sub(width).filter(|x| *x >= area.x) else { return };
    let free = (x.saturating_sub(1)..area.right()).all(|x| buffer.cell((x, area.y)).is_some_and(|c| c.symbol() == " "));
    if free {
        let line = PanelLine::of(Tone::Faint, text);
        paint::line(&line, look, Rect { x, width, height: 1, ..area }, buffer);
    }
}
