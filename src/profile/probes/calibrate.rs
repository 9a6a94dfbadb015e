//! What a probe's hit costs on this machine, measured on a function of our own.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::profile::multi::{Multi, Place};

/// Costs of one hit, ns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HitCost {
    /// A probe on an emulated instruction, with a program that does little.
    pub probe_ns: f64,
    /// A return probe.
    pub return_ns: f64,
}

impl Default for HitCost {
    /// Measured on a 2.6 GHz virtual machine: what to assume when measuring fails.
    fn default() -> Self {
        HitCost { probe_ns: 900.0, return_ns: 1200.0 }
    }
}

/// Batches timed, and calls in each: the quickest batch is the one nobody interrupted.
const BATCHES: u32 = 25;
const CALLS: u32 = 40;
/// No trap is cheaper: on a busy machine the difference of two timings can be anything.
const LEAST_NS: f64 = 400.0;
/// Bytes used between two calls.
const WORKING_SET: usize = 32 << 10;

/// Starts with a push and can't be inlined or removed.
#[unsafe(naked)]
extern "C" fn probed() {
    core::arch::naked_asm!("push rbp", "mov rbp, rsp", "pop rbp", "ret")
}

/// Time of one call, ns, with work in between that uses the caches as the target's work does:
/// in a tight loop the kernel's own lines would stay in them, and a hit look cheaper than it is.
fn time_calls(work: &mut [u8]) -> f64 {
    let mut batch = || {
        let started = Instant::now();
        for _ in 0..CALLS {
            work.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
            std::hint::black_box(&work);
            std::hint::black_box(probed as extern "C" fn())();
        }
        started.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..BATCHES).map(|_| batch()).fold(f64::INFINITY, f64::min)
}

/// Measures the cost of a hit by probing ourselves a few thousand times.
pub(super) fn calibrate(multi: &Multi) -> io::Result<HitCost> {
    let address = probed as extern "C" fn() as usize as u64;
    let maps = crate::host::maps::of(std::process::id())?;
    let mapping = maps.iter().find(|m| (m.start..m.end).contains(&address)).ok_or(io::ErrorKind::NotFound)?;
    let place = Place::ourselves();
    let point = [(address - mapping.start + mapping.offset, 0)];
    let mut work = vec![0; WORKING_SET];
    let plain = time_calls(&mut work);
    let mut measure = |on_return| -> io::Result<f64> {
        let _link: OwnedFd = multi.attach("calibrate", &place, &point, on_return)?;
        Ok((time_calls(&mut work) - plain).max(LEAST_NS))
    };
    Ok(HitCost { probe_ns: measure(false)?, return_ns: measure(true)? })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_hit_costs_what_a_trap_costs() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let multi = crate::profile::multi::Multi::load(super::super::OBJECT, &|_| None).unwrap();
        let cost = super::calibrate(&multi).unwrap();
        assert!((50.0..100_000.0).contains(&cost.probe_ns), "{cost:?}");
        assert!((50.0..100_000.0).contains(&cost.return_ns), "{cost:?}");
    }
}
