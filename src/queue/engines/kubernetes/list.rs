//! The jobs of an engine: what it queues, joined with what the jobs themselves say.

use std::collections::{BTreeMap, HashMap};

use futures::future::{join_all, try_join};
use jiff::Timestamp;
use kube::core::ApiResource;
use serde::Deserialize;

use super::kinds::{self, JobKind};
use super::kueue::{LocalQueue, Workload};
use super::object::{HELD_QUEUE_LABEL, KUEUE_QUEUE, SUBMISSION_LABEL};
use super::read::{self, AnyJob, Condition, Metadata, OwnerReference, fails};
use super::{Kubernetes, state};
use crate::queue::engine::Filter;
use crate::queue::{EngineKind, Job, QueueError, Reason, ReasonKind, State};

/// Lists them.
///
/// # Errors
/// If the cluster can't be asked.
pub async fn list(engine: &Kubernetes, filter: &Filter) -> Result<Vec<Job>, QueueError> {
    let mut jobs = match engine.target.kind {
        EngineKind::Volcano => volcano(engine, filter).await?,
        EngineKind::KubeQueue => kube_queue(engine, filter).await?,
        EngineKind::Kueue => kueue(engine, filter).await?,
        _ => plain(engine, filter).await?,
    };
    jobs.retain(|job| filter.passes(job));
    Ok(jobs)
}

/// A label selector and the user's own.
fn selector(own: &str, filter: &Filter) -> String {
    let given = filter.selector.as_deref().filter(|given| !given.is_empty());
    match (own, given) {
        ("", given) => given.unwrap_or_default().to_owned(),
        (own, Some(given)) => format!("{own},{given}"),
        (own, None) => own.to_owned(),
    }
}

/// Jobs of every kind that the cluster serves, by a label.
async fn owners(
    engine: &Kubernetes,
    kinds: &[JobKind],
    label: &str,
    filter: &Filter,
) -> Result<Vec<(JobKind, AnyJob)>, QueueError> {
    let (cluster, served) = (engine.cluster()?, engine.served().await?);
    let selector = selector(label, filter);
    let selector = (!selector.is_empty()).then_some(selector.as_str());
    let known = kinds.iter().filter_map(|kind| Some((*kind, served.kind(kind.group, kind.kind)?)));
    let lists = known.map(|(kind, resource): (JobKind, &ApiResource)| async move {
        let listed = read::list::<AnyJob>(cluster, resource, filter.namespace.as_deref(), selector).await?;
        Ok::<_, QueueError>(listed.into_iter().map(move |job| (kind, job)).collect::<Vec<_>>())
    });
    let mut all = Vec::new();
    for listed in join_all(lists).await {
        all.extend(listed?);
    }
    Ok(all)
}

async fn plain(engine: &Kubernetes, filter: &Filter) -> Result<Vec<Job>, QueueError> {
    let found = owners(engine, &kinds::ALL, SUBMISSION_LABEL, filter).await?;
    let queued = |kind: JobKind, job: &AnyJob| {
        let meta = &job.metadata;
        kind == kinds::VCJOB
            || meta.labels.contains_key(KUEUE_QUEUE)
            || meta.labels.contains_key(HELD_QUEUE_LABEL)
            || meta.annotations.contains_key(super::object::KUBE_QUEUE_QUEUE)
    };
    let own = found.into_iter().filter(|(kind, job)| !queued(*kind, job));
    Ok(own.map(|(kind, job)| state::job(&engine.target, kind, &job)).collect())
}

/// Kueue's jobs: those with a Workload, and those that have none yet.
async fn kueue(engine: &Kubernetes, filter: &Filter) -> Result<Vec<Job>, QueueError> {
    let cluster = engine.cluster()?;
    let namespace = filter.namespace.as_deref();
    let resource = engine.resource("kueue.x-k8s.io", "Workload").await?;
    let local = engine.resource("kueue.x-k8s.io", "LocalQueue").await?;
    let mut kinds: Vec<JobKind> = kinds::ALL.into_iter().filter(|kind| *kind != kinds::VCJOB).collect();
    // Their own label is on what they make too, which is no job of its own.
    kinds.retain(|kind| kind.kind != "RayCluster" || filter.selector.is_some());
    let workloads = async {
        // A user's selector speaks of jobs; Workloads do not have their labels.
        Ok::<_, QueueError>(read::list::<Workload>(cluster, &resource, namespace, None).await?)
    };
    let queues = async {
        // Without them there are no positions; nothing else is missing.
        Ok(read::list::<LocalQueue>(cluster, &local, namespace, None).await.unwrap_or_default())
    };
    let jobs = try_join(owners(engine, &kinds, KUEUE_QUEUE, filter), owners(engine, &kinds, HELD_QUEUE_LABEL, filter));
    let (workloads, (queues, (queued, held))) = try_join(workloads, try_join(queues, jobs)).await?;
    let mut by_uid: HashMap<String, (JobKind, AnyJob)> = queued
        .into_iter()
        .chain(held)
        // A JobSet's Jobs and the like carry the label on.
        .filter(|(_, job)| {
            !job.metadata.owner_references.iter().any(|owner| kinds::ALL.iter().any(|k| k.kind == owner.kind))
        })
        .filter_map(|(kind, job)| Some((job.metadata.uid.clone()?, (kind, job))))
        .collect();
    let only_known = filter.selector.is_some();
    let mut rows = Vec::with_capacity(workloads.len());
    for workload in &workloads {
        let owner = workload.owner().and_then(|owner| by_uid.remove(&owner.uid));
        if owner.is_none() && only_known {
            continue;
        }
        rows.push(with_workload(engine, owner.as_ref().map(|(kind, job)| (*kind, job)), workload));
    }
    for (kind, job) in by_uid.into_values() {
        let mut row = state::job(&engine.target, kind, &job);
        if row.state == State::Pending {
            row.reason = Some(not_looked_at());
        }
        rows.push(row);
    }
    let cluster_queues: BTreeMap<(String, String), String> = queues
        .into_iter()
        .map(|queue| ((queue.metadata.namespace.unwrap_or_default(), queue.metadata.name), queue.spec.cluster_queue))
        .collect();
    if namespace.is_none() && filter.selector.is_none() {
        rank(&mut rows, |job| {
            let key = (job.namespace.clone().unwrap_or_default(), job.queue.clone());
            Some(cluster_queues.get(&key).cloned().unwrap_or_else(|| format!("{}/{}", key.0, key.1)))
        });
    }
    Ok(rows)
}

/// Why a job waits that Kueue has made no Workload of.
pub fn not_looked_at() -> Reason {
    Reason::new(ReasonKind::NotLookedAt, "Kueue has not looked at it yet", "no Workload")
}

/// A job as its Workload has it, with what the job itself adds.
pub fn with_workload(engine: &Kubernetes, owner: Option<(JobKind, &AnyJob)>, workload: &Workload) -> Job {
    let target = &engine.target;
    let meta = &workload.metadata;
    let mut job = match (owner, workload.owner()) {
        (Some((kind, any)), _) => state::job(target, kind, any),
        (None, Some(owner)) => bare(target, meta, owner),
        (None, None) => bare(
            target,
            meta,
            &OwnerReference { kind: "Workload".to_owned(), name: meta.name.clone(), ..OwnerReference::default() },
        ),
    };
    let runs = owner.map(|(_, any)| state::runs(any));
    let (nodes, gpus) = workload.size();
    job.queue = workload.spec.queue_name.clone();
    (job.nodes, job.gpus) = (nodes, gpus);
    job.priority = workload.spec.priority;
    if !job.state.is_over() {
        job.state = workload.state(runs);
        job.reason = workload.reason();
    }
    job.started_at = workload.admitted_at().filter(|_| !job.state.is_waiting());
    job.finished_at = workload.finished_at().or(job.finished_at);
    job.time_limit_s = workload.spec.maximum_execution_time_seconds.or(job.time_limit_s);
    job
}

/// A job of which only its queue object was seen.
fn bare(target: &crate::queue::Target, meta: &Metadata, owner: &OwnerReference) -> Job {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let short = kinds::of(group, &owner.kind).map_or_else(|| owner.kind.to_lowercase(), |kind| kind.short.to_owned());
    let namespace = meta.namespace.clone().unwrap_or_default();
    let id = kinds::id(&namespace, &short, &owner.name);
    Job {
        owner: namespace.clone(),
        namespace: Some(namespace),
        submitted_at: meta.creation_timestamp,
        submission_id: meta.labels.get(SUBMISSION_LABEL).cloned(),
        ..Job::bare(target, id, owner.name.clone())
    }
}

/// Gives pending jobs their places: by priority, then by age, within what `queue` puts together.
pub fn rank(jobs: &mut [Job], queue: impl Fn(&Job) -> Option<String>) {
    let mut queues: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate().filter(|(_, job)| job.state == State::Pending) {
        if let Some(queue) = queue(job) {
            queues.entry(queue).or_default().push(index);
        }
    }
    for indices in queues.values_mut() {
        indices.sort_by_key(|&index| {
            let job = &jobs[index];
            (std::cmp::Reverse(job.priority.unwrap_or(0)), job.submitted_at.unwrap_or(Timestamp::MAX), index)
        });
        for (place, &index) in (0u32..).zip(indices.iter()) {
            jobs[index].position = Some(place + 1);
            jobs[index].ahead = Some(place);
        }
    }
}

/// A PodGroup: what Volcano schedules of a job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodGroup {
    metadata: Metadata,
    status: PodGroupStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PodGroupStatus {
    phase: String,
    conditions: Vec<Condition>,
}

async fn volcano(engine: &Kubernetes, filter: &Filter) -> Result<Vec<Job>, QueueError> {
    let cluster = engine.cluster()?;
    let groups = engine.resource("scheduling.volcano.sh", "PodGroup").await?;
    let groups = async { Ok(read::list::<PodGroup>(cluster, &groups, filter.namespace.as_deref(), None).await?) };
    let (jobs, groups) = try_join(owners(engine, &[kinds::VCJOB], "", filter), groups).await?;
    let by_owner: HashMap<&str, &PodGroup> = groups
        .iter()
        .filter_map(|group| Some((group.metadata.owner_references.first()?.uid.as_str(), group)))
        .collect();
    let mut rows: Vec<Job> = jobs
        .iter()
        .map(|(kind, any)| {
            let mut job = state::job(&engine.target, *kind, any);
            if job.queue.is_empty() {
                "default".clone_into(&mut job.queue);
            }
            let group = any.metadata.uid.as_deref().and_then(|uid| by_owner.get(uid));
            if job.state == State::Pending {
                job.reason = Some(volcano_reason(group.copied()));
                if group.is_some_and(|group| group.status.phase == "Running") {
                    job.state = State::Admitted;
                }
            }
            job.started_at = any.status.state.since.filter(|_| job.state == State::Running);
            job.finished_at = any.status.state.since.filter(|_| job.state.is_over());
            job
        })
        .collect();
    if filter.namespace.is_none() && filter.selector.is_none() {
        rank(&mut rows, |job| Some(job.queue.clone()));
    }
    Ok(rows)
}

/// What a PodGroup says of a job that waits.
fn volcano_reason(group: Option<&PodGroup>) -> Reason {
    let Some(group) = group else {
        return Reason::new(ReasonKind::NotLookedAt, "Volcano has not looked at it yet", "no PodGroup");
    };
    let condition = group
        .status
        .conditions
        .iter()
        .rev()
        .find(|condition| condition.status == "True" && condition.kind == "Unschedulable")
        .or_else(|| fails(&group.status.conditions, "Scheduled"));
    let phase = if group.status.phase.is_empty() { "Pending" } else { group.status.phase.as_str() };
    let Some(condition) = condition else {
        return match phase {
            "Inqueue" => Reason::new(ReasonKind::WaitingForPods, "it may start; its pods are being made", "Inqueue"),
            _ => Reason::new(ReasonKind::WaitingForQuota, "its queue has no room for it yet", phase),
        };
    };
    let raw = format!("{phase}: {}: {}", condition.reason, condition.message);
    let (kind, text) = match condition.reason.as_str() {
        "NotEnoughResources" => (ReasonKind::WaitingForResources, "not enough is free for all of its pods together"),
        "NotEnoughTasks" | "NotEnoughPodsOfTask" | "NotEnoughPods" => {
            (ReasonKind::GangIncomplete, "its pods are not all there yet")
        }
        _ => (ReasonKind::WaitingForResources, "it can't be scheduled yet"),
    };
    Reason::new(kind, text, raw)
}

/// A QueueUnit: what kube-queue queues of a job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct QueueUnit {
    metadata: Metadata,
    spec: QueueUnitSpec,
    status: QueueUnitStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct QueueUnitSpec {
    consumer_ref: ConsumerRef,
    queue: Option<String>,
    priority: Option<i64>,
    resource: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConsumerRef {
    api_version: String,
    kind: String,
    name: String,
    namespace: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct QueueUnitStatus {
    phase: String,
    message: String,
}

async fn kube_queue(engine: &Kubernetes, filter: &Filter) -> Result<Vec<Job>, QueueError> {
    let cluster = engine.cluster()?;
    let resource = engine.resource("scheduling.x-k8s.io", "QueueUnit").await?;
    let units = async { Ok(read::list::<QueueUnit>(cluster, &resource, filter.namespace.as_deref(), None).await?) };
    let kinds: Vec<JobKind> = kinds::ALL.into_iter().filter(|kind| *kind != kinds::VCJOB).collect();
    let (units, jobs) = try_join(units, owners(engine, &kinds, SUBMISSION_LABEL, filter)).await?;
    let key = |namespace: &str, kind: &str, name: &str| format!("{namespace}/{kind}/{name}");
    let mut by_name: HashMap<String, (JobKind, AnyJob)> = jobs
        .into_iter()
        .map(|(kind, job)| {
            let namespace = job.metadata.namespace.clone().unwrap_or_default();
            (key(&namespace, kind.kind, &job.metadata.name), (kind, job))
        })
        .collect();
    let mut rows = Vec::new();
    for unit in &units {
        let consumer = &unit.spec.consumer_ref;
        let namespace = consumer.namespace.as_deref().or(unit.metadata.namespace.as_deref()).unwrap_or_default();
        let owner = by_name.remove(&key(namespace, &consumer.kind, &consumer.name));
        let mut job = match &owner {
            Some((kind, any)) => state::job(&engine.target, *kind, any),
            None if filter.selector.is_some() => continue,
            None => {
                let owner = OwnerReference {
                    api_version: consumer.api_version.clone(),
                    kind: consumer.kind.clone(),
                    name: consumer.name.clone(),
                    uid: String::new(),
                };
                bare(&engine.target, &unit.metadata, &owner)
            }
        };
        job.queue = unit.spec.queue.clone().filter(|queue| !queue.is_empty()).unwrap_or(job.queue);
        job.priority = unit.spec.priority;
        if owner.is_none() {
            let amount = |value: &serde_json::Value| match value {
                serde_json::Value::String(text) => read::quantity(text),
                value => value.as_f64().unwrap_or(0.0),
            };
            let gpus = unit.spec.resource.iter().filter(|(name, _)| super::share::is_gpu(name));
            job.gpus = gpus.map(|(_, value)| amount(value)).sum();
        }
        if !job.state.is_over() {
            let runs = owner.as_ref().is_some_and(|(_, any)| state::runs(any));
            let waits = unit.status.phase != "Dequeued" && unit.status.phase != "Running";
            job.state = match (waits, runs) {
                (true, _) => State::Pending,
                (false, true) => State::Running,
                (false, false) => State::Admitted,
            };
            if waits {
                let raw = format!("{}: {}", unit.status.phase, unit.status.message);
                job.reason = Some(match unit.status.phase.as_str() {
                    "" => Reason::new(ReasonKind::NotLookedAt, "kube-queue has not looked at it yet", "no phase"),
                    _ => Reason::new(ReasonKind::WaitingForQuota, "its queue has no room for it yet", raw),
                });
            }
        }
        rows.push(job);
    }
    // Those that kube-queue has not seen yet.
    for (kind, any) in
        by_name.into_values().filter(|(_, any)| any.metadata.annotations.contains_key(super::object::KUBE_QUEUE_QUEUE))
    {
        rows.push(state::job(&engine.target, kind, &any));
    }
    if filter.namespace.is_none() && filter.selector.is_none() {
        rank(&mut rows, |job| Some(job.queue.clone()));
    }
    Ok(rows)
}
