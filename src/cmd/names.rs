//! Names for a shell that completes: of targets, queues, jobs, nodes and pods. Whoever waits for a
//! completion has a finger on the key: it comes quickly or not at all, without a word of what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use clap_complete::CompletionCandidate;

use super::queue::list;
use super::runtime::block_on;
use super::settings::Settings;
use super::targets::Targets;
use crate::cluster::{self, Choice, Cluster, NodeChoice};
use crate::queue::{EngineKind, Filter, Job, State};
use crate::view::text;

/// How long a shell waits at most, for finding out which targets there are, too.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long it waits for one target: what is dead or slow hides nothing of the others.
const PATIENCE_EACH: Duration = Duration::from_millis(1500);
/// More than a screen can show help nobody.
const MOST: usize = 500;

/// Nodes of the cluster.
pub fn nodes() -> Vec<CompletionCandidate> {
    let found = ask(|settings| async move {
        let cluster = Cluster::connect(&settings.cluster).await.ok()?;
        cluster::nodes(&cluster, &NodeChoice::All).await.ok()
    });
    found.flatten().iter().flatten().filter_map(|node| candidate(&node.name, "")).collect()
}

/// Pods of the namespace, as `pod/NAME`.
pub fn pods() -> Vec<CompletionCandidate> {
    let found = ask(|settings| async move {
        let cluster = Cluster::connect(&settings.cluster).await.ok()?;
        cluster::pods(&cluster, Some(cluster.namespace()), &Choice::default()).await.ok()
    });
    found.flatten().iter().flatten().filter_map(|pod| candidate(&format!("pod/{}", pod.name), "")).collect()
}

/// Targets: those of the configuration, and the engines by their names. Nothing is asked.
pub fn targets() -> Vec<CompletionCandidate> {
    let Some(settings) = typed() else { return Vec::new() };
    let configured = settings.config.targets.iter().map(|options| {
        let engine = options.engine.map_or_else(|| "a cluster".to_owned(), |engine| engine.to_string());
        candidate(&options.name, &engine)
    });
    let named = |kind: &EngineKind| settings.config.targets.iter().any(|options| options.name == kind.name());
    let engines = EngineKind::ALL.into_iter().filter(|kind| !named(kind));
    configured.flatten().chain(engines.filter_map(|kind| candidate(kind.name(), "engine"))).collect()
}

/// Jobs.
pub fn jobs() -> Vec<CompletionCandidate> {
    jobs_that(|_| true)
}

/// Jobs that are not over.
pub fn living_jobs() -> Vec<CompletionCandidate> {
    jobs_that(|job| !job.state.is_over())
}

/// Jobs that somebody may release.
pub fn held_jobs() -> Vec<CompletionCandidate> {
    jobs_that(|job| job.state == State::Held)
}

/// Queues of all targets.
pub fn queues() -> Vec<CompletionCandidate> {
    let found = ask(|settings| async move {
        let targets = Targets::all(&settings).await;
        let asked = targets.engines.iter().map(|engine| async move {
            let queues = in_time(engine.queues()).await.and_then(Result::ok).unwrap_or_default();
            queues.into_iter().map(|queue| (queue.name, engine.target().name.clone())).collect::<Vec<_>>()
        });
        futures::future::join_all(asked).await.concat()
    });
    let mut found = found.unwrap_or_default();
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    found.iter().take(MOST).filter_map(|(queue, target)| candidate(queue, target)).collect()
}

fn jobs_that(are_meant: impl Fn(&Job) -> bool) -> Vec<CompletionCandidate> {
    let found = ask(|settings| async move {
        let filter = Filter { namespace: settings.cluster.namespace.clone(), ..Filter::default() };
        let targets = Targets::all(&settings).await;
        let each = targets.engines.into_iter().map(|engine| {
            let alone = Targets { engines: vec![engine], unreached: Vec::new() };
            in_time(list::ask(alone, &filter, false, true))
        });
        futures::future::join_all(each).await
    });
    let found = found.into_iter().flatten().flatten().flat_map(|seen| seen.jobs);
    let found: Vec<Job> = found.filter(are_meant).collect();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &found {
        *times.entry(job.name.as_str()).or_default() += 1;
    }
    let told = |job: &Job| {
        // A name that several jobs have names none of them.
        let name = if times.get(job.name.as_str()) == Some(&1) { job.name.clone() } else { job.address() };
        candidate(&name, &format!("{}, {}", job.state, job.target))
    };
    found.iter().take(MOST).filter_map(told).collect()
}

/// A name that a shell takes for nothing else; others are left out.
fn candidate(name: &str, about: &str) -> Option<CompletionCandidate> {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@+".contains(&byte);
    let sound = !name.is_empty() && name.bytes().all(is_sound);
    let about = (!about.is_empty()).then(|| text::plain(about).into());
    sound.then(|| CompletionCandidate::new(name).help(about))
}

/// What the line that is typed is about.
fn typed() -> Option<Settings> {
    Settings::half_typed(&std::env::args().collect::<Vec<_>>())
}

async fn in_time<T>(what: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE_EACH, what).await.ok()
}

/// Asks for a moment.
fn ask<T, F: Future<Output = T>>(what: impl FnOnce(Settings) -> F) -> Option<T> {
    let settings = typed()?;
    block_on(async { Ok(tokio::time::timeout(PATIENCE, what(settings)).await.ok()) }).ok()?
}
