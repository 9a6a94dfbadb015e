//! The table of names: a heading in the bar, a row a name.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use super::paint;
use crate::tui::palette::Look;
use crate::tui::panel::{NameRow, PanelLine, Sort, Tone};
use crate::tui::state::State;
use crate::view::human;
use crate::view::text::plain;

/// Right of the name: heading, width, and what sorts by it.
const COLUMNS: [(&str, usize, Option<Sort>); 8] = [
    ("LAYER", 8, None),
    ("COUNT", 10, Some(Sort::Count)),
    ("TOTAL", 9, Some(Sort::Total)),
    ("SELF", 9, Some(Sort::Own)),
    ("P50", 9, Some(Sort::Median)),
    ("P99", 9, Some(Sort::High)),
    ("MAX", 9, Some(Sort::Max)),
    ("SHARE", 7, None),
];
/// Names have at least so many cells, however narrow the screen.
const LEAST_NAME: usize = 14;
/// Columns that go first where there is no room: the layer, the median, the longest, the total.
const GO: [usize; 4] = [0, 4, 6, 2];

/// Draws the table; the chosen row is kept in view.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let (rows, whole) = state.table();
    let width = usize::from(area.width);
    let mut shown: Vec<usize> = (0..COLUMNS.len()).collect();
    let room = |shown: &[usize]| width.saturating_sub(shown.iter().map(|c| COLUMNS[*c].1).sum::<usize>() + 1);
    for gone in GO {
        if room(&shown) < LEAST_NAME {
            shown.retain(|c| *c != gone);
        }
    }
    let name = room(&shown).max(LEAST_NAME.min(width));
    heading(state, look, &shown, name, whole, Rect { height: 1, ..area }, buffer);
    let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let height = usize::from(below.height);
    if rows.is_empty() && height > 0 {
        let words = if whole { " nothing ran here that is not filtered out" } else { " adding up…" };
        paint::line(&PanelLine::of(Tone::Faint, words), look, below, buffer);
    }
    let (chosen, top) = scrolled(state, rows.len(), height);
    for ((i, row), y) in rows.iter().enumerate().skip(top).zip(below.top()..below.bottom()) {
        let place = Rect { y, height: 1, ..below };
        paint::line(&cells(state, row, &shown, name), look, place, buffer);
        if state.panel_focus && i == chosen {
            buffer.set_style(place.intersection(buffer.area), look.chosen());
        }
    }
}

/// The chosen row, and the first shown.
fn scrolled(state: &State, rows: usize, height: usize) -> (usize, usize) {
    let chosen = state.panel_row.min(rows.saturating_sub(1));
    (chosen, (chosen + 1).saturating_sub(height))
}

/// The row at a place.
pub fn row_at(state: &State, area: Rect, at: Position) -> Option<usize> {
    let rows = state.table().0.len();
    let (_, top) = scrolled(state, rows, usize::from(area.height.saturating_sub(1)));
    let row = top + usize::from(at.y.checked_sub(area.y + 1)?);
    (row < rows).then_some(row)
}

fn heading(state: &State, look: Look, shown: &[usize], name: usize, whole: bool, area: Rect, buffer: &mut Buffer) {
    let sort = state.work.sort();
    let mark = |of: Option<Sort>| if of == Some(sort) { look.sign('▾', 'v').to_string() } else { String::new() };
    let tone = |of: Option<Sort>| if of == Some(sort) { Tone::Strong } else { Tone::Faint };
    let more = if whole { "" } else { " …" };
    let title = format!(" NAME{}{more}", mark(Some(Sort::Name)));
    let mut line = PanelLine::of(tone(Some(Sort::Name)), format!("{title:<name$} "));
    for (text, width, of) in shown.iter().map(|c| COLUMNS[*c]) {
        line = line.with(tone(of), format!("{:>width$}", format!("{text}{}", mark(of))));
    }
    paint::line(&line, look, area, buffer);
}

fn cells(state: &State, row: &NameRow, shown: &[usize], name: usize) -> PanelLine {
    let time = |ns: u64| human::seconds(ns as f64 / 1e9);
    let length = state.work.range_window().map_or(1, |w| w.len_ns()) as f64;
    let class = state.scene.classes.get(row.name.0 as usize).copied().unwrap_or_default();
    let quantiles = row.durations.quantiles();
    let look = |column: usize| match column {
        0 => {
            if row.layer == crate::trace::Layer::Sched {
                "cpu".to_owned()
            } else {
                row.layer.name().to_owned()
            }
        }
        1 => human::count(row.count),
        2 => time(row.total_ns),
        3 => time(row.self_ns),
        4 => quantiles.map_or_else(|| "…".to_owned(), |q| time(q.0)),
        5 => quantiles.map_or_else(|| "…".to_owned(), |q| time(q.1)),
        6 => time(row.durations.max_ns),
        _ => human::percent(row.self_ns as f64 / length),
    };
    let text = plain(state.scene.trace.text(row.name));
    let text = crate::view::text::shorten(&text, name.saturating_sub(3), true);
    let used = unicode_width::UnicodeWidthStr::width(text.as_str());
    let pad = " ".repeat(name.saturating_sub(2 + used) + 1);
    let mut line = PanelLine::of(Tone::Class(class), "■ ").with(Tone::Plain, text + &pad);
    for column in shown {
        let width = COLUMNS[*column].1;
        let tone = if matches!(column, 0 | 1) { Tone::Faint } else { Tone::Plain };
        line = line.with(tone, format!("{:>width$}", look(*column)));
    }
    line
}
