//! Measures what a hit of each probe class costs on this machine, while it runs.
//!
//! The kernel's own statistics (BPF_ENABLE_STATS) time every program; they cost some 40 ns a
//! run themselves, so they are on for a moment only, right after the attach.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::loader::Kernel;
use super::meter::{Class, Meter};

/// A run that only finds that the task is no target, ns: two loads and a failed look-up.
const BYSTANDER_NS: f64 = 60.0;
/// The same in the sampling interrupt, which comes seldom and finds its code out of the caches.
const COLD_BYSTANDER_NS: f64 = 1_500.0;
/// Calls timed to price the kernel's slow path for traced system calls.
const CALLS: u32 = 2_000;
/// Hits below which a measured price is not believed.
const ENOUGH: u64 = 20;

/// Indices into `hits` (enum hit of common.bpf.h).
const HIT_SWITCH: usize = 0;
const HIT_SYSCALL: usize = 2;
const HIT_SAMPLE: usize = 3;
const HITS: u32 = 16;

/// Time of one cheap system call on this machine now, ns.
pub(crate) fn call_ns() -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        std::hint::black_box(rustix::process::getppid());
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// Prices being measured.
pub(crate) struct Pricing {
    /// BPF statistics are on as long as this is open.
    _stats: OwnedFd,
    /// What tracing adds to any system call, target or not, ns.
    traced_call_ns: f64,
}

impl Pricing {
    /// Turns the statistics on; `None` where they can't be: the default prices stay.
    pub fn start(call_before_ns: f64) -> Option<Pricing> {
        let traced_call_ns = (call_ns() - call_before_ns).max(0.0);
        let stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).ok()?;
        Some(Pricing { _stats: stats, traced_call_ns })
    }

    /// Turns the statistics off and sets the prices learnt.
    pub fn finish(self, kernel: &Kernel, meter: &mut Meter) {
        let hits = kernel.counters("hits", HITS);
        let price = |programs: &[&str], hits: u64, bystander_ns: f64| -> Option<f64> {
            if hits < ENOUGH {
                return None;
            }
            let total: f64 = programs
                .iter()
                .filter_map(|name| kernel.program_cost(name))
                .map(|(runs, time)| {
                    let bystanders = runs.saturating_sub(hits) as f64;
                    (time.as_nanos() as f64 - bystanders * bystander_ns).max(0.0)
                })
                .sum();
            Some(total / hits as f64)
        };
        if let Some(ns) = price(&["on_switch", "on_waking"], hits[HIT_SWITCH], BYSTANDER_NS) {
            meter.prices.set(Class::Sched, ns);
        }
        if let Some(ns) = price(&["on_sys_enter", "on_sys_exit"], hits[HIT_SYSCALL], BYSTANDER_NS) {
            meter.prices.set(Class::Syscall, ns + self.traced_call_ns);
        }
        if let Some(ns) = price(&["on_sample"], hits[HIT_SAMPLE], COLD_BYSTANDER_NS) {
            // The interrupt around it: about a microsecond.
            meter.prices.set(Class::Python, ns + 1_000.0);
        }
    }
}
