//! Draws the state.

mod body;
mod bottom;
mod finder;
mod help;
mod layout;

use ratatui::Frame;

use super::palette::Look;
use super::state::State;

pub use help::help_end;
pub use layout::{Areas, areas};

/// Draws one frame.
pub fn draw(state: &State, look: Look, frame: &mut Frame<'_>) {
    let screen = frame.area();
    let areas = areas(state, screen);
    let buffer = frame.buffer_mut();
    body::draw(state, look, areas.body, buffer);
    bottom::draw(state, look, areas.bottom, buffer);
    finder::draw(state, look, areas.body, buffer);
    help::draw(state, look, screen, buffer);
}
