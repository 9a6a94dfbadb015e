//! Writes text into a buffer: cut to its room, in ASCII where that is all there is.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::tui::palette::{Look, Marks};

/// Columns a text takes.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// A text cut to `room` columns; the cut is marked. Bytes beyond the room are not looked at.
pub fn clip(look: Look, text: &str, room: usize) -> String {
    let text = look.text(text);
    let mark = if look.marks == Marks::Unicode { "…" } else { "~" };
    let mut used = 0;
    let mut fits = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > room {
            return if room == 0 { String::new() } else { format!("{}{mark}", &text[..fits]) };
        }
        if used < room {
            fits = at + c.len_utf8();
        }
    }
    text
}

/// Writes a text from a column on, cut to `room`; returns the column after it.
pub fn put(buffer: &mut Buffer, at: (u16, u16), room: u16, text: &str, style: Style, look: Look) -> u16 {
    let area = buffer.area;
    let room = room.min(area.right().saturating_sub(at.0));
    if room == 0 || at.1 >= area.bottom() {
        return at.0;
    }
    let text = clip(look, text, usize::from(room));
    buffer.set_stringn(at.0, at.1, text, usize::from(room), style).0
}

/// Writes pieces one after the other into a row.
pub fn line(buffer: &mut Buffer, row: Rect, pieces: &[(String, Style)], look: Look) -> u16 {
    let mut x = row.x;
    for (text, style) in pieces {
        x = put(buffer, (x, row.y), row.right().saturating_sub(x), text, *style, look);
    }
    x
}

/// Sets one sign.
pub fn sign(buffer: &mut Buffer, at: (u16, u16), sign: char, style: Style) {
    if let Some(cell) = buffer.cell_mut(at) {
        cell.set_char(sign).set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::palette::{Background, Colors};

    #[test]
    fn cuts_are_marked_and_wide_signs_whole() {
        let look = Look { colors: Colors::None, background: Background::Dark, marks: Marks::Unicode };
        assert_eq!(clip(look, "train_step", 10), "train_step");
        assert_eq!(clip(look, "train_step", 6), "train…");
        assert_eq!(clip(look, "模型训练", 5), "模型…");
        assert_eq!(clip(look, "abc", 1), "…");
        assert_eq!(clip(look, "abc", 0), "");
        let ascii = Look { marks: Marks::Ascii, ..look };
        assert_eq!(clip(ascii, "é → x", 9), "? -> x");
        assert_eq!(clip(ascii, "train_step", 6), "train~");
    }
}
