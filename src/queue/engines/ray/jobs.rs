//! Ray's jobs as the jobs of all engines.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::api::{Cluster, RayJob, Resources, key};
use super::request;
use crate::queue::{
    Ahead, EXPLAIN_SCHEMA, EngineKind, Explanation, JOB_SCHEMA, Job, QUOTA_SCHEMA, QuotaRow, Reason, ReasonKind, State,
    Target,
};

/// Exit code of the driver when the time limit is reached.
const TIME_LIMIT: i32 = 124;

/// Placement groups by name; `None` where they could not be seen.
pub(super) type Groups = Option<BTreeMap<String, String>>;

/// Where a job stands. Ray calls one of ours running while its driver still waits for nodes.
fn state(job: &RayJob, groups: &Groups) -> State {
    match job.status.as_str() {
        "PENDING" => State::Pending,
        "RUNNING" => match groups.as_ref().filter(|_| job.is_ours()) {
            Some(groups) => match groups.get(&format!("aictl:{}", job.id())).map(String::as_str) {
                Some("PENDING" | "RESCHEDULING") => State::Pending,
                // Its driver starts, which takes some seconds.
                None => State::Admitted,
                Some(_) => State::Running,
            },
            None => State::Running,
        },
        "SUCCEEDED" => State::Succeeded,
        "STOPPED" => State::Cancelled,
        "FAILED" => State::Failed,
        _ => State::Pending,
    }
}

fn reason(job: &RayJob, state: State) -> Option<Reason> {
    // The message of a failed job ends in all of its log.
    let raw = job.message.lines().next().unwrap_or_default().to_owned();
    let raw = match (raw.as_str(), job.error_type.as_str()) {
        ("", kind) => kind.to_owned(),
        (_, "") => raw,
        (text, kind) => format!("{kind}: {text}"),
    };
    let (kind, text) = match state {
        State::Pending => (ReasonKind::WaitingForResources, "not enough of the cluster is free for it".to_owned()),
        State::Admitted => (ReasonKind::SettingUp, "its driver is starting".to_owned()),
        State::Cancelled => (ReasonKind::Cancelled, "it was stopped".to_owned()),
        State::Failed => match job.driver_exit_code {
            Some(TIME_LIMIT) if job.metadata.contains_key(key::TIME) => {
                (ReasonKind::TimeLimit, "it ran into its time limit".to_owned())
            }
            Some(code) => (ReasonKind::ExitCode, format!("its program ended with exit code {code}")),
            None if job.error_type.contains("RUNTIME_ENV") => {
                (ReasonKind::Misconfigured, "its environment could not be set up".to_owned())
            }
            None => (ReasonKind::NodeFailed, "Ray lost it or could not start it".to_owned()),
        },
        State::Held | State::Running | State::Succeeded => return None,
    };
    Some(Reason::new(kind, text, raw))
}

/// One job.
pub(super) fn job(ray: &RayJob, groups: &Groups, target: &Target) -> Job {
    let state = state(ray, groups);
    let nodes = ray.number(key::NODES).unwrap_or(1.0).max(1.0);
    let gpus = ray.number(key::GPUS).map(|gpus| gpus * nodes).or(ray.entrypoint_num_gpus);
    let text = |key: &str| ray.metadata.get(key).cloned();
    Job {
        schema: JOB_SCHEMA,
        id: ray.id().to_owned(),
        name: text(key::NAME).or_else(|| text("job_name")).unwrap_or_else(|| ray.id().to_owned()),
        backend: EngineKind::Ray,
        cluster: target.cluster.clone(),
        target: target.name.clone(),
        namespace: None,
        queue: String::new(),
        owner: text(key::USER).unwrap_or_default(),
        state,
        position: None,
        ahead: None,
        eta: None,
        reason: reason(ray, state),
        priority: None,
        nodes: nodes as u32,
        gpus: gpus.unwrap_or_default(),
        // Ray has one time, that of the submission.
        submitted_at: RayJob::time(ray.start_time),
        started_at: RayJob::time(ray.start_time).filter(|_| !state.is_waiting() && state != State::Admitted),
        finished_at: RayJob::time(ray.end_time).filter(|_| state.is_over()),
        time_limit_s: ray.number(key::TIME).map(|seconds| seconds as u64),
        exit_code: match state {
            State::Succeeded => Some(ray.driver_exit_code.unwrap_or(0)),
            State::Failed => ray.driver_exit_code,
            _ => None,
        },
        submission_id: text(key::ID),
        waits_for: None,
    }
}

/// What the cluster has, what is in use and what waits.
pub(super) fn quota(cluster: &Cluster, target: &str) -> Vec<QuotaRow> {
    let names = [("GPU", "nvidia.com/gpu"), ("CPU", "cpu"), ("memory", "memory")];
    let mut rows: Vec<QuotaRow> = Vec::new();
    let row = |resource: &str, nominal: f64, used: f64, pending: f64| QuotaRow {
        schema: QUOTA_SCHEMA,
        target: target.to_owned(),
        queue: "cluster".to_owned(),
        flavor: String::new(),
        resource: resource.to_owned(),
        nominal: Some(nominal),
        borrowing_limit: None,
        borrowed: 0.0,
        used,
        pending,
    };
    for (name, resource) in names {
        let Some((used, total)) = cluster.usage.get(name) else { continue };
        let pending =
            cluster.demand.iter().map(|(bundle, count)| bundle.get(name).copied().unwrap_or_default() * count).sum();
        rows.push(row(resource, *total, *used, pending));
    }
    let busy = cluster.free.iter().zip(&cluster.nodes).filter(|(free, node)| {
        ["CPU", "GPU"].iter().any(|name| {
            free.get(*name).copied().unwrap_or_default() + 1e-6 < node.get(*name).copied().unwrap_or_default()
        })
    });
    rows.push(row("nodes", cluster.nodes.len() as f64, busy.count() as f64, 0.0));
    rows
}

/// What one node of a job takes, as its metadata have it.
fn bundle(ray: &RayJob) -> Resources {
    let amounts = [("CPU", ray.number(key::CPUS)), ("GPU", ray.number(key::GPUS).or(ray.entrypoint_num_gpus))];
    amounts
        .into_iter()
        .filter_map(|(name, amount)| Some((name.to_owned(), amount.filter(|amount| *amount > 0.0)?)))
        .collect()
}

/// Why a job is where it is. `cluster` is `None` where it could not be seen.
pub(super) fn explain(
    own: &RayJob,
    all: &[RayJob],
    groups: &Groups,
    cluster: Option<&Cluster>,
    target: &Target,
    blind: Vec<String>,
    now: Timestamp,
) -> Explanation {
    let mut this = job(own, groups, target);
    let (mut unblock, mut holders) = (None, Vec::new());
    if this.state == State::Pending
        && let Some(cluster) = cluster
    {
        let bundle = bundle(own);
        let asked = request::words(this.nodes, &bundle);
        let raw = this.reason.as_ref().map(|reason| reason.raw.clone()).unwrap_or_default();
        let (fitting, now_fitting) = (cluster.fitting(&bundle), cluster.fitting_now(&bundle));
        let (kind, text) = if cluster.starting > 0 {
            (ReasonKind::NodesStarting, format!("it needs {asked}; {} nodes are starting", cluster.starting))
        } else if fitting < this.nodes {
            unblock = Some(if cluster.grows {
                "the autoscaler must add nodes, if its limits let it".to_owned()
            } else {
                format!(
                    "cancel it and ask for less, or add nodes: {fitting} of {} nodes could hold a part of it",
                    cluster.nodes.len()
                )
            });
            (ReasonKind::NoSuchNode, format!("it needs {asked}; {fitting} nodes could hold that, all free"))
        } else {
            (ReasonKind::WaitingForResources, format!("it needs {asked}; {now_fitting} such nodes are free now"))
        };
        this.reason = Some(Reason::new(kind, text, raw));
        let running = all.iter().filter(|other| other.id() != own.id()).map(|other| job(other, groups, target));
        holders = running.filter(|job| job.state == State::Running).map(|job| Ahead::of(&job, now)).collect();
        holders.sort_by(|a: &Ahead, b| b.gpus.total_cmp(&a.gpus));
        holders.truncate(20);
    }
    let quota = cluster.map(|cluster| quota(cluster, &target.name)).unwrap_or_default();
    Explanation {
        schema: EXPLAIN_SCHEMA,
        job: this,
        // Ray has no order among what waits: whatever fits first is placed.
        place: None,
        ahead: Vec::new(),
        holders,
        quota,
        unblock,
        eta: None,
        blind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ray(status: &str) -> RayJob {
        RayJob {
            submission_id: "a-1".to_owned(),
            status: status.to_owned(),
            metadata: BTreeMap::from(
                [(key::ID, "1"), (key::NODES, "2"), (key::GPUS, "2"), (key::CPUS, "1")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned())),
            ),
            ..RayJob::default()
        }
    }

    fn groups(state: &str) -> Groups {
        Some(BTreeMap::from([("aictl:a-1".to_owned(), state.to_owned())]))
    }

    #[test]
    fn a_job_waits_while_its_driver_waits() {
        let target = Target::found(EngineKind::Ray, "ray");
        let of = |status: &str, groups: &Groups| job(&ray(status), groups, &target).state;
        assert_eq!(of("RUNNING", &groups("PENDING")), State::Pending);
        assert_eq!(of("RUNNING", &groups("CREATED")), State::Running);
        assert_eq!(of("RUNNING", &Some(BTreeMap::new())), State::Admitted);
        assert_eq!(of("RUNNING", &None), State::Running);
        assert_eq!(of("STOPPED", &None), State::Cancelled);
        assert_eq!(job(&ray("RUNNING"), &None, &target).gpus, 4.0);
    }

    #[test]
    fn why_it_failed() {
        let target = Target::found(EngineKind::Ray, "ray");
        let failed = RayJob {
            driver_exit_code: Some(7),
            message: "Job entrypoint command failed\nlogs".to_owned(),
            ..ray("FAILED")
        };
        let made = job(&failed, &None, &target);
        let reason = made.reason.unwrap();
        assert_eq!(
            (made.exit_code, reason.kind, reason.raw.as_str()),
            (Some(7), ReasonKind::ExitCode, "Job entrypoint command failed")
        );
        let mut late = RayJob { driver_exit_code: Some(124), ..ray("FAILED") };
        late.metadata.insert(key::TIME.to_owned(), "5".to_owned());
        assert_eq!(job(&late, &None, &target).reason.unwrap().kind, ReasonKind::TimeLimit);
    }

    #[test]
    fn what_is_missing() {
        let target = Target::found(EngineKind::Ray, "ray");
        let node = |gpus: f64| Resources::from([("CPU".to_owned(), 4.0), ("GPU".to_owned(), gpus)]);
        let cluster =
            Cluster { nodes: vec![node(2.0), node(2.0)], free: vec![node(2.0), node(0.0)], ..Cluster::default() };
        let own = ray("RUNNING");
        let now = Timestamp::from_second(1).unwrap();
        let explained =
            explain(&own, std::slice::from_ref(&own), &groups("PENDING"), Some(&cluster), &target, Vec::new(), now);
        assert_eq!(
            explained.job.reason.unwrap().text,
            "it needs 2 nodes with 1 CPU, 2 GPU each; 1 such nodes are free now"
        );
        let small = Cluster { nodes: vec![node(2.0)], free: vec![node(2.0)], ..Cluster::default() };
        let explained =
            explain(&own, std::slice::from_ref(&own), &groups("PENDING"), Some(&small), &target, Vec::new(), now);
        assert_eq!(explained.job.reason.unwrap().kind, ReasonKind::NoSuchNode);
        assert!(explained.unblock.unwrap().starts_with("cancel it"));
    }
}
