//! Context switches → `running` slices and off-CPU slices with their reason.

use std::io;

use rustc_hash::FxHashMap;

use super::super::output::Output;
use super::super::records::{Head, OffCpu};
use super::{Calls, call_name};
use crate::trace::{ArgRef, Layer};

/// `OFF_*` of common.bpf.h.
const GIL: u32 = 1;
const PREEMPTED: u32 = 2;
const IO_WAIT: u32 = 4;
const FILE_TYPE_SHIFT: u32 = 8;
/// `S_IFMT >> 12` of a pipe, a socket and a regular file.
const FIFO: u32 = 0o1;
const SOCKET: u32 = 0o14;
const REGULAR: u32 = 0o10;
/// TASK_UNINTERRUPTIBLE.
const UNINTERRUPTIBLE: u16 = 2;

/// The end of what is known of a thread.
#[derive(Debug, Clone, Copy)]
struct Tail {
    end_ns: u64,
    running: bool,
}

/// Writes the `cpu` track of every thread.
#[derive(Default)]
pub(crate) struct Sched {
    tails: FxHashMap<u32, Tail>,
}

impl Sched {
    /// A thread was on a CPU.
    pub fn on_cpu(&mut self, head: &Head, out: &mut Output<'_>) -> io::Result<()> {
        let track = out.thread_track(head.tgid, head.tid, Layer::Sched)?;
        let end_ns = head.start.saturating_add(head.dur);
        self.tails.insert(head.tid, Tail { end_ns, running: true });
        out.plain(track, head.start, head.dur, "running", &[("cpu", ArgRef::U64(head.id.into()))])
    }

    /// A thread was off the CPU and is back.
    pub fn off_cpu(&mut self, record: &OffCpu, out: &mut Output<'_>) -> io::Result<()> {
        let head = &record.head;
        let track = out.thread_track(head.tgid, head.tid, Layer::Sched)?;
        let end_ns = head.start.saturating_add(head.dur);
        self.tails.insert(head.tid, Tail { end_ns, running: false });
        let call = head.id.checked_sub(1);
        let mut args = [("", ArgRef::U64(0)); 3];
        let mut count = 0;
        let mut push = |key, value| {
            args[count] = (key, value);
            count += 1;
        };
        if let Some(nr) = call {
            push("syscall", ArgRef::Str(call_name(nr)));
        }
        if record.runnable > 0 {
            push("runnable_ns", ArgRef::U64(record.runnable));
        }
        if record.waker > 0 {
            push("waker", ArgRef::U64(record.waker.into()));
        }
        out.plain(track, head.start, head.dur, reason(call, head.aux, record.flags), &args[..count])
    }

    /// A thread is gone.
    pub fn forget(&mut self, tid: u32) {
        self.tails.remove(&tid);
    }

    /// Closes the tracks at the end of the capture: what a thread does now it has been doing
    /// since its last switch, or since `start_ns` if it never switched.
    pub fn finish(&mut self, pids: &[u32], start_ns: u64, end_ns: u64, out: &mut Output<'_>) -> io::Result<()> {
        for &pid in pids {
            for tid in crate::host::process::threads(pid) {
                let Some(now) = crate::host::process::thread_now(pid, tid) else { continue };
                let tail = self.tails.get(&tid).copied();
                // Records of a thread that ran during the drain may lie past the end.
                let from = tail.map_or(now.started_ns.max(start_ns), |t| t.end_ns);
                if from >= end_ns {
                    continue;
                }
                let track = out.thread_track(pid, tid, Layer::Sched)?;
                // After a `running` slice the thread is off the CPU, and the other way round.
                let running = tail.map_or(now.running, |t| !t.running);
                let open = ("open", ArgRef::U64(1));
                if running {
                    out.plain(track, from, end_ns - from, "running", &[open])?;
                } else {
                    let name = reason(now.syscall, if now.uninterruptible { UNINTERRUPTIBLE } else { 0 }, 0);
                    match now.syscall {
                        Some(nr) => out.plain(
                            track,
                            from,
                            end_ns - from,
                            name,
                            &[("syscall", ArgRef::Str(call_name(nr))), open],
                        )?,
                        None => out.plain(track, from, end_ns - from, name, &[open])?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Why a thread was off the CPU, in the words of docs/recording.md.
fn reason(call: Option<u32>, state: u16, flags: u32) -> &'static str {
    if flags & PREEMPTED != 0 {
        return "preempted";
    }
    if flags & GIL != 0 {
        return "gil";
    }
    if state & UNINTERRUPTIBLE != 0 && flags & IO_WAIT != 0 {
        return if call.is_some() { "disk" } else { "page_fault" };
    }
    let Some(call) = call else { return "blocked" };
    match Calls::of(call) {
        Calls::Futex => "futex",
        Calls::Poll => "poll",
        Calls::Sleep => "sleep",
        Calls::Wait => "wait",
        Calls::Socket => "socket",
        Calls::Data => match (flags >> FILE_TYPE_SHIFT) & 0xf {
            FIFO => "pipe",
            SOCKET => "socket",
            REGULAR => "file",
            _ => "blocked",
        },
        Calls::Sync => "disk",
        Calls::Other => "blocked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_follow_the_call_and_the_state() {
        assert_eq!(reason(Some(202), 1, GIL), "gil");
        assert_eq!(reason(Some(202), 1, 0), "futex");
        assert_eq!(reason(Some(0), 1, FIFO << FILE_TYPE_SHIFT), "pipe");
        assert_eq!(reason(Some(0), 1, SOCKET << FILE_TYPE_SHIFT), "socket");
        assert_eq!(reason(Some(0), 2, IO_WAIT | (REGULAR << FILE_TYPE_SHIFT)), "disk");
        assert_eq!(reason(None, 2, IO_WAIT), "page_fault");
        assert_eq!(reason(Some(0), 0, PREEMPTED), "preempted");
        assert_eq!(reason(Some(230), 1, 0), "sleep");
        assert_eq!(reason(Some(281), 1, 0), "poll");
        assert_eq!(reason(Some(61), 1, 0), "wait");
        assert_eq!(reason(None, 1, 0), "blocked");
    }
}
