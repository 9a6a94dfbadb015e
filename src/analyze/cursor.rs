//! Walks the nested slices of one track in time order, remembering what is open.

use crate::trace::Slice;

/// A position on a track: which slices are open at a moment, each with a summary of itself and its parents.
pub(super) struct Cursor<'t, S> {
    slices: &'t [Slice],
    next: usize,
    open: Vec<(u64, S)>,
}

impl<'t, S: Copy + Default> Cursor<'t, S> {
    /// Stands before the first slice.
    pub fn new(slices: &'t [Slice]) -> Self {
        Cursor { slices, next: 0, open: Vec::new() }
    }

    /// Moves on to `now`; `enter` makes a slice's summary from its parent's. Slices that cross
    /// their parent's end (foreign recordings) are cut there.
    pub fn seek(&mut self, now: u64, mut enter: impl FnMut(S, &Slice) -> S) {
        loop {
            let starts = self.slices.get(self.next).map_or(u64::MAX, |s| s.start_ns);
            let until = starts.min(now);
            while self.open.last().is_some_and(|(end, _)| *end <= until) {
                self.open.pop();
            }
            if starts > now {
                return;
            }
            let slice = &self.slices[self.next];
            self.next += 1;
            let end = self.open.last().map_or(u64::MAX, |(end, _)| *end).min(slice.end_ns());
            if end > slice.start_ns {
                let summary = enter(self.top(), slice);
                self.open.push((end, summary));
            }
        }
    }

    /// The next moment at which something opens or closes; `u64::MAX` if nothing more does.
    pub fn boundary(&self) -> u64 {
        let starts = self.slices.get(self.next).map_or(u64::MAX, |s| s.start_ns);
        self.open.last().map_or(starts, |(end, _)| starts.min(*end))
    }

    /// The summary of the innermost open slice; the default where none is open.
    pub fn top(&self) -> S {
        self.open.last().map_or_else(S::default, |(_, s)| *s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{ArgsId, Flags, StrId};

    fn slice(start_ns: u64, dur_ns: u64, name: u32) -> Slice {
        Slice { start_ns, dur_ns, name: StrId(name), args: ArgsId(0), depth: 0, flags: Flags::default() }
    }

    #[test]
    fn the_innermost_open_slice_is_on_top() {
        let slices = [slice(0, 10, 1), slice(2, 3, 2), slice(4, 100, 3), slice(20, 5, 4)];
        let mut cursor = Cursor::<u32>::new(&slices);
        let mut at = |t| {
            cursor.seek(t, |_, s| s.name.0);
            (cursor.top(), cursor.boundary())
        };
        assert_eq!(at(0), (1, 2));
        assert_eq!(at(2), (2, 4));
        // The third crosses the end of the second and is cut there.
        assert_eq!(at(4), (3, 5));
        assert_eq!(at(5), (1, 10));
        assert_eq!(at(10), (0, 20));
        assert_eq!(at(24), (4, 25));
        assert_eq!(at(25), (0, u64::MAX));
    }
}
