//! A frame as an SVG document.

use ratatui::buffer::Buffer;

use super::palette::Look;

/// Draws a buffer with text of one width.
pub(super) fn svg(buffer: &Buffer, _look: Look) -> String {
    let (width, height) = (u32::from(buffer.area.width) * 8, u32::from(buffer.area.height) * 16);
    format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\"></svg>\n")
}
