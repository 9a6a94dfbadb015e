//! The rules of safety, each on its own: facts in, a refusal or nothing out.

use std::collections::BTreeSet;

use jiff::{Timestamp, civil::DateTime};
use serde::{Deserialize, Serialize};

use super::super::{Catalogue, Check, Finding, Severity, State};
use super::{DeviceKey, History, Hours, Past, Span, Standing};

/// Rules of safety.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// While this file is there, nothing is changed.
    pub kill_switch: String,
    /// Older events are history.
    pub max_age: Span,
    /// Attempts on one fault of one device within `attempts_window`; then a human.
    pub attempts_per_incident: u32,
    /// Attempts on one node within `attempts_window`; then a human.
    pub attempts_per_node: u32,
    /// See the two above.
    pub attempts_window: Span,
    /// Between two attempts on one device.
    pub cool_down: Span,
    /// How long an incident may wait, for holders to end, say; then a human.
    pub patience: Span,
    /// Incidents under way at once on one node.
    pub concurrent: u32,
    /// Stops everything where too many nodes are hit: then it is not the nodes.
    pub breaker: Breaker,
    /// Nodes of the cluster that may be out of service at once, whoever took them out.
    pub out_of_service: OutOfService,
    /// GPUs that one repair may touch.
    pub blast_radius: u32,
    /// Faults that need a second signal whatever their severity; warnings always do.
    pub soft: Vec<String>,
    /// How long a first signal waits for a second.
    pub second_signal_within: Span,
    /// How long the first must have been there before the same check's word counts again.
    pub second_signal_after: Span,
    /// Hours in which no work may be disturbed.
    pub quiet_hours: Vec<Hours>,
    /// Hours in which alone work may be disturbed; none given: always.
    pub windows: Vec<Hours>,
    /// Time zone of the hours: "Europe/Amsterdam"; the machine's if not given.
    pub time_zone: Option<String>,
}

/// When to stop everything: both limits must be passed where the number of nodes is known.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// More nodes than these with an attempt within `window`.
    pub nodes: u32,
    /// A larger share of all nodes than this, from 0 to 1.
    pub share: f64,
    /// See above.
    pub window: Span,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { nodes: 5, share: 0.2, window: Span::seconds(600) }
    }
}

/// How many nodes may be out of service at once: both limits must be passed to stop.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutOfService {
    /// More nodes than these.
    pub nodes: u32,
    /// A larger share of all nodes than this, from 0 to 1.
    pub share: f64,
}

impl Default for OutOfService {
    fn default() -> OutOfService {
        OutOfService { nodes: 5, share: 0.2 }
    }
}

/// The other nodes of the cluster, as they are now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fleet {
    /// How many there are, with this one.
    pub nodes: u32,
    /// Those that aictl holds isolated, and since when, in seconds.
    pub isolated: Vec<(String, f64)>,
    /// Those that are out of service otherwise: cordoned, or not ready.
    pub unhealthy: Vec<String>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            kill_switch: "/etc/aictl/stop".to_owned(),
            max_age: Span::seconds(3600),
            attempts_per_incident: 2,
            attempts_per_node: 4,
            attempts_window: Span::seconds(86_400),
            cool_down: Span::seconds(1800),
            patience: Span::seconds(6 * 3600),
            concurrent: 1,
            breaker: Breaker::default(),
            out_of_service: OutOfService::default(),
            blast_radius: 1,
            soft: Vec::new(),
            second_signal_within: Span::seconds(3600),
            second_signal_after: Span::seconds(60),
            quiet_hours: Vec::new(),
            windows: Vec::new(),
            time_zone: None,
        }
    }
}

impl Policy {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.kill_switch.trim().is_empty() {
            return Err("kill_switch is empty: everything must have a way to be stopped".to_owned());
        }
        for (name, number) in [
            ("attempts_per_incident", self.attempts_per_incident),
            ("attempts_per_node", self.attempts_per_node),
            ("concurrent", self.concurrent),
        ] {
            if number == 0 {
                return Err(format!("{name} is 0: nothing would ever be done; use the kill switch for that"));
            }
        }
        for (name, share) in [("breaker", self.breaker.share), ("out_of_service", self.out_of_service.share)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name}.share is not between 0 and 1"));
            }
        }
        Ok(())
    }
}

/// The clocks of the moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// The time.
    pub now: Timestamp,
    /// The same, where the hours of the policy are.
    pub local: DateTime,
    /// Seconds since boot.
    pub up_s: f64,
}

impl Clock {
    /// How long ago a moment was; negative if it is still to come.
    pub fn ago_s(&self, moment: Timestamp) -> f64 {
        self.now.duration_since(moment).as_secs_f64()
    }
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Name of the rule.
    pub rule: &'static str,
    /// Why, for people.
    pub why: String,
}

fn no(rule: &'static str, why: impl Into<String>) -> Option<Refusal> {
    Some(Refusal { rule, why: why.into() })
}

/// Clocks that differ by less are taken as equal, in seconds.
const CLOCK_GRACE_S: f64 = 300.0;
/// Clocks step at boot.
const BOOT_GRACE_S: f64 = 60.0;

/// The kill switch: one file stops everything.
pub fn kill_switch(present: bool, policy: &Policy) -> Option<Refusal> {
    if present { no("kill_switch", format!("{} is there", policy.kill_switch)) } else { None }
}

/// A code that is in no catalogue is never acted on, nor one that no driver prints.
pub fn listed(finding: &Finding, catalogue: &Catalogue) -> Option<Refusal> {
    match catalogue.get(&finding.fault) {
        None => no("unlisted", format!("{} is in no catalogue", finding.fault)),
        Some(entry) if entry.unused => no("unlisted", format!("no driver prints {}", finding.fault)),
        Some(_) => None,
    }
}

/// What a blind check says is neither a fault nor health.
pub fn seen(finding: &Finding, checks: &[Check]) -> Option<Refusal> {
    let check = checks.iter().find(|check| check.name == finding.source)?;
    (check.state == State::Blind).then(|| Refusal { rule: "blind", why: format!("the check {} is blind", check.name) })
}

/// Findings of another machine or of another boot say nothing about this one.
pub fn this_boot(found: (Option<&str>, Option<&str>), here: (&str, &str)) -> Option<Refusal> {
    match found {
        (Some(node), _) if node != here.0 => no("node", format!("found on {node}, this is {}", here.0)),
        (None, _) => no("node", "the findings name no node"),
        (_, None) => no("boot_id", "the findings name no boot"),
        (_, Some(boot)) if boot != here.1 => no("boot_id", "found before the machine's last boot"),
        _ => None,
    }
}

/// Old events are history; events of the future mean that a clock is wrong.
pub fn fresh(finding: &Finding, policy: &Policy, clock: &Clock, is_log: bool) -> Option<Refusal> {
    let Some(last) = finding.last_seen else {
        return if is_log { no("max_age", "nobody knows when it was") } else { None };
    };
    let ago = clock.ago_s(last);
    if ago < -CLOCK_GRACE_S {
        return no("clock", format!("seen {:.0} s in the future: a clock is wrong", -ago));
    }
    if ago > clock.up_s + BOOT_GRACE_S {
        return no("boot_id", "it was before the machine's last boot");
    }
    // Only events age: what a check reads is so now.
    if is_log && ago > policy.max_age.as_secs_f64() {
        return no("max_age", format!("last seen {:.0} s ago, at most {} is acted on", ago, policy.max_age));
    }
    None
}

/// A soft fault needs a second signal: seen twice, or by two checks.
pub fn second_signal(finding: &Finding, all: &[Finding], history: &History, policy: &Policy) -> Option<Refusal> {
    let soft = finding.severity <= Severity::Warning || policy.soft.contains(&finding.fault);
    let device = DeviceKey::of(finding);
    let other = all.iter().any(|other| other.source != finding.source && DeviceKey::of(other) == device);
    let within = policy.second_signal_after.as_secs_f64()..=policy.second_signal_within.as_secs_f64();
    let before = history.sightings.iter().any(|sighting| {
        sighting.fault == finding.fault && sighting.device == device && within.contains(&sighting.ago_s)
    });
    if !soft || finding.count > 1 || other || before {
        return None;
    }
    no("second_signal", "a soft fault, seen once by one check")
}

/// Attempts on a fault of a device within the window, the boot aside.
pub fn attempts_on(fault: &str, device: &DeviceKey, history: &History, policy: &Policy) -> usize {
    let same = |past: &&Past| past.finding.fault == fault && past.device() == *device;
    count_attempts(history.incidents.iter().filter(same), policy.attempts_window)
}

/// Attempts on a node within the window.
pub fn attempts_on_node(node: &str, history: &History, policy: &Policy) -> usize {
    count_attempts(history.incidents.iter().filter(|past| past.node == node), policy.attempts_window)
}

fn count_attempts<'a>(incidents: impl Iterator<Item = &'a Past>, window: Span) -> usize {
    let window = window.as_secs_f64();
    incidents.flat_map(|past| &past.attempts_ago_s).filter(|ago| **ago < window).count()
}

/// After so many attempts a human takes over.
pub fn attempt_cap(node: &str, finding: &Finding, history: &History, policy: &Policy) -> Option<Refusal> {
    let on = attempts_on(&finding.fault, &DeviceKey::of(finding), history, policy);
    if on >= policy.attempts_per_incident as usize {
        return no("attempt_cap", format!("{on} attempts on it within {}", policy.attempts_window));
    }
    let on = attempts_on_node(node, history, policy);
    if on >= policy.attempts_per_node as usize {
        return no("attempt_cap", format!("{on} attempts on this node within {}", policy.attempts_window));
    }
    None
}

/// Two attempts on one device are some time apart; each fault of each device has a timer of its own.
pub fn cool_down(finding: &Finding, history: &History, policy: &Policy) -> Option<Refusal> {
    let device = DeviceKey::of(finding);
    let ended = |past: &&Past| past.device() == device && past.standing != Standing::Open;
    let last = history.incidents.iter().filter(ended).map(|past| past.last_ago_s).reduce(f64::min)?;
    let cool = policy.cool_down.as_secs_f64();
    if last >= cool {
        return None;
    }
    no("cool_down", format!("the last attempt on {} ended {last:.0} s ago, less than {}", device.0, policy.cool_down))
}

/// Quiet hours, and hours outside of the windows: no work is disturbed.
pub fn hours(policy: &Policy, clock: &Clock) -> Option<Refusal> {
    if policy.quiet_hours.iter().any(|hours| hours.contain(clock.local)) {
        return no("quiet_hours", "these are quiet hours");
    }
    if !policy.windows.is_empty() && !policy.windows.iter().any(|hours| hours.contain(clock.local)) {
        return no("windows", "no maintenance window is open");
    }
    None
}

/// So many incidents under way at once.
pub fn concurrent(under_way: usize, policy: &Policy) -> Option<Refusal> {
    if under_way < policy.concurrent as usize {
        return None;
    }
    no("concurrent", format!("{under_way} under way on this node, at most {}", policy.concurrent))
}

/// Many nodes hit at once: something else is wrong.
pub fn breaker(node: &str, history: &History, fleet: Option<&Fleet>, policy: &Policy) -> Option<Refusal> {
    let limit = policy.breaker;
    let window = limit.window.as_secs_f64();
    let recent = |past: &&Past| past.attempts_ago_s.iter().any(|ago| *ago < window);
    let mut nodes: BTreeSet<&str> = history.incidents.iter().filter(recent).map(|past| past.node.as_str()).collect();
    let isolated = fleet.iter().flat_map(|fleet| &fleet.isolated);
    nodes.extend(isolated.filter(|(_, ago)| *ago < window).map(|(name, _)| name.as_str()));
    nodes.insert(node);
    let many = nodes.len() > limit.nodes as usize;
    let all = fleet.map(|fleet| fleet.nodes).or(history.nodes);
    let share = all.map(|all| nodes.len() as f64 / f64::from(all.max(1)));
    if many && share.is_none_or(|share| share > limit.share) {
        return no("breaker", format!("{} nodes within {}, at most {}", nodes.len(), limit.window, limit.nodes));
    }
    None
}

/// A cluster keeps nodes to work with, whatever is wrong with them.
pub fn out_of_service(node: &str, fleet: Option<&Fleet>, policy: &Policy) -> Option<Refusal> {
    let (fleet, limit) = (fleet?, policy.out_of_service);
    let mut nodes: BTreeSet<&str> = fleet.isolated.iter().map(|(name, _)| name.as_str()).collect();
    nodes.extend(fleet.unhealthy.iter().map(String::as_str));
    nodes.insert(node);
    let share = nodes.len() as f64 / f64::from(fleet.nodes.max(1));
    if nodes.len() > limit.nodes as usize && share > limit.share {
        let all = fleet.nodes;
        return no("out_of_service", format!("it would be {} of {all} nodes, at most {}", nodes.len(), limit.nodes));
    }
    None
}

/// Whether another node may be isolated now; asked once more at the moment of acting.
pub fn too_many_nodes(node: &str, history: &History, fleet: &Fleet, policy: &Policy) -> Option<Refusal> {
    breaker(node, history, Some(fleet), policy).or_else(|| out_of_service(node, Some(fleet), policy))
}

/// A repair touches no more GPUs than allowed.
pub fn blast_radius(hit: usize, policy: &Policy) -> Option<Refusal> {
    if hit <= policy.blast_radius as usize {
        return None;
    }
    no("blast_radius", format!("{hit} GPUs would be hit, at most {} may be", policy.blast_radius))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
pub(super) mod tests;
