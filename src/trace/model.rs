//! The in-memory timeline: what the readers build and the judge reads.
//!
//! All times are nanoseconds of the recording's own clock (CLOCK_MONOTONIC for our
//! captures). A slice takes 32 bytes, so that ten million of them fit in 320 MB.

use rustc_hash::FxHashMap;

use super::args::ArgPool;
use super::meta::CaptureMeta;
use super::perfetto::ClockSnapshot;

/// Index into [`Strings`]; 0 is the empty string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct StrId(pub u32);

/// Index into [`Trace::processes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

/// Index into [`Trace::threads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(pub u32);

/// Index into [`Trace::tracks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u32);

/// Where a slice's arguments start in [`Trace::args`]; 0 means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ArgsId(pub u32);

/// The kind of activity a track shows; also the category written into recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// On-CPU and off-CPU slices of a thread.
    Sched,
    /// System calls.
    Syscall,
    /// File, block and page-fault activity.
    Io,
    /// Python frames.
    Python,
    /// PyTorch operators, autograd nodes, optimizer steps.
    Torch,
    /// CUDA runtime and driver calls on the host.
    Cuda,
    /// Collectives: NCCL, gloo.
    Nccl,
    /// Work on the device itself, measured (Kineto) or estimated.
    Gpu,
    /// Training or inference steps, where the recording itself marks them.
    Step,
    /// The recording's own notes ([`CaptureMeta`]).
    Meta,
    /// Anything else a foreign trace holds.
    Other,
}

impl Layer {
    /// All layers, in display order.
    pub const ALL: [Layer; 11] = [
        Layer::Step,
        Layer::Gpu,
        Layer::Nccl,
        Layer::Cuda,
        Layer::Torch,
        Layer::Python,
        Layer::Syscall,
        Layer::Io,
        Layer::Sched,
        Layer::Meta,
        Layer::Other,
    ];

    /// The category name used in recordings, in `--layers` and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Sched => "sched",
            Layer::Syscall => "syscall",
            Layer::Io => "io",
            Layer::Python => "python",
            Layer::Torch => "torch",
            Layer::Cuda => "cuda",
            Layer::Nccl => "nccl",
            Layer::Gpu => "gpu",
            Layer::Step => "step",
            Layer::Meta => "aictl",
            Layer::Other => "other",
        }
    }

    /// The layer of a category name; [`Layer::Other`] for a foreign one.
    pub fn from_name(name: &str) -> Layer {
        Layer::ALL.into_iter().find(|l| l.name() == name).unwrap_or(Layer::Other)
    }
}

/// One process of the recording.
#[derive(Debug, Clone)]
pub struct Process {
    /// Process id as the host sees it.
    pub pid: u32,
    /// Short name (comm, or what the trace says).
    pub name: String,
    /// Rank in a distributed job, where known (RANK in its environment, Kineto's distributedInfo).
    pub rank: Option<u32>,
    /// Command line, where known.
    pub cmdline: Option<String>,
}

/// One thread of a process.
#[derive(Debug, Clone)]
pub struct Thread {
    /// Owner.
    pub process: ProcessId,
    /// Thread id as the host sees it; equal to the pid for the main thread.
    pub tid: u32,
    /// Thread name.
    pub name: String,
}

/// What a track hangs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parent {
    /// The whole recording.
    Global,
    /// A process.
    Process(ProcessId),
    /// A thread.
    Thread(ThreadId),
}

/// A line of the timeline. Slices nest: they are sorted by (start, depth) and never cross.
#[derive(Debug, Clone)]
pub struct Track {
    /// What it hangs under.
    pub parent: Parent,
    /// Its name ("torch", "GPU stream 7 (estimated)", "CPU %").
    pub name: StrId,
    /// What it shows.
    pub layer: Layer,
    /// Slices sorted by start; a child follows its parent.
    pub slices: Vec<Slice>,
    /// Points in time, sorted.
    pub instants: Vec<Instant>,
    /// Counter values, sorted by time; empty on slice tracks.
    pub counters: Vec<CounterSample>,
}

/// Facts about one slice, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// The duration is an estimate (for example launch to the next synchronize).
    pub const ESTIMATE: Flags = Flags(1);
    /// The slice had no end in the recording; it was closed at the recording's end or its parent's.
    pub const UNFINISHED: Flags = Flags(2);
    /// Start or end was moved so that slices nest.
    pub const CLAMPED: Flags = Flags(4);

    /// Whether all bits of `other` are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A span of time on a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Start in ns.
    pub start_ns: u64,
    /// Length in ns.
    pub dur_ns: u64,
    /// What ran.
    pub name: StrId,
    /// Its arguments.
    pub args: ArgsId,
    /// Nesting depth on its track, 0 at the top.
    pub depth: u16,
    /// Facts about it.
    pub flags: Flags,
}

impl Slice {
    /// First nanosecond after the slice.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.dur_ns)
    }
}

/// A point in time on a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// When, in ns.
    pub ts_ns: u64,
    /// What.
    pub name: StrId,
    /// Its arguments.
    pub args: ArgsId,
}

/// A counter's value from a time on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CounterSample {
    /// When, in ns.
    pub ts_ns: u64,
    /// The value, in the track's unit.
    pub value: f64,
}

/// An argument's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// An unsigned number.
    U64(u64),
    /// A signed number.
    I64(i64),
    /// A fraction.
    F64(f64),
    /// A text.
    Str(StrId),
}

/// Interned texts: every name is stored once.
#[derive(Debug, Clone)]
pub struct Strings {
    texts: Vec<Box<str>>,
    ids: FxHashMap<Box<str>, StrId>,
}

impl Default for Strings {
    fn default() -> Self {
        let mut strings = Strings { texts: Vec::new(), ids: FxHashMap::default() };
        strings.intern("");
        strings
    }
}

impl Strings {
    /// Returns the id of `text`, storing it if it is new.
    pub fn intern(&mut self, text: &str) -> StrId {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        // 2^32 distinct names do not fit in memory before this saturates.
        let id = StrId(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        self.texts.push(text.into());
        self.ids.insert(text.into(), id);
        id
    }

    /// Returns the id of `text` if it is stored.
    pub fn find(&self, text: &str) -> Option<StrId> {
        self.ids.get(text).copied()
    }

    /// Returns the text of an id; empty for one this table never gave.
    pub fn get(&self, id: StrId) -> &str {
        self.texts.get(id.0 as usize).map_or("", |t| t)
    }

    /// How many texts are stored, the empty one included.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether only the empty text is stored.
    pub fn is_empty(&self) -> bool {
        self.texts.len() <= 1
    }
}

/// A whole recording.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Interned texts.
    pub strings: Strings,
    /// Processes, in order of appearance.
    pub processes: Vec<Process>,
    /// Threads, in order of appearance.
    pub threads: Vec<Thread>,
    /// Tracks, in order of appearance.
    pub tracks: Vec<Track>,
    /// A run of (key, value) for each [`ArgsId`].
    pub args: ArgPool,
    /// A moment of the recording on the wall clock, where it tells one.
    pub clock: Option<ClockSnapshot>,
    /// The recording's own notes, the last written.
    pub meta: Option<CaptureMeta>,
    /// What the reader had to mend or leave out, for people ("file is cut: 3 packets lost").
    pub warnings: Vec<String>,
}

impl Trace {
    /// Stores a run of arguments and returns its id; none for an empty run.
    pub fn push_args(&mut self, args: impl IntoIterator<Item = (StrId, Arg)>) -> ArgsId {
        self.args.push(args)
    }

    /// Iterates over the arguments of a slice or instant.
    pub fn args_of(&self, id: ArgsId) -> impl Iterator<Item = (&str, Arg)> {
        self.args.run(id).map(|(key, value)| (self.strings.get(key), value))
    }

    /// Returns one argument by name.
    pub fn arg(&self, id: ArgsId, key: &str) -> Option<Arg> {
        self.args_of(id).find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Returns one argument as a text.
    pub fn arg_str(&self, id: ArgsId, key: &str) -> Option<&str> {
        match self.arg(id, key)? {
            Arg::Str(text) => Some(self.strings.get(text)),
            _ => None,
        }
    }

    /// Returns one argument as an unsigned number.
    pub fn arg_u64(&self, id: ArgsId, key: &str) -> Option<u64> {
        match self.arg(id, key)? {
            Arg::U64(n) => Some(n),
            Arg::I64(n) => u64::try_from(n).ok(),
            Arg::F64(n) if n >= 0.0 => Some(n as u64),
            _ => None,
        }
    }

    /// Name of a slice, instant or track.
    pub fn text(&self, id: StrId) -> &str {
        self.strings.get(id)
    }

    /// First and last nanosecond of the recording; `None` if it holds nothing.
    pub fn bounds_ns(&self) -> Option<(u64, u64)> {
        let mut bounds: Option<(u64, u64)> = None;
        let mut grow = |start: u64, end: u64| {
            bounds = Some(bounds.map_or((start, end), |(a, b)| (a.min(start), b.max(end))));
        };
        for track in self.tracks.iter().filter(|t| t.layer != Layer::Meta) {
            if let Some(first) = track.slices.first() {
                // Depth-0 slices do not overlap, so the last of them ends the track.
                let end = track.slices.iter().rev().find(|s| s.depth == 0).map_or(first.end_ns(), Slice::end_ns);
                grow(first.start_ns, end.max(first.end_ns()));
            }
            if let (Some(first), Some(last)) = (track.instants.first(), track.instants.last()) {
                grow(first.ts_ns, last.ts_ns);
            }
        }
        bounds
    }

    /// Number of slices on all tracks.
    pub fn slice_count(&self) -> usize {
        self.tracks.iter().map(|t| t.slices.len()).sum()
    }

    /// The tracks of one thread.
    pub fn tracks_of_thread(&self, thread: ThreadId) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(move |t| t.parent == Parent::Thread(thread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_stored() {
        let mut trace = Trace::default();
        assert_eq!(trace.push_args([]), ArgsId(0));
        let bytes = trace.strings.intern("bytes");
        let first = trace.push_args([(bytes, Arg::U64(7))]);
        let second = trace.push_args([(bytes, Arg::U64(8))]);
        assert_eq!(trace.arg_u64(first, "bytes"), Some(7));
        assert_eq!(trace.arg_u64(second, "bytes"), Some(8));
        assert_eq!(trace.arg_u64(ArgsId(0), "bytes"), None);
        assert_eq!(trace.args_of(first).count(), 1);
    }

    #[test]
    fn a_slice_stays_small() {
        assert_eq!(std::mem::size_of::<Slice>(), 32);
    }

    #[test]
    fn layer_names_round_trip() {
        for layer in Layer::ALL {
            assert_eq!(Layer::from_name(layer.name()), layer);
        }
    }
}
