//! Counters as bars that reach their maximum in the view.

use ratatui::buffer::Buffer;
use ratatui::style::Style;

use super::Row;
use crate::trace::{CounterSample, TrackId};
use crate::tui::palette::Marks;
use crate::tui::scene::{DISK, NETWORK, RUNNING};
use crate::tui::state::State;
use crate::tui::view::pen;
use crate::view::human;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const BARS_ASCII: [char; 5] = ['_', '.', '-', '+', '#'];
/// Samples looked at in one cell; of more, some are passed over.
const LOOKED_AT: usize = 512;

/// Draws a counter.
pub fn draw(row: &Row<'_>, track: TrackId, buffer: &mut Buffer) {
    let Some(samples) = samples(row.state, track) else { return };
    let most = maximum(row.state, track).unwrap_or(0.0);
    let name = row.state.scene.trace.tracks.get(track.0 as usize).map_or("", |t| row.state.scene.trace.text(t.name));
    let class = match name {
        "read" | "write" => DISK,
        "sent" | "received" => NETWORK,
        _ => RUNNING,
    };
    let style = Style::new().fg(row.look.class(class));
    for column in 0..row.area.width {
        let (from, to) = row.stretch(column);
        let Some(value) = highest(samples, from, to).filter(|value| *value > 0.0) else { continue };
        let signs: &[char] = if row.look.marks == Marks::Unicode { &BARS } else { &BARS_ASCII };
        let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
        let at = ((share * signs.len() as f64).ceil() as usize).clamp(1, signs.len()) - 1;
        pen::sign(buffer, (row.area.x + column, row.area.y), signs[at], style);
    }
}

fn samples(state: &State, track: TrackId) -> Option<&[CounterSample]> {
    state.scene.trace.tracks.get(track.0 as usize).map(|track| track.counters.as_slice())
}

/// The highest value in a stretch: of the samples in it and of the one before it.
fn highest(samples: &[CounterSample], from_ns: u64, to_ns: u64) -> Option<f64> {
    let first = samples.partition_point(|sample| sample.ts_ns <= from_ns).saturating_sub(1);
    let last = samples.partition_point(|sample| sample.ts_ns < to_ns).max(first);
    let pick = ((last - first) / LOOKED_AT).max(1);
    let values = samples[first..last].iter().step_by(pick).map(|sample| sample.value);
    values.filter(|value| value.is_finite()).reduce(f64::max)
}

/// The highest value in the view.
pub fn maximum(state: &State, track: TrackId) -> Option<f64> {
    highest(samples(state, track)?, state.view.from_ns, state.view.to_ns)
}

/// A counter's value with its unit, as far as its name tells one.
pub fn words(name: &str, value: f64) -> String {
    match name {
        "cpu" => format!("{value:.0} %"),
        "read" | "write" | "sent" | "received" => format!("{}/s", human::bytes(value.max(0.0) as u64)),
        _ if name.contains('%') => format!("{value:.0} %"),
        _ if value.abs() >= 1000.0 => human::count(value.abs() as u64),
        _ => format!("{value:.1}"),
    }
}
