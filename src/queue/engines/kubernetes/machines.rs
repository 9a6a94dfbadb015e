//! The nodes of a cluster and the GPUs that its pods have, to be compared with another scheduler's.

use std::collections::{BTreeMap, HashMap};

use futures::future::try_join;
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;

use super::read::{self, Condition, Container, Metadata, quantity};
use super::share;
use crate::cluster::{self, Choice, Cluster};
use crate::queue::QueueError;
use crate::queue::sync::{KubernetesNode, SLURM_NODE_LABEL};

/// Key of the taint by which `aictl remediate` isolates a node.
const FAULT_TAINT: &str = "aictl.dev/fault";
/// Annotation of a node: for which incidents aictl isolated it.
const INCIDENTS: &str = "aictl.dev/isolated-incident";
/// Annotation of a node: by what of aictl's.
const MEANS: &str = "aictl.dev/isolated-means";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Node {
    metadata: Metadata,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
    value: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    allocatable: BTreeMap<String, String>,
    addresses: Vec<Address>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Address {
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    spec: PodSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

impl PodSpec {
    /// GPUs that its node holds for it: of all containers together, or of an earlier one alone.
    fn gpus(&self) -> f64 {
        let of = |container: &Container| {
            let asked = container.resources.asked();
            asked.iter().filter(|(name, _)| share::is_gpu(name)).map(|(_, amount)| amount).sum::<f64>()
        };
        let together: f64 = self.containers.iter().map(of).sum();
        self.init_containers.iter().map(of).fold(together, f64::max)
    }
}

/// Reads them.
///
/// # Errors
/// If nodes or pods can't be listed.
pub async fn machines(cluster: &Cluster) -> Result<Vec<KubernetesNode>, QueueError> {
    let core =
        |kind: &str, plural: &str| ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural);
    let nodes = async { read::list::<Node>(cluster, &core("Node", "nodes"), None, None).await };
    // Pods that are over hold nothing; those that wait have no node.
    let running = Choice {
        fields: Some("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed".to_owned()),
        page: Some(2000),
        ..Choice::default()
    };
    let what = format!("cannot list the pods of {}", cluster.name());
    let pods = async {
        cluster::list(cluster, &what, "/api/v1/pods", &running, |pod: Pod| {
            let gpus = pod.spec.gpus();
            (gpus > 0.0).then_some((pod.spec.node_name?, gpus))
        })
        .await
    };
    let (nodes, pods) = try_join(nodes, pods).await?;
    let mut held: HashMap<String, f64> = HashMap::new();
    for (node, gpus) in pods {
        *held.entry(node).or_default() += gpus;
    }
    Ok(nodes.iter().map(|node| side(node, held.get(&node.metadata.name).copied().unwrap_or_default())).collect())
}

fn side(node: &Node, gpus_allocated: f64) -> KubernetesNode {
    let meta = &node.metadata;
    let words = |key: &str| {
        let text = meta.annotations.get(key).map_or("", String::as_str);
        text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let ready = node.status.conditions.iter().find(|condition| condition.kind == "Ready");
    let ready = ready.map(|condition| condition.status == "True");
    let fault = node.spec.taints.iter().find(|taint| taint.key == FAULT_TAINT);
    let fault = fault.map(|taint| taint.value.clone().unwrap_or_default());
    let mut state = vec![match ready {
        Some(true) => "ready",
        Some(false) => "not ready",
        None => "unknown",
    }];
    if node.spec.unschedulable {
        state.push("cordoned");
    }
    if fault.is_some() {
        state.push("isolated");
    }
    let hostname = meta.labels.get("kubernetes.io/hostname").cloned();
    let gpus = node.status.allocatable.iter().filter(|(name, _)| share::is_gpu(name));
    KubernetesNode {
        name: meta.name.clone(),
        state: state.join("+"),
        cordoned: node.spec.unschedulable,
        ready,
        incidents: words(INCIDENTS),
        means: words(MEANS),
        fault,
        gpus: gpus.map(|(_, amount)| quantity(amount)).sum(),
        gpus_allocated,
        addresses: node.status.addresses.iter().map(|own| own.address.clone()).chain(hostname).collect(),
        slurm_name: meta.labels.get(SLURM_NODE_LABEL).cloned(),
    }
}
