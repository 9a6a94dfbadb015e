//! Kueue: its Workloads, its queues, and what their conditions mean.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::read::{Condition, Metadata, OwnerReference, Template, fails, holds, quantity};
use super::share::is_gpu;
use crate::queue::{Reason, ReasonKind, State};

/// A Workload: what Kueue queues of a job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Workload {
    pub metadata: Metadata,
    pub spec: WorkloadSpec,
    pub status: WorkloadStatus,
}

/// Of a Workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadSpec {
    pub active: Option<bool>,
    pub queue_name: String,
    pub pod_sets: Vec<PodSet>,
    pub priority: Option<i64>,
    pub maximum_execution_time_seconds: Option<u64>,
}

/// Like pods of a Workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodSet {
    pub count: u32,
    pub template: Template,
}

/// Of a Workload.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadStatus {
    pub conditions: Vec<Condition>,
    pub admission: Option<Admission>,
}

/// Where it was admitted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Admission {
    pub cluster_queue: String,
}

/// A LocalQueue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LocalQueue {
    pub metadata: Metadata,
    pub spec: LocalQueueSpec,
}

/// Of a LocalQueue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LocalQueueSpec {
    pub cluster_queue: String,
    pub stop_policy: Option<String>,
}

/// A ClusterQueue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClusterQueue {
    pub metadata: Metadata,
    pub spec: ClusterQueueSpec,
    pub status: ClusterQueueStatus,
}

/// Of a ClusterQueue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterQueueSpec {
    pub resource_groups: Vec<ResourceGroup>,
    // v1beta1 called it so.
    #[serde(alias = "cohort")]
    pub cohort_name: Option<String>,
    pub stop_policy: Option<String>,
}

/// Flavors that share resources.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ResourceGroup {
    pub flavors: Vec<Flavor>,
}

/// The quota of a flavor, or what is used of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Flavor {
    pub name: String,
    pub resources: Vec<Resource>,
}

/// The quota of a resource, or what is used of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resource {
    pub name: String,
    pub nominal_quota: Amount,
    pub borrowing_limit: Option<Amount>,
    pub lending_limit: Option<Amount>,
    pub total: Amount,
    pub borrowed: Amount,
}

/// A quantity, as text or as number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amount(pub f64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        Ok(Amount(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => quantity(&text),
            value => value.as_f64().unwrap_or(0.0),
        }))
    }
}

/// Of a ClusterQueue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterQueueStatus {
    pub flavors_reservation: Vec<Flavor>,
    pub conditions: Vec<Condition>,
}

impl Workload {
    /// The job that it is of.
    pub fn owner(&self) -> Option<&OwnerReference> {
        self.metadata.owner_references.first()
    }

    /// Nodes and GPUs in all.
    pub fn size(&self) -> (u32, f64) {
        let nodes = self.spec.pod_sets.iter().map(|set| set.count).sum::<u32>().max(1);
        let gpus = self.spec.pod_sets.iter().map(|set| f64::from(set.count) * set.template.gpus()).sum();
        (nodes, gpus)
    }

    /// What it asks for, by resource.
    pub fn asked(&self) -> BTreeMap<&str, f64> {
        let mut sum = BTreeMap::new();
        for set in &self.spec.pod_sets {
            for (name, amount) in set.template.asked() {
                *sum.entry(name).or_insert(0.0) += amount * f64::from(set.count);
            }
        }
        sum
    }

    /// Where it stands, by its own conditions. `runs` is what its job says of its pods, where that is
    /// known.
    pub fn state(&self, runs: Option<bool>) -> State {
        let conditions = &self.status.conditions;
        if let Some(finished) = holds(conditions, "Finished") {
            // Earlier versions gave no telling reason; the message has the job's own words.
            let bad = finished.reason == "Failed" || finished.message.to_lowercase().contains("fail");
            return if bad { State::Failed } else { State::Succeeded };
        }
        if self.spec.active == Some(false) {
            return State::Held;
        }
        if holds(conditions, "Admitted").is_none() {
            return State::Pending;
        }
        match (runs, holds(conditions, "PodsReady")) {
            (Some(true), _) | (None, Some(_)) => State::Running,
            _ => State::Admitted,
        }
    }

    /// When it was admitted last.
    pub fn admitted_at(&self) -> Option<Timestamp> {
        holds(&self.status.conditions, "Admitted").and_then(|condition| condition.last_transition_time)
    }

    /// When it ended.
    pub fn finished_at(&self) -> Option<Timestamp> {
        holds(&self.status.conditions, "Finished").and_then(|condition| condition.last_transition_time)
    }

    /// Why it does not run.
    pub fn reason(&self) -> Option<Reason> {
        let conditions = &self.status.conditions;
        if let Some(finished) = holds(conditions, "Finished") {
            return (self.state(None) == State::Failed)
                .then(|| Reason::new(ReasonKind::ExitCode, "it failed", raw(finished)));
        }
        if self.spec.active == Some(false) {
            let why = holds(conditions, "Evicted").or_else(|| fails(conditions, "QuotaReserved"));
            return Some(Reason::new(
                ReasonKind::Held,
                "it is deactivated; somebody must release it",
                why.map_or_else(|| "spec.active: false".to_owned(), raw),
            ));
        }
        if holds(conditions, "Admitted").is_some() {
            let waits = fails(conditions, "PodsReady");
            return waits.map(|condition| {
                Reason::new(ReasonKind::WaitingForPods, "it was admitted; its pods are not ready yet", raw(condition))
            });
        }
        if holds(conditions, "QuotaReserved").is_some() {
            let waits = fails(conditions, "Admitted");
            return Some(Reason::new(
                ReasonKind::AdmissionCheck,
                "it has its quota and waits for admission checks",
                waits.map_or_else(|| "QuotaReserved".to_owned(), raw),
            ));
        }
        if let Some(condition) = fails(conditions, "QuotaReserved") {
            return Some(quota_reason(condition));
        }
        if let Some(condition) = holds(conditions, "Preempted") {
            return Some(Reason::new(
                ReasonKind::Preempted,
                "it gave way to another job and waits again",
                raw(condition),
            ));
        }
        if let Some(condition) = holds(conditions, "Evicted") {
            return Some(Reason::new(ReasonKind::Evicted, "it was put back into its queue", raw(condition)));
        }
        Some(Reason::new(ReasonKind::NotLookedAt, "Kueue has not looked at it yet", "no condition"))
    }
}

fn raw(condition: &Condition) -> String {
    let (kind, reason) = (&condition.kind, &condition.reason);
    if condition.message.is_empty() {
        format!("{kind}: {reason}")
    } else {
        format!("{kind}: {reason}: {}", condition.message)
    }
}

/// What a `QuotaReserved=False` condition means. Newer versions of Kueue have a reason for each case,
/// earlier ones say "Pending" and put it into words.
fn quota_reason(condition: &Condition) -> Reason {
    use ReasonKind::*;
    let by_code = match condition.reason.as_str() {
        "Deactivated" | "OnHold" => Some((Held, "it is held; somebody must release it")),
        "Misconfigured" => Some((Misconfigured, "its queue or its request is set up wrongly")),
        "NoMatchingFlavor" => Some((NoMatchingFlavor, "no flavor of its queue fits it")),
        "Suspended" => Some((QueueStopped, "its queue is stopped")),
        "AdmissionGated" => Some((Held, "a gate keeps it from admission")),
        "WaitingForPodsReady" => Some((Priority, "Kueue admits no other until the pods of the last are ready")),
        "ExceedsMaxQuota" => Some((ExceedsQuota, "it asks for more than its queue can ever give")),
        "WaitingForQuota" => Some((WaitingForQuota, "its queue's quota is in use")),
        "TopologyPlacementFailed" => Some((Topology, "no free place is close enough together")),
        "WaitingForPreemptedWorkloads" => Some((WaitingForQuota, "it waits for jobs that give way to it")),
        "PendingEvaluation" => Some((NotLookedAt, "Kueue has not looked at it yet")),
        "Inadmissible" | "Pending" => None,
        _ => None,
    };
    let message = condition.message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let (kind, text) = by_code.unwrap_or_else(|| {
        if says(&["maximum capacity", "exceeds max", "request > maximum"]) {
            (ExceedsQuota, "it asks for more than its queue can ever give")
        } else if says(&["doesn't exist", "does not exist"]) {
            (NoSuchQueue, "its queue does not exist")
        } else if says(&["is inactive", "is stopped", "on hold"]) {
            (QueueStopped, "its queue is stopped or not active")
        } else if says(&["topology"]) {
            (Topology, "no free place is close enough together")
        } else if says(&["insufficient unused quota", "insufficient quota"]) {
            (WaitingForQuota, "its queue's quota is in use")
        } else if says(&["node affinity", "untolerated taint", "flavor"]) {
            (NoMatchingFlavor, "no flavor of its queue fits it")
        } else if says(&["namespace doesn't match", "resources didn't satisfy"]) {
            (Misconfigured, "its queue or its request is set up wrongly")
        } else {
            (Other, "Kueue keeps it waiting")
        }
    });
    Reason::new(kind, text, raw(condition))
}

/// What a ClusterQueue could give of a resource at most, in its best flavor, with all that it may
/// borrow; `None` without a limit, `Some(None)`-like 0 where no flavor has the resource.
pub fn most(queue: &ClusterQueue, all: &[ClusterQueue], resource: &str) -> Option<(f64, String)> {
    let mut best: Option<(f64, String)> = None;
    for flavor in queue.spec.resource_groups.iter().flat_map(|group| &group.flavors) {
        let Some(own) = flavor.resources.iter().find(|own| own.name == resource) else { continue };
        let lent: f64 = match &queue.spec.cohort_name {
            None => 0.0,
            Some(cohort) => all
                .iter()
                .filter(|other| {
                    other.metadata.name != queue.metadata.name && other.spec.cohort_name.as_ref() == Some(cohort)
                })
                .flat_map(|other| other.spec.resource_groups.iter().flat_map(|group| &group.flavors))
                .filter(|other| other.name == flavor.name)
                .flat_map(|other| other.resources.iter().filter(|lender| lender.name == resource))
                .map(|lender| lender.lending_limit.unwrap_or(lender.nominal_quota).0)
                .sum(),
        };
        let borrowed = own.borrowing_limit.map_or(lent, |limit| lent.min(limit.0));
        let most = own.nominal_quota.0 + borrowed;
        if best.as_ref().is_none_or(|(best, _)| most > *best) {
            best = Some((most, flavor.name.clone()));
        }
    }
    best
}

/// GPUs that are free in a queue, in its best flavor.
pub fn free_gpus(queue: &ClusterQueue, all: &[ClusterQueue]) -> f64 {
    let flavors = queue.spec.resource_groups.iter().flat_map(|group| &group.flavors);
    let free = flavors.flat_map(|flavor| {
        flavor.resources.iter().filter(|resource| is_gpu(&resource.name)).map(|resource| {
            let used = used(queue, &flavor.name, &resource.name).0;
            most(queue, all, &resource.name).map_or(0.0, |(most, _)| most).max(resource.nominal_quota.0) - used
        })
    });
    free.fold(0.0, f64::max)
}

/// What of a flavor's resource is reserved, and what of that is borrowed.
pub fn used(queue: &ClusterQueue, flavor: &str, resource: &str) -> (f64, f64) {
    let flavors = queue.status.flavors_reservation.iter().filter(|used| used.name == flavor);
    let found = flavors.flat_map(|flavor| flavor.resources.iter()).find(|used| used.name == resource);
    found.map_or((0.0, 0.0), |used| (used.total.0, used.borrowed.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(active: bool, conditions: serde_json::Value) -> Workload {
        serde_json::from_value(json!({"metadata": {"name": "w"}, "spec": {"active": active, "podSets": [
            {"count": 4, "template": {"spec": {"containers": [{"resources": {"requests": {"nvidia.com/gpu": "8", "cpu": "500m"}}}]}}}]},
            "status": {"conditions": conditions}}))
        .unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> serde_json::Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message})
    }

    #[test]
    fn conditions_tell_the_state() {
        let state = |conditions: serde_json::Value| workload(true, conditions).state(None);
        assert_eq!(state(json!([])), State::Pending);
        assert_eq!(state(json!([condition("QuotaReserved", "True", "", "")])), State::Pending);
        assert_eq!(state(json!([condition("Admitted", "True", "", "")])), State::Admitted);
        assert_eq!(
            state(json!([condition("Admitted", "True", "", ""), condition("PodsReady", "True", "", "")])),
            State::Running
        );
        assert_eq!(state(json!([condition("Finished", "True", "Succeeded", "")])), State::Succeeded);
        assert_eq!(state(json!([condition("Finished", "True", "Failed", "")])), State::Failed);
        assert_eq!(workload(false, json!([])).state(None), State::Held);
        assert_eq!(workload(true, json!([])).size(), (4, 32.0));
        assert_eq!(workload(true, json!([])).asked()["cpu"], 2.0);
    }

    #[test]
    fn reasons_of_new_and_old_versions_mean_the_same() {
        let kind = |reason: &str, message: &str| {
            workload(true, json!([condition("QuotaReserved", "False", reason, message)])).reason().unwrap().kind
        };
        assert_eq!(kind("WaitingForQuota", ""), ReasonKind::WaitingForQuota);
        assert_eq!(
            kind(
                "Pending",
                "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 8 more needed"
            ),
            ReasonKind::WaitingForQuota
        );
        assert_eq!(kind("ExceedsMaxQuota", ""), ReasonKind::ExceedsQuota);
        assert_eq!(
            kind(
                "Pending",
                "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor h100, request > maximum capacity (32 > 16)"
            ),
            ReasonKind::ExceedsQuota
        );
        assert_eq!(kind("Inadmissible", "LocalQueue q doesn't exist"), ReasonKind::NoSuchQueue);
        assert_eq!(kind("Inadmissible", "ClusterQueue cq is inactive"), ReasonKind::QueueStopped);
        assert_eq!(kind("Pending", "something new"), ReasonKind::Other);
        assert_eq!(workload(true, json!([])).reason().unwrap().kind, ReasonKind::NotLookedAt);
    }

    #[test]
    fn the_most_a_queue_can_give_is_its_own_and_what_it_may_borrow() {
        let queue = |name: &str, nominal: u32, limit: Option<u32>, cohort: Option<&str>| -> ClusterQueue {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"cohortName": cohort, "resourceGroups": [
                {"flavors": [{"name": "h100", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": nominal, "borrowingLimit": limit}]}]}]}}))
            .unwrap()
        };
        let alone = queue("a", 16, None, None);
        assert_eq!(most(&alone, std::slice::from_ref(&alone), "nvidia.com/gpu"), Some((16.0, "h100".to_owned())));
        let both = [queue("a", 16, None, Some("c")), queue("b", 32, None, Some("c"))];
        assert_eq!(most(&both[0], &both, "nvidia.com/gpu").unwrap().0, 48.0);
        let limited = [queue("a", 16, Some(8), Some("c")), queue("b", 32, None, Some("c"))];
        assert_eq!(most(&limited[0], &limited, "nvidia.com/gpu").unwrap().0, 24.0);
        assert_eq!(most(&alone, &[], "amd.com/gpu"), None);
    }
}
