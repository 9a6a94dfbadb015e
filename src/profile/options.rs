//! What is to be captured, and what a capture tells while it runs.

use std::time::Duration;

use crate::trace::Layer;

/// A set of layers to capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers(u32);

impl Layers {
    /// The layers that can be captured, in the order of `--layers`' help; bit i is `LAYER_*` of common.bpf.h.
    pub const ALL_LAYERS: [Layer; 7] =
        [Layer::Sched, Layer::Syscall, Layer::Io, Layer::Python, Layer::Torch, Layer::Cuda, Layer::Nccl];

    /// Every layer.
    pub fn all() -> Layers {
        Layers((1 << Self::ALL_LAYERS.len()) - 1)
    }

    /// No layer.
    pub fn none() -> Layers {
        Layers(0)
    }

    /// The set with `layer` added; unchanged for a layer that can't be captured.
    #[must_use]
    pub fn with(self, layer: Layer) -> Layers {
        Layers(self.0 | Self::bit(layer))
    }

    /// The set without `layer`.
    #[must_use]
    pub fn without(self, layer: Layer) -> Layers {
        Layers(self.0 & !Self::bit(layer))
    }

    /// Whether `layer` is in the set.
    pub fn has(self, layer: Layer) -> bool {
        self.0 & Self::bit(layer) != 0
    }

    /// The set as `LAYER_*` bits of common.bpf.h.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The layers in the set, in display order.
    pub fn iter(self) -> impl Iterator<Item = Layer> {
        Self::ALL_LAYERS.into_iter().filter(move |l| self.has(*l))
    }

    fn bit(layer: Layer) -> u32 {
        Self::ALL_LAYERS.iter().position(|l| *l == layer).map_or(0, |i| 1 << i)
    }
}

/// What to capture and how.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// Processes named by the user; their forks follow.
    pub pids: Vec<u32>,
    /// Layers wanted.
    pub layers: Layers,
    /// End after this long; `None` until stopped or until the targets end.
    pub duration: Option<Duration>,
    /// Budget for the targets' slow-down, 0–1 (`--max-overhead`).
    pub max_overhead: f64,
    /// Python samples a second and CPU.
    pub python_hz: u32,
    /// System calls shorter than this are only counted.
    pub syscall_threshold: Duration,
    /// Where the operator scan keeps its results between runs; `None` to keep nothing.
    pub cache_dir: Option<std::path::PathBuf>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        CaptureOptions {
            pids: Vec::new(),
            layers: Layers::all(),
            duration: None,
            max_overhead: 0.02,
            python_hz: 99,
            syscall_threshold: Duration::from_micros(100),
            cache_dir: None,
        }
    }
}

/// What a capture tells its caller as it goes, about five times a second.
#[derive(Debug, Clone)]
pub enum CaptureProgress<'a> {
    /// Probes are in place and events flow; sent once.
    Attached {
        /// Time from the call to here.
        took: Duration,
        /// State of every layer.
        layers: &'a [crate::trace::LayerStatus],
    },
    /// Still recording.
    Recording {
        /// Since the probes are in place.
        elapsed: Duration,
        /// Events written so far.
        events: u64,
        /// Events lost so far.
        lost: u64,
        /// Estimated slow-down of the targets, 0–1.
        overhead: f64,
        /// Processes followed and still alive.
        processes: usize,
    },
    /// Something happened that people should know; the capture goes on.
    Note {
        /// What.
        text: &'a str,
        /// It may spoil the recording.
        warns: bool,
    },
}
