//! The rulers: time with round ticks, then steps with their numbers.

use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::layout::column_of;
use super::pen;
use crate::analyze::StepTimes;
use crate::tui::palette::Look;
use crate::tui::state::State;
use crate::view::human;

/// Columns between ticks, at least.
const APART: u64 = 13;

/// Draws both rulers, and their labels left of them.
pub fn draw(state: &State, look: Look, area: Rect, labels: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let text = Rect { y: area.y, height: 1, ..labels };
    let base = time(state, look, Rect { height: 1, ..area }, buffer);
    pen::line(buffer, text, &[(base, look.faint())], look);
    if area.height > 1 {
        steps(state, look, Rect { y: area.y + 1, height: 1, ..area }, Rect { y: area.y + 1, ..text }, buffer);
    }
}

/// The smallest of 1, 2, 5, 10, 20, 50, … that is at least `least`.
fn round_up(least: u64) -> u64 {
    let mut power = 1u64;
    loop {
        for factor in [1, 2, 5] {
            match power.checked_mul(factor) {
                Some(step) if step >= least => return step,
                Some(_) => {}
                None => return u64::MAX,
            }
        }
        match power.checked_mul(10) {
            Some(next) => power = next,
            None => return u64::MAX,
        }
    }
}

/// A moment as the ruler says it: in the unit that fits `largest`, with the digits `step` needs.
fn moment(ns: u64, step: u64, largest: u64) -> String {
    let (unit, name) = match largest {
        0..=999 => (1u64, "ns"),
        1_000..=999_999 => (1_000, "us"),
        1_000_000..=999_999_999 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let mut decimals = 0;
    let mut scale = unit;
    while scale > step && !step.is_multiple_of(scale) {
        scale /= 10;
        decimals += 1;
    }
    let whole = ns / unit;
    if decimals == 0 {
        return format!("{whole} {name}");
    }
    let fraction = ns % unit * 10u64.pow(decimals) / unit;
    format!("{whole}.{fraction:0width$} {name}", width = decimals as usize)
}

/// The ticks; returns what the label at the left says.
fn time(state: &State, look: Look, area: Rect, buffer: &mut Buffer) -> String {
    let (view, origin) = (state.view, state.bounds().from_ns);
    let (from, to) = (view.from_ns - origin, view.to_ns - origin);
    let ticks = u64::from(area.width) / APART;
    let step = round_up((view.len_ns() / ticks.max(1)).max(1));
    // Deep inside a long recording, ticks count from a round moment near the view.
    let base = if from / step < 1000 { 0 } else { from / step.saturating_mul(100) * step.saturating_mul(100) };
    let said = |ns: u64, step: u64| {
        let sign = if base > 0 { "+" } else { "" };
        format!("{sign}{}", moment(ns.saturating_sub(base), step, to - base))
    };
    let cursor = cursor(state, look, area, &said(state.cursor_ns.saturating_sub(origin), (step / 100).max(1)), buffer);
    let mut tick = from.div_ceil(step).saturating_mul(step);
    let mut free = area.x;
    while tick < to {
        let Some(column) = column_of(state, origin + tick, area.width) else { break };
        let text = said(tick, step);
        let (x, end) = (area.x + column, area.x + column + 1 + text.len() as u16);
        if x >= free && (end < cursor.start || x > cursor.end) {
            pen::sign(buffer, (x, area.y), look.sign('│', '|'), look.faint());
            if end <= area.right() {
                free = pen::put(buffer, (x + 1, area.y), end - x, &text, look.faint(), look) + 1;
            }
        }
        let Some(next) = tick.checked_add(step) else { break };
        tick = next;
    }
    marks(state, look, area, buffer);
    if base > 0 {
        return format!(" {} +", moment(base, step, base));
    }
    clock(state).map_or_else(|| " time".to_owned(), |clock| format!(" {clock}"))
}

/// The cursor and the moment it is at; returns the columns they take.
fn cursor(state: &State, look: Look, area: Rect, text: &str, buffer: &mut Buffer) -> Range<u16> {
    let Some(column) = column_of(state, state.cursor_ns, area.width) else { return 0..0 };
    let (x, wide) = (area.x + column, text.len() as u16);
    let style = look.accent();
    pen::sign(buffer, (x, area.y), look.sign('▼', 'v'), style);
    if x + 1 + wide <= area.right() {
        pen::put(buffer, (x + 1, area.y), wide, text, style, look);
        return x..x + 1 + wide;
    }
    let from = x.saturating_sub(wide);
    if from >= area.x {
        pen::put(buffer, (from, area.y), wide, text, style, look);
        return from..x + 1;
    }
    x..x + 1
}

/// The range, and thinned probes where there is room.
fn marks(state: &State, look: Look, area: Rect, buffer: &mut Buffer) {
    let (view, width) = (state.view, area.width);
    if let Some(range) = state.range.filter(|r| r.from_ns < view.to_ns && r.to_ns > view.from_ns) {
        let column = |ts: u64| column_of(state, ts.clamp(view.from_ns, view.to_ns - 1), width).unwrap_or(0);
        let (first, last) = (column(range.from_ns), column(range.to_ns - 1));
        let style = look.accent();
        for c in first..=last {
            pen::sign(buffer, (area.x + c, area.y), look.sign('━', '='), style);
        }
        pen::sign(buffer, (area.x + first, area.y), look.sign('┣', '['), style);
        pen::sign(buffer, (area.x + last, area.y), look.sign('┫', ']'), style);
        let text = format!(" {} ", human::seconds(range.len_ns() as f64 / 1e9));
        let wide = pen::columns(&text) as u16;
        if last - first > wide + 2 {
            let x = area.x + first + (last - first - wide) / 2;
            pen::put(buffer, (x, area.y), wide, &text, style, look);
        }
    }
    for thinned in state.scene.trace.meta.iter().flat_map(|meta| &meta.thinned) {
        if let Some(column) = column_of(state, thinned.ts_ns, width) {
            let at = (area.x + column, area.y);
            if buffer.cell(at).is_some_and(|cell| matches!(cell.symbol(), " " | "│" | "|")) {
                pen::sign(buffer, at, look.sign('×', 'x'), look.warn());
            }
        }
    }
}

/// Wall clock of the view's start, UTC, where the recording knows its own.
fn clock(state: &State) -> Option<String> {
    let meta = state.scene.trace.meta.as_ref()?;
    // RFC 3339: 2026-05-04T10:20:30.5Z
    let time = meta.started_at.split('T').nth(1)?;
    let mut parts = time.get(..8)?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let fraction: String =
        time.get(8..)?.strip_prefix('.').unwrap_or("0").chars().take_while(char::is_ascii_digit).collect();
    let ms = format!("{fraction:0<3}").get(..3)?.parse::<u64>().ok()?;
    let start_ms = ((hour * 60 + minute) * 60 + second) * 1000 + ms;
    let after_ms = state.view.from_ns.checked_sub(meta.start_ns)? / 1_000_000;
    let at = (start_ms + after_ms) % 86_400_000;
    let (second, ms) = (at / 1000, at % 1000);
    Some(format!("{:02}:{:02}:{:02}.{ms:03}", second / 3600, second / 60 % 60, second % 60))
}

/// The steps that the ruler counts: those of the chosen line's process, else the first there are.
fn counted(state: &State) -> Option<&StepTimes> {
    let mut node = state.lines.get(state.line).map(|line| line.node);
    while let Some(at) = node.and_then(|id| state.scene.tree.get(id)) {
        if let Some(steps) = state.scene.driver(at).filter(|steps| steps.boundaries_ns.len() > 1) {
            return Some(steps);
        }
        node = at.parent;
    }
    state.scene.steps.iter().find(|steps| steps.boundaries_ns.len() > 1)
}

/// Numbers of the steps, where each begins; every so many where they are dense.
fn steps(state: &State, look: Look, area: Rect, label: Rect, buffer: &mut Buffer) {
    let Some(steps) = counted(state) else { return };
    let (view, bounds) = (state.view, &steps.boundaries_ns);
    let first = bounds.partition_point(|ts| *ts <= view.from_ns).saturating_sub(1);
    let last = bounds.partition_point(|ts| *ts < view.to_ns);
    let whose = steps.rank.map(|rank| format!(" of rank {rank}")).unwrap_or_default();
    pen::line(buffer, label, &[(format!(" steps{whose}"), look.faint())], look);
    let digits = last.max(1).to_string().len() as u64;
    let shown = (last - first).max(1) as u64;
    let every = round_up(((digits + 3) * shown).div_ceil(u64::from(area.width))) as usize;
    let driver = state.scene.steps.iter().position(|s| std::ptr::eq(s, steps));
    let long = |step: usize| {
        state.scene.outliers().iter().any(|o| Some(o.driver) == driver && o.outlier.step == Some(step as u32 + 1))
    };
    let many = state.scene.outliers().len() > 1000;
    for step in first..last {
        let ends = step + 1 >= bounds.len();
        let begin = bounds[step].max(view.from_ns);
        let Some(column) = column_of(state, begin, area.width) else { continue };
        let numbered = every <= 1 || (step + 1).is_multiple_of(every);
        if !numbered && shown * 3 > u64::from(area.width) {
            continue;
        }
        let at = (area.x + column, area.y);
        if bounds[step] >= view.from_ns {
            pen::sign(buffer, at, look.sign('│', '|'), look.faint());
        }
        if numbered && !ends {
            let style = if !many && long(step) { look.bad() } else { Style::new() };
            let room = area.right().saturating_sub(at.0 + 1);
            pen::put(buffer, (at.0 + 1, at.1), room, &format!("{}", step + 1), style, look);
        }
    }
    for outlier in state.scene.outliers().iter().filter(|o| Some(o.driver) == driver && o.outlier.step.is_some()) {
        let middle = outlier.window.from_ns + outlier.window.len_ns() / 2;
        let Some(column) = column_of(state, middle, area.width) else { continue };
        let at = (area.x + column, area.y);
        if buffer.cell(at).is_some_and(|cell| !cell.symbol().starts_with(|c: char| c.is_ascii_digit())) {
            pen::sign(buffer, at, look.sign('▲', '!'), look.bad());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!([1, 2, 3, 6, 11, 70, 101, 7_000_000].map(round_up), [1, 2, 5, 10, 20, 100, 200, 10_000_000]);
        assert_eq!(round_up(u64::MAX), u64::MAX);
        assert_eq!(moment(1_250_000_000, 50_000_000, 4_000_000_000), "1.25 s");
        assert_eq!(moment(1_000_000_000, 1_000_000_000, 4_000_000_000), "1 s");
        assert_eq!(moment(20_000, 10_000, 900_000), "20 us");
        assert_eq!(moment(1_500, 500, 9_500), "1.5 us");
        assert_eq!(moment(7, 1, 100), "7 ns");
        assert_eq!(moment(12_000_000_000, 2_000_000_000, 40_000_000_000), "12 s");
    }
}
