//! How many nodes there are, and how many are out of service already: asked before another is.

use std::time::Duration;

use futures::future::try_join;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};

use super::node::{AT, LABEL};
use super::{Hands, name_of};
use crate::cluster::ClusterError;
use crate::fault::playbook::Fleet;

/// Up to so many nodes all are read, with their conditions. In larger clusters an agent asks for
/// those only that labels and fields select: many agents may ask at once.
const SMALL: u32 = 200;

/// A node as the fleet's rules see it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSight {
    /// Its name.
    pub name: String,
    /// Since when we hold it isolated.
    pub isolated: Option<Timestamp>,
    /// It is cordoned, or not ready.
    pub unhealthy: bool,
}

impl Hands {
    /// How the other nodes are; `now` is the time by which annotations are read.
    ///
    /// # Errors
    /// If they can't be listed within the time.
    pub fn fleet(&self, now: Timestamp, within: Duration) -> Result<Fleet, ClusterError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let what = "cannot count the nodes";
        let all = self.ask(what, within, || async {
            let first = api.list_metadata(&ListParams::default().limit(1)).await?;
            let left = first.metadata.remaining_item_count.unwrap_or(0);
            Ok(first.items.len() as u64 + u64::try_from(left).unwrap_or(0))
        })?;
        let nodes = u32::try_from(all).unwrap_or(u32::MAX);
        let sights: Vec<NodeSight> = if nodes <= SMALL {
            let listed = self.ask(what, within, || async { api.list(&ListParams::default()).await })?;
            listed.items.iter().map(sight).collect()
        } else {
            self.ask(what, within, || async {
                let labelled = ListParams::default().labels(LABEL);
                let cordoned = ListParams::default().fields("spec.unschedulable=true");
                let (ours, cordoned) = try_join(api.list_metadata(&labelled), api.list_metadata(&cordoned)).await?;
                let ours = ours.items.iter().map(|node| NodeSight {
                    name: name_of(node),
                    isolated: Some(since(&node.metadata)),
                    unhealthy: false,
                });
                let cordoned = cordoned.items.iter().map(|node| NodeSight {
                    name: name_of(node),
                    isolated: None,
                    unhealthy: true,
                });
                Ok(ours.chain(cordoned).collect())
            })?
        };
        Ok(count(nodes, &sights, now))
    }
}

/// What the rules ask for, from nodes as they are.
pub(super) fn count(nodes: u32, sights: &[NodeSight], now: Timestamp) -> Fleet {
    let ago = |since: Timestamp| now.duration_since(since).as_secs_f64().max(0.0);
    let isolated = sights.iter().filter_map(|node| Some((node.name.clone(), ago(node.isolated?))));
    let unhealthy = sights.iter().filter(|node| node.unhealthy && node.isolated.is_none());
    Fleet { nodes, isolated: isolated.collect(), unhealthy: unhealthy.map(|node| node.name.clone()).collect() }
}

fn sight(node: &Node) -> NodeSight {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let ours = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL));
    NodeSight {
        name: name_of(node),
        isolated: ours.then(|| since(&node.metadata)),
        // A node that never said how it is, is new, or a test's.
        unhealthy: cordoned || ready.is_some_and(|ready| ready.status != "True"),
    }
}

/// A time that can't be read counts as now: it is rather one too many.
fn since(metadata: &ObjectMeta) -> Timestamp {
    let text = metadata.annotations.as_ref().and_then(|annotations| annotations.get(AT));
    text.and_then(|text| text.parse().ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_not_counted_twice() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = |text: &str| Some(text.parse().unwrap());
        let node = |name: &str, isolated, unhealthy| NodeSight { name: name.to_owned(), isolated, unhealthy };
        let sights = [
            node("a", at("2026-11-24T11:59:00Z"), true),
            node("b", None, true),
            node("c", None, false),
            node("d", Some(Timestamp::MAX), false),
        ];
        let fleet = count(9, &sights, now);
        assert_eq!(fleet.isolated, [("a".to_owned(), 60.0), ("d".to_owned(), 0.0)]);
        assert_eq!((fleet.unhealthy, fleet.nodes), (vec!["b".to_owned()], 9));
    }
}
