//! Steps from what repeats: collectives, operators, Python frames, waits.

use rustc_hash::FxHashMap;

use super::rhythm::quantile;
use super::symbols::{Event, Hint, pick};
use super::{Found, frame_label, from_rhythm};
use crate::analyze::frames::{FrameId, frame_args};
use crate::analyze::index::Index;
use crate::analyze::names::{CallKind, FrameClass, OpKind, Reason};
use crate::trace::Slice;

/// Python's sampling interval where the recording does not say: 99 Hz.
const SAMPLING_NS: u64 = 10_101_010;
/// At most so many events are weighed; a rhythm shows long before.
const MOST_EVENTS: usize = 200_000;
/// Waits shorter than this are noise.
const LEAST_WAIT_NS: u64 = 500_000;

/// Steps by the collectives of the thread, or of its process.
pub(super) fn collectives(index: &Index<'_>, thread: usize) -> Option<Found> {
    let process = index.process_of(thread);
    let track = index.threads[thread].nccl.or_else(|| {
        (0..index.threads.len())
            .filter(|t| index.process_of(*t) == process)
            .filter_map(|t| index.threads[t].nccl)
            .max_by_key(|t| t.slices.len())
    })?;
    // A collective is known by its name and its size.
    let events: Vec<Event> = track
        .slices
        .iter()
        .filter(|s| s.depth == 0)
        .take(MOST_EVENTS)
        .map(|s| {
            let bytes = index.arg_u64(s, index.keys.bytes).unwrap_or(0);
            let symbol = s.name.0.wrapping_mul(0x9e37_79b1) ^ (bytes as u32);
            Event { symbol, start_ns: s.start_ns, dur_ns: s.dur_ns.max(1) }
        })
        .collect();
    let span = span(&events)?;
    let beat = pick(&events, span, 0, |_| Hint::default())?;
    let name =
        track.slices.iter().find(|s| Some(&s.start_ns) == beat.starts.first()).map_or("", |s| index.trace.text(s.name));
    Some(from_rhythm("collective", name.to_owned(), beat.starts, beat.rhythm, 0.9))
}

/// Steps by a repeating operator.
pub(super) fn operators(index: &Index<'_>, torch: &[Slice]) -> Option<Found> {
    let mut events = Vec::new();
    let mut end = 0;
    for s in torch {
        let op = index.name(s.name).op;
        if !matches!(op, OpKind::Operator | OpKind::Loader) || s.start_ns < end || events.len() >= MOST_EVENTS {
            continue;
        }
        end = s.end_ns();
        events.push(Event { symbol: s.name.0, start_ns: s.start_ns, dur_ns: s.dur_ns });
    }
    // Bookkeeping alone (a DataLoader's own few calls) is not a model.
    if events.len() < 12 {
        return None;
    }
    let span = span(&events)?;
    let hint =
        |symbol: u32| Hint { loads: index.name(crate::trace::StrId(symbol)).op == OpKind::Loader, ..Hint::default() };
    let beat = pick(&events, span, 0, hint)?;
    // One operator again and again is a layer; a step has several, each at its turn.
    let mut counts: FxHashMap<u32, usize> = FxHashMap::default();
    events.iter().for_each(|e| *counts.entry(e.symbol).or_default() += 1);
    if counts.values().filter(|n| **n * 2 >= beat.starts.len()).count() < 3 {
        return None;
    }
    let name = index.trace.text(crate::trace::StrId(beat.symbol)).to_owned();
    Some(from_rhythm("operators", name, beat.starts, beat.rhythm, 0.8))
}

/// Steps by a Python function entered again and again, else by a line reached again and again.
pub(super) fn frames(index: &Index<'_>, thread: usize) -> Option<Found> {
    let track = index.threads[thread].python?;
    let window = index.length_ns();
    let hz = index.trace.meta.as_ref().map_or(0, |m| m.python_hz);
    let quantum = if hz > 0 { 1_000_000_000 / u64::from(hz) } else { SAMPLING_NS };
    // Frames of foreign recordings are calls, not samples.
    let sampled = index.trace.meta.is_some();
    let mut events = Vec::new();
    let mut lines = Vec::new();
    let mut depths: Vec<u16> = vec![u16::MAX; index.frames.len()];
    for s in track.slices.iter().take(MOST_EVENTS * 4) {
        let found = frame_args(index.trace, &index.keys, s);
        if index.name(s.name).is_line {
            if s.dur_ns * 2 < window {
                lines.push(Event { symbol: s.name.0, start_ns: s.start_ns, dur_ns: s.dur_ns });
            }
            continue;
        }
        let id = index.frames.id(s.name, found.file);
        let i = id.0 as usize;
        depths[i] = depths[i].min(s.depth);
        if s.dur_ns * 2 >= window || !worth(index, id) {
            continue;
        }
        events.push(Event { symbol: id.0, start_ns: s.start_ns, dur_ns: s.dur_ns });
    }
    let quantum = if sampled { quantum } else { 0 };
    let beat = pick(&events, window, quantum, |symbol| frame_hint(index, symbol, &depths))
        .or_else(|| pick(&waited(&events, window), window, 0, |symbol| frame_hint(index, symbol, &depths)));
    if let Some(beat) = beat {
        let frame = index.frames.get(FrameId(beat.symbol));
        let anchor = frame_label(&frame.file, frame.line, &frame.name);
        return Some(from_rhythm("python_frame", anchor, beat.starts, beat.rhythm, 0.75));
    }
    let beat = pick(&lines, window, quantum, |_| Hint::default())?;
    let name = index.trace.text(crate::trace::StrId(beat.symbol)).to_owned();
    Some(from_rhythm("python_frame", name, beat.starts, beat.rhythm, 0.6))
}

/// Whether a function can be a step or a part of one.
fn worth(index: &Index<'_>, id: FrameId) -> bool {
    let frame = index.frames.get(id);
    frame.user && !frame.name.starts_with("<module")
        || matches!(frame.class, FrameClass::Loader | FrameClass::QueueGet | FrameClass::Communicates)
        || frame.file.contains("torch/optim/")
}

/// Frames that are seen nearly every time although they are short: those that wait.
fn waited(events: &[Event], window: u64) -> Vec<Event> {
    let mut sums: FxHashMap<u32, u64> = FxHashMap::default();
    for e in events {
        *sums.entry(e.symbol).or_default() += e.dur_ns;
    }
    events.iter().filter(|e| sums[&e.symbol] * 2 > window).copied().collect()
}

fn frame_hint(index: &Index<'_>, symbol: u32, depths: &[u16]) -> Hint {
    let frame = index.frames.get(FrameId(symbol));
    let function = frame.name.rsplit('.').next().unwrap_or(&frame.name);
    let has = |words: &[&str]| words.iter().any(|w| function.contains(w));
    Hint {
        loads: matches!(frame.class, FrameClass::Loader | FrameClass::LoadsByName | FrameClass::QueueGet),
        rare: frame.class == FrameClass::Saves || has(&["epoch", "eval", "valid"]),
        step: has(&["step", "train", "iteration", "batch"]),
        depth: depths.get(symbol as usize).copied().unwrap_or(0),
    }
}

/// Steps by what the thread waits for, else by its system calls.
pub(super) fn calls(index: &Index<'_>, thread: usize) -> Option<Found> {
    waits(index, thread, |_| true).map(|(found, _)| found).or_else(|| {
        let mut events = Vec::new();
        for s in index.threads[thread].syscall.map(|t| t.slices.as_slice()).unwrap_or_default() {
            // Waits for locks are on the scheduler's track, sorted by what the lock is.
            if !matches!(index.name(s.name).call, CallKind::Other | CallKind::Futex) && events.len() < MOST_EVENTS {
                events.push(Event { symbol: s.name.0, start_ns: s.start_ns, dur_ns: s.dur_ns });
            }
        }
        beat_of(index, events).map(|(found, _)| found)
    })
}

/// Steps by waits for another thread or process to hand something over, and the share of
/// the time they take. Such waits are exact where frames are joined samples.
pub(super) fn hand_overs(index: &Index<'_>, thread: usize) -> Option<(Found, f64)> {
    waits(index, thread, |r| matches!(r, Reason::Pipe | Reason::Futex | Reason::Socket | Reason::Poll))
}

fn waits(index: &Index<'_>, thread: usize, such: impl Fn(Reason) -> bool) -> Option<(Found, f64)> {
    let slices = index.threads[thread].sched.map(|t| t.slices.as_slice())?;
    // Threads that contend for the GIL wait for it in beats of its switch interval.
    let gil: u64 = slices.iter().filter(|s| index.name(s.name).reason == Reason::Gil).map(|s| s.dur_ns).sum();
    let contended = gil * 5 > index.length_ns();
    let waits = || {
        slices.iter().filter(|s| {
            let reason = index.name(s.name).reason;
            let idle = matches!(reason, Reason::Running | Reason::Preempted | Reason::Unknown | Reason::Gil);
            let idle = idle || (contended && reason == Reason::Futex);
            !idle && such(reason) && s.dur_ns >= LEAST_WAIT_NS
        })
    };
    // A batch is handed over in many small pieces; the wait for its first is the long one.
    let mut longest: FxHashMap<u32, Vec<u64>> = FxHashMap::default();
    for s in waits().take(MOST_EVENTS) {
        longest.entry(s.name.0).or_default().push(s.dur_ns);
    }
    let least: FxHashMap<u32, u64> =
        longest.into_iter().map(|(name, durs)| (name, quantile(&durs, 0.9).unwrap_or(0) / 3)).collect();
    let events: Vec<Event> = waits()
        .take(MOST_EVENTS)
        .filter(|s| s.dur_ns >= least.get(&s.name.0).copied().unwrap_or(0))
        .map(|s| Event { symbol: s.name.0, start_ns: s.start_ns, dur_ns: s.dur_ns })
        .collect();
    beat_of(index, events)
}

fn beat_of(index: &Index<'_>, events: Vec<Event>) -> Option<(Found, f64)> {
    if events.len() < 8 {
        return None;
    }
    let beat = pick(&events, index.length_ns(), 0, |_| Hint::default())?;
    let ns: u64 = events.iter().filter(|e| e.symbol == beat.symbol).map(|e| e.dur_ns).sum();
    let name = index.trace.text(crate::trace::StrId(beat.symbol)).to_owned();
    let share = ns as f64 / index.length_ns().max(1) as f64;
    Some((from_rhythm("syscalls", name, beat.starts, beat.rhythm, 0.5), share))
}

fn span(events: &[Event]) -> Option<u64> {
    Some(events.last()?.start_ns.saturating_sub(events.first()?.start_ns))
}
