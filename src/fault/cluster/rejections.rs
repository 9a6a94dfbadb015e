//! Pods that a node turns away while it says that it is Ready: one dead GPU, and the scheduler
//! sends it pod after pod.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::catalogue::{Catalogue, Severity};
use super::super::finding::{Device, Finding};
use super::NodeVerdict;
use super::allocatable::gpu_resource;
use super::facts::{NodeFacts, Rejection};

/// Name of the check.
pub(super) const CHECK: &str = "rejected-pods";
/// Older rejections are history.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// So many for want of a device within the hour: the node is a hole that pods fall into.
const HOLE: u64 = 3;
/// So many for other reasons: scheduler and kubelet go on disagreeing.
const MANY: u64 = 10;

/// Judges what a node turned away. `rejections` are those of this node.
pub(super) fn of_node(
    node: &NodeFacts,
    rejections: &[&Rejection],
    now: Timestamp,
    catalogue: &Catalogue,
) -> NodeVerdict {
    let mut verdict = NodeVerdict::default();
    // A pod and the event about it are one; without a uid each counts.
    let mut devices: BTreeMap<String, &Rejection> = BTreeMap::new();
    let mut others: BTreeMap<String, &Rejection> = BTreeMap::new();
    for (i, rejection) in rejections.iter().copied().enumerate() {
        let old = rejection.at.is_some_and(|at| now.duration_since(at) > WINDOW);
        if old || !is_rejection(&rejection.reason) {
            continue;
        }
        let key = if rejection.pod_uid.is_empty() { format!("#{i}") } else { rejection.pod_uid.clone() };
        let kind = if for_a_device(rejection) { &mut devices } else { &mut others };
        let newest = kind.entry(key).or_insert(rejection);
        newest_of(newest, rejection);
    }
    let ready = node.is_ready();
    if !devices.is_empty() {
        let mut finding = of(&devices, "dp-blackhole", now, catalogue);
        if finding.count < HOLE {
            super::rate_as(catalogue, &mut finding, Severity::Warning);
            if catalogue.get("dp-blackhole").is_none_or(|entry| !entry.decided) {
                finding.action = "INVESTIGATE".to_owned();
            }
            finding.title = "Node rejected a pod at allocation".to_owned();
        }
        let word = if ready { "says it is Ready" } else { "is not Ready" };
        finding.because = Some(format!("{} turned away within the hour by a node that {word}", pods(finding.count)));
        verdict.findings.push(finding);
    }
    if others.len() as u64 >= MANY {
        let mut finding = of(&others, "pods-rejected", now, catalogue);
        finding.because = Some(format!("{} turned away within the hour", pods(finding.count)));
        verdict.findings.push(finding);
    }
    let all = devices.len() + others.len();
    verdict.detail =
        if all == 0 { "none in the last hour".to_owned() } else { format!("{} in the last hour", pods(all as u64)) };
    verdict
}

fn pods(n: u64) -> String {
    super::counted(usize::try_from(n).unwrap_or(usize::MAX), "pod", "pods")
}

/// Reasons that kubelet gives when it does not admit a pod. Evictions and shutdowns are none.
fn is_rejection(reason: &str) -> bool {
    reason == "UnexpectedAdmissionError"
        || reason.starts_with("OutOf")
        || reason.starts_with("NodeAffinity")
        || matches!(reason, "TopologyAffinityError" | "InvalidNodeInfo")
}

/// Whether it was for want of a device: the node's fault, not the scheduler's.
fn for_a_device(rejection: &Rejection) -> bool {
    match rejection.reason.as_str() {
        "UnexpectedAdmissionError" => {
            let message = &rejection.message;
            ["llocat", "device", "gpu", "GPU", "plugin"].iter().any(|word| message.contains(word)) || message.is_empty()
        }
        "TopologyAffinityError" => false,
        reason => reason.strip_prefix("OutOf").is_some_and(gpu_resource),
    }
}

fn newest_of<'r>(kept: &mut &'r Rejection, other: &'r Rejection) {
    if other.at > kept.at {
        *kept = other;
    }
}

fn of(rejections: &BTreeMap<String, &Rejection>, fault: &str, now: Timestamp, catalogue: &Catalogue) -> Finding {
    let mut sorted: Vec<&&Rejection> = rejections.values().collect();
    sorted.sort_by_key(|rejection| rejection.at);
    let line = |rejection: &Rejection| format!("{}: {}: {}", rejection.pod, rejection.reason, rejection.message);
    let ends = sorted.first().into_iter().chain(sorted.last().filter(|_| sorted.len() > 1));
    let evidence = ends.map(|rejection| line(rejection)).collect();
    let mut finding = Finding::read(catalogue, fault, Device::default(), evidence, CHECK, now);
    finding.count = rejections.len() as u64;
    finding.first_seen = sorted.iter().find_map(|rejection| rejection.at);
    finding.last_seen = sorted.last().and_then(|rejection| rejection.at).or(Some(now));
    finding
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, catalogue, names};
    use super::*;

    const WORDS: &str = "Allocate failed due to device plugin GetPreferredAllocation rpc failed, which is unexpected";

    fn rejected(n: usize, reason: &str, message: &str, ago: i64) -> Vec<Rejection> {
        (0..n)
            .map(|i| Rejection {
                pod_uid: format!("{reason}-{i}"),
                pod: format!("train/p{i}"),
                node: "gpu-1".to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                at: Some(at(-ago)),
            })
            .collect()
    }

    fn judged(rejections: &[Rejection]) -> Vec<Finding> {
        let all: Vec<&Rejection> = rejections.iter().collect();
        of_node(&NodeFacts::default(), &all, at(0), &catalogue()).findings
    }

    #[test]
    fn a_node_that_turns_pod_after_pod_away_is_a_hole() {
        let found = judged(&rejected(554, "UnexpectedAdmissionError", WORDS, 60));
        assert_eq!((names(&found), found[0].count, found[0].severity), (vec!["dp-blackhole"], 554, Severity::Critical));
        assert_eq!((found[0].action.as_str(), found[0].evidence.len()), ("CORDON", 2));
        let found = judged(&rejected(2, "UnexpectedAdmissionError", WORDS, 60));
        assert_eq!((found[0].severity, found[0].action.as_str()), (Severity::Warning, "INVESTIGATE"));
        assert_eq!(names(&judged(&rejected(3, "OutOfnvidia.com/gpu", "", 60))), ["dp-blackhole"]);
    }

    #[test]
    fn history_evictions_and_a_few_races_are_none() {
        assert!(judged(&rejected(554, "UnexpectedAdmissionError", WORDS, 7200)).is_empty());
        assert!(judged(&rejected(50, "Evicted", "", 60)).is_empty());
        assert!(judged(&rejected(9, "NodeAffinity", "", 60)).is_empty());
        assert_eq!(names(&judged(&rejected(10, "NodeAffinity", "", 60))), ["pods-rejected"]);
        let mut twice = rejected(2, "UnexpectedAdmissionError", WORDS, 60);
        twice.extend(twice.clone());
        assert_eq!(judged(&twice)[0].count, 2, "a pod and its event are one");
    }
}
