//! Objects of kinds that may not be installed: asked for, made, removed.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use super::{Planned, PlatformError};
use crate::cluster::{Cluster, ClusterError, answer};

/// Who we are in `managedFields`.
const MANAGER: &str = "aictl";
/// An object that is deleted is gone by then.
const GONE: Duration = Duration::from_secs(60);

/// The kinds of some objects, as the cluster serves them.
#[derive(Debug, Default)]
pub struct Kinds {
    /// By apiVersion and kind: the resource, and whether it is in a namespace.
    known: BTreeMap<(String, String), (ApiResource, bool)>,
}

/// The kinds that a cluster serves in a group: name, plural, whether in a namespace. None if it has no
/// such group.
///
/// # Errors
/// If it can't be asked.
pub async fn served(cluster: &Cluster, group_version: &str) -> Result<Vec<(String, String, bool)>, ClusterError> {
    let what = format!("cannot see what {} serves of {group_version}", cluster.name());
    match answer(&what, cluster.client().list_api_group_resources(group_version)).await {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        list => Ok(list?.resources.into_iter().map(|kind| (kind.kind, kind.name, kind.namespaced)).collect()),
    }
}

impl Kinds {
    /// The kinds of planned objects.
    ///
    /// # Errors
    /// If one is not served.
    pub async fn of(cluster: &Cluster, planned: &[Planned]) -> Result<Kinds, PlatformError> {
        let mut kinds = Kinds::default();
        for one in planned {
            let version = one.manifest["apiVersion"].as_str().unwrap_or_default().to_owned();
            kinds.learn(cluster, &version, &one.kind).await?;
        }
        Ok(kinds)
    }

    /// Learns a kind.
    ///
    /// # Errors
    /// If it is not served.
    pub async fn learn(&mut self, cluster: &Cluster, version: &str, kind: &str) -> Result<(), PlatformError> {
        let key = (version.to_owned(), kind.to_owned());
        if self.known.contains_key(&key) {
            return Ok(());
        }
        let served = served(cluster, version).await?;
        // Subresources have the kind's name, and a slash.
        let found = served.into_iter().find(|(name, plural, _)| name == kind && !plural.contains('/'));
        let Some((_, plural, namespaced)) = found else {
            let what = if version.starts_with("data.fluid.io/") { "Fluid" } else { "KServe's local model cache" };
            let (cluster, group) = (cluster.name().to_owned(), format!("{kind} of {version}"));
            return Err(PlatformError::NotInstalled { what, cluster, group });
        };
        let (group, short) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, short, kind), &plural);
        self.known.insert(key, (resource, namespaced));
        Ok(())
    }

    fn api(&self, cluster: &Cluster, version: &str, kind: &str) -> Option<Api<DynamicObject>> {
        let (resource, namespaced) = self.known.get(&(version.to_owned(), kind.to_owned()))?;
        Some(match namespaced {
            true => Api::namespaced_with(cluster.client(), cluster.namespace(), resource),
            false => Api::all_with(cluster.client(), resource),
        })
    }

    fn api_of(&self, cluster: &Cluster, one: &Planned) -> Result<Api<DynamicObject>, ClusterError> {
        let version = one.manifest["apiVersion"].as_str().unwrap_or_default();
        self.api(cluster, version, &one.kind).ok_or_else(|| ClusterError::NotFound {
            what: format!("cannot find {} {}", one.kind, one.name),
            message: "its kind was not looked for".to_owned(),
        })
    }

    /// An object by kind and name, or nothing.
    ///
    /// # Errors
    /// If the kind is not served, or the cluster can't be asked.
    pub async fn find(
        &mut self,
        cluster: &Cluster,
        version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<Value>, PlatformError> {
        self.learn(cluster, version, kind).await?;
        let Some(api) = self.api(cluster, version, kind) else { return Ok(None) };
        let found = answer(&format!("cannot get {kind} {name}"), api.get_opt(name)).await?;
        Ok(found.map(|object| serde_json::to_value(object).unwrap_or_default()))
    }

    /// A planned object as it is now.
    ///
    /// # Errors
    /// If it is not there, or the cluster can't be asked.
    pub async fn get(&self, cluster: &Cluster, one: &Planned) -> Result<Value, ClusterError> {
        let api = self.api_of(cluster, one)?;
        let found = answer(&format!("cannot get {} {}", one.kind, one.name), api.get(&one.name)).await?;
        Ok(serde_json::to_value(found).unwrap_or_default())
    }

    /// Makes a planned object; one that came to be meanwhile is as good.
    ///
    /// # Errors
    /// If the cluster says no, or can't be asked.
    pub async fn make(&self, cluster: &Cluster, one: &Planned) -> Result<(), ClusterError> {
        let api = self.api_of(cluster, one)?;
        let what = format!("cannot make {} {}", one.kind, one.name);
        let object: DynamicObject = serde_json::from_value(one.manifest.clone())
            .map_err(|error| ClusterError::of(&what, kube::Error::SerdeError(error)))?;
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match answer(&what, api.create(&parameters, &object)).await {
            Err(ClusterError::Refused { code: 409, .. }) => Ok(()),
            made => made.map(|_| ()),
        }
    }

    /// Removes a planned object, and waits until its name is free.
    ///
    /// # Errors
    /// If the cluster says no, or it does not go.
    pub async fn remove(&self, cluster: &Cluster, one: &Planned) -> Result<(), ClusterError> {
        let api = self.api_of(cluster, one)?;
        let what = format!("cannot delete {} {}", one.kind, one.name);
        match answer(&what, api.delete(&one.name, &DeleteParams::background())).await {
            Err(error) if error.is_not_found() => return Ok(()),
            deleted => deleted.map(|_| ())?,
        }
        let since = std::time::Instant::now();
        while answer(&what, api.get_opt(&one.name)).await?.is_some() {
            if since.elapsed() > GONE {
                return Err(ClusterError::Silent { what, after: GONE });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}
