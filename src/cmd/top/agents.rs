//! Nodes of a cluster, from aictl's exporters: each is asked through the API server's proxy to pods,
//! many at a time, so that a laptop needs no way to the nodes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};

use super::super::error::{Error, Kind};
use super::super::settings::Settings;
use super::source::Shot;
use super::{Args, serve};
use crate::cluster::{self, Choice, Cluster, ClusterError, NodeChoice, Options};
use crate::fault::cluster::PodFacts;
use crate::metrics::NodeSample;
use crate::metrics::jobs::{Owners, PodOwner};

/// The exporters' pods (deploy/top).
const LABELS: &str = "app.kubernetes.io/name=aictl-top";
/// Nodes asked at a time.
const AT_ONCE: usize = 64;
/// A node that does not answer by then is blind.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pods, nodes and exporters are listed again after this; they change seldom.
const LIST_AGAIN: Duration = Duration::from_secs(30);

/// Asks a cluster's exporters.
pub struct Agents {
    options: Options,
    namespace: String,
    named: Vec<String>,
    selector: Option<String>,
    cluster: Option<Cluster>,
    listed: Option<(Instant, Listed)>,
}

#[derive(Default)]
struct Listed {
    /// Node and pod of each exporter.
    exporters: Vec<(String, String)>,
    /// Nodes that were named and have none.
    without: Vec<String>,
    owners: Owners,
    notes: Vec<String>,
}

impl Agents {
    /// As the arguments say.
    pub fn new(args: &Args, settings: &Settings) -> Agents {
        Agents {
            options: settings.cluster.clone(),
            namespace: args.agent_namespace.clone(),
            named: args.nodes.clone(),
            selector: args.selector.clone(),
            cluster: None,
            listed: None,
        }
    }

    /// Asks all.
    pub async fn look(&mut self) -> Result<Shot, Error> {
        let cluster = match &self.cluster {
            Some(cluster) => cluster.clone(),
            None => {
                let cluster = Cluster::connect(&self.options).await?;
                self.cluster = Some(cluster.clone());
                cluster
            }
        };
        if self.listed.as_ref().is_none_or(|(at, _)| at.elapsed() >= LIST_AGAIN) {
            self.listed = Some((Instant::now(), self.list(&cluster).await?));
        }
        let Some((_, listed)) = &self.listed else { return Ok(Shot::default()) };
        let asked = stream::iter(&listed.exporters)
            .map(|(node, pod)| {
                let (cluster, namespace, node, pod) =
                    (cluster.clone(), self.namespace.clone(), node.clone(), pod.clone());
                // Each on a thread of the runtime: reading their answers is what takes long.
                async move {
                    let blind = node.clone();
                    let asked = tokio::spawn(async move { ask(&cluster, &namespace, &node, &pod).await });
                    asked.await.unwrap_or_else(|_| blind_node(&blind, "its answer could not be read"))
                }
            })
            .buffer_unordered(AT_ONCE);
        let mut nodes: Vec<NodeSample> = asked.collect().await;
        nodes.extend(listed.without.iter().map(|node| blind_node(node, "no exporter runs there")));
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(Shot { nodes, owners: listed.owners.clone(), notes: listed.notes.clone() })
    }

    async fn list(&self, cluster: &Cluster) -> Result<Listed, Error> {
        let (choice, running) = (Choice::labels(LABELS), Choice::fields("status.phase=Running"));
        let (exporters, chosen, pods) = futures::join!(
            cluster::pods(cluster, Some(&self.namespace), &choice),
            self.nodes(cluster),
            cluster::pods(cluster, None, &running),
        );
        let (exporters, chosen) = (exporters?, chosen?);
        let running = exporters.into_iter().filter(|pod| !pod.deleting && pod.phase == "Running");
        let mut by_node: HashMap<String, String> = running.map(|pod| (pod.node, pod.name)).collect();
        let mut listed = Listed::default();
        match chosen {
            Some(names) => {
                for node in names {
                    match by_node.remove(&node) {
                        Some(pod) => listed.exporters.push((node, pod)),
                        None => listed.without.push(node),
                    }
                }
            }
            None => listed.exporters.extend(by_node),
        }
        if listed.exporters.is_empty() && listed.without.is_empty() {
            let what = format!("no exporter of aictl runs in namespace {} of {}", self.namespace, cluster.name());
            return Err(Error::new(Kind::Blind, what).hint(
                "install it: kubectl apply -k deploy/top; where it runs elsewhere: --agent-namespace; or use --prometheus URL",
            ));
        }
        match pods {
            Ok(pods) => listed.owners = pods.into_iter().filter(|pod| pod.gpus > 0).map(owner).collect(),
            Err(error) => listed.notes.push(format!("jobs are told by their pods alone: {error}")),
        }
        Ok(listed)
    }

    /// Nodes that were asked for; `None` for all that have an exporter.
    async fn nodes(&self, cluster: &Cluster) -> Result<Option<Vec<String>>, ClusterError> {
        let choice = match (&self.selector, self.named.as_slice()) {
            (Some(selector), _) => NodeChoice::Labels(selector.clone()),
            // That they are there at all is seen by their exporters.
            (None, []) => return Ok(None),
            (None, names) => return Ok(Some(names.to_vec())),
        };
        Ok(Some(cluster::nodes(cluster, &choice).await?.into_iter().map(|node| node.name).collect()))
    }
}

fn owner(pod: PodFacts) -> ((String, String), PodOwner) {
    let made = pod.owner.map(|(kind, name)| format!("{kind}/{name}"));
    // Pods of a JobSet are made by its Jobs; of other kinds the label says.
    let labels = &pod.labels;
    let named = [
        ("jobset.sigs.k8s.io/jobset-name", "JobSet"),
        ("training.kubeflow.org/job-name", "Job"),
        ("ray.io/cluster", "RayCluster"),
        ("volcano.sh/job-name", "VolcanoJob"),
        ("leaderworkerset.sigs.k8s.io/name", "LeaderWorkerSet"),
    ];
    let named = named.iter().find_map(|(label, kind)| Some(format!("{kind}/{}", labels.get(*label)?)));
    ((pod.namespace, pod.name), PodOwner { owner: named.or(made), gpus: pod.gpus })
}

async fn ask(cluster: &Cluster, namespace: &str, node: &str, pod: &str) -> NodeSample {
    let asked = cluster::page(cluster, namespace, pod, serve::PORT, serve::NODE_PAGE);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(text)) => match serde_json::from_str::<NodeSample>(&text) {
            // Under the cluster's name for it, whatever it calls itself.
            Ok(sample) => NodeSample { node: node.to_owned(), ..sample },
            Err(error) => blind_node(node, &format!("its exporter says what is not understood: {error}")),
        },
        Ok(Err(error)) => blind_node(node, &error.to_string()),
        Err(_) => blind_node(node, &format!("its exporter did not answer within {} s", PATIENCE.as_secs())),
    }
}

fn blind_node(node: &str, why: &str) -> NodeSample {
    NodeSample { node: node.to_owned(), blind: Some(why.to_owned()), ..NodeSample::default() }
}
