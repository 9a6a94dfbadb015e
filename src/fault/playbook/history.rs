//! What was done so far, as the journal tells it: plain facts, all times counted back from now.

use serde::{Deserialize, Serialize};

use super::super::Finding;
use super::{Clock, DeviceKey, Means, Step, StepKind, StepState};

/// One step of an incident and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What it does, with every setting settled.
    pub step: Step,
    /// On what.
    pub target: String,
    /// How it stands.
    pub state: StepState,
    /// Why.
    pub why: String,
}

/// How an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Not begun.
    Planned,
    /// Steps are left.
    Open,
    /// The attempt failed; another may follow.
    Failed,
    /// Verified, and back in service.
    Restored,
    /// A human goes on.
    HandedOver,
    /// A human took it back.
    Undone,
}

impl Standing {
    /// Name as in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Planned => "planned",
            Standing::Open => "open",
            Standing::Failed => "failed",
            Standing::Restored => "restored",
            Standing::HandedOver => "handed_over",
            Standing::Undone => "undone",
        }
    }
}

/// An event of the kernel's log as it was seen at some moment. What comes on top of it is new,
/// whatever clocks did in between.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Name in the catalogue.
    pub fault: String,
    /// On which device.
    pub device: DeviceKey,
    /// How often it had been seen.
    pub count: u64,
    /// When it was seen last, in seconds since boot.
    pub last_up_s: Option<f64>,
}

/// The machine was isolated by us.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Isolation {
    /// What takes it back; empty: only the marker file.
    pub undo: Vec<String>,
    /// By what in the cluster; none: by `undo`'s counterpart, or by the marker file alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<Means>,
    /// Whether it is known to have worked; else it may have.
    #[serde(default, skip_serializing_if = "is_false")]
    pub done: bool,
}

/// A job whose pods were moved away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Its namespace.
    pub namespace: String,
    /// What made its pods: "Job/train".
    pub owner: String,
    /// Identifier of that.
    pub owner_uid: String,
    /// Identifiers of the pods that were moved.
    pub pods: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A step that was begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Began {
    /// So long ago.
    pub ago_s: f64,
    /// In which boot.
    pub boot_id: String,
    /// Whether its end is known.
    pub ended: bool,
}

/// An incident that the journal knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Its name.
    pub id: String,
    /// On which machine.
    pub node: String,
    /// In which boot it was found.
    pub boot_id: String,
    /// What was found.
    pub finding: Finding,
    /// By which rule.
    pub rule: String,
    /// The number of the latest attempt, from 1.
    pub attempt: u32,
    /// When each attempt began, so long ago.
    pub attempts_ago_s: Vec<f64>,
    /// How it stands.
    pub standing: Standing,
    /// Why.
    pub why: String,
    /// When the journal last told of it, so long ago.
    pub last_ago_s: f64,
    /// When it was closed, so long ago.
    pub closed_ago_s: Option<f64>,
    /// The steps of the latest attempt.
    pub tasks: Vec<Task>,
    /// Which of them were begun in this attempt.
    pub began: Vec<Option<Began>>,
    /// Whether it holds the machine isolated.
    pub isolation: Option<Isolation>,
    /// Jobs whose pods were moved in this attempt.
    pub moved: Vec<Moved>,
    /// The log before the repair.
    pub before: Option<Vec<Mark>>,
    /// The log when the repair was verified, and in which boot.
    pub after: Option<(String, Vec<Mark>)>,
}

impl Past {
    /// Which device.
    pub fn device(&self) -> DeviceKey {
        DeviceKey::of(&self.finding)
    }

    /// Whether a step that repairs was begun in this attempt.
    pub fn repair_began(&self) -> bool {
        self.tasks.iter().zip(&self.began).any(|(task, began)| task.step.step.repairs() && began.is_some())
    }

    /// Whether a repair that was begun has no known end.
    pub fn cut_off(&self) -> Option<StepKind> {
        let open = |began: &Option<Began>| began.as_ref().is_some_and(|began| !began.ended);
        let mut tasks = self.tasks.iter().zip(&self.began);
        tasks.find(|(_, began)| open(began)).map(|(task, _)| task.step.step)
    }
}

/// A finding that was seen once and waits for a second signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Name in the catalogue.
    pub fault: String,
    /// On which device.
    pub device: DeviceKey,
    /// So long ago.
    pub ago_s: f64,
}

/// All that was done so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// In the order in which they were first opened.
    pub incidents: Vec<Past>,
    /// Findings that waited for a second signal.
    pub sightings: Vec<Sighting>,
    /// Nodes that there are, where known.
    pub nodes: Option<u32>,
}

impl History {
    /// The incident of this name.
    pub fn incident(&self, id: &str) -> Option<&Past> {
        self.incidents.iter().find(|past| past.id == id)
    }

    /// Incidents whose steps are not over.
    pub fn open(&self) -> impl Iterator<Item = &Past> {
        self.incidents.iter().filter(|past| past.standing == Standing::Open)
    }
}

impl Mark {
    /// All events of a log as they stand.
    pub fn all(findings: &[Finding], clock: &Clock) -> Vec<Mark> {
        let logged = findings.iter().filter(|finding| super::is_events(&finding.source));
        let mark = |finding: &Finding| Mark {
            fault: finding.fault.clone(),
            device: DeviceKey::of(finding),
            count: finding.count,
            last_up_s: last_up_s(finding, clock),
        };
        logged.map(mark).collect()
    }
}

/// Whether a log's event came on top of what was marked. Both are seconds since boot by the same
/// clock, so it does not matter what the wall clock did.
pub fn is_new(finding: &Finding, marks: &[Mark], clock: &Clock) -> bool {
    let device = DeviceKey::of(finding);
    let Some(mark) = marks.iter().find(|mark| mark.fault == finding.fault && mark.device == device) else {
        return true;
    };
    let later = match (last_up_s(finding, clock), mark.last_up_s) {
        (Some(now), Some(then)) => now > then + 1.0,
        _ => false,
    };
    finding.count > mark.count || later
}

fn last_up_s(finding: &Finding, clock: &Clock) -> Option<f64> {
    finding.last_seen.map(|seen| clock.up_s - clock.ago_s(seen))
}
