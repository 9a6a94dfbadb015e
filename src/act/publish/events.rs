//! Events about a node: one for a fault that is new, graver, or gone; none at every look.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;

use super::object::key;
use super::words::{bounded, reason, sentence};
use crate::cluster::{Cluster, ClusterError, NodeFindingsSpec, answer};
use crate::fault::cluster::NodeFacts;
use crate::fault::{Finding, Severity};

/// Events about things without a namespace are kept here.
const NAMESPACE: &str = "default";
/// Events that wait to be sent; a node whose faults come and go says the latest.
const MOST: usize = 20;

/// What is to be told, and what was.
#[derive(Debug)]
pub(super) struct Events {
    node: String,
    /// Faults that were told of: their severity, action and name.
    told: BTreeMap<String, (Severity, String, String)>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    name: String,
    at: Timestamp,
    kind: &'static str,
    reason: String,
    note: String,
}

impl Events {
    pub fn new(node: String) -> Events {
        Events { node, told: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// Nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes what another run has published as told.
    pub fn resume(&mut self, known: Option<&NodeFindingsSpec>) {
        if self.told.is_empty()
            && let Some(known) = known
        {
            self.told = faults(known).map(told).collect();
        }
    }

    /// Finds what is to be told of what was seen.
    pub fn compare(&mut self, spec: &NodeFindingsSpec, at: Timestamp) {
        let seen: BTreeMap<_, _> = faults(spec).map(told).collect();
        for finding in faults(spec) {
            let (key, now) = told(finding);
            if self.told.get(&key) != Some(&now) {
                self.push(at, "Warning", reason(&finding.fault), sentence(finding), &key);
            }
        }
        // A check that was blind this time has not seen the fault go.
        let blind = spec.state == "blind" || spec.report.checks.iter().any(|c| c.state == crate::fault::State::Blind);
        let gone: Vec<(String, String)> = match blind {
            true => Vec::new(),
            false => {
                let gone = self.told.iter().filter(|(key, _)| !seen.contains_key(*key));
                gone.map(|(key, (.., fault))| (key.clone(), fault.clone())).collect()
            }
        };
        for (key, fault) in &gone {
            let note = bounded(&format!("{} is no longer found", key.trim()));
            self.push(at, "Normal", format!("{}Gone", reason(fault)), note, key);
        }
        if blind {
            self.told.extend(seen);
        } else {
            self.told = seen;
        }
    }

    fn push(&mut self, at: Timestamp, kind: &'static str, reason: String, note: String, key: &str) {
        if self.waiting.len() == MOST {
            self.waiting.pop_front();
        }
        let mut hasher = DefaultHasher::new();
        (at.as_nanosecond(), kind, key).hash(&mut hasher);
        // The name is made once: an answer that was lost does not make two events of one.
        let name = format!("{}.{:016x}", self.node, hasher.finish());
        self.waiting.push_back(Waiting { name, at, kind, reason, note });
    }

    /// Sends what waits; returns how many were sent.
    pub async fn send(&mut self, cluster: &Cluster, node: &NodeFacts) -> Result<usize, ClusterError> {
        let events: Api<Event> = Api::namespaced(cluster.client(), NAMESPACE);
        let mut sent = 0;
        while let Some(waiting) = self.waiting.front() {
            let event = waiting.event(node);
            let what = format!("cannot send an event about node {}", node.name);
            match answer(&what, events.create(&PostParams::default(), &event)).await {
                Ok(_) | Err(ClusterError::Refused { code: 409, .. }) => {}
                Err(error) => return Err(error),
            }
            self.waiting.pop_front();
            sent += 1;
        }
        Ok(sent)
    }
}

impl Waiting {
    fn event(&self, node: &NodeFacts) -> Event {
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.name.clone()),
            uid: Some(node.uid.clone()),
            ..ObjectReference::default()
        };
        Event {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(self.at)),
            type_: Some(self.kind.to_owned()),
            reason: Some(self.reason.clone()),
            action: Some("Diagnose".to_owned()),
            note: Some(self.note.clone()),
            regarding: Some(regarding),
            reporting_controller: Some("aictl.dev/diagnose".to_owned()),
            reporting_instance: Some(node.name.chars().take(128).collect()),
            ..Event::default()
        }
    }
}

fn faults(spec: &NodeFindingsSpec) -> impl Iterator<Item = &Finding> {
    spec.report.findings.iter().filter(|finding| finding.severity > Severity::Info)
}

fn told(finding: &Finding) -> (String, (Severity, String, String)) {
    (key(finding), (finding.severity, finding.action.clone(), finding.fault.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::{Sighting, object};
    use super::*;
    use crate::act::Look;
    use crate::fault::{Catalogue, Check, Device, State};

    fn spec(faults: &[&str], blind: bool) -> NodeFindingsSpec {
        let catalogue = Catalogue::embedded().unwrap();
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let finding = |fault: &&str| Finding::read(&catalogue, fault, Device::default(), Vec::new(), "gpu", at);
        let state = if blind { State::Blind } else { State::Ok };
        let checks = vec![Check { name: "gpu".into(), state, detail: String::new() }];
        let look = Look { checks, findings: faults.iter().map(finding).collect(), ..Look::default() };
        object::spec(&Sighting { at, gpus: None, look }, "gpu-1")
    }

    fn told(events: &mut Events, faults: &[&str], blind: bool, second: i64) -> Vec<String> {
        events.compare(&spec(faults, blind), Timestamp::from_second(second).unwrap());
        std::mem::take(&mut events.waiting).into_iter().map(|waiting| waiting.reason).collect()
    }

    #[test]
    fn a_fault_is_told_once_and_that_it_is_gone() {
        let mut events = Events::new("gpu-1".to_owned());
        assert_eq!(told(&mut events, &["xid-79", "oom-memcg"], false, 1), ["Xid79"]);
        assert!(told(&mut events, &["xid-79"], false, 2).is_empty());
        assert!(told(&mut events, &[], true, 3).is_empty(), "it was not looked");
        assert!(told(&mut events, &["xid-79"], false, 4).is_empty());
        assert_eq!(told(&mut events, &[], false, 5), ["Xid79Gone"]);
        assert_eq!(told(&mut events, &["xid-79"], false, 6), ["Xid79"]);
    }

    #[test]
    fn an_agent_that_starts_again_repeats_nothing() {
        let mut events = Events::new("gpu-1".to_owned());
        events.resume(Some(&spec(&["xid-79"], false)));
        assert!(told(&mut events, &["xid-79"], false, 1).is_empty());
        assert_eq!(told(&mut events, &["xid-79", "xid-48"], false, 2), ["Xid48"]);
    }

    #[test]
    fn what_waits_is_bounded_and_has_names_of_its_own() {
        let mut events = Events::new("gpu-1".to_owned());
        for second in 0..40 {
            events.compare(
                &spec(if second % 2 == 0 { &["xid-79"] } else { &[] }, false),
                Timestamp::from_second(second).unwrap(),
            );
        }
        assert_eq!(events.waiting.len(), MOST);
        let names: std::collections::BTreeSet<&String> = events.waiting.iter().map(|waiting| &waiting.name).collect();
        assert_eq!(names.len(), MOST);
    }
}
