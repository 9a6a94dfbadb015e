//! Goes over the slices of a stretch of time, track by track, in portions, and knows at each what
//! it is inside of.

use crate::trace::{Slice, Track, TrackId};
use crate::tui::scene::{Scene, SliceRef, Window};
use crate::tui::state::Filter;

/// Which tracks are gone over.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Visible {
    /// All that a filter lets through, without the slices it leaves out.
    Filter(Filter),
    /// These.
    Tracks(Vec<TrackId>),
}

impl Visible {
    fn track(&self, scene: &Scene, number: usize) -> Option<Option<TrackId>> {
        let filter = match self {
            Visible::Tracks(tracks) => return tracks.get(number).map(|t| Some(*t)),
            Visible::Filter(filter) => filter,
        };
        let track = scene.trace.tracks.get(number)?;
        let id = TrackId(number as u32);
        let process = || scene.process_of(id).and_then(|p| scene.trace.processes.get(p.0 as usize));
        let rank = || process().and_then(|p| p.rank).is_some_and(|rank| filter.ranks.contains(&rank));
        let shown = track.layer != crate::trace::Layer::Meta
            && !filter.hidden.contains(&track.layer)
            && (filter.ranks.is_empty() || rank());
        Some(shown.then_some(id))
    }

    fn least_ns(&self) -> u64 {
        match self {
            Visible::Filter(filter) => filter.min_ns,
            Visible::Tracks(_) => 0,
        }
    }
}

/// A slice that was come upon.
pub(super) struct Met {
    pub at: SliceRef,
    pub slice: Slice,
    /// Its time inside of the stretch and of its parent, in ns.
    pub inside_ns: u64,
    /// The first on its track.
    pub first: bool,
}

/// Where a walk is.
#[derive(Debug, Clone)]
pub(super) struct Walk<O> {
    window: Window,
    visible: Visible,
    /// Which of the tracks, and where on it; `None` before its first slice.
    track: usize,
    next: Option<usize>,
    /// Slices that were open when the stretch began and are still to be met, innermost first.
    before: Vec<SliceRef>,
    met: bool,
    /// What is open: its end, and what the visitor keeps about it.
    open: Vec<(u64, O)>,
}

impl<O> Walk<O> {
    pub fn new(window: Window, visible: Visible) -> Walk<O> {
        Walk { window, visible, track: 0, next: None, before: Vec::new(), met: false, open: Vec::new() }
    }

    /// Goes on for about `left` slices; true at the end. The visitor is told of each slice that
    /// closes, then of each that is met with what is open around it, and says what to keep.
    pub fn advance(
        &mut self,
        scene: &Scene,
        left: &mut usize,
        mut visit: impl FnMut(&Track, Option<&Met>, &mut Vec<(u64, O)>, Option<O>) -> Option<O>,
    ) -> bool {
        let least_ns = self.visible.least_ns();
        while let Some(id) = self.visible.track(scene, self.track) {
            if *left == 0 {
                return false;
            }
            // A track that was begun has been paid for, or one slice a frame would be none.
            *left -= usize::from(self.next.is_none());
            let track = id.and_then(|id| scene.trace.tracks.get(id.0 as usize).map(|track| (id, track)));
            let Some((id, track)) = track.filter(|(_, t)| !t.slices.is_empty()) else {
                self.track += 1;
                continue;
            };
            let mut next = match self.next {
                Some(next) => next,
                None => self.enter(scene, id, track),
            };
            loop {
                let at = match self.before.pop() {
                    Some(at) => at,
                    None => {
                        next += 1;
                        SliceRef { track: id, index: (next - 1) as u32 }
                    }
                };
                let slice = track.slices.get(at.index as usize).filter(|s| s.start_ns < self.window.to_ns);
                let until = slice.map_or(u64::MAX, |s| s.start_ns);
                while self.open.last().is_some_and(|(end, _)| *end <= until) {
                    let closed = self.open.pop().map(|(_, kept)| kept);
                    visit(track, None, &mut self.open, closed);
                }
                let Some(slice) = slice else {
                    (self.track, self.next) = (self.track + 1, None);
                    break;
                };
                if *left == 0 {
                    self.next = Some(next);
                    self.put_back(at, &mut next);
                    return false;
                }
                *left -= 1;
                if slice.dur_ns < least_ns {
                    continue;
                }
                let end = self.open.last().map_or(u64::MAX, |(end, _)| *end).min(slice.end_ns());
                let inside_ns = end.min(self.window.to_ns).saturating_sub(slice.start_ns.max(self.window.from_ns));
                let met = Met { at, slice: *slice, inside_ns, first: !std::mem::replace(&mut self.met, true) };
                if let Some(kept) = visit(track, Some(&met), &mut self.open, None) {
                    self.open.push((end, kept));
                }
            }
        }
        true
    }

    /// Finds what is open where the stretch begins, and the first slice that starts in it.
    fn enter(&mut self, scene: &Scene, id: TrackId, track: &Track) -> usize {
        let from = self.window.from_ns;
        self.met = false;
        self.before = scene.open_at(id, from);
        self.before.retain(|at| scene.slice(*at).is_some_and(|s| s.start_ns < from && s.end_ns() > from));
        self.before.reverse();
        let next = track.slices.partition_point(|s| s.start_ns < from);
        self.next = Some(next);
        next
    }

    /// A slice for which there was no time is met first next time.
    fn put_back(&mut self, at: SliceRef, next: &mut usize) {
        if at.index as usize + 1 == *next {
            *next -= 1;
            self.next = Some(*next);
        } else {
            self.before.push(at);
        }
    }
}
