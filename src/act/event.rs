//! What people are told: one CloudEvent for each step that tells.

use jiff::Timestamp;
use serde::Serialize;

use crate::fault::Finding;
use crate::fault::playbook::{DeviceKey, Incident, StepKind};

/// A CloudEvent 1.0 in its JSON form.
#[derive(Debug, Serialize)]
struct CloudEvent<'e> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: String,
    time: Timestamp,
    datacontenttype: &'static str,
    data: Data<'e>,
}

#[derive(Debug, Serialize)]
struct Data<'e> {
    schema: &'static str,
    incident: &'e str,
    attempt: u32,
    node: &'e str,
    rule: &'e str,
    why: &'e str,
    finding: &'e Finding,
}

/// The event of a step. A step that is repeated after a crash gives the same id, by which
/// receivers know the event again.
pub fn cloud_event(incident: &Incident, step: usize, kind: StepKind, why: &str, now: Timestamp) -> String {
    let event = CloudEvent {
        specversion: "1.0",
        id: format!("{}-{}-{step}", incident.id, incident.attempt),
        source: format!("aictl/{}", incident.node),
        kind: match kind {
            StepKind::HandOver => "aictl.remediate.handed_over",
            _ => "aictl.remediate.opened",
        },
        subject: format!("{} on {}", incident.finding.fault, DeviceKey::of(&incident.finding).0),
        time: now,
        datacontenttype: "application/json",
        data: Data {
            schema: "aictl.incident/v1",
            incident: &incident.id,
            attempt: incident.attempt,
            node: &incident.node,
            rule: &incident.rule,
            why,
            finding: &incident.finding,
        },
    };
    serde_json::to_string(&event).unwrap_or_default()
}
