//! Jobs in queues, over all engines: what a job asks for, where it stands, why it waits.
//!
//! One vocabulary ([`JobSpec`], [`Job`], [`Reason`], [`Explanation`]) and one trait ([`Engine`])
//! over Kueue, Volcano, kube-queue, plain Kubernetes, Slurm and Ray. The queueing itself stays in
//! the engines. May use `cluster`, `act` and `host`; the files of `engines/` are the only ones
//! that change anything, and only the jobs they are asked to. Prints nothing.

mod after;
mod array;
mod draft;
mod engine;
pub mod engines;
mod error;
pub mod eta;
mod explain;
mod job;
mod lines;
mod nearest;
mod quantity;
mod reason;
pub mod rendezvous;
mod spec;
pub mod sync;
mod target;

pub use after::{After, Outcome};
pub use array::Array;
pub use draft::Draft;
pub use engine::{
    Answer, DryRun, Engine, ExecStreams, Filter, Lines, LogLine, LogOptions, Plan, PlanForm, QueueInfo, Ranks,
    Submitted,
};
pub use error::QueueError;
pub use explain::{Ahead, EXPLAIN_SCHEMA, Explanation, Place, QUOTA_SCHEMA, QuotaRow};
pub use job::{Eta, JOB_SCHEMA, Job, JobId, State, Waits};
pub use nearest::{LIKE_A_JOB, LIKE_A_QUEUE, nearest};
pub use quantity::{Bytes, Cpus, TimeLimit};
pub use reason::{Reason, ReasonKind};
pub use spec::{GpuShare, JobSpec, Shape};
pub use target::{EngineKind, Target, TargetOptions};
