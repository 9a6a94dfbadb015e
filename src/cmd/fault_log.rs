//! The kernel's log as something that wakes: from now on, does it tell of a fault?

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::fault::log::{Clock, LogReader};
use crate::host::kernel_log::KernelLog;

/// The kernel's log, heard from when it was opened.
pub struct FaultLog {
    log: KernelLog,
    reader: LogReader,
}

impl FaultLog {
    /// Opens a log; what it holds by now wakes nobody. `trusting`: programs that write like the
    /// kernel are taken at their word, too.
    ///
    /// # Errors
    /// If it is not there or may not be read.
    pub fn follow(path: &Path, trusting: bool) -> io::Result<FaultLog> {
        let clock = Clock { now: Timestamp::now(), zone: TimeZone::system() };
        Ok(FaultLog { log: KernelLog::follow(path)?, reader: LogReader::new(clock, trusting) })
    }

    /// Reads what there is; whether any of it tells of a fault.
    ///
    /// # Errors
    /// If the log can't be read on.
    pub fn told(&mut self) -> io::Result<bool> {
        let mut told = false;
        self.log.read(|record| told |= self.reader.line(record).is_some())?;
        Ok(told)
    }

    /// Waits for a record that is not read yet, at most so long; whether there is one.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.log.wait(timeout)
    }
}

/// To wait until there is more to read.
impl AsRawFd for FaultLog {
    fn as_raw_fd(&self) -> RawFd {
        self.log.as_raw_fd()
    }
}
