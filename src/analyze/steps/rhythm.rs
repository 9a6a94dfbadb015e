//! Whether something repeats regularly enough to be a step.

/// A believable beat.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::analyze) struct Rhythm {
    /// Typical time from one to the next.
    pub period_ns: u64,
    /// Spread of the middle half of the intervals over their median; 0 is a clock.
    pub spread: f64,
    /// Length of every step, with missed beats filled in.
    pub lengths_ns: Vec<u64>,
    /// When every step begins and the last one ends, with missed beats filled in.
    pub times_ns: Vec<u64>,
}

/// Fewest beats that make a rhythm: three intervals.
pub(in crate::analyze) const FEWEST_BEATS: usize = 4;

/// Widest spread of exact starts (operators, waits) that is still a beat. Intervals of
/// events that come at random have a spread of 1.6, so half of a third of that is far off.
const WIDEST: f64 = 0.6;

/// Finds the beat in sorted starts. With `may_miss`, beats may be missing (sampled frames):
/// intervals near a multiple of the beat then count as several steps.
pub(in crate::analyze) fn rhythm(starts: &[u64], may_miss: bool) -> Option<Rhythm> {
    if starts.len() < FEWEST_BEATS {
        return None;
    }
    let intervals: Vec<u64> = starts.windows(2).map(|w| w[1].saturating_sub(w[0])).filter(|i| *i > 0).collect();
    if intervals.len() + 1 < FEWEST_BEATS {
        return None;
    }
    let mut sorted = intervals.clone();
    sorted.sort_unstable();
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    let median = at(0.5);
    let spread = (at(0.75) - at(0.25)) as f64 / median as f64;
    // Missed beats: take the short intervals as the beat and see whether the others are multiples.
    let beat = at(0.25);
    let fits = |i: &u64| {
        let times = *i as f64 / beat as f64;
        times < 6.5 && (times - times.round()).abs() <= 0.2
    };
    let near = intervals.iter().filter(|i| fits(i)).count();
    // At random, two in five would be near a multiple; a spread this wide needs nearly all.
    let missed = may_miss && intervals.len() >= 8 && spread > 0.3;
    if missed && near * 10 >= intervals.len() * if spread > WIDEST { 8 } else { 9 } {
        let mut lengths_ns = Vec::new();
        let mut times_ns = vec![starts[0]];
        let mut at = starts[0];
        for interval in &intervals {
            // What is no multiple of the beat is a pause: it has its place in time, and no length.
            let times = if fits(interval) { ((*interval as f64 / beat as f64).round() as u64).max(1) } else { 1 };
            if fits(interval) {
                lengths_ns.extend(std::iter::repeat_n(interval / times, times as usize));
            }
            times_ns.extend((1..times).map(|i| at + interval / times * i));
            at += interval;
            times_ns.push(at);
        }
        let spread = 1.0 - near as f64 / intervals.len() as f64;
        return Some(Rhythm { period_ns: beat, spread, lengths_ns, times_ns });
    }
    let mut times_ns = starts.to_vec();
    times_ns.dedup();
    (spread <= WIDEST).then_some(Rhythm { period_ns: median, spread, lengths_ns: intervals, times_ns })
}

/// The value below which the share `q` of `values` lies; `None` if there are none.
pub(in crate::analyze) fn quantile(values: &[u64], q: f64) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * q).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_a_rhythm_and_noise_has_none() {
        let clock: Vec<u64> = (0..20).map(|i| i * 50).collect();
        let found = rhythm(&clock, false).unwrap();
        assert_eq!((found.period_ns, found.spread, found.lengths_ns.len()), (50, 0.0, 19));
        // Intervals that grow tenfold and shrink again follow no beat.
        let mut at = 0;
        let noise: Vec<u64> = (0..40u64)
            .map(|i| {
                at += [3, 170, 41, 9, 90, 260, 17, 5][(i % 8) as usize];
                at
            })
            .collect();
        assert_eq!(rhythm(&noise, true), None);
        assert_eq!(rhythm(&clock[..3], false), None);
    }

    #[test]
    fn missed_beats_are_filled_in() {
        let starts: Vec<u64> = (0..60u64).filter(|i| !matches!(i % 7, 2 | 4 | 5)).map(|i| i * 100 + i % 3).collect();
        let found = rhythm(&starts, true).unwrap();
        assert!((95..=105).contains(&found.period_ns), "{found:?}");
        assert!(found.lengths_ns.len() >= 55);
        assert_eq!(quantile(&found.lengths_ns, 0.5).unwrap().div_ceil(10), 10);
    }

    #[test]
    fn equal_starts_do_no_harm() {
        assert_eq!(rhythm(&[5; 30], true), None);
    }
}
