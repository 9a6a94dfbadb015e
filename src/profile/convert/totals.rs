//! The kernel's own counts: every system call, every file.

use aya::Pod;
use aya::maps::{Map, MapData, MapError, PerCpuHashMap};
use rustc_hash::FxHashMap;

use super::{Paths, call_name};
use crate::trace::{FileTotal, SyscallTotal};

/// `struct call_key` of syscall.bpf.h.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct CallKey {
    tgid: u32,
    nr: u32,
}

/// `struct call_total`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct CallTotal {
    count: u64,
    ns: u64,
}

/// `struct file_key`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct FileKey {
    file: u64,
    tgid: u32,
    op: u32,
}

/// `struct file_total`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct FileCount {
    count: u64,
    bytes: u64,
    ns: u64,
}

// SAFETY: plain numbers without padding, all of them.
unsafe impl Pod for CallKey {}
unsafe impl Pod for CallTotal {}
unsafe impl Pod for FileKey {}
unsafe impl Pod for FileCount {}

/// Rows kept in the recording's notes, the heaviest first.
const CALL_ROWS: usize = 400;
const FILE_ROWS: usize = 100;

/// Reads the totals out of the kernel.
pub(crate) struct Totals {
    calls: PerCpuHashMap<MapData, CallKey, CallTotal>,
    files: PerCpuHashMap<MapData, FileKey, FileCount>,
}

/// Totals so far, and what they mean for counters and the budget.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The heaviest system calls, by time.
    pub syscalls: Vec<SyscallTotal>,
    /// The heaviest files, by time.
    pub files: Vec<FileTotal>,
    /// System calls of each process.
    pub calls: FxHashMap<u32, u64>,
    /// Bytes read and written by each process.
    pub bytes: FxHashMap<u32, (u64, u64)>,
}

impl Totals {
    /// Takes the two maps of the main object.
    pub fn new(calls: Map, files: Map) -> Result<Self, MapError> {
        Ok(Totals { calls: PerCpuHashMap::try_from(calls)?, files: PerCpuHashMap::try_from(files)? })
    }

    /// Reads all counts.
    pub fn read(&self, paths: &mut Paths) -> Reading {
        let mut reading = Reading::default();
        for (key, values) in self.calls.iter().flatten() {
            let count = values.iter().map(|v| v.count).sum();
            let total_ns = values.iter().map(|v| v.ns).sum();
            *reading.calls.entry(key.tgid).or_default() += count;
            reading.syscalls.push(SyscallTotal { pid: key.tgid, name: call_name(key.nr).to_owned(), count, total_ns });
        }
        let mut files = Vec::new();
        for (key, values) in self.files.iter().flatten() {
            let bytes: u64 = values.iter().map(|v| v.bytes).sum();
            let both = reading.bytes.entry(key.tgid).or_default();
            match key.op {
                1 => both.0 += bytes,
                2 => both.1 += bytes,
                _ => {}
            }
            let count: u64 = values.iter().map(|v| v.count).sum();
            let total_ns: u64 = values.iter().map(|v| v.ns).sum();
            files.push((key, count, bytes, total_ns));
        }
        reading.syscalls.sort_by_key(|row| std::cmp::Reverse(row.total_ns));
        reading.syscalls.truncate(CALL_ROWS);
        files.sort_by_key(|row| std::cmp::Reverse(row.3));
        files.truncate(FILE_ROWS);
        reading.files = files
            .into_iter()
            .filter_map(|(key, count, bytes, total_ns)| {
                let path = paths.get(key.file)?.to_owned();
                let op = match key.op {
                    1 => "read",
                    2 => "write",
                    _ => "fsync",
                };
                Some(FileTotal { pid: key.tgid, path, op: op.to_owned(), count, bytes, total_ns })
            })
            .collect();
        reading
    }
}
