//! Objects of any kind that the cluster serves, found by discovery.

use kube::core::{ApiResource, GroupVersion, GroupVersionKind};
use kube::discovery::{ApiCapabilities, Scope};
use serde_json::Value;

use super::list::{self, Choice};
use super::{Cluster, ClusterError, answer};

/// Which objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// "karpenter.sh/v1".
    pub api_version: String,
    /// "NodePool".
    pub kind: String,
}

/// Lists objects: of a namespace, or of all.
///
/// # Errors
/// If the cluster serves no such kind in that version, or they can't be read.
pub async fn objects(
    cluster: &Cluster,
    kind: &Kind,
    namespace: Option<&str>,
    selector: Option<&str>,
) -> Result<Vec<Value>, ClusterError> {
    let (resource, capabilities) = served(cluster, kind).await?;
    let base = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let path = match namespace {
        Some(namespace) if capabilities.scope == Scope::Namespaced => {
            format!("{base}/namespaces/{namespace}/{}", resource.plural)
        }
        _ => format!("{base}/{}", resource.plural),
    };
    let what = format!("cannot list the {} of {}", resource.plural, kind.api_version);
    let choice = Choice { labels: selector.map(str::to_owned), ..Choice::default() };
    list::list(cluster, &what, &path, &choice, |mut object: Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        Some(object)
    })
    .await
}

/// Finds the resource of a kind; says what there is instead where there is none.
async fn served(cluster: &Cluster, kind: &Kind) -> Result<(ApiResource, ApiCapabilities), ClusterError> {
    let what = format!("cannot find {} {}", kind.api_version, kind.kind);
    let missing = |message: String| ClusterError::NotFound { what: what.clone(), message };
    let version: GroupVersion = match kind.api_version.parse() {
        Ok(version) => version,
        Err(_) => return Err(missing("apiVersion is GROUP/VERSION, or v1".to_owned())),
    };
    let client = cluster.client();
    let wanted = GroupVersionKind::gvk(&version.group, &version.version, &kind.kind);
    let path_is_there = versions(cluster, &version.group).await?;
    match path_is_there.as_slice() {
        [] => Err(missing(format!("the cluster has no {}; is its operator installed?", version.group))),
        served if !served.contains(&version.version) => {
            let group = if version.group.is_empty() { "the core group" } else { &version.group };
            Err(missing(format!("{} of {group} is not served; {} is", version.version, served.join(", "))))
        }
        _ => match answer(&what, kube::discovery::pinned_kind(&client, &wanted)).await {
            Ok(found) => Ok(found),
            Err(ClusterError::Unreachable { source, .. }) if matches!(*source, kube::Error::Discovery(_)) => {
                Err(missing(format!("{} has no kind {}", kind.api_version, kind.kind)))
            }
            Err(error) => Err(error),
        },
    }
}

/// Versions of a group that the cluster serves; none if it has no such group.
async fn versions(cluster: &Cluster, group: &str) -> Result<Vec<String>, ClusterError> {
    let client = cluster.client();
    let what = "cannot ask which APIs the cluster serves";
    if group.is_empty() {
        return Ok(answer(what, client.list_core_api_versions()).await?.versions);
    }
    let groups = answer(what, client.list_api_groups()).await?.groups;
    let found = groups.into_iter().find(|found| found.name == group);
    Ok(found.map_or(Vec::new(), |found| found.versions.into_iter().map(|version| version.version).collect()))
}
