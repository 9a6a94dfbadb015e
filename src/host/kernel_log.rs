//! The kernel's log, read record by record from /dev/kmsg.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
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

    /// Opens a log to hear what comes from now on: /dev/kmsg, or a file of a test.
    ///
    /// # Errors
    /// As [`KernelLog::open`].
    pub fn follow(path: &Path) -> io::Result<KernelLog> {
        let mut log = KernelLog::open_at(path)?;
        log.file.seek(SeekFrom::End(0))?;
        Ok(log)
    }

    /// Records that were overwritten before they could be read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Waits for a record that is not read yet, at most so long; whether there is one.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut polled = [PollFd::new(&self.file, PollFlags::IN | PollFlags::ERR)];
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        matches!(rustix::event::poll(&mut polled, Some(&timeout)), Ok(ready) if ready > 0)
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
                // The lines of a dictionary are " KEY=value"; a file of a test has more than one record.
                Ok(size) => {
                    let lines = record[..size].split(|b| *b == b'\n');
                    lines.filter(|line| !line.is_empty() && line[0] != b' ').for_each(&mut take);
                }
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

/// To wait until there is more to read.
impl AsRawFd for KernelLog {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
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

    #[test]
    fn what_comes_later_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kmsg");
        std::fs::write(&path, "6,1,1,-;old\n").unwrap();
        let mut log = KernelLog::follow(&path).unwrap();
        let heard = |log: &mut KernelLog| {
            let mut lines = Vec::new();
            log.read(|line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
            lines
        };
        assert!(heard(&mut log).is_empty());
        std::fs::write(&path, "6,1,1,-;old\n6,2,2,-;new\n SUBSYSTEM=x\n6,3,3,-;newer\n").unwrap();
        assert_eq!(heard(&mut log), ["6,2,2,-;new", "6,3,3,-;newer"]);
    }
}
