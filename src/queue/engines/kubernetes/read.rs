//! What is read of a cluster, cut down to what is used: a list of twenty thousand jobs is held in
//! memory whole, their pod templates are not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::core::ApiResource;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::kinds::JobKind;
use super::share;
use crate::cluster::{self, Choice, Cluster, ClusterError};

/// Objects in one answer.
const PAGE: u32 = 2000;

/// Metadata.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    pub namespace: Option<String>,
    pub uid: Option<String>,
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<Timestamp>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub owner_references: Vec<OwnerReference>,
}

/// Who owns an object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// A condition of a status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub last_transition_time: Option<Timestamp>,
}

/// Finds a condition that holds.
pub fn holds<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind && condition.status == "True")
}

/// Finds a condition that does not hold.
pub fn fails<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind && condition.status == "False")
}

/// A node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    pub metadata: Metadata,
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

/// Of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    pub unschedulable: bool,
}

/// Of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub allocatable: BTreeMap<String, String>,
}

impl Node {
    /// What it can give of a resource.
    pub fn amount(&self, resource: &str) -> f64 {
        self.status.allocatable.get(resource).map_or(0.0, |text| quantity(text))
    }
}

/// A pod's template.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Template {
    pub spec: PodSpec,
}

/// A pod's spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodSpec {
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    pub resources: Resources,
}

/// What a container asks for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub requests: BTreeMap<String, String>,
    pub limits: BTreeMap<String, String>,
}

impl Resources {
    /// What is asked for: requests, and limits where nothing is requested.
    pub fn asked(&self) -> BTreeMap<&str, f64> {
        let all = self.limits.iter().chain(&self.requests);
        all.map(|(name, amount)| (name.as_str(), quantity(amount))).collect()
    }
}

impl Template {
    /// What its containers ask for together.
    pub fn asked(&self) -> BTreeMap<&str, f64> {
        let mut sum = BTreeMap::new();
        for container in &self.spec.containers {
            for (name, amount) in container.resources.asked() {
                *sum.entry(name).or_insert(0.0) += amount;
            }
        }
        sum
    }

    /// GPUs, whole or parts.
    pub fn gpus(&self) -> f64 {
        self.asked().iter().filter(|(name, _)| share::is_gpu(name)).map(|(_, amount)| amount).sum()
    }
}

/// A job of any kind: the fields of all kinds side by side.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AnyJob {
    pub metadata: Metadata,
    pub spec: AnySpec,
    pub status: AnyStatus,
}

/// What jobs of all kinds ask for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AnySpec {
    pub suspend: Option<bool>,
    pub parallelism: Option<u32>,
    pub template: Option<Template>,
    pub replicated_jobs: Vec<ReplicatedJob>,
    pub run_policy: RunPolicy,
    #[serde(alias = "pytorchReplicaSpecs", alias = "mpiReplicaSpecs", alias = "tfReplicaSpecs")]
    #[serde(alias = "jaxReplicaSpecs", alias = "xgbReplicaSpecs", alias = "paddleReplicaSpecs")]
    pub replica_specs: BTreeMap<String, Replica>,
    pub trainer: Trainer,
    pub tasks: Vec<Replica>,
    pub queue: Option<String>,
    pub priority_class_name: Option<String>,
    pub ray_cluster_spec: Option<RayCluster>,
}

/// A group of like jobs in a JobSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ReplicatedJob {
    pub replicas: Option<u32>,
    pub template: InnerJob,
}

/// The template of a job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct InnerJob {
    pub spec: InnerJobSpec,
}

/// The spec in it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct InnerJobSpec {
    pub parallelism: Option<u32>,
    pub template: Template,
}

/// Kubeflow's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RunPolicy {
    pub suspend: Option<bool>,
}

/// Pods of one kind in a job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Replica {
    pub replicas: Option<u32>,
    pub template: Template,
}

/// Of a TrainJob.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Trainer {
    pub num_nodes: Option<u32>,
    pub resources_per_node: Resources,
}

/// Of a RayJob.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RayCluster {
    pub head_group_spec: Replica,
    pub worker_group_specs: Vec<Replica>,
}

/// Where jobs of all kinds stand.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AnyStatus {
    pub conditions: Vec<Condition>,
    pub active: Option<u32>,
    pub start_time: Option<Timestamp>,
    pub completion_time: Option<Timestamp>,
    pub replicated_jobs_status: Vec<ReplicatedStatus>,
    pub job_status: Option<String>,
    pub job_deployment_status: Option<String>,
    pub state: PhaseOf,
    pub running: Option<u32>,
    pub min_available: Option<u32>,
}

/// Of a JobSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ReplicatedStatus {
    pub active: u32,
    pub ready: u32,
}

/// Of a Volcano Job; other kinds have texts or other things there.
#[derive(Debug, Clone, Default)]
pub struct PhaseOf {
    pub phase: String,
    pub since: Option<Timestamp>,
}

impl<'de> Deserialize<'de> for PhaseOf {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PhaseOf, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let since = value["lastTransitionTime"].as_str().and_then(|time| time.parse().ok());
        Ok(PhaseOf { phase: text("phase"), since })
    }
}

impl AnyJob {
    /// Its pods: how many of each template ask for what.
    pub fn pods(&self) -> Vec<(u32, f64)> {
        let spec = &self.spec;
        let mut pods = Vec::new();
        if let Some(template) = &spec.template {
            pods.push((spec.parallelism.unwrap_or(1), template.gpus()));
        }
        for job in &spec.replicated_jobs {
            let count = job.replicas.unwrap_or(1) * job.template.spec.parallelism.unwrap_or(1);
            pods.push((count, job.template.spec.template.gpus()));
        }
        let mut replicas: Vec<(&str, &Replica)> =
            spec.replica_specs.iter().map(|(name, r)| (name.as_str(), r)).collect();
        replicas.extend(spec.tasks.iter().map(|task| ("", task)));
        if let Some(ray) = &spec.ray_cluster_spec {
            replicas.push(("", &ray.head_group_spec));
            replicas.extend(ray.worker_group_specs.iter().map(|group| ("", group)));
        }
        for (name, replica) in replicas {
            // MPI's launcher starts the others and does no work itself.
            if name != "Launcher" {
                pods.push((replica.replicas.unwrap_or(1), replica.template.gpus()));
            }
        }
        if let Some(nodes) = spec.trainer.num_nodes {
            let asked = spec.trainer.resources_per_node.asked();
            pods.push((nodes, asked.iter().filter(|(name, _)| share::is_gpu(name)).map(|(_, amount)| amount).sum()));
        }
        pods
    }

    /// Nodes and GPUs in all.
    pub fn size(&self) -> (u32, f64) {
        let pods = self.pods();
        let nodes = pods.iter().map(|(count, _)| count).sum::<u32>().max(1);
        (nodes, pods.iter().map(|(count, gpus)| f64::from(*count) * gpus).sum())
    }

    /// Whether its switch is off.
    pub fn is_suspended(&self) -> bool {
        self.spec.suspend.or(self.spec.run_policy.suspend).unwrap_or(false)
    }
}

/// Where objects of a kind are, in one namespace or all.
pub fn path(resource: &ApiResource, namespace: Option<&str>) -> String {
    let base = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    match namespace {
        Some(namespace) => format!("{base}/namespaces/{namespace}/{}", resource.plural),
        None => format!("{base}/{}", resource.plural),
    }
}

/// Lists objects page by page; each page is cut down before the next is asked for.
///
/// # Errors
/// If the server can't be asked.
pub async fn list<T: DeserializeOwned>(
    cluster: &Cluster,
    resource: &ApiResource,
    namespace: Option<&str>,
    selector: Option<&str>,
) -> Result<Vec<T>, ClusterError> {
    let what = format!("cannot list {} of {}", resource.plural, cluster.name());
    let choice = Choice { labels: selector.map(str::to_owned), page: Some(PAGE), ..Choice::default() };
    cluster::list(cluster, &what, &path(resource, namespace), &choice, Some).await
}

/// Reads one object.
///
/// # Errors
/// If it is not there or the server can't be asked.
pub async fn get<T: DeserializeOwned>(
    cluster: &Cluster,
    resource: &ApiResource,
    namespace: Option<&str>,
    name: &str,
) -> Result<T, ClusterError> {
    let what = format!("cannot read {} {name} of {}", resource.kind, cluster.name());
    let (place, client) = (path(resource, namespace), cluster.client());
    cluster::read(&what, || async {
        let request = kube::core::Request::new(place.clone()).get(name, &kube::api::GetParams::default());
        client.request(request.map_err(kube::Error::BuildRequest)?).await
    })
    .await
}

/// A job's id.
pub fn id(metadata: &Metadata, kind: JobKind) -> String {
    super::kinds::id(metadata.namespace.as_deref().unwrap_or_default(), kind.short, &metadata.name)
}

/// A Kubernetes quantity as a number; 0 for what is none.
pub fn quantity(text: &str) -> f64 {
    cluster::quantity(text).unwrap_or(0.0)
}
