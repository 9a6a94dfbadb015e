//! Add-ons for GPUs: their DaemonSets and Deployments, and their pods where not all are ready.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::list::{self, Choice};
use super::metadata::Metadata;
use super::pods::pods;
use super::{Cluster, ClusterError};
use crate::fault::cluster::{AddonFacts, PodFacts, role};

/// Reads the add-ons that are known by their names, and the pods of the DaemonSets that are not
/// all ready; of those that are, nobody needs thousands of pods. `node` keeps pods of one node.
///
/// # Errors
/// If they can't be read.
pub async fn addons(cluster: &Cluster, node: Option<&str>) -> Result<(Vec<AddonFacts>, Vec<PodFacts>), ClusterError> {
    // Both to their end: of two refusals always the same one is told, whichever came first.
    let (sets, deployments) =
        futures::join!(workloads(cluster, "DaemonSet", "daemonsets"), workloads(cluster, "Deployment", "deployments"),);
    let (sets, deployments) = (sets?, deployments?);
    let mut found = Vec::new();
    for (addon, selector) in &sets {
        if addon.ready >= addon.wanted {
            continue;
        }
        let fields = node.map(|node| format!("spec.nodeName={node}"));
        let choice = Choice { labels: Some(selector.clone()).filter(|s| !s.is_empty()), fields, ..Choice::default() };
        found.extend(pods(cluster, Some(&addon.namespace), &choice).await?);
    }
    let addons = sets.into_iter().chain(deployments).map(|(addon, _)| addon).collect();
    Ok((addons, found))
}

async fn workloads(cluster: &Cluster, kind: &str, plural: &str) -> Result<Vec<(AddonFacts, String)>, ClusterError> {
    let what = format!("cannot list the {plural} of all namespaces");
    let keep = |workload: Workload| workload.facts(kind);
    list::list(cluster, &what, &format!("/apis/apps/v1/{plural}"), &Choice::default(), keep).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Workload {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    replicas: Option<u64>,
    selector: Selector,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    desired_number_scheduled: u64,
    number_ready: u64,
    ready_replicas: u64,
}

impl Workload {
    fn facts(self, kind: &str) -> Option<(AddonFacts, String)> {
        let role = role(&self.metadata.name)?;
        let (wanted, ready) = match kind {
            "DaemonSet" => (self.status.desired_number_scheduled, self.status.number_ready),
            _ => (self.spec.replicas.unwrap_or(1), self.status.ready_replicas),
        };
        let labels = self.spec.selector.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let selector = labels.collect::<Vec<_>>().join(",");
        let (namespace, name) = (self.metadata.namespace, self.metadata.name);
        Some((AddonFacts { kind: kind.to_owned(), namespace, name, role, wanted, ready }, selector))
    }
}
