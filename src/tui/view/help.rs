//! The page of keys and commands, over the whole screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::palette::Look;
use crate::tui::state::State;

/// Draws it where the mode asks for it.
pub fn draw(_state: &State, _look: Look, _area: Rect, _buffer: &mut Buffer) {}

/// Lines of the page on a screen of a size.
pub fn lines(_size: crate::tui::state::Size) -> u16 {
    1
}
