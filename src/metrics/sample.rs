//! One look at a node.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Values;

/// A node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeSample {
    /// Its name.
    pub node: String,
    /// When it was looked at.
    pub at: Option<Timestamp>,
    /// Version of the GPUs' driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Why GPUs could not be read, or not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<String>,
    /// Values of the machine itself.
    #[serde(default)]
    pub machine: Values,
    /// Its GPUs, by index.
    #[serde(default)]
    pub gpus: Vec<GpuSample>,
}

/// A GPU at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuSample {
    /// NVML's index.
    pub index: u32,
    /// "GPU-…".
    #[serde(default)]
    pub uuid: String,
    /// "NVIDIA H100 80GB HBM3".
    #[serde(default)]
    pub name: String,
    /// "0000:3b:00.0".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// Why it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<String>,
    /// Pods that were given it, or have a process on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodRef>,
    /// What was measured.
    #[serde(default)]
    pub metrics: Values,
    /// Its NVLinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nvlinks: Vec<LinkSample>,
    /// MIG devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceSample>,
    /// Programs on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessSample>,
}

/// An NVLink.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkSample {
    /// Its number.
    pub link: u32,
    /// What was measured.
    #[serde(flatten)]
    pub metrics: Values,
}

/// A MIG device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceSample {
    /// "MIG-…".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Number of the GPU instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// Number of the compute instance in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_instance: Option<u32>,
    /// What was measured.
    #[serde(flatten)]
    pub metrics: Values,
}

/// A program on a GPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// Its number.
    pub pid: u32,
    /// "compute" or "graphics".
    #[serde(default)]
    pub kind: String,
    /// Its program's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who runs it: a name of this machine's, else a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The pod that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// Job of Slurm that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slurm_job: Option<u64>,
    /// What was measured.
    #[serde(flatten)]
    pub metrics: Values,
}

/// Which pod, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// The container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Which object of that name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl PodRef {
    /// "namespace/pod"; its uid where the name is not known.
    pub fn shown(&self) -> String {
        if self.pod.is_empty() { self.uid.clone() } else { format!("{}/{}", self.namespace, self.pod) }
    }

    /// Whether both are of one pod.
    pub fn is_same_pod(&self, other: &PodRef) -> bool {
        if self.uid.is_empty() || other.uid.is_empty() {
            (&self.namespace, &self.pod) == (&other.namespace, &other.pod)
        } else {
            self.uid == other.uid
        }
    }
}

impl GpuSample {
    /// Adds a pod, once.
    pub fn give_to(&mut self, pod: PodRef) {
        match self.pods.iter_mut().find(|known| known.is_same_pod(&pod)) {
            Some(known) => {
                for (mine, other) in [
                    (&mut known.namespace, pod.namespace),
                    (&mut known.pod, pod.pod),
                    (&mut known.container, pod.container),
                    (&mut known.uid, pod.uid),
                ] {
                    if mine.is_empty() {
                        *mine = other;
                    }
                }
            }
            None => self.pods.push(pod),
        }
    }

    /// Whoever has it, in one word: its pods, else a Slurm job, else users of its processes.
    pub fn owner(&self) -> String {
        if !self.pods.is_empty() {
            return join(self.pods.iter().map(PodRef::shown));
        }
        let slurm = join(self.processes.iter().filter_map(|p| p.slurm_job).map(|job| format!("slurm/{job}")));
        if slurm.is_empty() { self.users() } else { slurm }
    }

    /// Users of its processes.
    pub fn users(&self) -> String {
        join(self.processes.iter().filter_map(|process| process.user.clone()))
    }
}

fn join(words: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    all.sort();
    all.dedup();
    all.join(",")
}
