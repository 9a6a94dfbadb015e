//! NCCL's calls as slices: what is moved, between how many ranks, and how fast at best.

use std::io;

use rustc_hash::FxHashMap;

use super::calls::{Collective, Function, Kind, What};
use super::cuda::{Cuda, value};
use crate::profile::output::Output;
use crate::profile::records::Call;
use crate::trace::{ArgRef, Layer, SliceEvent};

/// Names and sizes of ncclDataType_t (nccl.h).
const TYPES: [(&str, u64); 12] = [
    ("int8", 1),
    ("uint8", 1),
    ("int32", 4),
    ("uint32", 4),
    ("int64", 8),
    ("uint64", 8),
    ("float16", 2),
    ("float32", 4),
    ("float64", 8),
    ("bfloat16", 2),
    ("float8e4m3", 1),
    ("float8e5m2", 1),
];
/// Names of ncclRedOp_t (nccl.h); larger numbers are made by the program.
const OPS: [&str; 5] = ["sum", "prod", "max", "min", "avg"];

/// A collective as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    /// The function.
    pub name: &'static str,
    kind: Kind,
    count: u64,
    dtype: &'static str,
    bytes: Option<u64>,
    op: Option<&'static str>,
    comm: String,
    rank: Option<u32>,
    ranks: Option<u32>,
}

impl Message {
    /// Adds the arguments of its slice.
    pub fn describe<'a>(&'a self, args: &mut Vec<(&'a str, ArgRef<'a>)>) {
        args.push(("count", ArgRef::U64(self.count)));
        args.push(("dtype", ArgRef::Str(self.dtype)));
        args.extend(self.bytes.map(|bytes| ("bytes", ArgRef::U64(bytes))));
        args.extend(self.op.map(|op| ("op", ArgRef::Str(op))));
        args.push(("comm", ArgRef::Str(&self.comm)));
        args.extend(self.rank.map(|rank| ("rank", ArgRef::U64(rank.into()))));
        args.extend(self.ranks.map(|ranks| ("ranks", ArgRef::U64(ranks.into()))));
    }

    /// Bandwidth each link must have carried, GB/s: bytes over time, times the algorithm's
    /// factor of nccl-tests (doc/PERFORMANCE.md), which makes it comparable to the hardware's.
    pub fn bus_gb_s(&self, dur_ns: u64) -> Option<f64> {
        let (bytes, ranks) = (self.bytes? as f64, f64::from(self.ranks?));
        if dur_ns == 0 || ranks < 1.0 {
            return None;
        }
        let factor = match self.kind {
            Kind::AllReduce => 2.0 * (ranks - 1.0) / ranks,
            Kind::Gathered | Kind::AllToAll => (ranks - 1.0) / ranks,
            Kind::Rooted | Kind::Point => 1.0,
        };
        // Bytes a nanosecond are gigabytes a second.
        Some(bytes / dur_ns as f64 * factor)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Communicator {
    rank: Option<u32>,
    ranks: Option<u32>,
}

/// The communicators seen to come to be, or asked about, since the attach.
#[derive(Default)]
pub(crate) struct Nccl {
    communicators: FxHashMap<(u32, u64), Communicator>,
}

/// A communicator's address, as people can tell two apart.
fn short(comm: u64) -> String {
    format!("{comm:#x}")
}

impl Nccl {
    /// Turns one call into slices.
    pub fn call(&mut self, function: &Function, call: &Call, cuda: &mut Cuda, out: &mut Output<'_>) -> io::Result<()> {
        let pid = call.head.tgid;
        let failed = call.ret as u32 != 0;
        let mut args: Vec<(&str, ArgRef<'_>)> = Vec::with_capacity(10);
        let mut flow = 0;
        let message;
        let comm;
        match function.what {
            What::Collective(layout) => {
                message = self.message(function.name, call, layout);
                let stream = value(call, layout.stream).unwrap_or(0);
                if !failed {
                    flow = cuda.collective(call, stream, message.clone(), out)?;
                }
                message.describe(&mut args);
                args.push(("stream", ArgRef::U64(cuda.stream_number(pid, stream).into())));
            }
            What::NewComm => {
                let (ranks, rank) = (call.args[1] as u32, call.args[2] as u32);
                comm = short(call.extra);
                if !failed && call.extra != 0 {
                    let known = Communicator { rank: Some(rank), ranks: Some(ranks) };
                    self.communicators.insert((pid, call.extra), known);
                    args.push(("comm", ArgRef::Str(&comm)));
                }
                args.push(("rank", ArgRef::U64(rank.into())));
                args.push(("ranks", ArgRef::U64(ranks.into())));
            }
            What::CommSize | What::CommRank => {
                if !failed {
                    let known = self.communicators.entry((pid, call.args[0])).or_default();
                    let number = Some(call.extra as u32);
                    if function.what == What::CommSize { known.ranks = number } else { known.rank = number }
                }
                // Asked at every turn by some programs, and of no length.
                return Ok(());
            }
            What::GroupCall => {}
            _ => return Ok(()),
        }
        if failed {
            args.push(("ret", ArgRef::U64(u64::from(call.ret as u32))));
        }
        let track = out.thread_track(pid, call.head.tid, Layer::Nccl)?;
        let (start_ns, dur_ns) = (call.head.start, call.head.dur);
        out.slice(track, &SliceEvent { start_ns, dur_ns, name: function.name, args: &args, flow, estimate: false })
    }

    /// Forgets a process that ended.
    pub fn forget(&mut self, pid: u32) {
        self.communicators.retain(|(p, _), _| *p != pid);
    }

    fn message(&self, name: &'static str, call: &Call, layout: Collective) -> Message {
        let comm = value(call, layout.comm).unwrap_or(0);
        let known = self.communicators.get(&(call.head.tgid, comm)).copied().unwrap_or_default();
        let (dtype, size) = TYPES.get(call.args[layout.dtype] as u32 as usize).copied().unwrap_or(("unknown", 0));
        let count = call.args[layout.count];
        // The size nccl-tests reports: the larger of the two buffers.
        let buffers = match layout.kind {
            Kind::Gathered | Kind::AllToAll => known.ranks.map(u64::from),
            _ => Some(1),
        };
        let op = layout.op.map(|at| OPS.get(call.args[at] as u32 as usize).copied().unwrap_or("custom"));
        let bytes = buffers.filter(|_| size > 0).and_then(|n| count.checked_mul(size)?.checked_mul(n));
        Message {
            name,
            kind: layout.kind,
            count,
            dtype,
            bytes,
            op,
            comm: short(comm),
            rank: known.rank,
            ranks: known.ranks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: Kind, bytes: u64, ranks: Option<u32>) -> Message {
        Message {
            name: "ncclAllReduce",
            kind,
            count: bytes / 4,
            dtype: "float32",
            bytes: Some(bytes),
            op: Some("sum"),
            comm: short(0x10),
            rank: Some(0),
            ranks,
        }
    }

    #[test]
    fn bus_bandwidth_follows_nccl_tests() {
        // 8 ranks, 1 GB in 10 ms: 100 GB/s by the algorithm, times 2·7/8 on the bus.
        let rate = |kind| message(kind, 1_000_000_000, Some(8)).bus_gb_s(10_000_000).unwrap();
        assert!((rate(Kind::AllReduce) - 175.0).abs() < 1e-9);
        assert!((rate(Kind::Gathered) - 87.5).abs() < 1e-9);
        assert!((rate(Kind::Rooted) - 100.0).abs() < 1e-9);
        assert_eq!(message(Kind::AllReduce, 1, None).bus_gb_s(1), None, "unknown size of the communicator");
        assert_eq!(message(Kind::AllReduce, 1, Some(2)).bus_gb_s(0), None);
    }
}
