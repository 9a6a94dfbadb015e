//! Ranks that keep the others waiting.

use super::breakdown::{Breakdown, CATEGORIES, Shares};
use super::causes::Causes;
use super::index::Index;
use super::report::{Category, Straggler};
use super::steps::Found;
use super::steps::rhythm::quantile;

/// A rank is late if the others wait for it at least this share of a step.
const LATE: f64 = 0.10;

/// One rank.
pub(super) struct Rank<'a> {
    pub thread: usize,
    pub found: &'a Found,
    pub breakdown: &'a Breakdown,
}

/// Finds late ranks. With communication, the late rank is the one that waits least in it:
/// it comes last, and the others wait for it. Without, it is the one with longer steps.
pub(super) fn find(index: &Index<'_>, ranks: &[Rank<'_>]) -> Vec<Straggler> {
    if ranks.len() < 2 || ranks.iter().any(|r| r.breakdown.all_ns() == 0) {
        return Vec::new();
    }
    let communication = Category::Communication as usize;
    // The late rank may find everything there and never wait at all.
    let talks = ranks.iter().any(|r| r.breakdown.total[communication] * 20 > r.breakdown.all_ns());
    let steps = ranks.iter().map(|r| r.found.lengths_ns.len()).min().unwrap_or(0);
    let step_ns = ranks.iter().filter_map(|r| quantile(&r.found.lengths_ns, 0.5)).max().unwrap_or(0);
    if talks {
        return by_waiting(index, ranks, steps, step_ns);
    }
    if steps == 0 {
        return Vec::new();
    }
    let median: Vec<u64> = ranks.iter().map(|r| quantile(&r.found.lengths_ns, 0.5).unwrap_or(0)).collect();
    let typical = middle(&median);
    let mut late = Vec::new();
    for (i, rank) in ranks.iter().enumerate() {
        let over = median[i].saturating_sub(typical);
        if over as f64 > LATE * typical as f64 {
            let last = (0..steps)
                .filter(|s| ranks.iter().all(|r| r.found.lengths_ns[*s] <= rank.found.lengths_ns[*s]))
                .count();
            late.push(straggler(index, ranks, i, over, last as f64 / steps as f64));
        }
    }
    late
}

fn by_waiting(index: &Index<'_>, ranks: &[Rank<'_>], steps: usize, step_ns: u64) -> Vec<Straggler> {
    let communication = Category::Communication as usize;
    // Waiting as a share of each rank's record: records may differ in length.
    let share: Vec<f64> =
        ranks.iter().map(|r| r.breakdown.total[communication] as f64 / r.breakdown.all_ns() as f64).collect();
    let mut late = Vec::new();
    for (i, rank) in ranks.iter().enumerate() {
        let mut others: Vec<f64> = share.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, s)| *s).collect();
        others.sort_by(f64::total_cmp);
        let typical = others[others.len() / 2];
        if typical - share[i] < LATE {
            continue;
        }
        let whole = if step_ns > 0 { step_ns } else { rank.breakdown.all_ns() };
        let over = ((typical - share[i]) * whole as f64) as u64;
        late.push(straggler(index, ranks, i, over, last_share(ranks, i, steps)));
    }
    late
}

/// In how many steps rank `i` waited least, that is, came last.
fn last_share(ranks: &[Rank<'_>], i: usize, steps: usize) -> f64 {
    let communication = Category::Communication as usize;
    if steps == 0 {
        return 1.0;
    }
    // Records begin and end at different steps: match them by time, not by number.
    let (mut last, mut seen) = (0usize, 0usize);
    let mine = ranks[i].found;
    for s in 0..ranks[i].breakdown.steps.len() {
        let (from, to) = (mine.boundaries[s], mine.boundaries[s + 1]);
        let middle = from + (to - from) / 2;
        let waits = |r: &Rank<'_>| {
            let k = r.found.boundaries.partition_point(|b| *b <= middle).checked_sub(1)?;
            r.breakdown.steps.get(k).map(|s| s[communication])
        };
        let own = ranks[i].breakdown.steps[s][communication];
        let others: Vec<u64> =
            ranks.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, r)| waits(r)).collect();
        if !others.is_empty() {
            seen += 1;
            last += usize::from(others.iter().all(|o| *o >= own));
        }
    }
    if seen == 0 { 1.0 } else { last as f64 / seen as f64 }
}

fn straggler(index: &Index<'_>, ranks: &[Rank<'_>], i: usize, over_ns: u64, last_share: f64) -> Straggler {
    let process = &index.trace.processes[index.process_of(ranks[i].thread)];
    let share = |r: &Rank<'_>| -> [f64; CATEGORIES] {
        let all = r.breakdown.all_ns().max(1) as f64;
        let total: Shares = r.breakdown.total;
        total.map(|n| n as f64 / all)
    };
    let own = share(&ranks[i]);
    let mut more = [0.0; CATEGORIES];
    for (c, m) in more.iter_mut().enumerate() {
        let mut others: Vec<f64> =
            ranks.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, r)| share(r)[c]).collect();
        others.sort_by(f64::total_cmp);
        *m = own[c] - others[others.len() / 2];
    }
    let most = Category::ALL
        .into_iter()
        .filter(|c| *c != Category::Communication)
        .max_by(|a, b| more[*a as usize].total_cmp(&more[*b as usize]))
        .unwrap_or(Category::Other);
    let c = most as usize;
    let cause = ranks[i]
        .breakdown
        .causes
        .iter()
        .filter(|(cause, _)| cause.category == most && cause.frame.0 != 0)
        .max_by_key(|(cause, tally)| (tally.ns, std::cmp::Reverse(cause.line), std::cmp::Reverse(cause.frame)))
        .map(|(cause, _)| format!(", mostly in {}", super::words::frame(index, cause.frame)))
        .unwrap_or_default();
    let longest = Causes::of(index, ranks[i].breakdown, most).evidence(String::new());
    Straggler {
        pid: process.pid,
        rank: process.rank,
        late_ms: over_ns as f64 / 1e6,
        last_share,
        place: super::judge::place_of(index.trace, process.pid),
        because: format!(
            "{:.0} % of its time is {} against {:.0} % elsewhere{cause}",
            own[c] * 100.0,
            super::words::category(most),
            (own[c] - more[c]) * 100.0
        ),
        track: longest.track,
        ts_ns: longest.ts_ns,
        dur_ns: longest.dur_ns,
    }
}

fn middle(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len().max(1) - 1) / 2).copied().unwrap_or(0)
}
