//! Runs a reader in a process of its own. A read of a broken disk, file server or driver can
//! stick in the kernel where no signal reaches it; a process that is stuck so can be left behind,
//! a thread can't: its process would never end.

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A reader at work.
#[derive(Debug)]
pub struct Apart {
    pid: libc::pid_t,
    answer: std::fs::File,
}

/// Most that a reader may say.
const LONGEST: usize = 64 << 20;

impl Apart {
    /// Starts a reader. It must not use stdin, stdout or stderr, which it does not have.
    ///
    /// # Errors
    /// A sentence, if no process could be started.
    pub fn start<T: Serialize>(reader: impl FnOnce() -> T) -> Result<Apart, String> {
        let mut pipe = [0; 2];
        // SAFETY: `pipe` has room for the two descriptors that the call writes.
        if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(format!("no pipe: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: both descriptors are new and nobody else's.
        let (receive, send) = unsafe { (OwnedFd::from_raw_fd(pipe[0]), OwnedFd::from_raw_fd(pipe[1])) };
        // SAFETY: the child only runs `reader`, writes to its pipe and ends by _exit; the C library
        // keeps its allocator usable after a fork even among threads.
        match unsafe { libc::fork() } {
            -1 => Err(format!("no process: {}", std::io::Error::last_os_error())),
            0 => child(reader, &send),
            pid => Ok(Apart { pid, answer: receive.into() }),
        }
    }

    /// Waits for the answer until `end`. A reader that is late is killed, and left behind if even
    /// that does not end it.
    ///
    /// # Errors
    /// A sentence: it did not answer in time, or ended without an answer.
    pub fn wait<T: DeserializeOwned>(mut self, end: Instant) -> Result<T, String> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        while bytes.len() < LONGEST {
            let left = end.saturating_duration_since(Instant::now());
            if !readable(&self.answer, left) {
                return Err("no answer in time: a driver, disk or file server is stuck".to_owned());
            }
            match self.answer.read(&mut chunk) {
                Ok(0) => break,
                Ok(size) => bytes.extend_from_slice(&chunk[..size]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("no answer: {error}")),
            }
        }
        serde_json::from_slice(&bytes).map_err(|_| "the reader ended without an answer".to_owned())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // SAFETY: the process is our own child, not yet waited for, so its number is still its own.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            // A moment to end in; one that is stuck in the kernel becomes init's.
            for _ in 0..20 {
                if libc::waitpid(self.pid, std::ptr::null_mut(), libc::WNOHANG) != 0 {
                    return;
                }
                libc::usleep(1000);
            }
        }
    }
}

fn child<T: Serialize>(reader: impl FnOnce() -> T, send: &OwnedFd) -> ! {
    // Whoever reads our stdout would wait for a process that is left behind.
    // SAFETY: plain system calls on descriptors of this process, which has no other thread.
    unsafe {
        let pipe = libc::dup3(send.as_raw_fd(), 3, libc::O_CLOEXEC);
        let pipe = if pipe < 0 { send.as_raw_fd() } else { pipe };
        if pipe == 3 {
            libc::syscall(libc::SYS_close_range, 4, libc::c_uint::MAX, 0);
        }
        for fd in 0..3 {
            libc::close(fd);
        }
        // So that no file a reader opens becomes stderr.
        for _ in 0..3 {
            libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let said = catch_unwind(AssertUnwindSafe(|| serde_json::to_vec(&reader()).unwrap_or_default()));
        let mut rest = said.as_deref().unwrap_or_default();
        while !rest.is_empty() {
            let written = libc::write(pipe, rest.as_ptr().cast(), rest.len());
            let Ok(written) = usize::try_from(written) else { break };
            rest = rest.get(written..).unwrap_or_default();
        }
        libc::_exit(0)
    }
}

fn readable(file: &std::fs::File, left: Duration) -> bool {
    let end = Instant::now() + left;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn an_answer_comes_back_whole() {
        let long: Vec<u32> = (0..100_000).collect();
        let apart = Apart::start(|| long.clone()).unwrap();
        assert_eq!(apart.wait::<Vec<u32>>(soon()).unwrap(), long);
    }

    #[test]
    fn one_that_is_stuck_is_left() {
        let begin = Instant::now();
        let apart = Apart::start(|| std::thread::sleep(Duration::from_secs(600))).unwrap();
        let pid = apart.pid;
        let error = apart.wait::<()>(Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("in time"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(60));
        // Killed; on a busy machine it ends a moment later.
        while crate::host::process::is_alive(u32::try_from(pid).unwrap()) {
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn one_that_breaks_is_an_error() {
        let apart = Apart::start(|| -> u32 { std::process::abort() }).unwrap();
        assert!(apart.wait::<u32>(soon()).unwrap_err().contains("without an answer"));
    }
}
