//! From what the user named to containers on nodes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::AgentError;
use crate::cluster::{Cluster, answer, get};
use crate::host::container;

/// Something that pods belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pod,
    Job,
    JobSet,
    TrainJob,
    PyTorchJob,
    RayJob,
}

/// What one word of the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    kind: Kind,
    name: String,
}

/// Which pods and containers.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Named ones.
    pub targets: Vec<Target>,
    /// Those with these labels.
    pub labels: Option<String>,
    /// Only this container of each.
    pub container: Option<String>,
}

/// A pod to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTarget {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid: another pod may take the name.
    pub uid: String,
    /// Node it runs on.
    pub node: String,
    /// Names and ids of its containers.
    pub containers: Vec<(String, String)>,
    /// Rank by its labels, for processes that have none in their environment.
    pub rank: Option<u32>,
}

impl Target {
    /// Reads a word: `pod/NAME`, `NAME`, `job/NAME` and so on.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Target, AgentError> {
        let wrong = |why: &str| AgentError::NoTarget { text: text.escape_debug().to_string(), why: why.to_owned() };
        let (kind, name) = text.split_once('/').unwrap_or(("pod", text));
        let kind = match kind {
            "pod" | "pods" | "po" => Kind::Pod,
            "job" | "jobs" => Kind::Job,
            "jobset" | "jobsets" => Kind::JobSet,
            "trainjob" | "trainjobs" => Kind::TrainJob,
            "pytorchjob" | "pytorchjobs" => Kind::PyTorchJob,
            "rayjob" | "rayjobs" => Kind::RayJob,
            "node" | "nodes" | "no" => return Err(wrong("a node is recorded through its pods")),
            _ => return Err(wrong("that kind has no pods that aictl knows of")),
        };
        // RFC 1123, as the API server has it: the name goes into a path and into a label selector.
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
        let ends = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = name.as_bytes();
        if bytes.len() > 253 || !bytes.iter().copied().all(fits) || !ends(bytes.first()) || !ends(bytes.last()) {
            return Err(wrong("names have lower-case letters, digits, - and . only"));
        }
        Ok(Target { kind, name: name.to_owned() })
    }

    /// "pod train-0".
    fn words(&self) -> String {
        let kind = match self.kind {
            Kind::Pod => "pod",
            Kind::Job => "job",
            Kind::JobSet => "jobset",
            Kind::TrainJob => "trainjob",
            Kind::PyTorchJob => "pytorchjob",
            Kind::RayJob => "rayjob",
        };
        format!("{kind} {}", self.name)
    }

    /// Labels that its pods have; none for a pod itself.
    async fn labels(&self, cluster: &Cluster) -> Result<Option<String>, AgentError> {
        let name = &self.name;
        Ok(Some(match self.kind {
            Kind::Pod => return Ok(None),
            Kind::Job => format!("batch.kubernetes.io/job-name={name}"),
            // Kubeflow Trainer makes a JobSet of the TrainJob's name.
            Kind::JobSet | Kind::TrainJob => format!("jobset.sigs.k8s.io/jobset-name={name}"),
            Kind::PyTorchJob => format!("training.kubeflow.org/job-name={name}"),
            Kind::RayJob => {
                let namespace = cluster.namespace();
                let path = format!("/apis/ray.io/v1/namespaces/{namespace}/rayjobs");
                let what = format!("cannot read rayjob {namespace}/{name}");
                let job: Option<Value> = get(cluster, &what, &path, name).await?;
                let Some(job) = job else { return Err(self.not_there(cluster, Vec::new())) };
                match job.pointer("/status/rayClusterName").and_then(Value::as_str).filter(|n| !n.is_empty()) {
                    Some(of) => format!("ray.io/cluster={of}"),
                    None => {
                        return Err(AgentError::NotRunning {
                            what: format!("rayjob {name} has no cluster (yet)"),
                            hint: format!("kubectl describe rayjob {name}"),
                        });
                    }
                }
            }
        }))
    }

    fn not_there(&self, cluster: &Cluster, like: Vec<String>) -> AgentError {
        let what = match self.kind {
            Kind::Pod | Kind::RayJob => format!("no {}", self.words()),
            _ => format!("no pod of {}", self.words()),
        };
        AgentError::NotThere { what, namespace: cluster.namespace().to_owned(), like }
    }
}

impl PodTarget {
    /// Whether another pod has taken the name, or none has it any more; in words for people.
    pub async fn replaced(&self, cluster: &Cluster) -> Option<String> {
        let pods: Api<Pod> = Api::namespaced(cluster.client(), &self.namespace);
        let pod = answer("cannot read the pod", pods.get_opt(&self.name)).await.ok()?;
        let name = &self.name;
        match pod {
            None => Some(format!("pod {name} was deleted while it was recorded")),
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                Some(format!("pod {name} was deleted while it was recorded"))
            }
            Some(pod) if pod.metadata.uid.as_deref() != Some(self.uid.as_str()) => {
                Some(format!("pod {name} was replaced while it was recorded; this is about the one before"))
            }
            Some(_) => None,
        }
    }
}

/// Finds the pods that are meant, and says of each that can't be captured why (second).
///
/// # Errors
/// If something named is not there, or nothing of it can be captured.
pub async fn resolve(cluster: &Cluster, selection: &Selection) -> Result<(Vec<PodTarget>, Vec<String>), AgentError> {
    let mut pods: Vec<Pod> = Vec::new();
    for target in &selection.targets {
        match target.labels(cluster).await? {
            Some(labels) => {
                let found = list(cluster, Some(&labels)).await?;
                if found.is_empty() {
                    return Err(target.not_there(cluster, Vec::new()));
                }
                pods.extend(found);
            }
            None => pods.push(one(cluster, target).await?),
        }
    }
    if let Some(labels) = &selection.labels {
        let found = list(cluster, Some(labels)).await?;
        if found.is_empty() {
            let what = format!("no pod with labels {}", labels.escape_debug());
            return Err(AgentError::NotThere { what, namespace: cluster.namespace().to_owned(), like: Vec::new() });
        }
        pods.extend(found);
    }
    let mut seen = BTreeSet::new();
    pods.retain(|pod| seen.insert(pod.metadata.uid.clone()));
    let mut chosen = Vec::new();
    let mut left_out = Vec::new();
    for pod in &pods {
        match target_of(pod, selection.container.as_deref()) {
            Ok(target) => chosen.push(target),
            Err(why) => left_out.push(why),
        }
    }
    if chosen.is_empty() {
        let what = left_out.first().map_or_else(|| "no pod is named".to_owned(), |why| why.0.clone());
        let hint = left_out.first().map_or_else(String::new, |why| why.1.clone());
        return Err(AgentError::NotRunning { what, hint });
    }
    rank(&pods, &mut chosen);
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((chosen, left_out.into_iter().map(|why| why.0).collect()))
}

async fn list(cluster: &Cluster, labels: Option<&str>) -> Result<Vec<Pod>, AgentError> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), cluster.namespace());
    let parameters = ListParams { label_selector: labels.map(str::to_owned), ..ListParams::default() };
    let what = format!("cannot list the pods of namespace {}", cluster.namespace());
    Ok(answer(&what, pods.list(&parameters)).await?.items)
}

async fn one(cluster: &Cluster, target: &Target) -> Result<Pod, AgentError> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), cluster.namespace());
    let what = format!("cannot read pod {}/{}", cluster.namespace(), target.name);
    if let Some(pod) = answer(&what, pods.get_opt(&target.name)).await? {
        return Ok(pod);
    }
    // Names like it are a courtesy: who may not list them does without.
    let names = list(cluster, None).await.unwrap_or_default();
    let names: Vec<String> = names.into_iter().filter_map(|pod| pod.metadata.name).collect();
    Err(target.not_there(cluster, like(&target.name, &names)))
}

/// Up to three names that are like one, the likest first.
fn like(name: &str, names: &[String]) -> Vec<String> {
    let scored = names.iter().map(|other| (strsim::jaro_winkler(name, other), other));
    let mut scored: Vec<(f64, &String)> = scored.filter(|(score, _)| *score > 0.75).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name.clone()).collect()
}

/// What of a pod is to be captured; else why it can't be, and what to do.
fn target_of(pod: &Pod, container: Option<&str>) -> Result<PodTarget, (String, String)> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    let describe = format!("kubectl describe pod {name} says more");
    if pod.metadata.deletion_timestamp.is_some() {
        return Err((format!("pod {name} is being deleted"), describe));
    }
    let statuses: Vec<&ContainerStatus> =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
            .into_iter()
            .enumerate()
            // Init and ephemeral containers only where one is named.
            .filter(|(place, _)| *place == 0 || container.is_some())
            .flat_map(|(_, statuses)| statuses.iter().flatten())
            .collect();
    let waiting = statuses.iter().find_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
    if phase != "Running" || spec.node_name.is_none() {
        let reason = status.reason.or(waiting).map_or(String::new(), |reason| format!(": {reason}"));
        let phase = if phase.is_empty() { "not running" } else { &phase };
        return Err((format!("pod {name} is {phase}{reason}"), describe));
    }
    if let Some(wanted) = container
        && !statuses.iter().any(|status| status.name == wanted)
    {
        let names: Vec<&str> = statuses.iter().map(|status| status.name.as_str()).collect();
        let what = format!("pod {name} has no container {}", wanted.escape_debug());
        return Err((what, format!("it has {}", names.join(", "))));
    }
    let running = statuses.iter().filter(|status| {
        container.is_none_or(|wanted| wanted == status.name)
            && status.state.as_ref().is_some_and(|state| state.running.is_some())
    });
    let containers: Vec<(String, String)> = running
        .filter_map(|status| Some((status.name.clone(), container::id_of(status.container_id.as_deref()?)?.to_owned())))
        .collect();
    if containers.is_empty() {
        let of = container.map_or(String::new(), |wanted| format!(" {wanted}"));
        let why = waiting.map_or(String::new(), |reason| format!(": {reason}"));
        return Err((format!("container{of} of pod {name} is not running{why}"), describe));
    }
    Ok(PodTarget {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: spec.node_name.unwrap_or_default(),
        name,
        containers,
        rank: None,
    })
}

/// Ranks by labels, where each pod has one of its own: an indexed Job's, a training job's (whose
/// master is rank 0 and whose workers count from 1), a StatefulSet's.
fn rank(pods: &[Pod], chosen: &mut [PodTarget]) {
    let no_labels = BTreeMap::new();
    let has_master = pods.iter().any(|pod| {
        let labels = pod.metadata.labels.as_ref().unwrap_or(&no_labels);
        labels.get("training.kubeflow.org/replica-type").is_some_and(|kind| kind.eq_ignore_ascii_case("master"))
    });
    let rank_of = |uid: &str| -> Option<u32> {
        let pod = pods.iter().find(|pod| pod.metadata.uid.as_deref() == Some(uid))?;
        let labels = pod.metadata.labels.as_ref()?;
        let number = |key: &str| labels.get(key).and_then(|value| value.parse::<u32>().ok());
        let is_worker =
            labels.get("training.kubeflow.org/replica-type").is_some_and(|kind| kind.eq_ignore_ascii_case("worker"));
        number("batch.kubernetes.io/job-completion-index")
            .or_else(|| Some(number("training.kubeflow.org/replica-index")? + u32::from(is_worker && has_master)))
            .or_else(|| number("apps.kubernetes.io/pod-index"))
    };
    let ranks: Vec<Option<u32>> = chosen.iter().map(|target| rank_of(&target.uid)).collect();
    let own: BTreeSet<u32> = ranks.iter().flatten().copied().collect();
    if own.len() == chosen.len() {
        chosen.iter_mut().zip(ranks).for_each(|(target, rank)| target.rank = rank);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn pod(name: &str, labels: Value, status: Value) -> Pod {
        let pod = json!({"metadata": {"name": name, "namespace": "ml", "uid": name, "labels": labels},
            "spec": {"nodeName": "gpu-1", "containers": []}, "status": status});
        serde_json::from_value(pod).unwrap()
    }

    fn running(names: &[&str]) -> Value {
        let of = |name: &&str| {
            json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "containerID": format!("containerd://{ID}"), "state": {"running": {}}})
        };
        json!({"phase": "Running", "containerStatuses": names.iter().map(of).collect::<Vec<_>>()})
    }

    #[test]
    fn words_are_targets() {
        for (text, kind) in [
            ("train-0", Kind::Pod),
            ("pod/train-0", Kind::Pod),
            ("job/train", Kind::Job),
            ("jobset/a.b", Kind::JobSet),
            ("pytorchjob/x", Kind::PyTorchJob),
            ("rayjob/x", Kind::RayJob),
        ] {
            assert_eq!(Target::parse(text).unwrap().kind, kind, "{text}");
        }
        for text in ["", "pod/", "deploy/x", "node/x", "pod/../x", "pod/a/b", "Pod", "-x", "a,b=c", "a b", "x\u{1b}[2J"]
        {
            let error = Target::parse(text).unwrap_err();
            assert!(!error.to_string().contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn a_pod_that_does_not_run_says_so() {
        let why =
            |status: Value, container: Option<&str>| target_of(&pod("p", json!({}), status), container).unwrap_err().0;
        assert_eq!(why(json!({"phase": "Pending"}), None), "pod p is Pending");
        let waits = json!({"phase": "Pending", "containerStatuses": [{"name": "main", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        assert_eq!(why(waits, None), "pod p is Pending: ImagePullBackOff");
        assert_eq!(why(json!({"phase": "Failed", "reason": "Evicted"}), None), "pod p is Failed: Evicted");
        assert_eq!(why(running(&["main"]), Some("other")), "pod p has no container other");
        let ended = json!({"phase": "Running", "containerStatuses": [{"name": "main", "image": "", "imageID": "",
            "ready": false, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        assert_eq!(why(ended, None), "container of pod p is not running: CrashLoopBackOff");
    }

    #[test]
    fn containers_are_chosen_by_name() {
        let pod = pod("p", json!({}), running(&["main", "sidecar"]));
        assert_eq!(target_of(&pod, None).unwrap().containers.len(), 2);
        assert_eq!(target_of(&pod, Some("sidecar")).unwrap().containers, [("sidecar".to_owned(), ID.to_owned())]);
    }

    #[test]
    fn ranks_come_from_labels_where_they_tell_pods_apart() {
        let ranks = |labels: &[Value]| -> Vec<Option<u32>> {
            let pods: Vec<Pod> =
                labels.iter().enumerate().map(|(i, l)| pod(&format!("p{i}"), l.clone(), running(&["a"]))).collect();
            let mut chosen: Vec<PodTarget> = pods.iter().map(|pod| target_of(pod, None).unwrap()).collect();
            rank(&pods, &mut chosen);
            chosen.iter().map(|target| target.rank).collect()
        };
        let index = |n: u32| json!({"batch.kubernetes.io/job-completion-index": n.to_string()});
        assert_eq!(ranks(&[index(0), index(1)]), [Some(0), Some(1)]);
        assert_eq!(ranks(&[index(1), index(1)]), [None, None]);
        let replica = |kind: &str, n: u32| json!({"training.kubeflow.org/replica-type": kind, "training.kubeflow.org/replica-index": n.to_string()});
        assert_eq!(
            ranks(&[replica("master", 0), replica("worker", 0), replica("worker", 1)]),
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(ranks(&[replica("worker", 0), replica("worker", 1)]), [Some(0), Some(1)]);
        assert_eq!(ranks(&[json!({}), index(1)]), [None, None]);
    }
}
