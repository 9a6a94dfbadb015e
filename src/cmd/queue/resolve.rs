//! From what people call a job to the job.

use super::list;
use crate::cmd::error::Error;
use crate::cmd::settings::Settings;
use crate::cmd::targets::{Shared, Targets};
use crate::queue::{Filter, Job, JobId, LIKE_A_JOB, QueueError, nearest};

/// A job and the engine that has it.
pub struct Resolved {
    /// Its engine.
    pub engine: Shared,
    /// As it was when it was found.
    pub job: Job,
}

/// Finds a job.
///
/// # Errors
/// If there is none, or several, or a target that may have it could not be asked.
pub async fn one(id: &JobId, settings: &Settings) -> Result<Resolved, Error> {
    let targets = match &id.target {
        Some(name) => match Targets::one(name, settings).await {
            Ok(engine) => Targets { engines: vec![engine], unreached: Vec::new() },
            // One that was found has a name that only the whole look gives.
            Err(error @ QueueError::NoSuchTarget { .. }) => {
                let mut all = Targets::all(settings).await;
                all.engines.retain(|engine| engine.target().name == *name);
                if all.engines.is_empty() && all.unreached.is_empty() {
                    return Err(error.into());
                }
                all
            }
            Err(error) => return Err(error.into()),
        },
        None => Targets::some(settings).await?,
    };
    // A whole id of a named target is asked for by itself: a list may be long.
    if let ([engine], true) = (targets.engines.as_slice(), id.job.contains('/') || id.target.is_some()) {
        match engine.get(&id.job).await {
            Ok(job) => return Ok(Resolved { engine: Shared::clone(engine), job }),
            Err(QueueError::NoSuchJob { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let engines = targets.engines.clone();
    let looked: Vec<String> = engines.iter().map(|engine| engine.target().name.clone()).collect();
    let filter = Filter { namespace: settings.cluster.namespace.clone(), ..Filter::default() };
    let mut seen = list::ask(targets, &filter, false, true).await;
    let names: Vec<String> = seen.jobs.iter().map(|job| job.name.clone()).collect();
    seen.jobs.retain(|job| is_called(job, &id.job));
    if seen.jobs.len() > 1 && seen.jobs.iter().any(|job| !job.state.is_over()) {
        // The living one is meant.
        seen.jobs.retain(|job| !job.state.is_over());
    }
    match seen.jobs.as_slice() {
        [job] => {
            let engine = engines.iter().find(|engine| engine.target().name == job.target);
            let engine = engine.ok_or_else(|| Error::usage(format!("no target {:?}", job.target)))?;
            Ok(Resolved { engine: Shared::clone(engine), job: job.clone() })
        }
        [] => match seen.blind.into_iter().next() {
            // It may be just there.
            Some((_, error)) => Err(error.into()),
            None => {
                let nearest = nearest(&id.job, names.iter().map(String::as_str), LIKE_A_JOB);
                Err(QueueError::NoSuchJob { job: id.to_string(), looked: looked.join(", "), nearest }.into())
            }
        },
        several => Err(QueueError::Ambiguous {
            job: id.to_string(),
            addresses: several.iter().take(10).map(Job::address).collect(),
        }
        .into()),
    }
}

/// A name as it was given, without the digits of its submission.
pub fn given(name: &str) -> &str {
    let digits = |digits: &str| digits.len() == 8 && digits.chars().all(|c| c.is_ascii_hexdigit());
    name.rsplit_once('-').filter(|(_, end)| digits(end)).map_or(name, |(given, _)| given)
}

/// Whether people may mean a job by a text.
pub(super) fn is_called(job: &Job, text: &str) -> bool {
    let (namespace, rest) = match text.split_once('/') {
        Some((namespace, rest)) => (Some(namespace), rest),
        None => (None, text),
    };
    job.id == text
        || job.submission_id.as_deref() == Some(text)
        || (namespace.is_none_or(|namespace| job.namespace.as_deref() == Some(namespace))
            && (job.name == rest || given(&job.name) == rest))
        // KIND/NAME, as kubectl has it.
        || (namespace.is_some() && job.id.ends_with(&format!("/{text}")))
}
