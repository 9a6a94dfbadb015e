//! One revision on its way: what is here of it, what is missing, the fetch, and the names in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::digest;
use super::super::error::PreloadError;
use super::super::event::Event;
use super::super::fetch::{self, Fetched, Wanted};
use super::super::origin::{Listing, Origin, Remote};
use super::super::part::{Needs, Part, published};
use super::super::source::Source;
use super::super::store::manifest::{Entry, Manifest, Moment};
use super::super::store::{Repository, free_bytes, keep_rate};
use super::super::unpack::forget;
use super::archives::{drop_archives, room, settle};
use super::unpacker::{TELL, Unpacker};
use super::{Brought, Order, offer, ready};

/// Time between two writes of the manifest while files arrive.
const KEEP: Duration = Duration::from_secs(2);

/// One revision on its way.
pub struct Errand<'a> {
    pub(super) order: &'a Order<'a>,
    pub(super) repository: &'a Repository,
    /// What the source has, and what of it is here.
    pub manifest: Manifest,
    /// Blobs that this and other revisions have, by their digest.
    pub(super) known: BTreeMap<String, Entry>,
    remotes: Vec<Remote>,
    repaired: Vec<String>,
    was_ready: bool,
    /// What is needed of files, where not all is.
    needs: Option<(Part, Needs)>,
    /// Archives on their way.
    pub(super) unpacker: Unpacker,
}

impl<'a> Errand<'a> {
    /// Compares a listing with what is known here.
    ///
    /// # Errors
    /// If the store can't be read, or nothing of the listing is wanted.
    pub fn new(order: &'a Order<'a>, repository: &'a Repository, listing: Listing) -> Result<Errand<'a>, PreloadError> {
        let before = Manifest::read(repository, &listing.revision)?;
        let was_ready = before.is_some() && ready(order, repository, &listing.revision)?.is_some();
        // What is known of blobs, from this revision and from others.
        let mut known: BTreeMap<String, Entry> = BTreeMap::new();
        let mut unpacked: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for revision in Manifest::revisions(repository) {
            let Some(manifest) = Manifest::read(repository, &revision)? else { continue };
            unpacked.extend(manifest.unpacked());
            for entry in manifest.files {
                if entry.whole.is_some() {
                    known.insert(entry.digest.clone(), entry);
                }
            }
        }
        let mut manifest = Manifest::new(order.source.to_string(), listing.revision, Vec::new());
        for remote in &listing.files {
            match unpacked.get(&remote.digest).filter(|_| remote.packed) {
                // What came of it is here, from this revision or another.
                Some(members) => {
                    let names = members.iter().map(|member| member.name.clone()).collect();
                    manifest.archives.insert(remote.digest.clone(), names);
                    manifest.files.extend(members.iter().map(|member| with_known(member.clone(), &known)));
                }
                None => manifest.files.push(with_known(listed(remote), &known)),
            }
        }
        if !manifest.archives.is_empty() {
            // What a source lists was looked at, but not what its archives hold.
            manifest.check_together()?;
        }
        manifest.want(|name| order.choice.wants(name));
        (manifest.include, manifest.exclude) = order.choice.texts().clone();
        something_wanted(&manifest)?;
        let unpacker = Unpacker::new(order, repository);
        let (remotes, repaired) = (listing.files, Vec::new());
        Ok(Errand { order, repository, manifest, known, remotes, repaired, was_ready, needs: None, unpacker })
    }

    pub(super) fn remote(&self, digest: &str) -> Option<&Remote> {
        self.remotes.iter().find(|remote| remote.digest == digest)
    }

    /// Finds out what of each file a choice of tensors needs.
    ///
    /// # Errors
    /// If an index or a header can't be read at the source, or is not sound.
    pub async fn narrow(&mut self, origin: &Origin, part: &Part) -> Result<(), PreloadError> {
        if let Some(layer) = self.remotes.iter().find(|remote| remote.packed) {
            let why = format!("its layer {} is an archive, of which no tensors can be read alone", layer.name);
            return Err(PreloadError::Source { what: self.manifest.source.clone(), why, passing: false });
        }
        let wanted: Vec<&Remote> = self.remotes.iter().filter(|remote| self.order.choice.wants(&remote.name)).collect();
        let needs = Needs::of(origin, self.repository, &wanted, part).await?;
        self.needs = Some((part.clone(), needs));
        Ok(())
    }

    /// Finds out of each blob that is there whether it is right: those of other tools, those of a
    /// run that was cut off, those that were touched, and all where that was asked for.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn adopt(&mut self) -> Result<(), PreloadError> {
        let git: BTreeMap<&str, Option<&str>> =
            self.remotes.iter().map(|remote| (remote.digest.as_str(), remote.git.as_deref())).collect();
        let mut looked: BTreeMap<String, Option<Entry>> = BTreeMap::new();
        let mut work: Vec<Entry> = Vec::new();
        for entry in self.manifest.wanted() {
            let unsure = self.order.verify || !entry.is_whole(self.repository);
            if unsure && looked.insert(entry.digest.clone(), None).is_none() {
                work.push(entry.clone());
            }
        }
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let repository = self.repository;
        let next = std::sync::atomic::AtomicUsize::new(0);
        let results: Vec<Result<(Entry, bool), PreloadError>> = std::thread::scope(|scope| {
            let look = || {
                let mut found = Vec::new();
                while let Some(entry) = work.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let git = git.get(entry.digest.as_str()).copied().flatten();
                    found.push(examine(repository, entry.clone(), git));
                }
                found
            };
            let threads: Vec<_> = (0..threads.min(work.len())).map(|_| scope.spawn(look)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        for result in results {
            let (entry, damaged) = result?;
            if damaged {
                self.repaired.push(entry.name.clone());
                let path = self.repository.private("quarantine").join(&entry.digest).display().to_string();
                self.order.sink.event(Event::Quarantined { name: entry.name.clone(), path });
            }
            looked.insert(entry.digest.clone(), Some(entry));
        }
        for entry in &mut self.manifest.files {
            if let Some(Some(seen)) = looked.get(&entry.digest) {
                entry.whole = seen.whole;
                entry.sha256.clone_from(&seen.sha256);
            }
        }
        Ok(())
    }

    /// What is to be fetched: one file of each digest.
    fn missing(&self) -> Vec<Wanted> {
        let mut seen = BTreeSet::new();
        let lacking =
            self.manifest.wanted().filter(|entry| entry.whole.is_none() && seen.insert(entry.digest.as_str()));
        let mut missing: Vec<Wanted> = Vec::new();
        for remote in lacking.filter_map(|entry| self.remote(&entry.digest)) {
            let need = match &self.needs {
                None => None,
                Some((_, needs)) => match needs.of_file(&remote.name) {
                    Some(need) => need,
                    None => continue,
                },
            };
            // A part is not worth the talk.
            let asks_peers = self.order.peers.is_some() && need.is_none();
            missing.push(Wanted { remote: remote.clone(), need, asks_peers });
        }
        // Small ones first: they wait for answers only, while the large ones need the line.
        missing.sort_by_key(|wanted| wanted.remote.bytes > super::super::store::journal::range_length(0, true));
        missing
    }

    /// What is to be fetched, by digest, in bytes.
    pub(super) fn lacking(&self) -> BTreeMap<String, u64> {
        self.missing().iter().map(|wanted| (wanted.remote.digest.clone(), bytes_of(wanted))).collect()
    }

    /// Looks whether the disk has room for what is missing.
    ///
    /// # Errors
    /// If not.
    pub fn check_room(&self) -> Result<(), PreloadError> {
        let missing = self.missing();
        let missing = missing.iter().map(|wanted| (wanted.remote.digest.as_str(), bytes_of(wanted)));
        let needed_bytes = room(self.repository, &self.manifest, missing, self.order.peers.is_some());
        let free_bytes = free_bytes(self.order.store.hub());
        if needed_bytes > free_bytes {
            return Err(PreloadError::Full { store: self.order.store.hub().to_owned(), needed_bytes, free_bytes });
        }
        Ok(())
    }

    /// Fetches what is missing, and makes files of archives.
    ///
    /// # Errors
    /// If the source or the store fails, or an archive can't be unpacked; what came stays.
    pub async fn bring(&mut self, origin: Arc<Origin>) -> Result<Fetched, PreloadError> {
        let mut fetched = self.fetch(origin).await;
        if fetched.as_ref().is_ok_and(|fetched| fetched.changed.is_empty())
            && let Err(error) = self.unpack().await
        {
            fetched = Err(error);
        }
        // The store is ours no longer than this; a next try may unpack the same.
        self.unpacker.end().await;
        fetched
    }

    async fn fetch(&mut self, origin: Arc<Origin>) -> Result<Fetched, PreloadError> {
        let missing = self.missing();
        let all: u64 = self.manifest.wanted().map(|entry| entry.bytes).fold(0, u64::saturating_add);
        let lacking = missing.iter().map(bytes_of).fold(0, u64::saturating_add);
        let total = if self.needs.is_some() { lacking } else { all };
        offer(self.order, self.repository, &self.manifest);
        self.order.sink.event(Event::Planned {
            source: self.manifest.source.clone(),
            revision: self.manifest.revision.clone(),
            files: self.manifest.wanted().count(),
            bytes: total,
            have_bytes: total.saturating_sub(lacking),
        });
        if missing.is_empty() {
            return Ok(Fetched::default());
        }
        self.repository.create()?;
        self.manifest.write(self.repository)?;
        self.start_archives();
        self.unpacker.hold_back(lacking);
        let (order, repository) = (self.order, self.repository);
        let started = Instant::now();
        let state = Mutex::new(Arriving { manifest: &mut self.manifest, unpacker: &mut self.unpacker, kept: started });
        let state = || state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arrived = |file: fetch::Arrived| state().arrived(order, repository, &file);
        let fetched = {
            let fetch =
                fetch::fetch(origin, order.peers.cloned(), repository, missing, order.manner, order.sink, &mut arrived);
            let mut fetch = pin!(fetch);
            loop {
                tokio::select! {
                    fetched = &mut fetch => break fetched,
                    () = tokio::time::sleep(TELL) => if let Err(error) = state().settle(order, repository) {
                        break Err(error);
                    },
                }
            }
        };
        self.unpacker.hold_back(0);
        if let Ok(fetched) = &fetched {
            keep_rate(self.order.store, self.order.source.scheme(), fetched.bytes, started.elapsed());
        } else {
            let _ = self.manifest.write(self.repository);
        }
        fetched
    }

    /// Gives the names. `bytes` are those that came from the source and from other nodes.
    ///
    /// # Errors
    /// If the store can't be written.
    pub fn publish(self, fetched: Fetched, bytes: (u64, u64), since: Instant) -> Result<Brought, PreloadError> {
        let revision = self.manifest.revision.clone();
        let lost = self.manifest.wanted().find(|entry| entry.whole.is_some() && !entry.is_whole(self.repository));
        if let Some(lost) = lost.filter(|_| self.needs.is_none()) {
            let (what, why) = (lost.name.clone(), "it was touched while it came".to_owned());
            return Err(PreloadError::Source { what, why, passing: true });
        }
        self.repository.create()?;
        self.manifest.write(self.repository)?;
        let (fetched_bytes, peer_bytes) = bytes;
        let snapshot = match &self.needs {
            Some((part, needs)) => published(self.repository, &self.manifest, part, needs)?,
            None => {
                self.repository.link(&self.manifest)?;
                let complete = fetched.wrong.is_empty();
                if complete && let Some(reference) = self.order.source.reference() {
                    self.repository.refer(reference, &revision)?;
                } else if complete && let Some(index) = index_of(self.order.source, &revision) {
                    self.repository.refer(index, &revision)?;
                }
                if complete {
                    self.repository.happens(&revision, Moment::Checked);
                }
                self.repository.of_manifest(&self.manifest)
            }
        };
        self.repository.happens(&revision, Moment::Used);
        // A run may have been cut off between the manifest and this.
        self.manifest.archives.keys().for_each(|digest| forget(self.repository, digest));
        if self.order.peers.is_none() {
            drop_archives(self.order, &BTreeSet::new());
        }
        let seconds = since.elapsed().as_secs_f64();
        let source = self.manifest.source.clone();
        self.order.sink.event(Event::Finished { source, revision, fetched_bytes, peer_bytes, seconds });
        let came = fetched_bytes + peer_bytes > 0;
        let changed = came || !self.repaired.is_empty() || (!self.was_ready && self.needs.is_none());
        Ok(Brought { snapshot, changed, fetched_bytes, peer_bytes, wrong: fetched.wrong, repaired: self.repaired })
    }
}

/// What changes while files arrive.
struct Arriving<'a> {
    manifest: &'a mut Manifest,
    unpacker: &'a mut Unpacker,
    /// When the manifest was written.
    kept: Instant,
}

impl Arriving<'_> {
    fn arrived(&mut self, order: &Order<'_>, repository: &Repository, file: &fetch::Arrived) {
        for entry in self.manifest.files.iter_mut().filter(|entry| entry.digest == file.digest) {
            entry.whole = Some(file.stamp);
            entry.sha256 = Some(file.sha256.clone());
        }
        let packed = self.manifest.wanted().find(|entry| entry.packed && entry.digest == file.digest).cloned();
        if packed.is_some() || self.kept.elapsed() >= KEEP {
            // What is lost of it is only hashed again.
            let _ = self.manifest.write(repository);
            self.kept = Instant::now();
        }
        let bytes = self.manifest.files.iter().find(|entry| entry.digest == file.digest).map_or(0, |entry| entry.bytes);
        self.unpacker.arrived(bytes);
        if let Some(layer) = packed {
            self.unpacker.add(&layer, order.sink);
        }
    }

    fn settle(&mut self, order: &Order<'_>, repository: &Repository) -> Result<(), PreloadError> {
        self.unpacker.tell(order.sink);
        while let Some(done) = self.unpacker.ready(order.sink) {
            settle(order, repository, self.manifest, done?, &self.unpacker.together)?;
        }
        Ok(())
    }
}

/// A file as its source lists it, of which nothing is here.
pub(super) fn listed(remote: &Remote) -> Entry {
    Entry {
        name: remote.name.clone(),
        bytes: remote.bytes,
        digest: remote.digest.clone(),
        etag: remote.etag.clone(),
        sha256: remote.sha256.clone(),
        wanted: true,
        whole: None,
        packed: remote.packed,
    }
}

/// The digest of an index that leads to a revision: kept, for when it can't be asked where it leads.
pub(super) fn index_of<'s>(source: &'s Source, revision: &str) -> Option<&'s str> {
    match source {
        Source::Registry { reference, .. } => {
            reference.strip_prefix("sha256:").filter(|digest| *digest != revision).map(|_| reference.as_str())
        }
        _ => None,
    }
}

/// An entry with what is known of its blob.
pub(super) fn with_known(mut entry: Entry, known: &BTreeMap<String, Entry>) -> Entry {
    if let Some(known) = known.get(&entry.digest).filter(|known| known.bytes == entry.bytes) {
        entry.sha256 = entry.sha256.or_else(|| known.sha256.clone());
        entry.whole = known.whole;
    }
    entry
}

/// # Errors
/// If nothing is wanted of what the source has.
pub(super) fn something_wanted(manifest: &Manifest) -> Result<(), PreloadError> {
    if manifest.wanted().next().is_some() {
        return Ok(());
    }
    Err(PreloadError::Nothing { source_name: manifest.source.clone(), what: "no files that match".to_owned() })
}

/// What is wanted of a file, in bytes.
fn bytes_of(wanted: &Wanted) -> u64 {
    let all = wanted.remote.bytes;
    wanted.need.as_ref().map_or(all, |need| need.iter().map(|range| range.end - range.start).sum())
}

/// Looks at a blob: whether it is right (then it has its stamp), and whether it is there and wrong
/// (then it was put apart).
fn examine(repository: &Repository, mut entry: Entry, git: Option<&str>) -> Result<(Entry, bool), PreloadError> {
    let blob = repository.blob(&entry.digest);
    entry.whole = None;
    let Ok(there) = fs::symlink_metadata(&blob) else { return Ok((entry, false)) };
    let failed = |error| PreloadError::store("read", &blob, error);
    if there.is_file() && there.len() == entry.bytes {
        let found = digest::of_file(&blob, git.is_some()).map_err(failed)?;
        let right = entry.sha256.as_ref().is_none_or(|wanted| *wanted == found.sha256)
            && git.is_none_or(|wanted| found.git.as_deref() == Some(wanted));
        if right {
            entry.sha256 = Some(found.sha256);
            entry.found_right(&blob).map_err(failed)?;
            return Ok((entry, false));
        }
    }
    fetch::quarantine(repository, &entry.digest, &blob)?;
    // A sum that was only found, not promised, is of the old content all the same: it stays the measure.
    Ok((entry, true))
}
