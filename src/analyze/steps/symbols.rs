//! Picks, among things that repeat, the one that is the step: not the epoch around it and
//! not the small operation inside it.

use rustc_hash::FxHashMap;

use super::rhythm::{FEWEST_BEATS, Rhythm, rhythm};

/// One occurrence of something: what, when, how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub symbol: u32,
    pub start_ns: u64,
    pub dur_ns: u64,
}

/// What is known about a symbol beside its occurrences.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hint {
    /// Loads data: comes once a step.
    pub loads: bool,
    /// Comes more rarely than steps do: saving, evaluating.
    pub rare: bool,
    /// Reads like a step.
    pub step: bool,
    /// Small numbers are nearer to the loop.
    pub depth: u16,
}

/// The chosen symbol.
#[derive(Debug)]
pub(super) struct Beat {
    pub symbol: u32,
    pub starts: Vec<u64>,
    pub rhythm: Rhythm,
}

/// At most so many symbols are weighed, the heaviest; a step's parts are few.
const MOST_SYMBOLS: usize = 32;
/// Fewest sightings of something short, by sampling, that make a rhythm.
const FEWEST_SIGHTINGS: usize = 10;
/// Symbols below this share of the time don't decide what is a whole step.
const SIGNIFICANT: f64 = 0.05;
/// What comes in fewer than one of so many steps is around the steps, not in them.
const OUTER: f64 = 1.0 / 12.0;

/// Picks the smallest period in which everything that matters occurs. `quantum_ns` is the
/// sampling interval, 0 for exact events; `window_ns` the time the events cover.
pub(super) fn pick(events: &[Event], window_ns: u64, quantum_ns: u64, hint: impl Fn(u32) -> Hint) -> Option<Beat> {
    let mut by_symbol: FxHashMap<u32, (Vec<u64>, u64)> = FxHashMap::default();
    for e in events {
        let entry = by_symbol.entry(e.symbol).or_default();
        entry.0.push(e.start_ns);
        entry.1 += e.dur_ns;
    }
    let mut symbols: Vec<(u32, Vec<u64>, u64)> =
        by_symbol.into_iter().map(|(symbol, (starts, ns))| (symbol, starts, ns)).collect();
    symbols.sort_by_key(|(symbol, _, ns)| (std::cmp::Reverse(*ns), *symbol));
    symbols.truncate(MOST_SYMBOLS);
    let mut candidates: Vec<Beat> = symbols
        .iter()
        .filter(|(_, starts, ns)| {
            // What is as short as the sampling interval is seen by chance, and a few chances may look regular.
            let by_chance = *ns < 2 * quantum_ns * starts.len() as u64;
            starts.len() >= if by_chance { FEWEST_SIGHTINGS } else { FEWEST_BEATS }
        })
        .filter_map(|(symbol, starts, _)| {
            let rhythm = rhythm(starts, quantum_ns > 0)?;
            let slow_enough = rhythm.period_ns * 2 >= quantum_ns * 5;
            let covers = starts.last()?.saturating_sub(*starts.first()?) * 2 > window_ns;
            (slow_enough && covers).then(|| Beat { symbol: *symbol, starts: starts.clone(), rhythm })
        })
        .collect();
    candidates.sort_by_key(|c| (c.rhythm.period_ns, c.symbol));
    let complete = |c: &Beat| {
        symbols.iter().all(|(symbol, starts, ns)| {
            let share = *ns as f64 / window_ns.max(1) as f64;
            let hint = hint(*symbol);
            if *symbol == c.symbol || share < SIGNIFICANT || hint.rare {
                return true;
            }
            let present = presence(&c.starts, starts);
            let seen = if quantum_ns == 0 {
                1.0
            } else {
                1.0 - (-share * c.rhythm.period_ns as f64 / quantum_ns as f64).exp()
            };
            present >= 0.6 * seen || (present < OUTER * seen && !hint.loads)
        })
    };
    let smallest = candidates.iter().find(|c| complete(c))?.rhythm.period_ns;
    // Of those that beat together, the one that is most surely the step.
    candidates
        .into_iter()
        .filter(|c| c.rhythm.period_ns * 4 >= smallest * 3 && c.rhythm.period_ns * 3 <= smallest * 4 && complete(c))
        .min_by(|a, b| {
            let rank = |c: &Beat| {
                let h = hint(c.symbol);
                c.rhythm.spread - if h.step { 0.3 } else { 0.0 } + f64::from(h.depth.min(30)) * 0.01
                    - (c.starts.len() as f64).ln() * 0.05
            };
            rank(a).total_cmp(&rank(b)).then(a.symbol.cmp(&b.symbol))
        })
}

/// Share of the intervals between sorted `beats` that hold one of sorted `starts`.
fn presence(beats: &[u64], starts: &[u64]) -> f64 {
    let mut next = 0;
    let mut with = 0usize;
    for pair in beats.windows(2) {
        while starts.get(next).is_some_and(|s| *s < pair[0]) {
            next += 1;
        }
        with += usize::from(starts.get(next).is_some_and(|s| *s < pair[1]));
    }
    with as f64 / beats.len().saturating_sub(1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epochs of 20 steps; a step loads once and runs a layer five times.
    fn nested() -> Vec<Event> {
        let mut events = Vec::new();
        for epoch in 0..5u64 {
            let at = epoch * 3_000;
            for step in 0..20 {
                let at = at + step * 100;
                events.push(Event { symbol: 1, start_ns: at, dur_ns: 20 });
                for layer in 0..5 {
                    events.push(Event { symbol: 2, start_ns: at + 20 + layer * 16, dur_ns: 14 });
                }
            }
            events.push(Event { symbol: 3, start_ns: at + 2_000, dur_ns: 1_000 });
        }
        events
    }

    #[test]
    fn the_step_is_neither_the_epoch_nor_the_layer() {
        let beat = pick(&nested(), 15_000, 0, |s| Hint { loads: s == 1, ..Hint::default() }).unwrap();
        assert_eq!((beat.symbol, beat.rhythm.period_ns, beat.starts.len()), (1, 100, 100));
    }

    #[test]
    fn nothing_regular_gives_nothing() {
        let events: Vec<Event> =
            [3, 9, 200, 230, 900].iter().map(|s| Event { symbol: 1, start_ns: *s, dur_ns: 1 }).collect();
        assert!(pick(&events, 1000, 0, |_| Hint::default()).is_none());
    }
}
