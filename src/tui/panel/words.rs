//! How the panel says things: times, moments, arguments, places.

use crate::trace::{Arg, Layer, Parent, Trace, TrackId};
use crate::tui::scene::{Scene, SliceRef};
use crate::view::human;
use crate::view::text::plain;

/// A length of time.
pub fn time(ns: u64) -> String {
    human::seconds(ns as f64 / 1e9)
}

/// A moment after the recording's start, to the nanosecond where that matters: "+12.345678 s".
pub fn moment(ns: u64, fine: bool) -> String {
    let (whole, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    if fine { format!("+{whole}.{rest:09} s") } else { format!("+{whole}.{:06} s", rest / 1000) }
}

/// Wall-clock time of a moment, where the recording knows: from our own notes, or because its
/// clock counts from 1970 as PyTorch's does.
pub fn wall_clock(trace: &Trace, ts_ns: u64) -> Option<String> {
    /// 2001: no clock that counts from a machine's start gets there.
    const SINCE_1970: u64 = 1_000_000_000_000_000_000;
    let at = match &trace.meta {
        Some(meta) if !meta.started_at.is_empty() => {
            let start: jiff::Timestamp = meta.started_at.parse().ok()?;
            start.as_nanosecond() + i128::from(ts_ns) - i128::from(meta.start_ns)
        }
        _ if ts_ns >= SINCE_1970 => i128::from(ts_ns),
        _ => return None,
    };
    let at = jiff::Timestamp::from_nanosecond(at).ok()?;
    Some(at.strftime("%Y-%m-%d %H:%M:%S%.6f UTC").to_string())
}

/// "1st", "2nd", "113th".
pub fn nth(n: u64) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{}{ending}", human::count(n))
}

/// An argument's value with its unit.
pub fn argument(trace: &Trace, key: &str, value: Arg) -> String {
    match value {
        Arg::Str(text) => plain(trace.text(text)),
        Arg::F64(n) if key == "bus_gb_s" => format!("{n:.1} GB/s"),
        Arg::F64(n) => format!("{n}"),
        Arg::I64(n) => n.to_string(),
        Arg::U64(n) if key == "ret" && n > i64::MAX as u64 => (n as i64).to_string(),
        Arg::U64(n) if key == "bytes" || key.ends_with("_bytes") => match n {
            0..1000 => human::bytes(n),
            _ => format!("{} ({})", human::bytes(n), human::count(n)),
        },
        Arg::U64(n) if key.ends_with("_ns") => time(n),
        Arg::U64(n) if matches!(key, "count" | "sector") => human::count(n),
        Arg::U64(n) if matches!(key, "address") => format!("{n:#x}"),
        Arg::U64(n) if matches!(key, "waker") => {
            let name = trace.threads.iter().find(|t| u64::from(t.tid) == n).map(|t| plain(&t.name));
            name.map_or_else(|| n.to_string(), |name| format!("{name} {n}"))
        }
        Arg::U64(n) => n.to_string(),
    }
}

/// "train.py:42", from the end of a path; the line alone where no file is known.
pub fn at_line(file: &str, line: u64) -> String {
    let file = plain(file.rsplit('/').next().unwrap_or(file));
    match line {
        0 => file,
        _ => format!("{file}:{line}"),
    }
}

/// Whose a track is, for people: "python3 812, rank 3".
pub fn owner(scene: &Scene, track: TrackId) -> String {
    let trace = &scene.trace;
    let Some(data) = trace.tracks.get(track.0 as usize) else { return String::new() };
    let thread = match data.parent {
        Parent::Thread(thread) => trace.threads.get(thread.0 as usize),
        _ => None,
    };
    let process = scene.process_of(track).and_then(|p| trace.processes.get(p.0 as usize));
    let mut words = Vec::new();
    words.extend(thread.map(|t| format!("thread {} {}", plain(&t.name), t.tid)));
    words.extend(process.map(|p| format!("process {} {}", plain(&p.name), p.pid)));
    words.extend(process.and_then(|p| p.rank).map(|rank| format!("rank {rank}")));
    if words.is_empty() { "the whole recording".to_owned() } else { words.join(", ") }
}

/// Where another slice is, as short as it can be said beside `from`: what differs.
pub fn elsewhere(scene: &Scene, from: TrackId, to: SliceRef) -> String {
    let trace = &scene.trace;
    let parent = |track: TrackId| trace.tracks.get(track.0 as usize).map(|t| t.parent);
    let Some(other) = trace.tracks.get(to.track.0 as usize) else { return String::new() };
    if parent(from) == Some(other.parent) {
        return if matches!(other.parent, Parent::Thread(_)) { String::new() } else { plain(trace.text(other.name)) };
    }
    match other.parent {
        Parent::Thread(thread) => {
            trace.threads.get(thread.0 as usize).map_or_else(String::new, |t| format!("{} {}", plain(&t.name), t.tid))
        }
        _ => plain(trace.text(other.name)),
    }
}

/// The name of a layer, for people.
pub fn layer(layer: Layer) -> &'static str {
    match layer {
        Layer::Sched => "cpu",
        other => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::CaptureMeta;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21, 113, 1002].map(nth),
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "113th", "1,002nd"]
        );
        assert_eq!(moment(12_345_678_901, false), "+12.345678 s");
        assert_eq!(moment(1, true), "+0.000000001 s");
        assert_eq!(at_line("/home/me/train.py", 42), "train.py:42");
    }

    #[test]
    fn the_wall_clock_is_known_where_the_recording_knows_it() {
        let mut trace = Trace::default();
        assert_eq!(wall_clock(&trace, 5_000_000_000), None);
        assert_eq!(wall_clock(&trace, 1_700_000_000_123_456_789).unwrap(), "2023-11-14 22:13:20.123456 UTC");
        let started_at = "2026-01-02T03:04:05.5Z".to_owned();
        trace.meta = Some(CaptureMeta { started_at, start_ns: 1_000_000_000, ..CaptureMeta::default() });
        assert_eq!(wall_clock(&trace, 2_750_000_000).unwrap(), "2026-01-02 03:04:07.250000 UTC");
        trace.meta.as_mut().unwrap().started_at = "yesterday".to_owned();
        assert_eq!(wall_clock(&trace, 5), None);
    }

    #[test]
    fn arguments_have_their_units() {
        let trace = Trace::default();
        let say = |key, n| argument(&trace, key, Arg::U64(n));
        assert_eq!(say("bytes", 12_400_000), "12.4 MB (12,400,000)");
        assert_eq!(say("shared_bytes", 512), "512 B");
        assert_eq!(say("runnable_ns", 3400), "3.40 us");
        assert_eq!(say("ret", (-11i64) as u64), "-11");
        assert_eq!(argument(&trace, "bus_gb_s", Arg::F64(11.72)), "11.7 GB/s");
    }
}
