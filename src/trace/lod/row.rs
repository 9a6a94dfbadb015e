//! One depth of a track: its slices in time, and any stretch of them put together.

use super::super::model::{Flags, Slice, Track};
use super::sums::{BLOCK, Sums};

/// A kind of name, for colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Class(pub u8);

/// Number of classes; a larger [`Class`] counts as the last.
pub const CLASSES: usize = 16;

/// What a stretch of one row looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell {
    /// Time covered by slices, in ns; at most the stretch's length.
    pub busy_ns: u64,
    /// The class that covers most of that time; a slice counts as one ns at least, so that one
    /// without a length is seen.
    pub class: Class,
    /// Slices that touch the stretch, at most `u32::MAX`.
    pub count: u32,
    /// The longest of them (by its whole length; the first of equals), as an index into the
    /// track's slices.
    pub longest: u32,
    /// Time covered by slices whose length is an estimate, in ns.
    pub estimate_ns: u64,
}

/// Slices of one depth, in time.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    slices: Vec<u32>,
    classes: Vec<Class>,
    /// Of whole blocks; none for a row that fits one. The last slice is in no block: it may still
    /// be open and grow.
    sums: Option<Box<Sums>>,
}

/// What is put together for one cell.
struct Gathered {
    cell: Cell,
    by_class: [u64; CLASSES],
    longest_ns: u64,
}

impl Gathered {
    fn longest(&mut self, index: u32, dur_ns: u64) {
        if self.cell.count == 0 || dur_ns > self.longest_ns {
            self.longest_ns = dur_ns;
            self.cell.longest = index;
        }
    }

    fn add(&mut self, index: u32, slice: &Slice, class: Class, inside_ns: u64) {
        let weight = &mut self.by_class[usize::from(class.0)];
        *weight = weight.wrapping_add(inside_ns.max(1));
        self.cell.busy_ns = self.cell.busy_ns.wrapping_add(inside_ns);
        if slice.flags.has(Flags::ESTIMATE) {
            self.cell.estimate_ns = self.cell.estimate_ns.wrapping_add(inside_ns);
        }
        self.longest(index, slice.dur_ns);
        self.cell.count = self.cell.count.saturating_add(1);
    }

    fn done(mut self, length_ns: u64) -> Cell {
        let (mut class, mut most) = (0, self.by_class[0]);
        for (i, &weight) in self.by_class.iter().enumerate() {
            if weight > most {
                (class, most) = (i, weight);
            }
        }
        self.cell.class = Class(class as u8);
        // Beyond depth 65535 a row is no row of slices side by side.
        self.cell.busy_ns = self.cell.busy_ns.min(length_ns);
        self.cell.estimate_ns = self.cell.estimate_ns.min(self.cell.busy_ns);
        self.cell
    }
}

impl Row {
    pub fn slices(&self) -> &[u32] {
        &self.slices
    }

    /// Forgets the slices from index `first` of the track on.
    pub fn truncate(&mut self, first: usize) {
        if self.slices.last().is_none_or(|&last| (last as usize) < first) {
            return;
        }
        let keep = self.slices.partition_point(|&i| (i as usize) < first);
        self.slices.truncate(keep);
        self.classes.truncate(keep);
        if let Some(sums) = &mut self.sums {
            sums.truncate(keep.saturating_sub(1) / BLOCK);
        }
    }

    /// Adds a slice that starts after all others of the row.
    pub fn push(&mut self, track: &Track, index: u32, class: Class) {
        self.slices.push(index);
        self.classes.push(Class(class.0.min(CLASSES as u8 - 1)));
        if self.slices.len() % BLOCK == 1 && self.slices.len() > BLOCK {
            let end = self.slices.len() - 1;
            let block = end - BLOCK..end;
            let sums = self.sums.get_or_insert_default();
            sums.push(track, &self.slices[block.clone()], &self.classes[block]);
        }
    }

    /// Gives back what was kept for growth.
    pub fn shrink_to_fit(&mut self) {
        self.slices.shrink_to_fit();
        self.classes.shrink_to_fit();
        if let Some(sums) = &mut self.sums {
            sums.shrink_to_fit();
        }
    }

    /// Position of the first slice, from position `low` on, that starts at a moment or later.
    pub fn first_from(&self, track: &Track, low: usize, ts_ns: u64) -> usize {
        let mut range = low..self.slices.len();
        if let Some(sums) = &self.sums {
            // The block before the first that starts at the moment or later has the place.
            let block = sums.first_from(low / BLOCK, ts_ns);
            range.start = range.start.max(block.saturating_sub(1) * BLOCK);
            if block < sums.len() {
                range.end = range.end.min(block * BLOCK).max(range.start);
            }
        }
        let start = range.start;
        start + self.slices[range].partition_point(|&i| slice(track, i).start_ns < ts_ns)
    }

    pub fn cells(&self, track: &Track, from_ns: u64, to_ns: u64, columns: usize, out: &mut Vec<Cell>) {
        let length = u128::from(to_ns.saturating_sub(from_ns));
        let edge = |column: usize| from_ns.saturating_add((length * column as u128 / columns.max(1) as u128) as u64);
        let (mut reached_ns, mut reached) = (from_ns, self.first_from(track, 0, from_ns));
        for column in 0..columns {
            let (from, to) = (edge(column), edge(column + 1).max(edge(column).saturating_add(1)));
            // Columns of less than a nanosecond overlap: the next starts before this one ends.
            let first = if from == reached_ns { reached } else { self.first_from(track, 0, from) };
            let end = self.first_from(track, first, to);
            out.push(self.cell(track, from, to, first, end));
            (reached_ns, reached) = (to, end);
        }
    }

    /// A stretch; `first` and `end` are the positions of the first slices that start in it and
    /// after it.
    pub fn cell(&self, track: &Track, from_ns: u64, to_ns: u64, first: usize, end: usize) -> Cell {
        let gathered = self.gather_stretch(track, from_ns, to_ns, first, end);
        gathered.map_or_else(Cell::default, |gathered| gathered.done(to_ns.saturating_sub(from_ns)))
    }

    /// The time of each class in a stretch.
    pub fn class_times(&self, track: &Track, from_ns: u64, to_ns: u64, first: usize, end: usize) -> [u64; CLASSES] {
        self.gather_stretch(track, from_ns, to_ns, first, end).map_or([0; CLASSES], |gathered| gathered.by_class)
    }

    fn gather_stretch(&self, track: &Track, from_ns: u64, to_ns: u64, first: usize, end: usize) -> Option<Gathered> {
        // Only the slice before the first can reach into the stretch, and only the last out of it.
        let before = first.checked_sub(1).filter(|&at| slice(track, self.slices[at]).end_ns() > from_ns);
        if before.is_none() && first >= end {
            return None;
        }
        let mut gathered = Gathered { cell: Cell::default(), by_class: [0; CLASSES], longest_ns: 0 };
        if let Some(at) = before {
            self.gather(track, at, from_ns, to_ns, &mut gathered);
        }
        if first < end {
            self.gather_whole(track, first, end - 1, &mut gathered);
            self.gather(track, end - 1, from_ns, to_ns, &mut gathered);
        }
        Some(gathered)
    }

    /// Adds what lies in a stretch of the slice at a position.
    fn gather(&self, track: &Track, at: usize, from_ns: u64, to_ns: u64, gathered: &mut Gathered) {
        let s = slice(track, self.slices[at]);
        let inside = s.end_ns().min(to_ns).saturating_sub(s.start_ns.max(from_ns));
        gathered.add(self.slices[at], s, self.classes[at], inside);
    }

    /// Adds all of the slices at the positions `first..end`.
    fn gather_whole(&self, track: &Track, first: usize, end: usize, gathered: &mut Gathered) {
        let one_by_one = |range: std::ops::Range<usize>, gathered: &mut Gathered| {
            for (&index, &class) in self.slices[range.clone()].iter().zip(&self.classes[range]) {
                let s = slice(track, index);
                gathered.add(index, s, class, s.dur_ns);
            }
        };
        let blocks = first.div_ceil(BLOCK)..(end / BLOCK).min(self.sums.as_ref().map_or(0, |sums| sums.len()));
        let Some(sums) = self.sums.as_ref().filter(|_| blocks.start < blocks.end) else {
            return one_by_one(first..end, gathered);
        };
        one_by_one(first..blocks.start * BLOCK, gathered);
        let (total, index, dur_ns) = sums.range(blocks.clone());
        for (weight, add) in gathered.by_class.iter_mut().zip(total.by_class) {
            *weight = weight.wrapping_add(add);
        }
        gathered.cell.busy_ns = gathered.cell.busy_ns.wrapping_add(total.busy_ns);
        gathered.cell.estimate_ns = gathered.cell.estimate_ns.wrapping_add(total.estimate_ns);
        gathered.longest(index, dur_ns);
        let count = u32::try_from(blocks.len() * BLOCK).unwrap_or(u32::MAX);
        gathered.cell.count = gathered.cell.count.saturating_add(count);
        one_by_one(blocks.end * BLOCK..end, gathered);
    }
}

fn slice(track: &Track, index: u32) -> &Slice {
    &track.slices[index as usize]
}
