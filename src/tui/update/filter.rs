//! Changing what is left out of the picture.

use crate::trace::{Layer, Parent, TrackId};
use crate::tui::state::{Filter, State};

impl State {
    /// Whether the filter lets a track through.
    pub fn shows(&self, track: TrackId) -> bool {
        let Some(data) = self.scene.trace.tracks.get(track.0 as usize) else { return false };
        if self.filter.hidden.contains(&data.layer) {
            return false;
        }
        self.filter.ranks.is_empty() || self.rank_of(track).is_none_or(|rank| self.filter.ranks.contains(&rank))
    }

    /// Takes a new filter into use.
    pub(super) fn set_filter(&mut self, filter: Filter) {
        let shorter = filter.min_ns != self.filter.min_ns;
        self.filter = filter;
        if shorter {
            self.scene.refilter(self.filter.min_ns);
        }
        if self.selected.is_some_and(|at| !self.shows(at.track)) {
            self.selected = None;
        }
        self.rebuild_lines();
        self.search = None;
        self.say(self.filter_words());
    }

    /// Lets the filter show a track; true where it had hidden it.
    pub(super) fn unhide(&mut self, track: TrackId) -> bool {
        if self.shows(track) {
            return false;
        }
        if let Some(data) = self.scene.trace.tracks.get(track.0 as usize) {
            self.filter.hidden.remove(&data.layer);
        }
        if let Some(rank) = self.rank_of(track).filter(|_| !self.filter.ranks.is_empty()) {
            self.filter.ranks.insert(rank);
        }
        true
    }

    /// The filter in words, as it could be typed.
    pub fn filter_words(&self) -> String {
        if !self.filter.is_on() {
            return "everything is shown".to_owned();
        }
        let mut words: Vec<String> = self.filter.hidden.iter().map(|layer| format!("-{}", layer.name())).collect();
        if !self.filter.ranks.is_empty() {
            let ranks: Vec<String> = self.filter.ranks.iter().map(u32::to_string).collect();
            words.push(format!("rank={}", ranks.join(",")));
        }
        if self.filter.min_ns > 0 {
            words.push(format!("min={}", super::words::length(self.filter.min_ns)));
        }
        format!("filter: {}", words.join(" "))
    }

    /// Ranks of the recording, ascending.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut ranks: Vec<u32> = self.scene.trace.processes.iter().filter_map(|p| p.rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }

    /// Layers that have a track.
    pub(super) fn layers(&self) -> Vec<Layer> {
        let has = |layer: &Layer| self.scene.trace.tracks.iter().any(|track| track.layer == *layer);
        Layer::ALL.into_iter().filter(|layer| *layer != Layer::Meta && has(layer)).collect()
    }

    fn rank_of(&self, track: TrackId) -> Option<u32> {
        let trace = &self.scene.trace;
        let process = match trace.tracks.get(track.0 as usize)?.parent {
            Parent::Global => return None,
            Parent::Process(process) => process,
            Parent::Thread(thread) => trace.threads.get(thread.0 as usize)?.process,
        };
        trace.processes.get(process.0 as usize)?.rank
    }
}
