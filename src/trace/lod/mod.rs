//! Levels of detail: what a stretch of a track looks like, at a cost of the screen's width and
//! not of the recording's length.
//!
//! Slices of one depth do not overlap, so a depth is a row of them in time. Over each row stand
//! sums of blocks of slices, and sums of those, from which any stretch is put together exactly.

mod row;

use row::Row;
pub use row::{CLASSES, Cell, Class};

use super::model::{Slice, Track};

/// The rows of one track, by depth, with their sums.
#[derive(Debug, Clone, Default)]
pub struct TrackIndex {
    rows: Vec<Row>,
}

impl TrackIndex {
    /// Indexes the slices of a track that `keep` lets through; `classes` gives the class of a
    /// name by its [`StrId`](super::StrId).
    pub fn build(track: &Track, classes: &[Class], keep: &dyn Fn(&Slice) -> bool) -> TrackIndex {
        let mut index = TrackIndex::default();
        index.refresh(track, 0, classes, keep);
        index
    }

    /// Brings the index up to date after the slices from `first_changed` on changed.
    pub fn refresh(&mut self, track: &Track, first_changed: usize, classes: &[Class], keep: &dyn Fn(&Slice) -> bool) {
        for row in &mut self.rows {
            row.truncate(first_changed);
        }
        for (i, slice) in track.slices.iter().enumerate().skip(first_changed).filter(|(_, s)| keep(s)) {
            let depth = usize::from(slice.depth);
            if self.rows.len() <= depth {
                self.rows.resize_with(depth + 1, Row::default);
            }
            let class = classes.get(slice.name.0 as usize).copied().unwrap_or_default();
            self.rows[depth].push(u32::try_from(i).unwrap_or(u32::MAX), slice, class);
        }
    }

    /// How many depths the track has.
    pub fn depths(&self) -> usize {
        self.rows.len()
    }

    /// Indices into [`Track::slices`] of one depth, in time.
    pub fn row(&self, depth: usize) -> &[u32] {
        self.rows.get(depth).map(|row| row.slices()).unwrap_or_default()
    }

    /// The slice of a depth that covers a moment.
    pub fn at(&self, track: &Track, depth: usize, ts_ns: u64) -> Option<u32> {
        let row = self.row(depth);
        let next = row.partition_point(|&i| track.slices[i as usize].start_ns <= ts_ns);
        let last = *row.get(next.checked_sub(1)?)?;
        let slice = track.slices[last as usize];
        (ts_ns < slice.end_ns() || ts_ns == slice.start_ns).then_some(last)
    }

    /// What `columns` stretches of equal length between two moments look like, in one depth.
    pub fn cells(&self, track: &Track, depth: usize, from_ns: u64, to_ns: u64, columns: usize, out: &mut Vec<Cell>) {
        out.clear();
        match self.rows.get(depth) {
            Some(row) => row.cells(track, from_ns, to_ns, columns, out),
            None => out.resize(columns, Cell::default()),
        }
    }
}
