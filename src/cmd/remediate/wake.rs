//! Sleeps between two looks, and wakes as soon as the kernel tells of a fault.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::fault_log::FaultLog;
use crate::gpu::events::{Ear, Heard};

/// A burst of events is one reason to look; between two such looks lies this much.
const GAP: Duration = Duration::from_millis(250);
/// A signal is noticed after this.
const NAP: Duration = Duration::from_millis(100);

/// This program, even if its file was replaced while it runs.
const PROGRAM: &str = "/proc/self/exe";

/// What ended a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// It was over, or is no longer wanted.
    Clock,
    /// The kernel's log tells of a fault.
    Log,
    /// NVML told of an Xid, of which the log may say nothing.
    Gpu,
}

/// Sleep, and what ends it.
pub struct Wake {
    /// None: the log can't be read, and looks come by the clock alone.
    log: Option<FaultLog>,
    last: Option<Instant>,
    /// NVML has told of an Xid.
    xid: Arc<AtomicBool>,
    _ear: Option<Ear>,
}

impl Wake {
    /// What is in the log by now wakes nobody. `trusting`: programs that write like the kernel do.
    /// `gpus`: there are some, of which NVML may tell.
    pub fn new(trusting: bool, local: bool, gpus: bool) -> Wake {
        let log = local.then(|| FaultLog::follow(Path::new("/dev/kmsg"), trusting).ok()).flatten();
        let xid = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&xid);
        let tell = move |heard| told.fetch_or(matches!(heard, Heard::Xid(_)), Ordering::SeqCst);
        let ear = (local && gpus).then(|| Ear::open(Path::new(PROGRAM), move |heard| _ = tell(heard)));
        Wake { log, last: None, xid, _ear: ear }
    }

    /// Sleeps, and says what ended it.
    pub fn sleep(&mut self, length: Duration, stop: impl Fn() -> bool) -> Woken {
        let since = Instant::now();
        // What came while we were looking may not have been seen by that look.
        let mut told = self.drain();
        while !stop() {
            let rested = self.last.is_none_or(|last| last.elapsed() >= GAP);
            if told && rested {
                self.last = Some(Instant::now());
                return Woken::Log;
            }
            // The log, if it tells of the same, has the first word: to read it takes a moment only.
            if !told && rested && self.xid.swap(false, Ordering::SeqCst) {
                self.last = Some(Instant::now());
                return Woken::Gpu;
            }
            let left = length.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Woken::Clock;
            }
            match &self.log {
                Some(log) if !told => {
                    // A log that is ready for ever without a record must not keep us busy.
                    if log.wait(left.min(NAP)) {
                        told = self.drain();
                    }
                }
                _ => std::thread::sleep(left.min(NAP / 4)),
            }
        }
        Woken::Clock
    }

    /// Reads all there is; whether a fault was among it.
    fn drain(&mut self) -> bool {
        match self.log.as_mut().map(FaultLog::told) {
            Some(Ok(told)) => told,
            Some(Err(_)) => {
                self.log = None;
                false
            }
            None => false,
        }
    }
}
