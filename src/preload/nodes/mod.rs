//! Many nodes: the same program as a Job on each of them, followed from here.
//!
//! Names are made of what is asked for and of the node, so that a second run finds what the first one
//! left: it takes up Jobs that run, and where some of the last run failed, runs only those again. The
//! Jobs belong to the cluster and go on without us. Only `write.rs` changes anything there: Jobs, and
//! for peers a Service and a Secret, all of them our own.

mod follow;
mod heard;
mod manifest;
mod run;
mod write;

pub use manifest::{Fleet, StorePlace, Toleration};
pub use run::{Action, NodeReport, NodeState, Orders, Planned, forget, plan, run};

/// Label of all objects of a fleet; its value tells fleets apart.
pub const LABEL: &str = "aictl.dev/preload";
