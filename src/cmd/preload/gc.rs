//! `aictl preload gc`: make room.

use std::time::SystemTime;

use super::super::Done;
use super::super::error::{DONE, Error};
use super::super::settings::{OutputFormat, Settings};
use super::super::values::{Amount, Length};
use super::{Place, render};
use crate::preload::gc::{Rules, Verdict, decide, leftovers, remove, survey};
use crate::view::human;

/// Remove models that were not used for long, until the rest fits
///
/// What a process has open or mapped stays, and so does what another tool brought unless --all is
/// given. Also removes what runs left that were cut off more than a day ago.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aictl preload gc --max-size 2TB --dry-run  what would go?
  aictl preload gc --max-size 2TB            from cron: the store never grows beyond it
  aictl preload gc --max-age 30d --all       also what other tools brought")]
pub struct Args {
    /// Keep no more than this in the store; what was not used for longest goes first
    #[arg(long, value_name = "BYTES")]
    max_size: Option<Amount>,
    /// Remove what was not used for this long
    #[arg(long, value_name = "DURATION")]
    max_age: Option<Length>,
    /// Also what other tools brought into the store
    #[arg(long)]
    all: bool,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait this long for another run in the same store to end
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: Length,
    #[command(flatten)]
    place: Place,
}

/// Removes.
pub fn run(args: &Args, settings: &Settings) -> Done {
    if args.max_size.is_none() && args.max_age.is_none() {
        return Err(Error::usage("nothing to hold to").hint("give --max-size 2TB, --max-age 30d, or both"));
    }
    let store = args.place.store()?;
    if !store.hub().exists() {
        return print(&[], settings);
    }
    let _lock = if args.dry_run { None } else { Some(store.lock(args.wait.0)?) };
    let rules =
        Rules { max_size: args.max_size.map(|size| size.0), unused_for: args.max_age.map(|age| age.0), all: args.all };
    let now = SystemTime::now();
    let candidates = survey(&store)?;
    let verdicts = decide(&candidates, &rules, now);
    let mut freed = 0;
    for verdict in verdicts.iter().filter(|verdict| verdict.action == "remove") {
        let candidate = candidates.iter().find(|candidate| candidate.path == verdict.path);
        if let Some(candidate) = candidate.filter(|_| !args.dry_run) {
            remove(candidate)?;
        }
        freed += verdict.frees_bytes;
    }
    freed += leftovers(&store, now, args.dry_run)?;
    if freed > 0 {
        let done = if args.dry_run { "would be freed" } else { "freed" };
        settings.ui.note(&format!("{} {done}", human::bytes(freed)));
    }
    print(&verdicts, settings)
}

fn print(verdicts: &[Verdict], settings: &Settings) -> Done {
    let removed: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.action == "remove").collect();
    let printed = match settings.output {
        OutputFormat::Json => settings.ui.json(&verdicts),
        OutputFormat::Yaml => settings.ui.yaml(&verdicts),
        // From cron nothing is said while nothing goes.
        OutputFormat::Name | OutputFormat::Table if removed.is_empty() => Ok(()),
        OutputFormat::Name => {
            let paths: Vec<String> = removed.iter().map(|verdict| verdict.path.display().to_string()).collect();
            settings.ui.print(&paths.join("\n"))
        }
        OutputFormat::Table => settings.ui.print(&render::verdicts(&removed, settings)),
        OutputFormat::Wide if verdicts.is_empty() => Ok(()),
        OutputFormat::Wide => settings.ui.print(&render::verdicts(&verdicts.iter().collect::<Vec<_>>(), settings)),
    };
    printed.map_err(Error::output)?;
    Ok(DONE)
}
