//! What follows once the files are on disk: page cache and GPU memory.

use super::super::Done;
use super::super::error::{Error, Kind};
use super::super::settings::Settings;
use super::Place;
use crate::preload::{Snapshot, Source};

/// Flags of `aictl preload` for memory.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Memory")]
pub struct MemoryArgs {
    /// Read the files into the page cache as well
    #[arg(long)]
    page_cache: bool,
    /// Load the tensors into the memory of GPU N and say how fast it was; again for more
    #[arg(long, value_name = "N")]
    gpu: Vec<u32>,
}

/// Drop models from the page cache
#[derive(Debug, clap::Args)]
pub struct EvictArgs {
    /// Which; all of the store if none is given
    #[arg(value_name = "SOURCE", value_parser = super::source)]
    sources: Vec<Source>,
    #[command(flatten)]
    place: Place,
}

/// Brings snapshots that are whole on disk into memory, as asked for; returns whether that changed
/// anything.
pub fn after(args: &MemoryArgs, snapshots: &[Snapshot], _settings: &Settings) -> Result<bool, Error> {
    let _ = snapshots;
    if args.page_cache || !args.gpu.is_empty() {
        return Err(Error::new(Kind::Failed, "this build has no page cache and GPU part yet"));
    }
    Ok(false)
}

/// What of a snapshot is in the page cache; `None` where it can't be known.
pub fn resident_bytes(_snapshot: &Snapshot) -> Option<u64> {
    None
}

/// Drops models from the page cache.
pub fn evict(args: &EvictArgs, _settings: &Settings) -> Done {
    let _ = (&args.sources, args.place.store()?);
    Err(Error::new(Kind::Failed, "this build has no page cache part yet"))
}
