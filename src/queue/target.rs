//! Where jobs can go: an engine in a place, configured by name or found.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use crate::cluster;

/// What queues jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// Kueue.
    Kueue,
    /// Volcano.
    Volcano,
    /// kube-queue (and Koordinator's successor of it).
    KubeQueue,
    /// Kubernetes without a queue.
    Kubernetes,
    /// Slurm.
    Slurm,
    /// Ray's job server.
    Ray,
}

impl EngineKind {
    /// All.
    pub const ALL: [EngineKind; 6] = [
        EngineKind::Kueue,
        EngineKind::Volcano,
        EngineKind::KubeQueue,
        EngineKind::Kubernetes,
        EngineKind::Slurm,
        EngineKind::Ray,
    ];

    /// As `--to` takes it.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Kueue => "kueue",
            EngineKind::Volcano => "volcano",
            EngineKind::KubeQueue => "kube-queue",
            EngineKind::Kubernetes => "kubernetes",
            EngineKind::Slurm => "slurm",
            EngineKind::Ray => "ray",
        }
    }

    /// Whether it lives in a Kubernetes cluster.
    pub fn is_kubernetes(self) -> bool {
        !matches!(self, EngineKind::Slurm | EngineKind::Ray)
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<EngineKind, String> {
        let found = EngineKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| {
            format!("no engine {text:?}; there are {}", EngineKind::ALL.map(EngineKind::name).join(", "))
        })
    }
}

impl Serialize for EngineKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EngineKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EngineKind, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A target as the configuration file has it (`targets:`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetOptions {
    /// As `--to` takes it.
    pub name: String,
    /// Its engine; for a cluster all that it serves are taken where none is named.
    #[serde(default)]
    pub engine: Option<EngineKind>,
    /// Kubeconfig of a cluster; else as for other commands.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of a cluster; else the kubeconfig's current one.
    #[serde(default)]
    pub context: Option<String>,
    /// Namespace; else the context's.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Where Slurm's or Ray's server answers: `http://HOST:PORT`, `unix:/PATH`. Slurm without one is
    /// reached through the programs on the PATH.
    #[serde(default)]
    pub address: Option<String>,
    /// File with the token to show there.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// User name to show there.
    #[serde(default)]
    pub user: Option<String>,
    /// Directory of Slurm's programs; else the PATH.
    #[serde(default)]
    pub programs: Option<PathBuf>,
}

/// An engine in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As `--to` takes it and [`super::Job::target`] has it.
    pub name: String,
    /// The engine.
    pub kind: EngineKind,
    /// The cluster's name, for people.
    pub cluster: String,
    /// How a Kubernetes cluster is reached.
    pub kubernetes: cluster::Options,
    /// How Slurm's or Ray's server is reached; see [`TargetOptions::address`].
    pub address: Option<String>,
    /// File with the token to show there.
    pub token_file: Option<PathBuf>,
    /// User name to show there.
    pub user: Option<String>,
    /// Directory of Slurm's programs.
    pub programs: Option<PathBuf>,
}

impl Target {
    /// Whether both are the same engine of the same place, under whatever names.
    pub fn is_place_of(&self, other: &Target) -> bool {
        let place = |target: &Target| {
            let cluster = &target.kubernetes;
            (
                target.kind,
                target.address.clone(),
                target.programs.clone(),
                cluster.kubeconfig.clone(),
                cluster.context.clone(),
            )
        };
        place(self) == place(other)
    }

    /// A target that was found rather than configured.
    pub fn found(kind: EngineKind, cluster: impl Into<String>) -> Target {
        Target {
            name: kind.name().to_owned(),
            kind,
            cluster: cluster.into(),
            kubernetes: cluster::Options::default(),
            address: None,
            token_file: None,
            user: None,
            programs: None,
        }
    }
}
