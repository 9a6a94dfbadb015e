//! What the agents of nodes publish: the resource `nodefindings.aictl.dev`, one object a node.

#![allow(clippy::duplicated_attributes, reason = "columns of one type are no duplicates")]

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::list::{self, Choice};
use super::{Cluster, ClusterError};
use crate::fault::cluster::Report;
use crate::fault::{Check, Finding};

/// Where they are served.
const PATH: &str = "/apis/aictl.dev/v1alpha1/nodefindings";
/// Nodes that are asked for one by one; beyond that all are listed.
const ONE_BY_ONE: usize = 20;

/// What aictl found on a node when it last looked. The object has the node's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "aictl.dev",
    version = "v1alpha1",
    kind = "NodeFindings",
    plural = "nodefindings",
    singular = "nodefindings",
    category = "aictl",
    doc = "What aictl found on the node of the same name when it last looked.",
    printcolumn(name = "STATE", type_ = "string", json_path = ".spec.state"),
    printcolumn(name = "WORST", type_ = "string", json_path = ".spec.worst"),
    printcolumn(name = "GPUS", type_ = "integer", json_path = ".spec.gpus"),
    printcolumn(name = "AGENT", type_ = "string", json_path = ".spec.agent", priority = "1"),
    printcolumn(name = "LOOKED", type_ = "date", json_path = ".spec.lookedAt")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeFindingsSpec {
    /// When the agent looked last.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub looked_at: Timestamp,
    /// The agent's version.
    pub agent: String,
    /// Longest time between two publications that the agent promises, in seconds.
    pub refresh_seconds: u64,
    /// GPUs on the node's bus; absent where the agent could not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u64>,
    /// ok, fault or blind.
    pub state: String,
    /// Name of the worst fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<String>,
    /// What was found, as `aictl diagnose --local -o json` prints it.
    pub report: PublishedFindings,
}

/// The contract `aictl.findings/v1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedFindings {
    /// "aictl.findings/v1".
    pub schema: String,
    /// The node.
    pub node: Option<String>,
    /// Its boot.
    pub boot_id: Option<String>,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

/// The definition of the resource, as deploy/ has it.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = NodeFindings::crd();
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(schema) = schema
            && let Ok(mut written) = serde_json::to_value(&*schema)
        {
            known_formats(&mut written);
            if let Ok(read) = serde_json::from_value(written) {
                *schema = read;
            }
        }
    }
    definition
}

/// Leaves the formats that API servers know; of others they warn whoever installs the resource.
fn known_formats(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let unknown = fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"));
            if unknown {
                fields.remove("format");
            }
            fields.values_mut().for_each(known_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(known_formats),
        _ => {}
    }
}

/// Reads what agents have published: of all nodes, or of a few that are named. `None` if the
/// cluster has no such resource: no agent was ever installed.
///
/// # Errors
/// If it can't be read.
pub async fn reports(cluster: &Cluster, nodes: Option<&[&str]>) -> Result<Option<Vec<Report>>, ClusterError> {
    let what = format!("cannot list the nodefindings.aictl.dev of {}", cluster.name());
    if let Some(names) = nodes.filter(|names| names.len() <= ONE_BY_ONE) {
        let mut found = Vec::new();
        for name in names {
            let what = format!("cannot get nodefindings.aictl.dev {name}");
            found.extend(list::get::<Item>(cluster, &what, PATH, name).await?.map(Item::report));
        }
        // Nothing at all may mean that there is no such resource, which only a list tells.
        if !found.is_empty() {
            return Ok(Some(found));
        }
        let listed = list::some::<Item>(cluster, &what, PATH).await;
        return match listed {
            Ok(()) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
    }
    // What agents say is up to minutes old; a moment more does not count.
    let choice = Choice { cached: true, ..Choice::default() };
    match list::list(cluster, &what, PATH, &choice, |item: Item| Some(item.report())).await {
        Ok(reports) => Ok(Some(reports)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct Item {
    metadata: Name,
    // One agent of another version must not hide all others, so each is read by itself.
    #[serde(default)]
    spec: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

impl Item {
    /// What can't be read is a report without a time, which nobody takes for health.
    fn report(self) -> Report {
        let node = self.metadata.name;
        let spec = self.spec.and_then(|spec| serde_json::from_str::<NodeFindingsSpec>(spec.get()).ok());
        let Some(spec) = spec else { return Report { node, ..Report::default() } };
        Report {
            node,
            looked_at: Some(spec.looked_at),
            refresh_s: spec.refresh_seconds,
            agent: spec.agent,
            gpus: spec.gpus,
            boot_id: spec.report.boot_id,
            checks: spec.report.checks,
            findings: spec.report.findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_version_hides_only_itself() {
        let read = |spec: &str| {
            let text = format!(r#"{{"metadata": {{"name": "a", "managedFields": []}}, "spec": {spec}}}"#);
            serde_json::from_str::<Item>(&text).unwrap().report()
        };
        let known = read(
            r#"{"lookedAt": "2026-11-24T10:00:00Z", "agent": "0.1.0", "refreshSeconds": 120, "state": "ok", "new": 1,
            "report": {"schema": "aictl.findings/v1", "node": "a", "boot_id": "b", "checks": [], "findings": []}}"#,
        );
        assert_eq!((known.refresh_s, known.boot_id.as_deref()), (120, Some("b")));
        assert!(known.looked_at.is_some());
        assert_eq!(read(r#"{"lookedAt": 7}"#), Report { node: "a".to_owned(), ..Report::default() });
        assert_eq!(read("null").looked_at, None);
    }

    #[test]
    fn the_schema_has_no_format_that_servers_do_not_know() {
        let text = serde_json::to_string(&definition()).unwrap();
        assert!(text.contains("\"format\":\"date-time\"") && !text.contains("uint"), "{text}");
    }
}
