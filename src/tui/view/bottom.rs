//! The bottom line: the prompt, a message, or the most useful keys of the moment.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::palette::Look;
use crate::tui::state::State;

/// Draws it where the mode asks for it.
pub fn draw(_state: &State, _look: Look, _area: Rect, _buffer: &mut Buffer) {}
