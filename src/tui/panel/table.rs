//! The heaviest names of a stretch of time, sorted by the column of one's choice.

use super::range::{NameRow, RangeRun};
use super::work::Work;
use crate::tui::scene::Window;
use crate::tui::state::State;

/// What the table is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Name, from A.
    Name,
    /// Slices.
    Count,
    /// Time, children included.
    Total,
    /// Time without children.
    #[default]
    Own,
    /// Median.
    Median,
    /// 99th percentile.
    High,
    /// Longest.
    Max,
}

impl Sort {
    /// In the order of the columns.
    pub const ALL: [Sort; 7] = [Sort::Name, Sort::Count, Sort::Total, Sort::Own, Sort::Median, Sort::High, Sort::Max];

    /// The column beside this one.
    fn beside(self, right: bool) -> Sort {
        let at = Sort::ALL.iter().position(|s| *s == self).unwrap_or(0);
        let next = if right { at + 1 } else { at + Sort::ALL.len() - 1 };
        Sort::ALL[next % Sort::ALL.len()]
    }
}

/// Rows shown: nobody scrolls through more.
const MOST_ROWS: usize = 1000;

impl RangeRun {
    /// The heaviest rows by a column.
    pub fn rows(&self, sort: Sort, text: impl Fn(&NameRow) -> String) -> Vec<&NameRow> {
        let mut rows: Vec<&NameRow> = self.names.iter().collect();
        let most = |row: &NameRow| {
            std::cmp::Reverse(match sort {
                Sort::Name => 0,
                Sort::Count => row.count,
                Sort::Total => row.total_ns,
                Sort::Own => row.self_ns,
                Sort::Median => row.durations.quantiles().map_or(0, |q| q.0),
                Sort::High => row.durations.quantiles().map_or(0, |q| q.1),
                Sort::Max => row.durations.max_ns,
            })
        };
        if sort == Sort::Name {
            rows.sort_by_cached_key(|row| text(row));
        } else {
            let heavy = |row: &&NameRow| (most(row), std::cmp::Reverse(row.total_ns), row.layer, row.name);
            if rows.len() > MOST_ROWS {
                rows.select_nth_unstable_by_key(MOST_ROWS - 1, heavy);
                rows.truncate(MOST_ROWS);
            }
            rows.sort_by_key(heavy);
        }
        rows.truncate(MOST_ROWS);
        rows
    }
}

impl Work {
    /// What the table is sorted by.
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// The stretch that the table and the summary are about.
    pub fn range_window(&self) -> Option<Window> {
        self.range.best().map(|(run, _)| run.window)
    }
}

impl State {
    /// Sorts the table by the next column to the right or left.
    pub fn sort_panel(&mut self, right: bool) {
        self.work.sort = self.work.sort.beside(right);
        self.panel_row = 0;
    }

    /// Rows of the table in their order, and whether they are all there is.
    pub fn table(&self) -> (Vec<&NameRow>, bool) {
        match self.work.range.best() {
            Some((run, whole)) => {
                (run.rows(self.work.sort, |row| self.scene.trace.text(row.name).to_lowercase()), whole)
            }
            None => (Vec::new(), false),
        }
    }
}
