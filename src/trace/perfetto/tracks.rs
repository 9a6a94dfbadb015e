//! Track descriptors: who a track belongs to and what it is called.

use rustc_hash::FxHashMap;

use super::wire::{Fields, Malformed, field};
use crate::trace::build::Builder;
use crate::trace::model::{Layer, Parent, Process, ProcessId, StrId, Thread, ThreadId, TrackId};

/// Descriptors hang under each other at most this deep; more is a circle.
const MAX_DEPTH: usize = 64;

/// What the descriptors of one uuid have said.
#[derive(Default)]
struct Described {
    parent: Option<u64>,
    name: Option<StrId>,
    process: Option<ProcessId>,
    thread: Option<ThreadId>,
    counter_layer: Option<Layer>,
    /// The track itself, made when its first event comes.
    track: Option<TrackId>,
}

/// All tracks of a recording by uuid.
#[derive(Default)]
pub(super) struct Tracks {
    index: FxHashMap<u64, u32>,
    described: Vec<Described>,
    processes: FxHashMap<u32, ProcessId>,
    threads: FxHashMap<(u32, u32), ThreadId>,
    /// The uuid asked for last: events come in runs.
    last: Option<(u64, u32)>,
}

impl Tracks {
    #[inline]
    fn slot(&mut self, uuid: u64) -> u32 {
        if let Some((last, slot)) = self.last
            && last == uuid
        {
            return slot;
        }
        let described = &mut self.described;
        let slot = *self.index.entry(uuid).or_insert_with(|| {
            described.push(Described::default());
            (described.len() - 1) as u32
        });
        self.last = Some((uuid, slot));
        slot
    }

    /// The track of a uuid, made at its first event.
    #[inline]
    pub fn track(&mut self, uuid: u64, layer: impl FnOnce(&Builder) -> Layer, builder: &mut Builder) -> TrackId {
        let slot = self.slot(uuid) as usize;
        let described = &mut self.described[slot];
        if let Some(track) = described.track {
            return track;
        }
        let layer = described.counter_layer.unwrap_or_else(|| layer(builder));
        *described.track.insert(builder.track(Parent::Global, StrId(0), layer))
    }

    /// Sets the rank of the process whose own track this is; false if it is none.
    pub fn set_rank(&mut self, uuid: u64, rank: u32, builder: &mut Builder) -> bool {
        let slot = self.slot(uuid) as usize;
        let Some(id) = self.described[slot].process else { return false };
        if let Some(process) = builder.trace.processes.get_mut(id.0 as usize) {
            process.rank = Some(rank);
        }
        true
    }

    fn process(&mut self, pid: u32, builder: &mut Builder) -> ProcessId {
        let processes = &mut builder.trace.processes;
        *self.processes.entry(pid).or_insert_with(|| {
            processes.push(Process { pid, name: String::new(), rank: None, cmdline: None });
            ProcessId((processes.len() - 1) as u32)
        })
    }

    /// Takes a `TrackDescriptor`.
    pub fn descriptor(&mut self, body: &[u8], builder: &mut Builder) -> Result<(), Malformed> {
        let mut uuid = 0;
        let mut new = Described::default();
        for item in Fields::of(body) {
            let (number, value) = item?;
            match number {
                field::TRACK_UUID => uuid = value.uint(),
                field::TRACK_PARENT => new.parent = Some(value.uint()),
                field::TRACK_NAME | field::TRACK_STATIC_NAME => {
                    new.name = Some(builder.text(&String::from_utf8_lossy(value.bytes())));
                }
                field::TRACK_PROCESS => new.process = Some(self.process_descriptor(value.bytes(), builder)?),
                field::TRACK_THREAD => new.thread = Some(self.thread_descriptor(value.bytes(), builder)?),
                field::TRACK_COUNTER => new.counter_layer = Some(counter_layer(value.bytes())?),
                _ => {}
            }
        }
        let slot = self.slot(uuid) as usize;
        let known = &mut self.described[slot];
        known.parent = new.parent.or(known.parent);
        known.name = new.name.or(known.name);
        known.process = new.process.or(known.process);
        known.thread = new.thread.or(known.thread);
        known.counter_layer = new.counter_layer.or(known.counter_layer);
        Ok(())
    }

    fn process_descriptor(&mut self, body: &[u8], builder: &mut Builder) -> Result<ProcessId, Malformed> {
        let (mut pid, mut name, mut cmdline) = (0, None, Vec::new());
        for item in Fields::of(body) {
            match item? {
                (field::PROCESS_PID, value) => pid = value.uint() as u32,
                (field::PROCESS_NAME, value) => name = Some(String::from_utf8_lossy(value.bytes()).into_owned()),
                (field::PROCESS_CMDLINE, value) => cmdline.push(String::from_utf8_lossy(value.bytes()).into_owned()),
                _ => {}
            }
        }
        let id = self.process(pid, builder);
        if let Some(process) = builder.trace.processes.get_mut(id.0 as usize) {
            if let Some(name) = name {
                process.name = name;
            }
            if !cmdline.is_empty() {
                process.cmdline = Some(cmdline.join(" "));
            }
        }
        Ok(id)
    }

    fn thread_descriptor(&mut self, body: &[u8], builder: &mut Builder) -> Result<ThreadId, Malformed> {
        let (mut pid, mut tid, mut name) = (0, 0, None);
        for item in Fields::of(body) {
            match item? {
                (field::THREAD_PID, value) => pid = value.uint() as u32,
                (field::THREAD_TID, value) => tid = value.uint() as u32,
                (field::THREAD_NAME, value) => name = Some(String::from_utf8_lossy(value.bytes()).into_owned()),
                _ => {}
            }
        }
        let process = self.process(pid, builder);
        let threads = &mut builder.trace.threads;
        let id = *self.threads.entry((pid, tid)).or_insert_with(|| {
            threads.push(Thread { process, tid, name: String::new() });
            ThreadId((threads.len() - 1) as u32)
        });
        if let (Some(name), Some(thread)) = (name, threads.get_mut(id.0 as usize)) {
            thread.name = name;
        }
        Ok(id)
    }

    /// Gives every track its owner and name, once all descriptors are known.
    pub fn resolve(&self, builder: &mut Builder) {
        for process in &mut builder.trace.processes {
            if let Some(rank) = process.rank
                && let Some(plain) = process.name.strip_prefix(&format!("rank {rank}: "))
            {
                process.name = plain.to_owned();
            }
        }
        for described in &self.described {
            let Some(id) = described.track else { continue };
            let parent = self.owner(described);
            let name = match described.name {
                Some(name) => name,
                None => {
                    let layer = builder.track_mut(id).map_or(Layer::Other, |t| t.layer);
                    builder.text(if layer == Layer::Other { "" } else { layer.name() })
                }
            };
            if let Some(track) = builder.track_mut(id) {
                track.parent = parent;
                track.name = name;
            }
        }
    }

    fn owner<'a>(&'a self, mut described: &'a Described) -> Parent {
        for _ in 0..MAX_DEPTH {
            if let Some(thread) = described.thread {
                return Parent::Thread(thread);
            }
            if let Some(process) = described.process {
                return Parent::Process(process);
            }
            let above = described.parent.and_then(|uuid| self.index.get(&uuid));
            match above.and_then(|slot| self.described.get(*slot as usize)) {
                Some(above) => described = above,
                None => return Parent::Global,
            }
        }
        Parent::Global
    }
}

fn counter_layer(body: &[u8]) -> Result<Layer, Malformed> {
    let mut layer = Layer::Other;
    for item in Fields::of(body) {
        if let (field::COUNTER_CATEGORY, value) = item? {
            layer = std::str::from_utf8(value.bytes()).map_or(Layer::Other, Layer::from_name);
        }
    }
    Ok(layer)
}
