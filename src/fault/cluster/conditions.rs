//! What kubelet and other monitors say of a node in its conditions.

use jiff::{SignedDuration, Timestamp};

use super::super::catalogue::{Catalogue, Severity};
use super::super::finding::{Device, Finding};
use super::NodeVerdict;
use super::facts::{Condition, NodeFacts};

/// Name of the check.
pub(super) const CHECK: &str = "conditions";
/// The condition that aictl itself sets: its findings say more.
pub const OURS: &str = "AictlFault";
/// A node may take this long to become ready after it joined.
const JOINING: SignedDuration = SignedDuration::from_mins(5);
/// A kubelet that restarts is not ready for some seconds; from here on that is no longer what it is.
const RESTARTING: SignedDuration = SignedDuration::from_mins(1);

/// Conditions that are known, and the fault they are when they are not as they should be.
const KNOWN: [(&str, &str); 34] = [
    ("DiskPressure", "disk-pressure"),
    ("MemoryPressure", "memory-pressure"),
    ("PIDPressure", "pid-pressure"),
    ("NetworkUnavailable", "network-unavailable"),
    // node-problem-detector
    ("ReadonlyFilesystem", "fs-readonly"),
    ("KernelDeadlock", "hung-task"),
    ("FrequentKubeletRestart", "kubelet-down"),
    ("KubeletProblem", "kubelet-down"),
    ("KubeletUnhealthy", "kubelet-down"),
    ("FrequentDockerRestart", "runtime-down"),
    ("FrequentContainerdRestart", "runtime-down"),
    ("ContainerRuntimeProblem", "runtime-down"),
    ("ContainerRuntimeUnhealthy", "runtime-down"),
    ("CorruptDockerOverlay2", "runtime-down"),
    ("FilesystemCorruptionProblem", "fs-error"),
    ("Ext4Error", "fs-error"),
    ("XfsShutdown", "fs-error"),
    ("CperHardwareErrorFatal", "mce-fatal"),
    ("NTPProblem", "clock-unsync"),
    ("ConntrackFullProblem", "conntrack-full"),
    // What clouds add to it
    ("VMEventScheduled", "csp-maintenance"),
    ("GPUMissing", "gpu-count-mismatch"),
    ("NVLinkStatusInactive", "nvlink-down"),
    ("IBLinkFlapping", "ib-port-flap"),
    ("GPUClockThrottling", "clock-low"),
    ("NvidiaFabricManagerNotRunning", "fabric-manager-down"),
    // NVSentinel
    ("SysLogsGPUFallenOff", "gpu-lost"),
    // EKS: False is wrong
    ("AcceleratedHardwareReady", "node-condition"),
    ("ContainerRuntimeReady", "runtime-down"),
    ("KernelReady", "node-condition"),
    ("NetworkingReady", "network-unavailable"),
    ("StorageReady", "node-condition"),
    ("GpuHealthy", "node-condition"),
    ("EtcdIsVoter", ""),
];

/// Words at the end of a condition's name that say that True is bad.
const BAD: [&str; 24] = [
    "problem",
    "pressure",
    "deadlock",
    "unhealthy",
    "failure",
    "failed",
    "error",
    "errors",
    "unavailable",
    "fault",
    "missing",
    "down",
    "restart",
    "lost",
    "full",
    "inactive",
    "flapping",
    "throttling",
    "hang",
    "corrupt",
    "degraded",
    "notready",
    "notrunning",
    "mismatch",
];
/// And that False is.
const GOOD: [&str; 3] = ["ready", "healthy", "available"];

/// Judges a node's conditions.
pub(super) fn of_node(node: &NodeFacts, now: Timestamp, catalogue: &Catalogue) -> NodeVerdict {
    let mut verdict = NodeVerdict::default();
    let Some(ready) = node.condition("Ready") else {
        verdict.blind = Some("kubelet has said nothing yet".to_owned());
        return verdict;
    };
    let joined = node.created.is_some_and(|created| now.duration_since(created) < JOINING);
    let begins = joined && ready.status == "False";
    if ready.status != "True" && !begins {
        let mut finding = of(ready, "node-not-ready", now, catalogue);
        if ready.status == "Unknown" {
            finding.because =
                Some("kubelet has stopped reporting: the machine, its network or kubelet is down".to_owned());
        }
        let young = ready.since.is_some_and(|since| now.duration_since(since) < RESTARTING);
        if young {
            super::rate_as(catalogue, &mut finding, Severity::Warning);
            finding.because = Some("for less than a minute: kubelets restart".to_owned());
        }
        verdict.findings.push(finding);
    }
    for condition in node.conditions.iter().filter(|condition| !matches!(condition.kind.as_str(), "Ready" | OURS)) {
        // Where kubelet is silent, the controller makes all of its conditions Unknown.
        if condition.status == "Unknown" {
            continue;
        }
        if let Some(fault) = fault(condition) {
            verdict.findings.push(of(condition, fault, now, catalogue));
        }
    }
    let wrong: Vec<&str> = verdict.findings.iter().filter_map(|finding| finding.device.name.as_deref()).collect();
    verdict.detail = match wrong.len() {
        0 => format!("Ready since {}", ready.since.map_or("an unknown time".to_owned(), |since| since.to_string())),
        _ => wrong.join(", "),
    };
    verdict
}

/// Which fault a condition tells of, if any.
fn fault(condition: &Condition) -> Option<&'static str> {
    let known = KNOWN.iter().find(|(kind, _)| *kind == condition.kind).map(|(_, fault)| *fault);
    let name = condition.kind.to_ascii_lowercase();
    let ends = |words: &[&str]| words.iter().any(|word| name.ends_with(word));
    let (bad, good) = (ends(&BAD), ends(&GOOD) && !ends(&BAD));
    let wrong = match condition.status.as_str() {
        "True" => bad || (known.is_some_and(|fault| !fault.is_empty()) && !good),
        "False" => good,
        _ => false,
    };
    // A name that says neither is a fact that somebody keeps in a condition.
    wrong.then(|| known.unwrap_or("node-condition")).filter(|fault| !fault.is_empty())
}

fn of(condition: &Condition, fault: &str, now: Timestamp, catalogue: &Catalogue) -> Finding {
    let device = Device { name: Some(condition.kind.clone()), ..Device::default() };
    let words = [condition.reason.as_str(), condition.message.as_str()].map(str::trim);
    let words: Vec<&str> = words.into_iter().filter(|words| !words.is_empty()).collect();
    let evidence = format!("{}={}: {}", condition.kind, condition.status, words.join(": "));
    let mut finding = Finding::read(catalogue, fault, device, vec![evidence], CHECK, now);
    finding.first_seen = condition.since;
    if fault == "node-condition" && condition.kind == "AcceleratedHardwareReady" {
        super::rate_as(catalogue, &mut finding, Severity::Error);
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, catalogue, names};
    use super::*;

    fn node(conditions: &[(&str, &str)]) -> NodeFacts {
        let conditions = conditions.iter().map(|(kind, status)| Condition {
            kind: (*kind).to_owned(),
            status: (*status).to_owned(),
            reason: "Reason".to_owned(),
            message: "words".to_owned(),
            since: Some(at(-100)),
        });
        NodeFacts { created: Some(at(-100_000)), conditions: conditions.collect(), ..NodeFacts::default() }
    }

    fn judged(conditions: &[(&str, &str)]) -> Vec<Finding> {
        of_node(&node(conditions), at(0), &catalogue()).findings
    }

    #[test]
    fn a_kubelet_that_restarts_is_a_warning_for_a_minute() {
        for status in ["False", "Unknown"] {
            let mut blink = node(&[("Ready", status)]);
            for (ago, severity) in [(59, Severity::Warning), (61, Severity::Critical)] {
                blink.conditions[0].since = Some(at(-ago));
                let found = of_node(&blink, at(0), &catalogue()).findings;
                assert_eq!((names(&found), found[0].severity), (vec!["node-not-ready"], severity), "{status} {ago}");
            }
        }
    }

    #[test]
    fn every_known_condition_is_in_the_catalogue() {
        let catalogue = catalogue();
        for (_, fault) in KNOWN.iter().filter(|(_, fault)| !fault.is_empty()) {
            assert!(catalogue.get(fault).is_some(), "{fault}");
        }
        assert!(catalogue.get("node-not-ready").is_some());
    }

    #[test]
    fn a_node_that_is_not_ready_is_found_unless_it_has_just_joined() {
        assert!(judged(&[("Ready", "True"), ("DiskPressure", "False")]).is_empty());
        assert_eq!(names(&judged(&[("Ready", "False")])), ["node-not-ready"]);
        let gone = judged(&[("Ready", "Unknown"), ("MemoryPressure", "Unknown")]);
        assert_eq!(names(&gone), ["node-not-ready"]);
        assert!(gone[0].because.as_ref().unwrap().contains("stopped reporting"));
        let young = NodeFacts { created: Some(at(-60)), ..node(&[("Ready", "False")]) };
        assert!(of_node(&young, at(0), &catalogue()).findings.is_empty());
        assert!(of_node(&node(&[]), at(0), &catalogue()).blind.is_some());
    }

    #[test]
    fn the_name_says_which_way_a_condition_is_wrong() {
        let ready = ("Ready", "True");
        for (condition, wanted) in [
            (("DiskPressure", "True"), &["disk-pressure"][..]),
            (("PIDPressure", "True"), &["pid-pressure"]),
            (("ReadonlyFilesystem", "True"), &["fs-readonly"]),
            (("GPUMissing", "True"), &["gpu-count-mismatch"]),
            (("AcceleratedHardwareReady", "False"), &["node-condition"]),
            (("AcceleratedHardwareReady", "True"), &[]),
            (("NetworkingReady", "False"), &["network-unavailable"]),
            (("SitesOwnProblem", "True"), &["node-condition"]),
            (("SitesOwnProblem", "False"), &[]),
            (("BootedFromDisk", "True"), &[]),
            (("GpuUnhealthy", "True"), &["node-condition"]),
            (("EtcdIsVoter", "True"), &[]),
            ((OURS, "True"), &[]),
        ] {
            assert_eq!(names(&judged(&[ready, condition])), wanted, "{condition:?}");
        }
    }
}
