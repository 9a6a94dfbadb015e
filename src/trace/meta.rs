//! The recording's own notes: what was captured, what was lost, what it cost.
//!
//! Written into the recording as JSON every second or so; the last one counts, so a
//! recording cut by kill -9 still says nearly all.

use serde::{Deserialize, Serialize};

/// Everything a report has to say about the capture itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureMeta {
    /// Version of the aictl that wrote it.
    pub aictl_version: String,
    /// Wall-clock start, RFC 3339.
    pub started_at: String,
    /// Start on the recording's clock (CLOCK_MONOTONIC), ns.
    pub start_ns: u64,
    /// Last moment covered, ns.
    pub end_ns: u64,
    /// The processes named by the user; their forks are not listed.
    pub targets: Vec<u32>,
    /// State of every layer asked for.
    pub layers: Vec<LayerStatus>,
    /// Events that did not reach the file.
    pub lost: LostEvents,
    /// Probes thinned or dropped to hold the overhead budget.
    pub thinned: Vec<Thinned>,
    /// Budget given by `--max-overhead`, 0–1.
    pub overhead_budget: f64,
    /// Estimated CPU time added to the targets, as a share of their own CPU time, 0–1.
    pub overhead_share: f64,
    /// CPU seconds used by aictl itself.
    pub aictl_cpu_s: f64,
    /// CPU seconds used by the targets during the capture.
    pub target_cpu_s: f64,
    /// Python sampling rate, Hz.
    pub python_hz: u32,
    /// System calls shorter than this are only counted, ns.
    pub syscall_threshold_ns: u64,
    /// Every system call, counted in the kernel.
    pub syscalls: Vec<SyscallTotal>,
    /// Every file read and written, counted in the kernel.
    pub files: Vec<FileTotal>,
    /// The Python found in each process.
    pub pythons: Vec<PythonMeta>,
    /// Where processes of pods run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// The nodes that were recorded together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeNote>,
}

/// Where a process of a pod runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Process, as this recording numbers it.
    pub pid: u32,
    /// The same on its node, where two nodes had the same number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_on_node: Option<u32>,
    /// Node.
    pub node: String,
    /// Pod, as "NAMESPACE/NAME".
    pub pod: String,
    /// Container in it.
    pub container: String,
    /// GPUs that it holds open, by the number of their device file (/dev/nvidia3).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<u32>,
}

impl Place {
    /// "gpu-1 GPU 3 (ml/train-7)", for people.
    pub fn words(&self) -> String {
        let gpus: Vec<String> = self.gpus.iter().map(u32::to_string).collect();
        let gpus = if gpus.is_empty() { String::new() } else { format!(" GPU {}", gpus.join(",")) };
        format!("{}{gpus} ({})", self.node, self.pod)
    }
}

/// How one of several nodes was recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeNote {
    /// Node.
    pub node: String,
    /// What its clock showed more than the recording's, ns; its times were moved by that.
    pub clock_offset_ns: i64,
    /// How far that may be wrong: half of the shortest round trip, ns.
    pub clock_error_ns: u64,
    /// Round trips it was measured with.
    pub round_trips: u32,
    /// By how much the offset had changed at the end, ns: the clocks run at different speeds.
    pub clock_drift_ns: i64,
    /// Times the connection was lost and taken up again.
    pub resumed: u32,
    /// Why its part ends before the others', if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broke_off: Option<String>,
}

/// Whether a layer was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// Captured.
    On,
    /// Not in this process (no such library).
    Absent,
    /// Wanted, but could not be captured.
    Failed,
    /// Given up to hold the overhead budget.
    Dropped,
}

/// One layer's state and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerStatus {
    /// Name as in `--layers`.
    pub layer: String,
    /// State.
    pub state: LayerState,
    /// "3110 operators of libtorch_cpu.so", "no libcudart mapped".
    pub detail: String,
}

/// Events that did not reach the file, by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LostEvents {
    /// Slices that found the ring full.
    pub slices: u64,
    /// Python samples that found the ring full.
    pub samples: u64,
    /// Rare events (forks, maps, collectives) that found the ring full.
    pub rare: u64,
    /// Slices whose start was forgotten (map full, stack too deep).
    pub unpaired: u64,
    /// Python stacks that could not be walked.
    pub unwind_failed: u64,
    /// Events that could not be sent: the connection was away or slow for too long.
    #[serde(skip_serializing_if = "is_zero")]
    pub unsent: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl LostEvents {
    /// All that was lost.
    pub fn total(&self) -> u64 {
        self.slices + self.samples + self.rare + self.unpaired + self.unwind_failed + self.unsent
    }
}

/// A probe (or group) thinned to hold the budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thinned {
    /// What: "torch: 2431 operators averaging under 20 us", "python sampling".
    pub probe: String,
    /// What was done: "detached", "49 Hz instead of 99 Hz".
    pub action: String,
    /// When, ns on the recording's clock.
    pub ts_ns: u64,
    /// Hits a second before it was thinned.
    pub hits_per_s: f64,
    /// Share of the targets' CPU time it cost before, 0–1.
    pub cost_share: f64,
}

/// How often a process made a system call and how long it was in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyscallTotal {
    /// Process.
    pub pid: u32,
    /// Name of the call.
    pub name: String,
    /// Calls.
    pub count: u64,
    /// Time inside, ns.
    pub total_ns: u64,
}

/// How much a process read from or wrote to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTotal {
    /// Process.
    pub pid: u32,
    /// Path, or "pipe:", "socket:" and the like.
    pub path: String,
    /// "read", "write" or "fsync".
    pub op: String,
    /// Calls.
    pub count: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Time inside the calls, ns.
    pub total_ns: u64,
}

/// The Python of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonMeta {
    /// Process.
    pub pid: u32,
    /// "3.11.2".
    pub version: String,
    /// Executable or libpython the interpreter's state was found in.
    pub path: String,
}
