//! Nodes: all, some, or those named.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;

use super::list::{self, Choice};
use super::metadata::{Metadata, whole};
use super::{Cluster, ClusterError, wire};
use crate::fault::cluster::{Condition, NodeFacts, Taint};

const PATH: &str = "/api/v1/nodes";
/// Requests at a time for nodes that are named.
const AT_ONCE: usize = 16;
/// node-feature-discovery gives a node a hundred labels, which nobody here asks for.
const FEATURES: &str = "feature.node.kubernetes.io/";

/// Which nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChoice {
    /// All there are.
    All,
    /// Those with these labels.
    Labels(String),
    /// These.
    Named(Vec<String>),
}

/// Reads nodes, sorted by name.
///
/// # Errors
/// If they can't be read, or one that is named is not there.
pub async fn nodes(cluster: &Cluster, choice: &NodeChoice) -> Result<Vec<NodeFacts>, ClusterError> {
    let what = format!("cannot list the nodes of {}", cluster.name());
    let mut found = match choice {
        NodeChoice::All => some(cluster, &what, &Choice::default()).await?,
        NodeChoice::Labels(selector) => some(cluster, &what, &Choice::labels(selector)).await?,
        NodeChoice::Named(names) => {
            stream::iter(names.clone())
                .map(|name| async move { node(cluster, &name).await })
                .buffered(AT_ONCE)
                .try_collect::<Vec<NodeFacts>>()
                .await?
        }
    };
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name);
    Ok(found)
}

async fn some(cluster: &Cluster, what: &str, choice: &Choice) -> Result<Vec<NodeFacts>, ClusterError> {
    list::list_as(cluster, what, PATH, choice, Some(wire::nodes), |node: Node| Some(node.facts())).await
}

/// Reads one node.
///
/// # Errors
/// If it can't be read, or is not there.
pub async fn node(cluster: &Cluster, name: &str) -> Result<NodeFacts, ClusterError> {
    let what = format!("cannot get node {name} of {}", cluster.name());
    let found: Option<Node> = list::get(cluster, &what, PATH, name).await?;
    found.map(Node::facts).ok_or_else(|| ClusterError::NotFound { what, message: format!("no node is called {name}") })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub metadata: Metadata,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    pub unschedulable: bool,
    pub taints: Vec<WrittenTaint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenTaint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub conditions: Vec<WrittenCondition>,
    pub capacity: BTreeMap<String, String>,
    pub allocatable: BTreeMap<String, String>,
    pub node_info: Info,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct WrittenCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub last_transition_time: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    // Not "bootId".
    #[serde(rename = "bootID")]
    pub boot_id: String,
}

impl Node {
    fn facts(mut self) -> NodeFacts {
        let annotations = self.metadata.own_annotations();
        let mut labels = self.metadata.labels;
        labels.retain(|key, _| !key.starts_with(FEATURES));
        let taints = self.spec.taints.into_iter();
        let conditions = self.status.conditions.into_iter();
        NodeFacts {
            name: self.metadata.name,
            uid: self.metadata.uid,
            resource_version: self.metadata.resource_version,
            created: self.metadata.creation_timestamp,
            labels,
            annotations,
            unschedulable: self.spec.unschedulable,
            taints: taints.map(|taint| Taint { key: taint.key, value: taint.value, effect: taint.effect }).collect(),
            conditions: conditions
                .map(|condition| Condition {
                    kind: condition.kind,
                    status: condition.status,
                    reason: condition.reason,
                    message: condition.message,
                    since: condition.last_transition_time,
                })
                .collect(),
            capacity: devices(self.status.capacity),
            allocatable: devices(self.status.allocatable),
            boot_id: Some(self.status.node_info.boot_id).filter(|id| !id.is_empty()),
        }
    }
}

/// Resources that a plugin offers: their names have a domain.
fn devices(resources: BTreeMap<String, String>) -> BTreeMap<String, u64> {
    let plugged = resources.into_iter().filter(|(name, _)| name.contains('/'));
    plugged.filter_map(|(name, quantity)| Some((name, whole(&quantity)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_node_what_tells_of_it_is_kept() {
        let json = r#"{"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "gpu-1", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-11-24T10:00:00Z",
                "labels": {"pool": "a", "feature.node.kubernetes.io/cpu-AVX": "true"},
                "annotations": {"aictl.dev/isolated-by": "x", "other": "y"}, "managedFields": [{"manager": "kubelet"}]},
            "spec": {"unschedulable": true, "taints": [{"key": "aictl.dev/fault", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": null}],
                "capacity": {"cpu": "64", "nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "7"},
                "nodeInfo": {"bootID": "b"}}}"#;
        let facts = serde_json::from_str::<Node>(json).unwrap().facts();
        assert_eq!((facts.name.as_str(), facts.boot_id.as_deref(), facts.unschedulable), ("gpu-1", Some("b"), true));
        assert_eq!(facts.labels.keys().collect::<Vec<_>>(), ["pool"]);
        assert_eq!(facts.annotations.len(), 1);
        assert_eq!((facts.capacity["nvidia.com/gpu"], facts.capacity.len()), (8, 1));
        assert_eq!(facts.allocatable["nvidia.com/gpu"], 7);
        assert_eq!(facts.condition("Ready").unwrap().status, "Unknown");
        assert!(!facts.is_ready() && facts.taints[0].value.is_empty());
    }
}
