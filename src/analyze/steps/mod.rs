//! Finds the steps of a driving thread without a change to its code.
//!
//! Sources in order of trust: marks of the recording itself, the optimizer's step, the
//! backward pass, collectives, a repeating operator, a repeating Python frame, repeating
//! waits and system calls. A step reaches from one beat to the next, so the incomplete
//! first and last are never counted.

mod beats;
pub(super) mod rhythm;
mod symbols;

use super::frames::base_name;
use super::index::Index;
use super::names::OpKind;
use crate::trace::{Flags, Layer, Parent, Slice};
use rhythm::{FEWEST_BEATS, Rhythm, rhythm};

/// The steps of one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// As in the contract; "none" without steps.
    pub source: &'static str,
    /// The very thing that repeats.
    pub anchor: Option<String>,
    /// Where steps begin and end; without steps, where the thread's record does.
    pub boundaries: Vec<u64>,
    /// Length of every step.
    pub lengths_ns: Vec<u64>,
    /// Where steps begin and the last one ends, with missed beats filled in; empty without steps.
    pub times_ns: Vec<u64>,
    /// How far the steps can be believed, 0–1.
    pub trust: f64,
}

/// Finds the steps of a thread.
pub(super) fn find(index: &Index<'_>, thread: usize) -> Found {
    let tracks = &index.threads[thread];
    let torch: &[Slice] = tracks.torch.map(|t| t.slices.as_slice()).unwrap_or_default();
    marked(index, thread, torch)
        .or_else(|| optimizer(index, torch))
        .or_else(|| backward(index, torch))
        .or_else(|| beats::collectives(index, thread))
        .or_else(|| beats::operators(index, torch))
        .or_else(|| frames(index, thread))
        .or_else(|| beats::calls(index, thread))
        .unwrap_or_else(|| none(index, thread))
}

/// Steps by Python frames, unless these turn out to be joined over many steps: then waits
/// for what is handed over, which take most of the time, come several times a frame.
fn frames(index: &Index<'_>, thread: usize) -> Option<Found> {
    let frames = beats::frames(index, thread);
    let waits = beats::hand_overs(index, thread).filter(|(_, share)| *share > 0.5).map(|(found, _)| found);
    let period = |f: &Found| rhythm::quantile(&f.lengths_ns, 0.5).unwrap_or(u64::MAX);
    match (frames, waits) {
        (Some(frames), Some(waits)) if period(&waits) * 5 < period(&frames) * 3 => Some(waits),
        (None, waits) => waits,
        (frames, _) => frames,
    }
}

/// No steps: the thread's whole record as one span.
fn none(index: &Index<'_>, thread: usize) -> Found {
    let boundaries = record(index, thread).map_or_else(Vec::new, |(start, end)| vec![start, end]);
    Found { source: "none", boundaries, ..Found::default() }
}

/// From where to where a thread was recorded.
pub(super) fn record(index: &Index<'_>, thread: usize) -> Option<(u64, u64)> {
    let tracks = &index.threads[thread];
    let all = [tracks.sched, tracks.python, tracks.torch, tracks.syscall, tracks.cuda, tracks.nccl];
    let start = all.iter().flatten().filter_map(|t| t.slices.first()).map(|s| s.start_ns).min()?;
    let end = all.iter().flatten().flat_map(|t| t.slices.iter().rev().take(64)).map(Slice::end_ns).max()?;
    (end > start).then(|| (start, end.min(index.end_ns.max(start + 1))))
}

/// Steps from the starts of slices that repeat.
fn from_starts(source: &'static str, anchor: String, starts: Vec<u64>, trust: f64) -> Option<Found> {
    if starts.len() < FEWEST_BEATS {
        return None;
    }
    let lengths_ns = starts.windows(2).map(|w| w[1] - w[0]).filter(|l| *l > 0).collect();
    let mut times_ns = starts.clone();
    times_ns.dedup();
    Some(Found { source, anchor: Some(anchor), boundaries: starts, lengths_ns, times_ns, trust })
}

/// Steps the recording itself marks (`ProfilerStep#7`).
fn marked(index: &Index<'_>, thread: usize, torch: &[Slice]) -> Option<Found> {
    let process = index.process_of(thread);
    let of_process = |parent: Parent| match parent {
        Parent::Thread(t) => index.process_of(t.0 as usize) == process,
        Parent::Process(p) => p.0 as usize == process,
        Parent::Global => true,
    };
    let own = index.threads[thread].step.map(|t| t.slices.as_slice()).filter(|s| !s.is_empty());
    let track = || index.trace.tracks.iter().filter(|t| t.layer == Layer::Step && of_process(t.parent));
    let slices: Vec<&Slice> = match own {
        Some(own) => own.iter().collect(),
        None => {
            let beside = track().max_by_key(|t| t.slices.len()).map(|t| t.slices.as_slice()).unwrap_or_default();
            let inside = torch.iter().filter(|s| index.name(s.name).op == OpKind::Step);
            if beside.is_empty() { inside.collect() } else { beside.iter().collect() }
        }
    };
    let whole: Vec<&Slice> = slices.into_iter().filter(|s| s.dur_ns > 0 && !s.flags.has(Flags::UNFINISHED)).collect();
    let (first, last) = (whole.first()?, whole.last()?);
    let mut boundaries: Vec<u64> = whole.iter().map(|s| s.start_ns).collect();
    boundaries.push(last.end_ns());
    boundaries.sort_unstable();
    boundaries.dedup();
    let text = index.trace.text(first.name);
    let anchor = text.split_once('#').map_or(text, |(name, _)| name).to_owned();
    let lengths_ns = whole.iter().map(|s| s.dur_ns).collect();
    let times_ns = boundaries.clone();
    Some(Found { source: "marker", anchor: Some(anchor), boundaries, lengths_ns, times_ns, trust: 1.0 })
}

/// Steps by the optimizer. Where one step runs several (a GAN), the loader says how many.
fn optimizer(index: &Index<'_>, torch: &[Slice]) -> Option<Found> {
    let steps: Vec<&Slice> = torch.iter().filter(|s| index.name(s.name).op == OpKind::Optimizer).collect();
    let name = steps.first()?.name;
    let starts: Vec<u64> = steps.iter().filter(|s| s.name == name).map(|s| s.start_ns).collect();
    let loads: Vec<u64> =
        torch.iter().filter(|s| index.name(s.name).op == OpKind::Loader).map(|s| s.start_ns).collect();
    let each = starts.len() as f64 / loads.len().max(1) as f64;
    let several = loads.len() >= FEWEST_BEATS && each > 1.7 && (each - each.round()).abs() < 0.2;
    let starts = if several { first_after(&loads, &starts) } else { starts };
    from_starts("optimizer", index.trace.text(name).to_owned(), starts, 1.0)
}

/// Of sorted `starts`, the first after each of sorted `marks`.
fn first_after(marks: &[u64], starts: &[u64]) -> Vec<u64> {
    let mut found: Vec<u64> =
        marks.iter().filter_map(|m| starts.get(starts.partition_point(|s| s < m)).copied()).collect();
    found.dedup();
    found
}

/// Steps by the backward pass, where it comes regularly.
fn backward(index: &Index<'_>, torch: &[Slice]) -> Option<Found> {
    let mut end = 0;
    let mut starts = Vec::new();
    for s in torch.iter().filter(|s| index.name(s.name).op == OpKind::Backward) {
        // A backward inside a backward (gradient checkpointing) is part of it.
        if s.start_ns >= end {
            starts.push(s.start_ns);
            end = s.end_ns();
        }
    }
    rhythm(&starts, false)?;
    from_starts("backward", "backward".to_owned(), starts, 0.95)
}

/// "train.py:42 train_step".
fn frame_label(file: &str, line: u32, name: &str) -> String {
    if file.is_empty() { name.to_owned() } else { format!("{}:{line} {name}", base_name(file)) }
}

/// Steps from a rhythm.
fn from_rhythm(source: &'static str, anchor: String, starts: Vec<u64>, rhythm: Rhythm, trust: f64) -> Found {
    let trust = trust * (1.0 - rhythm.spread.min(0.6) / 2.0);
    let Rhythm { lengths_ns, times_ns, .. } = rhythm;
    Found { source, anchor: Some(anchor), boundaries: starts, lengths_ns, times_ns, trust }
}
