//! Jobs before and after: has their pods save their work and sees that they did; sees that what was
//! moved runs again.

use std::time::{Duration, Instant};

use super::change::{Change, ClusterChange, Did, words};
use super::evict::chosen;
use super::gate::{Beginning, Gate, Held};
use super::hands::{Asked, PodView, Request};
use super::outside::{NO_CLUSTER, away};
use super::steps::{Doing, End, failed, skipped, wait};
use crate::fault::playbook::{Save, StepState};

/// Between two looks.
const ROUND: Duration = Duration::from_millis(500);
/// Longest time for one look.
const REQUEST: Duration = Duration::from_secs(30);

pub fn checkpoint(doing: &Doing<'_>, gate: &mut Gate<'_>, save: &Save) -> Result<End, Held> {
    let Some(hands) = gate.hands() else { return wait(NO_CLUSTER) };
    let (incident, step) = (doing.incident, doing.step);
    let timeout = step.timeout().0;
    let mut pods = match chosen(doing, &hands, timeout) {
        Ok(pods) => pods,
        Err(error) => return away(&error),
    };
    pods.retain(|pod| !pod.ending);
    if pods.is_empty() {
        return skipped("no pods to ask");
    }
    let exec = match &save.signal {
        Some(signal) => vec!["kill".to_owned(), "-s".to_owned(), signal.clone(), "1".to_owned()],
        None => save.exec.clone(),
    };
    let filled = doing.filling.fill(&exec).and_then(|exec| Ok((exec, doing.filling.fill(&save.proof)?)));
    let (exec, proof) = match filled {
        Ok(filled) => filled,
        Err(error) => return failed(error),
    };
    // The same for every run of this attempt, so that an answer to an earlier one counts.
    let value = format!("{}-{}", incident.id, incident.attempt);
    let body = format!("{{\"incident\":\"{}\",\"attempt\":{}}}", incident.id, incident.attempt);
    let pass = gate.begin(&incident.id, incident.attempt, doing.index, step.step, timeout, Beginning::default())?;
    let since = Instant::now();
    let left = || timeout.saturating_sub(since.elapsed()).max(Duration::from_secs(1));
    let mut would = Vec::new();
    let mut waiting: Vec<&PodView> = Vec::new();
    let mut refused = Vec::new();
    for pod in &pods {
        let container = save.container.as_deref().or(pod.container.as_deref());
        let request = match (&save.http, save.annotate) {
            (Some(place), _) => Request::Http { place, body: &body },
            (None, true) => Request::Annotation(&value),
            (None, false) => Request::Exec { words: &exec, container },
        };
        let proves = proof.is_empty() && !save.annotate;
        match gate.change(&pass, &Change::Cluster { change: ClusterChange::Request(pod, request), timeout: left() })? {
            Did::Would(what) => would.push(what),
            Did::Later(why) | Did::Failed(why) => refused.push(format!("pod {}: {why}", pod.place())),
            _ if proves => {}
            _ => waiting.push(pod),
        }
    }
    if gate.is_dry() {
        return Ok(End::Is(StepState::Planned, format!("would {}", would.join(", "))));
    }
    while !waiting.is_empty() && since.elapsed() < timeout {
        gate.check(None, Duration::ZERO)?;
        let mut still = Vec::new();
        for pod in waiting {
            let container = save.container.as_deref().or(pod.container.as_deref());
            let proved = if proof.is_empty() {
                // A pod that is gone has nothing left to save.
                matches!(hands.has_answered(pod, &value, left().min(REQUEST)), Ok(Asked::Done | Asked::Gone))
            } else {
                let request = Request::Exec { words: &proof, container };
                let change = ClusterChange::Request(pod, request);
                matches!(gate.change(&pass, &Change::Cluster { change, timeout: left().min(REQUEST) })?, Did::Done)
            };
            if !proved {
                still.push(pod);
            }
        }
        waiting = still;
        if !waiting.is_empty() {
            std::thread::sleep(ROUND);
        }
    }
    refused.extend(waiting.iter().map(|pod| format!("pod {} gave no proof", pod.place())));
    let (state, why) = match refused.first() {
        None => (StepState::Done, format!("{} saved", pods.len())),
        Some(first) => (StepState::Failed, format!("{} of {} saved; {first}", pods.len() - refused.len(), pods.len())),
    };
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}

/// Waits until the jobs whose pods were moved have as many that run, and are none of those.
pub fn resume(doing: &Doing<'_>, gate: &mut Gate<'_>) -> Result<End, Held> {
    let Some(hands) = gate.hands() else { return wait(NO_CLUSTER) };
    let (incident, step) = (doing.incident, doing.step);
    if gate.is_dry() {
        return Ok(End::Is(StepState::Planned, "would wait until what was moved runs again".to_owned()));
    }
    let moved = doing.past().map(|past| past.moved.clone()).unwrap_or_default();
    if moved.is_empty() {
        return skipped("nothing was moved");
    }
    let timeout = step.timeout().0;
    let pass = gate.begin(&incident.id, incident.attempt, doing.index, step.step, timeout, Beginning::default())?;
    let since = Instant::now();
    let (state, why) = loop {
        let mut runs = Vec::new();
        let mut lacks = Vec::new();
        for job in &moved {
            match hands.runs_again(job, REQUEST) {
                Ok(running) if running >= job.pods.len() => runs.push(format!("{}/{}", job.namespace, job.owner)),
                Ok(running) => lacks.push(format!("{}/{}: {running} of {}", job.namespace, job.owner, job.pods.len())),
                Err(error) => lacks.push(words(&error)),
            }
        }
        if lacks.is_empty() {
            break (StepState::Done, format!("runs again: {}", runs.join(", ")));
        }
        if since.elapsed() >= timeout {
            break (StepState::Failed, format!("does not run again: {}", lacks.join(", ")));
        }
        gate.check(None, Duration::ZERO)?;
        std::thread::sleep(ROUND);
    };
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}
