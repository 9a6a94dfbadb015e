//! Why a job waits: its place, who is before it, who has what it needs, and what would help.

use jiff::Timestamp;
use serde::Deserialize;

use super::kueue::{ClusterQueue, LocalQueue, free_gpus};
use super::{Kubernetes, find, list, quota, read};
use crate::queue::eta::{Running, estimate};
use crate::queue::explain::EXPLAIN_SCHEMA;
use crate::queue::{Ahead, EngineKind, Explanation, Filter, Job, Place, QueueError, QuotaRow, ReasonKind, State};

/// Jobs that are shown of those before and of the holders.
const SHOWN: usize = 10;

/// Explains.
///
/// # Errors
/// If the job is gone, or the cluster can't be asked.
pub async fn explain(engine: &Kubernetes, id: &str) -> Result<Explanation, QueueError> {
    let mut job = find::get(engine, id).await?;
    let now = Timestamp::now();
    let mut answer = Explanation {
        schema: EXPLAIN_SCHEMA,
        job: job.clone(),
        place: None,
        ahead: Vec::new(),
        holders: Vec::new(),
        quota: Vec::new(),
        unblock: None,
        eta: None,
        blind: Vec::new(),
    };
    if !job.state.is_waiting() || engine.target.kind == EngineKind::Kubernetes {
        answer.unblock = unblock(&job, &answer);
        return Ok(answer);
    }
    let all = match list::list(engine, &Filter::default()).await {
        Ok(all) => all,
        Err(error) if error.is_passing() => return Err(error),
        Err(error) => {
            answer.blind.push(format!("other namespaces: {error}"));
            let filter = Filter { namespace: job.namespace.clone(), ..Filter::default() };
            let mut own = list::list(engine, &filter).await?;
            list::rank(&mut own, |job| Some(job.queue.clone()));
            own
        }
    };
    let share = Share::of(engine, &job, &all, &mut answer.blind).await;
    let same: Vec<&Job> = all.iter().filter(|other| share.has(other)).collect();
    let mut waiting: Vec<&Job> = same.iter().copied().filter(|other| other.state == State::Pending).collect();
    waiting.sort_by_key(|other| other.position.unwrap_or(u32::MAX));
    if job.state == State::Pending {
        place(engine, &mut job, &waiting, &mut answer, now).await;
    }
    let mut running: Vec<&Job> =
        same.iter().copied().filter(|other| matches!(other.state, State::Running | State::Admitted)).collect();
    running.sort_by(|a, b| b.gpus.total_cmp(&a.gpus).then_with(|| a.id.cmp(&b.id)));
    answer.holders = running.iter().take(SHOWN).map(|other| Ahead::of(other, now)).collect();
    match quota::quota(engine, share.queue.as_deref().or(Some(&job.queue))).await {
        Ok(rows) => answer.quota = rows.into_iter().filter(|row| row.nominal.is_some()).collect(),
        Err(error) => answer.blind.push(format!("quota: {error}")),
    }
    // What nobody has looked at yet may never be looked at.
    let for_ever = job
        .reason
        .as_ref()
        .is_some_and(|reason| reason.kind.needs_somebody() || reason.kind == ReasonKind::NotLookedAt);
    if job.state == State::Pending && !for_ever {
        answer.eta = eta(&job, &waiting, &running, &same, share.free.or_else(|| free(&answer.quota)), now);
    }
    job.eta = answer.eta.clone();
    answer.job = job;
    answer.unblock = unblock(&answer.job, &answer);
    Ok(answer)
}

/// Which jobs draw on the same quota.
struct Share {
    /// The ClusterQueue, for Kueue.
    queue: Option<String>,
    /// Queues by namespace and name that lead to it.
    locals: Vec<(String, String)>,
    own: String,
    free: Option<f64>,
}

impl Share {
    async fn of(engine: &Kubernetes, job: &Job, _all: &[Job], blind: &mut Vec<String>) -> Share {
        let mut share = Share { queue: None, locals: Vec::new(), own: job.queue.clone(), free: None };
        if engine.target.kind != EngineKind::Kueue {
            return share;
        }
        let read = async {
            let cluster = engine.cluster()?;
            let locals = engine.resource("kueue.x-k8s.io", "LocalQueue").await?;
            let queues = engine.resource("kueue.x-k8s.io", "ClusterQueue").await?;
            let locals: Vec<LocalQueue> = read::list(cluster, &locals, None, None).await?;
            let queues: Vec<ClusterQueue> = read::list(cluster, &queues, None, None).await?;
            Ok::<_, QueueError>((locals, queues))
        };
        match read.await {
            Ok((locals, queues)) => {
                let own = locals
                    .iter()
                    .find(|local| local.metadata.name == job.queue && local.metadata.namespace == job.namespace);
                share.queue = own.map(|own| own.spec.cluster_queue.clone());
                let same = locals.iter().filter(|local| Some(&local.spec.cluster_queue) == share.queue.as_ref());
                share.locals = same
                    .map(|local| (local.metadata.namespace.clone().unwrap_or_default(), local.metadata.name.clone()))
                    .collect();
                let own = queues.iter().find(|queue| Some(&queue.metadata.name) == share.queue.as_ref());
                share.free = own.map(|own| free_gpus(own, &queues));
            }
            Err(error) => blind.push(format!("cluster queues: {error}")),
        }
        share
    }

    fn has(&self, job: &Job) -> bool {
        if self.locals.is_empty() {
            return job.queue == self.own;
        }
        let namespace = job.namespace.as_deref().unwrap_or_default();
        self.locals.iter().any(|(own, queue)| own == namespace && *queue == job.queue)
    }
}

/// Its place: as Kueue itself has it where that can be asked, else ranked here.
async fn place(engine: &Kubernetes, job: &mut Job, waiting: &[&Job], answer: &mut Explanation, now: Timestamp) {
    let index = waiting.iter().position(|other| other.id == job.id);
    let ahead_of_it: Vec<&Job> = waiting.iter().take(index.unwrap_or(0)).copied().collect();
    let blocked = ahead_of_it.iter().filter(|other| other.reason.as_ref().is_some_and(|why| why.kind.needs_somebody()));
    let mut place = Place {
        position: index.map_or(0, |index| index as u32 + 1),
        of: waiting.len() as u32,
        ahead: index.unwrap_or(0) as u32,
        ahead_blocked: blocked.count() as u32,
        estimated: true,
    };
    match asked_position(engine, job).await {
        Ok(Some(position)) => {
            place = Place {
                position: position + 1,
                ahead: position,
                estimated: false,
                of: place.of.max(position + 1),
                ..place
            };
        }
        Ok(None) => {}
        Err(error) => answer.blind.push(format!("position: {error}")),
    }
    if place.position == 0 {
        return;
    }
    (job.position, job.ahead) = (Some(place.position), Some(place.ahead));
    answer.ahead = ahead_of_it.iter().rev().take(SHOWN).rev().map(|other| Ahead::of(other, now)).collect();
    answer.place = Some(place);
}

#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    items: Vec<PendingWorkload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PendingWorkload {
    metadata: read::Metadata,
    position_in_cluster_queue: u32,
}

/// Kueue's own answer, counted from 0, where its visibility API is served.
async fn asked_position(engine: &Kubernetes, job: &Job) -> Result<Option<u32>, QueueError> {
    const GROUP: &str = "visibility.kueue.x-k8s.io";
    let Some(version) = engine.served().await?.versions(GROUP).first() else { return Ok(None) };
    let namespace = job.namespace.clone().unwrap_or_default();
    let what = format!("cannot ask the place of {}", job.name);
    let path = format!("/apis/{GROUP}/{version}/namespaces/{namespace}/localqueues/{}/pendingworkloads", job.queue);
    let request = kube::core::Request::new(path)
        .list(&kube::api::ListParams::default())
        .map_err(|error| crate::cluster::ClusterError::of(what.clone(), kube::Error::BuildRequest(error)))?;
    let summary: Summary = crate::cluster::answer(&what, engine.cluster()?.client().request(request)).await?;
    let own = |item: &&PendingWorkload| item.metadata.owner_references.iter().any(|owner| owner.name == job.name);
    Ok(summary.items.iter().find(own).map(|item| item.position_in_cluster_queue))
}

/// GPUs that are free by the quota alone.
fn free(rows: &[QuotaRow]) -> Option<f64> {
    rows.iter().filter(|row| super::share::is_gpu(&row.resource)).filter_map(QuotaRow::free).reduce(f64::max)
}

fn eta(
    job: &Job,
    waiting: &[&Job],
    running: &[&Job],
    same: &[&Job],
    free: Option<f64>,
    now: Timestamp,
) -> Option<crate::queue::Eta> {
    if job.gpus == 0.0 {
        return None;
    }
    let movable = |other: &&&Job| !other.reason.as_ref().is_some_and(|why| why.kind.needs_somebody());
    let before: f64 =
        waiting.iter().take_while(|other| other.id != job.id).filter(movable).map(|other| other.gpus).sum();
    let seconds =
        |from: Option<Timestamp>, to: Timestamp| from.map(|from| to.duration_since(from).as_secs_f64().max(0.0));
    let runs: Vec<Running> = running
        .iter()
        .filter_map(|other| {
            let elapsed_s = seconds(other.started_at, now)?;
            Some(Running { has: other.gpus, elapsed_s, limit_s: other.time_limit_s.map(|limit| limit as f64) })
        })
        .collect();
    let over = same.iter().filter(|other| other.state == State::Succeeded);
    let past: Vec<f64> = over.filter_map(|other| seconds(other.started_at, other.finished_at?)).collect();
    estimate(free?, before + job.gpus, &runs, &past)
}

/// The one thing that would help.
fn unblock(job: &Job, answer: &Explanation) -> Option<String> {
    use ReasonKind::*;
    let kind = job.reason.as_ref()?.kind;
    let queue = &job.queue;
    Some(match kind {
        Held => format!("aictl queue release {}", job.address()),
        Dependency | WaitingForModel => {
            format!("`aictl queue release {}` starts it without waiting", job.address())
        }
        ExceedsQuota => format!("ask for less, or have the quota of {queue} raised"),
        WaitingForQuota | WaitingForResources | Priority | NotLookedAt
            if answer.place.as_ref().is_some_and(|place| place.ahead > 0) =>
        {
            "the jobs before it start or leave, or it gets a higher priority".to_owned()
        }
        WaitingForQuota => match answer.holders.first() {
            Some(holder) => format!("a running job ends, for example {} with {} GPUs", holder.name, holder.gpus),
            None => format!("quota of {queue} comes free"),
        },
        WaitingForResources => "running jobs end, or nodes are added".to_owned(),
        NoMatchingFlavor => "change its node labels or tolerations to those of a flavor".to_owned(),
        NoSuchQueue => "submit it to a queue that there is: `aictl queue quota` lists them".to_owned(),
        QueueStopped => format!("an administrator opens {queue} again"),
        AdmissionCheck => "the admission check ends".to_owned(),
        NotLookedAt => "the engine's controller runs and sees it".to_owned(),
        _ => return None,
    })
}
