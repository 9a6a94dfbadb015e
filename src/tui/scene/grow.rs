//! A scene that grows with its capture: what a batch changed is brought up to date, at a cost of
//! what came and not of what is there.

use std::sync::Arc;

use super::{Scene, Tree, class, index, keeps};
use crate::trace::{Batch, Changes, Class, TrackIndex};

/// What a batch changed in a scene.
#[derive(Debug, Default)]
pub struct Grown {
    /// What it changed in the recording.
    pub changes: Changes,
    /// The tree as it was, where nodes were added or renamed.
    pub old_tree: Option<Tree>,
    /// A track has more or fewer depths than before.
    pub depths: bool,
}

impl Scene {
    /// Adds what a capture has seen. Nobody else should hold the recording meanwhile: it would be
    /// copied.
    pub fn grow(&mut self, batch: Batch) -> Grown {
        let trace = Arc::make_mut(&mut self.trace);
        let mut changes = self.growth.apply(trace, batch);
        if self.min_ns > 0 {
            // What was kept only because it had no end.
            for &(track, at) in &changes.ended {
                let slice = trace.tracks.get(track.0 as usize).and_then(|t| t.slices.get(at as usize));
                if slice.is_some_and(|slice| slice.dur_ns < self.min_ns) {
                    match changes.tracks.iter_mut().find(|(t, _)| *t == track) {
                        Some((_, first)) => *first = (*first).min(at as usize),
                        None => changes.tracks.push((track, at as usize)),
                    }
                }
            }
        }
        self.classes.resize(self.trace.strings.len(), Class::default());
        self.index.resize_with(self.trace.tracks.len(), TrackIndex::default);
        let mut grown = Grown::default();
        if changes.forgot {
            self.index = index(&self.trace, &self.classes, self.min_ns);
            grown.depths = true;
        }
        for &(track, first) in changes.tracks.iter().filter(|_| !changes.forgot) {
            let at = track.0 as usize;
            let (Some(data), Some(index)) = (self.trace.tracks.get(at), self.index.get_mut(at)) else { continue };
            for slice in data.slices.get(first..).unwrap_or_default() {
                // A name may be met in an argument first.
                if let Some(class) = self.classes.get_mut(slice.name.0 as usize).filter(|c| **c == Class::default()) {
                    *class = class::class_of_slice(&self.trace, data.layer, slice);
                }
            }
            let depths = index.depths();
            index.refresh(data, first, &self.classes, &keeps(self.min_ns));
            grown.depths |= index.depths() != depths;
        }
        if changes.structure || changes.forgot {
            grown.old_tree = Some(std::mem::replace(&mut self.tree, Tree::of(&self.trace)));
        }
        self.bounds = self.growth.bounds_ns().map(|bounds| super::bounds_of(&self.trace, bounds));
        grown.changes = changes;
        grown
    }
}
