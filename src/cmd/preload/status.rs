//! `aictl preload status`: what is where.

use super::super::Done;
use super::super::error::{DONE, FOUND};
use super::super::settings::{OutputFormat, Settings};
use super::{Place, memory, place, show};
use crate::preload::snapshot::State;
use crate::preload::{Model, Source, residency};

/// Say what is on disk and in memory, and whether it is whole
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aictl preload status                       all of the store
  aictl preload status org/model --files     each file, and what of it is in memory
  aictl preload status -o json | jq '.[] | select(.state != \"ready\") | .source'")]
pub struct Args {
    /// Which: sources of the store, directories or files; all of the store if none is given
    #[arg(value_name = "SOURCE", value_parser = super::source)]
    sources: Vec<Source>,
    #[command(flatten)]
    place: Place,
    /// Say it of each file too, as -o wide does
    #[arg(long)]
    files: bool,
    #[command(flatten)]
    pins: memory::PinsPlace,
}

/// Looks, and prints.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let pins = args.pins.pins()?;
    let by_file = args.files || settings.output == OutputFormat::Wide;
    let mut models = Vec::new();
    for snapshot in place::snapshots(&args.sources, &args.place)? {
        let portions = memory::whole(&snapshot);
        let files = residency::look(&portions);
        let mut model = Model::of(&snapshot, residency::resident_bytes(&files));
        model.pinned_bytes = Some(pins.pinned_bytes(&portions));
        if by_file {
            model.per_file = files;
        }
        models.push(model);
    }
    show(&models, settings)?;
    if models.is_empty() {
        settings.ui.note(&format!("no models in {}", args.place.store()?.hub().display()));
    }
    let damaged = models.iter().any(|model| model.state == State::Damaged);
    Ok(if damaged { FOUND } else { DONE })
}
