//! All nodes of a cluster together: each with what its agent found and what the cluster tells of
//! it. The JSON contract `aictl.fleet/v1`. Fields are only ever added.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::catalogue::{Catalogue, Severity};
use super::super::collect::{sort, unite};
use super::super::finding::{Check, FINDINGS_SCHEMA, Finding, Findings, State};
use super::facts::{AddonFacts, Blind, ClusterFacts, NodeFacts, PodFacts, Rejection, Report};
use super::reports::{self, Word};
use super::{NodeVerdict, addons, allocatable, conditions, counted, rejections};

/// Name of the JSON contract.
pub const FLEET_SCHEMA: &str = "aictl.fleet/v1";

/// What a diagnosis of a cluster says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fleet {
    /// [`FLEET_SCHEMA`].
    pub schema: &'static str,
    /// What the context calls the cluster.
    pub cluster: String,
    /// The nodes, the worst first.
    pub nodes: Vec<NodeView>,
    /// What was looked at that is of no one node.
    pub checks: Vec<Check>,
    /// What was found that is of no one node: add-ons, jobs, objects of a site's checks.
    pub findings: Vec<Finding>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeView {
    /// All that was found of it: `aictl.findings/v1`.
    #[serde(flatten)]
    pub findings: Findings,
    /// In one word.
    pub state: NodeState,
    /// Kubelet says that it can run pods.
    pub ready: bool,
    /// Nothing new is scheduled here.
    pub unschedulable: bool,
    /// GPUs that pods may have.
    pub gpus_allocatable: u64,
    /// GPUs there are.
    pub gpus: u64,
    /// When its agent looked last.
    pub looked_at: Option<Timestamp>,
    /// Its agent's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// A node in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// All was looked at, and nothing is wrong.
    Ok,
    /// Part could not be looked at, and nothing wrong was seen.
    Blind,
    /// Something is wrong.
    Fault,
}

impl NodeView {
    /// Its name.
    pub fn name(&self) -> &str {
        self.findings.node.as_deref().unwrap_or_default()
    }

    /// The worst that is wrong with it.
    pub fn worst(&self) -> Option<&Finding> {
        self.findings.findings.first().filter(|finding| finding.severity > Severity::Info)
    }

    /// Findings that are more than notes.
    pub fn faults(&self) -> usize {
        self.findings.findings.iter().filter(|finding| finding.severity > Severity::Info).count()
    }

    /// Why it can't be told whether it is well: the first check that is blind.
    pub fn blind(&self) -> Option<&Check> {
        self.findings.checks.iter().find(|check| check.state == State::Blind)
    }

    /// Adds what was found elsewhere, and judges anew.
    pub fn add(&mut self, check: Option<Check>, found: Vec<Finding>) {
        self.findings.checks.extend(check);
        self.findings.findings.extend(found);
        sort(&mut self.findings.findings);
        self.state = state(&self.findings);
    }
}

impl Fleet {
    /// Puts the worst first.
    pub fn sort(&mut self) {
        sort(&mut self.findings);
        self.nodes.sort_by(|a, b| {
            let severity = |node: &NodeView| node.worst().map(|finding| finding.severity);
            let worst = b.state.cmp(&a.state).then(severity(b).cmp(&severity(a)));
            worst.then(b.faults().cmp(&a.faults())).then_with(|| a.name().cmp(b.name()))
        });
    }
}

/// Judges a cluster. `longest` is how long an agent may be silent before it counts as blind.
pub fn judge(
    cluster: &str,
    facts: ClusterFacts,
    catalogue: &Catalogue,
    now: Timestamp,
    longest: SignedDuration,
) -> Fleet {
    let ClusterFacts { nodes, reports, addons, addon_pods, rejections } = facts;
    let mut checks = Vec::new();
    let mut findings = Vec::new();
    match &addons {
        Ok(addons) => {
            let judged = addons::of_cluster(addons, now, catalogue);
            let state = if judged.findings.is_empty() { State::Ok } else { State::Fault };
            checks.push(Check { name: addons::CHECK.to_owned(), state, detail: judged.detail });
            findings.extend(judged.findings);
        }
        Err(Blind(why)) => checks.push(blind(addons::CHECK, why)),
    }
    if let Err(Blind(why)) = &reports {
        checks.push(blind(reports::CHECK, why));
    }
    if let Err(Blind(why)) = &rejections {
        checks.push(blind(rejections::CHECK, why));
    }
    let mut reports = reports.map(|reports| by(reports, |report| report.node.clone()));
    let pods = addon_pods.as_ref().map(|pods| by_refs(pods, |pod| &pod.node));
    let turned_away = rejections.as_ref().map(|all| by_refs(all, |rejection| &rejection.node));
    let known = addons.as_deref().unwrap_or_default();
    let mut views = Vec::with_capacity(nodes.len());
    for node in &nodes {
        let report = match &mut reports {
            Ok(reports) => Ok(reports.remove(&node.name).and_then(|mut all| all.pop())),
            Err(error) => Err(&*error),
        };
        let sight = Sight {
            report,
            pods: of_node(&pods, &node.name),
            rejections: of_node(&turned_away, &node.name),
            addons: known,
        };
        views.push(view(node, sight, catalogue, now, longest));
    }
    let counts = |state| views.iter().filter(|view: &&NodeView| view.state == state).count();
    let (faulty, unseen) = (counts(NodeState::Fault), counts(NodeState::Blind));
    let state = match (faulty, unseen) {
        (1.., _) => State::Fault,
        (0, 1..) => State::Blind,
        (0, 0) => State::Ok,
    };
    let detail = format!("{}, {faulty} with faults, {unseen} not wholly seen", counted(views.len(), "node", "nodes"));
    checks.insert(0, Check { name: "nodes".to_owned(), state, detail });
    let mut fleet = Fleet { schema: FLEET_SCHEMA, cluster: cluster.to_owned(), nodes: views, checks, findings };
    fleet.sort();
    fleet
}

/// What is known of one node beside itself.
struct Sight<'f> {
    report: Result<Option<Report>, &'f Blind>,
    pods: Result<&'f [&'f PodFacts], &'f Blind>,
    rejections: Result<&'f [&'f Rejection], &'f Blind>,
    addons: &'f [AddonFacts],
}

fn view(
    node: &NodeFacts,
    sight: Sight<'_>,
    catalogue: &Catalogue,
    now: Timestamp,
    longest: SignedDuration,
) -> NodeView {
    let word = sight.report.as_ref().map(|report| reports::weigh(node, report.as_ref(), now, longest));
    let fresh = match word {
        Ok(Word::Fresh(report)) => Some(report),
        _ => None,
    };
    let agent = match word {
        _ if node.is_virtual() => check_of(reports::CHECK, State::Skipped, "no machine: a virtual kubelet".to_owned()),
        Ok(word @ Word::Fresh(_)) => check_of(reports::CHECK, State::Ok, reports::words(word)),
        Ok(word) => check_of(reports::CHECK, State::Blind, reports::words(word)),
        Err(Blind(why)) => blind(reports::CHECK, why),
    };
    let mut checks = vec![agent];
    let mut found = Vec::new();
    let mut take = |name: &str, verdict: Result<NodeVerdict, &Blind>| match verdict {
        Ok(NodeVerdict { findings, detail, blind: unseen }) => {
            let wrong = findings.iter().any(|finding| finding.severity > Severity::Info);
            let state = match (wrong, &unseen) {
                (true, _) => State::Fault,
                (false, Some(_)) => State::Blind,
                (false, None) => State::Ok,
            };
            checks.push(check_of(name, state, unseen.unwrap_or(detail)));
            found.extend(findings);
        }
        Err(Blind(why)) => checks.push(blind(name, why)),
    };
    take(conditions::CHECK, Ok(conditions::of_node(node, now, catalogue)));
    take(allocatable::CHECK, Ok(allocatable::of_node(node, fresh, now, catalogue)));
    take(rejections::CHECK, sight.rejections.map(|all| rejections::of_node(node, all, now, catalogue)));
    take(
        addons::CHECK,
        sight.pods.map(|pods| {
            let owned: Vec<(&AddonFacts, &PodFacts)> =
                pods.iter().filter_map(|pod| Some((addon_of(pod, sight.addons)?, *pod))).collect();
            addons::of_node(&owned, now, catalogue)
        }),
    );
    let (gpus_allocatable, gpus) = allocatable::gpus(node);
    let report = sight.report.ok().flatten();
    let (looked_at, version) = report.as_ref().map_or((None, None), |r| (r.looked_at, Some(r.agent.clone())));
    let mut boot_id = node.boot_id.clone();
    if let Some(report) = report.filter(|_| checks[0].state == State::Ok) {
        boot_id = report.boot_id.or(boot_id);
        // The agent's own come first: they say which device.
        checks.splice(0..0, report.checks);
        found.splice(0..0, report.findings);
    }
    let mut found = unite(found);
    sort(&mut found);
    let findings = Findings {
        schema: FINDINGS_SCHEMA,
        node: Some(node.name.clone()),
        boot_id,
        checks,
        findings: found,
        gpus: Vec::new(),
    };
    NodeView {
        state: state(&findings),
        findings,
        ready: node.is_ready(),
        unschedulable: node.unschedulable,
        gpus_allocatable,
        gpus,
        looked_at,
        agent: version.filter(|version| !version.is_empty()),
    }
}

/// Those of one node.
fn of_node<'f, 't, T>(
    all: &'f Result<BTreeMap<&'t str, Vec<&'t T>>, &'f Blind>,
    node: &str,
) -> Result<&'f [&'t T], &'f Blind> {
    match all {
        Ok(all) => Ok(all.get(node).map_or(&[][..], Vec::as_slice)),
        Err(why) => Err(why),
    }
}

fn addon_of<'f>(pod: &PodFacts, addons: &'f [AddonFacts]) -> Option<&'f AddonFacts> {
    let (kind, name) = pod.owner.as_ref()?;
    addons.iter().find(|addon| addon.kind == *kind && addon.name == *name && addon.namespace == pod.namespace)
}

fn state(findings: &Findings) -> NodeState {
    if findings.findings.iter().any(|finding| finding.severity > Severity::Info) {
        NodeState::Fault
    } else if findings.checks.iter().any(|check| check.state == State::Blind) {
        NodeState::Blind
    } else {
        NodeState::Ok
    }
}

fn check_of(name: &str, state: State, detail: String) -> Check {
    Check { name: name.to_owned(), state, detail }
}

fn blind(name: &str, why: &str) -> Check {
    check_of(name, State::Blind, why.to_owned())
}

fn by<T>(all: Vec<T>, key: impl Fn(&T) -> String) -> BTreeMap<String, Vec<T>> {
    let mut sorted: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for one in all {
        sorted.entry(key(&one)).or_default().push(one);
    }
    sorted
}

fn by_refs<T>(all: &[T], key: impl Fn(&T) -> &String) -> BTreeMap<&str, Vec<&T>> {
    let mut sorted: BTreeMap<&str, Vec<&T>> = BTreeMap::new();
    for one in all {
        sorted.entry(key(one).as_str()).or_default().push(one);
    }
    sorted
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
