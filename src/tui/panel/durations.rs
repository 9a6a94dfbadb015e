//! Durations of one kind: how many, how long, and how they spread.
//!
//! Up to a limit every one is kept and quantiles are exact. Beyond, they are counted in buckets
//! of which there are 64 to a doubling: a quantile is then off by less than 1 %.

/// Buckets in a doubling.
const FINE: u64 = 64;
/// Durations below this have a bucket each.
const EACH: u64 = FINE;
/// So many durations of a kind are kept as they are.
pub const KEPT: usize = 1_000_000;
/// Largest error of a quantile from buckets: half a bucket's width over its start.
pub const BUCKET_ERROR: f64 = 0.5 / FINE as f64;

/// Counts by length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets {
    counts: Vec<u64>,
}

impl Buckets {
    fn place(ns: u64) -> usize {
        if ns < EACH {
            return ns as usize;
        }
        let doubling = u64::from(ns.ilog2());
        let shift = doubling - u64::from(FINE.ilog2());
        ((shift + 1) * FINE + ((ns >> shift) & (FINE - 1))) as usize
    }

    /// First duration of a bucket, and how many it is wide.
    fn span(place: usize) -> (u64, u64) {
        let place = place as u64;
        if place < EACH {
            return (place, 1);
        }
        let shift = place / FINE - 1;
        ((FINE + place % FINE) << shift, 1 << shift)
    }

    /// Counts one.
    pub fn push(&mut self, ns: u64) {
        let place = Buckets::place(ns);
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
    }

    /// The duration below which `rank` others lie, within [`BUCKET_ERROR`].
    fn at_rank(&self, rank: u64) -> Option<u64> {
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen > rank
        })?;
        let (start, width) = Buckets::span(place);
        Some(start + width / 2)
    }

    /// How many there are in `columns` stretches, equal on a scale of logarithms, from the
    /// shortest to the longest; and the column of a duration.
    pub fn columns(&self, columns: usize, marked_ns: u64) -> (Vec<u64>, usize) {
        let first = self.counts.iter().position(|count| *count > 0).unwrap_or(0);
        let last = self.counts.len().max(first + 1);
        let wide = (last - first).max(columns.max(1));
        let column = |place: usize| (place.saturating_sub(first) * columns / wide).min(columns.saturating_sub(1));
        let mut sums = vec![0; columns];
        for (place, count) in self.counts.iter().enumerate().skip(first) {
            if let Some(sum) = sums.get_mut(column(place)) {
                *sum += count;
            }
        }
        (sums, column(Buckets::place(marked_ns)))
    }
}

/// Durations of one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// The longest, in ns.
    pub max_ns: u64,
    kept: Vec<u64>,
    buckets: Option<Box<Buckets>>,
    quantiles: Option<(u64, u64)>,
}

impl Durations {
    /// Adds one; `keep` is how many of this kind may be kept as they are.
    pub fn push(&mut self, ns: u64, keep: usize) {
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
        match &mut self.buckets {
            Some(buckets) => buckets.push(ns),
            None if self.kept.len() < keep => self.kept.push(ns),
            None => {
                self.spill();
                if let Some(buckets) = &mut self.buckets {
                    buckets.push(ns);
                }
            }
        }
    }

    /// From now on counts in buckets; what was kept is counted, too.
    pub fn spill(&mut self) {
        let buckets = self.buckets.get_or_insert_default();
        for ns in std::mem::take(&mut self.kept) {
            buckets.push(ns);
        }
    }

    /// How many are kept as they are.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Quantiles are exact, not from buckets.
    pub fn exact(&self) -> bool {
        self.buckets.is_none()
    }

    /// Works out the quantiles, once all are there; what was kept for them is given up.
    pub fn finish(&mut self) {
        let rank = |q: f64| (self.count.saturating_sub(1) as f64 * q).round() as u64;
        let (middle, high) = (rank(0.5), rank(0.99));
        self.quantiles = match &self.buckets {
            Some(buckets) => {
                let at = |rank| buckets.at_rank(rank).map(|ns| ns.min(self.max_ns));
                at(middle).zip(at(high))
            }
            None if self.kept.is_empty() => None,
            None => {
                let mut kept = std::mem::take(&mut self.kept);
                let mut at = |rank: u64| *kept.select_nth_unstable(rank as usize).1;
                Some((at(middle), at(high)))
            }
        };
        if let Some(buckets) = &mut self.buckets {
            buckets.counts = Vec::new();
        }
    }

    /// Median and 99th percentile, once [`finish`](Durations::finish) has been called.
    pub fn quantiles(&self) -> Option<(u64, u64)> {
        self.quantiles
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_duration_has_its_bucket() {
        for ns in (0..5000).chain((0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1, (1 << bit) + (1 << bit) / 3])) {
            let (start, width) = Buckets::span(Buckets::place(ns));
            assert!(start <= ns && ns - start < width, "{ns}: {start} + {width}");
            assert!(width as f64 <= (start as f64 / FINE as f64).max(1.0));
        }
        assert_eq!(Buckets::span(Buckets::place(u64::MAX)).0, u64::MAX - (1 << 57) + 1);
    }

    #[test]
    fn few_are_exact() {
        let mut all = Durations::default();
        (1..=101).rev().for_each(|ns| all.push(ns, KEPT));
        all.finish();
        assert_eq!((all.count, all.max_ns, all.quantiles(), all.exact()), (101, 101, Some((51, 100)), true));
        let mut none = Durations::default();
        none.finish();
        assert_eq!(none.quantiles(), None);
    }

    #[test]
    fn columns_hold_all() {
        let mut buckets = Buckets::default();
        [1000, 1001, 2000, 4000, 4000, 8100].into_iter().for_each(|ns| buckets.push(ns));
        assert_eq!(buckets.columns(3, 4000), (vec![3, 2, 1], 1));
        assert_eq!(Buckets::default().columns(2, 7), (vec![0, 0], 1));
        assert!(buckets.columns(0, 7).0.is_empty());
    }

    proptest! {
        #[test]
        fn buckets_are_near_enough(values in prop::collection::vec(any::<u64>().prop_map(|n| n >> (n % 60)), 1..400)) {
            let (mut exact, mut counted) = (Durations::default(), Durations::default());
            for ns in &values {
                exact.push(*ns, KEPT);
                counted.push(*ns, 3);
            }
            exact.finish();
            counted.finish();
            let (a, b) = (exact.quantiles().unwrap(), counted.quantiles().unwrap());
            for (a, b) in [(a.0, b.0), (a.1, b.1)] {
                prop_assert!((a as f64 - b as f64).abs() <= a as f64 * BUCKET_ERROR * 1.0001 + 1.0, "{a} {b}");
            }
        }
    }
}
