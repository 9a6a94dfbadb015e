//! The overhead budget of a running capture: counts and prices hits, says what to thin.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::governor::{Governor, Thin};
use super::loader::Kernel;
use super::meter::Meter;
use super::pricing::Pricing;

/// At first looks are frequent, so that a storm of small operators or calls is thinned at once:
/// what the probes cost until then is part of what the whole capture costs.
const EARLY_LOOKS: [Duration; 8] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(500),
];
const LOOK: Duration = Duration::from_secs(1);

/// Keeps the account.
pub(crate) struct Budget {
    /// Hits and prices.
    pub meter: Meter,
    governor: Governor,
    pricing: Option<Pricing>,
    looks: usize,
    window_start_ns: u64,
    calls_seen: FxHashMap<u32, u64>,
}

impl Budget {
    /// A budget of 0–1; the first window begins with [`Budget::start`].
    pub fn new(budget: f64) -> Self {
        Budget {
            meter: Meter::default(),
            governor: Governor::new(budget),
            pricing: None,
            looks: 0,
            window_start_ns: 0,
            calls_seen: FxHashMap::default(),
        }
    }

    /// The probes are in place: measure their prices and start counting.
    pub fn start(&mut self, now_ns: u64, pricing: Option<Pricing>) {
        self.window_start_ns = now_ns;
        self.pricing = pricing;
    }

    /// Time from one look to the next.
    pub fn interval(&self) -> Duration {
        EARLY_LOOKS.get(self.looks).copied().unwrap_or(LOOK)
    }

    /// Estimated slow-down of the targets over the whole capture, 0–1.
    pub fn mean_share(&self) -> f64 {
        self.governor.mean_share()
    }

    /// Ends a window. `calls` counts each process's system calls since the capture began.
    pub fn look(&mut self, now_ns: u64, calls: &FxHashMap<u32, u64>, kernel: &Kernel) -> Option<Thin> {
        self.looks += 1;
        if let Some(pricing) = self.pricing.take() {
            pricing.finish(kernel, &mut self.meter);
        }
        for (&pid, &count) in calls {
            let seen = self.calls_seen.insert(pid, count).unwrap_or(0);
            self.meter.calls(pid, count.saturating_sub(seen));
        }
        let elapsed_ns = now_ns.saturating_sub(self.window_start_ns);
        self.window_start_ns = now_ns;
        let reading = self.meter.close(elapsed_ns);
        self.governor.look(&reading, elapsed_ns)
    }
}
