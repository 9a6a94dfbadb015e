//! Puts several recordings into one timeline.

use regex::Regex;

use super::args::ArgPool;
use super::meta::CaptureMeta;
use super::model::{ArgsId, Layer, Parent, ProcessId, StrId, ThreadId, Trace, Track};
use super::perfetto::ClockSnapshot;

/// One of the recordings.
#[derive(Debug)]
pub struct Part {
    /// What to call it: the file's name.
    pub name: String,
    /// The recording.
    pub trace: Trace,
}

/// How recordings are put together in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alignment {
    /// By their clocks where all have one and they overlap, else by their starts.
    #[default]
    Auto,
    /// By their clocks; those without one start with the first.
    Clock,
    /// Each starts where the first starts.
    Start,
}

/// Two recordings whose machine was booted at the same moment, by this much, are of one machine:
/// the wall clock is slewed meanwhile, and no two machines boot in the same tenth of a second.
const SAME_BOOT_NS: i128 = 100_000_000;

/// Puts recordings together; one alone stays as it is.
///
/// A pid that two recordings have stays two processes. How they were aligned is said in the
/// first of [`Trace::warnings`].
pub fn merge(mut parts: Vec<Part>, how: Alignment) -> Trace {
    for part in &mut parts {
        name_ranks(part);
    }
    if parts.len() < 2 {
        return parts.pop().map(|part| part.trace).unwrap_or_default();
    }
    let (shifts, said) = shifts(&parts, how);
    let mut parts = parts.into_iter().zip(shifts).enumerate();
    let Some((_, (first, shift))) = parts.next() else { return Trace::default() };
    let mut whole = first.trace;
    let ranked = whole.processes.iter().any(|process| process.rank.is_some());
    label(&mut whole, &first.name, ranked);
    whole.tracks.iter_mut().for_each(|track| move_track(track, shift));
    move_notes(&mut whole, shift);
    for (index, (part, shift)) in parts {
        add(&mut whole, part, shift, index as u64);
    }
    whole.warnings.insert(0, said);
    whole
}

/// A rank from the recording's name, where the recording itself tells none.
fn name_ranks(part: &mut Part) {
    if part.trace.processes.iter().any(|process| process.rank.is_some()) {
        return;
    }
    let rank = rank_in(&part.name);
    part.trace.processes.iter_mut().for_each(|process| process.rank = rank);
}

/// `rank3`, `rank_3`, `rank-03`, or `r3` as a word.
fn rank_in(name: &str) -> Option<u32> {
    let pattern = Regex::new(r"(?i)(?:rank[-_. ]?|(?:^|[^a-z0-9])r)([0-9]{1,6})(?:[^a-z0-9]|$)").ok()?;
    pattern.captures(name)?.get(1)?.as_str().parse().ok()
}

/// What to add to each recording's times, and how that was found.
fn shifts(parts: &[Part], how: Alignment) -> (Vec<i128>, String) {
    let bounds: Vec<Option<(u64, u64)>> = parts.iter().map(|part| part.trace.bounds_ns()).collect();
    let origin = bounds.iter().flatten().next().map_or(0, |(from, _)| *from);
    let by_start = || bounds.iter().map(|bounds| i128::from(origin) - i128::from(bounds.map_or(origin, |b| b.0)));
    if how == Alignment::Start {
        return (by_start().collect(), "aligned by their starts, as asked".to_owned());
    }
    let walls: Vec<Option<i128>> = parts.iter().map(|part| wall_offset(&part.trace)).collect();
    let Some(first) = walls.iter().flatten().next().copied() else {
        return (by_start().collect(), "aligned by their starts: no recording tells its wall-clock time".to_owned());
    };
    let by_clock = |offset: i128| {
        let shift = offset - first;
        if shift.abs() < SAME_BOOT_NS { 0 } else { shift }
    };
    let missing: Vec<&str> =
        parts.iter().zip(&walls).filter(|(_, wall)| wall.is_none()).map(|(part, _)| part.name.as_str()).collect();
    if how == Alignment::Auto && !missing.is_empty() {
        let said = format!("aligned by their starts: {} tells no wall-clock time", missing.join(", "));
        return (by_start().collect(), said);
    }
    let starts: Vec<i128> = by_start().collect();
    let mut shifts: Vec<i128> = walls.iter().zip(&starts).map(|(wall, start)| wall.map_or(*start, by_clock)).collect();
    if how == Alignment::Auto && !overlap(&bounds, &shifts) {
        let said = "aligned by their starts: they were not recorded at the same time (--align clock keeps the time \
                    between them)";
        return (starts, said.to_owned());
    }
    // Nothing may come before time begins.
    let earliest = bounds.iter().zip(&shifts).filter_map(|(b, shift)| Some(i128::from(b.as_ref()?.0) + shift)).min();
    let raise = -earliest.unwrap_or(0).min(0);
    shifts.iter_mut().for_each(|shift| *shift += raise);
    let mut said = if shifts.iter().all(|shift| *shift == raise) {
        "aligned by their clock, which is the same".to_owned()
    } else {
        "aligned by wall clock: between machines, clocks may be apart by some ms".to_owned()
    };
    if !missing.is_empty() {
        said = format!("{said}; {} tells no wall-clock time and starts with the first", missing.join(", "));
    }
    (shifts, said)
}

/// Whether every recording shares some time with the others, or nearly so.
fn overlap(bounds: &[Option<(u64, u64)>], shifts: &[i128]) -> bool {
    let mut spans: Vec<(i128, i128)> = bounds
        .iter()
        .zip(shifts)
        .filter_map(|(bounds, shift)| bounds.map(|(from, to)| (i128::from(from) + shift, i128::from(to) + shift)))
        .collect();
    spans.sort_unstable();
    let mut end = spans.first().map_or(0, |span| span.1);
    let longest = spans.iter().map(|(from, to)| to - from).max().unwrap_or(0);
    spans.iter().all(|&(from, to)| {
        // As far apart as the longest is long: one after the other, and worth seeing as such.
        let near = from <= end + longest;
        end = end.max(to);
        near
    })
}

/// What to add to a recording's times to get ns since 1970.
fn wall_offset(trace: &Trace) -> Option<i128> {
    if let Some(clock) = trace.clock.filter(|clock| clock.realtime_ns > 0) {
        return Some(i128::from(clock.realtime_ns) - i128::from(clock.monotonic_ns));
    }
    let meta = trace.meta.as_ref().filter(|meta| meta.start_ns > 0)?;
    let started: jiff::Timestamp = meta.started_at.parse().ok()?;
    Some(started.as_nanosecond() - i128::from(meta.start_ns))
}

fn moved(ts_ns: u64, shift: i128) -> u64 {
    u64::try_from((i128::from(ts_ns) + shift).max(0)).unwrap_or(u64::MAX)
}

fn move_track(track: &mut Track, shift: i128) {
    if shift == 0 {
        return;
    }
    track.slices.iter_mut().for_each(|slice| slice.start_ns = moved(slice.start_ns, shift));
    track.instants.iter_mut().for_each(|instant| instant.ts_ns = moved(instant.ts_ns, shift));
    track.counters.iter_mut().for_each(|sample| sample.ts_ns = moved(sample.ts_ns, shift));
}

/// Moves what else has times.
fn move_notes(trace: &mut Trace, shift: i128) {
    if let Some(clock) = &mut trace.clock {
        *clock = ClockSnapshot { monotonic_ns: moved(clock.monotonic_ns, shift), ..*clock };
    }
    if let Some(meta) = &mut trace.meta {
        meta.start_ns = moved(meta.start_ns, shift);
        meta.end_ns = moved(meta.end_ns, shift);
        meta.thinned.iter_mut().for_each(|thinned| thinned.ts_ns = moved(thinned.ts_ns, shift));
    }
}

/// Without ranks, the recording's name tells whose a process is, and a track of no process.
fn label(trace: &mut Trace, name: &str, ranked: bool) {
    for track in trace.tracks.iter_mut().filter(|t| t.parent == Parent::Global && t.layer != Layer::Meta) {
        let called = format!("{name}: {}", trace.strings.get(track.name));
        track.name = trace.strings.intern(&called);
    }
    if !ranked {
        trace.processes.iter_mut().for_each(|process| process.name = format!("{name}: {}", process.name));
    }
    trace.warnings.iter_mut().for_each(|warning| *warning = format!("{name}: {warning}"));
}

/// Adds one recording to the whole.
fn add(whole: &mut Trace, part: Part, shift: i128, index: u64) {
    let Part { name, mut trace } = part;
    let ranked = trace.processes.iter().any(|process| process.rank.is_some());
    label(&mut trace, &name, ranked);
    move_notes(&mut trace, shift);
    let texts: Vec<StrId> =
        (0..trace.strings.len()).map(|id| whole.strings.intern(trace.strings.get(StrId(id as u32)))).collect();
    let text = |id: StrId| texts.get(id.0 as usize).copied().unwrap_or_default();
    let flow = trace.strings.find("flow");
    drop(std::mem::take(&mut trace.strings));
    // Arrows count from 1 in every recording: none may lead from one into another.
    let turn = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let pool: ArgPool = std::mem::take(&mut trace.args);
    let base = whole.args.append(pool, text, |key, value| if flow == Some(key) { value ^ turn } else { value });
    let args = |id: ArgsId| match (id.0, base) {
        (0, _) | (_, None) => ArgsId(0),
        (id, Some(base)) => ArgsId(id.saturating_add(base)),
    };
    let (processes, threads) = (whole.processes.len() as u32, whole.threads.len() as u32);
    whole.processes.append(&mut trace.processes);
    whole.threads.extend(trace.threads.drain(..).map(|mut thread| {
        thread.process = ProcessId(thread.process.0 + processes);
        thread
    }));
    for mut track in trace.tracks {
        track.parent = match track.parent {
            Parent::Global => Parent::Global,
            Parent::Process(id) => Parent::Process(ProcessId(id.0 + processes)),
            Parent::Thread(id) => Parent::Thread(ThreadId(id.0 + threads)),
        };
        track.name = text(track.name);
        for slice in &mut track.slices {
            (slice.name, slice.args) = (text(slice.name), args(slice.args));
        }
        for instant in &mut track.instants {
            (instant.name, instant.args) = (text(instant.name), args(instant.args));
        }
        move_track(&mut track, shift);
        whole.tracks.push(track);
    }
    whole.warnings.append(&mut trace.warnings);
    whole.clock = whole.clock.or(trace.clock);
    whole.meta = match (whole.meta.take(), trace.meta) {
        (Some(ours), Some(theirs)) => Some(together(ours, theirs)),
        (ours, theirs) => ours.or(theirs),
    };
}

/// Notes on both captures.
pub(super) fn together(mut ours: CaptureMeta, theirs: CaptureMeta) -> CaptureMeta {
    ours.start_ns = ours.start_ns.min(theirs.start_ns);
    ours.end_ns = ours.end_ns.max(theirs.end_ns);
    ours.targets.extend(theirs.targets);
    for layer in theirs.layers {
        if !ours.layers.contains(&layer) {
            ours.layers.push(layer);
        }
    }
    ours.lost.slices += theirs.lost.slices;
    ours.lost.samples += theirs.lost.samples;
    ours.lost.rare += theirs.lost.rare;
    ours.lost.unpaired += theirs.lost.unpaired;
    ours.lost.unwind_failed += theirs.lost.unwind_failed;
    ours.lost.unsent += theirs.lost.unsent;
    ours.thinned.extend(theirs.thinned);
    ours.thinned.sort_by_key(|thinned| thinned.ts_ns);
    ours.overhead_share = ours.overhead_share.max(theirs.overhead_share);
    ours.aictl_cpu_s += theirs.aictl_cpu_s;
    ours.target_cpu_s += theirs.target_cpu_s;
    ours.syscalls.extend(theirs.syscalls);
    ours.files.extend(theirs.files);
    ours.pythons.extend(theirs.pythons);
    ours.places.extend(theirs.places);
    ours.nodes.extend(theirs.nodes);
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_read_from_names() {
        for (name, rank) in [
            ("rank3", Some(3)),
            ("job_rank-12.host", Some(12)),
            ("trace_Rank_0", Some(0)),
            ("r7", Some(7)),
            ("run.r2.gpu", Some(2)),
            ("run2", None),
            ("parser4", None),
            ("r2d2", None),
            ("", None),
        ] {
            assert_eq!(rank_in(name), rank, "{name}");
        }
    }
}
