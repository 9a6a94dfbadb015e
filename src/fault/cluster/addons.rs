//! Add-ons that GPUs need: how they are known, and what it means that one is down.

use super::super::catalogue::{Catalogue, Severity};
use super::super::finding::{Device, Finding};
use super::facts::{AddonFacts, PodFacts};
use super::{Judged, NodeVerdict, counted};
use jiff::{SignedDuration, Timestamp};

/// Name of the check.
pub(super) const CHECK: &str = "addons";
/// A pod may take this long to become ready: images of drivers have gigabytes.
const START: SignedDuration = SignedDuration::from_mins(10);
/// A pod that was ready a moment ago may be about to be again.
const BLINK: SignedDuration = SignedDuration::from_mins(2);
/// Started again so often, and not ready: it does not stay up.
const RESTARTS: u64 = 5;

/// Roles by a part of the name of the DaemonSet or Deployment, the first that fits.
const ROLES: [(&str, &str); 33] = [
    ("aictl", AGENT),
    ("nvidia-dra-driver", "device plugin"),
    ("dra-driver-gpu", "device plugin"),
    ("nvidia-device-plugin", "device plugin"),
    ("nvidia-gpu-device-plugin", "device plugin"),
    ("amdgpu-device-plugin", "device plugin"),
    ("amdgpu-dp", "device plugin"),
    ("intel-gpu-plugin", "device plugin"),
    ("neuron-device-plugin", "device plugin"),
    ("efa-k8s-device-plugin", "RDMA plugin"),
    ("rdma-shared-dp", "RDMA plugin"),
    ("sriov-device-plugin", "RDMA plugin"),
    ("sriov-network-device-plugin", "RDMA plugin"),
    ("nvidia-driver", "driver"),
    ("nvidia-gpu-driver", "driver"),
    ("nvidia-vgpu-manager", "driver"),
    ("nvidia-container-toolkit", "container toolkit"),
    ("nvidia-operator-validator", "validator"),
    ("nvidia-mig-manager", "MIG manager"),
    ("nvidia-fabric", "fabric manager"),
    ("nvidia-imex", "fabric manager"),
    ("compute-domain-daemon", "fabric manager"),
    ("dcgm", DCGM),
    ("gpu-feature-discovery", FEATURES),
    ("node-feature-discovery", FEATURES),
    ("nfd-", FEATURES),
    ("mofed", "network driver"),
    ("doca-driver", "network driver"),
    ("sriov-network-config", "network driver"),
    ("nic-configuration", "network driver"),
    ("network-operator", "network operator"),
    ("gpu-operator", "GPU operator"),
    ("ib-kubernetes", "network operator"),
];

const AGENT: &str = "agent";
const DCGM: &str = "DCGM";
const FEATURES: &str = "feature discovery";

/// What a DaemonSet or Deployment of a name is for; `None` if GPUs can do without it.
pub fn role(name: &str) -> Option<&'static str> {
    ROLES.iter().find(|(part, _)| name.contains(part)).map(|(_, role)| *role)
}

/// Judges a node's pods of add-ons.
pub(super) fn of_node(pods: &[(&AddonFacts, &PodFacts)], now: Timestamp, catalogue: &Catalogue) -> NodeVerdict {
    let mut verdict = NodeVerdict::default();
    for (addon, pod) in pods {
        let Some(why) = trouble(pod, now) else { continue };
        // An agent that is away is seen by what it does not say.
        if addon.role == AGENT {
            continue;
        }
        let mut finding = of(addon, format!("{}/{}", pod.namespace, pod.name), now, catalogue);
        finding.first_seen = pod.ready_since.or(pod.created);
        finding.evidence.push(format!("pod {}/{}: {} {}", pod.namespace, pod.name, pod.phase, why).trim().to_owned());
        finding.because = Some(format!("the {} of this node: {why}", addon.role));
        verdict.findings.push(finding);
    }
    verdict.detail = match (pods.len(), verdict.findings.len()) {
        (0, _) => "all pods are ready".to_owned(),
        (some, 0) => format!("{} may be about to become ready", counted(some, "pod", "pods")),
        (some, down) => format!("{down} of {} down", counted(some, "pod", "pods")),
    };
    verdict
}

/// Judges the add-ons as a whole: what is down nearly everywhere is one fault, not a thousand.
pub(super) fn of_cluster(addons: &[AddonFacts], now: Timestamp, catalogue: &Catalogue) -> Judged {
    let mut findings = Vec::new();
    for addon in addons.iter().filter(|addon| addon.wanted > 0 && addon.role != AGENT) {
        let down = addon.wanted.saturating_sub(addon.ready);
        let all = down == addon.wanted;
        let nearly_all = all || (addon.wanted >= 4 && down * 2 > addon.wanted);
        if !nearly_all {
            continue;
        }
        let mut finding = of(addon, format!("{}/{}", addon.namespace, addon.name), now, catalogue);
        finding.count = down;
        finding.scope = "cluster".to_owned();
        finding.evidence.push(format!(
            "{} {}/{}: {} of {} ready",
            addon.kind, addon.namespace, addon.name, addon.ready, addon.wanted
        ));
        let words = if all { "on every node that is to have it" } else { "on most nodes that are to have it" };
        finding.because = Some(format!("the {} is down {words}: look at its roll-out, not at the nodes", addon.role));
        findings.push(finding);
    }
    let roles: std::collections::BTreeSet<&str> = addons.iter().map(|addon| addon.role).collect();
    let detail = match addons.len() {
        0 => "no add-on for GPUs is known by its name".to_owned(),
        n => format!("{}: {}", counted(n, "add-on", "add-ons"), roles.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Judged { findings, detail }
}

fn of(addon: &AddonFacts, name: String, now: Timestamp, catalogue: &Catalogue) -> Finding {
    let fault = if addon.role == DCGM { "dcgm-unreachable" } else { "driver-pod-down" };
    let device = Device { name: Some(name), ..Device::default() };
    let mut finding = Finding::read(catalogue, fault, device, Vec::new(), CHECK, now);
    if addon.role == FEATURES {
        // Labels stay when their writer is gone: nothing breaks today.
        super::rate_as(catalogue, &mut finding, Severity::Warning);
    }
    finding
}

/// Why a pod does not do its work; `None` while it may still become ready.
fn trouble(pod: &PodFacts, now: Timestamp) -> Option<String> {
    if pod.deleting || matches!(pod.phase.as_str(), "Succeeded") {
        return None;
    }
    let waiting = pod.waiting.as_deref().unwrap_or_default();
    let loops = waiting.contains("BackOff") || waiting.starts_with("Err") || pod.restarts >= RESTARTS;
    if pod.ready && !waiting.contains("CrashLoop") {
        return None;
    }
    let for_long = |since: Option<Timestamp>, limit| since.is_none_or(|since| now.duration_since(since) >= limit);
    let why = match (waiting, pod.phase.as_str()) {
        ("", "Failed") => {
            format!("failed, {}", if pod.reason.is_empty() { "no reason given" } else { pod.reason.as_str() })
        }
        ("", _) => "not ready".to_owned(),
        (waiting, _) => waiting.to_owned(),
    };
    let again = if pod.restarts > 0 { format!(", started again {} times", pod.restarts) } else { String::new() };
    let known = loops || pod.phase == "Failed";
    let late = if pod.restarts == 0 { for_long(pod.created, START) } else { for_long(pod.ready_since, BLINK) };
    (known || late).then(|| format!("{why}{again}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, catalogue, names};
    use super::*;

    fn addon(name: &str, wanted: u64, ready: u64) -> AddonFacts {
        let role = role(name).unwrap();
        AddonFacts { kind: "DaemonSet".into(), namespace: "gpu".into(), name: name.into(), role, wanted, ready }
    }

    fn pod() -> PodFacts {
        PodFacts {
            namespace: "gpu".to_owned(),
            name: "p".to_owned(),
            phase: "Running".to_owned(),
            created: Some(at(-3600)),
            ready_since: Some(at(-1800)),
            ..PodFacts::default()
        }
    }

    fn judged(name: &str, pod: &PodFacts) -> Vec<Finding> {
        of_node(&[(&addon(name, 1, 0), pod)], at(0), &catalogue()).findings
    }

    #[test]
    fn names_tell_what_an_addon_is_for() {
        assert_eq!(role("nvidia-device-plugin-daemonset"), Some("device plugin"));
        assert_eq!(role("nvidia-driver-daemonset-5.15.0"), Some("driver"));
        assert_eq!(role("gpu-operator-node-feature-discovery-worker"), Some(FEATURES));
        assert_eq!(role("nvidia-dcgm-exporter"), Some(DCGM));
        assert_eq!((role("gpu-operator"), role("coredns"), role("aictl")), (Some("GPU operator"), None, Some(AGENT)));
    }

    #[test]
    fn a_pod_that_does_not_stay_up_is_found_and_one_that_begins_is_not() {
        let plugin = "nvidia-device-plugin-daemonset";
        assert_eq!(names(&judged(plugin, &pod())), ["driver-pod-down"]);
        assert_eq!(names(&judged("nvidia-dcgm", &pod())), ["dcgm-unreachable"]);
        assert_eq!(judged("nfd-worker", &pod())[0].severity, Severity::Warning);
        assert!(judged("aictl", &pod()).is_empty());
        assert!(judged(plugin, &PodFacts { ready: true, ..pod() }).is_empty());
        assert!(judged(plugin, &PodFacts { created: Some(at(-60)), ready_since: Some(at(-50)), ..pod() }).is_empty());
        assert!(judged(plugin, &PodFacts { deleting: true, ..pod() }).is_empty());
        let looping =
            PodFacts { created: Some(at(-60)), waiting: Some("CrashLoopBackOff".into()), restarts: 3, ..pod() };
        let found = judged(plugin, &looping);
        assert!(found[0].because.as_ref().unwrap().contains("CrashLoopBackOff, started again 3 times"), "{found:?}");
    }

    #[test]
    fn what_is_down_everywhere_is_one_fault() {
        let catalogue = catalogue();
        let judge = |wanted, ready| of_cluster(&[addon("nvidia-driver-daemonset", wanted, ready)], at(0), &catalogue);
        assert_eq!(judge(5000, 100).findings[0].count, 4900);
        assert_eq!(judge(1, 0).findings.len(), 1);
        assert!(
            judge(5000, 4990).findings.is_empty() && judge(3, 1).findings.is_empty() && judge(0, 0).findings.is_empty()
        );
    }
}
