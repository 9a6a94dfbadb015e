//! A recording made ready for judging: tracks by thread, names sorted once.

use rustc_hash::FxHashMap;

use super::classify::TINY_OP_NS;
use super::frames::Frames;
use super::names::{CallKind, NativeClass, OpKind, Reason, call_kind, cuda_waits, native_class, op_kind, sched_reason};
use crate::trace::{Arg, ArgsId, Layer, Parent, ProcessId, Slice, StrId, Trace, Track};

/// Operators a second, left out to hold the budget, from which on unrecorded time in
/// libtorch is taken for launches, where the recording itself does not tell: at this rate an
/// operator has 8 µs with all that is around it.
const LAUNCHES_PER_S: f64 = 120_000.0;
/// So much time in operators, recorded before any was left out, tells what they are.
const TELLING_NS: u64 = 20_000_000;

/// Argument names, looked up once so that arguments are compared as numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    pub file: StrId,
    pub line: StrId,
    pub call_line: StrId,
    pub native: StrId,
    pub gil: StrId,
    pub waiting: StrId,
    pub waker: StrId,
    pub syscall: StrId,
    pub cpu: StrId,
    pub path: StrId,
    pub bytes: StrId,
    pub bus: StrId,
}

impl Keys {
    fn of(trace: &Trace) -> Keys {
        // An id that no string has and that does not end a run.
        let missing = StrId(u32::MAX - 1);
        let find = |text| trace.strings.find(text).unwrap_or(missing);
        Keys {
            file: find("file"),
            line: find("line"),
            call_line: find("call_line"),
            native: find("native"),
            gil: find("gil"),
            waiting: find("waiting"),
            waker: find("waker"),
            syscall: find("syscall"),
            cpu: find("cpu"),
            path: find("path"),
            bytes: find("bytes"),
            bus: find("bus_gb_s"),
        }
    }
}

/// What is known about a text that names slices.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NameFacts {
    pub reason: Reason,
    pub call: CallKind,
    pub op: OpKind,
    pub native: NativeClass,
    pub cuda_waits: bool,
    /// Reads like `train.py:42`: the line under a frame.
    pub is_line: bool,
}

/// The tracks of one thread, at most one a layer (the fullest), and its totals.
#[derive(Debug, Default)]
pub(super) struct ThreadTracks<'t> {
    pub sched: Option<&'t Track>,
    pub syscall: Option<&'t Track>,
    pub python: Option<&'t Track>,
    pub torch: Option<&'t Track>,
    pub cuda: Option<&'t Track>,
    pub nccl: Option<&'t Track>,
    pub step: Option<&'t Track>,
}

/// The recording, indexed.
pub(super) struct Index<'t> {
    pub trace: &'t Trace,
    pub keys: Keys,
    /// By [`StrId`].
    pub names: Vec<NameFacts>,
    pub frames: Frames,
    /// By thread, as in [`Trace::threads`].
    pub threads: Vec<ThreadTracks<'t>>,
    /// Threads by tid.
    pub by_tid: FxHashMap<u32, usize>,
    /// First and last nanosecond.
    pub start_ns: u64,
    pub end_ns: u64,
    /// Whether any thread has a `cpu` track: then a thread without one did not run.
    pub has_sched: bool,
    /// So many operators are missing from the recording that they must have been tiny.
    pub torch_thinned: bool,
}

impl<'t> Index<'t> {
    /// Goes over names and tracks once.
    pub fn new(trace: &'t Trace) -> Index<'t> {
        let (start_ns, end_ns) = trace.bounds_ns().unwrap_or((0, 0));
        let mut threads: Vec<ThreadTracks<'t>> = trace.threads.iter().map(|_| ThreadTracks::default()).collect();
        for track in &trace.tracks {
            let Parent::Thread(id) = track.parent else { continue };
            let Some(thread) = threads.get_mut(id.0 as usize) else { continue };
            let place = match track.layer {
                Layer::Sched => &mut thread.sched,
                Layer::Syscall => &mut thread.syscall,
                Layer::Python => &mut thread.python,
                Layer::Torch => &mut thread.torch,
                Layer::Cuda => &mut thread.cuda,
                Layer::Nccl => &mut thread.nccl,
                Layer::Step => &mut thread.step,
                _ => continue,
            };
            if place.is_none_or(|t| t.slices.len() < track.slices.len()) {
                *place = Some(track);
            }
        }
        let names: Vec<NameFacts> = (0..trace.strings.len())
            .map(|i| name_facts(trace.strings.get(StrId(u32::try_from(i).unwrap_or(u32::MAX)))))
            .collect();
        let by_tid = trace.threads.iter().enumerate().map(|(i, t)| (t.tid, i)).collect();
        let keys = Keys::of(trace);
        let has_sched = threads.iter().any(|t| t.sched.is_some_and(|s| !s.slices.is_empty()));
        let torch_thinned = launches_were_thinned(trace, &names);
        let frames = Frames::of(trace, &keys, &threads);
        Index { trace, keys, names, frames, threads, by_tid, start_ns, end_ns, has_sched, torch_thinned }
    }

    /// Facts about a name.
    pub fn name(&self, id: StrId) -> NameFacts {
        self.names.get(id.0 as usize).copied().unwrap_or_default()
    }

    /// The arguments of a slice, keys as numbers.
    pub fn args(&self, id: ArgsId) -> impl Iterator<Item = (StrId, Arg)> + 't {
        self.trace.args.run(id)
    }

    /// One argument as a number.
    pub fn arg_u64(&self, slice: &Slice, key: StrId) -> Option<u64> {
        self.args(slice.args).find(|(k, _)| *k == key).and_then(|(_, v)| as_u64(v))
    }

    /// One argument as a text's id.
    pub fn arg_str(&self, slice: &Slice, key: StrId) -> Option<StrId> {
        self.args(slice.args).find(|(k, _)| *k == key).and_then(|(_, v)| match v {
            Arg::Str(text) => Some(text),
            _ => None,
        })
    }

    /// Process of a thread.
    pub fn process_of(&self, thread: usize) -> usize {
        self.trace.threads.get(thread).map_or(usize::MAX, |t| t.process.0 as usize)
    }

    /// Length of the recording in ns.
    pub fn length_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }

    /// Where a slice lies, for people and for jumping to: "python3 812/python3 812/cpu".
    pub fn path(&self, track: &Track) -> String {
        track_path(self.trace, track)
    }
}

/// Where a track lies, as evidence tells it: "python3 812/python3 812/cpu", "python3 812/GPU
/// stream 7" for one of a process, the name alone for one of the whole recording.
pub fn track_path(trace: &Trace, track: &Track) -> String {
    let process = |id: ProcessId| {
        let process = trace.processes.get(id.0 as usize);
        process.map_or_else(String::new, |p| format!("{} {}/", p.name, p.pid))
    };
    let around = match track.parent {
        Parent::Global => String::new(),
        Parent::Process(id) => process(id),
        Parent::Thread(id) => trace
            .threads
            .get(id.0 as usize)
            .map_or_else(String::new, |t| format!("{}{} {}/", process(t.process), t.name, t.tid)),
    };
    around + trace.text(track.name)
}

/// A number that can't be negative.
pub(super) fn as_u64(value: Arg) -> Option<u64> {
    match value {
        Arg::U64(n) => Some(n),
        Arg::I64(n) => u64::try_from(n).ok(),
        Arg::F64(n) if n >= 0.0 => Some(n as u64),
        _ => None,
    }
}

/// Whether the operators left out to hold the budget were launches rather than work: before
/// the first was left out, most of the operators' time was in tiny ones.
fn launches_were_thinned(trace: &Trace, names: &[NameFacts]) -> bool {
    let thinned = || trace.meta.iter().flat_map(|m| &m.thinned).filter(|t| t.probe.starts_with("torch"));
    let Some(since) = thinned().map(|t| t.ts_ns).min() else { return false };
    let (mut tiny, mut large) = (0u64, 0u64);
    for track in trace.tracks.iter().filter(|t| t.layer == Layer::Torch) {
        let mut end = 0;
        for s in track.slices.iter().take_while(|s| s.start_ns < since) {
            let operator = names.get(s.name.0 as usize).is_some_and(|n| n.op == OpKind::Operator);
            if operator && s.start_ns >= end {
                end = s.end_ns();
                *(if s.dur_ns < TINY_OP_NS { &mut tiny } else { &mut large }) += s.dur_ns;
            }
        }
    }
    if tiny + large >= TELLING_NS {
        return tiny > large;
    }
    thinned().map(|t| t.hits_per_s).sum::<f64>() >= LAUNCHES_PER_S
}

fn name_facts(text: &str) -> NameFacts {
    let is_line = text.rsplit_once(':').is_some_and(|(file, line)| {
        !file.ends_with(':') && !file.is_empty() && !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())
    });
    NameFacts {
        reason: sched_reason(text),
        call: call_kind(text),
        op: op_kind(text),
        native: native_class(text),
        cuda_waits: cuda_waits(text),
        is_line,
    }
}
