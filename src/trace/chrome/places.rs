//! Finds the track an event belongs to: processes, threads, streams and layers.

use rustc_hash::FxHashMap;

use super::event::{Members, Scalar};
use super::kineto::Lane;
use crate::trace::build::Builder;
use crate::trace::model::{Layer, Parent, Process, ProcessId, Thread, ThreadId, TrackId};

/// Set in a [`Key`] made of a text's id.
const TEXT: u64 = 1 << 62;

/// A pid, tid or id as the file has it: a number, or a text's id with [`TEXT`] set.
type Key = u64;

/// What `M` events said of a process.
#[derive(Default)]
struct ProcessNote {
    name: Option<String>,
    cmdline: Option<String>,
    rank: Option<u32>,
}

/// All places events have named.
#[derive(Default)]
pub(super) struct Places {
    processes: FxHashMap<Key, ProcessId>,
    threads: FxHashMap<(Key, Key), ThreadId>,
    tracks: FxHashMap<(Key, Key, u8), TrackId>,
    /// Tracks our own writer declared, by pid and tid.
    declared: FxHashMap<(Key, Key), TrackId>,
    counters: FxHashMap<(Key, Key), TrackId>,
    process_notes: FxHashMap<Key, ProcessNote>,
    thread_names: FxHashMap<(Key, Key), String>,
    devices: Vec<TrackId>,
    /// Where the slices opened by `B` are, by thread: an `E` names no category.
    open: FxHashMap<(Key, Key), Vec<TrackId>>,
}

fn key(value: &Scalar<'_>, builder: &mut Builder) -> Key {
    match value {
        Scalar::Text(text) => TEXT | u64::from(builder.text(text).0),
        Scalar::U64(n) => *n,
        Scalar::I64(n) => *n as u64,
        Scalar::F64(n) => *n as i64 as u64,
        _ => 0,
    }
}

fn number(key: Key) -> u32 {
    if key & TEXT != 0 { 0 } else { u32::try_from(key).unwrap_or(0) }
}

impl Places {
    fn process(&mut self, key: Key, builder: &mut Builder) -> ProcessId {
        let trace = &mut builder.trace;
        *self.processes.entry(key).or_insert_with(|| {
            let name = match key & TEXT {
                0 => String::new(),
                _ => trace.strings.get(crate::trace::StrId(key as u32)).to_owned(),
            };
            trace.processes.push(Process { pid: number(key), name, rank: None, cmdline: None });
            ProcessId((trace.processes.len() - 1) as u32)
        })
    }

    fn thread(&mut self, pid: Key, tid: Key, builder: &mut Builder) -> ThreadId {
        let process = self.process(pid, builder);
        let trace = &mut builder.trace;
        *self.threads.entry((pid, tid)).or_insert_with(|| {
            let name = match tid & TEXT {
                0 => String::new(),
                _ => trace.strings.get(crate::trace::StrId(tid as u32)).to_owned(),
            };
            trace.threads.push(Thread { process, tid: number(tid), name });
            ThreadId((trace.threads.len() - 1) as u32)
        })
    }

    /// Takes an `M` event.
    pub fn metadata(
        &mut self,
        name: &str,
        pid: &Scalar<'_>,
        tid: &Scalar<'_>,
        args: &Members<'_>,
        builder: &mut Builder,
    ) {
        let (pid, tid) = (key(pid, builder), key(tid, builder));
        match name {
            "process_name" => {
                let note = self.process_notes.entry(pid).or_default();
                note.name = Some(args.get("name").text().to_owned());
                if let Scalar::Text(cmdline) = args.get("cmdline") {
                    note.cmdline = Some(cmdline.into_owned());
                }
                if let Some(rank) = args.get("rank").u64() {
                    note.rank = u32::try_from(rank).ok();
                }
            }
            "thread_name" => match (args.get("track"), args.get("layer")) {
                (Scalar::Text(track), Scalar::Text(layer)) => {
                    let parent = if args.get("global").u64() == Some(1) {
                        Parent::Global
                    } else if let Some(owner) = args.get("thread").u64() {
                        Parent::Thread(self.thread(pid, owner, builder))
                    } else {
                        Parent::Process(self.process(pid, builder))
                    };
                    let track = builder.text(&track);
                    let id = builder.track(parent, track, Layer::from_name(&layer));
                    self.declared.insert((pid, tid), id);
                }
                _ => {
                    self.thread_names.insert((pid, tid), args.get("name").text().to_owned());
                }
            },
            _ => {}
        }
    }

    /// The track of an event.
    pub fn track(&mut self, pid: &Scalar<'_>, tid: &Scalar<'_>, lane: Lane, builder: &mut Builder) -> Option<TrackId> {
        let (pid, tid) = (key(pid, builder), key(tid, builder));
        if let Some(&track) = self.declared.get(&(pid, tid)) {
            return Some(track);
        }
        let number = match lane {
            Lane::Host(layer) => layer as u8,
            Lane::Device(layer) => 32 + layer as u8,
            Lane::DeviceNotes => 64,
            Lane::Skip => return None,
        };
        if let Some(&track) = self.tracks.get(&(pid, tid, number)) {
            return Some(track);
        }
        let track = match lane {
            Lane::Host(layer) => {
                let thread = self.thread(pid, tid, builder);
                let name = builder.text(if layer == Layer::Sched { "cpu" } else { layer.name() });
                builder.track(Parent::Thread(thread), name, layer)
            }
            Lane::Device(_) | Lane::DeviceNotes => {
                let layer = if let Lane::Device(layer) = lane { layer } else { Layer::Other };
                let notes = if lane == Lane::DeviceNotes { " annotations" } else { "" };
                let shown = |key: Key, builder: &Builder| match key & TEXT {
                    0 => key.to_string(),
                    _ => builder.trace.text(crate::trace::StrId(key as u32)).to_owned(),
                };
                let name = format!("GPU {} stream {}{notes}", shown(pid, builder), shown(tid, builder));
                let name = builder.text(&name);
                let track = builder.track(Parent::Global, name, layer);
                self.devices.push(track);
                track
            }
            Lane::Skip => return None,
        };
        self.tracks.insert((pid, tid, number), track);
        Some(track)
    }

    /// Notes that a `B` opened a slice.
    pub fn opened(&mut self, pid: &Scalar<'_>, tid: &Scalar<'_>, track: TrackId, builder: &mut Builder) {
        let place = (key(pid, builder), key(tid, builder));
        self.open.entry(place).or_default().push(track);
    }

    /// The track of the slice that an `E` closes.
    pub fn closing(&mut self, pid: &Scalar<'_>, tid: &Scalar<'_>, builder: &mut Builder) -> Option<TrackId> {
        let place = (key(pid, builder), key(tid, builder));
        self.open.get_mut(&place).and_then(Vec::pop)
    }

    /// The track of asynchronous events: those of one category and id hang together.
    pub fn flying(&mut self, pid: &Scalar<'_>, cat: &str, id: &Scalar<'_>, builder: &mut Builder) -> TrackId {
        let pid = key(pid, builder);
        let id = key(id, builder);
        let cat_key = TEXT | u64::from(builder.text(cat).0);
        // Categories and ids are few enough to be told apart by their mixture.
        let mixed = cat_key ^ id.rotate_left(21);
        if let Some(&track) = self.tracks.get(&(pid, mixed, 65)) {
            return track;
        }
        let process = self.process(pid, builder);
        let name = builder.text(cat);
        let track = builder.track(Parent::Process(process), name, Layer::from_name(cat));
        self.tracks.insert((pid, mixed, 65), track);
        track
    }

    /// The track of a counter's series.
    pub fn counter(
        &mut self,
        event: (&Scalar<'_>, &Scalar<'_>),
        name: &str,
        layer: Layer,
        builder: &mut Builder,
    ) -> TrackId {
        let (pid, tid) = (key(event.0, builder), key(event.1, builder));
        if let Some(&track) = self.declared.get(&(pid, tid)) {
            return track;
        }
        let name = builder.text(name);
        if let Some(&track) = self.counters.get(&(pid, u64::from(name.0))) {
            return track;
        }
        let process = self.process(pid, builder);
        let track = builder.track(Parent::Process(process), name, layer);
        self.counters.insert((pid, u64::from(name.0)), track);
        track
    }

    /// Applies names and ranks, and gives devices to the process that used them.
    pub fn resolve(self, rank: Option<u32>, builder: &mut Builder) {
        let trace = &mut builder.trace;
        for (key, note) in self.process_notes {
            let Some(process) = self.processes.get(&key).and_then(|id| trace.processes.get_mut(id.0 as usize)) else {
                continue;
            };
            process.rank = note.rank;
            process.cmdline = note.cmdline;
            if let Some(name) = note.name {
                let prefix = note.rank.map(|rank| format!("rank {rank}: ")).unwrap_or_default();
                process.name = name.strip_prefix(prefix.as_str()).unwrap_or(&name).to_owned();
            }
        }
        for (key, name) in self.thread_names {
            if let Some(thread) = self.threads.get(&key).and_then(|id| trace.threads.get_mut(id.0 as usize)) {
                thread.name = name;
            }
        }
        // A Kineto file is one rank's; its devices are numbered like processes.
        if let [process] = trace.processes.as_mut_slice() {
            process.rank = process.rank.or(rank);
            for id in &self.devices {
                if let Some(track) = trace.tracks.get_mut(id.0 as usize) {
                    track.parent = Parent::Process(ProcessId(0));
                }
            }
        } else if let Some(rank) = rank {
            for process in &mut trace.processes {
                process.rank = process.rank.or(Some(rank));
            }
        }
    }
}
