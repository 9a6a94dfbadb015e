//! Sums over blocks of a row, and which slice of any run of blocks is the longest.

use std::ops::Range;

use super::super::model::{Flags, Track};
use super::row::{CLASSES, Class};

/// Slices of one block.
pub(super) const BLOCK: usize = 32;

/// Entries of one level that make one of the next.
const FAN: usize = 16;

/// Times added up, in ns; modulo 2^64, of which only differences are used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    /// By class; every slice counts as one ns at least.
    pub by_class: [u64; CLASSES],
    pub busy_ns: u64,
    pub estimate_ns: u64,
}

/// Blocks of a row, in time.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    /// When the first slice of each block starts, in ns.
    starts: Vec<u64>,
    /// Of each block and all before it.
    totals: Vec<Total>,
    /// The longest slice, as its length and its index on the track: of each block, of each
    /// [`FAN`] blocks, of each [`FAN`] of those, and so on; whole groups only.
    longest: Vec<Vec<(u64, u32)>>,
}

impl Sums {
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Keeps the first blocks alone.
    pub fn truncate(&mut self, blocks: usize) {
        self.starts.truncate(blocks);
        self.totals.truncate(blocks);
        let mut kept = blocks;
        for level in &mut self.longest {
            level.truncate(kept);
            kept /= FAN;
        }
    }

    /// Adds a block.
    pub fn push(&mut self, track: &Track, slices: &[u32], classes: &[Class]) {
        let mut total = self.totals.last().copied().unwrap_or_default();
        let mut longest = (0, slices.first().copied().unwrap_or(0));
        for (&index, class) in slices.iter().zip(classes) {
            let slice = &track.slices[index as usize];
            let weight = &mut total.by_class[usize::from(class.0)];
            *weight = weight.wrapping_add(slice.dur_ns.max(1));
            total.busy_ns = total.busy_ns.wrapping_add(slice.dur_ns);
            if slice.flags.has(Flags::ESTIMATE) {
                total.estimate_ns = total.estimate_ns.wrapping_add(slice.dur_ns);
            }
            if slice.dur_ns > longest.0 {
                longest = (slice.dur_ns, index);
            }
        }
        self.starts.push(slices.first().map_or(0, |&first| track.slices[first as usize].start_ns));
        self.totals.push(total);
        self.push_longest(longest);
    }

    fn push_longest(&mut self, mut longest: (u64, u32)) {
        for level in 0.. {
            if self.longest.len() == level {
                self.longest.push(Vec::new());
            }
            let entries = &mut self.longest[level];
            entries.push(longest);
            if !entries.len().is_multiple_of(FAN) {
                return;
            }
            longest = entries[entries.len() - FAN..].iter().copied().reduce(longer).unwrap_or(longest);
        }
    }

    pub fn shrink_to_fit(&mut self) {
        self.starts.shrink_to_fit();
        self.totals.shrink_to_fit();
        for level in &mut self.longest {
            level.shrink_to_fit();
        }
    }

    /// The first block, from block `low` on, that starts at a moment or later.
    pub fn first_from(&self, low: usize, ts_ns: u64) -> usize {
        let low = low.min(self.starts.len());
        // The next edge of a picture is near: look close by before everywhere.
        let mut step = 1;
        let mut from = low;
        while let Some(&start) = self.starts.get(from + step - 1) {
            if start >= ts_ns {
                break;
            }
            from += step;
            step *= 2;
        }
        let to = (from + step - 1).min(self.starts.len());
        from + self.starts[from..to].partition_point(|&start| start < ts_ns)
    }

    /// Sums of a run of blocks, and the index and length of the longest slice in it.
    pub fn range(&self, blocks: Range<usize>) -> (Total, u32, u64) {
        let mut total = self.totals[blocks.end - 1];
        if let Some(before) = blocks.start.checked_sub(1).map(|last| &self.totals[last]) {
            for (sum, less) in total.by_class.iter_mut().zip(before.by_class) {
                *sum = sum.wrapping_sub(less);
            }
            total.busy_ns = total.busy_ns.wrapping_sub(before.busy_ns);
            total.estimate_ns = total.estimate_ns.wrapping_sub(before.estimate_ns);
        }
        let mut at = blocks.start;
        let mut longest = self.longest[0][at];
        while at < blocks.end {
            let (mut level, mut size) = (0, 1);
            while at.is_multiple_of(size * FAN) && at + size * FAN <= blocks.end {
                size *= FAN;
                level += 1;
            }
            longest = longer(longest, self.longest[level][at / size]);
            at += size;
        }
        (total, longest.1, longest.0)
    }
}

/// The longer of two slices; the first of equals.
fn longer(first: (u64, u32), second: (u64, u32)) -> (u64, u32) {
    if second.0 > first.0 { second } else { first }
}
