//! Where a job of any kind stands by its own status, without a queue's view of it.

use jiff::Timestamp;

use super::kinds::{self, JobKind};
use super::object;
use super::read::{AnyJob, holds, id};
use crate::queue::job::JOB_SCHEMA;
use crate::queue::{After, EngineKind, Job, Reason, ReasonKind, State, Target, Waits};

/// Whether its pods run, as far as its status tells.
pub fn runs(job: &AnyJob) -> bool {
    let status = &job.status;
    status.active.is_some_and(|active| active > 0)
        || holds(&status.conditions, "Running").is_some()
        || status.replicated_jobs_status.iter().any(|jobs| jobs.active > 0 || jobs.ready > 0)
        || status.running.is_some_and(|running| running > 0)
        || status.job_deployment_status.as_deref() == Some("Running")
}

/// Whether it ended, and how.
pub fn ended(job: &AnyJob) -> Option<State> {
    let conditions = &job.status.conditions;
    let any = |kinds: &[&str]| kinds.iter().find_map(|kind| holds(conditions, kind));
    let ray = job.status.job_status.as_deref();
    if any(&["Complete", "Completed", "Succeeded", "SuccessCriteriaMet"]).is_some() || ray == Some("SUCCEEDED") {
        return Some(State::Succeeded);
    }
    if any(&["Failed", "FailureTarget"]).is_some() || ray == Some("FAILED") {
        return Some(State::Failed);
    }
    if ray == Some("STOPPED") {
        return Some(State::Cancelled);
    }
    match job.status.state.phase.as_str() {
        "Completed" | "Completing" => Some(State::Succeeded),
        "Failed" => Some(State::Failed),
        "Terminated" | "Terminating" => Some(State::Cancelled),
        _ => None,
    }
}

/// Why it failed, in its own words.
fn failure(job: &AnyJob) -> Option<Reason> {
    let failed = holds(&job.status.conditions, "Failed").or_else(|| holds(&job.status.conditions, "FailureTarget"))?;
    let (kind, text) = match failed.reason.as_str() {
        "DeadlineExceeded" => (ReasonKind::TimeLimit, "it ran into its time limit"),
        _ => (ReasonKind::ExitCode, "its program ended with an error, as often as it was tried"),
    };
    Some(Reason::new(kind, text, format!("{}: {}", failed.reason, failed.message)))
}

/// The job without its queue.
pub fn job(target: &Target, kind: JobKind, any: &AnyJob) -> Job {
    let meta = &any.metadata;
    let (nodes, gpus) = any.size();
    let held_queue = meta.labels.get(object::HELD_QUEUE_LABEL);
    let queue = held_queue
        .or_else(|| meta.labels.get(object::KUEUE_QUEUE))
        .or_else(|| meta.annotations.get(object::KUBE_QUEUE_QUEUE))
        .or(any.spec.queue.as_ref())
        .filter(|_| target.kind != EngineKind::Kubernetes);
    let state = match ended(any) {
        _ if meta.deletion_timestamp.is_some() => State::Cancelled,
        Some(state) => state,
        None => alive(target, kind, any),
    };
    let time_limit_s = meta.annotations.get(object::TIME_LIMIT).and_then(|limit| limit.parse().ok());
    Job {
        schema: JOB_SCHEMA,
        id: id(meta, kind),
        name: meta.name.clone(),
        backend: target.kind,
        cluster: target.cluster.clone(),
        target: target.name.clone(),
        namespace: meta.namespace.clone(),
        queue: queue.cloned().unwrap_or_default(),
        owner: meta.annotations.get(object::OWNER).or(meta.namespace.as_ref()).cloned().unwrap_or_default(),
        state,
        position: None,
        ahead: None,
        eta: None,
        reason: waits(any, state).or_else(|| (state == State::Failed).then(|| failure(any)).flatten()),
        priority: None,
        nodes,
        gpus,
        submitted_at: meta.creation_timestamp,
        started_at: any.status.start_time.filter(|_| !state.is_waiting()),
        finished_at: any.status.completion_time.or_else(|| over_at(any)).filter(|_| state.is_over()),
        time_limit_s,
        exit_code: None,
        submission_id: meta.labels.get(object::SUBMISSION_LABEL).cloned(),
        waits_for: waits_for(any).filter(|_| state == State::Held),
    }
}

fn over_at(any: &AnyJob) -> Option<Timestamp> {
    let conditions = &any.status.conditions;
    let over = ["Complete", "Completed", "Succeeded", "Failed"].iter().find_map(|kind| holds(conditions, kind))?;
    over.last_transition_time
}

fn alive(target: &Target, kind: JobKind, any: &AnyJob) -> State {
    if kind == kinds::VCJOB {
        return match any.status.state.phase.as_str() {
            "Aborting" | "Aborted" => State::Held,
            "Running" | "Restarting" => State::Running,
            _ => State::Pending,
        };
    }
    let held = any.metadata.labels.contains_key(object::HELD_QUEUE_LABEL)
        || (any.is_suspended() && (target.kind == EngineKind::Kubernetes || waits_for_something(any)));
    match (held, any.is_suspended(), runs(any)) {
        (true, ..) => State::Held,
        (_, true, _) => State::Pending,
        (_, _, true) => State::Running,
        // Nothing holds it, and its pods are not there yet.
        _ => State::Pending,
    }
}

fn waits_for_something(any: &AnyJob) -> bool {
    let annotations = &any.metadata.annotations;
    annotations.contains_key(object::AFTER) || annotations.contains_key(object::NEEDS_MODEL)
}

/// What was asked of aictl.
fn waits_for(any: &AnyJob) -> Option<Waits> {
    let annotations = &any.metadata.annotations;
    let after = annotations.get(object::AFTER);
    let after: Vec<After> = after.iter().flat_map(|text| text.split(',')).filter_map(|one| one.parse().ok()).collect();
    let needs_model = annotations.get(object::NEEDS_MODEL).cloned();
    let hold = annotations.contains_key(object::HELD);
    (!after.is_empty() || needs_model.is_some()).then_some(Waits { after, needs_model, hold })
}

/// What a held job waits for, by what was asked of aictl.
fn waits(any: &AnyJob, state: State) -> Option<Reason> {
    if state != State::Held {
        return None;
    }
    let annotations = &any.metadata.annotations;
    Some(if let Some(model) = annotations.get(object::NEEDS_MODEL) {
        Reason::new(ReasonKind::WaitingForModel, format!("it waits until {model} is preloaded"), object::NEEDS_MODEL)
    } else if let Some(after) = annotations.get(object::AFTER) {
        Reason::new(ReasonKind::Dependency, format!("it waits for {after}"), object::AFTER)
    } else {
        Reason::new(ReasonKind::Held, "somebody must release it", "held")
    })
}
