//! Sleeps between two looks, and wakes as soon as the kernel tells of a fault.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::fault_log::FaultLog;

/// A burst of events is one reason to look; between two such looks lies this much.
const GAP: Duration = Duration::from_millis(250);
/// A signal is noticed after this.
const NAP: Duration = Duration::from_millis(100);

/// Sleep, and what ends it.
pub struct Wake {
    /// None: the log can't be read, and looks come by the clock alone.
    log: Option<FaultLog>,
    last: Option<Instant>,
}

impl Wake {
    /// What is in the log by now wakes nobody. `trusting`: programs that write like the kernel do.
    pub fn new(trusting: bool, local: bool) -> Wake {
        let log = local.then(|| FaultLog::follow(Path::new("/dev/kmsg"), trusting).ok()).flatten();
        Wake { log, last: None }
    }

    /// Sleeps; whether a fault in the kernel's log ended it.
    pub fn sleep(&mut self, length: Duration, stop: impl Fn() -> bool) -> bool {
        let since = Instant::now();
        // What came while we were looking may not have been seen by that look.
        let mut told = self.drain();
        while !stop() {
            let rested = self.last.is_none_or(|last| last.elapsed() >= GAP);
            if told && rested {
                self.last = Some(Instant::now());
                return true;
            }
            let left = length.saturating_sub(since.elapsed());
            if left.is_zero() {
                return false;
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
        false
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
