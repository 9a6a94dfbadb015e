//! A site's checks of objects in the cluster.

use jiff::Timestamp;

use crate::cluster::{self, Cluster};
use crate::cmd::diagnose::checks::{Checks, Meaning, ObjectCheck};
use crate::fault::cluster::object::{self, Outcome};
use crate::fault::cluster::{Fleet, NodeState};
use crate::fault::{Catalogue, Check, Device, Finding, Severity, State};
use serde_json::Value;

/// Findings of one check; the rest is counted.
const MOST: usize = 100;

/// Runs them one after the other, and adds what they found: to the node that an object names, else
/// to the fleet.
pub async fn run(
    cluster: &Cluster,
    site: &Checks,
    fleet: &mut Fleet,
    catalogue: &Catalogue,
    now: Timestamp,
    say: impl Fn(&str),
) {
    for check in site.objects() {
        say(&format!("check {}", check.name));
        let (state, detail, found) = look(cluster, check, catalogue, now).await;
        fleet.checks.push(Check { name: check.name.clone(), state, detail });
        for (node, finding) in found {
            match fleet.nodes.iter_mut().find(|view| node.as_deref() == Some(view.name())) {
                Some(view) => {
                    view.add(None, vec![finding]);
                    // The state of the whole follows from its nodes'.
                    if view.state == NodeState::Fault
                        && let Some(all) = fleet.checks.first_mut()
                    {
                        all.state = State::Fault;
                    }
                }
                None => fleet.findings.push(finding),
            }
        }
    }
    for name in site.of_machines() {
        let detail = "runs a program on a machine: aictl diagnose --local, or the node's agent".to_owned();
        fleet.checks.push(Check { name: name.to_owned(), state: State::Skipped, detail });
    }
}

type Found = Vec<(Option<String>, Finding)>;

async fn look(cluster: &Cluster, check: &ObjectCheck, catalogue: &Catalogue, now: Timestamp) -> (State, String, Found) {
    let listed = cluster::objects(cluster, &check.kind, check.namespace.as_deref(), check.selector.as_deref()).await;
    let objects = match listed {
        Ok(objects) => objects,
        Err(error) => return (State::Blind, super::blind(&error).0, Vec::new()),
    };
    let kind = &check.kind.kind;
    if objects.is_empty() {
        let state = match check.none {
            Meaning::Ok => State::Ok,
            Meaning::Blind => State::Blind,
            Meaning::Skipped => State::Skipped,
            Meaning::Fault => State::Fault,
        };
        let words = format!("there is no {kind}");
        let found = (check.none == Meaning::Fault).then(|| {
            (None, Finding::read(catalogue, &check.fault, Device::default(), vec![words.clone()], &check.name, now))
        });
        return (state, words, found.into_iter().collect());
    }
    let (mut wrong, mut unknown, mut found) = (0_usize, Vec::new(), Vec::new());
    for object in &objects {
        match object::judge(&check.test, object, now) {
            Outcome::Fine => {}
            Outcome::Unknown(why) => unknown.push(format!("{}: {why}", name(object))),
            Outcome::Wrong(why) => {
                wrong += 1;
                if found.len() < MOST {
                    let device = Device { name: Some(format!("{kind}/{}", name(object))), ..Device::default() };
                    let finding = Finding::read(catalogue, &check.fault, device, vec![why], &check.name, now);
                    let node =
                        check.node.as_ref().and_then(|path| path.find(object).first()?.as_str().map(str::to_owned));
                    found.push((node, finding));
                }
            }
        }
    }
    let mut detail = format!("{wrong} of {} {kind} objects are wrong", objects.len());
    if wrong > MOST {
        detail.push_str(&format!("; the first {MOST} are told of"));
    }
    if let Some(first) = unknown.first() {
        detail.push_str(&format!("; {} can't be told: {first}", unknown.len()));
    }
    let grave = found.iter().any(|(_, finding)| finding.severity > Severity::Info);
    let state = match (grave, unknown.is_empty()) {
        (true, _) => State::Fault,
        (false, false) => State::Blind,
        (false, true) => State::Ok,
    };
    (state, detail, found)
}

/// "name", or "namespace/name".
fn name(object: &Value) -> String {
    let of = |key: &str| object.pointer(key).and_then(Value::as_str);
    let name = of("/metadata/name").unwrap_or_default();
    of("/metadata/namespace").map_or(name.to_owned(), |namespace| format!("{namespace}/{name}"))
}
