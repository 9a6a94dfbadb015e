//! Nodes that Slurm and a Kubernetes cluster share: what each side says of them, which drains and
//! cordons are to be mirrored, and which CLOUD nodes of Slurm to start or stop.
//!
//! Pure: views of both sides in, a decision out. Whoever carries it out passes `act`'s gate.

pub mod elastic;
mod mirror;
#[cfg(test)]
mod mirror_tests;
mod sides;

pub use mirror::{Order, Row, Sheet, mark, mirror};
pub(crate) use sides::wants_nodes;
pub use sides::{Demand, KubernetesNode, Machines, Size, SlurmNode};

/// Of a [`Sheet`].
pub const SYNC_SCHEMA: &str = "aictl.queue-sync/v1";
/// Of a [`elastic::Decision`].
pub const ELASTIC_SCHEMA: &str = "aictl.queue-elastic/v1";
/// Label of a Kubernetes node that names its node in Slurm, where names differ.
pub const SLURM_NODE_LABEL: &str = "aictl.dev/slurm-node";
/// The incident under which a mirrored cordon stands on the Kubernetes node.
pub const CORDON: &str = "queue-sync-cordon";
/// The incident under which a mirrored drain stands in the journal.
pub const DRAIN: &str = "queue-sync-drain";
