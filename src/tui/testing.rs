//! Builds small scenes for the tests of the viewer.

use std::sync::Arc;

use super::scene::Scene;
use super::state::{Size, State};
use crate::trace::{ArgRef, CaptureMeta, Event, Layer, MemorySink, Sink, SliceEvent, Trace, TrackDef, TrackRef};

/// One millisecond in ns.
pub const MS: u64 = 1_000_000;

/// What a track is known by: process, thread, name.
type Key = (Option<u32>, Option<u32>, String);

/// A recording in the making. Tracks are made when they are first named.
#[derive(Default)]
pub struct Recording {
    sink: MemorySink,
    tracks: Vec<(Key, TrackRef)>,
}

impl Recording {
    /// An empty one.
    pub fn new() -> Recording {
        Recording::default()
    }

    /// Adds a process, or tells more about it.
    pub fn process(mut self, pid: u32, name: &str, rank: Option<u32>) -> Recording {
        self.sink.process(pid, name, None, rank).unwrap();
        self
    }

    /// Adds a thread.
    pub fn thread(mut self, pid: u32, tid: u32, name: &str) -> Recording {
        self.sink.thread(pid, tid, name).unwrap();
        self
    }

    /// Adds a slice to a thread's track of a layer; parents first.
    pub fn slice(self, tid: (u32, u32), layer: Layer, name: &str, start_ns: u64, dur_ns: u64) -> Recording {
        self.slice_with(tid, layer, name, start_ns, dur_ns, &[])
    }

    /// Adds a slice with arguments; `estimate` = 1 marks an estimate, `flow` joins slices.
    pub fn slice_with(
        mut self,
        (pid, tid): (u32, u32),
        layer: Layer,
        name: &str,
        start_ns: u64,
        dur_ns: u64,
        args: &[(&str, ArgRef<'_>)],
    ) -> Recording {
        let track_name = if layer == Layer::Sched { "cpu" } else { layer.name() };
        let track = self.track(Some(pid), Some(tid), track_name, layer);
        let number = |key: &str| {
            args.iter().find_map(|(k, v)| match v {
                ArgRef::U64(n) if *k == key => Some(*n),
                _ => None,
            })
        };
        let (flow, estimate) = (number("flow").unwrap_or(0), number("estimate").is_some());
        let args: Vec<_> = args.iter().filter(|(k, _)| !matches!(*k, "flow" | "estimate")).copied().collect();
        let slice = SliceEvent { start_ns, dur_ns, name, args: &args, flow, estimate };
        self.sink.slice(track, &slice).unwrap();
        self
    }

    /// Opens a slice that never ends.
    pub fn begin(mut self, (pid, tid): (u32, u32), layer: Layer, name: &str, ts_ns: u64) -> Recording {
        let track = self.track(Some(pid), Some(tid), layer.name(), layer);
        self.sink.begin(track, &Event { ts_ns, name, args: &[] }).unwrap();
        self
    }

    /// Adds a point in time to a thread.
    pub fn instant(mut self, (pid, tid): (u32, u32), track: &str, name: &str, ts_ns: u64) -> Recording {
        let track = self.track(Some(pid), Some(tid), track, Layer::Io);
        self.sink.instant(track, &Event { ts_ns, name, args: &[] }).unwrap();
        self
    }

    /// Adds a counter's value to a process.
    pub fn counter(mut self, pid: u32, name: &str, ts_ns: u64, value: f64) -> Recording {
        let track = self.track(Some(pid), None, name, Layer::Other);
        self.sink.counter(track, ts_ns, value).unwrap();
        self
    }

    /// Adds the recording's own notes.
    pub fn meta(mut self, meta: &CaptureMeta) -> Recording {
        self.sink.meta(meta.end_ns, meta).unwrap();
        self
    }

    /// The recording.
    pub fn trace(self) -> Trace {
        self.sink.into_trace()
    }

    /// The recording made ready.
    pub fn scene(self) -> Scene {
        Scene::new(Arc::new(self.trace()))
    }

    /// The recording on a screen.
    pub fn state(self, columns: u16, rows: u16) -> State {
        State::new(self.scene(), "test.pftrace", Size { columns, rows })
    }

    fn track(&mut self, pid: Option<u32>, tid: Option<u32>, name: &str, layer: Layer) -> TrackRef {
        let key = (pid, tid, name.to_owned());
        if let Some((_, track)) = self.tracks.iter().find(|(k, _)| *k == key) {
            return *track;
        }
        let counter_unit = if pid.is_some() && tid.is_none() { Some("") } else { None };
        let track = self.sink.track(TrackDef { pid, tid, name, layer, counter_unit }).unwrap();
        self.tracks.push((key, track));
        track
    }
}

/// Two ranks that train: eight steps of 100 ms; rank 1 loads data for longer in step 5, so
/// rank 0 waits for it in the collective. Each step is data, forward, backward, all-reduce.
pub fn two_ranks() -> Recording {
    let mut recording = Recording::new();
    for rank in 0..2u32 {
        let pid = 100 + rank;
        let at = (pid, pid);
        recording = recording.process(pid, "python3", Some(rank)).thread(pid, pid, "python3");
        recording = recording.slice(at, Layer::Python, "<module>", 0, 800 * MS);
        for step in 0..8u64 {
            let start = step * 100 * MS;
            let load = if rank == 1 && step == 5 { 45 * MS } else { 15 * MS };
            let compute = 40 * MS;
            let wait = start + load + compute;
            recording = recording
                .slice(at, Layer::Python, "train_step", start, 99 * MS)
                .slice(at, Layer::Python, "load_batch", start, load)
                .slice(at, Layer::Python, "forward", start + load, compute)
                .slice(at, Layer::Torch, "aten::linear", start + load, compute / 2)
                .slice(at, Layer::Torch, "aten::addmm", start + load + MS, compute / 2 - 2 * MS)
                .slice(at, Layer::Torch, "autograd::AddmmBackward0", start + load + compute / 2, compute / 2)
                .slice(at, Layer::Nccl, "gloo::allreduce", wait, start + 99 * MS - wait)
                .slice(at, Layer::Sched, "poll", start, load)
                .slice(at, Layer::Sched, "running", start + load, compute)
                .slice(at, Layer::Sched, "socket", wait, start + 100 * MS - wait);
        }
        for sample in 0..16u64 {
            let value = if sample % 2 == 0 { 40.0 } else { 95.0 + f64::from(rank) };
            recording = recording.counter(pid, "cpu", sample * 50 * MS, value);
        }
    }
    recording
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ranks_are_whole() {
        let trace = two_ranks().trace();
        assert!(trace.warnings.is_empty(), "{:?}", trace.warnings);
        assert_eq!(trace.bounds_ns(), Some((0, 800 * MS)));
        assert_eq!(trace.processes.len(), 2);
        assert!(trace.slice_count() > 100);
    }
}
