//! Which models a command means: those of the store, or a directory where it lies.

use super::super::Done;
use super::super::error::{Error, Kind};
use super::super::settings::{OutputFormat, Settings};
use super::{Args, Place, memory, progress, show};
use crate::preload::portion::is_weights;
use crate::preload::store::Manifest;
use crate::preload::{Choice, Snapshot, Source, local};

/// Whether a source is a path of this machine.
pub fn is_path(source: &Source) -> bool {
    matches!(source, Source::Path(_))
}

/// The snapshots of some sources in the store; paths that are not in it are taken where they lie.
/// All of the store if none is named.
pub fn snapshots(sources: &[Source], place: &Place) -> Result<Vec<Snapshot>, Error> {
    let store = place.store();
    if sources.is_empty() {
        return Ok(store?.snapshots()?);
    }
    let mut snapshots = Vec::new();
    for source in sources {
        let found = match (&store, source) {
            // Without a store there are still paths.
            (Err(_), Source::Path(_)) => Vec::new(),
            (store, _) => store.as_ref().map_err(|_| no_store())?.repository(source).snapshots()?,
        };
        match source {
            _ if !found.is_empty() => snapshots.extend(found),
            Source::Path(path) => snapshots.push(local::snapshot(path)?),
            _ => {
                let hub = store.as_ref().map_or_else(|_| String::new(), |store| store.hub().display().to_string());
                return Err(Error::new(Kind::Failed, format!("{source} is not in {hub}"))
                    .hint(format!("bring it there: aictl preload {source}")));
            }
        }
    }
    Ok(snapshots)
}

/// Whether a model has weights, and none of them were wanted: what is here serves nobody.
pub fn lacks_weights(source: &Source, snapshot: &Snapshot, place: &Place) -> bool {
    let Ok(store) = place.store() else { return false };
    let manifest = Manifest::read(&store.repository(source), &snapshot.revision);
    let Ok(Some(manifest)) = manifest else { return false };
    let weights = |wanted: bool| {
        let mut files = manifest.files.iter().filter(|entry| entry.wanted == wanted);
        files.any(|entry| is_weights(&entry.name))
    };
    weights(false) && !weights(true)
}

fn no_store() -> Error {
    Error::usage("no store: HOME is not set").hint("name one: --to DIR")
}

/// Brings directories into memory from where they lie: nothing is copied.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let wanted = Choice::new(&args.choice.include, &args.choice.exclude)
        .map_err(|why| Error::usage(format!("wrong pattern {why}")).hint("quote it: --include '*.safetensors'"))?;
    let mut found = Vec::new();
    for source in &args.sources {
        if let Source::Path(path) = source {
            let mut snapshot = local::snapshot(path)?;
            snapshot.files.retain(|file| wanted.wants(&file.name));
            found.push(snapshot);
        }
    }
    let listener = progress::listener(settings);
    let after = memory::after(&args.memory, &found, args.dry_run, listener.sink(), settings);
    listener.close();
    let after = after?;
    // From cron nothing is said while nothing changes.
    let asked = !matches!(settings.output, OutputFormat::Table | OutputFormat::Wide);
    if after.changed || args.dry_run || asked || std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        show(&after.models, settings)?;
    }
    memory::stay(after.held)?;
    Ok(after.code)
}
