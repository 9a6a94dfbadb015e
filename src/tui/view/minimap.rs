//! The whole recording, small: where it is busy and with what, which part is in view, which
//! steps are long, where probes were thinned.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::{body, pen};
use crate::analyze::Category;
use crate::trace::{Cell, Class, Layer, TrackId};
use crate::tui::palette::{Colors, Look, Marks};
use crate::tui::scene::{IDLE, NodeKind, Window};
use crate::tui::state::State;
use crate::view::human;

/// Tracks looked at while the judge has not spoken.
const TRACKS: usize = 8;
/// Outliers marked, the worst of all: more would tell nothing.
const MARKED: usize = 10;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const BARS_ASCII: [char; 4] = ['.', ':', '+', '#'];

/// What a column of the map shows: how busy, with what.
#[derive(Debug, Clone, Copy, Default)]
struct Activity {
    share: f64,
    class: Class,
}

/// Draws the map, and its labels left of it.
pub fn draw(state: &State, look: Look, area: Rect, labels: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let map = activity(state, area.width);
    let whole = state.view == state.bounds();
    let seen = columns_of(state, state.view, area.width);
    for (column, activity) in (0..area.width).zip(&map) {
        let inside = whole || seen.contains(&column);
        column_of_map(look, area, column, *activity, inside, buffer);
    }
    let top = area.y;
    for thinned in state.scene.trace.meta.iter().flat_map(|meta| &meta.thinned) {
        if state.bounds().holds(thinned.ts_ns) {
            let at = columns_of(state, Window::new(thinned.ts_ns, thinned.ts_ns + 1), area.width).start;
            pen::sign(buffer, (area.x + at, top), look.sign('×', 'x'), look.warn());
        }
    }
    for outlier in state.scene.worst_outliers().take(MARKED) {
        let columns = columns_of(state, outlier.window, area.width);
        let at = (columns.start + columns.end.saturating_sub(1)) / 2;
        pen::sign(buffer, (area.x + at, top), look.sign('▾', '!'), look.bad());
    }
    if !whole {
        let y = area.bottom() - 1;
        let accent = look.accent();
        for y in area.top()..=y {
            pen::sign(buffer, (area.x + seen.start, y), look.sign('▐', '['), accent);
            if seen.end > seen.start + 1 {
                pen::sign(buffer, (area.x + seen.end - 1, y), look.sign('▌', ']'), accent);
            }
        }
    }
    let text = Rect { y: area.y, height: 1, ..labels };
    let length = human::seconds(state.bounds().len_ns() as f64 / 1e9);
    pen::line(buffer, text, &[(format!(" all {length}"), look.faint())], look);
    if area.height > 1 {
        legend(state, look, Rect { y: area.y + 1, ..text }, buffer);
    }
}

/// What the marks are.
fn legend(state: &State, look: Look, row: Rect, buffer: &mut Buffer) {
    let mut pieces = Vec::new();
    let outliers = state.scene.outliers().len();
    if outliers > 0 {
        pieces.push((format!(" {}", look.sign('▾', '!')), look.bad()));
        pieces.push((format!("{outliers} long"), look.faint()));
    }
    let thinned = state.scene.trace.meta.as_ref().map_or(0, |meta| meta.thinned.len());
    if thinned > 0 {
        pieces.push((format!(" {}", look.sign('×', 'x')), look.warn()));
        pieces.push((format!("{thinned} thinned"), look.faint()));
    }
    pen::line(buffer, row, &pieces, look);
}

/// Columns of the whole recording that a window touches; at least one.
fn columns_of(state: &State, window: Window, width: u16) -> std::ops::Range<u16> {
    let bounds = state.bounds();
    let column = |ts: u64| {
        let at = u128::from(ts.clamp(bounds.from_ns, bounds.to_ns - 1) - bounds.from_ns) * u128::from(width);
        (at / u128::from(bounds.len_ns())) as u16
    };
    column(window.from_ns)..(column(window.to_ns - 1) + 1).min(width)
}

fn column_of_map(look: Look, area: Rect, column: u16, activity: Activity, inside: bool, buffer: &mut Buffer) {
    if activity.share <= 0.0 {
        return;
    }
    let signs: &[char] = if look.marks == Marks::Unicode { &BARS } else { &BARS_ASCII };
    let steps = signs.len() * usize::from(area.height);
    let height = ((activity.share.min(1.0) * steps as f64).ceil() as usize).max(1);
    let color = look.class(activity.class);
    let color = if inside { color } else { look.blend(color, look.ground(), 0.65) };
    let style = match (look.colors, inside) {
        (Colors::Sixteen, false) => Style::new().fg(Color::DarkGray),
        _ => Style::new().fg(color),
    };
    for row in 0..area.height {
        let from_foot = usize::from(area.height - 1 - row) * signs.len();
        let Some(level) = height.checked_sub(from_foot).filter(|level| *level > 0) else { continue };
        pen::sign(buffer, (area.x + column, area.y + row), signs[level.min(signs.len()) - 1], style);
    }
}

/// How busy the recording is: what the judge says of the driving threads; before, the rows that
/// tell most.
fn activity(state: &State, width: u16) -> Vec<Activity> {
    let bounds = state.bounds();
    let edge = |c: u16| bounds.from_ns + (u128::from(bounds.len_ns()) * u128::from(c) / u128::from(width)) as u64;
    let drivers: Vec<_> = state.scene.steps.iter().take(64).collect();
    if drivers.is_empty() {
        return of_tracks(state, width);
    }
    (0..width)
        .map(|column| {
            let (from, to) = (edge(column), edge(column + 1).max(edge(column) + 1));
            let mut sum = [0u64; Category::ALL.len()];
            for driver in &drivers {
                for (total, ns) in sum.iter_mut().zip(driver.phases.shares(from, to)) {
                    *total += ns;
                }
            }
            let busy = |c: &Category| *c != Category::Idle;
            let most = Category::ALL.into_iter().filter(busy).max_by_key(|c| sum[*c as usize]);
            let active: u64 = Category::ALL.into_iter().filter(busy).map(|c| sum[c as usize]).sum();
            let share = active as f64 / ((to - from) as f64 * drivers.len() as f64);
            Activity { share, class: most.map_or(IDLE, body::class_of_category) }
        })
        .collect()
}

/// The mean of the rows that tell most: the busiest threads' states, else their first depth.
fn of_tracks(state: &State, width: u16) -> Vec<Activity> {
    let bounds = state.bounds();
    let tree = &state.scene.tree;
    let telling = tree.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Rank(_) | NodeKind::Process(_)));
    let tracks: Vec<TrackId> = telling.filter_map(|node| node.telling).take(TRACKS).collect();
    let mut map = vec![Activity::default(); usize::from(width)];
    let mut strongest = vec![0u64; usize::from(width)];
    let mut cells: Vec<Cell> = Vec::new();
    for id in &tracks {
        let (Some(index), Some(track)) =
            (state.scene.index.get(id.0 as usize), state.scene.trace.tracks.get(id.0 as usize))
        else {
            continue;
        };
        index.cells(track, 0, bounds.from_ns, bounds.to_ns, usize::from(width), &mut cells);
        for (column, cell) in cells.iter().enumerate().filter(|(_, cell)| cell.count > 0) {
            let waits = track.layer == Layer::Sched && cell.class == IDLE;
            let busy = if waits { 0 } else { cell.busy_ns.max(1) };
            let share = busy as f64 * f64::from(width) / bounds.len_ns() as f64 / tracks.len() as f64;
            map[column].share += share;
            if busy > strongest[column] {
                strongest[column] = busy;
                map[column].class = cell.class;
            }
        }
    }
    map
}
