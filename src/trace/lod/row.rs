//! One depth of a track, with sums over blocks of slices.

use super::super::model::{Flags, Slice, Track};

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
    /// The class that covers most of that time.
    pub class: Class,
    /// Slices that touch the stretch, at most `u32::MAX`.
    pub count: u32,
    /// The longest of them (by its whole length), as an index into the track's slices.
    pub longest: u32,
    /// Time covered by slices whose length is an estimate, in ns.
    pub estimate_ns: u64,
}

/// Slices of one depth, in time.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    slices: Vec<u32>,
    classes: Vec<Class>,
}

impl Row {
    pub fn slices(&self) -> &[u32] {
        &self.slices
    }

    /// Forgets the slices from index `first` of the track on.
    pub fn truncate(&mut self, first: usize) {
        let keep = self.slices.partition_point(|&i| (i as usize) < first);
        self.slices.truncate(keep);
        self.classes.truncate(keep);
    }

    pub fn push(&mut self, index: u32, _slice: &Slice, class: Class) {
        self.slices.push(index);
        self.classes.push(Class(class.0.min(CLASSES as u8 - 1)));
    }

    pub fn cells(&self, track: &Track, from_ns: u64, to_ns: u64, columns: usize, out: &mut Vec<Cell>) {
        let length = u128::from(to_ns.saturating_sub(from_ns));
        let edge = |column: usize| from_ns + (length * column as u128 / columns.max(1) as u128) as u64;
        for column in 0..columns {
            let (from, to) = (edge(column), edge(column + 1).max(edge(column) + 1));
            out.push(self.cell(track, from, to));
        }
    }

    fn cell(&self, track: &Track, from_ns: u64, to_ns: u64) -> Cell {
        let slice = |&i: &u32| track.slices[i as usize];
        let first = self.slices.partition_point(|i| {
            let s = slice(i);
            s.end_ns() <= from_ns && s.start_ns < from_ns
        });
        let last = self.slices.partition_point(|i| slice(i).start_ns < to_ns);
        let mut cell = Cell::default();
        let mut by_class = [0u64; CLASSES];
        let mut longest_ns = 0;
        for at in first..last.max(first) {
            let s = slice(&self.slices[at]);
            let inside = s.end_ns().min(to_ns).saturating_sub(s.start_ns.max(from_ns));
            cell.busy_ns += inside;
            by_class[usize::from(self.classes[at].0)] += inside.max(1);
            if s.flags.has(Flags::ESTIMATE) {
                cell.estimate_ns += inside;
            }
            if cell.count == 0 || s.dur_ns > longest_ns {
                longest_ns = s.dur_ns;
                cell.longest = self.slices[at];
            }
            cell.count = cell.count.saturating_add(1);
        }
        let dominant = by_class.iter().enumerate().max_by_key(|(i, ns)| (**ns, CLASSES - i)).map_or(0, |(i, _)| i);
        cell.class = Class(dominant as u8);
        cell
    }
}
