//! The growing end of one track: merges what is new with what is there, and nests again from the
//! first slice that a late one disturbs, as if all had come at once.

use super::super::model::{ArgsId, Flags, Slice};
use super::super::nest::{RawEvent, RawKind, place, sort};

/// So many slices after a [`Mark`] comes the next.
const STRIDE: usize = 512;

/// Marks new slices while they are sorted in among others.
const FRESH: Flags = Flags(1 << 15);

/// A slice that was cut to fit, and how it was before.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// The slice that was placed when it happened.
    by: usize,
    index: usize,
    dur_ns: u64,
    flags: Flags,
    /// It had no end, and was cut before already.
    again: bool,
}

/// The slices that were open when one was placed.
#[derive(Debug, Clone)]
struct Mark {
    at: usize,
    open: Vec<u32>,
}

/// A slice without an end so far.
#[derive(Debug, Clone, Copy)]
struct Unended {
    index: usize,
    /// It was cut to fit, and does not grow.
    cut: bool,
    /// Slices without a length that came before it in the same nanosecond: where it has no
    /// length either, it belongs behind them.
    behind: u32,
}

/// What is known about a track besides its slices.
///
/// A slice without an end is taken as endless while slices are placed, and shown as long as the
/// recording. Begins and ends are taken in the order they come; one whose time goes back is taken
/// as of the last time.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    /// Ends and indices of the slices that the next one may lie in, outermost first.
    stack: Vec<(u64, usize)>,
    /// By index, which is the order they began in.
    unended: Vec<Unended>,
    /// By `by`.
    cuts: Vec<Cut>,
    /// By `at`.
    marks: Vec<Mark>,
    /// Time of the last begin or end.
    raw_ns: u64,
    /// Slices without a length that ended then.
    empty: u32,
    /// The latest end that a slice was given.
    end_ns: u64,
}

/// What came of an addition.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// First slice that is new, moved, or changed.
    pub first: Option<usize>,
    /// Slices that only got their end.
    pub ended: Vec<u32>,
    /// Where new slices are, if they came before others that were there.
    pub inserted: Vec<u32>,
}

/// An end for a slice that is on the track already.
struct Ending {
    index: usize,
    end_ns: u64,
    args: ArgsId,
    behind: u32,
}

impl Ending {
    fn give(self, slices: &mut [Slice], join: &mut dyn FnMut(ArgsId, ArgsId) -> ArgsId) {
        let slice = &mut slices[self.index];
        let start_ns = slice.start_ns;
        slice.dur_ns = self.end_ns - start_ns;
        slice.flags = finished(slice.flags);
        slice.args = join(slice.args, self.args);
        if slice.dur_ns == 0 {
            let (mut to, mut behind) = (self.index, self.behind);
            for (at, twin) in slices.iter().enumerate().skip(self.index + 1) {
                if twin.start_ns != start_ns || (twin.dur_ns == 0 && behind == 0) {
                    break;
                }
                behind -= u32::from(twin.dur_ns == 0);
                to = at;
            }
            slices[self.index..=to].rotate_left(1);
        }
    }
}

const fn endless(start_ns: u64) -> u64 {
    u64::MAX - start_ns
}

fn finished(flags: Flags) -> Flags {
    Flags(flags.0 & !Flags::UNFINISHED.0)
}

impl Tail {
    /// Adds slices, begins and ends, each in the order they came. `join` puts the arguments of a
    /// begin and of its end together.
    pub fn add(
        &mut self,
        slices: &mut Vec<Slice>,
        mut fresh: Vec<Slice>,
        raw: impl Iterator<Item = RawEvent>,
        join: &mut dyn FnMut(ArgsId, ArgsId) -> ArgsId,
    ) -> Added {
        let mut added = Added::default();
        let known = slices.len();
        let mut first = known;
        let new_end_ns = fresh.iter().map(Slice::end_ns).max().unwrap_or(0);
        let mut begun: Vec<(usize, u32)> = Vec::new();
        let mut endings: Vec<Ending> = Vec::new();
        let mut fresh_end_ns = new_end_ns;
        for event in raw {
            let ts_ns = event.ts_ns.max(self.raw_ns);
            if ts_ns > self.raw_ns {
                (self.raw_ns, self.empty) = (ts_ns, 0);
            }
            if event.kind == RawKind::Begin {
                begun.push((fresh.len(), self.empty));
                fresh.push(Slice {
                    start_ns: ts_ns,
                    dur_ns: endless(ts_ns),
                    name: event.name,
                    args: event.args,
                    depth: 0,
                    flags: event.flags.with(Flags::UNFINISHED),
                });
            } else if let Some(slice) = begun.pop().and_then(|(at, _)| fresh.get_mut(at)) {
                slice.dur_ns = ts_ns - slice.start_ns;
                slice.flags = finished(slice.flags);
                slice.args = join(slice.args, event.args);
                fresh_end_ns = fresh_end_ns.max(ts_ns);
                self.empty += u32::from(slice.dur_ns == 0);
            } else if let Some(unended) = self.unended.pop() {
                let ending = Ending { index: unended.index, end_ns: ts_ns, args: event.args, behind: unended.behind };
                self.empty += u32::from(slices.get(unended.index).is_some_and(|s| s.start_ns == ts_ns));
                first = first.min(self.end(slices, unended, ending, &mut endings, join, &mut added));
            }
            // An end without a begin is left out.
        }
        self.end_ns = self.end_ns.max(fresh_end_ns);
        if let Some(start_ns) = fresh.iter().map(|s| s.start_ns).min() {
            first = first.min(first_from(slices, start_ns));
        }
        if first == known && fresh.is_empty() {
            return added;
        }
        let mut lowest = first;
        let mut behind = Vec::new();
        if first < known {
            lowest = lowest.min(self.rewind(slices, first));
            endings.into_iter().for_each(|ending| ending.give(slices, join));
            while let Some(unended) = self.unended.pop_if(|unended| unended.index >= first) {
                let slice = &mut slices[unended.index];
                slice.dur_ns = endless(slice.start_ns);
                behind.push(unended.behind);
            }
            behind.reverse();
        }
        behind.extend(begun.into_iter().map(|(_, behind)| behind));
        if first < known {
            fresh.iter_mut().for_each(|slice| slice.flags = slice.flags.with(FRESH));
        }
        slices.append(&mut fresh);
        sort(&mut slices[first..]);
        if first < known {
            for (at, slice) in (first..).zip(&mut slices[first..]).filter(|(_, slice)| slice.flags.has(FRESH)) {
                slice.flags = Flags(slice.flags.0 & !FRESH.0);
                added.inserted.push(u32::try_from(at).unwrap_or(u32::MAX));
            }
        }
        let unended = (first..slices.len()).filter(|&index| slices[index].flags.has(Flags::UNFINISHED));
        // Those that began in the same nanosecond kept their order.
        self.unended.extend(unended.zip(behind).map(|(index, behind)| Unended { index, cut: false, behind }));
        lowest = lowest.min(self.place_from(slices, first));
        added.first = Some(lowest);
        added
    }

    /// Gives a slice its end where that changes nothing else, or puts that off. Returns from where
    /// on slices have to be placed again.
    fn end(
        &mut self,
        slices: &mut [Slice],
        unended: Unended,
        ending: Ending,
        endings: &mut Vec<Ending>,
        join: &mut dyn FnMut(ArgsId, ArgsId) -> ArgsId,
        added: &mut Added,
    ) -> usize {
        let Ending { index, end_ns, .. } = ending;
        let start_ns = slices[index].start_ns;
        let twin = index.checked_sub(1).is_some_and(|before| {
            // One before it that began in the same nanosecond is its parent, if that has no end yet.
            slices[before].start_ns == start_ns && self.unended.last().is_none_or(|u| u.index != before || u.cut)
        });
        let everything_inside = self.end_ns <= end_ns && !unended.cut && !twin && end_ns > start_ns;
        self.end_ns = self.end_ns.max(end_ns);
        if !everything_inside {
            endings.push(ending);
            return first_from(slices, start_ns);
        }
        ending.give(slices, join);
        if let Ok(at) = self.stack.binary_search_by_key(&index, |&(_, index)| index) {
            self.stack[at].0 = end_ns;
        }
        added.ended.push(u32::try_from(index).unwrap_or(u32::MAX));
        // What starts where it ends was taken to be in it.
        first_from(slices, end_ns)
    }

    /// Makes everything as it was before slice `first` was placed, but for depths. Returns the
    /// first slice that is changed by that.
    fn rewind(&mut self, slices: &mut [Slice], first: usize) -> usize {
        let mut lowest = first;
        while let Some(cut) = self.cuts.pop_if(|cut| cut.by >= first) {
            let slice = &mut slices[cut.index];
            (slice.dur_ns, slice.flags) = (cut.dur_ns, cut.flags);
            self.set_cut(cut.index, cut.again);
            lowest = lowest.min(cut.index);
        }
        while self.marks.pop_if(|mark| mark.at > first).is_some() {}
        let mut from = 0;
        self.stack.clear();
        if let Some(mark) = self.marks.last() {
            from = mark.at;
            let open = mark.open.iter().map(|&index| (self.end_of(slices, index as usize), index as usize));
            self.stack = open.collect();
        }
        for at in from..first {
            self.push_placed(slices, at);
        }
        lowest
    }

    /// Brings the stack behind a slice whose depth is known.
    fn push_placed(&mut self, slices: &[Slice], at: usize) {
        let slice = &slices[at];
        self.stack.truncate(usize::from(slice.depth));
        if slice.depth == u16::MAX {
            while self.stack.last().is_some_and(|&(end_ns, _)| end_ns <= slice.start_ns) {
                self.stack.pop();
            }
        }
        self.stack.push((self.end_of(slices, at), at));
    }

    /// The end of a slice, as far as placing is concerned.
    fn end_of(&self, slices: &[Slice], index: usize) -> u64 {
        match self.unended.binary_search_by_key(&index, |unended| unended.index) {
            Ok(at) if !self.unended[at].cut => u64::MAX,
            _ => slices[index].end_ns(),
        }
    }

    /// Says whether a slice, if it has no end, is cut. Returns whether it was.
    fn set_cut(&mut self, index: usize, cut: bool) -> bool {
        match self.unended.binary_search_by_key(&index, |unended| unended.index) {
            Ok(at) => std::mem::replace(&mut self.unended[at].cut, cut),
            Err(_) => false,
        }
    }

    /// Marks what is open before a slice is placed, now and then.
    fn mark(&mut self, at: usize) {
        let last = self.marks.last().map_or(0, |mark| mark.at);
        if at - last >= STRIDE.max(self.stack.len()) {
            let open = self.stack.iter().map(|&(_, index)| u32::try_from(index).unwrap_or(u32::MAX));
            self.marks.push(Mark { at, open: open.collect() });
        }
    }

    /// Places the slices from `first` on. Returns the first slice that is changed by that.
    fn place_from(&mut self, slices: &mut [Slice], first: usize) -> usize {
        let mut lowest = first;
        for at in first..slices.len() {
            self.mark(at);
            let known = self.cuts.len();
            let cuts = &mut self.cuts;
            place(slices, at, &mut self.stack, |index, before| {
                cuts.push(Cut { by: at, index, dur_ns: before.dur_ns, flags: before.flags, again: false });
            });
            for new in known..self.cuts.len() {
                let index = self.cuts[new].index;
                lowest = lowest.min(index);
                self.cuts[new].again = self.set_cut(index, true);
            }
        }
        lowest
    }

    /// Shows what has no end as long as the recording.
    pub fn stretch(&self, slices: &mut [Slice], last_ns: u64) {
        for unended in self.unended.iter().filter(|unended| !unended.cut) {
            if let Some(slice) = slices.get_mut(unended.index) {
                slice.dur_ns = last_ns.saturating_sub(slice.start_ns);
            }
        }
    }

    /// Whether a slice has no end so far.
    pub fn grows(&self) -> bool {
        self.unended.iter().any(|unended| !unended.cut)
    }

    /// Forgets what ended before a moment. What was cut stays cut from now on.
    pub fn forget(&mut self, slices: &mut Vec<Slice>, before_ns: u64) {
        let open = |index: usize| self.unended.binary_search_by_key(&index, |unended| unended.index).ok();
        let mut unended = Vec::new();
        let (mut at, mut kept) = (0, 0);
        slices.retain(|slice| {
            let keep = match open(at) {
                Some(place) => {
                    unended.push(Unended { index: kept, ..self.unended[place] });
                    true
                }
                None => slice.end_ns() > before_ns,
            };
            at += 1;
            kept += usize::from(keep);
            keep
        });
        slices.shrink_to_fit();
        self.unended = unended;
        self.cuts = Vec::new();
        self.marks = Vec::new();
        self.stack.clear();
        for at in 0..slices.len() {
            self.mark(at);
            self.push_placed(slices, at);
        }
    }
}

/// Index of the first slice that starts at a moment or later.
fn first_from(slices: &[Slice], start_ns: u64) -> usize {
    match slices.last() {
        Some(last) if last.start_ns >= start_ns => slices.partition_point(|s| s.start_ns < start_ns),
        _ => slices.len(),
    }
}
