//! The search over names and arguments, and the finder of tracks: what they have found so far.

use regex::Regex;
use rustc_hash::FxHashMap;

use super::SliceRef;
use crate::trace::{ArgsId, StrId};
use crate::tui::scene::NodeId;

/// Slices that match the search.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The expression as typed.
    pub pattern: String,
    /// What matches, by track, then by start; the first [`SEARCH_LIMIT`].
    pub hits: Vec<SliceRef>,
    /// Which one the view is at.
    pub at: Option<usize>,
    /// There are more than `hits` holds.
    pub more: bool,
    /// What is still to be looked at; `None` once all was.
    pub scan: Option<Scan>,
}

/// A search keeps so many hits.
pub const SEARCH_LIMIT: usize = 1_000_000;

/// A search that goes on.
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
    /// Next track to look at.
    pub track: usize,
    /// Next slice of that track.
    pub slice: usize,
    /// Once the search is whole, go to the first hit behind the cursor (or before, if false).
    pub jump: Option<bool>,
    /// Slices looked at.
    pub seen: usize,
}

impl Scan {
    /// Nothing looked at yet, in a recording of so many texts.
    pub fn new(regex: Regex, texts: usize, jump: Option<bool>) -> Scan {
        let (names, args) = (vec![0; texts], (ArgsId(0), false));
        Scan { regex, names, texts: FxHashMap::default(), args, track: 0, slice: 0, jump, seen: 0 }
    }
}

impl Search {
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
