//! Layers that are archives, on the way of a revision: they come as any file, become files, and go.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::super::error::PreloadError;
use super::super::source::Source;
use super::super::store::Repository;
use super::super::store::manifest::{Entry, Manifest};
use super::super::unpack::{Together, forget, made};
use super::Order;
use super::errand::{Errand, listed, something_wanted, with_known};
use super::unpacker::Done;

impl Errand<'_> {
    /// Of archives some of whose wanted members are not whole, all is to come once more.
    pub fn pack_again(&mut self) {
        let is_lacking = |entry: &&Entry| !entry.is_whole(self.repository);
        let lacking: BTreeSet<&str> =
            self.manifest.wanted().filter(is_lacking).map(|entry| entry.name.as_str()).collect();
        let archives = self.manifest.archives.iter();
        let again: Vec<(String, BTreeSet<String>)> = archives
            .filter(|(_, names)| names.iter().any(|name| lacking.contains(name.as_str())))
            .map(|(digest, names)| (digest.clone(), names.iter().cloned().collect()))
            .collect();
        for (digest, names) in again {
            let Some(remote) = self.remote(&digest).filter(|remote| remote.packed) else { continue };
            // It may be there: a run that was cut off had it.
            let mut entry = with_known(listed(remote), &self.known);
            entry.whole = entry.whole.filter(|_| entry.is_whole(self.repository));
            self.manifest.files.retain(|entry| !names.contains(&entry.name));
            self.manifest.files.push(entry);
            self.manifest.archives.remove(&digest);
        }
    }

    /// Lets the archives that are whole become files.
    pub(super) fn start_archives(&mut self) {
        for layer in self.manifest.wanted().filter(|entry| entry.packed && entry.whole.is_some()) {
            self.unpacker.add(layer, self.order.sink);
        }
    }

    /// Waits until all archives are files.
    ///
    /// # Errors
    /// If one can't be unpacked, or its files can't be beside the others.
    pub async fn unpack(&mut self) -> Result<(), PreloadError> {
        self.start_archives();
        while let Some(done) = self.unpacker.next(self.order.sink).await {
            settle(self.order, self.repository, &mut self.manifest, done?, &self.unpacker.together)?;
        }
        something_wanted(&self.manifest)
    }
}

/// Puts what an archive held into the manifest.
///
/// # Errors
/// If its files can't be beside the others, or the store can't be written.
pub(super) fn settle(
    order: &Order<'_>,
    repository: &Repository,
    manifest: &mut Manifest,
    (digest, members): Done,
    together: &Together,
) -> Result<(), PreloadError> {
    manifest.replace(&digest, members)?;
    manifest.write(repository)?;
    forget(repository, &digest);
    // Others need the room. Other nodes are given archives, not what is in them.
    if order.peers.is_none() {
        // An archive may be a file of another that is at work.
        together.claim(|claimed| drop_archives(order, claimed));
    }
    Ok(())
}

/// Room that a revision needs: `missing` are digests and what is to come of them. What an archive holds
/// comes beside it, and is not smaller; with `keep` archives stay, else each goes when it is unpacked,
/// and gives its room to the next.
pub(super) fn room<'m>(
    repository: &Repository,
    manifest: &Manifest,
    missing: impl Iterator<Item = (&'m str, u64)>,
    keep: bool,
) -> u64 {
    let to_come = missing.map(|(digest, bytes)| bytes.saturating_sub(reserved(repository, digest)));
    let packed = manifest.wanted().filter(|entry| entry.packed);
    let beside = packed.map(|entry| entry.bytes.saturating_sub(made(repository, &entry.digest)));
    let beside = if keep { beside.fold(0, u64::saturating_add) } else { beside.max().unwrap_or(0) };
    to_come.fold(beside, u64::saturating_add)
}

/// Room that a file on its way has taken already.
fn reserved(repository: &Repository, digest: &str) -> u64 {
    fs::symlink_metadata(repository.incomplete(digest)).map_or(0, |there| there.blocks() * 512)
}

/// Removes archives whose files have their names, but those that are `claimed`. The store must be locked.
pub fn drop_archives(order: &Order<'_>, claimed: &BTreeSet<String>) {
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
            unpacked.extend(manifest.archives.into_keys());
        }
    }
    for digest in unpacked.difference(&needed).filter(|digest| !claimed.contains(*digest)) {
        if let Some(peers) = order.peers {
            peers.shelf.withdraw(digest);
        }
        let _ = fs::remove_file(repository.blob(digest));
    }
}

/// Removes the archives that a run left that was cut off, if a revision that is whole has any.
pub fn tidy_left(order: &Order<'_>, manifest: &Manifest) {
    let repository = order.store.repository(order.source);
    if order.peers.is_none() && manifest.archives.keys().any(|digest| repository.blob(digest).exists()) {
        tidy(order);
    }
}

/// Removes the archives that were kept to be given to other nodes, when nobody asks any more. Another
/// run that has the store does it instead.
pub fn tidy(order: &Order<'_>) {
    if let Ok(_lock) = order.store.lock(Duration::ZERO) {
        drop_archives(order, &BTreeSet::new());
    }
}
