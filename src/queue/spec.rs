//! What a job asks for, in one vocabulary for all engines.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::after::After;
use super::array::Array;
use super::quantity::{Bytes, Cpus, TimeLimit, Written};

/// What a job asks for; everything is settled, defaults are filled in. Made by [`super::Draft::settle`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobSpec {
    /// What its owner calls it; a valid Kubernetes name of at most 40 characters.
    pub name: String,
    /// Makes a second submission of the same thing find the first: `--id`, else [`JobSpec::hash`].
    pub id: String,
    /// The queue (Slurm: partition); `None` for the engine's default.
    pub queue: Option<String>,
    /// Kubernetes namespace; `None` for the target's.
    pub namespace: Option<String>,
    /// Nodes, each of which runs the command once; at least 1. More than one start together or not
    /// at all.
    pub nodes: u32,
    /// GPUs on each node.
    pub gpus_per_node: u32,
    /// A kind of GPU, as the engine calls it (`h100`).
    pub gpu_type: Option<String>,
    /// A part of one GPU instead of whole ones.
    pub gpu_share: Option<GpuShare>,
    /// Cores on each node.
    pub cpus: Option<Cpus>,
    /// Memory on each node.
    pub memory: Option<Bytes>,
    /// How long it may run.
    pub time: Option<TimeLimit>,
    /// Container image; Kubernetes needs one.
    pub image: Option<String>,
    /// A priority class, or a number.
    pub priority: Option<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// An array of like jobs, which find their index in AICTL_ARRAY_INDEX.
    pub array: Option<Array>,
    /// Jobs that must have ended first.
    pub after: Vec<After>,
    /// Directory in which the command runs.
    pub workdir: Option<String>,
    /// File for its output, where the engine writes files (Slurm); `%j` and the like are the engine's.
    pub output: Option<String>,
    /// What it runs on each node, word by word; empty if there is a script.
    pub command: Vec<String>,
    /// A script that it runs instead, with its `#!` line, and the command's words as arguments.
    pub script: Option<String>,
    /// The kind of object on Kubernetes.
    pub shape: Shape,
    /// Processes that a launcher is to start on each node (NPROC_PER_NODE); `None` for one a GPU.
    pub processes_per_node: Option<u32>,
    /// A model that must be preloaded first.
    pub needs_model: Option<String>,
    /// Whether it stays held until somebody releases it.
    pub hold: bool,
    /// How often it may be started again after a failure.
    pub retries: u32,
    /// Labels on its objects.
    pub labels: BTreeMap<String, String>,
    /// Account that pays (Slurm).
    pub account: Option<String>,
    /// Quality of service (Slurm).
    pub qos: Option<String>,
    /// Node features (Slurm's constraint; on Kubernetes node labels `KEY=VALUE` joined by `&`).
    pub constraint: Option<String>,
    /// Whether it shares its nodes with nobody.
    pub exclusive: bool,
    /// What the script's own lines alone ask for, where it has such lines. An engine that reads them
    /// itself is told only what differs. The script says it already, so it is no part of the hash.
    #[serde(skip)]
    pub script_asks: Option<Box<JobSpec>>,
}

impl JobSpec {
    /// Twelve hexadecimal digits that are the same for the same request: all of it but its id.
    pub fn hash(&self) -> String {
        let mut spec = self.clone();
        spec.id = String::new();
        // The order of fields and of maps is fixed, so the text is too.
        let text = serde_json::to_string(&spec).unwrap_or_default();
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether its script was written for Slurm: it has `#SBATCH` lines and none of ours. Slurm runs such
    /// a script as sbatch does; all others run once on each node.
    pub fn is_for_slurm(&self) -> bool {
        let Some(script) = &self.script else { return false };
        let has = |word: &str| script.lines().any(|line| line.starts_with(word));
        has("#SBATCH") && !has("#AICTL")
    }

    /// What Slurm reads in the script by itself, where the script was written for it.
    pub fn asked_of_slurm(&self) -> Option<&JobSpec> {
        self.script_asks.as_deref().filter(|_| self.is_for_slurm())
    }

    /// NPROC_PER_NODE: as asked, else one for each GPU, else one.
    pub fn processes_per_node(&self) -> u32 {
        self.processes_per_node.unwrap_or(self.gpus_per_node.max(1))
    }

    /// GPUs in all, over all nodes and the whole array.
    pub fn gpus(&self) -> f64 {
        let per_node = match self.gpu_share {
            Some(GpuShare::Fraction(share)) => share,
            Some(GpuShare::Memory(_)) => 1.0,
            None => f64::from(self.gpus_per_node),
        };
        per_node * f64::from(self.nodes) * f64::from(self.array.as_ref().map_or(1, Array::count))
    }

    /// The words to run on each node: the command, or the script through its interpreter, given to
    /// `sh` as text (engines without a shared file system have no file to run).
    pub fn words(&self) -> Vec<String> {
        let Some(script) = &self.script else { return self.command.clone() };
        let first = script.lines().next().unwrap_or_default();
        let interpreter = first.strip_prefix("#!").map(str::trim).filter(|line| !line.is_empty()).unwrap_or("/bin/sh");
        let mut words: Vec<String> = interpreter.split_whitespace().map(str::to_owned).collect();
        // Shells and Python alike take a program's text after -c; the next word is its $0 in a shell.
        words.push("-c".to_owned());
        words.push(script.clone());
        if !interpreter.contains("python") {
            words.push(self.name.clone());
        }
        words.extend(self.command.iter().cloned());
        words
    }
}

/// A part of one GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GpuShare {
    /// This share of its time or its pieces; between 0 and 1.
    Fraction(f64),
    /// This much of its memory.
    Memory(Bytes),
}

impl Serialize for GpuShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            GpuShare::Fraction(share) => serializer.serialize_f64(*share),
            GpuShare::Memory(bytes) => bytes.serialize(serializer),
        }
    }
}

/// The kind of object that a job becomes on Kubernetes. Slurm and Ray have one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// A Job for one node, for more what the cluster serves: JobSet, Volcano Job, indexed Job.
    #[default]
    Auto,
    /// `batch/v1` Job; for more than one node an indexed one with a headless service.
    Job,
    /// `jobset.x-k8s.io` JobSet.
    JobSet,
    /// `kubeflow.org` PyTorchJob.
    PyTorchJob,
    /// `trainer.kubeflow.org` TrainJob.
    TrainJob,
    /// `kubeflow.org` MPIJob.
    MpiJob,
    /// `ray.io` RayJob.
    RayJob,
}

impl Shape {
    /// All.
    pub const ALL: [Shape; 7] =
        [Shape::Auto, Shape::Job, Shape::JobSet, Shape::PyTorchJob, Shape::TrainJob, Shape::MpiJob, Shape::RayJob];

    /// As `--shape` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Auto => "auto",
            Shape::Job => "job",
            Shape::JobSet => "jobset",
            Shape::PyTorchJob => "pytorchjob",
            Shape::TrainJob => "trainjob",
            Shape::MpiJob => "mpijob",
            Shape::RayJob => "rayjob",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let found = Shape::ALL.into_iter().find(|shape| shape.name().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| format!("no shape {text:?}; there are {}", Shape::ALL.map(Shape::name).join(", ")))
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData))
    }
}
