//! From the kernel's records to slices: scheduling, system calls, files, block requests.

mod io_layer;
mod paths;
mod sched;
mod totals;

pub(crate) use io_layer::IoLayer;
pub(crate) use paths::Paths;
pub(crate) use sched::Sched;
pub(crate) use totals::Totals;

use syscalls::Sysno;

/// Name of a system call of this machine's kind.
pub(crate) fn call_name(nr: u32) -> &'static str {
    Sysno::new(nr as usize).map_or("unknown", |call| call.name())
}

/// What a system call does when it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Waits for a lock or condition in memory.
    Futex,
    /// Waits for any of several descriptors.
    Poll,
    /// Sleeps for a time.
    Sleep,
    /// Waits for a child or a signal.
    Wait,
    /// Talks over a socket.
    Socket,
    /// Reads or writes a descriptor of any kind.
    Data,
    /// Waits until data are on disk.
    Sync,
    /// Anything else.
    Other,
}

impl Calls {
    /// The kind of a system call.
    pub fn of(nr: u32) -> Calls {
        let Some(call) = Sysno::new(nr as usize) else { return Calls::Other };
        match call.name() {
            "futex" | "futex_wait" | "futex_waitv" => Calls::Futex,
            "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => Calls::Poll,
            "nanosleep" | "clock_nanosleep" => Calls::Sleep,
            // A launcher may wait for its child by the signal that tells of its end.
            "wait4" | "waitid" | "pause" | "rt_sigsuspend" | "rt_sigtimedwait" => Calls::Wait,
            "recvfrom" | "recvmsg" | "recvmmsg" | "sendto" | "sendmsg" | "sendmmsg" | "accept" | "accept4"
            | "connect" => Calls::Socket,
            "read" | "write" | "readv" | "writev" | "pread64" | "pwrite64" | "preadv" | "pwritev" | "preadv2"
            | "pwritev2" | "sendfile" => Calls::Data,
            "fsync" | "fdatasync" | "sync_file_range" | "sync" | "syncfs" | "msync" => Calls::Sync,
            _ => Calls::Other,
        }
    }

    /// Whether a call of this kind only waits and does no work of its own.
    pub fn only_waits(self) -> bool {
        matches!(self, Calls::Futex | Calls::Poll | Calls::Sleep | Calls::Wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart() {
        assert_eq!((call_name(0), Calls::of(0)), ("read", Calls::Data));
        assert_eq!((call_name(202), Calls::of(202)), ("futex", Calls::Futex));
        assert_eq!((call_name(74), Calls::of(74)), ("fsync", Calls::Sync));
        assert_eq!((call_name(9999), Calls::of(9999)), ("unknown", Calls::Other));
        assert!(Calls::of(230).only_waits() && !Calls::of(0).only_waits());
    }
}
