//! The kernel's log, read record by record from /dev/kmsg.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;

/// Longest record the kernel hands out (CONSOLE_EXT_LOG_MAX).
const RECORD: usize = 8192;

/// The log, from its oldest record on.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    lost: u64,
}

impl KernelLog {
    /// Opens /dev/kmsg without waiting for new records.
    ///
    /// # Errors
    /// If it is not there or may not be read (kernel.dmesg_restrict without CAP_SYSLOG).
    pub fn open() -> io::Result<KernelLog> {
        KernelLog::open_at(Path::new("/dev/kmsg"))
    }

    fn open_at(path: &Path) -> io::Result<KernelLog> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        Ok(KernelLog { file: OpenOptions::new().read(true).custom_flags(flags).open(path)?, lost: 0 })
    }

    /// Records that were overwritten before they could be read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Hands every record there is, without its dictionary, to `take`.
    ///
    /// # Errors
    /// If the log can't be read on; what was read before counts.
    pub fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut record = [0; RECORD];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => return Ok(()),
                // The lines after the first are " KEY=value".
                Ok(size) => take(record[..size].split(|b| *b == b'\n').next().unwrap_or_default()),
                Err(error) => match Errno::from_io_error(&error) {
                    // No more records for now.
                    Some(Errno::AGAIN) => return Ok(()),
                    Some(Errno::INTR) => {}
                    // The next record was overwritten; reading goes on with the oldest there is.
                    Some(Errno::PIPE) => self.lost += 1,
                    _ => return Err(error),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_this_machine_is_read_where_it_may_be() {
        let Ok(mut log) = KernelLog::open() else { return };
        let mut records = 0;
        log.read(|record| {
            records += 1;
            assert!(record.contains(&b';'));
        })
        .unwrap();
        assert!(records > 0);
    }
}
