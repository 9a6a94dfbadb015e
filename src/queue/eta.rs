//! When a waiting job may start, from what runs: arithmetic alone, the same for all engines that have
//! no forecast of their own.

use super::job::Eta;

/// A job that runs and will give back what it has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// What it has, in the resource that is short (GPUs).
    pub has: f64,
    /// How long it runs already.
    pub elapsed_s: f64,
    /// How long it may run.
    pub limit_s: Option<f64>,
}

/// Past jobs that are needed to speak of their durations at all.
const ENOUGH: usize = 5;

/// When `needed` is free, given what is `free` now. `needed` is what the job and those before it ask
/// for. `past` has the durations of jobs that ended, in seconds. `None`: nothing says when.
pub fn estimate(free: f64, needed: f64, running: &[Running], past: &[f64]) -> Option<Eta> {
    if needed <= free {
        return Some(Eta { p50_s: 0.0, p90_s: 0.0, basis: "what it asks for is free".to_owned() });
    }
    let late = ends(running, past, 0.9);
    let likely = ends(running, past, 0.5);
    let p90_s = reached(free, needed, late)?;
    let p50_s = reached(free, needed, likely).unwrap_or(p90_s).min(p90_s);
    let limited = running.iter().filter(|job| job.limit_s.is_some()).count();
    let basis = match (limited, past.len() >= ENOUGH) {
        (0, _) => format!("how long {} past jobs ran", past.len()),
        (_, true) => format!("time limits of {limited} running jobs, and how long {} past jobs ran", past.len()),
        (_, false) => format!("time limits of {limited} running jobs"),
    };
    Some(Eta { p50_s, p90_s, basis })
}

/// When each running job ends, seconds from now, at a quantile of what is known; those of which
/// nothing is known are left out.
fn ends(running: &[Running], past: &[f64], quantile: f64) -> Vec<(f64, f64)> {
    let end = |job: &Running| {
        let mut longer: Vec<f64> = past.iter().copied().filter(|duration| *duration > job.elapsed_s).collect();
        longer.sort_by(f64::total_cmp);
        // Of jobs that ran as long as this one already, that share had ended by then.
        let known = past.len() >= ENOUGH && !longer.is_empty();
        let typical = known.then(|| longer[((longer.len() - 1) as f64 * quantile).round() as usize] - job.elapsed_s);
        let limit = job.limit_s.map(|limit| (limit - job.elapsed_s).max(0.0));
        match (typical, limit) {
            (Some(typical), Some(limit)) => Some(typical.min(limit)),
            (typical, limit) => typical.or(limit),
        }
    };
    let mut ends: Vec<(f64, f64)> = running.iter().filter_map(|job| Some((end(job)?, job.has))).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    ends
}

fn reached(free: f64, needed: f64, ends: Vec<(f64, f64)>) -> Option<f64> {
    let mut there = free;
    ends.into_iter().find_map(|(at, has)| {
        there += has;
        (there >= needed).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(has: f64, elapsed_s: f64, limit_s: impl Into<Option<f64>>) -> Running {
        Running { has, elapsed_s, limit_s: limit_s.into() }
    }

    #[test]
    fn it_starts_when_enough_has_ended() {
        let running = [job(8.0, 100.0, 1000.0), job(8.0, 0.0, 300.0), job(4.0, 0.0, None)];
        let eta = estimate(0.0, 8.0, &running, &[]).unwrap();
        assert_eq!((eta.p50_s, eta.p90_s), (300.0, 300.0));
        let eta = estimate(0.0, 16.0, &running, &[]).unwrap();
        assert_eq!(eta.p90_s, 900.0);
        assert_eq!(estimate(0.0, 20.0, &running, &[]), None, "nothing says when the third ends");
        assert_eq!(estimate(8.0, 8.0, &running, &[]).unwrap().p90_s, 0.0);
    }

    #[test]
    fn past_durations_make_the_band() {
        let past: Vec<f64> = (1..=10).map(|n| f64::from(n) * 100.0).collect();
        let eta = estimate(0.0, 8.0, &[job(8.0, 0.0, 5000.0)], &past).unwrap();
        assert!(eta.p50_s < eta.p90_s && eta.p90_s <= 1000.0, "{eta:?}");
        assert!(eta.basis.contains("10 past jobs"), "{eta:?}");
        // It runs longer than any before it: only its limit is left.
        let eta = estimate(0.0, 8.0, &[job(8.0, 2000.0, 5000.0)], &past).unwrap();
        assert_eq!(eta.p90_s, 3000.0);
    }
}
