//! The regular look at a running capture: budget, counters, notes.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::CaptureError;
use super::session::{Session, nanos};
use crate::host::process;
use crate::trace::{Layer, LostEvents};

/// CPU time of aictl itself, all threads, ns.
fn own_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Session<'_> {
    /// Time from one [`Session::look`] to the next.
    pub fn look_interval(&self) -> Duration {
        self.budget.interval()
    }

    /// About once a second: the budget, counters, notes, a flush so that a cut recording opens up to here.
    pub fn look(&mut self, now: u64) -> Result<(), CaptureError> {
        let elapsed = now.saturating_sub(self.last_look_ns).max(1);
        self.last_look_ns = now;
        let reading = self.totals.read(&mut self.io.paths);
        if let Some(thin) = self.budget.look(now, &reading.calls, &self.kernel) {
            self.thin(&thin, now)?;
        }
        self.counters(now, elapsed, &reading.bytes).map_err(CaptureError::Write)?;
        self.meta.syscalls = reading.syscalls;
        self.meta.files = reading.files;
        self.note(now)?;
        self.out.sink().flush().map_err(CaptureError::Write)
    }

    fn counters(&mut self, now: u64, elapsed: u64, bytes: &FxHashMap<u32, (u64, u64)>) -> std::io::Result<()> {
        for (&pid, followed) in &mut self.followed {
            let Some(cpu_ns) = process::cpu_time(pid).map(nanos) else { continue };
            let track = self.out.process_track(pid, "cpu", Layer::Sched, Some("%"))?;
            let used = cpu_ns.saturating_sub(followed.cpu_ns) as f64 * 100.0 / elapsed as f64;
            followed.cpu_ns = cpu_ns;
            self.out.sink().counter(track, now, used)?;
            let Some(&total) = bytes.get(&pid) else { continue };
            let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 * 1e9 / elapsed as f64;
            let read = self.out.process_track(pid, "read", Layer::Io, Some("bytes/s"))?;
            self.out.sink().counter(read, now, rate(total.0, followed.bytes.0))?;
            let write = self.out.process_track(pid, "write", Layer::Io, Some("bytes/s"))?;
            self.out.sink().counter(write, now, rate(total.1, followed.bytes.1))?;
            followed.bytes = total;
        }
        Ok(())
    }

    /// Brings the notes up to date and writes them.
    fn note(&mut self, now: u64) -> Result<(), CaptureError> {
        let lost = self.kernel.counters("lost", 5);
        self.meta.lost = LostEvents {
            slices: lost[0],
            samples: lost[1],
            rare: lost[2],
            unpaired: lost[3],
            unwind_failed: lost[4],
            unsent: 0,
        };
        self.meta.end_ns = now;
        self.meta.overhead_share = self.budget.mean_share();
        self.meta.layers = self.layer_statuses();
        self.meta.aictl_cpu_s = own_cpu_ns() as f64 / 1e9;
        let alive: u64 = self.followed.values().map(|f| f.cpu_ns.saturating_sub(f.cpu_first_ns)).sum();
        self.meta.target_cpu_s = (alive + self.gone_cpu_ns) as f64 / 1e9;
        self.out.sink().meta(now, &self.meta).map_err(CaptureError::Write)
    }
}
