//! `aictl preload status`: what is where.

use super::super::Done;
use super::super::error::{DONE, Error, FOUND, Kind};
use super::super::settings::Settings;
use super::{Place, memory, show};
use crate::preload::{Model, Source};

/// Say what is on disk and in memory, and whether it is whole
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which; all of the store if none is given
    #[arg(value_name = "SOURCE", value_parser = super::source)]
    sources: Vec<Source>,
    #[command(flatten)]
    place: Place,
}

/// Looks, and prints.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let store = args.place.store()?;
    let mut snapshots = Vec::new();
    if args.sources.is_empty() {
        snapshots = store.snapshots()?;
    }
    for source in &args.sources {
        let found = store.repository(source).snapshots()?;
        if found.is_empty() {
            return Err(Error::new(Kind::Failed, format!("{source} is not in {}", store.hub().display()))
                .hint(format!("bring it there: aictl preload {source}")));
        }
        snapshots.extend(found);
    }
    let models: Vec<Model> =
        snapshots.iter().map(|snapshot| Model::of(snapshot, memory::resident_bytes(snapshot))).collect();
    show(&models, settings)?;
    if models.is_empty() {
        settings.ui.note(&format!("no models in {}", store.hub().display()));
    }
    let damaged = models.iter().any(|model| model.state == crate::preload::snapshot::State::Damaged);
    Ok(if damaged { FOUND } else { DONE })
}
