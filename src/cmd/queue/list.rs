//! `aictl queue list`.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use super::{ListArgs, resolve};
use crate::cluster::ClusterError;
use crate::cmd::Done;
use crate::cmd::error::{BLIND, DONE, Error};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::{OutputFormat, Settings};
use crate::cmd::targets::{self, Shared, Targets};
use crate::queue::{Filter, Job, QueueError, State};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, human};

/// Between looks with `--watch`.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What a look at all targets gives.
pub struct Seen {
    /// Jobs of all targets, in order.
    pub jobs: Vec<Job>,
    /// Targets that could not be asked, and why.
    pub blind: Vec<(String, QueueError)>,
    /// Targets that let us see one namespace only, and which.
    pub narrowed: Vec<(String, String)>,
}

/// Lists.
pub fn run(args: &ListArgs, settings: &Settings) -> Done {
    block_on(async {
        let mut last: Option<Vec<Job>> = None;
        let mut targets = choose(args, settings).await?;
        if targets.engines.is_empty() && targets.unreached.is_empty() {
            // Whoever reads JSON gets a document whatever is wrong.
            if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
                print(&[], settings)?;
            }
            return Err(targets::nothing().into());
        }
        loop {
            let engines = targets.engines.clone();
            let filter = filter(args, settings);
            // Who writes -A wants all or an error.
            let seen = ask(targets, &filter, args.mine, !args.all_namespaces).await;
            for (target, namespace) in seen.narrowed.iter().filter(|_| last.is_none()) {
                settings.ui.note(&format!(
                    "{target}: not permitted to list all namespaces; these are the jobs of namespace {namespace}"
                ));
            }
            for (target, error) in &seen.blind {
                settings.ui.error(&format!("{target} could not be asked: {error}"));
                if let (Some(hint), true) = (error.hint(), last.is_none()) {
                    settings.ui.hint(&hint);
                }
            }
            if !args.watch {
                // Who saw nothing does not know that there are none.
                let unseen = seen.jobs.is_empty() && !seen.blind.is_empty();
                if !unseen || matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
                    print(&seen.jobs, settings)?;
                }
                return Ok(if seen.blind.is_empty() { DONE } else { BLIND });
            }
            // What stayed as it was is not printed again.
            let changed: Vec<Job> = match &last {
                None => seen.jobs.clone(),
                Some(old) => changes(old, &seen.jobs),
            };
            if last.is_none() || !changed.is_empty() {
                print(&changed, settings)?;
            }
            last = Some(seen.jobs);
            tokio::time::sleep(LOOK_AGAIN).await;
            // What answered is asked again as it is; what did not may have changed its address.
            targets = match seen.blind.is_empty() {
                true => Targets { engines, unreached: Vec::new() },
                false => choose(args, settings).await?,
            };
        }
    })
}

fn changes(old: &[Job], new: &[Job]) -> Vec<Job> {
    let known: HashMap<String, &Job> = old.iter().map(|job| (job.address(), job)).collect();
    let same = |job: &&Job| {
        known.get(&job.address()).is_some_and(|old| old.state == job.state && old.position == job.position)
    };
    new.iter().filter(|job| !same(job)).cloned().collect()
}

fn filter(args: &ListArgs, settings: &Settings) -> Filter {
    Filter {
        namespace: settings.cluster.namespace.clone().filter(|_| !args.all_namespaces),
        owner: args.owner.clone(),
        states: args.state.clone(),
        queue: args.queue.clone(),
        selector: args.selector.clone(),
    }
}

/// The targets that are meant.
async fn choose(args: &ListArgs, settings: &Settings) -> Result<Targets, Error> {
    Ok(match &args.target {
        Some(name) => Targets { engines: vec![Targets::one(name, settings).await?], unreached: Vec::new() },
        None => Targets::all(settings).await,
    })
}

/// Asks targets at once for what passes. With `narrow` a cluster that does not let us list all
/// namespaces is asked for our own.
pub async fn ask(targets: Targets, filter: &Filter, mine: bool, narrow: bool) -> Seen {
    let asked = targets.engines.iter().map(|engine: &Shared| {
        let mut filter = filter.clone();
        async move {
            if mine {
                filter.owner = Some(engine.user().await?);
            }
            match (engine.list(&filter).await, engine.home()) {
                (Err(QueueError::Cluster(ClusterError::Forbidden { .. })), Some(home))
                    if narrow && filter.namespace.is_none() =>
                {
                    filter.namespace = Some(home.to_owned());
                    Ok((engine.list(&filter).await?, Some(home)))
                }
                (listed, _) => Ok((listed?, None)),
            }
        }
    });
    let mut seen = Seen { jobs: Vec::new(), blind: targets.unreached, narrowed: Vec::new() };
    for (engine, listed) in targets.engines.iter().zip(join_all(asked).await) {
        match listed {
            Ok((jobs, narrowed)) => {
                seen.jobs.extend(jobs);
                let name = &engine.target().name;
                seen.narrowed.extend(narrowed.map(|namespace| (name.clone(), namespace.to_owned())));
            }
            Err(error) => seen.blind.push((engine.target().name.clone(), error)),
        }
    }
    // What runs first, then what waits in the order in which it will run, then what is over.
    let order = |state: State| match state {
        State::Running => 0,
        State::Admitted => 1,
        State::Pending => 2,
        State::Held => 3,
        State::Failed => 4,
        State::Cancelled => 5,
        State::Succeeded => 6,
    };
    seen.jobs.sort_by(|a, b| {
        (order(a.state), &a.target, &a.queue, a.position, &a.id).cmp(&(
            order(b.state),
            &b.target,
            &b.queue,
            b.position,
            &b.id,
        ))
    });
    seen
}

fn print(jobs: &[Job], settings: &Settings) -> Result<(), Error> {
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => ui.json(&jobs),
        OutputFormat::Yaml => ui.yaml(&jobs),
        OutputFormat::Name if jobs.is_empty() => Ok(()),
        OutputFormat::Name => ui.print(&jobs.iter().map(Job::address).collect::<Vec<_>>().join("\n")),
        OutputFormat::Table | OutputFormat::Wide if jobs.is_empty() => {
            ui.note("no jobs");
            Ok(())
        }
        format => ui.print(&table(jobs, format == OutputFormat::Wide, settings)),
    }
    .map_err(Error::output)
}

/// The name as it was given, which every command takes, if no other job in the list has it.
fn short<'j>(job: &'j Job, count: usize, given: &HashMap<&str, usize>) -> &'j str {
    let own = resolve::given(&job.name);
    // Of one job alone nobody knows whether there are others.
    if count > 1 && given.get(own) == Some(&1) { own } else { &job.name }
}

fn table(jobs: &[Job], wide: bool, settings: &Settings) -> String {
    let mut columns =
        vec![("NAME", Align::Flexible), ("STATE", Align::Left), ("TARGET", Align::Left), ("QUEUE", Align::Flexible)];
    columns.extend([("POS", Align::Right), ("NODES", Align::Right), ("GPUS", Align::Right)]);
    if wide {
        columns.extend([("ID", Align::Flexible), ("OWNER", Align::Flexible), ("PRIORITY", Align::Right)]);
    }
    columns.extend([("WHY", Align::Flexible), ("AGE", Align::Right)]);
    let now = Timestamp::now();
    let mut table = Table::new(&columns);
    let mut given: HashMap<&str, usize> = HashMap::new();
    for job in jobs {
        *given.entry(resolve::given(&job.name)).or_default() += 1;
    }
    for job in jobs {
        let name = if wide { job.name.as_str() } else { short(job, jobs.len(), &given) };
        let queue = if job.queue.is_empty() { "-".to_owned() } else { job.queue.clone() };
        let mut cells = vec![name.to_owned(), job.state.to_string(), job.target.clone(), queue];
        cells.push(job.position.map(|position| position.to_string()).unwrap_or_else(|| "-".to_owned()));
        cells.extend([job.nodes.to_string(), job.gpus.to_string()]);
        if wide {
            cells.extend([job.id.clone(), job.owner.clone()]);
            cells.push(job.priority.map(|priority| priority.to_string()).unwrap_or_else(|| "-".to_owned()));
        }
        let why = job.reason.as_ref().map(|reason| reason.kind.name().replace('_', " "));
        cells.push(why.unwrap_or_else(|| "-".to_owned()));
        cells.push(
            job.submitted_at.map_or_else(|| "-".to_owned(), |at| human::age(now.duration_since(at).as_secs_f64())),
        );
        table.row(cells);
    }
    let width = if wide { usize::MAX } else { settings.ui.width() };
    if !wide {
        for name in ["POS", "QUEUE", "WHY"] {
            table.drop_if_silent(name);
        }
        if jobs.iter().all(|job| Some(&job.target) == jobs.first().map(|first| &first.target)) {
            table.drop_column("TARGET");
        }
    }
    let lines = table.fit(width, settings.ui.unicode(), &["NODES", "QUEUE", "POS", "AGE", "TARGET"]);
    let colour = |index: usize| match index.checked_sub(1).and_then(|index| jobs.get(index)).map(|job| job.state) {
        None => style::HEADER,
        Some(State::Running) => style::GOOD,
        Some(State::Failed) => style::BAD,
        Some(State::Held) => style::WARN,
        Some(State::Succeeded | State::Cancelled) => style::FAINT,
        Some(_) => anstyle::Style::new(),
    };
    lines.iter().enumerate().map(|(index, line)| paint(colour(index), line)).collect::<Vec<_>>().join("\n")
}
