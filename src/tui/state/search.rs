//! The search over names and arguments, and the finder of tracks: what they have found so far.

use regex::Regex;
use rustc_hash::FxHashMap;

use super::SliceRef;
use crate::trace::{ArgsId, Changes, StrId, TrackId};
use crate::tui::scene::NodeId;

/// Slices that match the search.
#[derive(Debug, Clone)]
pub struct Search {
    /// The expression as typed.
    pub pattern: String,
    /// What matches, by track, then by start; the first [`SEARCH_LIMIT`].
    pub hits: Vec<SliceRef>,
    /// There are more than `hits` holds.
    pub more: bool,
    /// How far the recording was looked through.
    pub scan: Scan,
}

/// A search keeps so many hits.
pub const SEARCH_LIMIT: usize = 1_000_000;

/// A search that goes on until it has seen everything, and again when a capture has grown.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The expression.
    pub regex: Regex,
    /// Names looked at already, by number: 0 not yet, 1 no match, 2 match.
    pub names: Vec<u8>,
    /// Arguments whose value is a text, looked at already.
    pub texts: FxHashMap<(StrId, StrId), bool>,
    /// The arguments looked at last, and whether they match: many slices share theirs.
    pub args: (ArgsId, bool),
    /// Next track to look at; none is left where there is no such track.
    pub track: usize,
    /// Slices of each track that were looked at.
    pub looked: Vec<u32>,
    /// Once the search is whole, go to the first hit behind the cursor (or before, if false).
    pub jump: Option<bool>,
    /// Everything was looked at.
    pub whole: bool,
}

impl Scan {
    /// Nothing looked at yet, in a recording of so many texts.
    pub fn new(regex: Regex, texts: usize, jump: Option<bool>) -> Scan {
        let (names, args) = (vec![0; texts], (ArgsId(0), false));
        Scan { regex, names, texts: FxHashMap::default(), args, track: 0, looked: Vec::new(), jump, whole: false }
    }
}

impl Search {
    /// Nothing found yet.
    pub fn new(pattern: String, scan: Scan) -> Search {
        Search { pattern, hits: Vec::new(), more: false, scan }
    }

    /// Adds hits of one track, which come behind those of it that are there.
    pub fn add(&mut self, track: TrackId, found: Vec<SliceRef>) {
        let at = self.hits.partition_point(|hit| hit.track <= track);
        self.hits.splice(at..at, found);
    }

    /// A capture has grown: what is new or changed is still to be looked at.
    pub fn grown(&mut self, changes: &Changes) {
        if changes.forgot {
            // Slices have other numbers, and so have arguments.
            self.hits.clear();
            self.more = false;
            self.scan.looked.clear();
            self.scan.args = (ArgsId(0), false);
            self.scan.track = 0;
        }
        for &(track, first) in changes.tracks.iter().filter(|_| !changes.forgot) {
            let of_track = |hit: &SliceRef| (hit.track, hit.index as usize) < (track, first);
            let from = self.hits.partition_point(of_track);
            let to = self.hits.partition_point(|hit| hit.track <= track);
            self.hits.drain(from..to.max(from));
            if let Some(looked) = self.scan.looked.get_mut(track.0 as usize) {
                *looked = (*looked).min(u32::try_from(first).unwrap_or(u32::MAX));
            }
            self.scan.track = self.scan.track.min(track.0 as usize);
        }
        self.scan.whole = false;
    }

    /// Whether a slice is a hit.
    pub fn holds(&self, at: SliceRef) -> bool {
        self.hits.binary_search_by_key(&(at.track, at.index), |hit| (hit.track, hit.index)).is_ok()
    }
}

/// Lines of the tree that fit what was typed into the finder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finder {
    /// Best first, with how well they fit.
    pub hits: Vec<(u32, NodeId)>,
    /// Next node to look at; `None` once all were.
    pub next: Option<usize>,
}

impl Finder {
    /// Forgets what was found.
    pub fn clear(&mut self) {
        *self = Finder::default();
    }
}
