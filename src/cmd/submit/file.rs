//! Jobs in YAML: aictl's own kind, and manifests of any other.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Request;
use super::sbatch::Remarks;
use crate::cmd::error::Error;
use crate::queue::engines::kubernetes::pass_through;
use crate::queue::{Draft, Plan, PlanForm, Target};
use crate::view::yaml;

/// Group and version of aictl's own kinds.
const VERSION: &str = "aictl.dev/v1alpha1";

/// aictl's own job.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Job {
    #[allow(dead_code, reason = "read before")]
    api_version: String,
    #[allow(dead_code, reason = "read before")]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    spec: Draft,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: std::collections::BTreeMap<String, String>,
}

/// Only what tells which kind it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

/// Reads a file.
pub fn read(text: &str, path: &Path, flags: Draft, command: Vec<String>, name: &str) -> Result<Request, Error> {
    let wrong = |error: yaml::YamlError| Error::usage(format!("wrong job in {}", path.display())).because(error);
    let head: Head = yaml::from_str(text).map_err(wrong)?;
    if head.api_version.starts_with("aictl.dev/") {
        if (head.api_version.as_str(), head.kind.as_str()) != (VERSION, "Job") {
            return Err(Error::usage(format!("{}: no kind {} of {}", path.display(), head.kind, head.api_version))
                .hint(format!("aictl knows kind Job of {VERSION}")));
        }
        let job: Job = yaml::from_str(text).map_err(wrong)?;
        let mut draft = job.spec;
        draft.name = draft.name.or(job.metadata.name);
        draft.namespace = draft.namespace.or(job.metadata.namespace);
        for (key, value) in job.metadata.labels {
            draft.labels.entry(key).or_insert(value);
        }
        let mut flags = flags;
        flags.command = command;
        let spec = Box::new(flags.over(draft).settle(name)?);
        return Ok(Request::Spec { spec, remarks: Remarks::default() });
    }
    if !command.is_empty() {
        return Err(Error::usage("a manifest has its own command").hint("leave out what follows --"));
    }
    let given = Draft { queue: None, namespace: None, id: None, ..flags.clone() };
    if given != Draft::default() {
        return Err(Error::usage("a manifest is passed on as it is: only --queue, --id and -n can be added")
            .hint(format!("change {} itself, or write a Job of {VERSION}", path.display())));
    }
    let object: Value = yaml::from_str(text).map_err(wrong)?;
    Ok(Request::Manifest { object: Box::new(object), draft: Box::new(flags) })
}

/// The plan of a manifest.
pub fn plan(target: &Target, object: &Value, draft: &Draft) -> Result<Plan, Error> {
    if !target.kind.is_kubernetes() {
        let kind = object["kind"].as_str().unwrap_or("no kind");
        return Err(Error::usage(format!("{} takes no Kubernetes object ({kind})", target.name))
            .hint(format!("--to a cluster, or write it as a Job of {VERSION}, which all engines take")));
    }
    let id = draft.id.clone().unwrap_or_else(|| {
        let digest = Sha256::digest(object.to_string().as_bytes());
        digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    });
    let namespace = draft.namespace.as_deref();
    let object = pass_through(target.kind, object.clone(), draft.queue.as_deref(), namespace, &id)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(Plan { name, submission_id: id, form: PlanForm::Manifest(vec![object]), notes: Vec::new() })
}
