//! What each subcommand needs of a cluster: verbs on resources. deploy/README.md has the same table,
//! and the roles in deploy/ grant it; tests hold all three together.

use clap::ValueEnum;
use serde::Serialize;

/// A subcommand that needs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Record processes
    Profile,
    /// Find faults
    Diagnose,
    /// Repair
    Remediate,
    /// Bring models
    Preload,
    /// Put jobs in queues
    Submit,
    /// Manage jobs
    Queue,
    /// Watch GPUs
    Top,
    /// Look at recordings
    Timeline,
}

/// A need.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Who has it.
    pub command: Command,
    /// "list".
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource, with its subresource.
    pub resource: &'static str,
    /// Which namespace is asked about.
    pub place: Place,
    /// Without it the subcommand does less, and says so.
    pub optional: bool,
}

/// Where a verb is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Everywhere, or the resource is in no namespace.
    Cluster,
    /// In the namespace of the job.
    Namespace,
    /// In the namespace of aictl's own pods.
    Aictl,
}

const fn need(command: Command, verb: &'static str, group: &'static str, resource: &'static str, place: Place) -> Need {
    Need { command, verb, group, resource, place, optional: false }
}

const fn helpful(
    command: Command,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    place: Place,
) -> Need {
    Need { command, verb, group, resource, place, optional: true }
}

/// All of people's needs; agents have accounts of their own.
pub const NEEDS: &[Need] = &[
    need(Command::Diagnose, "list", "", "nodes", Place::Cluster),
    need(Command::Diagnose, "get", "", "nodes", Place::Cluster),
    helpful(Command::Diagnose, "list", "aictl.dev", "nodefindings", Place::Cluster),
    helpful(Command::Diagnose, "get", "aictl.dev", "nodefindings", Place::Cluster),
    helpful(Command::Diagnose, "list", "", "pods", Place::Cluster),
    helpful(Command::Diagnose, "list", "", "events", Place::Cluster),
    helpful(Command::Diagnose, "list", "apps", "daemonsets", Place::Cluster),
    helpful(Command::Diagnose, "list", "apps", "deployments", Place::Cluster),
    helpful(Command::Diagnose, "get", "", "pods/log", Place::Namespace),
    // Of pods alone: this machine's processes need no cluster.
    helpful(Command::Profile, "get", "", "pods", Place::Namespace),
    helpful(Command::Profile, "list", "", "pods", Place::Namespace),
    helpful(Command::Profile, "create", "", "pods", Place::Namespace),
    helpful(Command::Profile, "delete", "", "pods", Place::Namespace),
    helpful(Command::Profile, "get", "", "pods/exec", Place::Namespace),
    helpful(Command::Profile, "create", "", "pods/exec", Place::Namespace),
    need(Command::Top, "list", "", "pods", Place::Aictl),
    need(Command::Top, "get", "", "pods/proxy", Place::Aictl),
    helpful(Command::Top, "list", "", "pods", Place::Cluster),
    helpful(Command::Top, "list", "", "nodes", Place::Cluster),
    need(Command::Submit, "create", "batch", "jobs", Place::Namespace),
    need(Command::Submit, "get", "batch", "jobs", Place::Namespace),
    need(Command::Queue, "list", "batch", "jobs", Place::Namespace),
    need(Command::Queue, "patch", "batch", "jobs", Place::Namespace),
    need(Command::Queue, "delete", "batch", "jobs", Place::Namespace),
    need(Command::Queue, "list", "", "pods", Place::Namespace),
    helpful(Command::Queue, "get", "", "pods/log", Place::Namespace),
    helpful(Command::Queue, "create", "", "pods/exec", Place::Namespace),
    helpful(Command::Queue, "list", "", "events", Place::Namespace),
    need(Command::Remediate, "list", "", "nodes", Place::Cluster),
    need(Command::Remediate, "patch", "", "nodes", Place::Cluster),
    need(Command::Remediate, "list", "", "pods", Place::Cluster),
    need(Command::Remediate, "create", "", "pods/eviction", Place::Cluster),
    need(Command::Remediate, "get", "coordination.k8s.io", "leases", Place::Aictl),
    need(Command::Remediate, "create", "coordination.k8s.io", "leases", Place::Aictl),
    need(Command::Remediate, "patch", "coordination.k8s.io", "leases", Place::Aictl),
    need(Command::Remediate, "get", "", "configmaps", Place::Aictl),
];
