//! Facts of a cluster, as plain data: what the readers of `cluster` fill in and the judges here
//! take. No judgement, no reading.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::finding::{Check, Finding};

/// A node as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Which object of that name.
    pub uid: String,
    /// Version of the object that was read.
    pub resource_version: String,
    /// When the object was made.
    pub created: Option<Timestamp>,
    /// Labels, without those of node-feature-discovery (`feature.node.kubernetes.io/…`).
    pub labels: BTreeMap<String, String>,
    /// Annotations that begin with `aictl.dev/`.
    pub annotations: BTreeMap<String, String>,
    /// Nothing new is scheduled here.
    pub unschedulable: bool,
    /// Taints.
    pub taints: Vec<Taint>,
    /// What kubelet and monitors say of it.
    pub conditions: Vec<Condition>,
    /// How much there is of each resource that is counted in whole devices ("nvidia.com/gpu").
    pub capacity: BTreeMap<String, u64>,
    /// How much of it pods may have.
    pub allocatable: BTreeMap<String, u64>,
    /// Its boot, as kubelet said it last.
    pub boot_id: Option<String>,
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taint {
    /// "aictl.dev/fault".
    pub key: String,
    /// May be empty.
    pub value: String,
    /// "NoSchedule".
    pub effect: String,
}

/// A condition of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// "Ready".
    pub kind: String,
    /// "True", "False", "Unknown".
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Since when it has been so.
    pub since: Option<Timestamp>,
}

impl NodeFacts {
    /// A condition by its type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether kubelet says that it can run pods.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|ready| ready.status == "True")
    }

    /// Whether it is no machine: a provider behind the API of a kubelet.
    pub fn is_virtual(&self) -> bool {
        self.labels.get("type").is_some_and(|kind| kind == "virtual-kubelet")
            || self.taints.iter().any(|taint| taint.key == "virtual-kubelet.io/provider")
    }
}

/// A pod, as far as it tells of its node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which object of that name.
    pub uid: String,
    /// Where it was sent; empty while it waits for a place.
    pub node: String,
    /// When the object was made.
    pub created: Option<Timestamp>,
    /// When kubelet took it.
    pub started: Option<Timestamp>,
    /// "Running".
    pub phase: String,
    /// Why it is in its phase, in one word: "UnexpectedAdmissionError".
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// All its containers are ready.
    pub ready: bool,
    /// Since when they are, or are not.
    pub ready_since: Option<Timestamp>,
    /// It is on its way out.
    pub deleting: bool,
    /// Times that its containers were started again, together.
    pub restarts: u64,
    /// Why a container waits: "CrashLoopBackOff".
    pub waiting: Option<String>,
    /// Its owner: kind and name.
    pub owner: Option<(String, String)>,
    /// Labels that name the job it belongs to, and its own.
    pub labels: BTreeMap<String, String>,
    /// Annotations that begin with `aictl.dev/`.
    pub annotations: BTreeMap<String, String>,
    /// GPUs that it asked for.
    pub gpus: u64,
    /// Names of its containers.
    pub containers: Vec<String>,
}

/// A DaemonSet or Deployment of an add-on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddonFacts {
    /// "DaemonSet" or "Deployment".
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it is for, as [`super::addons::role`] has it.
    pub role: &'static str,
    /// Pods that are wanted.
    pub wanted: u64,
    /// Pods that are ready.
    pub ready: u64,
}

/// A pod that a node turned away, as an event or the pod itself tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejection {
    /// The pod's uid: an event and the pod itself are one rejection.
    pub pod_uid: String,
    /// "namespace/name".
    pub pod: String,
    /// Which node.
    pub node: String,
    /// "UnexpectedAdmissionError".
    pub reason: String,
    /// Kubelet's words.
    pub message: String,
    /// When.
    pub at: Option<Timestamp>,
}

/// What the agent of a node has published.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The node.
    pub node: String,
    /// When the agent looked last.
    pub looked_at: Option<Timestamp>,
    /// Longest time between two publications that the agent promised, seconds.
    pub refresh_s: u64,
    /// The agent's version.
    pub agent: String,
    /// GPUs on the node's bus; `None` where the agent could not see.
    pub gpus: Option<u64>,
    /// The boot it looked in.
    pub boot_id: Option<String>,
    /// What it looked at.
    pub checks: Vec<Check>,
    /// What it found.
    pub findings: Vec<Finding>,
}

/// All of a cluster. What could not be read is a sentence that says why.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterFacts {
    /// The nodes that were asked for.
    pub nodes: Vec<NodeFacts>,
    /// What agents published, for those nodes.
    pub reports: Reading<Vec<Report>>,
    /// DaemonSets and Deployments of add-ons.
    pub addons: Reading<Vec<AddonFacts>>,
    /// Pods of those add-ons that are not all ready.
    pub addon_pods: Reading<Vec<PodFacts>>,
    /// Pods that nodes turned away.
    pub rejections: Reading<Vec<Rejection>>,
}

/// What was read, or why it was not.
pub type Reading<T> = Result<T, Blind>;

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blind(pub String);
