//! What a shell is told may follow: names of jobs, queues and targets. Whoever waits for a completion
//! waits for a moment only, and is told nothing of what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use clap_complete::CompletionCandidate;

use super::list;
use crate::cmd::runtime::block_on;
use crate::cmd::settings::Settings;
use crate::cmd::targets::Targets;
use crate::queue::{EngineKind, Filter, Job, State};
use crate::view::text;

/// How long a shell waits.
const PATIENCE: Duration = Duration::from_millis(1500);
/// More than a screen can show help nobody.
const MOST: usize = 500;

/// Targets: those of the configuration, and the engines by their names. Nothing is asked.
pub fn targets() -> Vec<CompletionCandidate> {
    let Some(settings) = Settings::without_flags() else { return Vec::new() };
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
    named(|_| true)
}

/// Jobs that are not over.
pub fn living() -> Vec<CompletionCandidate> {
    named(|job| !job.state.is_over())
}

/// Jobs that somebody may release.
pub fn held() -> Vec<CompletionCandidate> {
    named(|job| job.state == State::Held)
}

/// Queues of all targets.
pub fn queues() -> Vec<CompletionCandidate> {
    let found = within(|settings| async move {
        let targets = Targets::all(&settings).await;
        let asked = targets.engines.iter().map(|engine| async move {
            let queues = engine.queues().await.unwrap_or_default();
            queues.into_iter().map(|queue| (queue.name, engine.target().name.clone())).collect::<Vec<_>>()
        });
        futures::future::join_all(asked).await.concat()
    });
    let mut found = found.unwrap_or_default();
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    found.iter().take(MOST).filter_map(|(queue, target)| candidate(queue, target)).collect()
}

fn named(wanted: impl Fn(&Job) -> bool) -> Vec<CompletionCandidate> {
    let found = within(|settings| async move {
        let filter = Filter { namespace: settings.cluster.namespace.clone(), ..Filter::default() };
        list::ask(Targets::all(&settings).await, &filter, false, true).await.jobs
    });
    let found: Vec<Job> = found.unwrap_or_default().into_iter().filter(wanted).collect();
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

/// A name as it may stand on a command line; others are left out.
fn candidate(name: &str, about: &str) -> Option<CompletionCandidate> {
    let plain = !name.is_empty() && text::plain(name) == name && !name.contains(char::is_whitespace);
    plain.then(|| CompletionCandidate::new(name).help(Some(text::plain(about).into())))
}

/// Asks for a moment.
fn within<T, F: Future<Output = T>>(ask: impl FnOnce(Settings) -> F) -> Option<T> {
    let settings = Settings::without_flags()?;
    block_on(async { Ok(tokio::time::timeout(PATIENCE, ask(settings)).await.ok()) }).ok()?
}
