//! A depth of a track. A cell under one slice belongs to that slice's run; a cell under many is a
//! bar as high as they are busy, in the colour of the class that has most of the time.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

use super::Row;
use super::runs::{self, Run, is_thin};
use crate::trace::{CLASSES, Cell, Class, Flags, Slice, StrId, Track, TrackId, TrackIndex};
use crate::tui::palette::{Colors, Marks};
use crate::tui::scene::{IDLE, LOCK, SliceRef, Window};
use crate::tui::view::pen;

/// Eighths of a cell, from its left edge.
const LEFT: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
/// Eighths of a cell, from its foot; never all of it, which is for a single slice.
const FOOT: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];
const FOOT_ASCII: [char; 4] = ['.', ':', '+', '#'];

/// Waiting for a lock for so much of a cell's time is shown, whatever else is in it.
const HAZE_SHARE: f64 = 0.5;

/// Hits of the search looked at in one cell.
const HITS_LOOKED_AT: usize = 256;

/// A slice that takes so much of a cell shows its own colour, however many small ones there are.
const OWN_SHARE: f64 = 0.34;

/// The row of one depth.
pub(super) struct Depth<'a> {
    pub row: &'a Row<'a>,
    pub index: &'a TrackIndex,
    pub track: &'a Track,
    pub id: TrackId,
    pub depth: usize,
    /// Name of the selected slice: others of the name are marked.
    pub named: Option<StrId>,
    /// A search is on: what it did not find steps back.
    pub searched: bool,
}

/// Draws a depth of a track.
pub fn draw(row: &Row<'_>, id: TrackId, depth: u16, cells: &mut Vec<Cell>, buffer: &mut Buffer) {
    let scene = &row.state.scene;
    let found = (scene.index.get(id.0 as usize), scene.trace.tracks.get(id.0 as usize));
    let (Some(index), Some(track)) = found else { return };
    let (view, width) = (row.state.view, row.area.width);
    let depth = usize::from(depth);
    index.cells(track, depth, view.from_ns, view.to_ns, usize::from(width), cells);
    let named = row.state.selected.and_then(|at| scene.slice(at)).map(|slice| slice.name);
    let searched = row.state.search.as_ref().is_some_and(|search| !search.hits.is_empty());
    let depth = Depth { row, index, track, id, depth, named, searched };
    let mut column = 0;
    while column < width {
        let Some(cell) = cells.get(usize::from(column)).filter(|cell| cell.count > 0) else {
            column += 1;
            continue;
        };
        if !depth.is_whole(column, cell) {
            depth.one(column, cell, buffer);
            column += 1;
            continue;
        }
        let from = column;
        while cells.get(usize::from(column)).is_some_and(|c| c.longest == cell.longest && depth.is_whole(column, c)) {
            column += 1;
        }
        runs::draw(&depth, Run { from, to: column, index: cell.longest }, buffer);
    }
    depth.mark_selected(buffer);
}

impl Depth<'_> {
    /// One slice takes the whole cell.
    fn is_whole(&self, column: u16, cell: &Cell) -> bool {
        let (from, to) = self.row.stretch(column);
        cell.count == 1 && cell.busy_ns >= to - from
    }

    pub fn slice(&self, index: u32) -> Option<&Slice> {
        self.track.slices.get(index as usize)
    }

    pub fn class(&self, slice: &Slice) -> Class {
        self.row.state.scene.classes.get(slice.name.0 as usize).copied().unwrap_or_default()
    }

    /// A slice's shade: its name's, and a little by whether it is an odd or an even one.
    pub fn shade(&self, index: u32, slice: &Slice) -> i8 {
        let name = (slice.name.0.wrapping_mul(0x9e37_79b1) >> 16) % 3;
        let place = self.index.row(self.depth).binary_search(&index).unwrap_or(0);
        2 * (name as i8 - 1) + (place & 1) as i8
    }

    /// Whether the search found a slice.
    fn is_hit(&self, index: u32) -> bool {
        let hits = self.row.state.search.as_ref().map(|search| search.hits.as_slice()).unwrap_or_default();
        hits.binary_search_by_key(&(self.id, index), |hit| (hit.track, hit.index)).is_ok()
    }

    /// The first slice of this depth that the search found among those that start in a stretch.
    fn hit_in(&self, from: u64, to: u64) -> Option<u32> {
        let hits = &self.row.state.search.as_ref()?.hits;
        let index = |ts: u64| self.track.slices.partition_point(|slice| slice.start_ns < ts) as u32;
        let at = |index: u32| hits.partition_point(|hit| (hit.track, hit.index) < (self.id, index));
        let found = hits.get(at(index(from))..at(index(to)))?;
        let here = |hit: &&SliceRef| self.slice(hit.index).is_some_and(|slice| usize::from(slice.depth) == self.depth);
        found.iter().take(HITS_LOOKED_AT).find(here).map(|hit| hit.index)
    }

    /// Emphasis of a slice among others, on the style of its cells.
    pub fn emphasis(&self, index: u32, slice: &Slice, style: Style) -> Style {
        let look = self.row.look;
        let mut style = style;
        if self.searched {
            let hit = self.is_hit(index);
            match (look.colors, hit) {
                (Colors::True | Colors::Indexed, false) => {
                    let ground = look.ground();
                    let fade =
                        |color: Option<Color>| color.filter(|c| *c != Color::Reset).map(|c| look.blend(c, ground, 0.6));
                    style = Style { fg: fade(style.fg), bg: fade(style.bg), ..style };
                }
                (Colors::True | Colors::Indexed, true) => style = style.add_modifier(Modifier::BOLD),
                (_, true) => style = style.add_modifier(Modifier::REVERSED | Modifier::BOLD),
                (_, false) => {}
            }
        }
        if self.named == Some(slice.name) {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        style
    }

    /// A cell that no slice has to itself.
    fn one(&self, column: u16, cell: &Cell, buffer: &mut Buffer) {
        let (from, to) = self.row.stretch(column);
        let at = (self.row.area.x + column, self.row.area.y);
        match cell.count {
            1 => self.part(at, from, to, cell, buffer),
            2 if self.boundary(at, from, to, cell, buffer) => {}
            _ => self.many(at, from, to, cell, buffer),
        }
    }

    /// One slice that takes a part of the cell.
    fn part(&self, at: (u16, u16), from: u64, to: u64, cell: &Cell, buffer: &mut Buffer) {
        let look = self.row.look;
        let Some(slice) = self.slice(cell.longest) else { return };
        let class = self.class(slice);
        let style = Style::new().fg(look.shade(class, self.shade(cell.longest, slice)));
        let style = self.emphasis(cell.longest, slice, style);
        if let Some(line) = is_thin(look, class) {
            return pen::sign(buffer, at, line, style);
        }
        let share = cell.busy_ns as f64 / (to - from) as f64;
        let begins_left = slice.start_ns <= from;
        let ends_right = slice.end_ns() >= to;
        if slice.flags.has(Flags::ESTIMATE) {
            return pen::sign(buffer, at, look.sign('╱', '/'), style);
        }
        match (look.marks, look.colors, !begins_left && ends_right) {
            (Marks::Ascii, _, _) => pen::sign(buffer, at, if share >= 0.5 { '#' } else { '|' }, style),
            (_, Colors::None, true) => pen::sign(buffer, at, if share >= 0.3 { '▐' } else { '▕' }, style),
            // The gap at its left is drawn, and both colours change places.
            (_, _, true) => match eighths(1.0 - share) {
                0 => pen::sign(buffer, at, '█', style),
                gap => pen::sign(buffer, at, LEFT[gap - 1], style.add_modifier(Modifier::REVERSED)),
            },
            (_, _, false) => pen::sign(buffer, at, LEFT[eighths(share).max(1) - 1], style),
        }
    }

    /// Where one slice ends and the next begins; false where there is a gap between.
    fn boundary(&self, at: (u16, u16), from: u64, to: u64, cell: &Cell, buffer: &mut Buffer) -> bool {
        let look = self.row.look;
        if u128::from(cell.busy_ns) * 8 < u128::from(to - from) * 7 {
            return false;
        }
        let ends = (self.index.at(self.track, self.depth, from), self.index.at(self.track, self.depth, to - 1));
        let (Some(left), Some(right)) = ends else { return false };
        let (Some(first), Some(next)) = (self.slice(left), self.slice(right)) else { return false };
        if left == right || first.end_ns() > next.start_ns {
            return false;
        }
        let share = first.end_ns().saturating_sub(from) as f64 / (to - from) as f64;
        let color = |index: u32, slice: &Slice| {
            let style = Style::new().bg(look.shade(self.class(slice), self.shade(index, slice)));
            self.emphasis(index, slice, style).bg.unwrap_or(Color::Reset)
        };
        let (a, b) = (color(left, first), color(right, next));
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        match (is_thin(look, self.class(first)), is_thin(look, self.class(next))) {
            (Some(line), Some(_)) => pen::sign(buffer, at, line, Style::new().fg(a)),
            _ if look.marks == Marks::Ascii || look.colors == Colors::None => {
                pen::sign(buffer, at, look.sign('▌', '|'), Style::new());
            }
            (None, Some(_)) => pen::sign(buffer, at, LEFT[eighths(share).max(1) - 1], Style::new().fg(a)),
            (Some(_), None) => pen::sign(buffer, at, LEFT[eighths(share).clamp(1, 7) - 1], reversed.fg(b)),
            (None, None) => pen::sign(buffer, at, LEFT[eighths(share).clamp(1, 7) - 1], Style::new().fg(a).bg(b)),
        }
        true
    }

    /// Many slices: a bar. What idles is no part of its height.
    fn many(&self, at: (u16, u16), from: u64, to: u64, cell: &Cell, buffer: &mut Buffer) {
        let look = self.row.look;
        let times = self.index.class_times(self.track, self.depth, from, to);
        let length = (to - from) as f64;
        let Some(longest) = self.slice(cell.longest) else { return };
        let of = |class: Class| times[usize::from(class.0)];
        let active = cell.busy_ns.saturating_sub(of(IDLE) + of(LOCK));
        let Some(class) = most_active(&times) else {
            let class = if of(LOCK) > of(IDLE) { LOCK } else { IDLE };
            let style = self.emphasis(cell.longest, longest, Style::new().fg(look.class(class)));
            return pen::sign(buffer, at, is_thin(look, class).unwrap_or(' '), style);
        };
        let share = active as f64 / length;
        let inside = longest.end_ns().min(to).saturating_sub(longest.start_ns.max(from)) as f64 / length;
        let own = self.class(longest);
        let shown = if inside >= OWN_SHARE && is_thin(look, own).is_none() { own } else { class };
        let mut style = Style::new().fg(look.class(shown));
        if shown != class && share >= 0.9 && matches!(look.colors, Colors::True | Colors::Indexed) {
            // Both: the long one as a bar, the many behind it.
            style = style.bg(look.class(class));
            let style = self.emphasis(cell.longest, longest, style);
            return pen::sign(buffer, at, bar(look.marks, inside), style);
        }
        if of(LOCK) as f64 >= HAZE_SHARE * length {
            match look.colors {
                // A haze of the lock's colour over the bar of what still gets done.
                Colors::True | Colors::Indexed => style = style.bg(look.blend(look.class(LOCK), look.ground(), 0.75)),
                _ if share < 0.2 => return pen::sign(buffer, at, is_thin(look, LOCK).unwrap_or(' '), style),
                _ => {}
            }
        }
        // A hit among many is shown for all of them.
        let marked = if self.searched { self.hit_in(from, to).unwrap_or(cell.longest) } else { cell.longest };
        style = self.emphasis(marked, self.slice(marked).unwrap_or(longest), style);
        let estimated = u128::from(cell.estimate_ns) * 2 > u128::from(cell.busy_ns);
        let sign = if estimated { look.sign('╱', '/') } else { bar(look.marks, share) };
        pen::sign(buffer, at, sign, style);
    }

    /// The selected slice, wherever on this row it is, even among others in one cell.
    fn mark_selected(&self, buffer: &mut Buffer) {
        let Some(at) = self.row.state.selected.filter(|at| at.track == self.id) else { return };
        let Some(slice) = self.slice(at.index).filter(|s| usize::from(s.depth) == self.depth) else { return };
        let style = self.row.look.selected();
        let window = Window::new(slice.start_ns, slice.end_ns());
        for column in self.row.columns_of(Some(window)) {
            let Some(cell) = buffer.cell_mut((self.row.area.x + column, self.row.area.y)) else { continue };
            let block = cell.symbol().chars().next().is_some_and(|c| LEFT.contains(&c) || FOOT.contains(&c));
            if block && self.row.look.colors != Colors::None {
                cell.set_fg(style.bg.unwrap_or(Color::Reset));
            } else {
                cell.set_style(style);
            }
        }
    }
}

/// The class that has most of the time, besides waiting.
fn most_active(times: &[u64; CLASSES]) -> Option<Class> {
    let waits = [usize::from(IDLE.0), usize::from(LOCK.0)];
    let active = times.iter().enumerate().filter(|(class, ns)| **ns > 0 && !waits.contains(class));
    active.max_by_key(|(class, ns)| (**ns, CLASSES - class)).map(|(class, _)| Class(class as u8))
}

fn eighths(share: f64) -> usize {
    ((share * 8.0).round() as usize).min(8)
}

/// A bar of many slices that take a share of a cell's time; something is always seen.
pub(super) fn bar(marks: Marks, share: f64) -> char {
    let of = |signs: &[char]| {
        let at = (share.clamp(0.0, 1.0) * signs.len() as f64).ceil() as usize;
        signs[at.clamp(1, signs.len()) - 1]
    };
    if marks == Marks::Unicode { of(&FOOT) } else { of(&FOOT_ASCII) }
}
