//! Nodes in the API server's binary form: of its messages the fields that are read here, by the numbers
//! that k8s.io/api/core/v1/generated.proto and k8s.io/apimachinery give them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prost::Message;

use super::list::Page;
use super::metadata::Metadata;
use super::nodes::{Info, Node, Spec, Status, WrittenCondition, WrittenTaint};

/// What stands before every object.
const MAGIC: &[u8] = b"k8s\0";

/// runtime.Unknown, in which every answer is wrapped.
#[derive(Clone, PartialEq, Message)]
struct Wrapped {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeList {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ListMeta>,
    #[prost(message, repeated, tag = "2")]
    items: Vec<WireNode>,
}

#[derive(Clone, PartialEq, Message)]
struct ListMeta {
    #[prost(string, tag = "3")]
    more: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireNode {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<NodeSpec>,
    #[prost(message, optional, tag = "3")]
    status: Option<NodeStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectMeta {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "5")]
    uid: String,
    #[prost(string, tag = "6")]
    resource_version: String,
    #[prost(message, optional, tag = "8")]
    created: Option<Time>,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct NodeSpec {
    #[prost(bool, tag = "4")]
    unschedulable: bool,
    #[prost(message, repeated, tag = "5")]
    taints: Vec<Taint>,
}

#[derive(Clone, PartialEq, Message)]
struct Taint {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(string, tag = "3")]
    effect: String,
}

#[derive(Clone, PartialEq, Message)]
struct NodeStatus {
    #[prost(btree_map = "string, message", tag = "1")]
    capacity: BTreeMap<String, Quantity>,
    #[prost(btree_map = "string, message", tag = "2")]
    allocatable: BTreeMap<String, Quantity>,
    #[prost(message, repeated, tag = "4")]
    conditions: Vec<NodeCondition>,
    #[prost(message, optional, tag = "7")]
    info: Option<NodeSystemInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantity {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct NodeCondition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    status: String,
    #[prost(message, optional, tag = "4")]
    since: Option<Time>,
    #[prost(string, tag = "5")]
    reason: String,
    #[prost(string, tag = "6")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct NodeSystemInfo {
    #[prost(string, tag = "3")]
    boot_id: String,
}

/// A page of nodes.
pub fn nodes(bytes: &[u8]) -> Option<Page<Node>> {
    let wrapped = Wrapped::decode(bytes.strip_prefix(MAGIC)?).ok()?;
    let list = NodeList::decode(wrapped.raw.as_slice()).ok()?;
    let items = list.items.into_iter().map(Node::from).collect();
    Some(Page::of(items, list.metadata.unwrap_or_default().more))
}

impl From<WireNode> for Node {
    fn from(node: WireNode) -> Node {
        let (meta, spec, status) =
            (node.metadata.unwrap_or_default(), node.spec.unwrap_or_default(), node.status.unwrap_or_default());
        let taint = |taint: Taint| WrittenTaint { key: taint.key, value: taint.value, effect: taint.effect };
        Node {
            metadata: Metadata {
                name: meta.name,
                uid: meta.uid,
                resource_version: meta.resource_version,
                creation_timestamp: meta.created.and_then(moment),
                labels: meta.labels,
                annotations: meta.annotations,
                ..Metadata::default()
            },
            spec: Spec { unschedulable: spec.unschedulable, taints: spec.taints.into_iter().map(taint).collect() },
            status: Status {
                conditions: status.conditions.into_iter().map(WrittenCondition::from).collect(),
                capacity: amounts(status.capacity),
                allocatable: amounts(status.allocatable),
                node_info: Info { boot_id: status.info.unwrap_or_default().boot_id },
            },
        }
    }
}

impl From<NodeCondition> for WrittenCondition {
    fn from(condition: NodeCondition) -> WrittenCondition {
        WrittenCondition {
            kind: condition.kind,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            last_transition_time: condition.since.and_then(moment),
        }
    }
}

/// A time that is not set is written as one without seconds.
fn moment(time: Time) -> Option<Timestamp> {
    if time.seconds == 0 && time.nanos == 0 {
        return None;
    }
    Timestamp::new(time.seconds, time.nanos).ok()
}

fn amounts(resources: BTreeMap<String, Quantity>) -> BTreeMap<String, String> {
    resources.into_iter().map(|(name, quantity)| (name, quantity.text)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
            let bytes = if magic { [MAGIC, &bytes].concat() } else { bytes };
            let _ = nodes(&bytes);
        }
    }

    #[test]
    fn what_is_no_object_is_none() {
        assert!(nodes(b"{\"kind\": \"NodeList\"}").is_none());
        assert!(nodes(b"k8s\0\x12\xff").is_none());
    }
}
