//! What is asked of the process that loads, and what it says.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What to load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// What the model is called.
    pub source: String,
    /// Which GPU, as CUDA counts them.
    pub gpu: u32,
    /// Files with tensors.
    pub files: Vec<OrderedFile>,
    /// Whether the memory is kept until the process is ended.
    pub keep: Option<Keep>,
}

/// How memory is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Keep {
    /// Where to write the handles.
    pub handles: PathBuf,
    /// Directory of the records of processes that hold something.
    pub pins: PathBuf,
}

/// A file with tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderedFile {
    /// The file.
    pub path: PathBuf,
    /// What of it, in order: bytes of the file without its header.
    pub ranges: Vec<Range<u64>>,
}

impl OrderedFile {
    /// Bytes to load.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }
}

/// A line of what the process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// It is at work: loaded bytes so far.
    Progress(u64),
    /// The end.
    Done(Box<GpuLoad>),
    /// It could not.
    Unable(Unable),
}

/// Why nothing was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "snake_case")]
pub enum Unable {
    /// There is no CUDA driver.
    #[error("no CUDA driver: {0}")]
    NoDriver(String),
    /// There is no such GPU.
    #[error("no GPU {gpu}: CUDA has {count}")]
    NoGpu {
        /// Which was asked for.
        gpu: u32,
        /// How many there are.
        count: u32,
    },
    /// The tensors do not fit.
    #[error("GPU {gpu} has {free_bytes} bytes free, and {needed_bytes} are needed")]
    TooLarge {
        /// The GPU.
        gpu: u32,
        /// Free bytes.
        free_bytes: u64,
        /// Bytes of the tensors.
        needed_bytes: u64,
    },
    /// A call failed.
    #[error("{call} failed: {error}")]
    Call {
        /// The call.
        call: String,
        /// What CUDA says.
        error: String,
    },
    /// A file can't be read, or has become shorter.
    #[error("cannot read {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It said nothing for too long.
    #[error("the CUDA driver does not answer ({seconds} s)")]
    Hung {
        /// How long it was waited for.
        seconds: u64,
    },
    /// Its process ended without a word.
    #[error("the process that calls CUDA ended early: {0}")]
    Broke(String),
    /// A signal ended the wait.
    #[error("interrupted")]
    Interrupted,
}

/// What came of it (`aictl.gpu_load/v1`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuLoad {
    /// The GPU, as CUDA counts them.
    pub gpu: u32,
    /// Its name.
    pub name: String,
    /// Bytes loaded.
    pub bytes: u64,
    /// Tensor files they are from.
    pub files: usize,
    /// Time from the first read to the last copy's end.
    pub seconds: f64,
    /// Bytes by that time, in GB/s: page cache or disk, and the copy.
    pub gigabytes_per_second: f64,
    /// The copy alone: pinned memory to the GPU, in GB/s.
    pub host_to_device_gigabytes_per_second: f64,
    /// Bytes that were copied back and compared with the file.
    pub compared_bytes: u64,
    /// Whether they were the same.
    pub matches: bool,
    /// Free bytes of the GPU before.
    pub free_bytes: u64,
    /// Process that keeps the memory, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keeper: Option<u32>,
    /// Where the handles are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles: Option<PathBuf>,
}

/// Kept memory for a loader (`aictl.gpu_handles/v1`): one allocation a file.
#[derive(Debug, Clone, Serialize)]
pub struct Handle {
    /// The file that it is from.
    pub path: PathBuf,
    /// CUDA's handle in hex (64 bytes, `CUipcMemHandle`), for `cuIpcOpenMemHandle`.
    pub ipc_handle: String,
    /// Size of the allocation.
    pub bytes: u64,
    /// Where each tensor is in it.
    pub tensors: Vec<KeptTensor>,
}

/// A tensor in kept memory.
#[derive(Debug, Clone, Serialize)]
pub struct KeptTensor {
    /// Its name.
    pub name: String,
    /// Its type, as safetensors writes it.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Where it begins in the allocation.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
}
