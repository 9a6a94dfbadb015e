//! What the journal holds: one record a line, as JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fault::Finding;
use crate::fault::playbook::{DeviceKey, Isolation, Mark, Moved, Standing, StepKind, StepState, Task};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counts from 1, without gaps.
    pub seq: u64,
    /// The time, by a clock that may be wrong.
    pub at: Timestamp,
    /// Seconds since boot, which can't be.
    pub up_s: f64,
    /// Which boot.
    pub boot_id: String,
    /// On which machine.
    pub node: String,
    /// Who ran aictl.
    pub who: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An attempt was begun.
    Opened {
        /// Which incident.
        incident: String,
        /// Number of the attempt.
        attempt: u32,
        /// By which rule of the playbook.
        rule: String,
        /// What was found.
        finding: Box<Finding>,
        /// What is to be done.
        tasks: Vec<Task>,
    },
    /// A step was added to an attempt.
    Added {
        /// Which incident.
        incident: String,
        /// The step.
        task: Box<Task>,
    },
    /// A step is about to be done.
    Began {
        /// Which incident.
        incident: String,
        /// Number of the attempt.
        attempt: u32,
        /// Number of the step, from 0.
        step: usize,
        /// Its kind.
        kind: StepKind,
        /// What takes the isolation back, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        isolation: Option<Isolation>,
        /// The log as it was, if the step repairs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        marks: Option<Vec<Mark>>,
        /// The jobs whose pods it moves.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        moved: Vec<Moved>,
    },
    /// A step ended.
    Ended {
        /// Which incident.
        incident: String,
        /// Number of the attempt.
        attempt: u32,
        /// Number of the step, from 0.
        step: usize,
        /// Its kind.
        kind: StepKind,
        /// How.
        state: StepState,
        /// Why.
        why: String,
        /// The log as it was, if the step verified.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        marks: Option<Vec<Mark>>,
    },
    /// An attempt is over.
    Closed {
        /// Which incident.
        incident: String,
        /// Number of the attempt.
        attempt: u32,
        /// How.
        standing: Standing,
        /// Why.
        why: String,
    },
    /// A soft fault waits for a second signal.
    Seen {
        /// Name in the catalogue.
        fault: String,
        /// On which device.
        device: DeviceKey,
    },
}

impl Event {
    /// Which incident it is about.
    pub fn incident(&self) -> Option<&str> {
        match self {
            Event::Opened { incident, .. }
            | Event::Added { incident, .. }
            | Event::Began { incident, .. }
            | Event::Ended { incident, .. }
            | Event::Closed { incident, .. } => Some(incident),
            Event::Seen { .. } => None,
        }
    }
}
