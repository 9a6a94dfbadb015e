//! Layers that are archives, on the way of a revision: they come as any file, become files, and go.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::super::error::PreloadError;
use super::super::source::Source;
use super::super::store::Repository;
use super::super::store::manifest::Manifest;
use super::super::unpack::forget;
use super::Order;
use super::errand::{Errand, listed, something_wanted};
use super::unpacker::{AT_ONCE, Done};

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

    /// Lets the archives that are whole become files.
    pub(super) fn start_archives(&mut self) {
        for layer in self.manifest.wanted().filter(|entry| entry.whole.is_some()) {
            if self.manifest.is_packed(&layer.digest) {
                self.unpacker.add(layer, self.order.sink);
            }
        }
    }

    /// Waits until all archives are files.
    ///
    /// # Errors
    /// If one can't be unpacked, or its files can't be beside the others.
    pub async fn unpack(&mut self) -> Result<(), PreloadError> {
        self.start_archives();
        while let Some(done) = self.unpacker.next(self.order.sink).await {
            settle(self.order, self.repository, &mut self.manifest, done?)?;
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
) -> Result<(), PreloadError> {
    manifest.replace(&digest, members)?;
    manifest.write(repository)?;
    forget(repository, &digest);
    // Others need the room. Other nodes are given archives, not what is in them.
    if order.peers.is_none() {
        drop_archives(order);
    }
    Ok(())
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
