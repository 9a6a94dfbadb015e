//! Draws the state.

mod body;
mod bottom;
mod finder;
mod help;
mod labels;
mod layout;
mod minimap;
mod panel;
mod pen;
mod ruler;
#[cfg(test)]
mod tests;
mod title;
mod verdict;

use ratatui::Frame;
use ratatui::layout::Rect;

use super::palette::Look;
use super::state::State;

pub use help::help_end;
pub use layout::{Areas, areas};
pub use panel::row_at as panel_row_at;

/// Draws one frame.
pub fn draw(state: &State, look: Look, frame: &mut Frame<'_>) {
    let screen = frame.area();
    let areas = areas(state, screen);
    let buffer = frame.buffer_mut();
    let left = |area: Rect| Rect { x: areas.labels.x, width: areas.labels.width, ..area };
    title::draw(state, look, areas.title, buffer);
    verdict::draw(state, look, areas.verdict, buffer);
    minimap::draw(state, look, areas.minimap, left(areas.minimap), buffer);
    ruler::draw(state, look, areas.ruler, left(areas.ruler), buffer);
    labels::draw(state, look, areas.labels, buffer);
    body::draw(state, look, areas.body, buffer);
    panel::draw(state, look, areas.panel, buffer);
    bottom::draw(state, look, areas.bottom, buffer);
    finder::draw(state, look, areas.labels.union(areas.body), buffer);
    help::draw(state, look, screen, buffer);
}
