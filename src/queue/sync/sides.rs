//! A node as each side has it.

use jiff::Timestamp;
use serde::Serialize;

use crate::queue::Reason;

/// Pieces of a node, or of what a job asks of each of its nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Size {
    /// GPUs.
    pub gpus: f64,
    /// Cores.
    pub cpus: f64,
    /// Bytes.
    pub memory: f64,
}

impl Size {
    /// Whether another fits into it.
    pub fn holds(&self, other: &Size) -> bool {
        const SLACK: f64 = 1e-9;
        self.gpus + SLACK >= other.gpus && self.cpus + SLACK >= other.cpus && self.memory + SLACK >= other.memory
    }

    /// What is left of it after another was taken.
    #[must_use]
    pub fn without(&self, other: &Size) -> Size {
        Size { gpus: self.gpus - other.gpus, cpus: self.cpus - other.cpus, memory: self.memory - other.memory }
    }
}

/// A node in Slurm.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SlurmNode {
    /// NodeName.
    pub name: String,
    /// Its states in lower case, the base state first: `idle+drain`.
    pub state: String,
    /// It is kept from new jobs by a drain.
    pub drained: bool,
    /// It is down, failing or not answering.
    pub down: bool,
    /// It is switched off or about to be: Slurm starts it when it is needed.
    pub asleep: bool,
    /// Why, in the words of whoever drained it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// GPUs that it has.
    pub gpus: f64,
    /// GPUs that jobs have.
    pub gpus_allocated: f64,
    /// What its machine calls itself.
    #[serde(skip)]
    pub host: String,
    /// Where it is reached.
    #[serde(skip)]
    pub address: String,
    /// A node of State=CLOUD, which power saving starts and stops.
    #[serde(skip)]
    pub cloud: bool,
    /// It is being switched on.
    #[serde(skip)]
    pub starting: bool,
    /// It is being switched off, or is to be.
    #[serde(skip)]
    pub stopping: bool,
    /// Jobs are on it.
    #[serde(skip)]
    pub busy: bool,
    /// Since when it has no work, where Slurm says so.
    #[serde(skip)]
    pub idle_since: Option<Timestamp>,
    /// All that it has; `None` where Slurm hides it (a CLOUD node that is off, without PrivateData=cloud).
    #[serde(skip)]
    pub size: Option<Size>,
    /// What of it is free.
    #[serde(skip)]
    pub free: Size,
    /// Its partitions.
    #[serde(skip)]
    pub partitions: Vec<String>,
    /// Its features.
    #[serde(skip)]
    pub features: Vec<String>,
    /// Kinds of GPU it has.
    #[serde(skip)]
    pub gpu_types: Vec<String>,
}

/// A node in Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct KubernetesNode {
    /// Its name.
    pub name: String,
    /// "ready", "not ready", with "cordoned" and the like.
    pub state: String,
    /// New pods are kept away by a cordon.
    pub cordoned: bool,
    /// Whether its kubelet says that it is well; `None` where it never said.
    pub ready: Option<bool>,
    /// Incidents for which aictl isolated it; that of a mirrored drain among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incidents: Vec<String>,
    /// By what of aictl's it is isolated: "cordon", "taint".
    #[serde(skip)]
    pub means: Vec<String>,
    /// It bears aictl's taint of a fault, with this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// GPUs that it can give to pods.
    pub gpus: f64,
    /// GPUs that pods have.
    pub gpus_allocated: f64,
    /// Its host names and addresses.
    #[serde(skip)]
    pub addresses: Vec<String>,
    /// The Slurm node that its label names.
    #[serde(skip)]
    pub slurm_name: Option<String>,
}

/// A job that waits in Slurm for nothing but room.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demand {
    /// As people name it.
    pub job: String,
    /// On how many nodes, all at once.
    pub nodes: u32,
    /// What it asks of each.
    pub each: Size,
    /// A kind of GPU.
    pub gpu_type: Option<String>,
    /// Features that each node must have.
    pub features: Vec<String>,
    /// Partitions it may go to.
    pub partitions: Vec<String>,
}

/// What a Slurm has, and what is asked of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machines {
    /// All nodes.
    pub nodes: Vec<SlurmNode>,
    /// Jobs that wait for room, the first of the queue first.
    pub demand: Vec<Demand>,
    /// Jobs that wait for something else, which no node would help.
    pub blocked: u32,
}

impl SlurmNode {
    /// Whether Slurm would give it a job now, or as soon as there is room.
    pub fn takes_work(&self) -> bool {
        !self.drained && !self.down
    }
}

impl KubernetesNode {
    /// Whether the scheduler would give it a pod now, or as soon as there is room.
    pub fn takes_work(&self) -> bool {
        !self.cordoned && self.fault.is_none() && self.ready != Some(false)
    }
}

/// Whether a reason keeps a job waiting that more nodes would end.
pub(crate) fn wants_nodes(reason: Option<&Reason>) -> bool {
    use crate::queue::ReasonKind::*;
    reason.is_none_or(|reason| {
        matches!(
            reason.kind,
            WaitingForResources | Priority | NotLookedAt | NodesUnavailable | NodesStarting | GangIncomplete
        )
    })
}
