//! What the two ends tell each other. docs/profile-pods.md has the protocol in words.

use serde::{Deserialize, Serialize};

use crate::trace::LayerStatus;

/// Version of what is spoken here; both ends must have the same.
pub const PROTOCOL: u32 = 2;

/// How long the far end waits for a near end that is gone before it ends itself, in seconds.
pub const PATIENCE_S: u64 = 60;

/// The near end's first words on a connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Its aictl.
    pub version: String,
    /// Number of the first message that it has not got.
    pub next: u64,
    /// What to do; on the first connection.
    pub order: Option<Order>,
}

/// The far end's answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Its aictl.
    pub version: String,
    /// Its clock (CLOCK_MONOTONIC), ns.
    pub monotonic_ns: u64,
}

/// What to capture on a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Containers there.
    pub containers: Vec<Wanted>,
    /// Only processes whose command line this regular expression matches.
    pub process: Option<String>,
    /// Layers, by name.
    pub layers: Vec<String>,
    /// End after so long, in ms.
    pub duration_ms: Option<u64>,
    /// Budget for the slow-down, 0–1.
    pub max_overhead: f64,
    /// Python stacks a second and CPU.
    pub python_hz: u32,
    /// System calls from this length on are recorded one by one, ns.
    pub syscall_threshold_ns: u64,
}

/// A container to look for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The runtime's id.
    pub id: String,
    /// "NAMESPACE/NAME" of its pod.
    pub pod: String,
    /// Its name in the pod.
    pub container: String,
    /// Rank of its processes where they have none in their environment.
    pub rank: Option<u32>,
}

/// How it goes, in the same order as the events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// Probes are in place.
    Attached {
        /// Time that took, s.
        took_s: f64,
        /// State of the layers.
        layers: Vec<LayerStatus>,
        /// Processes named to the capture.
        processes: usize,
    },
    /// The capture runs.
    Recording {
        /// Since the probes are in place, s.
        elapsed_s: f64,
        /// Events so far.
        events: u64,
        /// Events lost so far.
        lost: u64,
        /// Slow-down of the targets, 0–1.
        overhead: f64,
        /// Processes followed.
        processes: usize,
    },
    /// The capture failed, or never began. Nothing comes after it.
    Failed(Failure),
    /// As `Ended`, but sooner than the near end wished: why.
    Cut(String),
    /// The capture is over, and all of it was sent. Nothing comes after it.
    Ended,
}

/// Why a capture failed, as the far end would have printed it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// It could not see, rather than do.
    pub blind: bool,
    /// What failed.
    pub text: String,
    /// Why, the outermost first.
    pub causes: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}
