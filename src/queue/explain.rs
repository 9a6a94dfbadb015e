//! The answer to "why does my job wait, and when will it run?", the same words for all engines.

use serde::Serialize;

use super::job::{Eta, Job, State, whole_if_whole};

/// Of an [`Explanation`].
pub const EXPLAIN_SCHEMA: &str = "aictl.explain/v1";
/// Of a [`QuotaRow`].
pub const QUOTA_SCHEMA: &str = "aictl.quota/v1";

/// Why a job is where it is, and when it may run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Always [`EXPLAIN_SCHEMA`].
    pub schema: &'static str,
    /// The job itself; its `reason` is the one thing that blocks it.
    pub job: Job,
    /// Its place in the queue, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Who comes first, next before it last; may be cut, [`Place::ahead`] has the count.
    pub ahead: Vec<Ahead>,
    /// Who has what it waits for.
    pub holders: Vec<Ahead>,
    /// The quota it draws on, by flavor and resource.
    pub quota: Vec<QuotaRow>,
    /// What would let it go on: one sentence, or none if it goes on by itself or is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unblock: Option<String>,
    /// When it may start; `None` is "unknown".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<Eta>,
    /// What could not be seen, so that the answer may be incomplete.
    pub blind: Vec<String>,
}

/// A place in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub position: u32,
    /// Jobs that wait in the queue, this one included.
    pub of: u32,
    /// Jobs before it.
    pub ahead: u32,
    /// Of these, how many can't run themselves as things are.
    pub ahead_blocked: u32,
    /// Whether aictl ranked the queue itself, since the engine has no position to ask for.
    pub estimated: bool,
}

/// Another job that matters to this one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ahead {
    /// As [`Job::id`].
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// Where it stands.
    pub state: State,
    /// Its priority, where the engine counts one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Nodes it asks for or has.
    pub nodes: u32,
    /// GPUs it asks for or has.
    #[serde(serialize_with = "whole_if_whole")]
    pub gpus: f64,
    /// Seconds until its time limit, if it runs and has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_within_s: Option<f64>,
}

impl Ahead {
    /// What matters of a job.
    pub fn of(job: &Job, now: jiff::Timestamp) -> Ahead {
        let ends_within_s = match (job.state, job.started_at, job.time_limit_s) {
            (State::Admitted | State::Running, Some(started), Some(limit)) => {
                Some((limit as f64 - now.duration_since(started).as_secs_f64()).max(0.0))
            }
            _ => None,
        };
        Ahead {
            id: job.id.clone(),
            name: job.name.clone(),
            owner: job.owner.clone(),
            state: job.state,
            priority: job.priority,
            nodes: job.nodes,
            gpus: job.gpus,
            ends_within_s,
        }
    }
}

/// Quota of a queue for one resource of one flavor. Memory counts bytes, cpu cores, the rest pieces.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuotaRow {
    /// Always [`QUOTA_SCHEMA`].
    pub schema: &'static str,
    /// The target's name.
    pub target: String,
    /// The queue that has the quota: a Kueue ClusterQueue, a Volcano Queue, a Slurm partition.
    pub queue: String,
    /// Its kind of node; empty where the engine has no such thing.
    pub flavor: String,
    /// "nvidia.com/gpu", "cpu", "memory", "nodes".
    pub resource: String,
    /// What it has of its own; `None` without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nominal: Option<f64>,
    /// What it may borrow at most; `None` without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub borrowing_limit: Option<f64>,
    /// What it borrows now.
    #[serde(serialize_with = "whole_if_whole")]
    pub borrowed: f64,
    /// What its jobs have now, the borrowed included.
    #[serde(serialize_with = "whole_if_whole")]
    pub used: f64,
    /// What its pending jobs ask for.
    #[serde(serialize_with = "whole_if_whole")]
    pub pending: f64,
}

impl QuotaRow {
    /// What is left of its own.
    pub fn free(&self) -> Option<f64> {
        self.nominal.map(|nominal| (nominal - self.used).max(0.0))
    }
}
