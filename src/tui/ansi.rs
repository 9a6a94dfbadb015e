//! A frame as text with colours, for a terminal's scrollback or `less -R`.

use anstyle::{Ansi256Color, AnsiColor, RgbColor, Style};
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

/// Draws a buffer, a line a row, without trailing blanks that show nothing.
pub(super) fn ansi(buffer: &Buffer) -> String {
    let mut out = String::new();
    for row in buffer.content.chunks(usize::from(buffer.area.width).max(1)) {
        let shows =
            |cell: &Cell| cell.symbol() != " " || cell.bg != Color::Reset || cell.modifier.contains(Modifier::REVERSED);
        let end = row.iter().rposition(shows).map_or(0, |last| last + 1);
        let mut last = Style::new();
        // Cells under the right half of a wide sign.
        let mut hidden = 0;
        for cell in &row[..end] {
            if hidden > 0 {
                hidden -= 1;
                continue;
            }
            hidden = cell.symbol().width().saturating_sub(1);
            let style = style_of(cell);
            if style != last {
                out.push_str(&format!("{}{}", last.render_reset(), style.render()));
                last = style;
            }
            out.push_str(cell.symbol());
        }
        out.push_str(&format!("{}\n", last.render_reset()));
    }
    out
}

fn style_of(cell: &Cell) -> Style {
    let mut style = Style::new().fg_color(color_of(cell.fg)).bg_color(color_of(cell.bg));
    for (modifier, effect) in [
        (Modifier::BOLD, anstyle::Effects::BOLD),
        (Modifier::DIM, anstyle::Effects::DIMMED),
        (Modifier::ITALIC, anstyle::Effects::ITALIC),
        (Modifier::UNDERLINED, anstyle::Effects::UNDERLINE),
        (Modifier::REVERSED, anstyle::Effects::INVERT),
    ] {
        if cell.modifier.contains(modifier) {
            style |= effect;
        }
    }
    style
}

fn color_of(color: Color) -> Option<anstyle::Color> {
    let named = match color {
        Color::Reset => return None,
        Color::Rgb(r, g, b) => return Some(RgbColor(r, g, b).into()),
        Color::Indexed(index) => return Some(Ansi256Color(index).into()),
        Color::Black => AnsiColor::Black,
        Color::Red => AnsiColor::Red,
        Color::Green => AnsiColor::Green,
        Color::Yellow => AnsiColor::Yellow,
        Color::Blue => AnsiColor::Blue,
        Color::Magenta => AnsiColor::Magenta,
        Color::Cyan => AnsiColor::Cyan,
        Color::Gray => AnsiColor::White,
        Color::DarkGray => AnsiColor::BrightBlack,
        Color::LightRed => AnsiColor::BrightRed,
        Color::LightGreen => AnsiColor::BrightGreen,
        Color::LightYellow => AnsiColor::BrightYellow,
        Color::LightBlue => AnsiColor::BrightBlue,
        Color::LightMagenta => AnsiColor::BrightMagenta,
        Color::LightCyan => AnsiColor::BrightCyan,
        Color::White => AnsiColor::BrightWhite,
    };
    Some(named.into())
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;

    use super::*;

    #[test]
    fn colours_come_and_go_with_their_cells() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 2));
        buffer[(1, 0)].set_char('a').set_fg(Color::Red);
        buffer[(2, 0)].set_char('b').set_fg(Color::Red);
        buffer[(3, 0)].set_char('c').set_bg(Color::Rgb(1, 2, 3));
        assert_eq!(ansi(&buffer), " \u{1b}[31mab\u{1b}[0m\u{1b}[48;2;1;2;3mc\u{1b}[0m\n\n");
    }
}
