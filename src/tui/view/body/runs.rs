//! Cells that one slice has to itself: its name, its length, and how it ends.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

use super::slices::Depth;
use crate::trace::{Class, Flags, Slice};
use crate::tui::palette::{Colors, Look, Marks};
use crate::tui::scene::{IDLE, LOCK};
use crate::tui::view::pen;
use crate::view::human;
use crate::view::text::plain;

/// Columns `from..to` under one slice.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub from: u16,
    pub to: u16,
    pub index: u32,
}

/// Room that a name needs to say anything.
const NAME_LEAST: usize = 3;
/// Columns over which a slice without an end fades.
const FADE: u16 = 3;

/// The line that stands for a class that waits: a wait is no work, and is drawn as none.
pub fn is_thin(look: Look, class: Class) -> Option<char> {
    match class {
        IDLE => Some(look.sign('─', '-')),
        LOCK => Some(look.sign('╍', '~')),
        _ => None,
    }
}

/// Draws a run.
pub fn draw(depth: &Depth<'_>, run: Run, buffer: &mut Buffer) {
    let look = depth.row.look;
    let Some(slice) = depth.slice(run.index) else { return };
    let class = depth.class(slice);
    let shade = depth.shade(run.index, slice);
    let thin = is_thin(look, class);
    let style = match thin {
        Some(_) => Style::new().fg(look.class(class)),
        None => look.filled(class, shade),
    };
    let style = depth.emphasis(run.index, slice, style);
    let estimate = slice.flags.has(Flags::ESTIMATE);
    let fill = match thin {
        Some(line) => line,
        None if estimate => look.sign('╱', '/'),
        None if look.colors == Colors::None => look.sign('━', '='),
        None => ' ',
    };
    let y = depth.row.area.y;
    let column = |c: u16| (depth.row.area.x + c, y);
    let filled = if estimate { hatch(look, style) } else { style };
    for c in run.from..run.to {
        pen::sign(buffer, column(c), fill, filled);
    }
    let begins = slice.start_ns >= depth.row.stretch(run.from).0 && thin.is_none();
    let edge = u16::from(begins && run.to - run.from >= 2);
    if edge == 1 {
        let (sign, edged) = edge_of(look, style);
        pen::sign(buffer, column(run.from), sign, edged);
    }
    let tail = tail(depth, run, slice);
    write(depth, run, slice, (edge, tail.1), style, buffer);
    let ground = style.bg.filter(|_| thin.is_none());
    match tail.0 {
        Tail::Whole => {}
        Tail::Clamped => pen::sign(buffer, column(run.to - 1), look.sign('≈', '~'), style),
        Tail::Unfinished if look.marks == Marks::Ascii => pen::sign(buffer, column(run.to - 1), '>', style),
        Tail::Unfinished => {
            let faded = Style::new().fg(ground.or(style.fg).unwrap_or(Color::Reset)).bg(Color::Reset);
            let signs = ['▓', '▒', '░'];
            for (i, c) in (run.to - tail.1..run.to).enumerate() {
                pen::sign(buffer, column(c), signs[i + signs.len() - usize::from(tail.1)], faded);
            }
        }
    }
}

/// How a run ends.
enum Tail {
    Whole,
    Unfinished,
    Clamped,
}

/// How a run ends, and the columns that takes.
fn tail(depth: &Depth<'_>, run: Run, slice: &Slice) -> (Tail, u16) {
    let ends = slice.end_ns() <= depth.row.stretch(run.to - 1).1.saturating_add(depth.row.state.view.len_ns() / 1000);
    let room = run.to - run.from;
    if ends && slice.flags.has(Flags::UNFINISHED) {
        let columns = if depth.row.look.marks == Marks::Ascii { 1 } else { FADE };
        (Tail::Unfinished, columns.min(room))
    } else if ends && slice.flags.has(Flags::CLAMPED) && room >= 3 {
        (Tail::Clamped, 1)
    } else {
        (Tail::Whole, 0)
    }
}

/// The sign at a slice's start, which tells it from the one before.
fn edge_of(look: Look, style: Style) -> (char, Style) {
    match (look.colors, look.marks, style.bg) {
        (Colors::None, Marks::Unicode, _) => ('┣', style),
        (Colors::None, Marks::Ascii, _) => ('[', style),
        (Colors::Sixteen, marks, _) => (if marks == Marks::Unicode { '▏' } else { '|' }, style),
        (_, marks, Some(ground)) => {
            let sign = if marks == Marks::Unicode { '▏' } else { '|' };
            (sign, style.fg(look.blend(ground, look.ground(), 0.55)))
        }
        (_, _, None) => (' ', style),
    }
}

/// Lines over an estimate, between its colour and that of its text.
fn hatch(look: Look, style: Style) -> Style {
    let ground = style.bg.map(crate::tui::palette::rgb_of);
    match (style.fg, ground) {
        (Some(fg), Some(ground)) => style.fg(look.blend(fg, ground, 0.55)),
        _ => style,
    }
}

/// Name at the left, length at the right where there is room for it.
fn write(depth: &Depth<'_>, run: Run, slice: &Slice, (edge, tail): (u16, u16), style: Style, buffer: &mut Buffer) {
    let look = depth.row.look;
    let room = (run.to - run.from).saturating_sub(edge + tail);
    let thin = style.bg.is_none_or(|bg| bg == Color::Reset) && look.colors != Colors::None;
    // A thin line is seen on both sides of its name.
    let (from, room) = if thin { (run.from + 1, room.saturating_sub(2)) } else { (run.from + edge, room) };
    if usize::from(room) < NAME_LEAST {
        return;
    }
    let name = depth.row.state.scene.trace.text(slice.name);
    let head: String = name.chars().take(usize::from(room) + 1).collect();
    let name = plain(&head);
    if usize::from(room) < pen::columns(&name).min(NAME_LEAST + 1) {
        return;
    }
    let text = match (thin, look.colors) {
        (true, _) => style.patch(look.faint()),
        (_, Colors::None) => style.add_modifier(Modifier::BOLD),
        _ => style,
    };
    let at = |column: u16| (depth.row.area.x + column, depth.row.area.y);
    let end = pen::put(buffer, at(from), room, &name, text, look) - depth.row.area.x;
    let left = (from + room).saturating_sub(end);
    let length = human::seconds(slice.dur_ns as f64 / 1e9);
    let wide = length.len() as u16;
    if left >= wide + 4 {
        let style = if thin { text } else { hatch_text(look, style) };
        pen::put(buffer, at(from + room - wide), wide, &length, style, look);
    }
}

/// The length steps back behind the name.
fn hatch_text(look: Look, style: Style) -> Style {
    match (style.fg, style.bg) {
        (Some(fg), Some(bg)) if look.colors != Colors::None => {
            style.fg(look.blend(fg, crate::tui::palette::rgb_of(bg), 0.25))
        }
        _ => style,
    }
}
