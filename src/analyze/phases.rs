//! What a driving thread does, over its whole record: from any moment to any other in the time
//! of a search, so that a viewer can ask on every frame.

use super::breakdown::{CATEGORIES, Shares, sweep_seen};
use super::index::Index;
use super::report::{BreakdownRow, Category};
use super::roles::Roles;
use super::steps;
use super::timing::StepTimes;

/// Stretches of one category, one after the other, in time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Phases {
    /// Where each begins, and where the last ends.
    edges_ns: Vec<u64>,
    /// What each is; one fewer than edges.
    categories: Vec<Category>,
    /// Sums of all before every [`BLOCK`]th.
    sums: Vec<Shares>,
}

/// Stretches between two sums: few enough to add up at each question.
const BLOCK: usize = 64;

impl Phases {
    /// Sweeps a driver's record once more around `boundaries`, which `seen` has covered.
    pub(super) fn around(self, index: &Index<'_>, roles: &Roles, thread: usize, boundaries: &[u64]) -> Phases {
        let Some((start, end)) = steps::record(index, thread) else { return self };
        let mut phases = Phases::default();
        let mut add = |from, until, category| phases.push(from, until, category);
        let (first, last) = (boundaries.first().copied().unwrap_or(end), boundaries.last().copied().unwrap_or(end));
        if start < first {
            sweep_seen(index, roles, thread, &[start, first], &mut add);
        }
        self.stretches().for_each(|(from, until, category)| add(from, until, category));
        if last < end {
            sweep_seen(index, roles, thread, &[last, end], &mut add);
        }
        phases
    }

    /// Adds a stretch that begins where the last one ended.
    pub(super) fn push(&mut self, from_ns: u64, until_ns: u64, category: Category) {
        if until_ns <= from_ns {
            return;
        }
        if self.edges_ns.last() == Some(&from_ns) && self.categories.last() == Some(&category) {
            if let Some(edge) = self.edges_ns.last_mut() {
                *edge = until_ns;
            }
            return;
        }
        if self.edges_ns.is_empty() {
            self.edges_ns.push(from_ns);
        }
        if self.categories.len().is_multiple_of(BLOCK) {
            let sum = self.before(self.categories.len());
            self.sums.push(sum);
        }
        self.categories.push(category);
        self.edges_ns.push(until_ns);
    }

    /// Time by category between two moments, in ns; what lies outside of the record is in none.
    pub fn shares(&self, from_ns: u64, to_ns: u64) -> [u64; CATEGORIES] {
        let (from, to) = (self.until(from_ns), self.until(to_ns.max(from_ns)));
        std::array::from_fn(|c| to[c] - from[c])
    }

    /// What the thread does at a moment; `None` outside of its record.
    pub fn at(&self, ts_ns: u64) -> Option<Category> {
        let next = self.edges_ns.partition_point(|edge| *edge <= ts_ns);
        self.categories.get(next.checked_sub(1)?).copied()
    }

    /// All stretches: from, until, what.
    pub fn stretches(&self) -> impl Iterator<Item = (u64, u64, Category)> + '_ {
        self.edges_ns.windows(2).zip(&self.categories).map(|(edge, category)| (edge[0], edge[1], *category))
    }

    /// Sums of the first `count` stretches.
    fn before(&self, count: usize) -> Shares {
        let block = (count / BLOCK).min(self.sums.len().saturating_sub(1));
        let mut sum = self.sums.get(block).copied().unwrap_or_default();
        for i in block * BLOCK..count {
            sum[self.categories[i] as usize] += self.edges_ns[i + 1] - self.edges_ns[i];
        }
        sum
    }

    /// Sums up to a moment.
    fn until(&self, ts_ns: u64) -> Shares {
        let next = self.edges_ns.partition_point(|edge| *edge <= ts_ns);
        let Some(inside) = next.checked_sub(1) else { return Shares::default() };
        let mut sum = self.before(inside.min(self.categories.len()));
        if let Some(category) = self.categories.get(inside) {
            sum[*category as usize] += ts_ns - self.edges_ns[inside];
        }
        sum
    }
}

/// Where the time of all drivers together goes between two moments, as in the report: shares add
/// up to 1, or are all 0 where none was recorded.
pub fn window(steps: &[StepTimes], from_ns: u64, to_ns: u64) -> Vec<BreakdownRow> {
    let mut sum = Shares::default();
    for driver in steps {
        for (all, ns) in sum.iter_mut().zip(driver.phases.shares(from_ns, to_ns)) {
            *all += ns;
        }
    }
    let total: u64 = sum.iter().sum();
    let share = |ns: u64| if total == 0 { 0.0 } else { ns as f64 / total as f64 };
    Category::ALL
        .into_iter()
        .map(|category| {
            let ns = sum[category as usize];
            BreakdownRow { category, seconds: ns as f64 / 1e9, share: share(ns) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_window_adds_up() {
        let mut phases = Phases::default();
        let mut naive = Vec::new();
        let mut now = 1000;
        for i in 0..1000u64 {
            let category = Category::ALL[(i * 7 % 8) as usize];
            let until = now + 1 + i * 13 % 29;
            phases.push(now, until, category);
            naive.push((now, until, category));
            now = until;
        }
        assert_eq!(phases.stretches().count(), 1000);
        for (from, to) in [(0, 5), (0, 100_000), (1000, 1001), (1234, 9876), (5000, 5000), (7000, 6000), (now, now + 9)]
        {
            let mut sum = Shares::default();
            for (start, end, category) in &naive {
                sum[*category as usize] += (*end).min(to).saturating_sub((*start).max(from));
            }
            assert_eq!(phases.shares(from, to), sum, "{from}..{to}");
        }
        assert_eq!((phases.at(999), phases.at(now), phases.at(1000)), (None, None, Some(Category::Input)));
    }

    #[test]
    fn neighbours_of_one_category_are_one() {
        let mut phases = Phases::default();
        phases.push(0, 5, Category::Io);
        phases.push(5, 9, Category::Io);
        phases.push(9, 9, Category::Idle);
        assert_eq!(phases.stretches().collect::<Vec<_>>(), [(0, 9, Category::Io)]);
    }
}
