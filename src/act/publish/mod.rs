//! Publishes what a node's agent found: the node's findings object, a condition of the node, and
//! events about it. These are aictl's own objects and its own condition: publishing changes nothing
//! that anybody else decides by, so it needs no plan and no gate, and a dry run has none of it.

mod events;
mod object;
mod words;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Look;
use crate::cluster::{Cluster, ClusterError, NodeFindings, NodeFindingsSpec, answer, node};
use crate::fault::cluster::{CONDITION, NodeFacts};
use events::Events;
use object::Change;

pub use object::REFRESH;

/// Who writes, in the field ownership of the API server.
const MANAGER: &str = "aictl";
/// The condition says so often that it is still looked after.
const HEARTBEAT: SignedDuration = SignedDuration::from_mins(5);
/// Counts that grow are published so often.
const COUNTS: SignedDuration = SignedDuration::from_secs(20);

/// One look at this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// When.
    pub at: Timestamp,
    /// GPUs on the bus; `None` where that can't be seen.
    pub gpus: Option<u64>,
    /// What was seen.
    pub look: Look,
}

/// What became of a sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// The findings object was written.
    pub object: bool,
    /// The condition was written.
    pub condition: bool,
    /// Events that were sent.
    pub events: usize,
}

/// Publishes for one node; remembers what it has said.
#[derive(Debug)]
pub struct Publisher {
    cluster: Cluster,
    node: String,
    sent: Option<(Timestamp, NodeFindingsSpec)>,
    condition: Option<Condition>,
    events: Events,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    status: String,
    reason: String,
    message: String,
    since: Timestamp,
    heartbeat: Timestamp,
}

impl Publisher {
    /// For the node of this name.
    pub fn new(cluster: Cluster, node: String) -> Publisher {
        let events = Events::new(node.clone());
        Publisher { cluster, node, sent: None, condition: None, events }
    }

    /// Publishes what differs from what was published, and anything after a while. After an error
    /// it can be called again, with the same sighting or a later one: what was done is not done
    /// twice.
    ///
    /// # Errors
    /// If the server does not answer or says no. What could be done is done.
    pub async fn publish(&mut self, sighting: &Sighting) -> Result<Published, ClusterError> {
        let spec = object::spec(sighting, &self.node);
        let change = self.sent.as_ref().map_or(Change::News, |(_, sent)| object::change(sent, &spec));
        let silent = self.sent.as_ref().map(|(at, _)| sighting.at.duration_since(*at));
        let due = match change {
            Change::News => true,
            Change::Counts => silent.is_none_or(|silent| silent >= COUNTS),
            Change::None => silent.is_none_or(|silent| silent >= REFRESH),
        };
        if !due && self.events.is_idle() && !self.condition_is_due(&spec, sighting.at) {
            return Ok(Published::default());
        }
        let facts = node(&self.cluster, &self.node).await?;
        if self.sent.is_none() {
            // An agent that starts again goes on from what the last one said.
            let known = self.known().await?;
            self.events.resume(known.as_ref());
        }
        self.events.compare(&spec, sighting.at);
        let mut done = Published::default();
        let object = if due { self.write_object(&facts, &spec, sighting.at).await } else { Ok(()) };
        done.object = due && object.is_ok();
        let condition = self.write_condition(&facts, &spec, sighting.at).await;
        done.condition = matches!(condition, Ok(true));
        let events = self.events.send(&self.cluster, &facts).await;
        done.events = *events.as_ref().unwrap_or(&0);
        object?;
        condition?;
        events?;
        Ok(done)
    }

    async fn known(&self) -> Result<Option<NodeFindingsSpec>, ClusterError> {
        let objects: Api<NodeFindings> = Api::all(self.cluster.client());
        let what = format!("cannot get nodefindings.aictl.dev {}", self.node);
        match answer(&what, objects.get(&self.node)).await {
            Ok(object) => Ok(Some(object.spec)),
            Err(error) if error.is_not_found() => Ok(None),
            // One of another version is written over.
            Err(ClusterError::Unreachable { source, .. }) if matches!(*source, kube::Error::SerdeError(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write_object(
        &mut self,
        node: &NodeFacts,
        spec: &NodeFindingsSpec,
        at: Timestamp,
    ) -> Result<(), ClusterError> {
        let objects: Api<NodeFindings> = Api::all(self.cluster.client());
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.uid});
        let object = json!({
            "apiVersion": "aictl.dev/v1alpha1",
            "kind": "NodeFindings",
            "metadata": {"name": self.node, "ownerReferences": [owner]},
            "spec": spec,
        });
        let what = format!("cannot publish nodefindings.aictl.dev {}", self.node);
        let apply = PatchParams::apply(MANAGER).force();
        answer(&what, objects.patch(&self.node, &apply, &Patch::Apply(&object))).await?;
        self.sent = Some((at, spec.clone()));
        Ok(())
    }

    fn condition_is_due(&self, spec: &NodeFindingsSpec, at: Timestamp) -> bool {
        let (status, reason, message) = words::condition(spec);
        self.condition.as_ref().is_none_or(|known| {
            (known.status.as_str(), &known.reason, &known.message) != (status, &reason, &message)
                || at.duration_since(known.heartbeat) >= HEARTBEAT
        })
    }

    async fn write_condition(
        &mut self,
        node: &NodeFacts,
        spec: &NodeFindingsSpec,
        at: Timestamp,
    ) -> Result<bool, ClusterError> {
        if !self.condition_is_due(spec, at) {
            return Ok(false);
        }
        let (status, reason, message) = words::condition(spec);
        let before = node.condition(CONDITION).filter(|before| before.status == status);
        let since = before.and_then(|before| before.since).unwrap_or(at);
        let next = Condition { status: status.to_owned(), reason, message, since, heartbeat: at };
        let patch = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.node},
            "status": {"conditions": [{
                "type": CONDITION,
                "status": next.status,
                "reason": next.reason,
                "message": next.message,
                "lastHeartbeatTime": seconds(next.heartbeat),
                "lastTransitionTime": seconds(next.since),
            }]},
        });
        let nodes: Api<Node> = Api::all(self.cluster.client());
        let what = format!("cannot set the condition {CONDITION} of node {}", self.node);
        let apply = PatchParams::apply(MANAGER).force();
        answer(&what, nodes.patch_status(&self.node, &apply, &Patch::Apply(&patch))).await?;
        self.condition = Some(next);
        Ok(true)
    }
}

/// The times of conditions have whole seconds.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
