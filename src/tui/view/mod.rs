//! Draws the state.

mod body;
mod layout;

use ratatui::Frame;

use super::palette::Look;
use super::state::State;

pub use layout::{Areas, areas};

/// Draws one frame.
pub fn draw(state: &State, look: Look, frame: &mut Frame<'_>) {
    let areas = areas(state, frame.area());
    body::draw(state, look, areas.body, frame.buffer_mut());
}
