//! Numbers everything that is told and puts it into the inbox.

use std::io;

use rustc_hash::FxHashMap;

use super::super::meta::CaptureMeta;
use super::super::model::{
    Arg, ArgsId, CounterSample, Flags, Instant, Layer, Parent, Process, ProcessId, Slice, StrId, Strings, Thread,
    ThreadId, TrackId,
};
use super::super::nest::{RawEvent, RawKind};
use super::super::sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};
use super::batch::Batch;
use super::{Inbox, lock};

/// What all branches of a [`LiveSink`](super::LiveSink) share.
#[derive(Debug)]
pub struct Numbers {
    inbox: Inbox,
    limit: usize,
    strings: Strings,
    /// Texts that are not in the inbox yet.
    new_texts: Vec<Box<str>>,
    estimate: StrId,
    processes: Vec<Process>,
    process_ids: FxHashMap<u32, ProcessId>,
    threads: Vec<Thread>,
    thread_ids: FxHashMap<(u32, u32), ThreadId>,
    /// Layers of the tracks made.
    tracks: Vec<Layer>,
    scratch: Vec<(StrId, Arg)>,
}

impl Numbers {
    pub(super) fn new(inbox: Inbox, limit: usize) -> Numbers {
        let mut sink = Numbers {
            inbox,
            limit,
            strings: Strings::default(),
            new_texts: Vec::new(),
            estimate: StrId(0),
            processes: Vec::new(),
            process_ids: FxHashMap::default(),
            threads: Vec::new(),
            thread_ids: FxHashMap::default(),
            tracks: Vec::new(),
            scratch: Vec::new(),
        };
        sink.estimate = sink.text("estimate");
        sink
    }

    fn text(&mut self, text: &str) -> StrId {
        let known = self.strings.len();
        let id = self.strings.intern(text);
        if self.strings.len() > known {
            self.new_texts.push(text.into());
        }
        id
    }

    /// Puts something into the inbox, after the texts it needs.
    fn post(&mut self, put: impl FnOnce(&mut Batch)) {
        let mut inbox = lock(&self.inbox);
        inbox.strings.append(&mut self.new_texts);
        inbox.filled = true;
        put(&mut inbox);
    }

    /// Makes `scratch` the arguments of an event.
    fn args(&mut self, args: &[(&str, ArgRef<'_>)]) {
        self.scratch.clear();
        for (key, value) in args {
            let key = self.text(key);
            let value = match *value {
                ArgRef::U64(n) => Arg::U64(n),
                ArgRef::I64(n) => Arg::I64(n),
                ArgRef::F64(n) => Arg::F64(n),
                ArgRef::Str(text) => Arg::Str(self.text(text)),
            };
            self.scratch.push((key, value));
        }
    }

    /// Whether `scratch` marks an estimate.
    fn flags(&self) -> Flags {
        let marks = |(key, value): &(StrId, Arg)| *key == self.estimate && !matches!(value, Arg::U64(0) | Arg::I64(0));
        if self.scratch.iter().any(marks) { Flags::ESTIMATE } else { Flags::default() }
    }

    fn known(&self, track: TrackRef) -> Option<TrackId> {
        self.tracks.get(track.0 as usize).map(|_| TrackId(track.0))
    }

    fn process_id(&mut self, pid: u32) -> ProcessId {
        if let Some(&id) = self.process_ids.get(&pid) {
            return id;
        }
        let id = ProcessId(self.processes.len() as u32);
        self.process_ids.insert(pid, id);
        let process = Process { pid, name: String::new(), rank: None, cmdline: None };
        self.processes.push(process.clone());
        self.post(|inbox| inbox.processes.push((id, process)));
        id
    }

    fn thread_id(&mut self, pid: u32, tid: u32) -> ThreadId {
        let process = self.process_id(pid);
        if let Some(&id) = self.thread_ids.get(&(pid, tid)) {
            return id;
        }
        let id = ThreadId(self.threads.len() as u32);
        self.thread_ids.insert((pid, tid), id);
        let thread = Thread { process, tid, name: String::new() };
        self.threads.push(thread.clone());
        self.post(|inbox| inbox.threads.push((id, thread)));
        id
    }

    fn raw(&mut self, track: TrackRef, event: &Event<'_>, kind: RawKind) {
        let Some(track) = self.known(track) else { return };
        let name = if kind == RawKind::Begin { self.text(event.name) } else { StrId(0) };
        self.args(event.args);
        let flags = if kind == RawKind::Begin { self.flags() } else { Flags::default() };
        let (limit, scratch) = (self.limit, std::mem::take(&mut self.scratch));
        self.post(|inbox| {
            inbox.last_ns = inbox.last_ns.max(event.ts_ns);
            let part = inbox.part(limit);
            let args = part.args.push(scratch.iter().copied());
            part.raw.push((track, RawEvent { ts_ns: event.ts_ns, name, args, flags, kind }));
        });
        self.scratch = scratch;
    }
}

impl Sink for Numbers {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        let id = self.process_id(pid);
        let Some(process) = self.processes.get_mut(id.0 as usize) else { return Ok(()) };
        let cmdline = cmdline.or(process.cmdline.as_deref());
        let rank = rank.or(process.rank);
        if process.name != name || process.cmdline.as_deref() != cmdline || process.rank != rank {
            *process = Process { pid, name: name.to_owned(), rank, cmdline: cmdline.map(str::to_owned) };
            let process = process.clone();
            self.post(|inbox| inbox.processes.push((id, process)));
        }
        Ok(())
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        let id = self.thread_id(pid, tid);
        let Some(thread) = self.threads.get_mut(id.0 as usize) else { return Ok(()) };
        if thread.name != name {
            name.clone_into(&mut thread.name);
            let thread = thread.clone();
            self.post(|inbox| inbox.threads.push((id, thread)));
        }
        Ok(())
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        let parent = match (def.pid, def.tid) {
            (None, _) => Parent::Global,
            (Some(pid), None) => Parent::Process(self.process_id(pid)),
            (Some(pid), Some(tid)) => Parent::Thread(self.thread_id(pid, tid)),
        };
        let name = self.text(def.name);
        let track = TrackRef(u32::try_from(self.tracks.len()).unwrap_or(u32::MAX));
        self.tracks.push(def.layer);
        self.post(|inbox| inbox.tracks.push((parent, name, def.layer)));
        Ok(track)
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        let Some(track) = self.known(track) else { return Ok(()) };
        let name = self.text(slice.name);
        self.args(slice.args);
        if slice.estimate && self.flags() == Flags::default() {
            self.scratch.push((self.estimate, Arg::U64(1)));
        }
        if slice.flow != 0 {
            let key = self.text("flow");
            self.scratch.push((key, Arg::U64(slice.flow)));
        }
        let (flags, limit, scratch) = (self.flags(), self.limit, std::mem::take(&mut self.scratch));
        let (start_ns, dur_ns) = (slice.start_ns, slice.dur_ns);
        self.post(|inbox| {
            inbox.last_ns = inbox.last_ns.max(start_ns.saturating_add(dur_ns));
            let part = inbox.part(limit);
            let args = part.args.push(scratch.iter().copied());
            part.slices.push((track, Slice { start_ns, dur_ns, name, args, depth: 0, flags }));
        });
        self.scratch = scratch;
        Ok(())
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.raw(track, event, RawKind::Begin);
        Ok(())
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.raw(track, event, RawKind::End);
        Ok(())
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let Some(id) = self.known(track) else { return Ok(()) };
        let name = self.text(event.name);
        self.args(event.args);
        let in_time = self.tracks.get(track.0 as usize) != Some(&Layer::Meta);
        let (ts_ns, limit, scratch) = (event.ts_ns, self.limit, std::mem::take(&mut self.scratch));
        self.post(|inbox| {
            if in_time {
                inbox.last_ns = inbox.last_ns.max(ts_ns);
            }
            let part = inbox.part(limit);
            let args = if scratch.is_empty() { ArgsId(0) } else { part.args.push(scratch.iter().copied()) };
            part.instants.push((id, Instant { ts_ns, name, args }));
        });
        self.scratch = scratch;
        Ok(())
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        let (Some(track), limit) = (self.known(track), self.limit) else { return Ok(()) };
        self.post(|inbox| inbox.part(limit).counters.push((track, CounterSample { ts_ns, value })));
        Ok(())
    }

    fn meta(&mut self, _ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        let meta = meta.clone();
        self.post(|inbox| inbox.meta = Some(meta));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
