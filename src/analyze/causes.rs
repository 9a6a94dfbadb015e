//! The causes of one category, added up in the ways evidence and advice need them.

use rustc_hash::FxHashMap;

use super::breakdown::{Breakdown, Cause, Tally};
use super::classify::How;
use super::frames::FrameId;
use super::index::Index;
use super::layers::Layers;
use super::report::{Category, Evidence};
use crate::trace::StrId;

/// Everything about one category.
pub(super) struct Causes<'a, 't> {
    index: &'a Index<'t>,
    all: Vec<(&'a Cause, &'a Tally)>,
    /// Time of the category.
    pub ns: u64,
}

/// A place in the user's code and the time there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Spot {
    pub frame: FrameId,
    pub line: u32,
    pub ns: u64,
}

impl<'a, 't> Causes<'a, 't> {
    /// The causes of `category`, the heaviest first.
    pub fn of(index: &'a Index<'t>, breakdown: &'a Breakdown, category: Category) -> Self {
        let mut all: Vec<_> = breakdown.causes.iter().filter(|(c, _)| c.category == category).collect();
        // Ties are broken by what they are, so that the same trace gives the same words.
        all.sort_by_key(|(c, t)| {
            (std::cmp::Reverse(t.ns), c.frame, c.caller, c.line, c.inner, c.inner_line, c.what, c.how as u8)
        });
        let ns = all.iter().map(|(_, t)| t.ns).sum();
        Causes { index, all, ns }
    }

    /// Time by how it was spent, the most first.
    pub fn by_how(&self) -> Vec<(How, u64)> {
        let mut sums: Vec<(How, u64)> = Vec::new();
        for (cause, tally) in &self.all {
            match sums.iter_mut().find(|(h, _)| *h == cause.how) {
                Some((_, ns)) => *ns += tally.ns,
                None => sums.push((cause.how, tally.ns)),
            }
        }
        sums.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        sums
    }

    /// Share of the category's time spent in one of these ways.
    pub fn share_of(&self, hows: &[How]) -> f64 {
        let ns: u64 = self.all.iter().filter(|(c, _)| hows.contains(&c.how)).map(|(_, t)| t.ns).sum();
        ns as f64 / self.ns.max(1) as f64
    }

    /// The function most of the time is for.
    pub fn frame(&self) -> Option<Spot> {
        self.most(|c| (c.frame, 0))
    }

    /// The line of the user's code where most of it is asked for: the call of the loader or
    /// saver, or the line itself where the user's code does the work.
    pub fn asked_at(&self) -> Option<Spot> {
        let asked = |c: &Cause| (c.caller, if c.caller == FrameId(0) { 0 } else { c.line });
        self.most_lines(asked)
    }

    /// The user's function most of it is spent inside of, and its most frequent line.
    pub fn spent_at(&self) -> Option<Spot> {
        let inner = |c: &Cause| {
            if c.inner != FrameId(0) {
                (c.inner, c.inner_line)
            } else if c.caller == FrameId(0) && self.index.frames.get(c.frame).user {
                (c.frame, c.line)
            } else {
                (FrameId(0), 0)
            }
        };
        self.most_lines(inner)
    }

    /// The function with the most time, and of its known lines the one with the most.
    fn most_lines(&self, place: impl Fn(&Cause) -> (FrameId, u32)) -> Option<Spot> {
        let function = self.most(|c| (place(c).0, 0))?;
        let here = |c: &Cause| {
            let (frame, line) = place(c);
            if frame == function.frame && line > 0 { (frame, line) } else { (FrameId(0), 0) }
        };
        Some(Spot { line: self.most(here).map_or(0, |spot| spot.line), ..function })
    }

    /// Operator, library, file or call that takes most of it.
    pub fn what(&self) -> Option<(StrId, u64)> {
        let mut sums: FxHashMap<StrId, u64> = FxHashMap::default();
        for (cause, tally) in self.all.iter().filter(|(c, _)| c.what != StrId(0)) {
            *sums.entry(cause.what).or_default() += tally.ns;
        }
        sums.into_iter().max_by_key(|(what, ns)| (*ns, std::cmp::Reverse(*what)))
    }

    fn most(&self, key: impl Fn(&Cause) -> (FrameId, u32)) -> Option<Spot> {
        let mut sums: FxHashMap<(FrameId, u32), u64> = FxHashMap::default();
        for (cause, tally) in &self.all {
            *sums.entry(key(cause)).or_default() += tally.ns;
        }
        sums.remove(&(FrameId(0), 0));
        sums.into_iter()
            .filter(|((frame, _), _)| *frame != FrameId(0))
            .max_by_key(|(at, ns)| (*ns, std::cmp::Reverse(*at)))
            .map(|((frame, line), ns)| Spot { frame, line, ns })
    }

    /// A fact with the longest instance of the category to jump to.
    pub fn evidence(&self, text: String) -> Evidence {
        self.evidence_where(text, |_| true)
    }

    /// A fact with the longest instance of such causes.
    pub fn evidence_where(&self, text: String, such: impl Fn(&Cause) -> bool) -> Evidence {
        let longest = self
            .all
            .iter()
            .filter(|(c, t)| such(c) && t.place.is_some())
            .max_by_key(|(_, t)| (t.longest_ns, std::cmp::Reverse(t.place.map(|p| p.1))));
        let place = longest.and_then(|(_, t)| Some((t.thread, t.place?)));
        evidence_at(self.index, text, place.map(|(thread, (layer, slice))| (thread, layer, slice)))
    }
}

/// A fact with a slice to jump to.
pub(super) fn evidence_at(
    index: &Index<'_>,
    text: String,
    place: Option<(usize, crate::trace::Layer, u32)>,
) -> Evidence {
    let found = place.and_then(|(thread, layer, slice)| {
        let track = Layers::track(index, thread, layer)?;
        Some((index.path(track), *track.slices.get(slice as usize)?))
    });
    Evidence {
        text,
        track: found.as_ref().map(|(path, _)| path.clone()),
        ts_ns: found.as_ref().map(|(_, s)| s.start_ns),
        dur_ns: found.as_ref().map(|(_, s)| s.dur_ns),
    }
}
