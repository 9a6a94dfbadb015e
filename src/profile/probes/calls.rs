//! The C functions probed: CUDA's runtime and driver, NCCL. What their arguments mean, and
//! attaching to them in whatever file defines them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use super::Group;
use super::elf::{Elf, Table};
use super::scan;
use crate::profile::multi::{self, Multi, Place};
use crate::profile::options::Layers;
use crate::trace::Layer;

/// Where a call's stream, size or the like is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Integer argument, from 0.
    Arg(usize),
    /// Seventh or eighth argument, from 0.
    Stack(usize),
    /// Nowhere: the default stream, or none at all.
    None,
}

/// The direction of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// cudaMemcpyKind in this argument.
    Kind(At),
    /// Known from the function.
    Fixed(&'static str),
}

/// A collective's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collective {
    /// Elements.
    pub count: usize,
    /// ncclDataType_t.
    pub dtype: usize,
    /// ncclRedOp_t.
    pub op: Option<usize>,
    /// ncclComm_t.
    pub comm: At,
    /// cudaStream_t.
    pub stream: At,
    /// How bytes and bus bandwidth are counted.
    pub kind: Kind,
}

/// How a collective moves data (nccl-tests, doc/PERFORMANCE.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 2(n−1)/n of the buffer over each link.
    AllReduce,
    /// (n−1)/n of a buffer n times the count.
    Gathered,
    /// The buffer once.
    Rooted,
    /// (n−1)/n of a buffer n times the count.
    AllToAll,
    /// One peer.
    Point,
}

/// What a probed function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// cudaLaunchKernel: grid and block packed by the ABI.
    Launch,
    /// cudaLaunchKernelExC: a configuration.
    LaunchConfig,
    /// cuLaunchKernel: nine plain arguments.
    DriverLaunch,
    /// cuLaunchKernelEx.
    DriverLaunchConfig,
    /// A whole graph.
    Graph {
        /// Its stream.
        stream: At,
    },
    /// A copy.
    Copy {
        /// Bytes; two factors for a 2-D copy.
        bytes: (At, At),
        /// From where to where.
        direction: Direction,
        /// Its stream; `None` waits for the copy.
        stream: Option<At>,
    },
    /// Filling memory.
    Fill {
        /// Elements or bytes.
        bytes: At,
        /// Bytes an element.
        unit: u64,
        /// Its stream.
        stream: At,
    },
    /// Allocating or freeing.
    Memory {
        /// Bytes.
        bytes: At,
        /// Its stream.
        stream: At,
    },
    /// Waits for a stream.
    WaitStream,
    /// Waits for the whole device.
    WaitDevice,
    /// Waits for an event.
    WaitEvent,
    /// Puts an event into a stream.
    Record,
    /// Makes a stream wait for an event.
    Order,
    /// Tells a kernel's name: handle and text.
    Name,
    /// Tells which kernel a host function is: handle and function.
    Kernel,
    /// Tells which kernel a function handle is.
    Function,
    /// A collective.
    Collective(Collective),
    /// Start or end of a group of collectives.
    GroupCall,
    /// A communicator of known size and rank comes to be.
    NewComm,
    /// Tells a communicator's size.
    CommSize,
    /// Tells our rank in a communicator.
    CommRank,
}

/// A probed function.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name without version and per-thread-stream suffixes.
    pub name: &'static str,
    /// What it does.
    pub what: What,
}

const fn f(name: &'static str, what: What) -> Function {
    Function { name, what }
}

const fn copy(bytes: usize, direction: Direction, stream: Option<At>) -> What {
    What::Copy { bytes: (At::Arg(bytes), At::None), direction, stream }
}

const fn collective(count: usize, op: Option<usize>, comm: At, stream: At, kind: Kind) -> What {
    What::Collective(Collective { count, dtype: count + 1, op, comm, stream, kind })
}

use At::{Arg, Stack};

/// Everything probed; a record's id is an index into it.
pub(crate) static FUNCTIONS: [Function; 66] = [
    f("cudaLaunchKernel", What::Launch),
    f("cudaLaunchCooperativeKernel", What::Launch),
    f("cudaLaunchKernelExC", What::LaunchConfig),
    f("cuLaunchKernel", What::DriverLaunch),
    f("cuLaunchCooperativeKernel", What::DriverLaunch),
    f("cuLaunchKernelEx", What::DriverLaunchConfig),
    f("cudaGraphLaunch", What::Graph { stream: Arg(1) }),
    f("cuGraphLaunch", What::Graph { stream: Arg(1) }),
    f("cudaMemcpy", copy(2, Direction::Kind(Arg(3)), None)),
    f("cudaMemcpyAsync", copy(2, Direction::Kind(Arg(3)), Some(Arg(4)))),
    f("cudaMemcpyPeerAsync", copy(4, Direction::Fixed("d2d"), Some(Arg(5)))),
    f("cudaMemcpyToSymbol", copy(2, Direction::Kind(Arg(4)), None)),
    f("cudaMemcpyFromSymbol", copy(2, Direction::Kind(Arg(4)), None)),
    f("cudaMemcpy2D", What::Copy { bytes: (Arg(4), Arg(5)), direction: Direction::Kind(Stack(0)), stream: None }),
    f(
        "cudaMemcpy2DAsync",
        What::Copy { bytes: (Arg(4), Arg(5)), direction: Direction::Kind(Stack(0)), stream: Some(Stack(1)) },
    ),
    f("cuMemcpy", copy(2, Direction::Fixed("default"), None)),
    f("cuMemcpyAsync", copy(2, Direction::Fixed("default"), Some(Arg(3)))),
    f("cuMemcpyHtoD", copy(2, Direction::Fixed("h2d"), None)),
    f("cuMemcpyDtoH", copy(2, Direction::Fixed("d2h"), None)),
    f("cuMemcpyDtoD", copy(2, Direction::Fixed("d2d"), None)),
    f("cuMemcpyHtoDAsync", copy(2, Direction::Fixed("h2d"), Some(Arg(3)))),
    f("cuMemcpyDtoHAsync", copy(2, Direction::Fixed("d2h"), Some(Arg(3)))),
    f("cuMemcpyDtoDAsync", copy(2, Direction::Fixed("d2d"), Some(Arg(3)))),
    f("cudaMemset", What::Fill { bytes: Arg(2), unit: 1, stream: At::None }),
    f("cudaMemsetAsync", What::Fill { bytes: Arg(2), unit: 1, stream: Arg(3) }),
    f("cuMemsetD8Async", What::Fill { bytes: Arg(2), unit: 1, stream: Arg(3) }),
    f("cuMemsetD32Async", What::Fill { bytes: Arg(2), unit: 4, stream: Arg(3) }),
    f("cudaMalloc", What::Memory { bytes: Arg(1), stream: At::None }),
    f("cudaMallocManaged", What::Memory { bytes: Arg(1), stream: At::None }),
    f("cudaMallocAsync", What::Memory { bytes: Arg(1), stream: Arg(2) }),
    f("cudaMallocHost", What::Memory { bytes: Arg(1), stream: At::None }),
    f("cudaHostAlloc", What::Memory { bytes: Arg(1), stream: At::None }),
    f("cudaFree", What::Memory { bytes: At::None, stream: At::None }),
    f("cudaFreeAsync", What::Memory { bytes: At::None, stream: Arg(1) }),
    f("cudaFreeHost", What::Memory { bytes: At::None, stream: At::None }),
    f("cuMemAlloc", What::Memory { bytes: Arg(1), stream: At::None }),
    f("cuMemFree", What::Memory { bytes: At::None, stream: At::None }),
    f("cudaStreamSynchronize", What::WaitStream),
    f("cuStreamSynchronize", What::WaitStream),
    f("cudaDeviceSynchronize", What::WaitDevice),
    f("cuCtxSynchronize", What::WaitDevice),
    f("cudaEventSynchronize", What::WaitEvent),
    f("cuEventSynchronize", What::WaitEvent),
    f("cudaEventRecord", What::Record),
    f("cudaEventRecordWithFlags", What::Record),
    f("cuEventRecord", What::Record),
    f("cudaStreamWaitEvent", What::Order),
    f("cuModuleGetFunction", What::Name),
    f("cuLibraryGetKernel", What::Name),
    f("cuKernelGetFunction", What::Function),
    f("__cudaGetKernel", What::Kernel),
    f("ncclAllReduce", collective(2, Some(4), Arg(5), Stack(0), Kind::AllReduce)),
    f("ncclReduceScatter", collective(2, Some(4), Arg(5), Stack(0), Kind::Gathered)),
    f("ncclAllGather", collective(2, None, Arg(4), Arg(5), Kind::Gathered)),
    f("ncclBroadcast", collective(2, None, Arg(5), Stack(0), Kind::Rooted)),
    f("ncclBcast", collective(1, None, Arg(4), Arg(5), Kind::Rooted)),
    f("ncclReduce", collective(2, Some(4), Stack(0), Stack(1), Kind::Rooted)),
    f("ncclSend", collective(1, None, Arg(4), Arg(5), Kind::Point)),
    f("ncclRecv", collective(1, None, Arg(4), Arg(5), Kind::Point)),
    f("ncclAlltoAll", collective(2, None, Arg(4), Arg(5), Kind::AllToAll)),
    f("ncclGroupStart", What::GroupCall),
    f("ncclGroupEnd", What::GroupCall),
    f("ncclCommInitRank", What::NewComm),
    f("ncclCommInitRankConfig", What::NewComm),
    f("ncclCommCount", What::CommSize),
    f("ncclCommUserRank", What::CommRank),
];

// Cookie bits of uprobes.bpf.c.
const NCCL: u64 = 1 << 24;
const RUNTIME: u64 = 1 << 25;
const DRIVER: u64 = 1 << 26;
const OUT: u64 = 28;
const TEXT: u64 = 31;
const CONFIG: u64 = 1 << 34;
const STACK3: u64 = 1 << 35;

/// Suffixes of versions and of per-thread default streams.
const SUFFIXES: [&str; 5] = ["_ptsz", "_ptds", "_v2", "_v3", "_v11020"];

fn index_of(symbol: &str) -> Option<usize> {
    if !(symbol.starts_with("cu") || symbol.starts_with("nccl") || symbol.starts_with("__cudaGetKernel")) {
        return None;
    }
    let mut base = symbol;
    while let Some(cut) = SUFFIXES.iter().find_map(|suffix| base.strip_suffix(suffix)) {
        base = cut;
    }
    FUNCTIONS.iter().position(|function| function.name == base)
}

impl Function {
    /// The layer it is shown in.
    pub fn layer(&self) -> Layer {
        if self.name.starts_with("nccl") { Layer::Nccl } else { Layer::Cuda }
    }

    /// Whether it starts work on the device without waiting.
    pub fn launches(&self) -> bool {
        matches!(self.what, What::Launch | What::LaunchConfig | What::DriverLaunch | What::DriverLaunchConfig)
    }

    fn group(&self) -> Group {
        match self.layer() {
            Layer::Nccl => Group::Nccl,
            _ if self.launches() => Group::Launch,
            _ => Group::Cuda,
        }
    }

    /// Whether its end tells nothing: only that it was called matters.
    fn once(&self) -> bool {
        matches!(self.what, What::Record | What::Order)
    }

    fn cookie(&self, index: usize, delta: u32) -> u64 {
        let family = match self.layer() {
            Layer::Nccl => NCCL,
            _ if self.name.starts_with("cuda") || self.name.starts_with("__cuda") => RUNTIME,
            _ => DRIVER,
        };
        let reads = match self.what {
            What::LaunchConfig | What::DriverLaunchConfig => CONFIG,
            What::DriverLaunch => STACK3,
            What::Name => (1 << OUT) | (3 << TEXT),
            What::Kernel | What::Function | What::NewComm => 1 << OUT,
            What::CommSize | What::CommRank => 2 << OUT,
            _ => 0,
        };
        index as u64 | u64::from(delta) << 16 | family | reads
    }
}

/// The probes on one file's C functions.
pub(crate) struct CallFile {
    place: Place,
    /// (program, group, points), to attach again when less is wanted.
    points: BTreeMap<(Group, bool), Points>,
    links: Vec<(Group, OwnedFd)>,
    /// Functions of CUDA and of NCCL found.
    pub found: (usize, usize),
}

#[derive(Default, Clone)]
struct Points {
    entry: Vec<(u64, u64)>,
    back: Vec<(u64, u64)>,
}

/// Looks for the functions in a file and probes them, in one process or in all; `None` if it
/// defines none of them.
pub(crate) fn attach(multi: &Multi, layers: Layers, elf: &Elf, pid: Option<u32>) -> io::Result<Option<CallFile>> {
    let table = match elf.mentions(&["cudaLaunchKernel", "cuLaunchKernel", "ncclAllReduce"]) {
        true => Table::Dynamic,
        // Device code and no runtime imported: it is linked in statically.
        false if elf.has_section(".nv_fatbin") => Table::Full,
        false => return Ok(None),
    };
    let Some(symbols) = elf.symbols(table)? else { return Ok(None) };
    let mut points: BTreeMap<(Group, bool), Points> = BTreeMap::new();
    let mut found = (0, 0);
    let mut seen = Vec::new();
    for symbol in symbols.iter().filter(|s| s.code) {
        let Some(index) = index_of(symbol.name) else { continue };
        let function = &FUNCTIONS[index];
        if !layers.has(function.layer()) || seen.contains(&symbol.address) {
            continue;
        }
        seen.push(symbol.address);
        let Some((entry, delta)) = entry_of(elf, symbol.address, symbol.size) else { continue };
        let start = elf.offset_of(symbol.address).unwrap_or(entry);
        if function.layer() == Layer::Nccl {
            found.1 += 1
        } else {
            found.0 += 1
        }
        let to = points.entry((function.group(), function.once())).or_default();
        to.entry.push((entry, function.cookie(index, delta)));
        // A return probe replaces the return address, so it must sit where that is on top.
        to.back.push((if delta == 0 { entry } else { start }, function.cookie(index, 0)));
    }
    if points.is_empty() {
        return Ok(None);
    }
    let place = Place::new(elf.file().try_clone()?, pid)?;
    let mut calls = CallFile { place, points, links: Vec::new(), found };
    for ((group, once), points) in calls.points.clone() {
        calls.link(multi, group, once, &points)?;
    }
    Ok(Some(calls))
}

fn entry_of(elf: &Elf, address: u64, size: u64) -> Option<(u64, u32)> {
    // The first few instructions are enough for an entry.
    let length = if size == 0 { 64 } else { size.min(64) };
    let shape = scan::shape(&elf.read(address, length as usize).ok()?, address)?;
    let delta = shape.entry.delta.filter(|d| *d <= 255)?;
    Some((elf.offset_of(shape.entry.address)?, delta))
}

impl CallFile {
    fn link(&mut self, multi: &Multi, group: Group, once: bool, points: &Points) -> io::Result<()> {
        if once {
            self.links.push((group, multi.attach("call_once", &self.place, &points.entry, false)?));
            return Ok(());
        }
        let returns = if group == Group::Launch { Group::LaunchReturn } else { group };
        self.links.push((returns, multi.attach("call_exit", &self.place, &points.back, true)?));
        self.links.push((group, multi.attach("call_enter", &self.place, &points.entry, false)?));
        Ok(())
    }

    /// The one process it is about, if it is not about all.
    pub fn pid(&self) -> Option<u32> {
        self.place.pid()
    }

    /// Whether a group is probed.
    pub fn has_group(&self, group: Group) -> bool {
        self.links.iter().any(|(g, _)| *g == group)
    }

    /// Watches launches at their entry only.
    pub fn drop_launch_returns(&mut self, multi: &Multi) -> io::Result<()> {
        let Some(points) = self.points.get(&(Group::Launch, false)).cloned() else { return Ok(()) };
        self.drop_group(Group::Launch);
        self.drop_group(Group::LaunchReturn);
        self.link(multi, Group::Launch, true, &points)
    }

    /// Takes the probes of a group off.
    pub fn drop_group(&mut self, group: Group) {
        let links = self.links.extract_if(.., |(g, _)| *g == group).map(|(_, link)| link).collect();
        std::thread::spawn(move || multi::detach(links));
    }

    /// Gives every link away, to be closed.
    pub fn take_links(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.links).into_iter().map(|(_, link)| link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_find_their_function() {
        let name = |symbol| index_of(symbol).map(|i| FUNCTIONS[i].name);
        assert_eq!(name("cudaLaunchKernel_ptsz"), Some("cudaLaunchKernel"));
        assert_eq!(name("cuMemcpyHtoDAsync_v2_ptsz"), Some("cuMemcpyHtoDAsync"));
        assert_eq!(name("ncclAllReduce"), Some("ncclAllReduce"));
        assert_eq!(name("cudaGetDevice"), None);
        assert_eq!(name("main"), None);
    }
}
