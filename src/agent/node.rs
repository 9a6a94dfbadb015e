//! One node of a capture, from its agent's start to its removal.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::capture::Plan;
use super::land::Landing;
use super::link::{FromNode, Link};
use super::pod::{self, AgentChoice};
use super::protocol::Order;
use super::{AgentError, PodTarget};
use crate::cluster::Cluster;
use crate::trace::{Apart, NodeNote};

/// What a node's task needs of the plan.
pub struct Part {
    cluster: Cluster,
    choice: AgentChoice,
    name: String,
    owner: PodTarget,
    pods: Vec<PodTarget>,
    duration: Option<Duration>,
    landing: Landing,
}

impl Part {
    /// Of these pods of a node; `part` is theirs of the recording.
    pub fn of(plan: &Plan, name: &str, pods: &[PodTarget], part: Option<Apart>) -> Option<Part> {
        Some(Part {
            cluster: plan.cluster.clone(),
            choice: plan.agent.clone(),
            name: name.to_owned(),
            owner: pods.first()?.clone(),
            pods: pods.to_vec(),
            duration: plan.order.duration_ms.map(Duration::from_millis),
            landing: Landing::new(part),
        })
    }
}

/// One node from its agent's start to its removal.
pub async fn node(
    order: Order,
    part: Option<Part>,
    index: usize,
    out: mpsc::Sender<(usize, FromNode)>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(part) = part else { return };
    let mut made = None;
    let result = async {
        let (notes, mut noted) = mpsc::unbounded_channel::<String>();
        let providing =
            pod::provide(&part.cluster, &part.choice, &part.name, &part.owner, part.duration, &mut made, move |text| {
                let _ = notes.send(text);
            });
        tokio::pin!(providing);
        let agent = loop {
            tokio::select! {
                agent = &mut providing => break agent?,
                Some(text) = noted.recv() => {
                    let _ = out.send((index, FromNode::Note(text))).await;
                }
                () = async { drop(stop.wait_for(|stop| *stop).await) } => return Ok(()),
            }
        };
        let _ = out.send((index, FromNode::About(NodeNote { node: part.name.clone(), ..NodeNote::default() }))).await;
        let link = Link {
            index,
            node: part.name.clone(),
            cluster: part.cluster.clone(),
            agent,
            order,
            landing: part.landing,
            out: out.clone(),
            stop: stop.clone(),
        };
        link.run().await
    }
    .await;
    if let Some(agent) = &made
        && let Err(error) = pod::remove(&part.cluster, agent, matches!(result, Err(AgentError::Lost { .. }))).await
    {
        let _ = out.send((index, FromNode::Note(format!("{error}; it ends by itself")))).await;
    }
    if result.is_ok() && !*stop.borrow() {
        for target in &part.pods {
            if let Some(text) = target.replaced(&part.cluster).await {
                let _ = out.send((index, FromNode::Note(text))).await;
            }
        }
    }
    let _ = out.send((index, FromNode::Over(result))).await;
}
