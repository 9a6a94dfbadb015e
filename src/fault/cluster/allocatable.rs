//! Devices that a node has and does not offer.

use jiff::Timestamp;

use super::super::catalogue::{Catalogue, Severity};
use super::super::finding::{Device, Finding};
use super::NodeVerdict;
use super::facts::{NodeFacts, Report};

/// Name of the check.
pub(super) const CHECK: &str = "allocatable";
/// The fault.
const FAULT: &str = "dp-allocatable-drop";
/// NVIDIA's GPUs as a whole.
const NVIDIA: &str = "nvidia.com/gpu";

/// Whether a resource counts GPUs, or parts of them.
pub fn gpu_resource(name: &str) -> bool {
    let (domain, kind) = name.split_once('/').unwrap_or(("", name));
    match domain {
        "nvidia.com" => kind == "gpu" || kind == "gpu.shared" || kind.starts_with("mig-"),
        "amd.com" => kind == "gpu",
        "gpu.intel.com" => true,
        "habana.ai" => kind == "gaudi",
        _ => false,
    }
}

/// GPUs of a node: how many pods may have, of how many.
pub fn gpus(node: &NodeFacts) -> (u64, u64) {
    let sum = |resources: &std::collections::BTreeMap<String, u64>| {
        resources.iter().filter(|(name, _)| gpu_resource(name)).map(|(_, n)| n).sum()
    };
    (sum(&node.allocatable), sum(&node.capacity))
}

/// Judges what a node offers against what it has, and against what its agent saw.
pub(super) fn of_node(node: &NodeFacts, report: Option<&Report>, now: Timestamp, catalogue: &Catalogue) -> NodeVerdict {
    let mut verdict = NodeVerdict::default();
    let mut offered = Vec::new();
    let parts = node.capacity.iter().any(|(name, n)| name.starts_with("nvidia.com/mig-") && *n > 0);
    for (name, capacity) in &node.capacity {
        let allocatable = node.allocatable.get(name).copied().unwrap_or(0);
        // Of a GPU in parts the whole is not offered.
        let seen = report.and_then(|report| report.gpus).filter(|_| name == NVIDIA && !parts);
        let has = seen.unwrap_or(0).max(*capacity);
        if has > 0 {
            offered.push(format!("{name} {allocatable} of {has}"));
        }
        if allocatable >= has {
            continue;
        }
        let device = Device { name: Some(name.clone()), ..Device::default() };
        let mut evidence = vec![format!("{name}: capacity {capacity}, allocatable {allocatable}")];
        if let Some(seen) = seen {
            evidence.push(format!("the agent on the node sees {seen} on the bus"));
        }
        let mut finding = Finding::read(catalogue, FAULT, device, evidence, CHECK, now);
        finding.count = has - allocatable;
        if !gpu_resource(name) {
            finding.title = format!("Fewer of {name} allocatable than present");
            finding.scope = "device".to_owned();
            super::rate_as(catalogue, &mut finding, Severity::Warning);
        }
        finding.because = Some(match (allocatable, *capacity) {
            (_, 0) => "the device plugin has registered none since kubelet started".to_owned(),
            (0, _) => "none is offered: the device plugin is gone, or calls all of them unhealthy".to_owned(),
            (_, capacity) if capacity == allocatable => "the device plugin does not know of all of them".to_owned(),
            _ => "the device plugin calls the others unhealthy".to_owned(),
        });
        verdict.findings.push(finding);
    }
    verdict.detail = if offered.is_empty() { "no devices".to_owned() } else { offered.join(", ") };
    verdict
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, catalogue, names};
    use super::*;

    fn node(resources: &[(&str, u64, u64)]) -> NodeFacts {
        let of = |pick: fn(&(&str, u64, u64)) -> u64| {
            resources.iter().map(|resource| (resource.0.to_owned(), pick(resource))).collect()
        };
        NodeFacts { allocatable: of(|r| r.1), capacity: of(|r| r.2), ..NodeFacts::default() }
    }

    fn judged(resources: &[(&str, u64, u64)], seen: Option<u64>) -> Vec<Finding> {
        let report = Report { gpus: seen, ..Report::default() };
        of_node(&node(resources), Some(&report), at(0), &catalogue()).findings
    }

    #[test]
    fn what_is_not_offered_is_found() {
        assert!(judged(&[(NVIDIA, 8, 8)], Some(8)).is_empty());
        let found = judged(&[(NVIDIA, 7, 8)], None);
        assert_eq!((names(&found), found[0].count), (vec![FAULT], 1));
        assert!(judged(&[(NVIDIA, 0, 8)], None)[0].because.as_ref().unwrap().contains("none is offered"));
        assert!(judged(&[(NVIDIA, 7, 7)], Some(8))[0].because.as_ref().unwrap().contains("does not know"));
        assert!(judged(&[(NVIDIA, 0, 0)], Some(8))[0].because.as_ref().unwrap().contains("registered none"));
        assert_eq!(judged(&[("rdma/hca", 1, 2)], None)[0].severity, Severity::Warning);
    }

    #[test]
    fn what_is_cut_in_parts_or_shared_is_none() {
        assert!(judged(&[(NVIDIA, 0, 0), ("nvidia.com/mig-1g.10gb", 7, 7)], Some(1)).is_empty());
        assert!(judged(&[(NVIDIA, 32, 32)], Some(8)).is_empty(), "time slices");
        assert!(judged(&[], Some(8)).is_empty(), "no device plugin in this cluster, or another kind");
        assert_eq!(gpus(&node(&[(NVIDIA, 7, 8), ("nvidia.com/mig-1g.10gb", 1, 2), ("rdma/hca", 1, 1)])), (8, 10));
    }
}
