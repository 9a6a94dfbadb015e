//! Layers that are archives, on the way of a revision: they come as any file, become files, and go.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};

use super::super::error::PreloadError;
use super::super::event::Event;
use super::super::name;
use super::super::source::Source;
use super::super::store::manifest::{Entry, Manifest};
use super::super::unpack::unpack;
use super::Order;
use super::errand::{Errand, listed, something_wanted};

/// Archives unpacked at a time: a core unpacks slower than a disk writes.
const AT_ONCE: usize = 2;

/// Ends work on other threads when nobody waits for it any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
        let stop = StopOnDrop::default();
        let mut work = stream::iter(layers.into_iter().filter(|layer| layer.whole.is_some()))
            .map(|layer| {
                let (repository, choice, stop) =
                    (self.repository.clone(), self.order.choice.clone(), Arc::clone(&stop.0));
                self.order.sink.event(Event::Unpacking { name: layer.name.clone(), bytes: layer.bytes });
                tokio::task::spawn_blocking(move || {
                    let wants = |name: &str| choice.wants(name);
                    unpack(&repository, &layer.digest, &wants, &stop).map(|members| (layer.digest, members))
                })
            })
            .buffered(AT_ONCE);
        while let Some(done) = work.next().await {
            let given_up = |error: tokio::task::JoinError| PreloadError::Source {
                what: self.manifest.source.clone(),
                why: format!("unpacking was given up: {error}"),
                passing: true,
            };
            let (digest, members) = done.map_err(given_up)??;
            let names = members.iter().map(|member| member.name.clone()).collect();
            self.manifest.files.retain(|entry| entry.digest != digest);
            self.manifest.files.extend(members.into_iter().map(|member| Entry {
                name: member.name,
                bytes: member.bytes,
                digest: member.sha256.clone(),
                etag: None,
                sha256: Some(member.sha256),
                wanted: member.stamp.is_some(),
                whole: member.stamp,
            }));
            self.manifest.archives.insert(digest, Some(names));
            let names = self.manifest.files.iter().map(|entry| entry.name.as_str());
            name::check_together(names).map_err(|(name, why)| PreloadError::Name {
                source_name: self.manifest.source.clone(),
                name,
                why,
            })?;
            self.manifest.write(self.repository)?;
        }
        drop(work);
        something_wanted(&self.manifest)
    }
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

/// Removes the archives that were kept to be given to other nodes, when nobody asks any more. Another
/// run that has the store does it instead.
pub fn tidy(order: &Order<'_>) {
    if let Ok(_lock) = order.store.lock(Duration::ZERO) {
        drop_archives(order);
    }
}
