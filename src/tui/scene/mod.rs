//! The recording made ready for looking at: levels of detail, the tree of rows, steps, partners,
//! the verdict. Plain data; knows nothing of what is on the screen.

mod class;
mod grow;
mod partners;
mod peers;
mod stack;
mod steps;
mod tree;

use std::sync::Arc;

use crate::analyze::{Report, StepTimes};
use crate::trace::{Class, Flags, Growth, Slice, StrId, Trace, Track, TrackId, TrackIndex};

pub use class::{
    BACKWARD, CLASS_NAMES, COLLECTIVE, COMPUTE, DATA, DISK, IDLE, LAUNCH, LIBRARY, LOCK, MEMORY, NETWORK, OTHER,
    PYTHON, RUNNABLE, RUNNING, SYNCHRONIZE, class_of,
};
pub use grow::Grown;
pub use partners::{Partner, PartnerKind};
pub use steps::{OutlierAt, Outliers};
pub use tree::{Node, NodeId, NodeKind, Tree};

/// A stretch of time, never empty: `to_ns > from_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First nanosecond.
    pub from_ns: u64,
    /// First nanosecond after it.
    pub to_ns: u64,
}

impl Window {
    /// A window of at least one nanosecond.
    pub fn new(from_ns: u64, to_ns: u64) -> Window {
        let from_ns = from_ns.min(u64::MAX - 1);
        Window { from_ns, to_ns: to_ns.max(from_ns + 1) }
    }

    /// Length in ns, at least 1.
    pub fn len_ns(self) -> u64 {
        self.to_ns - self.from_ns
    }

    /// Whether a moment is inside.
    pub fn holds(self, ts_ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&ts_ns)
    }
}

/// One slice of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SliceRef {
    /// Its track.
    pub track: TrackId,
    /// Its index on the track.
    pub index: u32,
}

/// A recording made ready. Everything here can be rebuilt from `trace`.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// The recording, shared with what reads it in the background.
    pub trace: Arc<Trace>,
    /// One a track.
    pub index: Vec<TrackIndex>,
    /// By [`StrId`](crate::trace::StrId).
    pub classes: Vec<Class>,
    /// Rank → process → thread → track.
    pub tree: Tree,
    /// The whole recording; `None` while it holds nothing.
    pub bounds: Option<Window>,
    /// The judge's report, once it has spoken.
    pub report: Option<Report>,
    /// Steps by driving thread, once the judge has spoken.
    pub steps: Vec<StepTimes>,
    /// What is unusual, once the judge has spoken.
    pub outliers: Outliers,
    /// Slices shorter than this are in no row, in ns; see [`Scene::refilter`].
    pub min_ns: u64,
    /// What is kept to let the recording grow; see [`Scene::grow`].
    pub growth: Growth,
}

impl Scene {
    /// Makes a recording ready.
    pub fn new(trace: Arc<Trace>) -> Scene {
        let classes: Vec<Class> = class::classes(&trace, 0);
        let index = index(&trace, &classes, 0);
        let tree = Tree::of(&trace);
        let bounds = trace.bounds_ns().map(|bounds| bounds_of(&trace, bounds));
        Scene { trace, index, classes, tree, bounds, ..Scene::default() }
    }

    /// Leaves slices shorter than this out of the rows; those still open stay.
    pub fn refilter(&mut self, min_ns: u64) {
        if self.min_ns != min_ns {
            self.min_ns = min_ns;
            self.index = index(&self.trace, &self.classes, min_ns);
        }
    }

    /// The slice itself; `None` for one that is not there (any more).
    pub fn slice(&self, at: SliceRef) -> Option<&Slice> {
        self.trace.tracks.get(at.track.0 as usize)?.slices.get(at.index as usize)
    }

    /// The slice of a track that starts at a moment and has a name.
    pub fn find_slice(&self, track: TrackId, start_ns: u64, name: StrId) -> Option<SliceRef> {
        let slices = &self.trace.tracks.get(track.0 as usize)?.slices;
        let first = slices.partition_point(|slice| slice.start_ns < start_ns);
        let same = slices.get(first..)?.iter().take_while(|slice| slice.start_ns == start_ns);
        let at = first + same.into_iter().position(|slice| slice.name == name)?;
        Some(SliceRef { track, index: u32::try_from(at).ok()? })
    }

    /// Its name.
    pub fn name(&self, at: SliceRef) -> &str {
        self.slice(at).map_or("", |s| self.trace.text(s.name))
    }
}

/// Whether a slice is long enough to be seen.
fn keeps(min_ns: u64) -> impl Fn(&Slice) -> bool {
    move |slice| slice.dur_ns >= min_ns || slice.flags.has(Flags::UNFINISHED)
}

fn index(trace: &Trace, classes: &[Class], min_ns: u64) -> Vec<TrackIndex> {
    trace.tracks.iter().map(|track| TrackIndex::build(track, classes, &keeps(min_ns))).collect()
}

/// The recording's bounds as a window: what has no length and stands at the very end is inside.
fn bounds_of(trace: &Trace, (from_ns, to_ns): (u64, u64)) -> Window {
    let last = |track: &Track| {
        let slice = track.slices.last().map(|slice| slice.start_ns);
        slice.max(track.instants.last().map(|instant| instant.ts_ns)) == Some(to_ns)
    };
    Window::new(from_ns, to_ns.saturating_add(u64::from(trace.tracks.iter().any(last))))
}
