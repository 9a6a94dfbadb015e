//! A job as `aictl queue list` has it: the contract `aictl.job/v1`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::after::After;
use super::reason::Reason;
use super::target::{EngineKind, Target};

/// Of a [`Job`].
pub const JOB_SCHEMA: &str = "aictl.job/v1";

/// One job of one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// Always [`JOB_SCHEMA`].
    pub schema: &'static str,
    /// Names it in its target: `NAMESPACE/KIND/NAME`, a Slurm job number, a Ray submission id.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// The engine.
    pub backend: EngineKind,
    /// The cluster's name, as context or configuration have it.
    pub cluster: String,
    /// The target's name, as `--to` takes it.
    pub target: String,
    /// Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The queue (partition); empty where it is in none.
    pub queue: String,
    /// Who submitted it.
    pub owner: String,
    /// Where it stands.
    pub state: State,
    /// Place in its queue, from 1, while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// Jobs before it in its queue, while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u32>,
    /// When it may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<Eta>,
    /// Why it waits or ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Its priority as the engine counts it; larger is first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Nodes it asks for or has.
    pub nodes: u32,
    /// GPUs in all.
    #[serde(serialize_with = "whole_if_whole")]
    pub gpus: f64,
    /// When it was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Timestamp>,
    /// When it last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// How long it may run, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<u64>,
    /// Exit code of its program, where the engine tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What `aictl submit` made of its spec, or `--id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submission_id: Option<String>,
    /// What it is held for, where `aictl submit` held it and the engine itself doesn't know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Waits>,
}

/// What `aictl queue release --ready` waits for before it releases a held job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// Other jobs, and how they must have ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
    /// A model that must be preloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_model: Option<String>,
    /// Somebody wants to release it himself, whatever else is ready.
    pub hold: bool,
}

impl Job {
    /// A pending job of one node of which nothing is known but its id, its name and who has it.
    pub fn bare(target: &Target, id: String, name: String) -> Job {
        Job {
            schema: JOB_SCHEMA,
            id,
            name,
            backend: target.kind,
            cluster: target.cluster.clone(),
            target: target.name.clone(),
            namespace: None,
            queue: String::new(),
            owner: String::new(),
            state: State::Pending,
            position: None,
            ahead: None,
            eta: None,
            reason: None,
            priority: None,
            nodes: 1,
            gpus: 0.0,
            submitted_at: None,
            started_at: None,
            finished_at: None,
            time_limit_s: None,
            exit_code: None,
            submission_id: None,
            waits_for: None,
        }
    }

    /// As `--output name` prints it and every command takes it: `TARGET:ID`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.target, self.id)
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Somebody must release it.
    Held,
    /// It waits.
    Pending,
    /// It has its resources; its program does not run yet.
    Admitted,
    /// Its program runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl State {
    /// All, in the order of a job's life.
    pub const ALL: [State; 7] = [
        State::Held,
        State::Pending,
        State::Admitted,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Held => "held",
            State::Pending => "pending",
            State::Admitted => "admitted",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// Whether it ended, in whatever way.
    pub fn is_over(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::Cancelled)
    }

    /// Whether it waits for its turn or for somebody.
    pub fn is_waiting(self) -> bool {
        matches!(self, State::Held | State::Pending)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<State, String> {
        let found = State::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| format!("no state {text:?}; there are {}", State::ALL.map(State::name).join(", ")))
    }
}

/// When a job may start: in `p50_s` seconds as likely as not, in `p90_s` nine times of ten.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Eta {
    /// Seconds from now.
    pub p50_s: f64,
    /// Seconds from now.
    pub p90_s: f64,
    /// What it rests on: "time limits of 3 running jobs", "Slurm's backfill".
    pub basis: String,
}

/// A job as people name it: `ID`, `NAME`, `NAMESPACE/NAME`, `KIND/NAME`, a submission id, each with
/// `TARGET:` before it or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobId {
    /// The target, where it is named.
    pub target: Option<String>,
    /// The rest.
    pub job: String,
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<JobId, String> {
        let text = text.trim();
        let (target, job) = match text.split_once(':') {
            Some((target, job)) => (Some(target), job),
            None => (None, text),
        };
        if job.is_empty() || target == Some("") || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!(
                "{text:?} names no job; write NAME, ID or TARGET:ID, as `aictl queue list -o name` does"
            ));
        }
        Ok(JobId { target: target.map(str::to_owned), job: job.to_owned() })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => write!(f, "{target}:{}", self.job),
            None => f.write_str(&self.job),
        }
    }
}

/// Whole numbers without a point, as programs expect counts.
pub(super) fn whole_if_whole<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}
