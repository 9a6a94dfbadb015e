//! Queues and what they have, use and are asked for.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kueue::{ClusterQueue, LocalQueue, Workload, used};
use super::read::{self, Metadata};
use super::{Kubernetes, kinds};
use crate::queue::explain::QUOTA_SCHEMA;
use crate::queue::{EngineKind, Filter, LIKE_A_QUEUE, QueueError, QueueInfo, QuotaRow, State, nearest};

/// A Queue of Volcano.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct VolcanoQueue {
    metadata: Metadata,
    spec: VolcanoQueueSpec,
    status: VolcanoQueueStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct VolcanoQueueSpec {
    capability: BTreeMap<String, serde_json::Value>,
    deserved: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct VolcanoQueueStatus {
    allocated: BTreeMap<String, serde_json::Value>,
    state: String,
}

fn amount(value: &serde_json::Value) -> f64 {
    match value {
        serde_json::Value::String(text) => read::quantity(text),
        value => value.as_f64().unwrap_or(0.0),
    }
}

/// The queues that jobs can name.
///
/// # Errors
/// If the cluster can't be asked.
pub async fn queues(engine: &Kubernetes) -> Result<Vec<QueueInfo>, QueueError> {
    let cluster = engine.cluster()?;
    match engine.target.kind {
        EngineKind::Kueue => {
            let resource = engine.resource("kueue.x-k8s.io", "LocalQueue").await?;
            let all = match read::list::<LocalQueue>(cluster, &resource, None, None).await {
                Ok(all) => all,
                // Most users see their own namespace alone.
                Err(error) if error.is_passing() => return Err(error.into()),
                Err(_) => read::list(cluster, &resource, Some(cluster.namespace()), None).await?,
            };
            let open = |queue: &LocalQueue| queue.spec.stop_policy.as_deref().is_none_or(|policy| policy == "None");
            let info = |queue: LocalQueue| QueueInfo {
                open: open(&queue),
                name: queue.metadata.name,
                namespace: queue.metadata.namespace,
            };
            Ok(all.into_iter().map(info).collect())
        }
        EngineKind::Volcano => {
            let resource = engine.resource("scheduling.volcano.sh", "Queue").await?;
            let all = read::list::<VolcanoQueue>(cluster, &resource, None, None).await?;
            let info = |queue: VolcanoQueue| QueueInfo {
                open: matches!(queue.status.state.as_str(), "" | "Open"),
                name: queue.metadata.name,
                namespace: None,
            };
            Ok(all.into_iter().map(info).collect())
        }
        EngineKind::KubeQueue => {
            // Only its successors have queues as objects.
            let served = engine.served().await?;
            let Some(resource) = served.kind("scheduling.x-k8s.io", "Queue") else { return Ok(Vec::new()) };
            let all = read::list::<LocalQueue>(cluster, resource, None, None).await?;
            Ok(all
                .into_iter()
                .map(|queue| QueueInfo { name: queue.metadata.name, namespace: None, open: true })
                .collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// The quota of all queues, or of one: a ClusterQueue, or a LocalQueue that leads to it.
///
/// # Errors
/// If the cluster can't be asked, or has no such queue.
pub async fn quota(engine: &Kubernetes, queue: Option<&str>) -> Result<Vec<QuotaRow>, QueueError> {
    let mut rows = match engine.target.kind {
        EngineKind::Kueue => kueue(engine, queue).await?,
        EngineKind::Volcano => volcano(engine, queue).await?,
        _ => Vec::new(),
    };
    rows.sort_by(|a, b| (&a.queue, &a.flavor, &a.resource).cmp(&(&b.queue, &b.flavor, &b.resource)));
    Ok(rows)
}

async fn kueue(engine: &Kubernetes, wanted: Option<&str>) -> Result<Vec<QuotaRow>, QueueError> {
    let cluster = engine.cluster()?;
    let queues = engine.resource("kueue.x-k8s.io", "ClusterQueue").await?;
    let locals = engine.resource("kueue.x-k8s.io", "LocalQueue").await?;
    let workloads = engine.resource("kueue.x-k8s.io", "Workload").await?;
    let (queues, locals, workloads) = futures::join!(
        read::list::<ClusterQueue>(cluster, &queues, None, None),
        read::list::<LocalQueue>(cluster, &locals, None, None),
        read::list::<Workload>(cluster, &workloads, None, None),
    );
    // Without LocalQueues and Workloads only what is pending is unknown.
    let (queues, locals) = (queues?, locals.unwrap_or_default());
    let leads_to: BTreeMap<(&str, &str), &str> = locals
        .iter()
        .map(|local| {
            let namespace = local.metadata.namespace.as_deref().unwrap_or_default();
            ((namespace, local.metadata.name.as_str()), local.spec.cluster_queue.as_str())
        })
        .collect();
    let workloads = workloads.unwrap_or_default();
    let mut pending: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for workload in workloads.iter().filter(|workload| workload.state(None) == State::Pending) {
        let namespace = workload.metadata.namespace.as_deref().unwrap_or_default();
        let Some(queue) = leads_to.get(&(namespace, workload.spec.queue_name.as_str())) else { continue };
        for (resource, asked) in workload.asked() {
            *pending.entry((*queue, resource)).or_default() += asked;
        }
    }
    let mut rows = Vec::new();
    for queue in &queues {
        let name = &queue.metadata.name;
        let named = |wanted: &str| {
            name == wanted || leads_to.iter().any(|((_, local), leads)| *local == wanted && *leads == name.as_str())
        };
        if !wanted.is_none_or(named) {
            continue;
        }
        for flavor in queue.spec.resource_groups.iter().flat_map(|group| &group.flavors) {
            for resource in &flavor.resources {
                let (total, borrowed) = used(queue, &flavor.name, &resource.name);
                rows.push(QuotaRow {
                    schema: QUOTA_SCHEMA,
                    target: engine.target.name.clone(),
                    queue: name.clone(),
                    flavor: flavor.name.clone(),
                    resource: resource.name.clone(),
                    nominal: Some(resource.nominal_quota.0),
                    borrowing_limit: match (&queue.spec.cohort_name, resource.borrowing_limit) {
                        (None, _) => Some(0.0),
                        (Some(_), limit) => limit.map(|limit| limit.0),
                    },
                    borrowed,
                    used: total,
                    pending: pending.get(&(name.as_str(), resource.name.as_str())).copied().unwrap_or(0.0),
                });
            }
        }
    }
    if let (Some(wanted), true) = (wanted, rows.is_empty()) {
        let names = queues.iter().map(|queue| queue.metadata.name.as_str());
        let names: Vec<&str> = names.chain(locals.iter().map(|local| local.metadata.name.as_str())).collect();
        return Err(no_queue(engine, wanted, names));
    }
    Ok(rows)
}

fn no_queue(engine: &Kubernetes, wanted: &str, names: Vec<&str>) -> QueueError {
    QueueError::NoSuchQueue {
        target: engine.target.name.clone(),
        queue: wanted.to_owned(),
        nearest: nearest(wanted, names, LIKE_A_QUEUE),
    }
}

async fn volcano(engine: &Kubernetes, wanted: Option<&str>) -> Result<Vec<QuotaRow>, QueueError> {
    let cluster = engine.cluster()?;
    let resource = engine.resource("scheduling.volcano.sh", "Queue").await?;
    let queues = read::list::<VolcanoQueue>(cluster, &resource, None, None).await?;
    let jobs = super::list::list(engine, &Filter::default()).await?;
    debug_assert!(jobs.iter().all(|job| job.id.contains(kinds::VCJOB.short)));
    let mut rows = Vec::new();
    for queue in queues.iter().filter(|queue| wanted.is_none_or(|wanted| queue.metadata.name == wanted)) {
        let (spec, status) = (&queue.spec, &queue.status);
        let mut names: Vec<&String> =
            spec.capability.keys().chain(spec.deserved.keys()).chain(status.allocated.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (capability, deserved) = (spec.capability.get(name).map(amount), spec.deserved.get(name).map(amount));
            let used = status.allocated.get(name).map_or(0.0, amount);
            let nominal = deserved.or(capability);
            let waiting = jobs.iter().filter(|job| job.state == State::Pending && job.queue == queue.metadata.name);
            rows.push(QuotaRow {
                schema: QUOTA_SCHEMA,
                target: engine.target.name.clone(),
                queue: queue.metadata.name.clone(),
                flavor: String::new(),
                resource: name.clone(),
                nominal,
                borrowing_limit: nominal.and_then(|nominal| Some((capability? - nominal).max(0.0))),
                borrowed: nominal.map_or(0.0, |nominal| (used - nominal).max(0.0)),
                used,
                pending: if super::share::is_gpu(name) {
                    waiting.map(|job| job.gpus).fold(0.0, |sum, gpus| sum + gpus)
                } else {
                    0.0
                },
            });
        }
    }
    if let (Some(wanted), true) = (wanted, rows.is_empty())
        && !queues.iter().any(|queue| queue.metadata.name == wanted)
    {
        return Err(no_queue(engine, wanted, queues.iter().map(|queue| queue.metadata.name.as_str()).collect()));
    }
    Ok(rows)
}
