//! Holds the overhead budget: decides what to thin when the probes cost too much.
//!
//! Pure: it is given readings and says what to do; the session does it.

use super::meter::{Class, Reading};

/// A probe class is thinned only for a real part of the cost, so that a rare, telling probe is
/// never given up for the sake of rounding.
const WORTH_THINNING: f64 = 0.1;
/// The share of the budget that is aimed at, so that noise does not thin again and again.
const AIM: f64 = 0.8;

/// What to do about one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Thin {
    /// The class to thin: the dearest.
    pub class: Class,
    /// Its cost now, share of wall time.
    pub share: f64,
    /// What it may cost, share of wall time.
    pub allowed: f64,
    /// Its hits a second.
    pub hits_per_s: f64,
}

/// Watches readings against the budget.
#[derive(Debug)]
pub(crate) struct Governor {
    budget: f64,
    cost_ns: f64,
    elapsed_ns: f64,
}

impl Governor {
    /// A governor for a budget of 0–1.
    pub fn new(budget: f64) -> Self {
        Governor { budget, cost_ns: 0.0, elapsed_ns: 0.0 }
    }

    /// Overhead over the whole capture so far, 0–1.
    pub fn mean_share(&self) -> f64 {
        if self.elapsed_ns > 0.0 { self.cost_ns / self.elapsed_ns } else { 0.0 }
    }

    /// Takes in a window; says which class to thin, if the window was over the budget.
    ///
    /// The dearest class goes first. What it may keep is what the others leave of the aim; if
    /// they alone are over it, the class may keep nothing and the next window looks at the rest.
    pub fn look(&mut self, reading: &Reading, elapsed_ns: u64) -> Option<Thin> {
        self.cost_ns += reading.share * elapsed_ns as f64;
        self.elapsed_ns += elapsed_ns as f64;
        if reading.share <= self.budget {
            return None;
        }
        let &(class, share, hits_per_s) = reading.classes.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        if share < reading.share * WORTH_THINNING {
            return None;
        }
        let allowed = (self.budget * AIM - (reading.share - share)).max(0.0);
        Some(Thin { class, share, allowed, hits_per_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(classes: &[(Class, f64)]) -> Reading {
        Reading {
            share: classes.iter().map(|c| c.1).sum(),
            classes: classes.iter().map(|&(class, share)| (class, share, 1000.0)).collect(),
        }
    }

    #[test]
    fn within_the_budget_nothing_is_thinned() {
        let mut governor = Governor::new(0.02);
        assert_eq!(governor.look(&reading(&[(Class::Torch, 0.015), (Class::Sched, 0.004)]), 1_000), None);
        assert!((governor.mean_share() - 0.019).abs() < 1e-9);
    }

    #[test]
    fn the_dearest_goes_first_and_keeps_what_the_others_leave() {
        let mut governor = Governor::new(0.02);
        let thin = governor.look(&reading(&[(Class::Sched, 0.006), (Class::Torch, 0.08)]), 1_000).unwrap();
        assert_eq!(thin.class, Class::Torch);
        assert!((thin.allowed - 0.010).abs() < 1e-9);
        let thin = governor.look(&reading(&[(Class::Sched, 0.06), (Class::Torch, 0.05)]), 1_000).unwrap();
        assert_eq!((thin.class, thin.allowed), (Class::Sched, 0.0));
    }

    #[test]
    fn the_mean_is_weighted_by_time() {
        let mut governor = Governor::new(0.5);
        governor.look(&reading(&[(Class::Torch, 0.10)]), 1_000);
        governor.look(&reading(&[(Class::Torch, 0.02)]), 9_000);
        assert!((governor.mean_share() - 0.028).abs() < 1e-9);
    }
}
