//! Levels of detail: what a stretch of a track looks like, at a cost of the screen's width and
//! not of the recording's length.
//!
//! Slices of one depth do not overlap, so a depth is a row of them in time. Over each row stand
//! sums of blocks of slices, from which any stretch is put together exactly.

mod row;
mod sums;
#[cfg(test)]
mod tests;

use row::Row;
pub use row::{CLASSES, Cell, Class};

use super::model::{Slice, Track};

/// The deepest row is remembered for so many slices of a track together…
const STRETCH: usize = 4096;
/// …on tracks that are deeper than this.
const DEEP: usize = 64;

/// The rows of one track, by depth, with their sums.
#[derive(Debug, Clone, Default)]
pub struct TrackIndex {
    rows: Vec<Row>,
    /// Depths met in each [`STRETCH`], at most; so that a change at the end of a deep track does
    /// not have to look at all its rows.
    deepest: Vec<u16>,
}

impl TrackIndex {
    /// Indexes the slices of a track that `keep` lets through; `classes` gives the class of a
    /// name by its [`StrId`](super::StrId).
    pub fn build(track: &Track, classes: &[Class], keep: &dyn Fn(&Slice) -> bool) -> TrackIndex {
        let mut index = TrackIndex::default();
        index.refresh(track, 0, classes, keep);
        for row in &mut index.rows {
            row.shrink_to_fit();
        }
        index
    }

    /// Brings the index up to date after the slices from `first_changed` on changed. The last
    /// slice of each row may have grown, too. Costs what follows `first_changed`.
    pub fn refresh(&mut self, track: &Track, first_changed: usize, classes: &[Class], keep: &dyn Fn(&Slice) -> bool) {
        let reach = match self.deepest.get(first_changed / STRETCH..) {
            Some(stretches) if !self.deepest.is_empty() => stretches.iter().max().map_or(0, |&d| usize::from(d) + 1),
            _ => self.rows.len(),
        };
        for row in self.rows.iter_mut().take(reach) {
            row.truncate(first_changed);
        }
        for (i, slice) in (first_changed..).zip(track.slices.get(first_changed..).unwrap_or_default()) {
            if !keep(slice) {
                continue;
            }
            let depth = usize::from(slice.depth);
            if self.rows.len() <= depth {
                if depth < 4 {
                    self.rows.reserve_exact(depth + 1 - self.rows.len());
                }
                self.rows.resize_with(depth + 1, Row::default);
            }
            if self.rows.len() > DEEP || !self.deepest.is_empty() {
                self.note_depth(i, slice.depth);
            }
            let class = classes.get(slice.name.0 as usize).copied().unwrap_or_default();
            self.rows[depth].push(track, u32::try_from(i).unwrap_or(u32::MAX), class);
        }
        while self.rows.last().is_some_and(|row| row.slices().is_empty()) {
            self.rows.pop();
        }
    }

    fn note_depth(&mut self, index: usize, depth: u16) {
        let stretch = index / STRETCH;
        if self.deepest.len() <= stretch {
            // Those before were met while the track was not deep.
            self.deepest.resize(stretch + 1, DEEP as u16);
        }
        self.deepest[stretch] = self.deepest[stretch].max(depth);
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
        let row = self.rows.get(depth)?;
        let next = row.first_from(track, 0, ts_ns.saturating_add(1));
        let last = *row.slices().get(next.checked_sub(1)?)?;
        let slice = track.slices[last as usize];
        (ts_ns < slice.end_ns() || ts_ns == slice.start_ns).then_some(last)
    }

    /// The first slice of a depth that starts after a moment.
    pub fn next(&self, track: &Track, depth: usize, ts_ns: u64) -> Option<u32> {
        let row = self.rows.get(depth)?;
        row.slices().get(row.first_from(track, 0, ts_ns.checked_add(1)?)).copied()
    }

    /// The last slice of a depth that starts before a moment.
    pub fn previous(&self, track: &Track, depth: usize, ts_ns: u64) -> Option<u32> {
        let row = self.rows.get(depth)?;
        row.slices().get(row.first_from(track, 0, ts_ns).checked_sub(1)?).copied()
    }

    /// What comes after (or, with `back`, before) a slice in its depth.
    pub fn beside(&self, track: &Track, index: u32, back: bool) -> Option<u32> {
        let row = self.row(usize::from(track.slices.get(index as usize)?.depth));
        let at = row.binary_search(&index);
        let beside = match (at, back) {
            (Ok(at), false) => at.checked_add(1),
            (Ok(at) | Err(at), true) => at.checked_sub(1),
            (Err(at), false) => Some(at),
        };
        row.get(beside?).copied()
    }

    /// What one stretch of a depth looks like: its busy time, its longest slice.
    pub fn cell(&self, track: &Track, depth: usize, from_ns: u64, to_ns: u64) -> Cell {
        let Some(row) = self.rows.get(depth) else { return Cell::default() };
        let first = row.first_from(track, 0, from_ns);
        row.cell(track, from_ns, to_ns, first, row.first_from(track, first, to_ns))
    }

    /// The time of each class in one stretch of a depth, in ns; a slice counts as one ns at least.
    pub fn class_times(&self, track: &Track, depth: usize, from_ns: u64, to_ns: u64) -> [u64; CLASSES] {
        let Some(row) = self.rows.get(depth) else { return [0; CLASSES] };
        let first = row.first_from(track, 0, from_ns);
        row.class_times(track, from_ns, to_ns, first, row.first_from(track, first, to_ns))
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
