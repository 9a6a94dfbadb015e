//! Everything that changes a cluster for a job: making its objects, and orders to its engine.
//!
//! Each is sent again while the server is away or busy: objects have names of their own, so that a
//! lost answer never makes two.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::find::{self, Found};
use super::object::{self, HELD_QUEUE_LABEL, KUEUE_PRIORITY, KUEUE_QUEUE, SUBMISSION_LABEL};
use super::{Kubernetes, kinds, missing};
use crate::cluster::{ClusterError, answer};
use crate::queue::engine::{DryRun, Plan, PlanForm, Submitted};
use crate::queue::{EngineKind, QueueError};

/// Who we are in `managedFields`.
const MANAGER: &str = "aictl";
/// How often a request is sent at most while the server is away or busy.
const TRIES: u32 = 4;

/// Sends a request until it is answered, waiting longer each time.
async fn patiently<T, F: Future<Output = kube::Result<T>>>(
    what: &str,
    send: impl Fn() -> F,
) -> Result<T, ClusterError> {
    let mut tried = 1;
    loop {
        match answer(what, send()).await {
            // Somebody else's change or an object that is there already does not go away by itself.
            Err(error) if error.is_passing() && tried < TRIES && !is_conflict(&error) && !is_silent(&error) => {
                let milliseconds = 200u64 << tried;
                tokio::time::sleep(Duration::from_millis(milliseconds + fastrand::u64(0..milliseconds))).await;
                tried += 1;
            }
            answered => return answered,
        }
    }
}

fn is_conflict(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Refused { code: 409, .. })
}

/// A server that hung once for the whole deadline is not waited for again.
fn is_silent(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Silent { .. })
}

fn resource_of(engine_served: &super::Served, object: &Value) -> ApiResource {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    engine_served.of_object(version, kind).unwrap_or_else(|| {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    })
}

fn api(client: Client, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, resource)
}

/// Makes a plan's objects: the owner first, what it owns after it. What can't be made whole is taken
/// back.
///
/// # Errors
/// If the server refuses or can't be asked, or another submission has the name.
pub async fn submit(engine: &Kubernetes, plan: &Plan, dry_run: DryRun) -> Result<Submitted, QueueError> {
    let PlanForm::Manifest(objects) = &plan.form else {
        return Err(QueueError::Invalid { what: "a cluster takes objects only".to_owned(), hint: String::new() });
    };
    let Some((first, rest)) = objects.split_first() else {
        return Err(QueueError::Invalid { what: "the plan is empty".to_owned(), hint: String::new() });
    };
    let (cluster, served) = (engine.cluster()?, engine.served().await?);
    let namespace = first["metadata"]["namespace"].as_str().unwrap_or_else(|| cluster.namespace());
    let parameters = PostParams { dry_run: dry_run == DryRun::Server, field_manager: Some(MANAGER.to_owned()) };
    let mut owner = first.clone();
    if dry_run == DryRun::No {
        // Whose it is can't be read off the object otherwise.
        if let Ok(user) = user(engine).await {
            owner["metadata"]["annotations"][object::OWNER] = json!(user);
        }
    }
    let resource = resource_of(served, &owner);
    let owners = api(cluster.client(), &resource, namespace);
    let (made, existed) = make(&owners, &resource, &owner, &parameters, &plan.submission_id).await?;
    let name = made.metadata.name.clone().unwrap_or_default();
    let short = kinds::of(&resource.group, &resource.kind)
        .map_or_else(|| resource.kind.to_lowercase(), |kind| kind.short.to_owned());
    for object in rest {
        let mut object = object.clone();
        if dry_run == DryRun::No {
            object["metadata"]["ownerReferences"] = json!([{
                "apiVersion": resource.api_version, "kind": resource.kind, "name": name,
                "uid": made.metadata.uid, "controller": true,
            }]);
        }
        let kind = resource_of(served, &object);
        let made =
            make(&api(cluster.client(), &kind, namespace), &kind, &object, &parameters, &plan.submission_id).await;
        if let Err(error) = made {
            if existed || dry_run == DryRun::Server {
                return Err(error);
            }
            let left = format!("-n {namespace} {}/{name}", short);
            return match delete(&owners, &resource, &name).await {
                Ok(()) => Err(error),
                Err(_) => Err(QueueError::LeftBehind { what: error.to_string(), left: vec![left] }),
            };
        }
    }
    let id = kinds::id(namespace, &short, &name);
    if dry_run == DryRun::No && !existed && engine.target.kind == EngineKind::Volcano && is_held(first) {
        // Volcano has no switch in the job: it is made, and stopped at once.
        let found = find::place(engine, &id).await?;
        if let Err(error) = command(engine, &found, "AbortJob").await {
            // It would run, which nobody asked for.
            return match delete(&owners, &resource, &name).await {
                Ok(()) => Err(error),
                Err(_) => {
                    let left = vec![format!("-n {namespace} {short}/{name}")];
                    Err(QueueError::LeftBehind { what: error.to_string(), left })
                }
            };
        }
    }
    Ok(Submitted { id, existed, warnings: Vec::new() })
}

fn is_held(object: &Value) -> bool {
    let annotations = &object["metadata"]["annotations"];
    [object::AFTER, object::NEEDS_MODEL, object::HELD].iter().any(|name| annotations[name].is_string())
}

/// Makes one object; an object that the same submission made before is as good.
async fn make(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
    object: &Value,
    parameters: &PostParams,
    submission: &str,
) -> Result<(DynamicObject, bool), QueueError> {
    let object: DynamicObject = serde_json::from_value(object.clone()).map_err(|error| QueueError::Invalid {
        what: format!("the {} is no Kubernetes object: {error}", resource.kind),
        hint: "aictl submit --dry-run shows it".to_owned(),
    })?;
    let name = object.metadata.name.clone().unwrap_or_default();
    let what = format!("cannot make {} {name}", resource.kind);
    let mut tried = 1;
    let there = loop {
        let error = match patiently(&what, || api.create(parameters, &object)).await {
            Ok(made) => return Ok((made, false)),
            Err(error) if is_conflict(&error) || error.is_passing() => error,
            Err(error) => return Err(error.into()),
        };
        // It may be there from an earlier try, whose answer was lost.
        match crate::cluster::read(&what, || api.get_opt(&name)).await {
            Ok(Some(there)) => break there,
            // A conflict about something else than the name, such as a quota that many write at once.
            Ok(None) if is_conflict(&error) && tried < TRIES => {
                tokio::time::sleep(Duration::from_millis(100 << tried)).await;
                tried += 1;
            }
            Ok(None) | Err(_) => return Err(error.into()),
        }
    };
    let of = there.metadata.labels.as_ref().and_then(|labels| labels.get(SUBMISSION_LABEL));
    if of.is_some_and(|of| of == submission) {
        return Ok((there, true));
    }
    Err(QueueError::Refused {
        what,
        message: format!(
            "another {} has that name{}",
            resource.kind,
            of.map_or(String::new(), |of| format!(", of submission {of}"))
        ),
    })
}

async fn delete(api: &Api<DynamicObject>, resource: &ApiResource, name: &str) -> Result<(), ClusterError> {
    let what = format!("cannot delete {} {name}", resource.kind);
    let parameters = DeleteParams::background();
    match patiently(&what, || api.delete(name, &parameters)).await {
        Err(error) if error.is_not_found() => Ok(()),
        deleted => deleted.map(|_| ()),
    }
}

async fn patch(engine: &Kubernetes, found: &Found, patch: Value) -> Result<(), QueueError> {
    patch_object(engine, &found.resource, &found.namespace, &found.name, patch).await
}

async fn patch_object(
    engine: &Kubernetes,
    resource: &ApiResource,
    namespace: &str,
    name: &str,
    patch: Value,
) -> Result<(), QueueError> {
    let api = api(engine.cluster()?.client(), resource, namespace);
    let what = format!("cannot change {} {name}", resource.kind);
    let (parameters, patch) =
        (PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }, Patch::Merge(&patch));
    patiently(&what, || api.patch(name, &parameters, &patch))
        .await
        .map_err(|error| missing(engine, &format!("{namespace}/{name}"), error))?;
    Ok(())
}

/// Deletes the job's object; what it owns goes with it.
///
/// # Errors
/// If it is gone already, or the server says no.
pub async fn cancel(engine: &Kubernetes, id: &str) -> Result<(), QueueError> {
    let found = find::place(engine, id).await?;
    let api = api(engine.cluster()?.client(), &found.resource, &found.namespace);
    let what = format!("cannot delete {} {}", found.resource.kind, found.name);
    let parameters = DeleteParams::background();
    let deleted = patiently(&what, || api.delete(&found.name, &parameters)).await;
    deleted.map(|_| ()).map_err(|error| missing(engine, id, error))
}

/// The Workload of a job, by name.
async fn workload(engine: &Kubernetes, found: &Found) -> Result<Option<(ApiResource, String)>, QueueError> {
    let resource = engine.resource("kueue.x-k8s.io", "Workload").await?;
    let job: super::read::AnyJob =
        super::read::get(engine.cluster()?, &found.resource, Some(&found.namespace), &found.name)
            .await
            .map_err(|error| missing(engine, &found.name, error))?;
    let uid = job.metadata.uid.unwrap_or_default();
    let workload = find::workload(engine, &found.namespace, &uid).await?;
    Ok(workload.map(|workload| (resource, workload.metadata.name)))
}

fn unsupported(engine: &Kubernetes, what: &str, instead: &str) -> QueueError {
    QueueError::Unsupported {
        engine: engine.target.kind.to_string(),
        what: what.to_owned(),
        instead: instead.to_owned(),
    }
}

/// Switches a job off by its own field.
async fn suspend(engine: &Kubernetes, found: &Found, to: bool) -> Result<(), QueueError> {
    let Some(pointer) = found.kind.suspend else {
        return Err(unsupported(
            engine,
            &format!("hold a {}", found.kind.kind),
            "cancel it and submit it again with --hold",
        ));
    };
    let mut change = json!({});
    object::set(&mut change, pointer, json!(to));
    patch(engine, found, change).await
}

/// Holds a job.
///
/// # Errors
/// If the engine has no way to, or the server says no.
pub async fn hold(engine: &Kubernetes, id: &str) -> Result<(), QueueError> {
    let found = find::place(engine, id).await?;
    match engine.target.kind {
        EngineKind::Kueue => match workload(engine, &found).await? {
            Some((resource, name)) => {
                patch_object(engine, &resource, &found.namespace, &name, json!({"spec": {"active": false}})).await
            }
            // Kueue has not seen it: without the label it never will.
            None => move_label(engine, &found, KUEUE_QUEUE, HELD_QUEUE_LABEL).await,
        },
        EngineKind::Volcano => command(engine, &found, "AbortJob").await,
        EngineKind::KubeQueue => Err(unsupported(engine, "hold a job", "cancel it and submit it again with --hold")),
        _ => suspend(engine, &found, true).await,
    }
}

/// Releases a job.
///
/// # Errors
/// If the server says no.
pub async fn release(engine: &Kubernetes, id: &str) -> Result<(), QueueError> {
    let found = find::place(engine, id).await?;
    match engine.target.kind {
        EngineKind::Kueue => {
            move_label(engine, &found, HELD_QUEUE_LABEL, KUEUE_QUEUE).await?;
            match workload(engine, &found).await? {
                Some((resource, name)) => {
                    patch_object(engine, &resource, &found.namespace, &name, json!({"spec": {"active": true}})).await
                }
                None => Ok(()),
            }
        }
        EngineKind::Volcano => command(engine, &found, "ResumeJob").await,
        EngineKind::KubeQueue if found.kind == kinds::JOB => {
            Err(unsupported(engine, "release a Job", "submit it again without --hold"))
        }
        EngineKind::KubeQueue => {
            let change = json!({"metadata": {"annotations": {object::KUBE_QUEUE_SUSPEND: "true"}}});
            patch(engine, &found, change).await
        }
        _ => suspend(engine, &found, false).await,
    }
}

/// Moves a label's value to another label, where it is there.
async fn move_label(engine: &Kubernetes, found: &Found, from: &str, to: &str) -> Result<(), QueueError> {
    let job: super::read::AnyJob =
        super::read::get(engine.cluster()?, &found.resource, Some(&found.namespace), &found.name)
            .await
            .map_err(|error| missing(engine, &found.name, error))?;
    let Some(queue) = job.metadata.labels.get(from) else { return Ok(()) };
    let labels = json!({from: null, to: queue});
    // What it waited for is waited for no more.
    let annotations = match to == KUEUE_QUEUE {
        true => json!({object::AFTER: null, object::NEEDS_MODEL: null}),
        false => json!({}),
    };
    patch(engine, found, json!({"metadata": {"labels": labels, "annotations": annotations}})).await
}

/// Gives Volcano an order: a Command that its job owns, as its own tool does.
async fn command(engine: &Kubernetes, found: &Found, action: &str) -> Result<(), QueueError> {
    let resource = engine.resource("bus.volcano.sh", "Command").await?;
    let client = engine.cluster()?.client();
    let what = format!("cannot give {action} to {}", found.name);
    let jobs = api(client.clone(), &found.resource, &found.namespace);
    let job = answer(&what, jobs.get(&found.name)).await.map_err(|error| missing(engine, &found.name, error))?;
    let target = json!({
        "apiVersion": found.resource.api_version, "kind": found.resource.kind, "name": found.name,
        "uid": job.metadata.uid, "controller": true,
    });
    let name = format!("{}-{}-{:08x}", found.name, action.to_lowercase(), fastrand::u32(..));
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {"name": name, "namespace": found.namespace, "ownerReferences": [target]},
        "target": target, "action": action,
    }))
    .map_err(|error| QueueError::Refused { what: what.clone(), message: error.to_string() })?;
    let commands = api(client, &resource, &found.namespace);
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    patiently(&what, || commands.create(&parameters, &object)).await?;
    Ok(())
}

/// Changes a job's priority: a class, or for a Kueue Workload a number too.
///
/// # Errors
/// If the engine has no way to, or the server says no.
pub async fn priority(engine: &Kubernetes, id: &str, priority: &str) -> Result<(), QueueError> {
    let found = find::place(engine, id).await?;
    match engine.target.kind {
        EngineKind::Kueue => match (priority.parse::<i32>(), workload(engine, &found).await?) {
            (Ok(number), Some((resource, name))) => {
                patch_object(engine, &resource, &found.namespace, &name, json!({"spec": {"priority": number}})).await
            }
            (Ok(_), None) => Err(unsupported(engine, "number a job that it has not seen", "name a priority class")),
            (Err(_), _) => patch(engine, &found, json!({"metadata": {"labels": {KUEUE_PRIORITY: priority}}})).await,
        },
        EngineKind::Volcano => patch(engine, &found, json!({"spec": {"priorityClassName": priority}})).await,
        _ => Err(unsupported(engine, "change a job's priority", "cancel it and submit it again with --priority")),
    }
}

/// Puts a job back into its queue.
///
/// # Errors
/// If the engine has no way to, or the server says no.
pub async fn requeue(engine: &Kubernetes, id: &str) -> Result<(), QueueError> {
    let found = find::place(engine, id).await?;
    match engine.target.kind {
        EngineKind::Kueue => {
            let Some((resource, name)) = workload(engine, &found).await? else { return Ok(()) };
            // Off and on again: Kueue evicts it and looks at it anew.
            patch_object(engine, &resource, &found.namespace, &name, json!({"spec": {"active": false}})).await?;
            patch_object(engine, &resource, &found.namespace, &name, json!({"spec": {"active": true}})).await
        }
        EngineKind::Volcano => command(engine, &found, "RestartJob").await,
        EngineKind::Kubernetes if found.kind.suspend.is_some() => {
            suspend(engine, &found, true).await?;
            suspend(engine, &found, false).await
        }
        _ => Err(unsupported(engine, "requeue a job", "cancel it and submit it again")),
    }
}

/// Who the server takes us for.
///
/// # Errors
/// If it can't be asked.
pub async fn user(engine: &Kubernetes) -> Result<String, QueueError> {
    use k8s_openapi::api::authentication::v1::SelfSubjectReview;
    let cluster = engine.cluster()?;
    let api: Api<SelfSubjectReview> = Api::all(cluster.client());
    let what = format!("cannot ask {} who we are", cluster.name());
    let review = answer(&what, api.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    Ok(user.unwrap_or_default())
}
