//! The only file that changes a cluster for preloading: makes and removes Jobs, and what peers share.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::manifest::Fleet;
use crate::cluster::{Cluster, ClusterError, answer};

/// Who we are in `managedFields`.
const MANAGER: &str = "aictl";
/// A Job that is deleted is gone by then.
const GONE: Duration = Duration::from_secs(60);

/// Makes an object; one that is there already is as good, since its name says what it is.
async fn make<K>(api: &Api<K>, kind: &str, object: &Value) -> Result<(), ClusterError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug + serde::Serialize,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let what = format!("cannot make {kind} {name}");
    let read = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError);
    let object: K = read.map_err(|error| ClusterError::of(&what, error))?;
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match answer(&what, api.create(&parameters, &object)).await {
        Err(ClusterError::Refused { code: 409, .. }) => Ok(()),
        made => made.map(|_| ()),
    }
}

/// Makes a node's Job.
///
/// # Errors
/// If the server says no, or can't be asked.
pub async fn job(cluster: &Cluster, fleet: &Fleet, node: &str) -> Result<(), ClusterError> {
    make(&Api::<Job>::namespaced(cluster.client(), &fleet.namespace), "Job", &fleet.job(node)).await
}

/// Makes what peers share. A token that is there already stays: pods that run have it.
///
/// # Errors
/// If the server says no, or can't be asked.
pub async fn shared(cluster: &Cluster, fleet: &Fleet) -> Result<(), ClusterError> {
    let token: String = (0..32).map(|_| fastrand::alphanumeric()).collect();
    let objects = fleet.shared(&token);
    let (client, namespace) = (cluster.client(), &fleet.namespace);
    if let [service, secret] = objects.as_slice() {
        make(&Api::<Secret>::namespaced(client.clone(), namespace), "Secret", secret).await?;
        make(&Api::<Service>::namespaced(client, namespace), "Service", service).await?;
    }
    Ok(())
}

/// Removes a Job that has ended, and waits until its name is free.
///
/// # Errors
/// If the server says no, or it does not go.
pub async fn remove_job(cluster: &Cluster, fleet: &Fleet, name: &str) -> Result<(), ClusterError> {
    let api = Api::<Job>::namespaced(cluster.client(), &fleet.namespace);
    let what = format!("cannot delete Job {name}");
    match answer(&what, api.delete(name, &DeleteParams::background())).await {
        Err(error) if error.is_not_found() => return Ok(()),
        deleted => deleted.map(|_| ())?,
    }
    let since = std::time::Instant::now();
    while answer(&what, api.get_opt(name)).await?.is_some() {
        if since.elapsed() > GONE {
            return Err(ClusterError::Silent { what, after: GONE });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Removes what peers shared, once none of them runs.
///
/// # Errors
/// If the server says no, or can't be asked.
pub async fn remove_shared(cluster: &Cluster, fleet: &Fleet) -> Result<(), ClusterError> {
    // Who may not touch Secrets needs not to, without peers.
    if fleet.peers.is_none() {
        return Ok(());
    }
    let (client, name) = (cluster.client(), fleet.name());
    let parameters = DeleteParams::background();
    let services = Api::<Service>::namespaced(client.clone(), &fleet.namespace);
    let secrets = Api::<Secret>::namespaced(client, &fleet.namespace);
    let what = format!("cannot delete Service {name}");
    let gone = answer(&what, services.delete(&name, &parameters)).await.map(|_| ());
    let what = format!("cannot delete Secret {name}");
    let also = answer(&what, secrets.delete(&name, &parameters)).await.map(|_| ());
    for removed in [gone, also] {
        match removed {
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// The Jobs of a fleet.
///
/// # Errors
/// If they can't be listed.
pub async fn jobs(cluster: &Cluster, fleet: &Fleet) -> Result<Vec<Job>, ClusterError> {
    let api = Api::<Job>::namespaced(cluster.client(), &fleet.namespace);
    let list = ListParams::default().labels(&fleet.selector());
    Ok(answer("cannot list Jobs", api.list(&list)).await?.items)
}
