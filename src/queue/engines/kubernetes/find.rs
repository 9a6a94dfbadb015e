//! One job, as it is now.

use kube::core::ApiResource;

use super::kinds::{self, JobKind};
use super::kueue::Workload;
use super::read::{self, AnyJob};
use super::{Kubernetes, list, missing, no_such_job, state};
use crate::queue::{EngineKind, Filter, Job, QueueError, State};

/// What an id names.
pub struct Found {
    /// Its kind.
    pub kind: JobKind,
    /// How it is reached.
    pub resource: ApiResource,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Takes an id apart.
///
/// # Errors
/// If it names nothing that the cluster serves.
pub async fn place(engine: &Kubernetes, id: &str) -> Result<Found, QueueError> {
    let Some((namespace, kind, name)) = kinds::parts(id) else { return Err(no_such_job(engine, id)) };
    let resource = engine.resource(kind.group, kind.kind).await?;
    Ok(Found { kind, resource, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// The Workload of a job; `None` where Kueue has made none.
///
/// # Errors
/// If the cluster can't be asked.
pub async fn workload(engine: &Kubernetes, namespace: &str, uid: &str) -> Result<Option<Workload>, QueueError> {
    let resource = engine.resource("kueue.x-k8s.io", "Workload").await?;
    let cluster = engine.cluster()?;
    // Kueue labels a Workload with its job's uid; earlier versions did not.
    let selector = format!("kueue.x-k8s.io/job-uid={uid}");
    let labelled = read::list::<Workload>(cluster, &resource, Some(namespace), Some(&selector)).await?;
    let own = |workload: &Workload| workload.metadata.owner_references.iter().any(|owner| owner.uid == uid);
    if let Some(found) = labelled.into_iter().find(|workload| own(workload)) {
        return Ok(Some(found));
    }
    let all = read::list::<Workload>(cluster, &resource, Some(namespace), None).await?;
    Ok(all.into_iter().find(own))
}

/// Reads it.
///
/// # Errors
/// If it is gone, or the cluster can't be asked.
pub async fn get(engine: &Kubernetes, id: &str) -> Result<Job, QueueError> {
    let found = place(engine, id).await?;
    let cluster = engine.cluster()?;
    let any: AnyJob = read::get(cluster, &found.resource, Some(&found.namespace), &found.name)
        .await
        .map_err(|error| missing(engine, id, error))?;
    let mut job = match engine.target.kind {
        EngineKind::Kueue => {
            let uid = any.metadata.uid.clone().unwrap_or_default();
            match workload(engine, &found.namespace, &uid).await? {
                Some(workload) => list::with_workload(engine, Some((found.kind, &any)), &workload),
                None => {
                    let mut job = state::job(&engine.target, found.kind, &any);
                    if job.state == State::Pending {
                        job.reason = Some(list::not_looked_at());
                    }
                    job
                }
            }
        }
        EngineKind::Volcano | EngineKind::KubeQueue => {
            let filter = Filter { namespace: Some(found.namespace.clone()), ..Filter::default() };
            let all = list::list(engine, &filter).await?;
            all.into_iter().find(|job| job.id == id).unwrap_or_else(|| state::job(&engine.target, found.kind, &any))
        }
        _ => state::job(&engine.target, found.kind, &any),
    };
    if job.state.is_over() {
        job.exit_code = super::logs::exit_code(engine, &found).await;
        if job.exit_code.is_none() && job.state == State::Succeeded {
            job.exit_code = Some(0);
        }
    }
    Ok(job)
}
