//! A node of the cluster: what keeps pods away from it, and whose that is.
//!
//! One write changes taint, cordon and annotations together, and only the object that was read.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Hands, MANAGER};
use crate::cluster::ClusterError;
use crate::fault::playbook::Means;

/// Key of our taint.
pub(super) const TAINT: &str = "aictl.dev/fault";
/// Nodes that are isolated by us bear it, so that few objects tell how many there are.
pub(super) const LABEL: &str = "aictl.dev/isolated";
/// Who isolated it.
const BY: &str = "aictl.dev/isolated-by";
/// Since when.
pub(super) const AT: &str = "aictl.dev/isolated-at";
/// For which incidents; the last that goes puts the node back.
const INCIDENTS: &str = "aictl.dev/isolated-incident";
/// By what of ours: what is not named here is somebody else's.
const MEANS: &str = "aictl.dev/isolated-means";

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeView {
    /// Its boot, as the kubelet last told.
    pub boot_id: Option<String>,
    /// Its /etc/machine-id, as the kubelet told.
    pub machine_id: Option<String>,
    /// New pods are kept away by a cordon.
    pub unschedulable: bool,
    /// By what of ours it is isolated.
    pub ours: Vec<String>,
    /// For which incidents.
    pub incidents: Vec<String>,
    /// GPUs are offered by a device plugin, which takes no word about a single one.
    pub plugin: bool,
}

/// What is put on a node.
#[derive(Debug, Clone, Copy)]
pub struct Putting<'p> {
    /// Which node.
    pub node: &'p str,
    /// By what: taint or cordon.
    pub means: Means,
    /// Pods that are there are ended, too.
    pub no_execute: bool,
    /// For which incident.
    pub incident: &'p str,
    /// Which fault.
    pub fault: &'p str,
    /// Who does it.
    pub who: &'p str,
    /// When.
    pub now: Timestamp,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolated {
    /// It is isolated by us, now or already.
    Ours,
    /// Somebody else had cordoned it.
    Others,
}

impl Hands {
    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Reads a node.
    ///
    /// # Errors
    /// If it can't be read within the time, or is not there.
    pub fn node(&self, name: &str, within: Duration) -> Result<NodeView, ClusterError> {
        let api = self.nodes();
        let node = self.ask(&format!("cannot get node {name}"), within, || api.get(name))?;
        Ok(view(&node))
    }

    /// Takes a node out of service; done already, it changes nothing.
    ///
    /// # Errors
    /// If it can't be done within the time.
    pub fn isolate(&self, put: &Putting<'_>, within: Duration) -> Result<Isolated, ClusterError> {
        let api = self.nodes();
        self.ask(&format!("cannot isolate node {}", put.node), within, || async {
            let node = api.get(put.node).await?;
            match put_on(&node, put) {
                Change::None => Ok(Isolated::Ours),
                Change::Others => Ok(Isolated::Others),
                Change::Patch(patch) => {
                    api.patch(put.node, &parameters(), &Patch::Merge(&patch)).await.map(|_| Isolated::Ours)
                }
            }
        })
    }

    /// Takes back what was done to a node for an incident; what others did stays, and what other
    /// incidents need. A node that is gone needs nothing.
    ///
    /// # Errors
    /// If it can't be done within the time.
    pub fn release(&self, name: &str, incident: &str, within: Duration) -> Result<bool, ClusterError> {
        let api = self.nodes();
        self.ask(&format!("cannot put node {name} back into service"), within, || async {
            let Some(node) = api.get_opt(name).await? else { return Ok(true) };
            match take_off(&node, incident) {
                (Change::Patch(patch), free) => {
                    api.patch(name, &parameters(), &Patch::Merge(&patch)).await.map(|_| free)
                }
                (_, free) => Ok(free),
            }
        })
    }
}

enum Change {
    None,
    Others,
    Patch(Value),
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

fn words(annotations: &BTreeMap<String, String>, key: &str) -> Vec<String> {
    let text = annotations.get(key).map_or("", String::as_str);
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn view(node: &Node) -> NodeView {
    let none = BTreeMap::new();
    let annotations = node.metadata.annotations.as_ref().unwrap_or(&none);
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let said = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let offers = |name: &str, amount: &str| name.starts_with("nvidia.com/") && !amount.is_empty() && amount != "0";
    NodeView {
        boot_id: said(info.map(|info| &info.boot_id)),
        machine_id: said(info.map(|info| &info.machine_id)),
        unschedulable: unschedulable(node),
        ours: words(annotations, MEANS),
        incidents: words(annotations, INCIDENTS),
        plugin: allocatable.is_some_and(|all| all.iter().any(|(name, amount)| offers(name, &amount.0))),
    }
}

fn unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

/// "taint", "taint-no-execute": how the annotation names them.
fn taint_name(effect: &str) -> &'static str {
    if effect == "NoExecute" { "taint-no-execute" } else { "taint" }
}

fn put_on(node: &Node, put: &Putting<'_>) -> Change {
    let before = view(node);
    let mut ours = before.ours.clone();
    let mut spec = serde_json::Map::new();
    let own = |ours: &mut Vec<String>, what: &str| {
        if !ours.iter().any(|known| known == what) {
            ours.push(what.to_owned());
        }
    };
    match put.means {
        Means::Cordon => {
            if before.unschedulable && !ours.iter().any(|what| what == "cordon") {
                return Change::Others;
            }
            if !before.unschedulable {
                spec.insert("unschedulable".to_owned(), Value::Bool(true));
                own(&mut ours, "cordon");
            }
        }
        _ => {
            let mut taints = taints(node);
            let effects = ["NoSchedule", "NoExecute"];
            for effect in effects.into_iter().take(if put.no_execute { 2 } else { 1 }) {
                if taints.iter().any(|taint| taint.key == TAINT && taint.effect == effect) {
                    continue;
                }
                taints.push(Taint {
                    key: TAINT.to_owned(),
                    value: Some(label_value(put.fault)),
                    effect: effect.to_owned(),
                    time_added: None,
                });
                own(&mut ours, taint_name(effect));
                spec.insert("taints".to_owned(), json!(taints));
            }
        }
    }
    let mut incidents = before.incidents.clone();
    let new = !incidents.iter().any(|id| id == put.incident);
    if new {
        incidents.push(put.incident.to_owned());
    }
    if !new && spec.is_empty() {
        return Change::None;
    }
    let mut annotations = json!({ INCIDENTS: incidents.join(","), MEANS: ours.join(",") });
    if before.incidents.is_empty() {
        annotations[BY] = put.who.into();
        annotations[AT] = put.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    }
    patch(node, &annotations, Some("true"), spec)
}

fn take_off(node: &Node, incident: &str) -> (Change, bool) {
    let before = view(node);
    let incidents: Vec<&str> = before.incidents.iter().map(String::as_str).filter(|id| *id != incident).collect();
    if incidents.len() == before.incidents.len() {
        return (Change::None, incidents.is_empty());
    }
    if !incidents.is_empty() {
        let annotations = json!({ INCIDENTS: incidents.join(",") });
        return (patch(node, &annotations, Some("true"), serde_json::Map::new()), false);
    }
    let mut spec = serde_json::Map::new();
    let is_ours = |what: &str| before.ours.iter().any(|known| known == what);
    if is_ours("cordon") && before.unschedulable {
        spec.insert("unschedulable".to_owned(), Value::Null);
    }
    let all = taints(node);
    let left: Vec<&Taint> =
        all.iter().filter(|taint| taint.key != TAINT || !is_ours(taint_name(&taint.effect))).collect();
    if left.len() < all.len() {
        spec.insert("taints".to_owned(), json!(left));
    }
    let none = json!({ BY: null, AT: null, INCIDENTS: null, MEANS: null });
    (patch(node, &none, None, spec), true)
}

/// A patch that is refused (409) if the object is no longer the one that was read.
fn patch(node: &Node, annotations: &Value, label: Option<&str>, spec: serde_json::Map<String, Value>) -> Change {
    let mut patch = json!({
        "metadata": {
            "resourceVersion": node.metadata.resource_version,
            "annotations": annotations,
            "labels": { LABEL: label },
        }
    });
    if !spec.is_empty() {
        patch["spec"] = Value::Object(spec);
    }
    Change::Patch(patch)
}

/// What may be a label's or a taint's value: letters, digits, `-`, `_` and `.`, at most 63.
fn label_value(text: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let text: String = text.chars().map(fine).take(63).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(means: Means, incident: &'static str) -> Putting<'static> {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        Putting { node: "n", means, no_execute: false, incident, fault: "xid-95", who: "root", now }
    }

    /// What a server makes of a merge patch.
    fn merged(node: &Node, change: &Change) -> Node {
        fn merge(into: &mut Value, patch: &Value) {
            let Value::Object(fields) = patch else {
                *into = patch.clone();
                return;
            };
            if !into.is_object() {
                *into = json!({});
            }
            for (key, value) in fields {
                match value {
                    Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
                    value => merge(&mut into[key], value),
                }
            }
        }
        let mut value = serde_json::to_value(node).unwrap();
        if let Change::Patch(patch) = change {
            merge(&mut value, patch);
        }
        serde_json::from_value(value).unwrap()
    }

    fn node(json: Value) -> Node {
        serde_json::from_value(json).unwrap()
    }

    fn shown(node: &Node) -> (bool, Vec<String>, usize) {
        let taints = taints(node).iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
        (unschedulable(node), taints, node.metadata.annotations.as_ref().map_or(0, BTreeMap::len))
    }

    #[test]
    fn what_was_put_on_is_taken_off_and_nothing_else() {
        let human = json!({"metadata": {"name": "n", "annotations": {"a": "b"}},
            "spec": {"taints": [{"key": "other", "effect": "NoSchedule"}]}});
        for means in [Means::Taint, Means::Cordon] {
            let before = node(human.clone());
            let on = merged(&before, &put_on(&before, &put(means, "i-1")));
            assert!(view(&on).incidents == ["i-1"] && on != before);
            // Again: nothing to do. For another incident: both need it.
            assert!(matches!(put_on(&on, &put(means, "i-1")), Change::None));
            let both = merged(&on, &put_on(&on, &put(means, "i-2")));
            let (one_left, free) = take_off(&both, "i-1");
            assert!(!free);
            let one = merged(&both, &one_left);
            assert_eq!(shown(&one).0, means == Means::Cordon);
            let (last, free) = take_off(&one, "i-2");
            assert!(free);
            assert_eq!(shown(&merged(&one, &last)), shown(&before));
            assert!(matches!(take_off(&before, "i-1"), (Change::None, true)));
        }
    }

    #[test]
    fn a_cordon_of_others_stays() {
        let cordoned = node(json!({"metadata": {"name": "n"}, "spec": {"unschedulable": true}}));
        assert!(matches!(put_on(&cordoned, &put(Means::Cordon, "i-1")), Change::Others));
        let tainted = merged(&cordoned, &put_on(&cordoned, &put(Means::Taint, "i-1")));
        let after = merged(&tainted, &take_off(&tainted, "i-1").0);
        assert_eq!(shown(&after), (true, vec![], 0));
        // And a taint that others gave the same name.
        let theirs =
            node(json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]}}));
        let on = merged(&theirs, &put_on(&theirs, &put(Means::Taint, "i-1")));
        assert_eq!(shown(&merged(&on, &take_off(&on, "i-1").0)).1, [format!("{TAINT}:NoSchedule")]);
    }

    #[test]
    fn the_taint_that_ends_pods_goes_with_the_other() {
        let before = node(json!({"metadata": {"name": "n"}}));
        let both = Putting { no_execute: true, ..put(Means::Taint, "i-1") };
        let on = merged(&before, &put_on(&before, &both));
        assert_eq!(shown(&on).1.len(), 2);
        assert!(shown(&merged(&on, &take_off(&on, "i-1").0)).1.is_empty());
    }

    #[test]
    fn any_name_of_a_fault_makes_a_value() {
        assert_eq!(label_value("xid-95"), "xid-95");
        assert_eq!(label_value("-a b/ü"), "a-b");
        assert_eq!(label_value(&"x".repeat(99)).len(), 63);
    }
}
