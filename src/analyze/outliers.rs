//! What takes much longer than it usually does: steps, and without steps the driver's slices.

use rustc_hash::FxHashMap;

use super::index::Index;
use super::steps::Found;
use crate::trace::{Slice, StrId, Track, TrackId};

/// A stretch much longer than others of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlier {
    /// Its start in ns.
    pub from_ns: u64,
    /// Its end in ns.
    pub to_ns: u64,
    /// What is usual: the median of its kind, in ns.
    pub typical_ns: u64,
    /// Which step of its driver, from 1; `None` for a slice.
    pub step: Option<u32>,
    /// Which slice, by track and index, in the trace that was judged; `None` for a step.
    pub slice: Option<(TrackId, u32)>,
}

impl Outlier {
    /// How much longer than usual, in ns.
    pub fn excess_ns(&self) -> u64 {
        (self.to_ns - self.from_ns).saturating_sub(self.typical_ns)
    }
}

/// Fewer of a kind do not tell what is usual.
const FEWEST: usize = 8;
/// So many slices are kept, those with the most time over what is usual.
const MOST_SLICES: usize = 10;
/// A normal distribution's standard deviation over its median absolute deviation (Rousseeuw and
/// Croux, 1993, "Alternatives to the median absolute deviation").
const SIGMA_OF_MAD: f64 = 1.4826;
/// Deviations from the median beyond which a value is an outlier: the careful one of the usual
/// choices (Leys et al., 2013, "Detecting outliers: do not use standard deviation around the mean").
const DEVIATIONS: f64 = 3.0;
/// However steady the others are, less than this over the median is nobody's trouble.
const AT_LEAST: f64 = 1.2;

/// What is usual, and above what length something is an outlier:
/// the larger of median + 3 · 1.4826 · MAD and 1.2 · median.
fn limit(lengths: &mut [u64]) -> Option<(u64, f64)> {
    if lengths.len() < FEWEST {
        return None;
    }
    let middle = |values: &mut [u64]| {
        let at = (values.len() - 1) / 2;
        *values.select_nth_unstable(at).1
    };
    let median = middle(lengths);
    let mut deviations: Vec<u64> = lengths.iter().map(|ns| ns.abs_diff(median)).collect();
    let spread = middle(&mut deviations) as f64 * SIGMA_OF_MAD;
    Some((median, (median as f64 + DEVIATIONS * spread).max(median as f64 * AT_LEAST)))
}

/// The outliers of a driving thread, in time.
pub(super) fn of(index: &Index<'_>, thread: usize, found: &Found) -> Vec<Outlier> {
    if found.times_ns.is_empty() { slices(index, thread) } else { long_steps(&found.times_ns) }
}

fn long_steps(boundaries: &[u64]) -> Vec<Outlier> {
    let mut lengths: Vec<u64> = boundaries.windows(2).map(|b| b[1] - b[0]).collect();
    let Some((typical_ns, limit)) = limit(&mut lengths) else { return Vec::new() };
    let steps = boundaries.windows(2).enumerate().filter(|(_, b)| (b[1] - b[0]) as f64 > limit);
    steps
        .map(|(i, b)| Outlier {
            from_ns: b[0],
            to_ns: b[1],
            typical_ns,
            step: Some(u32::try_from(i + 1).unwrap_or(u32::MAX)),
            slice: None,
        })
        .collect()
}

/// The longest slices of a thread against others of the same name. What it waited for on the
/// `cpu` track has no name of its own and is left out.
fn slices(index: &Index<'_>, thread: usize) -> Vec<Outlier> {
    let tracks = &index.threads[thread];
    let mut found = Vec::new();
    for track in [tracks.torch, tracks.python, tracks.cuda, tracks.nccl, tracks.syscall].into_iter().flatten() {
        let Some(id) = index.trace.tracks.iter().position(|t| std::ptr::eq(t, track)) else { continue };
        long_slices(track, TrackId(u32::try_from(id).unwrap_or(u32::MAX)), &mut found);
    }
    found.sort_by_key(|o| (std::cmp::Reverse(o.excess_ns()), o.from_ns));
    found.truncate(MOST_SLICES);
    found.sort_by_key(|o| (o.from_ns, std::cmp::Reverse(o.to_ns)));
    found
}

fn long_slices(track: &Track, id: TrackId, found: &mut Vec<Outlier>) {
    let mut by_name: FxHashMap<StrId, Vec<u64>> = FxHashMap::default();
    for slice in &track.slices {
        by_name.entry(slice.name).or_default().push(slice.dur_ns);
    }
    let limits: FxHashMap<StrId, (u64, f64)> =
        by_name.into_iter().filter_map(|(name, mut lengths)| Some((name, limit(&mut lengths)?))).collect();
    let long =
        |s: &Slice| limits.get(&s.name).filter(|(_, limit)| s.dur_ns as f64 > *limit).map(|(typical, _)| *typical);
    for (i, slice) in track.slices.iter().enumerate() {
        if let Some(typical_ns) = long(slice) {
            found.push(Outlier {
                from_ns: slice.start_ns,
                to_ns: slice.end_ns(),
                typical_ns,
                step: None,
                slice: Some((id, u32::try_from(i).unwrap_or(u32::MAX))),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, MS};
    use super::*;

    fn boundaries(lengths: &[u64]) -> Vec<u64> {
        let mut at = 0;
        std::iter::once(0)
            .chain(lengths.iter().map(|l| {
                at += l;
                at
            }))
            .collect()
    }

    #[test]
    fn only_what_is_far_from_usual_is_an_outlier() {
        let found = |lengths: &[u64]| long_steps(&boundaries(lengths)).iter().map(|o| o.step).collect::<Vec<_>>();
        assert_eq!(found(&[100, 100, 100, 100, 100, 100, 119, 100]), [None; 0], "within a fifth");
        assert_eq!(found(&[100, 100, 100, 100, 121, 100, 119, 100]), [Some(5)]);
        assert_eq!(found(&[50, 150, 60, 140, 70, 130, 80, 120, 100, 210]), [None; 0], "a wide spread");
        assert_eq!(found(&[50, 150, 60, 140, 70, 130, 80, 120, 100, 310]), [Some(10)]);
        assert_eq!(found(&[1, 1, 1, 900]), [None; 0], "too few to tell");
    }

    #[test]
    fn without_steps_slices_stand_in() {
        let mut b = Build::capture(&[1]);
        let main = b.process(1, None);
        for i in 0..9 {
            b.op(main, "aten::mm", i * 50 * MS, if i == 4 { 30 } else { 10 } * MS);
            b.op(main, "aten::add", (i * 50 + 40) * MS, MS);
        }
        let index = Index::new(&b.trace);
        let found = of(&index, 0, &Found::default());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].from_ns, found[0].typical_ns, found[0].step), (200 * MS, 10 * MS, None));
    }
}
