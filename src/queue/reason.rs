//! Why a job is where it is: one vocabulary over all engines.

use serde::{Deserialize, Serialize};

/// Why a job waits, stopped or failed; the engine's own words stand beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What it is, for programs.
    pub kind: ReasonKind,
    /// What it is, for people: one plain sentence without a full stop.
    pub text: String,
    /// The engine's own words: reason code and message.
    pub raw: String,
}

/// What keeps a job waiting, stopped it or failed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// The queue's quota is in use; it comes free as others end.
    WaitingForQuota,
    /// It asks for more than the quota can ever give.
    ExceedsQuota,
    /// A limit on the user, account or quality of service is reached.
    UserLimit,
    /// It asks for longer than the queue allows.
    TimeLimitTooLong,
    /// Others come first.
    Priority,
    /// Enough quota, but not enough free GPUs, cores, memory or nodes right now.
    WaitingForResources,
    /// No node could ever hold it.
    NoSuchNode,
    /// No flavor (kind of node) of the queue fits it.
    NoMatchingFlavor,
    /// No free place close enough together.
    Topology,
    /// Nodes that it asks for are down, drained or reserved.
    NodesUnavailable,
    /// Nodes for it are starting.
    NodesStarting,
    /// Its queue is stopped or not active.
    QueueStopped,
    /// There is no such queue.
    NoSuchQueue,
    /// Somebody holds it.
    Held,
    /// It waits for another job.
    Dependency,
    /// A job that it waits for did not end as it should have; it will never start.
    DependencyFailed,
    /// It waits for a model to be preloaded.
    WaitingForModel,
    /// It is not to begin before a time.
    BeginTime,
    /// Other jobs of its array run; no more at a time.
    ArrayLimit,
    /// A license or another shared thing is in use.
    Licenses,
    /// Its gang is not whole yet: pods or tasks are missing.
    GangIncomplete,
    /// A check before admission is not done.
    AdmissionCheck,
    /// It was admitted; its pods are not ready yet.
    WaitingForPods,
    /// Its container image can't be had.
    Image,
    /// Its environment is being set up.
    SettingUp,
    /// It gave way to another.
    Preempted,
    /// It was put back for another cause than preemption.
    Evicted,
    /// The request or the queue is set up wrongly.
    Misconfigured,
    /// The account, user or quality of service is not permitted there.
    NotPermitted,
    /// The engine has not looked at it yet.
    NotLookedAt,
    /// It ran out of memory.
    OutOfMemory,
    /// It ran into its time limit.
    TimeLimit,
    /// A node failed beneath it.
    NodeFailed,
    /// Its program ended with an error.
    ExitCode,
    /// Somebody cancelled it.
    Cancelled,
    /// The engine gave a reason that aictl has no word for; see the raw text.
    Other,
}

impl ReasonKind {
    /// As in JSON: "waiting_for_quota".
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Whether it never ends by itself: somebody must change the job or the queue.
    pub fn needs_somebody(self) -> bool {
        use ReasonKind::*;
        matches!(
            self,
            ExceedsQuota
                | TimeLimitTooLong
                | NoSuchNode
                | NoMatchingFlavor
                | QueueStopped
                | NoSuchQueue
                | Held
                | DependencyFailed
                | Misconfigured
                | NotPermitted
        )
    }
}

impl Reason {
    /// Makes one.
    pub fn new(kind: ReasonKind, text: impl Into<String>, raw: impl Into<String>) -> Reason {
        Reason { kind, text: text.into(), raw: raw.into() }
    }
}
