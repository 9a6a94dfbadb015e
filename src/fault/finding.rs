//! What was found, as plain data: the JSON contract `aictl.findings/v1`. Fields are only ever added.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalogue::{Catalogue, Component, Severity};
use super::playbook::GpuFacts;

/// Name of the JSON contract.
pub const FINDINGS_SCHEMA: &str = "aictl.findings/v1";

/// What a diagnosis says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// [`FINDINGS_SCHEMA`].
    pub schema: &'static str,
    /// The machine; null in a replay of a log that names none.
    pub node: Option<String>,
    /// Its boot; null in a replay.
    pub boot_id: Option<String>,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// The machine's GPUs, and which must be reset together; where they were looked at.
    #[serde(rename = "reset_groups", skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuFacts>,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// "kernel-log".
    pub name: String,
    /// How it went.
    pub state: State,
    /// For people.
    pub detail: String,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Looked, and nothing is wrong.
    Ok,
    /// Not applicable here.
    Skipped,
    /// Could not look: not a fault, and not health either.
    Blind,
    /// Something is wrong.
    Fault,
}

/// One fault on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Name in the catalogue.
    pub fault: String,
    /// Number of an Xid or SXid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// A few words.
    pub title: String,
    /// What is hit.
    pub component: Component,
    /// Which one.
    pub device: Device,
    /// How bad.
    pub severity: Severity,
    /// How far it reaches.
    pub scope: String,
    /// Bucket of actions.
    pub action: String,
    /// What to do if it comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// How often it was seen.
    pub count: u64,
    /// First time, where known.
    #[schemars(with = "Option<String>")]
    pub first_seen: Option<Timestamp>,
    /// Last time, where known.
    #[schemars(with = "Option<String>")]
    pub last_seen: Option<Timestamp>,
    /// Lines or readings, the first and the latest.
    pub evidence: Vec<String>,
    /// Process that was hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The check that found it.
    pub source: String,
    /// What the rules made of it ("with a row remap event: 48 and 63 on one GPU").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Finding {
    /// A fault that was read off a machine at a time, as the catalogue has it; one that is not in
    /// the catalogue is a warning that is never acted on.
    pub fn read(
        catalogue: &Catalogue,
        fault: &str,
        device: Device,
        evidence: Vec<String>,
        source: &str,
        at: Timestamp,
    ) -> Finding {
        let mut finding = Finding {
            fault: fault.to_owned(),
            code: None,
            title: "not in the catalogue".to_owned(),
            component: Component::Node,
            device,
            severity: Severity::Warning,
            scope: "none".to_owned(),
            action: "INVESTIGATE".to_owned(),
            then: None,
            count: 1,
            first_seen: None,
            last_seen: Some(at),
            evidence,
            pid: None,
            process: None,
            source: source.to_owned(),
            because: None,
        };
        if let Some(entry) = catalogue.get(fault) {
            finding.code = entry.code;
            finding.title.clone_from(&entry.title);
            finding.component = entry.component;
            finding.severity = entry.severity.of(None);
            finding.scope.clone_from(&entry.scope);
            finding.action.clone_from(&entry.action);
            finding.then.clone_from(&entry.then);
        }
        finding
    }
}

/// Which device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// "0000:3b:00.0".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// "GPU-…".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// NVML's index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// MIG: "5", or "5/1" with the compute instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// A disk, a network interface, a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
