//! The first line: what is shown, how much of it, and how the capture goes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::pen;
use crate::tui::palette::{Colors, Look};
use crate::tui::scene::{NodeId, NodeKind};
use crate::tui::state::{Live, State};
use crate::view::human;
use crate::view::text::plain;

/// Of more tracks or processes than this, nothing is added up on every frame.
const COUNTED: usize = 20_000;

/// Draws the title: what it is at the left, how the capture goes at the right.
pub fn draw(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let bar = look.bar();
    buffer.set_style(area, bar);
    let news = news(state, look);
    let wide: usize = news.iter().map(|(text, _)| pen::columns(text)).sum();
    let from = area.right().saturating_sub(wide as u16 + 1).max(area.x + area.width / 3);
    let right = Rect { x: from, width: area.right() - from, ..area };
    let left = Rect { width: (from - area.x).saturating_sub(1), ..area };
    let mut x = pen::put(buffer, (left.x, left.y), left.width, " ", bar, look);
    for (i, text) in what(state, look).iter().enumerate() {
        let room = left.right().saturating_sub(x);
        let whole = pen::columns(text) + 3;
        if i > 0 && usize::from(room) < whole {
            break;
        }
        let style = if i == 0 { bar.patch(look.strong()) } else { bar };
        if i > 0 {
            x = pen::put(buffer, (x, left.y), room, " · ", bar, look);
        }
        x = pen::put(buffer, (x, left.y), left.right().saturating_sub(x), text, style, look);
    }
    let news: Vec<(String, Style)> = news.into_iter().map(|(text, style)| (text, bar.patch(style))).collect();
    pen::line(buffer, right, &news, look);
}

/// Name, length, what is in it; what matters most comes first.
fn what(state: &State, look: Look) -> Vec<String> {
    let time = |ns: u64| human::seconds(ns as f64 / 1e9);
    let trace = &state.scene.trace;
    let bounds = state.bounds();
    let mut pieces = vec![plain(&state.title)];
    if state.view == bounds {
        pieces.push(time(bounds.len_ns()));
    } else {
        let of = look.sign('/', '/');
        pieces.push(format!("{} {of} {}", time(state.view.len_ns()), time(bounds.len_ns())));
    }
    let roots = &state.scene.tree.roots;
    let is_rank = |id: &&NodeId| state.scene.tree.get(**id).is_some_and(|n| matches!(n.kind, NodeKind::Rank(_)));
    let ranks = if roots.len() <= COUNTED { roots.iter().filter(is_rank).count() } else { 0 };
    if ranks > 1 {
        pieces.push(human::plural(ranks as u64, "rank", "ranks"));
    }
    pieces.push(human::plural(trace.processes.len() as u64, "process", "processes"));
    pieces.push(human::plural(trace.threads.len() as u64, "thread", "threads"));
    if trace.tracks.len() <= COUNTED {
        pieces.push(human::plural(trace.slice_count() as u64, "slice", "slices"));
    }
    pieces
}

/// How the capture goes or went, in pieces.
fn news(state: &State, look: Look) -> Vec<(String, Style)> {
    let mut pieces: Vec<(String, Style)> = Vec::new();
    let mut add = |text: String, style: Style| {
        if !pieces.is_empty() {
            pieces.push(("  ".to_owned(), Style::new()));
        }
        pieces.push((text, style));
    };
    if state.filter.is_on() {
        add("filter on".to_owned(), on_bar(look, look.accent()));
    }
    let (lost, overhead, thinned) = match &state.live {
        Some(live) => {
            let (text, style) = phase(live, look);
            add(text, style);
            (live.lost, Some(live.overhead), live.thinned.len())
        }
        None => match &state.scene.trace.meta {
            Some(meta) => (meta.lost.total(), Some(meta.overhead_share), meta.thinned.len()),
            None => (0, None, 0),
        },
    };
    if lost > 0 {
        add(format!("lost {}", human::count(lost)), on_bar(look, look.bad()));
    }
    if thinned > 0 {
        add(format!("thinned {thinned}"), on_bar(look, look.warn()));
    }
    if let Some(overhead) = overhead.filter(|share| *share > 0.0) {
        add(format!("overhead {}", human::percent(overhead)), Style::new());
    }
    pieces
}

fn phase(live: &Live, look: Look) -> (String, Style) {
    let length = human::seconds((live.elapsed_ns as f64 / 1e9 * 10.0).round() / 10.0);
    let dot = look.sign('●', '*');
    match (live.ended, live.follows) {
        (true, _) => (format!("ended {length}"), on_bar(look, look.good())),
        (false, true) => (format!("{dot} REC {length}"), on_bar(look, look.bad())),
        (false, false) => (format!("{dot} REC {length}, view frozen"), on_bar(look, look.warn())),
    }
}

/// A loud colour as it can be read on the bar.
fn on_bar(look: Look, style: Style) -> Style {
    if look.colors == Colors::Sixteen { look.strong() } else { style }
}
