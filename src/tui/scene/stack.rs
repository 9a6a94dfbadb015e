//! What a slice is inside of, and where a place of the judge's evidence is.

use super::{Scene, SliceRef};
use crate::analyze::track_path;
use crate::trace::{Layer, Parent, ProcessId, ThreadId, TrackId};

/// Deeper stacks than this are cut: no screen shows more.
const DEEPEST: usize = 1024;

impl Scene {
    /// Slices of a track that are open at a moment, outermost first.
    pub fn open_at(&self, track: TrackId, ts_ns: u64) -> Vec<SliceRef> {
        self.open_above(track, ts_ns, usize::MAX)
    }

    /// The parents of a slice, outermost first.
    pub fn parents(&self, at: SliceRef) -> Vec<SliceRef> {
        match self.slice(at) {
            Some(slice) => self.open_above(at.track, slice.start_ns, usize::from(slice.depth)),
            None => Vec::new(),
        }
    }

    fn open_above(&self, track: TrackId, ts_ns: u64, depth: usize) -> Vec<SliceRef> {
        let place = track.0 as usize;
        let (Some(data), Some(index)) = (self.trace.tracks.get(place), self.index.get(place)) else {
            return Vec::new();
        };
        let depths = index.depths().min(depth).min(DEEPEST);
        (0..depths).filter_map(|d| Some(SliceRef { track, index: index.at(data, d, ts_ns)? })).collect()
    }

    /// The fullest track of a thread on a layer.
    pub fn thread_track(&self, thread: ThreadId, layer: Layer) -> Option<TrackId> {
        let tracks = self.trace.tracks.iter().enumerate();
        tracks
            .filter(|(_, t)| t.layer == layer && t.parent == Parent::Thread(thread))
            .max_by_key(|(i, t)| (t.slices.len(), std::cmp::Reverse(*i)))
            .map(|(i, _)| TrackId(i as u32))
    }

    /// Process that a track belongs to.
    pub fn process_of(&self, track: TrackId) -> Option<ProcessId> {
        match self.trace.tracks.get(track.0 as usize)?.parent {
            Parent::Global => None,
            Parent::Process(process) => Some(process),
            Parent::Thread(thread) => self.trace.threads.get(thread.0 as usize).map(|t| t.process),
        }
    }

    /// The slice of a piece of evidence: its track as "PROCESS PID/THREAD TID/NAME", its start and
    /// length; the slice that covers the start where none fits exactly.
    pub fn place(&self, path: &str, ts_ns: u64, dur_ns: Option<u64>) -> Option<SliceRef> {
        let tracks = self.trace.tracks.iter().enumerate();
        // Most names can be ruled out without the whole path.
        let named = tracks.filter(|(_, t)| path.ends_with(self.trace.text(t.name)));
        let here = named.filter(|(_, t)| track_path(&self.trace, t) == path);
        let mut covers = None;
        for (i, track) in here {
            let id = TrackId(i as u32);
            let first = track.slices.partition_point(|s| s.start_ns < ts_ns);
            let same_start = track.slices.iter().enumerate().skip(first).take_while(|(_, s)| s.start_ns == ts_ns);
            for (index, slice) in same_start {
                let found = SliceRef { track: id, index: u32::try_from(index).ok()? };
                if dur_ns.is_none_or(|dur| dur == slice.dur_ns) {
                    return Some(found);
                }
                covers.get_or_insert(found);
            }
            covers = covers.or_else(|| self.open_at(id, ts_ns).pop());
        }
        covers
    }
}
