//! Carries a plan out, step by step, and tells what became of it.

use std::time::Duration;

use super::Eyes;
use super::gate::{Gate, Held};
use super::steps::{self, Doing, End};
use crate::fault::playbook::{
    Filling, Incident, Past, Plan, Planned, Policy, Standing, Step, StepKind, StepState, Task, attempts_on,
    attempts_on_node,
};

/// A plan being carried out.
#[derive(Debug)]
pub struct Run<'r> {
    gate: Gate<'r>,
    policy: &'r Policy,
    eyes: &'r dyn Eyes,
    /// Incidents for which something was done or tried.
    touched: Vec<String>,
}

impl std::fmt::Debug for dyn Eyes + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Eyes")
    }
}

impl<'r> Run<'r> {
    /// Carries out through a gate.
    pub fn new(gate: Gate<'r>, policy: &'r Policy, eyes: &'r dyn Eyes) -> Run<'r> {
        Run { gate, policy, eyes, touched: Vec::new() }
    }

    /// How everything stands by the journal.
    pub fn history(&self) -> crate::fault::playbook::History {
        self.gate.history()
    }

    /// Incidents for which something was done or tried.
    pub fn touched(&self) -> &[String] {
        &self.touched
    }

    /// Carries a plan out, and writes into it what became of each step. Stops early if nothing
    /// more may be done now; then says why.
    pub fn carry_out(&mut self, plan: &mut Plan) -> Option<Held> {
        if !self.gate.is_dry() {
            for refused in plan.refused.iter().filter(|refused| refused.rule == "second_signal") {
                if let (Some(fault), Some(device)) = (&refused.fault, &refused.device) {
                    let known = self.history().sightings.iter().any(|seen| {
                        let within = seen.ago_s <= self.policy.second_signal_within.as_secs_f64();
                        seen.fault == *fault && seen.device == *device && within
                    });
                    if !known && let Err(held) = self.gate.seen(fault, device.clone()) {
                        return Some(held);
                    }
                }
            }
        }
        for incident in &mut plan.incidents {
            if let Err(held) = self.incident(incident) {
                if let Some(step) = incident.steps.iter_mut().find(|step| step.state == StepState::Planned) {
                    step.why = held.why();
                }
                return Some(held);
            }
        }
        None
    }

    fn incident(&mut self, incident: &mut Incident) -> Result<(), Held> {
        if incident.state == Standing::Planned && !self.gate.is_dry() {
            self.touched.push(incident.id.clone());
            self.gate.opened(incident)?;
            incident.state = Standing::Open;
        }
        let mut index = 0;
        while index < incident.steps.len() {
            match incident.steps[index].state {
                StepState::Planned => {}
                StepState::Failed if incident.steps[index].settings.is_required() => {
                    // The last run ended before it could say so.
                    return self.fail(incident, index);
                }
                StepState::Skipped => {
                    self.settle(incident, index)?;
                    index += 1;
                    continue;
                }
                _ => {
                    index += 1;
                    continue;
                }
            }
            let before = incident.steps[index].clone();
            match self.step(incident, index)? {
                End::Is(state, why) => {
                    let step = &mut incident.steps[index];
                    (step.state, step.why) = (state, why);
                    self.settle(incident, index)?;
                    if state == StepState::Failed && before.settings.is_required() && before.step != StepKind::HandOver
                    {
                        return self.fail(incident, index);
                    }
                }
                End::Wait(why) => {
                    let step = &mut incident.steps[index];
                    (step.state, step.why) = (StepState::Refused, why);
                    if before.settings.is_required() {
                        return self.wait(incident, index);
                    }
                }
                End::Away(why) => {
                    incident.steps[index].why = why;
                    return Ok(());
                }
            }
            index += 1;
        }
        self.close(incident)
    }

    fn step(&mut self, incident: &Incident, index: usize) -> Result<End, Held> {
        let history = self.gate.history();
        let planned = &incident.steps[index];
        let filling = Filling::of(&incident.node, &incident.id, &incident.finding).together(&planned.settings.gpus);
        let doing = Doing { incident, index, step: &planned.settings, history: &history, filling };
        if !self.gate.is_dry() {
            self.gate.check(None, Duration::ZERO)?;
        }
        let end = steps::perform(&doing, &mut self.gate, self.eyes)?;
        if !matches!(end, End::Wait(_)) && !self.touched.contains(&incident.id) {
            self.touched.push(incident.id.clone());
        }
        Ok(end)
    }

    /// Has the journal know of a step that ended without anything to change.
    fn settle(&mut self, incident: &Incident, index: usize) -> Result<(), Held> {
        if self.gate.is_dry() {
            return Ok(());
        }
        let step = &incident.steps[index];
        let history = self.gate.history();
        let known = history.incident(&incident.id).and_then(|past| past.tasks.get(index));
        if known.is_some_and(|task| task.state == step.state) {
            return Ok(());
        }
        let place = (incident.id.as_str(), incident.attempt, index);
        self.gate.settle(place, step.step, step.state, &step.why)
    }

    /// An incident that waits, for holders to end, say: not for ever.
    fn wait(&mut self, incident: &mut Incident, index: usize) -> Result<(), Held> {
        let history = self.gate.history();
        let since = history.incident(&incident.id).and_then(|past| past.attempts_ago_s.last().copied());
        if self.gate.is_dry() || since.is_none_or(|since| since < self.policy.patience.as_secs_f64()) {
            return Ok(());
        }
        incident.steps[index].state = StepState::Failed;
        incident.steps[index].why.push_str(&format!("; waited for {}", self.policy.patience));
        self.settle(incident, index)?;
        self.hand_over(incident, "it waited too long")
    }

    /// Ends a failed attempt; the last one goes to a human.
    fn fail(&mut self, incident: &mut Incident, index: usize) -> Result<(), Held> {
        let why = format!("{}: {}", incident.steps[index].step.name(), incident.steps[index].why);
        if self.gate.is_dry() {
            return Ok(());
        }
        let history = self.gate.history();
        let finding = &incident.finding;
        let device = crate::fault::playbook::DeviceKey::of(finding);
        let on_it = attempts_on(&finding.fault, &device, &history, self.policy);
        let on_node = attempts_on_node(&incident.node, &history, self.policy);
        if on_it >= self.policy.attempts_per_incident as usize || on_node >= self.policy.attempts_per_node as usize {
            return self.hand_over(incident, &format!("{on_it} attempts failed; the last: {why}"));
        }
        incident.state = Standing::Failed;
        self.gate.closed(&incident.id, incident.attempt, Standing::Failed, &why)
    }

    fn hand_over(&mut self, incident: &mut Incident, why: &str) -> Result<(), Held> {
        let index = match incident.steps.iter().position(|step| step.step == StepKind::HandOver) {
            Some(index) => index,
            None => {
                let mut settings = Step::of(StepKind::HandOver);
                // To the address that was to be told of it.
                if let Some(notify) = incident.steps.iter().find(|step| step.step == StepKind::Notify) {
                    settings.url.clone_from(&notify.settings.url);
                    settings.token_file.clone_from(&notify.settings.token_file);
                }
                let (target, why) = (incident.node.clone(), why.to_owned());
                let step = Planned { step: StepKind::HandOver, target, state: StepState::Planned, why, settings };
                self.gate.added(&incident.id, Task::from(&step))?;
                incident.steps.push(step);
                incident.steps.len() - 1
            }
        };
        if incident.steps[index].state == StepState::Planned
            && let End::Is(state, why) = self.step(incident, index)?
        {
            (incident.steps[index].state, incident.steps[index].why) = (state, why);
            self.settle(incident, index)?;
        }
        incident.state = Standing::HandedOver;
        self.gate.closed(&incident.id, incident.attempt, Standing::HandedOver, why)
    }

    /// All steps are over.
    fn close(&mut self, incident: &mut Incident) -> Result<(), Held> {
        if self.gate.is_dry() {
            return Ok(());
        }
        let done = |kind| incident.steps.iter().any(|step| step.step == kind && step.state == StepState::Done);
        let (standing, why) = if done(StepKind::HandOver) {
            (Standing::HandedOver, "the playbook leaves it to a human")
        } else if done(StepKind::Verify) {
            (Standing::Restored, "verified")
        } else {
            (Standing::HandedOver, "no step verified it")
        };
        incident.state = standing;
        self.gate.closed(&incident.id, incident.attempt, standing, why)
    }

    /// Takes our own isolation back and closes an incident, as a human asked for.
    ///
    /// # Errors
    /// If it may not be done now; and in words, if it could not be done.
    pub fn undo(&mut self, past: &Past) -> Result<Result<String, String>, Held> {
        self.gate.check(None, Duration::ZERO)?;
        let settings = Step::of(StepKind::Restore);
        let mut incident = Incident {
            id: past.id.clone(),
            node: past.node.clone(),
            finding: past.finding.clone(),
            steps: past.tasks.iter().map(Planned::from).collect(),
            state: past.standing,
            attempt: past.attempt,
            rule: past.rule.clone(),
        };
        let step = Planned {
            step: StepKind::Restore,
            target: past.node.clone(),
            state: StepState::Planned,
            why: "undo".to_owned(),
            settings,
        };
        self.gate.added(&past.id, Task::from(&step))?;
        incident.steps.push(step);
        let index = incident.steps.len() - 1;
        let said = match self.step(&incident, index)? {
            End::Is(StepState::Failed, why) => return Ok(Err(why)),
            End::Is(StepState::Planned, why) | End::Wait(why) | End::Away(why) => return Ok(Ok(why)),
            End::Is(_, why) => why,
        };
        self.gate.closed(&past.id, past.attempt, Standing::Undone, "a human took it back")?;
        Ok(Ok(said))
    }
}
