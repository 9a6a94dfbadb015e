//! From findings to a plan: which incidents there are, which steps each has, what is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::{Catalogue, Check, Finding, Severity, State};
use super::policy::{self, Refusal};
use super::{
    Clock, DeviceKey, Fleet, History, Past, Playbook, Reach, Rule, Standing, Step, StepKind, StepState, Task,
    incident_id,
};

/// Name of the JSON contract.
pub const PLAN_SCHEMA: &str = "aictl.plan/v1";

/// The check whose findings are events that stay in a log after the fault is gone.
const LOG: &str = "kernel-log";

/// Whether a check tells of events, which stay told after the fault is gone: the kernel's log, and
/// what NVML's events have told since an agent listens.
pub fn is_events(check: &str) -> bool {
    check == LOG || check == super::super::gpu::EVENTS
}

/// All that a plan follows from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What faults are.
    pub catalogue: &'a Catalogue,
    /// What is done about them.
    pub playbook: &'a Playbook,
    /// This machine.
    pub node: &'a str,
    /// Its boot.
    pub boot_id: &'a str,
    /// The machine and the boot that the findings name.
    pub found_on: (Option<&'a str>, Option<&'a str>),
    /// What was found, the worst first.
    pub findings: &'a [Finding],
    /// What was looked at.
    pub checks: &'a [Check],
    /// What was done so far.
    pub history: &'a History,
    /// The moment.
    pub clock: &'a Clock,
    /// Whether the kill switch is thrown.
    pub stopped: bool,
    /// The GPUs of this machine.
    pub gpus: &'a [GpuFacts],
    /// How far the run reaches.
    pub reach: Reach,
    /// The other nodes, where there is a cluster.
    pub fleet: Option<&'a Fleet>,
}

/// A GPU, and those that its reset touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuFacts {
    /// "0000:3b:00.0".
    pub pci: String,
    /// GPUs that must be reset with it, since NVLink joins them; null where that is not known.
    #[serde(default)]
    pub peers: Option<Vec<String>>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: &'static str,
    /// One for each fault that something is done about.
    pub incidents: Vec<Incident>,
    /// What is not done, and why.
    pub refused: Vec<Refused>,
}

/// Steps against one fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incident {
    /// Its name.
    pub id: String,
    /// On which machine.
    pub node: String,
    /// What was found.
    pub finding: Finding,
    /// In this order.
    pub steps: Vec<Planned>,
    /// How it stands.
    pub state: Standing,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// By which rule of the playbook.
    pub rule: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    /// What it does.
    pub step: StepKind,
    /// On what.
    pub target: String,
    /// How it stands.
    pub state: StepState,
    /// Why.
    pub why: String,
    /// All its settings.
    #[serde(skip)]
    pub settings: Step,
}

/// What is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// By which rule of safety.
    pub rule: &'static str,
    /// Why, for people.
    pub why: String,
    /// The fault, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Its device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceKey>,
}

/// What follows from the facts. The same facts give the same plan.
pub fn plan(facts: &Facts<'_>) -> Plan {
    let mut plan = Plan { schema: PLAN_SCHEMA, incidents: Vec::new(), refused: Vec::new() };
    if let Some(refusal) = policy::kill_switch(facts.stopped, &facts.playbook.policy) {
        plan.refused.push(Refused { rule: refusal.rule, why: refusal.why, fault: None, device: None });
        return plan;
    }
    let mut taken: BTreeMap<DeviceKey, String> = BTreeMap::new();
    for past in facts.history.incidents.iter().filter(|past| past.node == facts.node) {
        if let Some(incident) = go_on(past, facts) {
            taken.insert(past.device(), past.id.clone());
            plan.incidents.push(incident);
        }
    }
    for finding in facts.findings.iter().filter(|finding| finding.severity > Severity::Info) {
        let under_way = plan.incidents.iter().filter(|incident| incident.state != Standing::HandedOver).count();
        match consider(finding, facts, &taken, under_way) {
            Considered::Nothing => {}
            Considered::Refused(refusal) => plan.refused.push(Refused {
                rule: refusal.rule,
                why: refusal.why,
                fault: Some(finding.fault.clone()),
                device: Some(DeviceKey::of(finding)),
            }),
            Considered::Act(incident) => {
                taken.insert(DeviceKey::of(finding), incident.id.clone());
                plan.incidents.push(*incident);
            }
        }
    }
    plan
}

enum Considered {
    Nothing,
    Refused(Refusal),
    Act(Box<Incident>),
}

fn consider(finding: &Finding, facts: &Facts<'_>, taken: &BTreeMap<DeviceKey, String>, under_way: usize) -> Considered {
    let (policy, history, clock) = (&facts.playbook.policy, facts.history, facts.clock);
    let device = DeviceKey::of(finding);
    let last = facts.latest(finding);
    if facts.settled(finding) || last.is_some_and(|past| taken.get(&device) == Some(&past.id)) {
        return Considered::Nothing;
    }
    if let Some(refusal) = policy::this_boot(facts.found_on, (facts.node, facts.boot_id))
        .or_else(|| policy::seen(finding, facts.checks))
        .or_else(|| policy::listed(finding, facts.catalogue))
        .or_else(|| last.and_then(|past| with_a_human(past, finding, facts)))
        .or_else(|| policy::fresh(finding, policy, clock, is_log(finding)))
    {
        return Considered::Refused(refusal);
    }
    let Some(rule) = facts.playbook.rule(finding) else {
        let why = format!("no rule for {}, {}", finding.severity.name(), finding.action);
        return Considered::Refused(Refusal { rule: "no_rule", why });
    };
    if rule.steps.is_empty() {
        return Considered::Nothing;
    }
    if let Some(id) = taken.get(&device) {
        let why = format!("{} is under repair already ({id})", device.0);
        return Considered::Refused(Refusal { rule: "same_device", why });
    }
    if let Some(refusal) = policy::second_signal(finding, facts.findings, history, policy)
        .or_else(|| policy::breaker(facts.node, history, facts.fleet, policy))
        .or_else(|| policy::out_of_service(facts.node, facts.fleet, policy))
        .or_else(|| policy::concurrent(under_way, policy))
    {
        return Considered::Refused(refusal);
    }
    let steps = steps(rule, finding, facts);
    if let Some(cap) = policy::attempt_cap(facts.node, finding, history, policy) {
        let hand_over = Planned { why: cap.why, ..facts.planned(&Step::of(StepKind::HandOver), finding) };
        return Considered::Act(Box::new(facts.incident(finding, last, rule, vec![hand_over])));
    }
    let mut refusal = policy::cool_down(finding, history, policy);
    if refusal.is_none() && planned(&steps).any(|step| step.step.disrupts()) {
        refusal = policy::hours(policy, clock);
    }
    let resets = |step: &Planned| step.step == StepKind::ResetGpu;
    if refusal.is_none() && facts.reach != Reach::Central && planned(&steps).any(resets) {
        refusal = policy::blast_radius(facts.gpus_hit(finding), policy);
    }
    match refusal {
        Some(refusal) => Considered::Refused(refusal),
        None => Considered::Act(Box::new(facts.incident(finding, last, rule, steps))),
    }
}

fn planned(steps: &[Planned]) -> impl Iterator<Item = &Planned> {
    steps.iter().filter(|step| step.state == StepState::Planned)
}

fn is_log(finding: &Finding) -> bool {
    is_events(&finding.source)
}

/// What a human has, or has taken back, is a human's.
fn with_a_human(past: &Past, finding: &Finding, facts: &Facts<'_>) -> Option<Refusal> {
    match past.standing {
        Standing::HandedOver => {
            let why = format!("{} was handed to a human; `aictl remediate undo {}` closes it", past.id, past.id);
            Some(Refusal { rule: "handed_over", why })
        }
        Standing::Undone => {
            let undone = past.closed_ago_s.unwrap_or(0.0);
            let cooled = undone >= facts.playbook.policy.attempts_window.as_secs_f64();
            let later = finding.last_seen.is_some_and(|seen| facts.clock.ago_s(seen) + 1.0 < undone);
            let why = format!("{} was undone by a human", past.id);
            (!(later && (is_log(finding) || cooled))).then_some(Refusal { rule: "undone", why })
        }
        _ => None,
    }
}

/// The steps of a rule. Where one that is required can't be done here, nothing is disturbed for
/// its sake: the fault is shown to a human at once.
fn steps(rule: &Rule, finding: &Finding, facts: &Facts<'_>) -> Vec<Planned> {
    let mut steps: Vec<Planned> = rule.steps.iter().map(|step| facts.planned(step, finding)).collect();
    let wall = steps.iter().position(|step| step.state == StepState::Refused && step.settings.is_required());
    let Some(wall) = wall else { return steps };
    let name = steps[wall].step.name();
    for step in &mut steps {
        let harmless = matches!(step.step, StepKind::Isolate | StepKind::Notify | StepKind::HandOver);
        if step.state == StepState::Planned && !harmless {
            step.state = StepState::Skipped;
            step.why = format!("{name} can't be done here");
        }
    }
    if steps.last().is_none_or(|step| step.step != StepKind::HandOver) {
        let why = format!("{name} can't be done here");
        steps.push(Planned { why, ..facts.planned(&Step::of(StepKind::HandOver), finding) });
    }
    steps
}

/// An incident whose steps are not over, as it stands now.
fn go_on(past: &Past, facts: &Facts<'_>) -> Option<Incident> {
    let gone = facts.gone(past);
    let failed_and_gone = past.standing == Standing::Failed && gone;
    if past.standing != Standing::Open && !failed_and_gone {
        return None;
    }
    let mut steps: Vec<Planned> = past.tasks.iter().map(Planned::from).collect();
    if failed_and_gone {
        // It healed by itself, or somebody helped: look again, and put it back.
        for step in steps.iter_mut().filter(|step| matches!(step.step, StepKind::Verify | StepKind::Restore)) {
            (step.state, step.why) = (StepState::Planned, "the fault is no longer seen".to_owned());
        }
        for step in steps.iter_mut().filter(|step| step.state == StepState::Failed) {
            (step.state, step.why) = (StepState::Skipped, "the fault is no longer seen".to_owned());
        }
    }
    if gone && !past.repair_began() {
        for step in steps.iter_mut().filter(|step| step.step.disrupts() && step.state == StepState::Planned) {
            (step.state, step.why) = (StepState::Skipped, "the fault is no longer seen".to_owned());
        }
    }
    Some(Incident {
        id: past.id.clone(),
        node: past.node.clone(),
        finding: past.finding.clone(),
        steps,
        state: Standing::Open,
        attempt: past.attempt,
        rule: past.rule.clone(),
    })
}

impl<'a> Facts<'a> {
    /// The latest incident of the same fault on the same device.
    fn latest(&self, finding: &Finding) -> Option<&'a Past> {
        let device = DeviceKey::of(finding);
        let same = |past: &&Past| past.node == self.node && past.finding.fault == finding.fault;
        let same = self.history.incidents.iter().filter(same).filter(|past| past.device() == device);
        same.min_by(|a, b| a.last_ago_s.total_cmp(&b.last_ago_s))
    }

    /// Whether a log's event is older than a repair of its device that was verified.
    fn settled(&self, finding: &Finding) -> bool {
        let device = DeviceKey::of(finding);
        let repaired = |past: &&Past| past.node == self.node && past.device() == device;
        let marks = |past: &'a Past| past.after.as_ref().filter(|(boot, _)| boot == self.boot_id);
        let mut marks = self.history.incidents.iter().filter(repaired).filter_map(marks);
        is_log(finding) && marks.any(|(_, marks)| !self.is_new(finding, marks))
    }

    /// Whether a log's event came on top of what was marked.
    fn is_new(&self, finding: &Finding, marks: &[super::Mark]) -> bool {
        super::history::is_new(finding, marks, self.clock)
    }

    /// Whether a fault is no longer there. A log keeps its events until the machine restarts: there,
    /// what a verified repair has settled counts as gone.
    fn gone(&self, past: &Past) -> bool {
        let device = past.device();
        let same = self.findings.iter().filter(|found| found.fault == past.finding.fault);
        let mut same = same.filter(|found| DeviceKey::of(found) == device);
        let verified = past.after.as_ref().is_some_and(|(boot, _)| boot == self.boot_id);
        let there = same.any(|found| !(verified && self.settled(found)));
        let looked = self.checks.iter().find(|check| check.name == past.finding.source);
        let looked = looked.is_some_and(|check| matches!(check.state, State::Ok | State::Fault));
        let here = policy::this_boot(self.found_on, (self.node, self.boot_id)).is_none();
        here && looked && !there && (!is_log(&past.finding) || past.boot_id != self.boot_id || verified)
    }

    /// GPUs that a reset of the finding's touches.
    fn gpus_hit(&self, finding: &Finding) -> usize {
        let own = self.gpus.iter().find(|gpu| Some(&gpu.pci) == finding.device.pci.as_ref());
        let peers = own.and_then(|gpu| gpu.peers.as_ref()).map(Vec::len);
        match (finding.scope.as_str(), peers) {
            (_, Some(peers)) => 1 + peers,
            ("gpu" | "process" | "none" | "device" | "job", None) => 1,
            // It reaches further than one GPU, and nobody knows how far.
            (_, None) => self.gpus.len().max(2),
        }
    }

    /// All GPUs that must be reset with the finding's, itself first; empty if it goes alone.
    fn group(&self, finding: &Finding) -> Vec<String> {
        let own = self.gpus.iter().find(|gpu| Some(&gpu.pci) == finding.device.pci.as_ref());
        let peers = own.and_then(|gpu| Some((gpu, gpu.peers.as_ref().filter(|peers| !peers.is_empty())?)));
        peers.map_or_else(Vec::new, |(own, peers)| [&own.pci].into_iter().chain(peers).cloned().collect())
    }

    fn planned(&self, step: &Step, finding: &Finding) -> Planned {
        let mut settings = step.settled(self.playbook, self.reach);
        if matches!(step.step, StepKind::ResetGpu | StepKind::StopHolders) && self.reach != Reach::Central {
            settings.gpus = self.group(finding);
        }
        let (state, why) = match settings.standing(self.reach) {
            Ok(()) if self.reach == Reach::Central && step.step.is_on_the_machine() => {
                (StepState::Planned, "left to the node's own agent".to_owned())
            }
            Ok(()) => (StepState::Planned, String::new()),
            Err(standing) => standing,
        };
        Planned { step: step.step, target: target(&settings, finding, self.node), state, why, settings }
    }

    fn incident(&self, finding: &Finding, last: Option<&Past>, rule: &Rule, steps: Vec<Planned>) -> Incident {
        // A failed attempt is followed by the next, even over a restart of the machine.
        let own = incident_id(self.node, self.boot_id, finding);
        let before = last.filter(|past| past.standing == Standing::Failed || past.id == own);
        let id = before.map_or(own, |past| past.id.clone());
        let attempt = before.map_or(0, |past| past.attempt) + 1;
        Incident {
            id,
            node: self.node.to_owned(),
            finding: finding.clone(),
            steps,
            state: Standing::Planned,
            attempt,
            rule: rule.name.clone(),
        }
    }
}

/// What a step is done to.
fn target(step: &Step, finding: &Finding, node: &str) -> String {
    let device = DeviceKey::of(finding).0;
    match step.step {
        StepKind::Isolate if step.by == Some(super::Means::Gpu) => device,
        StepKind::Isolate | StepKind::Restore | StepKind::Reboot | StepKind::HandOver => node.to_owned(),
        StepKind::Checkpoint if step.save.is_some() => format!("pods in {}", step.namespaces.join(", ")),
        StepKind::Resume => "jobs that were moved".to_owned(),
        StepKind::RestartPod => {
            format!("{} in {}", step.selector.as_deref().unwrap_or_default(), step.namespaces.join(", "))
        }
        StepKind::Notify => step.url.clone().unwrap_or_default(),
        StepKind::Checkpoint => format!("jobs on {node}"),
        StepKind::Evict => format!("pods in {}", step.namespaces.join(", ")),
        StepKind::StopHolders | StepKind::ResetGpu if !step.gpus.is_empty() => step.gpus.join(", "),
        StepKind::StopHolders | StepKind::ResetGpu => device,
        StepKind::RestartService => step.service.clone().unwrap_or_default(),
        StepKind::Script => step.command.first().cloned().unwrap_or_default(),
        StepKind::Verify => finding.source.clone(),
    }
}

impl From<&Task> for Planned {
    fn from(task: &Task) -> Planned {
        Planned {
            step: task.step.step,
            target: task.target.clone(),
            state: task.state,
            why: task.why.clone(),
            settings: task.step.clone(),
        }
    }
}

impl From<&Planned> for Task {
    fn from(planned: &Planned) -> Task {
        Task {
            step: planned.settings.clone(),
            target: planned.target.clone(),
            state: planned.state,
            why: planned.why.clone(),
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
