//! Adds up what the probes cost their targets.
//!
//! The unit is the thread: a thread can be slowed by its own probes only, so the slow-down of
//! a step is at most the cost on the thread that pays most, divided by wall time. Counting per
//! process or per CPU second would hide a busy main thread behind idle helpers.

use rustc_hash::FxHashMap;

use crate::trace::Layer;

/// Kinds of probes that are counted, priced and thinned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Context switches.
    Sched,
    /// System calls, those too short for a slice included.
    Syscall,
    /// Python samples.
    Python,
    /// Operators and autograd.
    Torch,
    /// CUDA calls.
    Cuda,
    /// Collectives.
    Nccl,
}

impl Class {
    /// All classes, in the order of their numbers.
    pub const ALL: [Class; 6] = [Class::Sched, Class::Syscall, Class::Python, Class::Torch, Class::Cuda, Class::Nccl];

    /// The layer a class belongs to.
    pub fn layer(self) -> Layer {
        match self {
            Class::Sched => Layer::Sched,
            Class::Syscall => Layer::Syscall,
            Class::Python => Layer::Python,
            Class::Torch => Layer::Torch,
            Class::Cuda => Layer::Cuda,
            Class::Nccl => Layer::Nccl,
        }
    }
}

/// Looking up the target, pairing entry and exit, sending the record: measured 260–310 ns.
const PAIRING_NS: f64 = 300.0;

/// Price of one hit of each class, ns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prices([f64; Class::ALL.len()]);

impl Default for Prices {
    /// Before anything is measured: from a Linux 6.18 machine, on the dear side.
    fn default() -> Self {
        let mut prices = Prices([0.0; Class::ALL.len()]);
        prices.set(Class::Sched, 600.0);
        prices.set(Class::Syscall, 600.0);
        prices.set(Class::Python, 6_000.0);
        // Entry and exit of an operator.
        prices.set(Class::Torch, 2_000.0);
        // Entry, return probe and the copy of arguments.
        prices.set(Class::Cuda, 2_500.0);
        prices.set(Class::Nccl, 2_500.0);
        prices
    }
}

impl Prices {
    /// Price of one class, ns a hit.
    pub fn get(&self, class: Class) -> f64 {
        self.0[class as usize]
    }

    /// Sets the prices of records that uprobes send, from what a hit and a return cost, ns.
    pub fn set_probes(&mut self, hit_ns: f64, return_ns: f64) {
        // An operator is an entry and an exit, both plain probes, and the work of pairing them.
        self.set(Class::Torch, 2.0 * hit_ns + PAIRING_NS);
        // A return probe's price holds its entry trap.
        let call_ns = return_ns + PAIRING_NS;
        self.set(Class::Cuda, call_ns);
        self.set(Class::Nccl, call_ns);
    }

    /// Sets the price of one class, ns a hit.
    pub fn set(&mut self, class: Class, ns: f64) {
        self.0[class as usize] = ns;
    }
}

/// Hits of one thread since the window began.
#[derive(Debug, Clone, Copy, Default)]
struct Hits {
    pid: u32,
    counts: [u32; Class::ALL.len()],
}

/// What a window cost the thread that paid most.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    /// Cost over wall time, 0–1.
    pub share: f64,
    /// The same by class, with the class's hits a second.
    pub classes: Vec<(Class, f64, f64)>,
}

/// Counts hits between two looks.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    threads: FxHashMap<u32, Hits>,
    /// System calls of each process in this window; the kernel counts them by process only.
    calls: FxHashMap<u32, u64>,
    /// What a hit costs.
    pub prices: Prices,
}

impl Meter {
    /// A probe of a class hit in a thread.
    pub fn hit(&mut self, pid: u32, tid: u32, class: Class) {
        let hits = self.threads.entry(tid).or_default();
        hits.pid = pid;
        hits.counts[class as usize] += 1;
    }

    /// A process made so many system calls.
    pub fn calls(&mut self, pid: u32, count: u64) {
        *self.calls.entry(pid).or_default() += count;
    }

    /// Ends the window and starts the next.
    pub fn close(&mut self, elapsed_ns: u64) -> Reading {
        let elapsed = elapsed_ns.max(1) as f64;
        let price = |class: Class, count: f64| count * self.prices.get(class);
        let probes = |hits: &Hits| -> f64 {
            Class::ALL.iter().map(|&class| price(class, f64::from(hits.counts[class as usize]))).sum()
        };
        // Which thread of a process made its calls is not known: its busiest is taken to have made all.
        let mut busiest: FxHashMap<u32, (f64, Hits)> = FxHashMap::default();
        for hits in self.threads.values() {
            let cost = probes(hits);
            let best = busiest.entry(hits.pid).or_insert((-1.0, *hits));
            if cost > best.0 {
                *best = (cost, *hits);
            }
        }
        for &pid in self.calls.keys() {
            busiest.entry(pid).or_insert((0.0, Hits { pid, ..Hits::default() }));
        }
        let mut reading = Reading::default();
        for (pid, (cost, hits)) in busiest {
            let calls = self.calls.get(&pid).copied().unwrap_or(0) as f64;
            let share = (cost + price(Class::Syscall, calls)) / elapsed;
            if share <= reading.share {
                continue;
            }
            let classes = Class::ALL.iter().map(|&class| {
                let count = match class {
                    Class::Syscall => calls,
                    _ => f64::from(hits.counts[class as usize]),
                };
                (class, price(class, count) / elapsed, count * 1e9 / elapsed)
            });
            reading = Reading { share, classes: classes.filter(|(_, share, _)| *share > 0.0).collect() };
        }
        self.threads.clear();
        self.calls.clear();
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_that_pays_most_counts() {
        let mut meter = Meter::default();
        meter.prices.set(Class::Torch, 1_000.0);
        meter.prices.set(Class::Syscall, 100.0);
        for _ in 0..100 {
            meter.hit(1, 1, Class::Torch);
            meter.hit(1, 2, Class::Torch);
        }
        meter.hit(1, 1, Class::Torch);
        meter.calls(1, 10);
        let reading = meter.close(10_000_000);
        // 101 operators and all ten calls on the busiest thread: (101000 + 1000) / 10 ms.
        assert!((reading.share - 0.0102).abs() < 1e-9, "{reading:?}");
        assert_eq!(meter.close(1_000_000), Reading::default());
    }

    #[test]
    fn calls_alone_cost_too() {
        let mut meter = Meter::default();
        meter.prices.set(Class::Syscall, 500.0);
        meter.calls(7, 1_000);
        let reading = meter.close(1_000_000_000);
        assert!((reading.share - 0.0005).abs() < 1e-9);
        assert_eq!(reading.classes, vec![(Class::Syscall, reading.share, 1_000.0)]);
    }
}
