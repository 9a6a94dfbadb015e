//! Layers that are archives, on the way of a revision: they come as any file, become files, and go.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};

use super::super::error::PreloadError;
use super::super::event::Event;
use super::super::source::Source;
use super::super::store::Repository;
use super::super::store::manifest::{Entry, Manifest};
use super::super::unpack::{Together, forget, unpack};
use super::Order;
use super::errand::{Errand, listed, something_wanted};

/// Archives unpacked at a time: a core unpacks slower than a disk writes.
const AT_ONCE: usize = 2;
/// Time between two words on how far they are.
const TELL: Duration = Duration::from_millis(100);

/// Ends work on other threads when nobody waits for it any more.
#[derive(Default)]
struct EndOnDrop(Arc<Together>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// An archive that is being unpacked.
struct Begun {
    digest: String,
    name: String,
    bytes: u64,
    reached: Arc<AtomicU64>,
}

impl Errand<'_> {
    /// Of archives some of whose wanted members are not whole, all is to come once more.
    pub fn pack_again(&mut self) {
        let lacking: BTreeSet<&str> =
            self.manifest.wanted().filter(|entry| entry.whole.is_none()).map(|entry| entry.name.as_str()).collect();
        let is_lacking = |names: &Vec<String>| names.iter().any(|name| lacking.contains(name.as_str()));
        let archives = self.manifest.archives.iter();
        let again: Vec<(String, BTreeSet<String>)> = archives
            .filter_map(|(digest, names)| names.clone().filter(is_lacking).map(|names| (digest.clone(), names)))
            .map(|(digest, names)| (digest, names.into_iter().collect()))
            .collect();
        for (digest, names) in again {
            let Some(remote) = self.remote(&digest) else { continue };
            let entry = listed(remote);
            self.manifest.files.retain(|entry| !names.contains(&entry.name));
            self.manifest.files.push(entry);
            self.manifest.archives.insert(digest, None);
        }
    }

    /// Makes files of the layers that are archives.
    ///
    /// # Errors
    /// If one can't be unpacked, or its files can't be beside the others.
    pub async fn unpack(&mut self) -> Result<(), PreloadError> {
        let manifest = &self.manifest;
        let layers: Vec<Entry> = manifest.wanted().filter(|entry| manifest.is_packed(&entry.digest)).cloned().collect();
        if layers.is_empty() {
            return Ok(());
        }
        // A run that is cut off now finds its layers again.
        self.manifest.write(self.repository)?;
        let together = EndOnDrop::default();
        let begun: Mutex<Vec<Begun>> = Mutex::default();
        let begun = || begun.lock().unwrap_or_else(PoisonError::into_inner);
        let mut work = stream::iter(layers.into_iter().filter(|layer| layer.whole.is_some()))
            .map(|layer| {
                let (repository, choice, together) =
                    (self.repository.clone(), self.order.choice.clone(), Arc::clone(&together.0));
                self.order.sink.event(Event::Unpacking { name: layer.name.clone(), bytes: layer.bytes });
                let reached = Arc::<AtomicU64>::default();
                let Entry { digest, name, bytes, .. } = layer;
                begun().push(Begun { digest: digest.clone(), name, bytes, reached: Arc::clone(&reached) });
                tokio::task::spawn_blocking(move || {
                    let wants = |name: &str| choice.wants(name);
                    unpack(&repository, &digest, &wants, &together, &reached).map(|members| (digest, members))
                })
            })
            .buffered(AT_ONCE);
        let mut tell = tokio::time::interval(TELL);
        loop {
            let done = tokio::select! {
                done = work.next() => done,
                _ = tell.tick() => {
                    for Begun { name, bytes, reached, .. } in begun().iter() {
                        let read_bytes = reached.load(Ordering::Relaxed);
                        self.order.sink.event(Event::UnpackProgress { name: name.clone(), read_bytes, bytes: *bytes });
                    }
                    continue;
                }
            };
            let Some(done) = done else { break };
            let given_up = |error: tokio::task::JoinError| PreloadError::Source {
                what: self.manifest.source.clone(),
                why: format!("unpacking was given up: {error}"),
                passing: true,
            };
            let (digest, members) = done.map_err(given_up)??;
            let place = begun().iter().position(|begun| begun.digest == digest);
            if let Some(Begun { name, .. }) = place.map(|place| begun().remove(place)) {
                let bytes = members.iter().map(|member| member.bytes).fold(0, u64::saturating_add);
                self.order.sink.event(Event::Unpacked { name, files: members.len(), bytes });
            }
            self.manifest.replace(&digest, members)?;
            self.manifest.write(self.repository)?;
            forget(self.repository, &digest);
            // Others need the room. Other nodes are given archives, not what is in them.
            if self.order.peers.is_none() {
                drop_archives(self.order);
            }
        }
        drop(work);
        something_wanted(&self.manifest)
    }
}

/// Room that what is missing needs: `missing` are digests and what is to come of them. What an archive
/// holds comes beside it, and is not smaller; with `keep` archives stay, else each goes when it is
/// unpacked.
pub(super) fn room<'m>(
    repository: &Repository,
    manifest: &Manifest,
    missing: impl Iterator<Item = (&'m str, u64)>,
    keep: bool,
) -> u64 {
    let mut packed: Vec<u64> = Vec::new();
    let mut needed = 0u64;
    for (digest, bytes) in missing {
        needed = needed.saturating_add(bytes.saturating_sub(reserved(repository, digest)));
        if manifest.is_packed(digest) {
            packed.push(bytes);
        }
    }
    packed.sort_unstable_by(|one, other| other.cmp(one));
    packed.truncate(if keep { usize::MAX } else { AT_ONCE });
    packed.into_iter().fold(needed, u64::saturating_add)
}

/// Room that a file on its way has taken already.
fn reserved(repository: &Repository, digest: &str) -> u64 {
    fs::symlink_metadata(repository.incomplete(digest)).map_or(0, |there| there.blocks() * 512)
}

/// Removes archives whose files have their names. The store must be locked.
pub fn drop_archives(order: &Order<'_>) {
    // No other source has any, and a store may know of many revisions.
    if !matches!(order.source, Source::Registry { .. }) {
        return;
    }
    let repository = order.store.repository(order.source);
    let (mut needed, mut unpacked) = (BTreeSet::new(), BTreeSet::new());
    for revision in Manifest::revisions(&repository) {
        let Ok(manifest) = Manifest::read(&repository, &revision) else { return };
        if let Some(manifest) = manifest {
            needed.extend(manifest.files.into_iter().map(|entry| entry.digest));
            unpacked.extend(manifest.archives.into_iter().filter_map(|(digest, names)| names.map(|_| digest)));
        }
    }
    for digest in unpacked.difference(&needed) {
        if let Some(peers) = order.peers {
            peers.shelf.withdraw(digest);
        }
        let _ = fs::remove_file(repository.blob(digest));
    }
}

/// Removes the archives that a run left that was cut off, if a revision that is whole has any.
pub fn tidy_left(order: &Order<'_>, manifest: &Manifest) {
    let repository = order.store.repository(order.source);
    let mut unpacked = manifest.archives.iter().filter(|(_, names)| names.is_some());
    if order.peers.is_none() && unpacked.any(|(digest, _)| repository.blob(digest).exists()) {
        tidy(order);
    }
}

/// Removes the archives that were kept to be given to other nodes, when nobody asks any more. Another
/// run that has the store does it instead.
pub fn tidy(order: &Order<'_>) {
    if let Ok(_lock) = order.store.lock(Duration::ZERO) {
        drop_archives(order);
    }
}
