//! A frame as an SVG document: a terminal's window, for documents and tickets.
//!
//! Needs nothing but a monospace font, whichever: every run of text is told its length, and
//! blocks, lines and shades are drawn as shapes, so that they meet without gaps.

mod shapes;

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use super::palette::{Background, Look, mix, rgb_of};

/// Width of a cell in px: 0.6 of the font's size, as in most monospace fonts.
const WIDTH: u32 = 9;
const HEIGHT: u32 = 19;
const FONT: u32 = 15;
/// From a cell's top to the foot of its letters.
const BASELINE: u32 = 14;
/// Around the cells.
const MARGIN: u32 = 14;
/// The window's own bar.
const FRAME: u32 = 30;

/// Colours of one cell after all modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Paint {
    fg: [u8; 3],
    bg: [u8; 3],
    bold: bool,
    italic: bool,
    underlined: bool,
}

/// What the terminal itself shows.
struct Ground {
    fg: [u8; 3],
    bg: [u8; 3],
}

impl Ground {
    fn of(look: Look) -> Ground {
        let fg = if look.background == Background::Dark { [0xd8, 0xdc, 0xe4] } else { [0x24, 0x29, 0x30] };
        Ground { fg, bg: look.ground() }
    }

    fn paint(&self, cell: &Cell) -> Paint {
        let color = |color: Color, own: [u8; 3]| if color == Color::Reset { own } else { rgb_of(color) };
        let (mut fg, mut bg) = (color(cell.fg, self.fg), color(cell.bg, self.bg));
        if cell.modifier.contains(Modifier::REVERSED) {
            std::mem::swap(&mut fg, &mut bg);
        }
        if cell.modifier.contains(Modifier::DIM) {
            fg = mix(fg, bg, 0.45);
        }
        if cell.modifier.contains(Modifier::HIDDEN) {
            fg = bg;
        }
        Paint {
            fg,
            bg,
            bold: cell.modifier.contains(Modifier::BOLD),
            italic: cell.modifier.contains(Modifier::ITALIC),
            underlined: cell.modifier.contains(Modifier::UNDERLINED),
        }
    }
}

/// Draws a buffer in a window with a frame.
pub(super) fn svg(buffer: &Buffer, look: Look) -> String {
    let ground = Ground::of(look);
    let (columns, rows) = (u32::from(buffer.area.width), u32::from(buffer.area.height));
    let (width, height) = (columns * WIDTH + 2 * MARGIN, rows * HEIGHT + MARGIN + FRAME);
    let mut out = String::with_capacity(1 << 16);
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"a terminal\">\n\
         <style>text{{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',\
         monospace;font-size:{FONT}px;white-space:pre}}</style>\n"
    );
    let edge = mix(ground.bg, ground.fg, 0.2);
    let _ = writeln!(
        out,
        "<rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"{}\" stroke=\"{}\"/>",
        width.saturating_sub(1),
        height.saturating_sub(1),
        hex(ground.bg),
        hex(edge)
    );
    for (i, color) in ["#ff5f57", "#febc2e", "#28c840"].into_iter().enumerate() {
        let _ = writeln!(out, "<circle cx=\"{}\" cy=\"15\" r=\"5.5\" fill=\"{color}\"/>", 18 + 19 * i);
    }
    let _ = writeln!(out, "<g transform=\"translate({MARGIN} {FRAME})\">");
    if columns > 0 {
        for (y, cells) in buffer.content.chunks(usize::from(buffer.area.width)).enumerate() {
            row(&mut out, cells, y as u32 * HEIGHT, &ground);
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// One row: grounds first, then shapes, then text.
fn row(out: &mut String, cells: &[Cell], y: u32, ground: &Ground) {
    let mut paints: Vec<Paint> = cells.iter().map(|cell| ground.paint(cell)).collect();
    // The second half of a wide character has what the first has.
    for i in 1..cells.len() {
        if cells[i - 1].symbol().width() > 1 {
            paints[i] = paints[i - 1];
        }
    }
    for (from, to) in runs(cells.len(), |a, b| paints[a].bg == paints[b].bg) {
        if paints[from].bg != ground.bg {
            rect(out, (from as u32 * WIDTH, y), ((to - from) as u32 * WIDTH, HEIGHT), paints[from].bg);
        }
    }
    let shape = |i: usize| cells[i].symbol().chars().next().and_then(shapes::of);
    let same = |a: usize, b: usize| cells[a].symbol() == cells[b].symbol() && paints[a].fg == paints[b].fg;
    for (from, to) in runs(cells.len(), |a, b| same(a, b) && shape(a).is_some_and(|s| s.tiles())) {
        if let Some(shape) = shape(from) {
            shape.draw(out, (from as u32, (to - from) as u32), y, paints[from].fg);
        }
    }
    let mut at = 0;
    while at < cells.len() {
        if cells[at].symbol() == " " || shape(at).is_some() {
            at += 1;
            continue;
        }
        at += text(out, cells, &paints, at, y, &shape);
    }
    for (from, to) in
        runs(cells.len(), |a, b| paints[a].underlined && paints[b].underlined && paints[a].fg == paints[b].fg)
    {
        if paints[from].underlined {
            rect(out, (from as u32 * WIDTH, y + HEIGHT - 2), ((to - from) as u32 * WIDTH, 1), paints[from].fg);
        }
    }
}

/// Text of one paint from a cell on; returns how many cells it took.
fn text(
    out: &mut String,
    cells: &[Cell],
    paints: &[Paint],
    from: usize,
    y: u32,
    shape: &dyn Fn(usize) -> Option<shapes::Shape>,
) -> usize {
    let paint = Paint { underlined: false, ..paints[from] };
    let (mut words, mut taken, mut solid) = (String::new(), 0, 0);
    while let Some(cell) = cells.get(from + taken) {
        if (Paint { underlined: false, ..paints[from + taken] }) != paint || shape(from + taken).is_some() {
            break;
        }
        escape(&mut words, cell.symbol());
        taken += cell.symbol().width().max(1);
        if cell.symbol() != " " {
            solid = taken;
        }
        // A wide gap costs more than a new piece.
        if taken - solid > 3 {
            break;
        }
    }
    let words = words.trim_end();
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" fill=\"{}\" textLength=\"{}\" xml:space=\"preserve\"",
        from as u32 * WIDTH,
        y + BASELINE,
        hex(paint.fg),
        solid as u32 * WIDTH
    );
    if paint.bold {
        out.push_str(" font-weight=\"bold\"");
    }
    if paint.italic {
        out.push_str(" font-style=\"italic\"");
    }
    let _ = writeln!(out, ">{words}</text>");
    taken.max(1)
}

/// Stretches of neighbours that are alike.
fn runs(count: usize, alike: impl Fn(usize, usize) -> bool) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        if from >= count {
            return None;
        }
        let start = from;
        from += 1;
        while from < count && alike(start, from) {
            from += 1;
        }
        Some((start, from))
    })
}

fn rect(out: &mut String, at: (u32, u32), size: (u32, u32), color: [u8; 3]) {
    let (x, y, width, height) = (at.0, at.1, size.0, size.1);
    let _ = writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{}\"/>", hex(color));
}

fn hex(rgb: [u8; 3]) -> String {
    format!("#{:02x}{:02x}{:02x}", rgb[0], rgb[1], rgb[2])
}

/// Adds text with what XML reserves replaced, and without what it forbids.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::super::palette::{Colors, Marks};
    use super::*;

    fn drawn(text: &str, style: Style) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 1));
        buffer.set_string(0, 0, text, style);
        let look = Look { colors: Colors::True, background: Background::Dark, marks: Marks::Unicode };
        let svg = svg(&buffer, look);
        let inside = svg.split_once("<g ").unwrap().1.split_once("</g>").unwrap().0;
        inside.lines().skip(1).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn text_is_escaped_and_told_its_length() {
        insta::assert_snapshot!(drawn("a<b> & c", Style::new().bold()), @r##"<text x="0" y="14" fill="#d8dce4" textLength="72" xml:space="preserve" font-weight="bold">a&lt;b&gt; &amp; c</text>"##);
        let wide = drawn("模型", Style::new().fg(Color::Red).bg(Color::Blue));
        assert!(wide.contains("textLength=\"36\" xml:space=\"preserve\">模型</text>"), "{wide}");
        assert!(wide.starts_with("<rect x=\"0\" y=\"0\" width=\"36\" height=\"19\" fill=\"#2472c8\"/>"), "{wide}");
    }

    #[test]
    fn blocks_are_shapes_that_tile() {
        insta::assert_snapshot!(drawn("██▄▌", Style::new().fg(Color::Green)), @r##"
        <rect x="0" y="0" width="18" height="19" fill="#0dbc79"/>
        <rect x="18" y="9.5" width="9" height="9.5" fill="#0dbc79"/>
        <rect x="27" y="0" width="4.5" height="19" fill="#0dbc79"/>
        "##);
        insta::assert_snapshot!(drawn("▒", Style::new().fg(Color::Green).reversed()), @r##"
        <rect x="0" y="0" width="9" height="19" fill="#0dbc79"/>
        <rect x="0" y="0" width="9" height="19" fill="#12151b" fill-opacity="0.5"/>
        "##);
    }

    #[test]
    fn an_empty_buffer_is_a_document() {
        let look = Look { colors: Colors::None, background: Background::Light, marks: Marks::Ascii };
        let svg = svg(&Buffer::empty(Rect::new(0, 0, 0, 0)), look);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
