//! KServe's LocalModelCache: a copy of a model on each node of some groups
//! (pkg/apis/serving/v1alpha1/local_model_cache_types.go of the project).

use serde_json::{Value, json};

use super::super::source::{Bucketry, Source};
use super::objects::Kinds;
use super::{Intent, Planned, PlatformError, Standing, clean};
use crate::cluster::Cluster;

const VERSION: &str = "serving.kserve.io/v1alpha1";

/// What KServe is to keep.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// The source.
    pub source: Source,
    /// Name of the object.
    pub name: String,
    /// Groups of nodes.
    pub groups: Vec<String>,
    /// Size of the model in bytes: KServe makes room by it.
    pub bytes: u64,
}

impl LocalModel {
    /// Looks what is there, and says what will be done. Nothing is changed.
    ///
    /// # Errors
    /// If it is not installed, has no such group, or the name is another model's.
    pub async fn plan(&self, cluster: &Cluster) -> Result<Vec<Planned>, PlatformError> {
        let fit = match &self.source {
            Source::Hub { kind, .. } => *kind == "models",
            Source::Bucket { store, .. } => matches!(store, Bucketry::S3 | Bucketry::Gs),
            Source::Claim { .. } => true,
            _ => false,
        };
        if !fit {
            return Err(PlatformError::Unfit {
                what: format!("KServe's local model cache does not read {}", self.source),
                hint: "it takes hf://, s3://, gs:// and pvc://; others go by --nodes -l LABELS".to_owned(),
            });
        }
        let mut known = Kinds::default();
        let there = known.find(cluster, VERSION, "LocalModelCache", &self.name).await?;
        for group in &self.groups {
            if known.find(cluster, VERSION, "LocalModelNodeGroup", group).await?.is_none() {
                return Err(PlatformError::Unfit {
                    what: format!("there is no LocalModelNodeGroup {group}"),
                    hint: "kubectl get localmodelnodegroups lists them".to_owned(),
                });
            }
        }
        let uri = self.source.to_string();
        let action = match &there {
            None => Intent::Create,
            Some(there) if there["spec"]["sourceModelUri"] != uri.as_str() => {
                return Err(PlatformError::Unfit {
                    what: format!("the LocalModelCache {} is of another source", self.name),
                    hint: "give another name: --dataset NAME".to_owned(),
                });
            }
            Some(_) => Intent::Reuse,
        };
        let manifest = json!({
            "apiVersion": VERSION, "kind": "LocalModelCache",
            "metadata": {"name": self.name, "labels": {"app.kubernetes.io/managed-by": "aictl"}},
            "spec": {"sourceModelUri": uri, "modelSize": self.bytes.to_string(), "nodeGroups": self.groups},
        });
        Ok(vec![Planned { action, kind: "LocalModelCache".to_owned(), name: self.name.clone(), manifest }])
    }
}

/// How it stands: all nodes must have it.
pub fn standing(object: &Value) -> Standing {
    let none = serde_json::Map::new();
    let nodes = object["status"]["nodeStatus"].as_object().unwrap_or(&none);
    let count = |wanted: &str| nodes.values().filter(|state| *state == wanted).count();
    let (there, failed) = (count("NodeDownloaded"), count("NodeDownloadError"));
    let total = object["status"]["copies"]["total"].as_u64().unwrap_or(nodes.len() as u64);
    let detail = Some(format!("{there} of {total} nodes"));
    let under_way =
        nodes.values().any(|state| matches!(state.as_str(), Some("NodeDownloading" | "NodeDownloadPending")));
    if total > 0 && there as u64 == total {
        return Standing { phase: "Downloaded".to_owned(), detail, done: Some(true) };
    }
    if failed > 0 && !under_way {
        let bad: Vec<String> =
            nodes.iter().filter(|(_, state)| *state == "NodeDownloadError").map(|(node, _)| clean(node)).collect();
        let detail = Some(format!("{there} of {total} nodes; failed on {}", bad.join(", ")));
        return Standing { phase: "DownloadError".to_owned(), detail, done: Some(false) };
    }
    let phase = if under_way { "Downloading" } else { "Pending" };
    Standing { phase: phase.to_owned(), detail, done: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_nodes_must_have_it() {
        let stands = |nodes: Value, total: u64| {
            let found = standing(&json!({"status": {"nodeStatus": nodes, "copies": {"total": total}}}));
            (found.phase, found.done)
        };
        assert_eq!(stands(json!({}), 0), ("Pending".to_owned(), None));
        assert_eq!(stands(json!({"a": "NodeDownloaded", "b": "NodeDownloading"}), 2).1, None);
        assert_eq!(stands(json!({"a": "NodeDownloaded", "b": "NodeDownloaded"}), 2).1, Some(true));
        assert_eq!(stands(json!({"a": "NodeDownloaded", "b": "NodeDownloadError"}), 2).1, Some(false));
        assert_eq!(stands(json!({"a": "NodeDownloaded"}), 2).1, None);
    }
}
