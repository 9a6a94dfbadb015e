//! What a report says, as plain data: the JSON contract `aictl.report/v1`.
//!
//! Fields are only ever added.

use serde::Serialize;

use crate::trace::{Place, Thinned};

/// Name of the JSON contract.
pub const REPORT_SCHEMA: &str = "aictl.report/v1";

/// Where a step's time goes; every nanosecond of a step is in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Waiting for or loading training data.
    Input,
    /// Computing on the CPU (operators, native libraries, numerical Python).
    ComputeCpu,
    /// Waiting for the GPU to finish.
    GpuWait,
    /// Collectives and waiting for other ranks.
    Communication,
    /// Files and disks, other than loading data: checkpoints, logs.
    Io,
    /// The Python interpreter itself: launch overhead, the GIL.
    Python,
    /// Nothing to do and nobody known to wait for.
    Idle,
    /// Anything else.
    Other,
}

impl Category {
    /// All categories, in display order.
    pub const ALL: [Category; 8] = [
        Category::Input,
        Category::ComputeCpu,
        Category::GpuWait,
        Category::Communication,
        Category::Io,
        Category::Python,
        Category::Idle,
        Category::Other,
    ];

    /// Name as in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Category::Input => "input",
            Category::ComputeCpu => "compute_cpu",
            Category::GpuWait => "gpu_wait",
            Category::Communication => "communication",
            Category::Io => "io",
            Category::Python => "python",
            Category::Idle => "idle",
            Category::Other => "other",
        }
    }
}

/// The judgement's kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Steps wait for data.
    InputBound,
    /// The CPU computes all the time.
    CpuBound,
    /// The GPU is the limit.
    GpuBound,
    /// Steps wait for other ranks.
    CommunicationBound,
    /// Steps wait for files or disks.
    IoBound,
    /// Python or launch overhead keeps the device waiting.
    HostBound,
    /// The job does nothing.
    Idle,
    /// No single cause stands out.
    Balanced,
    /// The recording does not say.
    Inconclusive,
}

impl VerdictKind {
    /// Name as in the contract.
    pub fn name(self) -> &'static str {
        match self {
            VerdictKind::InputBound => "input_bound",
            VerdictKind::CpuBound => "cpu_bound",
            VerdictKind::GpuBound => "gpu_bound",
            VerdictKind::CommunicationBound => "communication_bound",
            VerdictKind::IoBound => "io_bound",
            VerdictKind::HostBound => "host_bound",
            VerdictKind::Idle => "idle",
            VerdictKind::Balanced => "balanced",
            VerdictKind::Inconclusive => "inconclusive",
        }
    }
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// Length of the recording.
    pub duration_s: f64,
    /// Processes seen.
    pub processes: Vec<ProcessRow>,
    /// The steps found.
    pub steps: Steps,
    /// Where step time goes; shares add up to 1.
    pub breakdown: Vec<BreakdownRow>,
    /// The judgement.
    pub verdict: Verdict,
    /// The heaviest of each layer.
    pub top: Tops,
    /// Ranks or processes later than the rest.
    pub stragglers: Vec<Straggler>,
    /// What the capture itself cost and lost.
    pub capture: Capture,
    /// What the reader or the judge has to say about the data, for people.
    pub warnings: Vec<String>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessRow {
    /// Process id.
    pub pid: u32,
    /// Short name.
    pub name: String,
    /// Rank in the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// What it does in the job: "main", "worker" (feeds a main process), "helper".
    pub role: String,
    /// CPU time used during the recording, where the recording says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Where it runs, if it is a pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// The steps of the main process (or of all ranks together).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steps {
    /// Whole steps in the recording.
    pub count: usize,
    /// Median length; `null` without steps.
    pub p50_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// How they were found: `optimizer`, `backward`, `marker`, `operators`, `python_frame`,
    /// `syscalls`, `collective`, or `none`.
    pub source: String,
    /// The very thing that repeats: "Optimizer.step#SGD.step", "train.py:42 train_step".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// Process the steps were found in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// One category's part of the steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakdownRow {
    /// Which.
    pub category: Category,
    /// Seconds of step time over all steps.
    pub seconds: f64,
    /// Share of step time, 0–1.
    pub share: f64,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What limits the job.
    pub kind: VerdictKind,
    /// How sure, 0–1.
    pub confidence: f64,
    /// Share of step time the cause takes, 0–1.
    pub share: f64,
    /// The evidence.
    pub because: Vec<Evidence>,
    /// One sentence: what to change, with file and line where known.
    pub advice: String,
}

/// A fact behind the verdict; with a place in the timeline where there is one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// For people.
    pub text: String,
    /// Track, as "PROCESS PID/THREAD TID/NAME".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<String>,
    /// Start of the slice on the recording's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts_ns: Option<u64>,
    /// Its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dur_ns: Option<u64>,
}

/// The heaviest of each layer, by total time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tops {
    /// Python functions, by self time.
    pub python: Vec<TopRow>,
    /// Operators, by self time.
    pub torch: Vec<TopRow>,
    /// CUDA calls and kernels.
    pub cuda: Vec<TopRow>,
    /// Collectives.
    pub nccl: Vec<TopRow>,
    /// System calls.
    pub syscall: Vec<TopRow>,
    /// Files.
    pub file: Vec<TopRow>,
}

/// One line of a top list.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TopRow {
    /// What.
    pub name: String,
    /// How often; for sampled Python the number of slices.
    pub count: u64,
    /// Total time.
    pub seconds: f64,
    /// Share of the recording (for one thread's time), 0–1; may add up to more than 1 over threads.
    pub share: f64,
    /// Source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Bytes moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether the time is an estimate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimate: bool,
    /// Bus bandwidth of a collective in GB/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus_gb_s: Option<f64>,
}

/// A process later than its peers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Straggler {
    /// Process id.
    pub pid: u32,
    /// Rank, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// How much later than the median rank, a step.
    pub late_ms: f64,
    /// Share of steps in which it came last, 0–1.
    pub last_share: f64,
    /// Where it runs, if it is a pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What it spends that time on.
    pub because: String,
    /// Where it spends it longest: track, as in [`Evidence::track`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<String>,
    /// Start of that slice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts_ns: Option<u64>,
    /// Its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dur_ns: Option<u64>,
}

/// What the capture itself cost and lost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capture {
    /// Events that did not reach the recording.
    pub lost_events: u64,
    /// Probes thinned or dropped to hold the budget.
    pub thinned_probes: Vec<Thinned>,
    /// CPU time of aictl itself, as a share of one core; `null` for foreign recordings.
    pub cpu_share: Option<f64>,
    /// Estimated slow-down of the targets, 0–1; `null` for foreign recordings.
    pub overhead_share: Option<f64>,
    /// Layers and their state: "torch: absent (no libtorch_cpu.so)".
    pub layers: Vec<crate::trace::LayerStatus>,
    /// Nodes that were recorded together, and how well their clocks are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<crate::trace::NodeNote>,
}
