//! `aictl queue release`: held jobs go on, those that are named, or those whose time has come.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueHint;
use clap_complete::ArgValueCandidates;

use super::list;
use super::order::{self, Order};
use super::resolve::is_called;
use crate::cmd::Done;
use crate::cmd::error::{BLIND, DONE, Error, FAILED};
use crate::cmd::names;
use crate::cmd::preload::{ModelPlace, is_ready};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::Settings;
use crate::cmd::targets::Targets;
use crate::queue::{After, Filter, Job, JobId, Outcome, State};

/// Let held jobs go on
///
/// With --ready those go on that `aictl submit` held for another job (--after) or for a model
/// (--needs-model) and that wait for nothing any more; without JOB of all targets. Run it from cron:
/// what is not ready stays held, and a second run does nothing twice. A job that was submitted with
/// --hold as well stays held until it is named.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Names, ids or TARGET:ID
    #[arg(value_name = "JOB", required_unless_present = "ready", add = ArgValueCandidates::new(names::held_jobs))]
    jobs: Vec<JobId>,
    /// Only those that wait for nothing any more
    #[arg(long)]
    ready: bool,
    /// What `aictl preload status -o json` said where the jobs run; again for more, all must have the
    /// model [default: the store of this node]
    #[arg(long, value_name = "FILE", requires = "ready", value_hint = ValueHint::FilePath)]
    models: Vec<PathBuf>,
    /// Store of models on this node, as --to of `aictl preload`
    #[arg(long, value_name = "DIR", requires = "ready", conflicts_with = "models", value_hint = ValueHint::DirPath)]
    store: Option<PathBuf>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  aictl queue release train                          whatever it waits for
  aictl queue release --ready                        all whose time has come; for cron
  ssh gpu-1 aictl preload status -o json > models.json; aictl queue release --ready --models models.json";

/// Releases.
pub fn run(args: &Args, settings: &Settings) -> Done {
    if !args.ready {
        return order::give(Order::Release, &args.jobs, args.dry_run, settings);
    }
    let place = ModelPlace { status: args.models.clone(), store: args.store.clone() };
    block_on(ready(args, &place, settings))
}

/// Whether a job may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Ready,
    /// Not yet: why.
    Waits(String),
    /// Never: why.
    Never(String),
}

async fn ready(args: &Args, place: &ModelPlace, settings: &Settings) -> Done {
    let targets = Targets::some(settings).await?;
    let engines = targets.engines.clone();
    // Jobs of other namespaces may be what a job waits for.
    let seen = list::ask(targets, &Filter::default(), false, true).await;
    for (target, error) in &seen.blind {
        settings.ui.error(&format!("{target} could not be asked: {error}"));
    }
    let mut code = if seen.blind.is_empty() { DONE } else { BLIND };
    let mut models: BTreeMap<String, Result<bool, String>> = BTreeMap::new();
    let meant = |job: &&Job| {
        let named =
            |id: &JobId| id.target.as_ref().is_none_or(|target| *target == job.target) && is_called(job, &id.job);
        let home = settings.cluster.namespace.as_ref();
        job.state == State::Held
            && home.is_none_or(|home| job.namespace.as_ref().is_none_or(|own| own == home))
            && (args.jobs.is_empty() || args.jobs.iter().any(named))
    };
    let mut released = 0;
    for job in seen.jobs.iter().filter(meant) {
        let Some(waits) = &job.waits_for else { continue };
        let address = job.address();
        if waits.hold {
            settings.ui.note(&format!("{address} stays held: it was submitted with --hold"));
            continue;
        }
        let mut verdict = Verdict::Ready;
        for after in &waits.after {
            verdict = verdict.and(about(after, job, &seen.jobs));
        }
        if let Some(model) = &waits.needs_model {
            let is_there = models.entry(model.clone()).or_insert_with(|| is_ready(model, place));
            verdict = verdict.and(match is_there {
                Ok(true) => Verdict::Ready,
                Ok(false) => Verdict::Waits(format!("{model} is not preloaded yet")),
                Err(why) => Verdict::Waits(format!("whether {model} is preloaded can't be seen: {why}")),
            });
        }
        match verdict {
            Verdict::Waits(why) => settings.ui.note(&format!("{address} waits: {why}")),
            Verdict::Never(why) => settings.ui.warn(&format!("{address} will never be ready: {why}")),
            Verdict::Ready if args.dry_run => order::say(settings, &address, "would be released")?,
            Verdict::Ready => {
                let engine = engines.iter().find(|engine| engine.target().name == job.target);
                let engine = engine.ok_or_else(|| Error::usage(format!("no target {:?}", job.target)))?;
                match engine.release(&job.id).await {
                    Ok(()) => {
                        released += 1;
                        order::say(settings, &address, "released")?;
                    }
                    // The others are not kept waiting for it.
                    Err(error) => {
                        code = FAILED;
                        settings.ui.error(&format!("cannot release {address}: {error}"));
                    }
                }
            }
        }
    }
    if released == 0 && !args.dry_run && code == DONE {
        settings.ui.note("nothing to release");
    }
    Ok(code)
}

impl Verdict {
    /// Of two conditions, the worse.
    fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Never(why), _) | (_, Verdict::Never(why)) => Verdict::Never(why),
            (Verdict::Waits(why), _) | (_, Verdict::Waits(why)) => Verdict::Waits(why),
            (Verdict::Ready, Verdict::Ready) => Verdict::Ready,
        }
    }
}

/// What a job that is waited for says. Its name may mean several: the nearest are meant, first those
/// of the same target and namespace, and of these what was submitted last.
fn about(after: &After, job: &Job, jobs: &[Job]) -> Verdict {
    let (target, name) = match after.job.split_once(':') {
        Some((target, name)) => (Some(target), name),
        None => (None, after.job.as_str()),
    };
    let called = |other: &&Job| {
        other.address() != job.address() && target.is_none_or(|target| other.target == target) && is_called(other, name)
    };
    let mut found: Vec<&Job> = jobs.iter().filter(called).collect();
    for near in [|a: &Job, b: &Job| a.target == b.target, |a: &Job, b: &Job| a.namespace == b.namespace] {
        if found.iter().any(|other| near(other, job)) {
            found.retain(|other| near(other, job));
        }
    }
    let Some(last) = found.iter().max_by_key(|other| other.submitted_at) else {
        return Verdict::Waits(format!("there is no job {} (it may have been deleted)", after.job));
    };
    if let Some(alive) = found.iter().find(|other| !other.state.is_over()) {
        return Verdict::Waits(format!("{} is {}", alive.address(), alive.state));
    }
    let fine = match after.outcome {
        Outcome::Ok => last.state == State::Succeeded,
        Outcome::NotOk => last.state != State::Succeeded,
        Outcome::Any => true,
    };
    match fine {
        true => Verdict::Ready,
        false => Verdict::Never(format!("{} {} (it waits for {after})", last.address(), last.state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{EngineKind, Target};

    fn job(target: &str, name: &str, state: State, at: i64) -> Job {
        Job {
            target: target.to_owned(),
            namespace: Some("ns".to_owned()),
            state,
            submitted_at: jiff::Timestamp::from_second(at).ok(),
            ..Job::bare(&Target::found(EngineKind::Kueue, ""), format!("ns/job/{name}"), name.to_owned())
        }
    }

    #[test]
    fn a_job_goes_on_when_what_it_waits_for_is_over() {
        let own = job("a", "train-0a1b2c3d", State::Held, 9);
        let said = |after: &str, others: &[Job]| about(&after.parse().unwrap(), &own, others);
        let (done, bad) =
            (job("a", "prepare-00000001", State::Succeeded, 1), job("a", "prepare-00000001", State::Failed, 1));
        assert_eq!(said("prepare", std::slice::from_ref(&done)), Verdict::Ready);
        assert!(matches!(said("prepare", std::slice::from_ref(&bad)), Verdict::Never(_)));
        assert_eq!(said("prepare:notok", std::slice::from_ref(&bad)), Verdict::Ready);
        assert_eq!(said("prepare:any", std::slice::from_ref(&bad)), Verdict::Ready);
        assert!(matches!(said("prepare:ok", &[job("a", "prepare", State::Running, 1)]), Verdict::Waits(_)));
        assert!(matches!(said("gone", &[]), Verdict::Waits(_)));
        // The same target's is meant before another's, and the last of several.
        let elsewhere = job("b", "prepare", State::Running, 5);
        assert_eq!(said("prepare", &[elsewhere.clone(), done.clone()]), Verdict::Ready);
        assert!(matches!(said("b:prepare", &[elsewhere, done.clone()]), Verdict::Waits(_)));
        let again = job("a", "prepare-00000002", State::Failed, 7);
        assert!(matches!(said("prepare", &[done, again]), Verdict::Never(_)));
    }
}
