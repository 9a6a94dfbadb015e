//! Why something asked of a queue was not had.

use thiserror::Error;

use crate::cluster::ClusterError;

/// Why something asked of a queue was not had.
#[derive(Debug, Error)]
pub enum QueueError {
    /// A Kubernetes cluster said no, or nothing.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No engine was found at all.
    #[error("no queue was found: {looked}")]
    NoEngine {
        /// Where was looked.
        looked: String,
    },
    /// `--to` names nothing there is.
    #[error("no target {name:?}")]
    NoSuchTarget {
        /// What was named.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no such queue.
    #[error("{target} has no queue {queue:?}")]
    NoSuchQueue {
        /// The target's name.
        target: String,
        /// What was named.
        queue: String,
        /// Like names.
        nearest: Vec<String>,
    },
    /// There is no such job.
    #[error("no job {job:?} in {looked}")]
    NoSuchJob {
        /// What was named.
        job: String,
        /// Where was looked.
        looked: String,
        /// Like names.
        nearest: Vec<String>,
    },
    /// Several jobs go by that name.
    #[error("{job:?} may be any of {}", addresses.join(", "))]
    Ambiguous {
        /// What was named.
        job: String,
        /// As [`super::Job::address`].
        addresses: Vec<String>,
    },
    /// It could never run there.
    #[error("{what}")]
    Impossible {
        /// What is asked that can't be had: "16 nodes asked for, the cluster has 4".
        what: String,
        /// What would fit.
        fits: String,
    },
    /// The engine has no such thing.
    #[error("{engine} can't {what}")]
    Unsupported {
        /// The engine's name.
        engine: String,
        /// "hold a job".
        what: String,
        /// What to do instead.
        instead: String,
    },
    /// The request itself is wrong.
    #[error("{what}")]
    Invalid {
        /// What is wrong, with the place.
        what: String,
        /// What would be right.
        hint: String,
    },
    /// The engine said no.
    #[error("{what}: {message}")]
    Refused {
        /// What was tried.
        what: String,
        /// The engine's words.
        message: String,
    },
    /// The engine could not be asked; the same may work a moment later if `passing`.
    #[error("{what}: {message}")]
    Unreachable {
        /// What was tried.
        what: String,
        /// Why.
        message: String,
        /// Whether to try again.
        passing: bool,
    },
    /// The engine took the order and did not follow it.
    #[error("{what}: it is still {state} after {after_s} s")]
    Unconfirmed {
        /// What was ordered: "cancelling slurm:12".
        what: String,
        /// Where the job stands.
        state: super::State,
        /// Seconds waited.
        after_s: u64,
    },
    /// Something was made before a later step failed, and could not be taken back.
    #[error("{what}; left behind: {}", left.join(", "))]
    LeftBehind {
        /// What failed.
        what: String,
        /// What is still there, as `kubectl delete` takes it.
        left: Vec<String>,
    },
}

impl QueueError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let like = |nearest: &[String], list: &str| match nearest {
            [] => list.to_owned(),
            nearest => format!("did you mean {}? {list}", nearest.join(" or ")),
        };
        Some(match self {
            QueueError::Cluster(error) => return error.hint().map(str::to_owned),
            QueueError::NoEngine { .. } => {
                "name one with --to, a cluster with --context, or list targets in the configuration".to_owned()
            }
            QueueError::NoSuchTarget { known, .. } if known.is_empty() => "there are none here".to_owned(),
            QueueError::NoSuchTarget { known, .. } => format!("there are {}", known.join(", ")),
            QueueError::NoSuchQueue { nearest, .. } => like(nearest, "`aictl queue quota` lists the queues"),
            QueueError::NoSuchJob { nearest, .. } => like(nearest, "`aictl queue list -A` lists all jobs"),
            QueueError::Ambiguous { .. } => "write one of these addresses".to_owned(),
            QueueError::Impossible { fits, .. } => fits.clone(),
            QueueError::Unsupported { instead, .. } => instead.clone(),
            QueueError::Invalid { hint, .. } => hint.clone(),
            QueueError::Unconfirmed { .. } => "ask again with `aictl queue explain`".to_owned(),
            QueueError::LeftBehind { .. } => {
                "delete them, or submit again: the same submission goes on with them".to_owned()
            }
            QueueError::Unreachable { .. } | QueueError::Refused { .. } => return None,
        })
    }

    /// Whether the same request may be answered a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            QueueError::Cluster(error) => error.is_passing(),
            QueueError::Unreachable { passing, .. } => *passing,
            _ => false,
        }
    }
}
