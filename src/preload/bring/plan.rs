//! What a fetch would do, without doing it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::super::error::PreloadError;
use super::super::gc;
use super::super::part::directory_of;
use super::super::store::journal::Journal;
use super::super::store::{Entry, free_bytes, rate_of};
use super::archives::room;
use super::errand::Errand;
use super::{Order, ask, known, listing};

/// What would be done (`aictl.preload-plan/v1`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Always "aictl.preload-plan/v1".
    pub schema: &'static str,
    /// The source, without credentials.
    pub source: String,
    /// Its revision.
    pub revision: String,
    /// Where it would be.
    pub path: PathBuf,
    /// Files wanted.
    pub files: usize,
    /// Their sizes together.
    pub bytes: u64,
    /// Files that are not whole.
    pub fetch_files: usize,
    /// Bytes that would come.
    pub fetch_bytes: u64,
    /// How long that may take, by the limit or by the last fetch from such a source; null if unknown.
    pub estimate_s: Option<f64>,
    /// Room on the store's file system.
    pub free_bytes: u64,
    /// Whether it fits.
    pub fits: bool,
    /// If it does not: what a cleaning would remove for it, by path.
    pub evict: Vec<PathBuf>,
}

/// Says what [`bring`] would do. Changes nothing, and takes no lock.
///
/// # Errors
/// If the source can't be asked.
pub async fn plan(order: &Order<'_>) -> Result<Plan, PreloadError> {
    let repository = order.store.repository(order.source);
    // What is to come of which digests, where not all of the files is wanted.
    let mut parts: Option<BTreeMap<String, u64>> = None;
    let manifest = match known(order, &repository)? {
        Some(manifest) => manifest,
        None => {
            let (origin, newest) = ask(order).await?;
            let listing = listing(&origin, newest).await?;
            let mut errand = Errand::new(order, &repository, listing)?;
            errand.pack_again();
            if let Some(part) = order.part {
                errand.narrow(&origin, part).await?;
                parts = Some(errand.lacking());
            }
            errand.manifest
        }
    };
    let snapshot = repository.of_manifest(&manifest);
    let missing: Vec<&Entry> = manifest.wanted().filter(|entry| !entry.is_whole(&repository)).collect();
    let to_come = |entry: &Entry| match &parts {
        Some(parts) => parts.get(&entry.digest).copied(),
        None => Some(entry.bytes),
    };
    let digests: BTreeMap<&str, u64> =
        missing.iter().filter_map(|entry| Some((entry.digest.as_str(), to_come(entry)?))).collect();
    let have = |digest: &str| Journal::bytes_of(&repository.journal(digest));
    let fetch_bytes =
        digests.iter().map(|(digest, bytes)| bytes.saturating_sub(have(digest))).fold(0, u64::saturating_add);
    let to_come = digests.iter().map(|(digest, bytes)| (*digest, *bytes));
    let needed = room(&repository, &manifest, to_come, order.peers.is_some());
    let free_bytes = free_bytes(order.store.hub());
    let rate = order.manner.limit_rate.map(|rate| rate as f64);
    let rate = rate.or_else(|| rate_of(order.store, order.source.scheme()));
    let evict = if needed > free_bytes { gc::to_free(order.store, needed - free_bytes)? } else { Vec::new() };
    Ok(Plan {
        schema: "aictl.preload-plan/v1",
        source: order.source.to_string(),
        revision: manifest.revision.clone(),
        path: match order.part.filter(|_| parts.is_some()) {
            Some(part) => directory_of(&repository, &manifest.revision, part),
            None => snapshot.path.clone(),
        },
        files: snapshot.files.len(),
        bytes: snapshot.bytes(),
        fetch_files: digests.len(),
        fetch_bytes,
        estimate_s: if fetch_bytes == 0 { Some(0.0) } else { rate.map(|rate| fetch_bytes as f64 / rate) },
        free_bytes,
        fits: needed <= free_bytes,
        evict,
    })
}
