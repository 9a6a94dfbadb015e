//! The Python functions of a recording, each once, with what they seem to be for.

use rustc_hash::FxHashMap;

use super::index::{Keys, ThreadTracks, as_u64};
use super::names::{FrameClass, frame_class, is_user_file};
use crate::trace::{Arg, Slice, StrId, Trace};

/// Index into [`Frames`]; 0 is "no frame".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub(super) struct FrameId(pub u32);

/// One Python function.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame {
    /// Qualified name.
    pub name: String,
    /// Path of its file.
    pub file: String,
    /// Its first line.
    pub line: u32,
    /// What it seems to be for.
    pub class: FrameClass,
    /// Written by the user: no library.
    pub user: bool,
}

/// What the arguments of a frame's slice say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FrameArgs {
    pub file: StrId,
    pub line: u32,
    /// Line in the caller.
    pub call_line: u32,
    pub native: StrId,
    pub gil: bool,
    pub waiting: bool,
}

/// All Python functions seen.
#[derive(Debug, Default)]
pub(super) struct Frames {
    all: Vec<Frame>,
    ids: FxHashMap<(StrId, StrId), FrameId>,
}

impl Frames {
    /// Goes over the Python tracks once.
    pub fn of(trace: &Trace, keys: &Keys, threads: &[ThreadTracks<'_>]) -> Frames {
        let mut frames = Frames { all: vec![Frame::default()], ids: FxHashMap::default() };
        for track in threads.iter().filter_map(|t| t.python) {
            for slice in &track.slices {
                let found = frame_args(trace, keys, slice);
                let next = FrameId(u32::try_from(frames.all.len()).unwrap_or(0));
                let id = *frames.ids.entry((slice.name, found.file)).or_insert(next);
                if id == next {
                    frames.all.push(describe(trace, slice, found));
                }
            }
        }
        frames
    }

    /// The function of a Python slice (of a line's slice, too).
    pub fn id(&self, name: StrId, file: StrId) -> FrameId {
        self.ids.get(&(name, file)).copied().unwrap_or_default()
    }

    /// A function.
    pub fn get(&self, id: FrameId) -> &Frame {
        &self.all[(id.0 as usize).min(self.all.len() - 1)]
    }

    /// How many there are, "no frame" included.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

/// Reads a Python slice's arguments.
pub(super) fn frame_args(trace: &Trace, keys: &Keys, slice: &Slice) -> FrameArgs {
    let mut found = FrameArgs::default();
    for (key, value) in trace.args.run(slice.args) {
        let number = || as_u64(value).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        match value {
            Arg::Str(text) if key == keys.file => found.file = text,
            Arg::Str(text) if key == keys.native => found.native = text,
            _ if key == keys.line => found.line = number(),
            _ if key == keys.call_line => found.call_line = number(),
            _ if key == keys.gil => found.gil = number() == 1,
            _ if key == keys.waiting => found.waiting = number() == 1,
            _ => {}
        }
    }
    found
}

fn describe(trace: &Trace, slice: &Slice, found: FrameArgs) -> Frame {
    let text = trace.text(slice.name);
    // PyTorch's profiler writes "train.py(42): train_step".
    let (name, file, line) = match text.split_once("): ").and_then(|(head, name)| {
        let (file, line) = head.rsplit_once('(')?;
        Some((name, file, line.parse().ok()?))
    }) {
        Some((name, file, line)) if found.file == StrId(0) => (name, file, line),
        _ => (text, trace.text(found.file), found.line),
    };
    let class = frame_class(name, file);
    Frame { name: name.to_owned(), file: file.to_owned(), line, class, user: is_user_file(file) }
}

/// Whether a forked child starts here: the frames around it are its parent's.
pub(super) fn begins_child(frame: &Frame) -> bool {
    frame.file.ends_with("multiprocessing/process.py") && frame.name.ends_with("_bootstrap")
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
