//! Writes a stretch of a timeline into a sink: a recording of its own.

use std::io;

use rustc_hash::FxHashSet;

use super::meta::CaptureMeta;
use super::model::{Arg, ArgsId, Flags, Layer, Parent, ProcessId, Slice, StrId, Trace, Track};
use super::sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};

/// Argument of a slice that was longer than the stretch it was cut to: its length before, ns.
pub const WHOLE_NS: &str = "whole_ns";

/// Added to a pid that is taken already (recordings of two machines in one timeline); above all
/// real ones.
const OTHER_MACHINE: u32 = 1 << 22;

/// Writes what lies between two moments, both in ns, and returns how many slices that were.
///
/// Slices that stick out are cut at the edges and get the argument [`WHOLE_NS`]; a counter starts
/// with the value it has there; the notes stay, without the totals, which are of the whole capture.
/// Does not finish the sink.
///
/// # Errors
/// Those of the sink.
pub fn cut(trace: &Trace, from_ns: u64, to_ns: u64, sink: &mut dyn Sink) -> io::Result<u64> {
    let mut cut = Cut {
        trace,
        from_ns,
        to_ns,
        whole: trace.bounds_ns().is_none_or(|(from, to)| from_ns <= from && to <= to_ns),
        flow: trace.strings.find("flow"),
        args: Vec::new(),
        slices: 0,
    };
    let pids = cut.processes(sink)?;
    for track in &trace.tracks {
        cut.track(track, &pids, sink)?;
    }
    if let Some(meta) = &trace.meta {
        let meta = if cut.whole { meta.clone() } else { notes(meta, from_ns, to_ns) };
        sink.meta(meta.end_ns, &meta)?;
    }
    Ok(cut.slices)
}

struct Cut<'t> {
    trace: &'t Trace,
    from_ns: u64,
    to_ns: u64,
    /// Nothing lies outside.
    whole: bool,
    flow: Option<StrId>,
    args: Vec<(&'t str, ArgRef<'t>)>,
    slices: u64,
}

impl<'t> Cut<'t> {
    /// Tells the processes and threads that are there in the stretch; returns their pids.
    fn processes(&self, sink: &mut dyn Sink) -> io::Result<Vec<u32>> {
        let trace = self.trace;
        let (mut seen, mut elsewhere) = (FxHashSet::default(), FxHashSet::default());
        for track in &trace.tracks {
            let Some(owner) = self.owner(track) else { continue };
            if self.holds(track) {
                seen.insert(owner);
            } else {
                elsewhere.insert(owner);
            }
        }
        let mut taken = FxHashSet::default();
        let mut pids = Vec::with_capacity(trace.processes.len());
        for (index, process) in trace.processes.iter().enumerate() {
            let mut pid = process.pid;
            while !taken.insert(pid) {
                pid = pid.wrapping_add(OTHER_MACHINE);
            }
            pids.push(pid);
            let id = ProcessId(index as u32);
            if seen.contains(&id) || !elsewhere.contains(&id) {
                sink.process(pid, &process.name, process.cmdline.as_deref(), process.rank)?;
            } else {
                taken.remove(&pid);
            }
        }
        for thread in &trace.threads {
            if let Some(&pid) = pids.get(thread.process.0 as usize).filter(|_| seen.contains(&thread.process)) {
                sink.thread(pid, thread.tid, &thread.name)?;
            }
        }
        Ok(pids)
    }

    fn owner(&self, track: &Track) -> Option<ProcessId> {
        match track.parent {
            Parent::Global => None,
            Parent::Process(process) => Some(process),
            Parent::Thread(thread) => self.trace.threads.get(thread.0 as usize).map(|thread| thread.process),
        }
    }

    fn inside(&self, ts_ns: u64) -> bool {
        (self.from_ns..=self.to_ns).contains(&ts_ns)
    }

    /// Whether anything of a track lies in the stretch.
    fn holds(&self, track: &Track) -> bool {
        track.overlapping(self.from_ns, self.to_ns).next().is_some()
            || track.instants.iter().any(|instant| self.inside(instant.ts_ns))
            || track.counters.first().is_some_and(|first| first.ts_ns <= self.to_ns)
    }

    fn define(&self, track: &Track, pids: &[u32], unit: Option<&str>, sink: &mut dyn Sink) -> io::Result<TrackRef> {
        let pid_of = |process: ProcessId| pids.get(process.0 as usize).copied();
        let (pid, tid) = match track.parent {
            Parent::Global => (None, None),
            Parent::Process(process) => (pid_of(process), None),
            Parent::Thread(thread) => match self.trace.threads.get(thread.0 as usize) {
                Some(thread) => (pid_of(thread.process), Some(thread.tid)),
                None => (None, None),
            },
        };
        sink.track(TrackDef { pid, tid, name: self.trace.text(track.name), layer: track.layer, counter_unit: unit })
    }

    fn track(&mut self, track: &'t Track, pids: &[u32], sink: &mut dyn Sink) -> io::Result<()> {
        // The notes have their own way.
        if track.layer == Layer::Meta || !self.holds(track) {
            return Ok(());
        }
        if !track.counters.is_empty() {
            let unit = match self.trace.text(track.name) {
                "cpu" => "%",
                "read" | "write" => "bytes",
                _ => "",
            };
            let written = self.define(track, pids, Some(unit), sink)?;
            let first = track.counters.partition_point(|sample| sample.ts_ns < self.from_ns);
            let at_edge = first.checked_sub(1).and_then(|before| track.counters.get(before));
            let starts_there = track.counters.get(first).is_some_and(|sample| sample.ts_ns == self.from_ns);
            if let Some(sample) = at_edge.filter(|_| !starts_there) {
                sink.counter(written, self.from_ns, sample.value)?;
            }
            for sample in track.counters[first..].iter().take_while(|sample| sample.ts_ns <= self.to_ns) {
                sink.counter(written, sample.ts_ns, sample.value)?;
            }
        }
        if track.slices.is_empty() && track.instants.is_empty() {
            return Ok(());
        }
        let written = self.define(track, pids, None, sink)?;
        for (_, slice) in track.overlapping(self.from_ns, self.to_ns) {
            self.slice(written, slice, sink)?;
        }
        for instant in &track.instants {
            if !self.inside(instant.ts_ns) {
                continue;
            }
            self.fill(instant.args, None);
            let event = Event { ts_ns: instant.ts_ns, name: self.trace.text(instant.name), args: &self.args };
            sink.instant(written, &event)?;
        }
        Ok(())
    }

    fn slice(&mut self, track: TrackRef, slice: &Slice, sink: &mut dyn Sink) -> io::Result<()> {
        let (start, end) = (slice.start_ns.max(self.from_ns), slice.end_ns().min(self.to_ns));
        let name = self.trace.text(slice.name);
        self.slices += 1;
        // Left open: who reads it closes it where the recording ends, as it was.
        if slice.flags.has(Flags::UNFINISHED) && end == slice.end_ns() {
            self.fill(slice.args, None);
            return sink.begin(track, &Event { ts_ns: start, name, args: &self.args });
        }
        let flow = self.fill(slice.args, self.flow);
        if end.saturating_sub(start) < slice.dur_ns && !self.args.iter().any(|(key, _)| *key == WHOLE_NS) {
            self.args.push((WHOLE_NS, ArgRef::U64(slice.dur_ns)));
        }
        let estimate = slice.flags.has(Flags::ESTIMATE);
        let dur_ns = end.saturating_sub(start);
        sink.slice(track, &SliceEvent { start_ns: start, dur_ns, name, args: &self.args, flow, estimate })
    }

    /// Puts the arguments in place; the number of the arrow, if asked for, is returned instead.
    fn fill(&mut self, id: ArgsId, flow_key: Option<StrId>) -> u64 {
        let (trace, mut flow) = (self.trace, 0);
        self.args.clear();
        for (key, value) in trace.args.run(id) {
            let value = match value {
                Arg::U64(number) if flow_key == Some(key) && flow == 0 => {
                    flow = number;
                    continue;
                }
                Arg::U64(number) => ArgRef::U64(number),
                Arg::I64(number) => ArgRef::I64(number),
                Arg::F64(number) => ArgRef::F64(number),
                Arg::Str(text) => ArgRef::Str(trace.text(text)),
            };
            self.args.push((trace.text(key), value));
        }
        flow
    }
}

/// The notes on a part of a capture.
pub(super) fn notes(meta: &CaptureMeta, from_ns: u64, to_ns: u64) -> CaptureMeta {
    let mut meta = meta.clone();
    let before = meta.end_ns.saturating_sub(meta.start_ns).max(1);
    meta.start_ns = meta.start_ns.max(from_ns);
    meta.end_ns = meta.end_ns.min(to_ns).max(meta.start_ns);
    let share = (meta.end_ns - meta.start_ns) as f64 / before as f64;
    meta.aictl_cpu_s *= share;
    meta.target_cpu_s *= share;
    meta.syscalls.clear();
    meta.files.clear();
    meta
}
