//! Builds a [`Trace`] straight from what a capture hands over, without a file between.

use std::io;

use rustc_hash::FxHashMap;

use super::build::Builder;
use super::meta::CaptureMeta;
use super::model::{Arg, ArgsId, Flags, Parent, Process, ProcessId, StrId, Thread, ThreadId, Trace, TrackId};
use super::sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};

/// A [`Sink`] that keeps everything in memory.
pub struct MemorySink {
    builder: Builder,
    processes: FxHashMap<u32, ProcessId>,
    threads: FxHashMap<(u32, u32), ThreadId>,
    scratch: Vec<(StrId, Arg)>,
}

impl Default for MemorySink {
    fn default() -> Self {
        Self::new()
    }
}

impl MemorySink {
    /// Makes an empty one.
    pub fn new() -> Self {
        MemorySink {
            builder: Builder::new(),
            processes: FxHashMap::default(),
            threads: FxHashMap::default(),
            scratch: Vec::new(),
        }
    }

    /// Nests the slices and returns the timeline.
    pub fn into_trace(self) -> Trace {
        self.builder.finish()
    }

    fn process_id(&mut self, pid: u32) -> ProcessId {
        let processes = &mut self.builder.trace.processes;
        *self.processes.entry(pid).or_insert_with(|| {
            processes.push(Process { pid, name: String::new(), rank: None, cmdline: None });
            ProcessId((processes.len() - 1) as u32)
        })
    }

    fn thread_id(&mut self, pid: u32, tid: u32) -> ThreadId {
        let process = self.process_id(pid);
        let threads = &mut self.builder.trace.threads;
        *self.threads.entry((pid, tid)).or_insert_with(|| {
            threads.push(Thread { process, tid, name: String::new() });
            ThreadId((threads.len() - 1) as u32)
        })
    }

    fn args(&mut self, args: &[(&str, ArgRef<'_>)], flow: u64, estimate: bool) -> (ArgsId, Flags) {
        self.scratch.clear();
        for (key, value) in args {
            let key = self.builder.text(key);
            let value = match *value {
                ArgRef::U64(n) => Arg::U64(n),
                ArgRef::I64(n) => Arg::I64(n),
                ArgRef::F64(n) => Arg::F64(n),
                ArgRef::Str(text) => Arg::Str(self.builder.text(text)),
            };
            self.scratch.push((key, value));
        }
        if estimate && self.builder.flags(&self.scratch) == Flags::default() {
            let key = self.builder.text("estimate");
            self.scratch.push((key, Arg::U64(1)));
        }
        if flow != 0 {
            let key = self.builder.text("flow");
            self.scratch.push((key, Arg::U64(flow)));
        }
        (self.builder.args(&self.scratch), self.builder.flags(&self.scratch))
    }
}

impl Sink for MemorySink {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        let id = self.process_id(pid);
        let process = &mut self.builder.trace.processes[id.0 as usize];
        name.clone_into(&mut process.name);
        if cmdline.is_some() {
            process.cmdline = cmdline.map(str::to_owned);
        }
        if rank.is_some() {
            process.rank = rank;
        }
        Ok(())
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        let id = self.thread_id(pid, tid);
        name.clone_into(&mut self.builder.trace.threads[id.0 as usize].name);
        Ok(())
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        let parent = match (def.pid, def.tid) {
            (None, _) => Parent::Global,
            (Some(pid), None) => Parent::Process(self.process_id(pid)),
            (Some(pid), Some(tid)) => Parent::Thread(self.thread_id(pid, tid)),
        };
        let name = self.builder.text(def.name);
        Ok(TrackRef(self.builder.track(parent, name, def.layer).0))
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        let name = self.builder.text(slice.name);
        let (args, flags) = self.args(slice.args, slice.flow, slice.estimate);
        self.builder.slice(TrackId(track.0), slice.start_ns, slice.dur_ns, name, args, flags);
        Ok(())
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let name = self.builder.text(event.name);
        let (args, flags) = self.args(event.args, 0, false);
        self.builder.begin(TrackId(track.0), event.ts_ns, name, args, flags);
        Ok(())
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let (args, _) = self.args(event.args, 0, false);
        self.builder.end(TrackId(track.0), event.ts_ns, args);
        Ok(())
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let name = self.builder.text(event.name);
        let (args, _) = self.args(event.args, 0, false);
        self.builder.instant(TrackId(track.0), event.ts_ns, name, args);
        Ok(())
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        self.builder.counter(TrackId(track.0), ts_ns, value);
        Ok(())
    }

    fn meta(&mut self, _ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        self.builder.meta(meta);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
