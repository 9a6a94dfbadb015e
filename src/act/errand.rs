//! Errands: one change to one node that a command was asked for, outside of any playbook. They pass
//! the same gate and stand in the same kind of journal, so that a later run knows what was ours.

use std::time::Duration;

use jiff::Timestamp;

use super::change::{Change, ClusterChange};
use super::gate::{Beginning, Gate, Held};
use super::hands::Putting;
use super::steps::judged;
use crate::fault::playbook::{Incident, Isolation, Means, Planned, Standing, Step, StepKind, StepState};
use crate::fault::{Component, Device, Finding, Severity};

/// Longest time that one change may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be done to a node, and under which name it stands.
#[derive(Debug, Clone, Copy)]
pub struct Errand<'e> {
    /// The incident's name in journal and annotations; the same for the same thing on a node.
    pub id: &'e str,
    /// Which node, as the journal has it.
    pub node: &'e str,
    /// On whose behalf: "queue-sync".
    pub rule: &'e str,
    /// Why, for people.
    pub why: &'e str,
}

/// How it is done.
#[derive(Debug, Clone, Copy)]
pub enum Way<'e> {
    /// By a command: a program and its arguments.
    Run(&'e [String]),
    /// By a cordon of a node of the cluster.
    Cordon(&'e str),
    /// By the end of our cordon there.
    Uncordon(&'e str),
}

impl Errand<'_> {
    /// Takes the node out of service; from then on the journal holds it as ours.
    ///
    /// # Errors
    /// If it may not be done now, or the journal can't be written.
    pub fn take_out(
        &self,
        gate: &mut Gate<'_>,
        way: Way<'_>,
        undo: &[String],
        now: Timestamp,
    ) -> Result<(StepState, String), Held> {
        let attempt = self.open(gate, &[StepKind::Isolate, StepKind::Restore], now)?;
        let means = matches!(way, Way::Cordon(_)).then_some(Means::Cordon);
        let isolation = Isolation { undo: undo.to_vec(), means, done: false };
        let beginning = Beginning { isolation: Some(isolation), ..Beginning::default() };
        let (state, why) = self.step(gate, (attempt, 0, StepKind::Isolate), way, beginning, now)?;
        if state == StepState::Failed {
            gate.closed(self.id, attempt, Standing::Failed, &why)?;
        }
        Ok((state, why))
    }

    /// Puts back what [`Errand::take_out`] took out.
    ///
    /// # Errors
    /// As there.
    pub fn put_back(&self, gate: &mut Gate<'_>, way: Way<'_>, now: Timestamp) -> Result<(StepState, String), Held> {
        let attempt = match self.standing(gate) {
            Some((attempt, Standing::Open)) => attempt,
            // A journal that was lost, or another machine's: what is ours bears our mark all the same.
            _ => self.open(gate, &[StepKind::Isolate, StepKind::Restore], now)?,
        };
        let (state, why) = self.step(gate, (attempt, 1, StepKind::Restore), way, Beginning::default(), now)?;
        if state == StepState::Done {
            gate.closed(self.id, attempt, Standing::Restored, self.why)?;
        }
        Ok((state, why))
    }

    /// Does something that needs no end of its own.
    ///
    /// # Errors
    /// As there.
    pub fn once(&self, gate: &mut Gate<'_>, way: Way<'_>, now: Timestamp) -> Result<(StepState, String), Held> {
        let attempt = self.open(gate, &[StepKind::Script], now)?;
        let (state, why) = self.step(gate, (attempt, 0, StepKind::Script), way, Beginning::default(), now)?;
        let standing = if state == StepState::Failed { Standing::Failed } else { Standing::Restored };
        gate.closed(self.id, attempt, standing, if why.is_empty() { self.why } else { &why })?;
        Ok((state, why))
    }

    /// Has the journal know that there is nothing left to put back.
    ///
    /// # Errors
    /// If the journal can't be written.
    pub fn forget(&self, gate: &mut Gate<'_>) -> Result<(), Held> {
        match self.standing(gate) {
            Some((attempt, Standing::Open)) => gate.closed(self.id, attempt, Standing::Undone, self.why),
            _ => Ok(()),
        }
    }

    fn standing(&self, gate: &Gate<'_>) -> Option<(u32, Standing)> {
        gate.history().incident(self.id).map(|past| (past.attempt, past.standing))
    }

    fn open(&self, gate: &mut Gate<'_>, steps: &[StepKind], now: Timestamp) -> Result<u32, Held> {
        let attempt = self.standing(gate).map_or(0, |(attempt, _)| attempt) + 1;
        let planned = |kind: &StepKind| Planned {
            step: *kind,
            target: self.node.to_owned(),
            state: StepState::Planned,
            why: self.why.to_owned(),
            settings: Step::of(*kind),
        };
        gate.opened(&Incident {
            id: self.id.to_owned(),
            node: self.node.to_owned(),
            finding: self.finding(now),
            steps: steps.iter().map(planned).collect(),
            state: Standing::Planned,
            attempt,
            rule: self.rule.to_owned(),
        })?;
        Ok(attempt)
    }

    fn finding(&self, now: Timestamp) -> Finding {
        Finding {
            fault: self.rule.to_owned(),
            code: None,
            title: self.why.to_owned(),
            component: Component::Node,
            device: Device::default(),
            severity: Severity::Info,
            scope: "node".to_owned(),
            action: "NONE".to_owned(),
            then: None,
            count: 1,
            first_seen: Some(now),
            last_seen: Some(now),
            evidence: vec![self.why.to_owned()],
            pid: None,
            process: None,
            source: self.rule.to_owned(),
            because: None,
        }
    }

    fn step(
        &self,
        gate: &mut Gate<'_>,
        (attempt, step, kind): (u32, usize, StepKind),
        way: Way<'_>,
        beginning: Beginning,
        now: Timestamp,
    ) -> Result<(StepState, String), Held> {
        let pass = gate.begin(self.id, attempt, step, kind, TIMEOUT, beginning)?;
        let who = gate.who();
        let cluster = |change| Change::Cluster { change, timeout: TIMEOUT };
        let did = match way {
            Way::Run(words) => gate.change(&pass, &Change::Run { words, environment: &[], timeout: TIMEOUT })?,
            Way::Cordon(node) => gate.change(
                &pass,
                &cluster(ClusterChange::Isolate(Putting {
                    node,
                    means: Means::Cordon,
                    no_execute: false,
                    incident: self.id,
                    fault: self.rule,
                    who: &who,
                    now,
                })),
            )?,
            Way::Uncordon(node) => gate.change(&pass, &cluster(ClusterChange::Release { node, incident: self.id }))?,
        };
        let (state, why) = judged(did);
        gate.end(pass, state, &why, None)?;
        Ok((state, why))
    }
}
