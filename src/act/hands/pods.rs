//! Pods of a node: which of them may be moved, moving them, and whether their jobs run again.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions as EvictionPreconditions};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};

use super::{Hands, MANAGER, post};
use crate::cluster::ClusterError;
use crate::fault::playbook::Moved;

/// The annotation of pods that a file of the kubelet's makes, which no API can end.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Which pods of a node.
#[derive(Debug, Clone, Copy)]
pub struct PodChoice<'c> {
    /// The node.
    pub node: &'c str,
    /// In these namespaces.
    pub namespaces: &'c [String],
    /// With these labels.
    pub selector: Option<&'c str>,
    /// Those without GPUs, too.
    pub all: bool,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identifier: names are used again.
    pub uid: String,
    /// What made it and would make it again: "Job/train", and its identifier.
    pub owner: Option<(String, String)>,
    /// It belongs to the node: a DaemonSet's, or the kubelet's own.
    pub of_the_node: bool,
    /// It asks for a GPU.
    pub gpu: bool,
    /// It is about to end.
    pub ending: bool,
    /// It ran to its end.
    pub finished: bool,
    /// It runs, and is ready.
    pub ready: bool,
    /// Its address.
    pub ip: Option<String>,
    /// Its first container.
    pub container: Option<String>,
    /// Its annotations of ours.
    pub asked: (Option<String>, Option<String>),
}

/// What became of an eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evicted {
    /// It goes, or is gone.
    Goes,
    /// A budget forbids it for now.
    Budget(String),
}

impl PodView {
    /// "training/worker-0".
    pub fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Hands {
    pub(super) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The pods of a node that are chosen and have not run to their end.
    ///
    /// # Errors
    /// If they can't be listed within the time.
    pub fn pods_of(&self, choice: &PodChoice<'_>, within: Duration) -> Result<Vec<PodView>, ClusterError> {
        let mut found = Vec::new();
        for namespace in choice.namespaces {
            let api = self.pods(namespace);
            let mut parameters = ListParams::default().fields(&format!("spec.nodeName={}", choice.node));
            if let Some(selector) = choice.selector {
                parameters = parameters.labels(selector);
            }
            let what = format!("cannot list the pods of node {} in {namespace}", choice.node);
            let listed = self.ask(&what, within, || api.list(&parameters))?;
            found.extend(listed.items.iter().map(view));
        }
        found.retain(|pod| !pod.finished && (choice.all || pod.gpu));
        Ok(found)
    }

    /// Asks for the eviction of one pod, and of no other that took its name. Budgets are the
    /// server's to keep; nothing is ever deleted past them.
    ///
    /// # Errors
    /// If the server says no, or nothing within the time.
    pub fn evict(&self, pod: &PodView, within: Duration) -> Result<Evicted, ClusterError> {
        let api = self.pods(&pod.namespace);
        let mut eviction = Eviction::default();
        eviction.metadata.name = Some(pod.name.clone());
        eviction.metadata.namespace = Some(pod.namespace.clone());
        eviction.delete_options = Some(DeleteOptions {
            preconditions: Some(EvictionPreconditions { uid: Some(pod.uid.clone()), resource_version: None }),
            ..DeleteOptions::default()
        });
        let what = format!("cannot evict pod {}", pod.place());
        self.ask(&what, within, || async {
            let asked = api.create_subresource::<_, serde_json::Value>("eviction", &pod.name, &post(), &eviction).await;
            match asked {
                Ok(_) => Ok(Evicted::Goes),
                // Gone, or another pod by now.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    match api.get_opt(&pod.name).await? {
                        Some(now)
                            if now.uid().as_deref() == Some(&pod.uid) && now.metadata.deletion_timestamp.is_none() =>
                        {
                            Err(kube::Error::Api(status))
                        }
                        _ => Ok(Evicted::Goes),
                    }
                }
                // A busy server says 429, too, but not for this reason.
                Err(kube::Error::Api(status)) if status.code == 429 && is_budget(&status) => {
                    Ok(Evicted::Budget(status.message.clone()))
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Ends one pod that its controller makes again.
    ///
    /// # Errors
    /// If it can't be done within the time.
    pub fn end_pod(&self, pod: &PodView, within: Duration) -> Result<(), ClusterError> {
        let api = self.pods(&pod.namespace);
        let preconditions = Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        self.ask(&format!("cannot restart pod {}", pod.place()), within, || async {
            match api.delete(&pod.name, &parameters).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    match api.get_opt(&pod.name).await? {
                        Some(now)
                            if now.uid().as_deref() == Some(&pod.uid) && now.metadata.deletion_timestamp.is_none() =>
                        {
                            Err(kube::Error::Api(status))
                        }
                        _ => Ok(()),
                    }
                }
                Err(error) => Err(error),
            }
        })
    }

    /// How many pods of a job run and are ready that are none of those that were moved.
    ///
    /// # Errors
    /// If they can't be listed within the time.
    pub fn runs_again(&self, moved: &Moved, within: Duration) -> Result<usize, ClusterError> {
        let api = self.pods(&moved.namespace);
        let what = format!("cannot list the pods of {} in {}", moved.owner, moved.namespace);
        let listed = self.ask(&what, within, || async { api.list(&ListParams::default()).await })?;
        let pods = listed.items.iter().map(view).filter(|pod| {
            let same = pod.owner.as_ref().is_some_and(|(_, uid)| *uid == moved.owner_uid);
            // A job that ran to its end since needs no more.
            same && (pod.ready && !pod.ending || pod.finished) && !moved.pods.contains(&pod.uid)
        });
        Ok(pods.count())
    }
}

/// A budget's 429, of which the server says DisruptionBudget as the cause.
fn is_budget(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "DisruptionBudget")
}

pub(super) fn view(pod: &Pod) -> PodView {
    let annotation = |key: &str| pod.annotations().get(key).cloned();
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    PodView {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        owner: owner.map(|owner| (format!("{}/{}", owner.kind, owner.name), owner.uid.clone())),
        of_the_node: owner.is_some_and(|owner| matches!(owner.kind.as_str(), "DaemonSet" | "Node"))
            || annotation(MIRROR).is_some(),
        gpu: pod.spec.as_ref().is_some_and(asks_for_gpu),
        ending: pod.metadata.deletion_timestamp.is_some(),
        finished: matches!(phase, "Succeeded" | "Failed"),
        ready: phase == "Running" && ready,
        ip: status.and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty()),
        container: pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|first| first.name.clone()),
        asked: (annotation(super::save::REQUESTED), annotation(super::save::DONE)),
    }
}

/// By a device plugin's resource, or by a claim, which may be of a GPU.
fn asks_for_gpu(spec: &PodSpec) -> bool {
    let is_gpu = |name: &str| name.starts_with("nvidia.com/") || name.ends_with("/gpu");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut resources = containers.filter_map(|container| container.resources.as_ref());
    let claims = spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty());
    claims
        || resources.any(|resources| {
            let named = [&resources.limits, &resources.requests];
            named.into_iter().flatten().any(|all| all.keys().any(|name| is_gpu(name)))
        })
}

/// The jobs of pods that are to be moved.
pub fn jobs(pods: &[PodView]) -> Vec<Moved> {
    let mut jobs: Vec<Moved> = Vec::new();
    for pod in pods {
        let Some((owner, owner_uid)) = &pod.owner else { continue };
        match jobs.iter_mut().find(|job| job.owner_uid == *owner_uid) {
            Some(job) => job.pods.push(pod.uid.clone()),
            None => jobs.push(Moved {
                namespace: pod.namespace.clone(),
                owner: owner.clone(),
                owner_uid: owner_uid.clone(),
                pods: vec![pod.uid.clone()],
            }),
        }
    }
    jobs
}

/// Who writes pods' annotations.
pub(super) fn patching() -> kube::api::PatchParams {
    kube::api::PatchParams { field_manager: Some(MANAGER.to_owned()), ..kube::api::PatchParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> PodView {
        view(&serde_json::from_value::<Pod>(json).unwrap())
    }

    #[test]
    fn pods_of_the_node_are_told_from_jobs() {
        let owned = |kind: &str| {
            let owner =
                serde_json::json!({"apiVersion": "v1", "kind": kind, "name": "x", "uid": "u", "controller": true});
            pod(serde_json::json!({"metadata": {"name": "p", "ownerReferences": [owner]}}))
        };
        assert!(owned("DaemonSet").of_the_node && owned("Node").of_the_node && !owned("Job").of_the_node);
        let mirror = pod(serde_json::json!({"metadata": {"name": "p", "annotations": {MIRROR: "x"}}}));
        assert!(mirror.of_the_node && mirror.owner.is_none());
    }

    #[test]
    fn pods_with_gpus_are_told_from_others() {
        let with = |spec: serde_json::Value| pod(serde_json::json!({"metadata": {"name": "p"}, "spec": spec})).gpu;
        let limits =
            |name: &str| serde_json::json!({"containers": [{"name": "c", "resources": {"limits": {name: "1"}}}]});
        assert!(with(limits("nvidia.com/gpu")) && with(limits("nvidia.com/mig-1g.10gb")) && !with(limits("cpu")));
        assert!(with(serde_json::json!({"containers": [{"name": "c"}], "resourceClaims": [{"name": "gpu"}]})));
    }
}
