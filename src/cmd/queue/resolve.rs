//! From what people call a job to the job.

use super::list;
use crate::cmd::error::Error;
use crate::cmd::settings::Settings;
use crate::cmd::targets::{Shared, Targets};
use crate::queue::{Array, EngineKind, Filter, Job, JobId, LIKE_A_JOB, QueueError, nearest};

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
    let seen = list::ask(targets, &filter, false, true).await;
    let mut called: Vec<(&Job, &str)> = seen.jobs.iter().filter_map(|job| Some((job, meant(job, &id.job)?))).collect();
    if called.len() > 1 && called.iter().any(|(job, _)| !job.state.is_over()) {
        // The living one is meant.
        called.retain(|(job, _)| !job.state.is_over());
    }
    // The parts of one array are one job.
    let mut jobs: Vec<(&Job, &str)> = Vec::new();
    for (job, own) in called {
        if !jobs.iter().any(|(other, known)| (&other.target, *known) == (&job.target, own)) {
            jobs.push((job, own));
        }
    }
    match jobs.as_slice() {
        [(job, own)] => {
            let engine = engines.iter().find(|engine| engine.target().name == job.target);
            let engine = engine.ok_or_else(|| Error::usage(format!("no target {:?}", job.target)))?;
            let job = if job.id == *own { (*job).clone() } else { engine.get(own).await? };
            Ok(Resolved { engine: Shared::clone(engine), job })
        }
        [] => match seen.blind.into_iter().next() {
            // It may be just there.
            Some((_, error)) => Err(error.into()),
            None => {
                let nearest = nearest(&id.job, seen.jobs.iter().map(|job| job.name.as_str()), LIKE_A_JOB);
                Err(QueueError::NoSuchJob { job: id.to_string(), looked: looked.join(", "), nearest }.into())
            }
        },
        several => Err(QueueError::Ambiguous {
            job: id.to_string(),
            addresses: several.iter().take(10).map(|(job, own)| format!("{}:{own}", job.target)).collect(),
        }
        .into()),
    }
}

/// The number of an array, and which of its tasks a job is: Slurm lists an array in parts, `12_3` and `12_[4-9%2]`.
pub(super) fn part(job: &Job) -> Option<(&str, &str)> {
    job.id.split_once('_').filter(|_| job.backend == EngineKind::Slurm)
}

/// The id under which a text means a job, if it means it: of a part of an array the whole array's, unless
/// the text names the part.
fn meant<'j>(job: &'j Job, text: &'j str) -> Option<&'j str> {
    if job.id == text {
        return Some(&job.id);
    }
    let Some((array, tasks)) = part(job) else { return is_called(job, text).then_some(job.id.as_str()) };
    let holds = |index: &str| {
        let left = tasks.strip_prefix('[').and_then(|tasks| tasks.strip_suffix(']'))?.parse::<Array>().ok()?;
        Some(left.indices().contains(&index.parse().ok()?))
    };
    match text.split_once('_') {
        // A task that has not started has no line of its own.
        Some((number, index)) if number == array && holds(index) == Some(true) => Some(text),
        _ => (text == array || is_called(job, text)).then_some(array),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Target;

    #[test]
    fn the_parts_of_an_array_are_one_job() {
        let job = |id: &str, backend| Job {
            target: "lab".to_owned(),
            owner: "ada".to_owned(),
            queue: "main".to_owned(),
            ..Job::bare(&Target::found(backend, "lab"), id.to_owned(), "arr".to_owned())
        };
        let (task, rest) = (job("31_0", EngineKind::Slurm), job("31_[1-3%2]", EngineKind::Slurm));
        for text in ["arr", "31"] {
            assert_eq!((meant(&task, text), meant(&rest, text)), (Some("31"), Some("31")), "{text}");
        }
        assert_eq!((meant(&task, "31_0"), meant(&rest, "31_0")), (Some("31_0"), None));
        assert_eq!((meant(&task, "31_2"), meant(&rest, "31_2")), (None, Some("31_2")));
        assert_eq!(meant(&rest, "31_[1-3%2]"), Some("31_[1-3%2]"));
        for text in ["3", "31_9", "31_", "31_x", "_", "other"] {
            assert_eq!((meant(&task, text), meant(&rest, text)), (None, None), "{text}");
        }
        // Elsewhere a name may have a line below.
        assert_eq!(meant(&job("a_b", EngineKind::Ray), "a"), None);
        assert_eq!(meant(&job("a_b", EngineKind::Ray), "arr"), Some("a_b"));
    }
}
