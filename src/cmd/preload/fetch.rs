//! Fetches one source after the other, and says what came of it.

use std::sync::Arc;
use std::time::Duration;

use super::super::Done;
use super::super::error::{DONE, Error, FOUND};
use super::super::runtime;
use super::super::settings::{OutputFormat, Settings};
use super::progress::{self, Listener};
use super::{Args, memory, render, show};
use crate::preload::bring::{bring, offer_known, plan, tidy};
use crate::preload::part::Part;
use crate::preload::peer::Peers;
use crate::preload::{Access, Brought, Choice, Manner, Order, Plan, Snapshot, Source, Store};

/// What was meant, for all sources.
struct Meant {
    store: Store,
    access: Access,
    choice: Choice,
    manner: Manner,
    max_age: Option<Duration>,
    wait: Duration,
    verify: bool,
    part: Option<Part>,
}

/// The size of what is wanted of a source.
pub fn size(args: &Args, source: &Source) -> Result<u64, Error> {
    let (meant, silent) = (meant(args)?, progress::silent());
    Ok(runtime::block_on_threads(async { Ok(plan(&meant.order(source, None, &*silent)).await?) })?.bytes)
}

fn meant(args: &Args) -> Result<Meant, Error> {
    let chosen = &args.choice;
    Ok(Meant {
        store: args.place.store()?,
        access: Access::of_environment(chosen.mount.clone()),
        choice: Choice::new(&chosen.include, &chosen.exclude)
            .map_err(|why| Error::usage(format!("wrong pattern {why}")).hint("quote it: --include '*.safetensors'"))?,
        manner: Manner {
            connections: usize::from(chosen.connections),
            max_memory: chosen.max_memory.0,
            limit_rate: chosen.limit_rate.map(|rate| rate.0),
            stall: chosen.stall_timeout.0,
            retries: chosen.retries,
            tell: chosen.tell.0,
        },
        max_age: chosen.max_age.map(|age| age.0),
        wait: chosen.wait.0,
        verify: args.verify,
        part: args.memory.part()?,
    })
}

/// Fetches, or only plans.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let meant = meant(args)?;
    if args.dry_run {
        return dry_run(args, &meant, settings);
    }
    let listener = progress::listener(settings);
    let brought = runtime::block_on_threads(async {
        let peers = args.peers.start().await?;
        args.sources.iter().for_each(|source| offer_known(&meant.order(source, peers.as_ref(), &*listener)));
        args.peers.meet(peers.as_ref()).await;
        let mut brought = Vec::new();
        for source in &args.sources {
            brought.push(bring(&meant.order(source, peers.as_ref(), &*listener)).await?);
        }
        args.peers.end(peers.as_ref()).await;
        if peers.is_some() {
            args.sources.iter().for_each(|source| tidy(&meant.order(source, peers.as_ref(), &*listener)));
        }
        Ok(brought)
    });
    listener.close();
    let brought = brought?;
    finish(args, &brought, settings)
}

impl Meant {
    fn order<'a>(&'a self, source: &'a Source, peers: Option<&'a Arc<Peers>>, listener: &'a dyn Listener) -> Order<'a> {
        Order {
            source,
            store: &self.store,
            access: &self.access,
            choice: &self.choice,
            manner: &self.manner,
            max_age: self.max_age,
            wait: self.wait,
            verify: self.verify,
            part: self.part.as_ref(),
            peers,
            sink: listener.sink(),
        }
    }
}

/// Warms what is to be warm, and prints.
fn finish(args: &Args, brought: &[Brought], settings: &Settings) -> Done {
    let snapshots: Vec<Snapshot> = brought.iter().map(|one| one.snapshot.clone()).collect();
    let mut wrong = false;
    for one in brought {
        for name in &one.repaired {
            settings.ui.warn(&format!("{name} was damaged on disk; it was put apart and fetched anew"));
        }
        for error in &one.wrong {
            wrong = true;
            settings.ui.error(&error.to_string());
        }
    }
    // From cron nothing is said while nothing changes, and nobody looks at what nobody reads.
    let asked = !matches!(settings.output, OutputFormat::Table | OutputFormat::Wide)
        || std::io::IsTerminal::is_terminal(&std::io::stdout());
    let fetched = wrong || brought.iter().any(|one| one.changed);
    if !asked && !fetched && !args.memory.wants_memory() {
        return Ok(DONE);
    }
    let listener = progress::listener(settings);
    let after = memory::after(&args.memory, &snapshots, false, listener.sink(), settings);
    listener.close();
    let after = after?;
    if after.changed || fetched || asked {
        show(&after.models, settings)?;
    }
    memory::stay(after.held)?;
    Ok(if wrong { FOUND } else { after.code })
}

fn dry_run(args: &Args, meant: &Meant, settings: &Settings) -> Done {
    let silent = progress::silent();
    let mut plans: Vec<Plan> = Vec::new();
    for source in &args.sources {
        plans.push(runtime::block_on_threads(async { Ok(plan(&meant.order(source, None, &*silent)).await?) })?);
    }
    let printed = match settings.output {
        OutputFormat::Json => settings.ui.json(&plans),
        OutputFormat::Yaml => settings.ui.yaml(&plans),
        OutputFormat::Name => {
            let paths: Vec<String> = plans.iter().map(|plan| plan.path.display().to_string()).collect();
            settings.ui.print(&paths.join("\n"))
        }
        OutputFormat::Table | OutputFormat::Wide => settings.ui.print(&render::plans(&plans, settings)),
    };
    printed.map_err(Error::output)?;
    Ok(DONE)
}
