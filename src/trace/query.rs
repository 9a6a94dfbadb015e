//! Questions about one track: what ran in a range, whose child a slice is, who had the time.

use super::model::{Slice, Track};

/// A slice's own time: what is left of it without its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTime {
    /// Index into [`Track::slices`].
    pub index: usize,
    /// Time in no child, in ns.
    pub self_ns: u64,
}

/// Iterates over the slices that overlap a range; see [`Track::overlapping`].
#[derive(Debug, Clone)]
pub struct Overlapping<'t> {
    slices: &'t [Slice],
    next: usize,
    from_ns: u64,
    to_ns: u64,
}

impl<'t> Iterator for Overlapping<'t> {
    type Item = (usize, &'t Slice);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(slice) = self.slices.get(self.next).filter(|s| s.start_ns < self.to_ns) {
            let index = self.next;
            self.next += 1;
            if slice.end_ns() > self.from_ns || slice.start_ns >= self.from_ns {
                return Some((index, slice));
            }
        }
        None
    }
}

impl Track {
    /// Slices that overlap `[from_ns, to_ns)`, with their index, in order; parents first.
    ///
    /// Takes a logarithmic search, then the time of the slices under the outermost slice that is
    /// open at `from_ns`.
    pub fn overlapping(&self, from_ns: u64, to_ns: u64) -> Overlapping<'_> {
        let mut first = self.slices.partition_point(|s| s.start_ns < from_ns);
        // Back to the outermost slice that may be open: slices at depth 0 do not overlap.
        while first > 0 {
            first -= 1;
            if self.slices[first].depth == 0 {
                break;
            }
        }
        Overlapping { slices: &self.slices, next: first, from_ns, to_ns }
    }

    /// For every slice the index of its parent; `u32::MAX` at the top.
    pub fn parents(&self) -> Vec<u32> {
        let mut open: Vec<usize> = Vec::new();
        self.slices
            .iter()
            .enumerate()
            .map(|(index, slice)| {
                // Beyond depth 65535 the ends tell what the depth no longer can.
                open.truncate(usize::from(slice.depth));
                let parent = open.last().map_or(u32::MAX, |&p| u32::try_from(p).unwrap_or(u32::MAX));
                open.push(index);
                parent
            })
            .collect()
    }

    /// Every slice's own time, children before parents.
    pub fn self_times(&self) -> impl Iterator<Item = SelfTime> + '_ {
        let mut open: Vec<SelfTime> = Vec::new();
        let mut next = 0;
        std::iter::from_fn(move || {
            while let Some(slice) = self.slices.get(next) {
                if open.len() > usize::from(slice.depth) {
                    return open.pop();
                }
                if let Some(parent) = open.last_mut() {
                    parent.self_ns = parent.self_ns.saturating_sub(slice.dur_ns);
                }
                open.push(SelfTime { index: next, self_ns: slice.dur_ns });
                next += 1;
            }
            open.pop()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::Builder;
    use super::super::model::{ArgsId, Flags, Layer, Parent, StrId};
    use super::*;

    fn track(slices: &[(u64, u64)]) -> Track {
        let mut builder = Builder::new();
        let id = builder.track(Parent::Global, StrId(0), Layer::Torch);
        for &(start, end) in slices {
            builder.slice(id, start, end - start, StrId(0), ArgsId(0), Flags::default());
        }
        builder.finish().tracks.remove(0)
    }

    #[test]
    fn ranges_find_open_parents() {
        let track = track(&[(0, 10), (10, 100), (20, 30), (40, 90), (50, 60), (100, 110), (120, 120)]);
        let found = |from, to| track.overlapping(from, to).map(|(i, _)| i).collect::<Vec<_>>();
        assert_eq!(found(55, 56), [1, 3, 4]);
        assert_eq!(found(30, 40), [1]);
        assert_eq!(found(100, 101), [5]);
        assert_eq!(found(110, 120), [0; 0]);
        assert_eq!(found(120, 121), [6]);
        assert_eq!(found(0, 1000).len(), 7);
    }

    #[test]
    fn own_time_leaves_out_children() {
        let track = track(&[(0, 100), (10, 30), (12, 14), (50, 60), (200, 250)]);
        let mut times: Vec<_> = track.self_times().map(|t| (t.index, t.self_ns)).collect();
        times.sort_unstable();
        assert_eq!(times, [(0, 70), (1, 18), (2, 2), (3, 10), (4, 50)]);
        assert_eq!(track.parents(), [u32::MAX, 0, 1, 0, u32::MAX]);
    }
}
