//! System calls, block requests and major faults → slices and instants.

use std::io;

use rustc_hash::FxHashMap;

use super::super::output::Output;
use super::super::records::{self, Block, Fault, Syscall};
use super::{Calls, Paths, call_name};
use crate::trace::{ArgRef, Event, Layer};

/// Writes the `syscall`, `block` and `faults` tracks.
pub(crate) struct IoLayer {
    /// Paths of the files seen.
    pub paths: Paths,
    /// For each process and disk, when each lane of its track is free again.
    lanes: FxHashMap<(u32, u32), Vec<u64>>,
}

impl IoLayer {
    /// Starts with no file known.
    pub fn new() -> Self {
        IoLayer { paths: Paths::new(), lanes: FxHashMap::default() }
    }

    /// A system call that took longer than the threshold.
    pub fn syscall(&mut self, record: &Syscall, out: &mut Output<'_>) -> io::Result<()> {
        let head = &record.head;
        let kind = Calls::of(head.id);
        let track = out.thread_track(head.tgid, head.tid, Layer::Syscall)?;
        let mut args = [("", ArgRef::U64(0)); 4];
        let mut count = 0;
        let mut push = |key, value| {
            args[count] = (key, value);
            count += 1;
        };
        if let Some(path) = (record.file != 0).then(|| self.paths.get(record.file)).flatten() {
            push("path", ArgRef::Str(path));
        }
        match (kind, u64::try_from(record.ret)) {
            (Calls::Data | Calls::Socket, Ok(bytes)) => push("bytes", ArgRef::U64(bytes)),
            (_, Ok(0)) => {}
            (_, Ok(value)) => push("ret", ArgRef::U64(value)),
            (_, Err(_)) => push("ret", ArgRef::I64(record.ret)),
        }
        if kind.only_waits() {
            push("waiting", ArgRef::U64(1));
        }
        out.plain(track, head.start, head.dur, call_name(head.id), &args[..count])
    }

    /// A block request that completed.
    pub fn block(&mut self, record: &Block, out: &mut Output<'_>) -> io::Result<()> {
        let head = &record.head;
        let disk = records::text(&record.disk);
        let lanes = self.lanes.entry((head.tgid, head.id)).or_default();
        let end = head.start.saturating_add(head.dur);
        // Requests overlap; they complete in order, so the first lane free at the start takes it.
        let lane = lanes.iter().position(|free| *free <= head.start).unwrap_or_else(|| {
            lanes.push(0);
            lanes.len() - 1
        });
        lanes[lane] = end;
        let name = if lane == 0 { format!("block {disk}") } else { format!("block {disk} ({})", lane + 1) };
        let track = out.process_track(head.tgid, &name, Layer::Io, None)?;
        let args = [
            ("bytes", ArgRef::U64(record.bytes.into())),
            ("sector", ArgRef::U64(record.sector)),
            ("device", ArgRef::Str(&disk)),
            ("tid", ArgRef::U64(head.tid.into())),
        ];
        out.plain(track, head.start, head.dur, operation(head.aux), &args)
    }

    /// A major page fault.
    pub fn fault(&mut self, record: &Fault, out: &mut Output<'_>) -> io::Result<()> {
        let track = out.thread_named_track(record.head.tgid, record.head.tid, "faults", Layer::Io)?;
        let args = [("address", ArgRef::U64(record.address))];
        out.sink().instant(track, &Event { ts_ns: record.head.start, name: "major_fault", args: &args })
    }

    /// A process is gone.
    pub fn forget_process(&mut self, pid: u32) {
        self.lanes.retain(|(owner, _), _| *owner != pid);
    }
}

/// `enum req_op` of the kernel's include/linux/blk_types.h.
fn operation(op: u16) -> &'static str {
    match op {
        0 => "read",
        1 | 7 => "write",
        2 => "flush",
        3 | 5 => "discard",
        9 => "write_zeroes",
        _ => "other",
    }
}
