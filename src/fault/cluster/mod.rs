//! Judges of a cluster: what its nodes' agents, its nodes, add-ons and pods tell. Facts in,
//! findings out, for each node and for the cluster as a whole.

mod addons;
mod allocatable;
mod conditions;
mod facts;
mod fleet;
pub mod object;
pub mod path;
mod rejections;
mod reports;

pub use addons::role;
pub use allocatable::{gpu_resource, gpus};
pub use conditions::OURS as CONDITION;
pub use facts::{AddonFacts, Blind, ClusterFacts, Condition, NodeFacts, PodFacts, Reading, Rejection, Report, Taint};
pub use fleet::{FLEET_SCHEMA, Fleet, NodeState, NodeView, judge};

use super::catalogue::{Catalogue, Severity};
use super::counted;
use super::finding::Finding;

/// What one judge says of one node.
#[derive(Debug, Default)]
struct NodeVerdict {
    findings: Vec<Finding>,
    detail: String,
    blind: Option<String>,
}

/// What a judge says of the cluster.
#[derive(Debug, Default)]
struct Judged {
    findings: Vec<Finding>,
    detail: String,
}

/// Circumstances make a finding graver or less grave than its entry says, unless a site decided.
fn rate_as(catalogue: &Catalogue, finding: &mut Finding, severity: Severity) {
    if catalogue.get(&finding.fault).is_none_or(|entry| !entry.decided) {
        finding.severity = severity;
    }
}

#[cfg(test)]
mod testing {
    use super::super::{Catalogue, Finding};
    use jiff::Timestamp;

    pub fn catalogue() -> Catalogue {
        Catalogue::embedded().unwrap()
    }

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    pub fn names(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.fault.as_str()).collect()
    }
}
