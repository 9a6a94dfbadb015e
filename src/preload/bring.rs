//! The whole way of one source to the disk: what is known, what is new, what is missing, the
//! fetch, and the names in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::access::Access;
use super::choice::Choice;
use super::digest;
use super::error::PreloadError;
use super::event::{Event, Sink};
use super::fetch::{self, Fetched, Manner};
use super::gc;
use super::origin::{Listing, Newest, Origin, Remote};
use super::snapshot::Snapshot;
use super::source::Source;
use super::store::manifest::{Entry, Manifest, Moment};
use super::store::{Repository, Store};
use crate::act::Lock;

/// Times that a source may change under our hands before we give up.
const MOST_CHANGES: usize = 4;
/// Time between two writes of the manifest while files arrive.
const KEEP: Duration = Duration::from_secs(2);
/// Pause between two looks at a lock that another run has.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What is to be brought, and how.
pub struct Order<'a> {
    /// The source.
    pub source: &'a Source,
    /// Where to.
    pub store: &'a Store,
    /// Credentials.
    pub access: &'a Access,
    /// Which files.
    pub choice: &'a Choice,
    /// How to fetch.
    pub manner: &'a Manner,
    /// A revision that was asked for within this time is not asked for again.
    pub max_age: Option<Duration>,
    /// How long to wait for another run.
    pub wait: Duration,
    /// Whether to hash what was found right before.
    pub verify: bool,
    /// Who hears of it.
    pub sink: &'a dyn Sink,
}

/// What was done.
#[derive(Debug)]
pub struct Brought {
    /// What is on disk now.
    pub snapshot: Snapshot,
    /// Whether anything is new.
    pub changed: bool,
    /// Bytes that came.
    pub fetched_bytes: u64,
    /// Files that are not what the source promises; they are not in the snapshot.
    pub wrong: Vec<PreloadError>,
    /// Files that were damaged on disk, and were fetched anew.
    pub repaired: Vec<String>,
}

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

/// Brings a source near.
///
/// # Errors
/// If it can't be; what came stays, and the next run goes on with it.
pub async fn bring(order: &Order<'_>) -> Result<Brought, PreloadError> {
    let since = Instant::now();
    let repository = order.store.repository(order.source);
    if let Some(manifest) = known(order, &repository)? {
        repository.happens(&manifest.revision, Moment::Used);
        return Ok(unchanged(&repository, &manifest));
    }
    let (origin, newest) = ask(order).await?;
    let revision = newest.revision().to_owned();
    if let Some(manifest) = ready(order, &repository, &revision)?.filter(|_| !order.verify) {
        let known = order.source.reference().is_none_or(|name| repository.referred(name).as_deref() == Some(&revision));
        if known {
            repository.happens(&revision, Moment::Checked);
            repository.happens(&revision, Moment::Used);
            return Ok(unchanged(&repository, &manifest));
        }
    }
    let _lock = lock(order).await?;
    let (mut origin, mut newest) = (origin, newest);
    let mut total = 0;
    let mut restless = String::new();
    for _ in 0..MOST_CHANGES {
        let listing = listing(&origin, newest).await?;
        let mut errand = Errand::new(order, &repository, listing)?;
        errand.adopt()?;
        errand.check_room()?;
        let fetched = errand.fetch(Arc::clone(&origin)).await?;
        total += fetched.bytes;
        if let Some(changed) = fetched.changed.first() {
            restless.clone_from(changed);
            (origin, newest) = ask(order).await?;
            continue;
        }
        return errand.publish(fetched, total, since);
    }
    Err(PreloadError::Restless { name: restless, times: MOST_CHANGES })
}

/// Says what [`bring`] would do. Changes nothing, and takes no lock.
///
/// # Errors
/// If the source can't be asked.
pub async fn plan(order: &Order<'_>) -> Result<Plan, PreloadError> {
    let repository = order.store.repository(order.source);
    let manifest = match known(order, &repository)? {
        Some(manifest) => manifest,
        None => {
            let (origin, newest) = ask(order).await?;
            let listing = listing(&origin, newest).await?;
            Errand::new(order, &repository, listing)?.manifest
        }
    };
    let snapshot = repository.of_manifest(&manifest);
    let missing: Vec<&Entry> = manifest.wanted().filter(|entry| !is_there(entry, &repository)).collect();
    let digests: BTreeMap<&str, u64> = missing.iter().map(|entry| (entry.digest.as_str(), entry.bytes)).collect();
    let have = |digest: &str| super::store::journal::Journal::bytes_of(&repository.journal(digest));
    let fetch_bytes =
        digests.iter().map(|(digest, bytes)| bytes.saturating_sub(have(digest))).fold(0, u64::saturating_add);
    let needed = digests
        .iter()
        .map(|(digest, bytes)| bytes.saturating_sub(reserved(&repository, digest)))
        .fold(0, u64::saturating_add);
    let free_bytes = free_bytes(order.store.hub());
    let rate = order.manner.limit_rate.map(|rate| rate as f64);
    let rate = rate.or_else(|| super::store::rate_of(order.store, order.source.scheme()));
    let evict = if needed > free_bytes { gc::to_free(order.store, needed - free_bytes)? } else { Vec::new() };
    Ok(Plan {
        schema: "aictl.preload-plan/v1",
        source: order.source.to_string(),
        revision: manifest.revision.clone(),
        path: snapshot.path.clone(),
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

/// The manifest with which nothing is to be asked or done: whole, and fresh enough.
fn known(order: &Order<'_>, repository: &Repository) -> Result<Option<Manifest>, PreloadError> {
    let asked = match order.source {
        Source::Hub { revision, .. } if is_commit(revision) => Some(revision.clone()),
        Source::Registry { reference, .. } => match reference.strip_prefix("sha256:") {
            Some(digest) => Some(digest.to_owned()),
            None => repository.referred(reference),
        },
        other => other.reference().and_then(|name| repository.referred(name)),
    };
    let manifest = match &asked {
        Some(revision) => ready(order, repository, revision)?,
        None => None,
    };
    let Some(manifest) = manifest.filter(|_| !order.verify || order.access.offline) else {
        if order.access.offline {
            let what = "nothing that is whole here, and HF_HUB_OFFLINE forbids to ask".to_owned();
            return Err(PreloadError::Nothing { source_name: order.source.to_string(), what });
        }
        return Ok(None);
    };
    // A commit and a digest do not change.
    let fixed = order.source.reference().is_none_or(is_commit);
    let age = || {
        repository
            .happened(&manifest.revision, Moment::Checked)
            .and_then(|then| SystemTime::now().duration_since(then).ok())
    };
    let fresh = fixed || order.access.offline || order.max_age.is_some_and(|most| age().is_some_and(|age| age <= most));
    Ok(fresh.then_some(manifest))
}

/// The manifest of a revision, if all that is wanted of it is whole and has its name.
fn ready(order: &Order<'_>, repository: &Repository, revision: &str) -> Result<Option<Manifest>, PreloadError> {
    let Some(mut manifest) = Manifest::read(repository, revision)? else { return Ok(None) };
    let texts = order.choice.texts();
    if (&manifest.include, &manifest.exclude) != (&texts.0, &texts.1) {
        for entry in &mut manifest.files {
            entry.wanted = order.choice.wants(&entry.name);
        }
    }
    let whole = manifest.wanted().next().is_some() && manifest.wanted().all(|entry| is_there(entry, repository));
    let snapshot = repository.snapshot(revision);
    let named = |entry: &Entry| fs::symlink_metadata(snapshot.join(&entry.name)).is_ok_and(|there| there.is_symlink());
    Ok((whole && manifest.wanted().all(named)).then_some(manifest))
}

fn is_there(entry: &Entry, repository: &Repository) -> bool {
    entry.is_whole(repository)
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit())
}

fn unchanged(repository: &Repository, manifest: &Manifest) -> Brought {
    let snapshot = repository.of_manifest(manifest);
    Brought { snapshot, changed: false, fetched_bytes: 0, wrong: Vec::new(), repaired: Vec::new() }
}

async fn ask(order: &Order<'_>) -> Result<(Arc<Origin>, Newest), PreloadError> {
    let origin = Arc::new(Origin::open(order.source, order.access, order.manner.connections())?);
    let mut failures = 0;
    loop {
        match origin.newest().await {
            Ok(newest) => return Ok((origin, newest)),
            Err(PreloadError::Source { passing: true, what, why }) => {
                failures += 1;
                if failures > order.manner.retries.min(4) {
                    return Err(PreloadError::Source { passing: true, what, why });
                }
                tokio::time::sleep(fetch::pause(failures, None, fastrand::f64())).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn listing(origin: &Origin, newest: Newest) -> Result<Listing, PreloadError> {
    match newest {
        Newest::Listing(listing) => Ok(listing),
        Newest::Revision(revision) => origin.list(&revision).await,
    }
}

async fn lock(order: &Order<'_>) -> Result<Lock, PreloadError> {
    let since = Instant::now();
    loop {
        match order.store.lock(Duration::ZERO) {
            Err(PreloadError::Held { .. }) if since.elapsed() < order.wait => tokio::time::sleep(LOCK_PAUSE).await,
            other => return other,
        }
    }
}

/// One revision on its way.
struct Errand<'a> {
    order: &'a Order<'a>,
    repository: &'a Repository,
    manifest: Manifest,
    remotes: Vec<Remote>,
    repaired: Vec<String>,
    was_ready: bool,
}

impl<'a> Errand<'a> {
    fn new(order: &'a Order<'a>, repository: &'a Repository, listing: Listing) -> Result<Errand<'a>, PreloadError> {
        let before = Manifest::read(repository, &listing.revision)?;
        let was_ready = before.is_some() && ready(order, repository, &listing.revision)?.is_some();
        // What is known of blobs, from this revision and from others.
        let mut known: BTreeMap<String, Entry> = BTreeMap::new();
        for revision in Manifest::revisions(repository) {
            for entry in Manifest::read(repository, &revision)?.into_iter().flat_map(|manifest| manifest.files) {
                if entry.whole.is_some() {
                    known.insert(entry.digest.clone(), entry);
                }
            }
        }
        let entry = |remote: &Remote| {
            let known = known.get(&remote.digest).filter(|known| known.bytes == remote.bytes);
            Entry {
                name: remote.name.clone(),
                bytes: remote.bytes,
                digest: remote.digest.clone(),
                etag: remote.etag.clone(),
                sha256: remote.sha256.clone().or_else(|| known.and_then(|known| known.sha256.clone())),
                wanted: order.choice.wants(&remote.name),
                whole: known.and_then(|known| known.whole),
            }
        };
        let files = listing.files.iter().map(entry).collect();
        let mut manifest = Manifest::new(order.source.to_string(), listing.revision, files);
        (manifest.include, manifest.exclude) = order.choice.texts().clone();
        if manifest.wanted().next().is_none() {
            let what = "no files that match".to_owned();
            return Err(PreloadError::Nothing { source_name: order.source.to_string(), what });
        }
        Ok(Errand { order, repository, manifest, remotes: listing.files, repaired: Vec::new(), was_ready })
    }

    fn remote(&self, digest: &str) -> Option<&Remote> {
        self.remotes.iter().find(|remote| remote.digest == digest)
    }

    /// Finds out of each blob that is there whether it is right: those of other tools, those of a
    /// run that was cut off, those that were touched, and all where that was asked for.
    fn adopt(&mut self) -> Result<(), PreloadError> {
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
    fn missing(&self) -> Vec<Remote> {
        let mut seen = BTreeSet::new();
        let lacking =
            self.manifest.wanted().filter(|entry| entry.whole.is_none() && seen.insert(entry.digest.as_str()));
        let mut missing: Vec<Remote> = lacking.filter_map(|entry| self.remote(&entry.digest)).cloned().collect();
        // Small ones first: they wait for answers only, while the large ones need the line.
        missing.sort_by_key(|remote| remote.bytes > super::store::journal::range_length(0, true));
        missing
    }

    fn check_room(&self) -> Result<(), PreloadError> {
        let missing = self.missing();
        let needed =
            missing.iter().map(|remote| remote.bytes.saturating_sub(reserved(self.repository, &remote.digest)));
        let needed_bytes = needed.fold(0, u64::saturating_add);
        let free_bytes = free_bytes(self.order.store.hub());
        if needed_bytes > free_bytes {
            return Err(PreloadError::Full { store: self.order.store.hub().to_owned(), needed_bytes, free_bytes });
        }
        Ok(())
    }

    async fn fetch(&mut self, origin: Arc<Origin>) -> Result<Fetched, PreloadError> {
        let missing = self.missing();
        let total: u64 = self.manifest.wanted().map(|entry| entry.bytes).fold(0, u64::saturating_add);
        let lacking = missing.iter().map(|remote| remote.bytes).fold(0, u64::saturating_add);
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
        let mut kept = Instant::now();
        let (manifest, repository) = (&mut self.manifest, self.repository);
        let mut arrived = |file: fetch::Arrived| {
            for entry in manifest.files.iter_mut().filter(|entry| entry.digest == file.digest) {
                entry.whole = Some(file.stamp);
                entry.sha256 = Some(file.sha256.clone());
            }
            if kept.elapsed() >= KEEP {
                // What is lost of it is only hashed again.
                let _ = manifest.write(repository);
                kept = Instant::now();
            }
        };
        let (manner, sink) = (self.order.manner, self.order.sink);
        let started = Instant::now();
        let fetched = fetch::fetch(origin, repository, missing, manner, sink, &mut arrived).await;
        if let Ok(fetched) = &fetched {
            super::store::keep_rate(self.order.store, self.order.source.scheme(), fetched.bytes, started.elapsed());
        } else {
            let _ = self.manifest.write(self.repository);
        }
        fetched
    }

    fn publish(self, fetched: Fetched, bytes: u64, since: Instant) -> Result<Brought, PreloadError> {
        let revision = self.manifest.revision.clone();
        self.repository.create()?;
        self.manifest.write(self.repository)?;
        self.repository.link(&self.manifest)?;
        let complete = fetched.wrong.is_empty();
        if complete && let Some(reference) = self.order.source.reference() {
            self.repository.refer(reference, &revision)?;
        }
        if complete {
            self.repository.happens(&revision, Moment::Checked);
        }
        self.repository.happens(&revision, Moment::Used);
        let snapshot = self.repository.of_manifest(&self.manifest);
        let seconds = since.elapsed().as_secs_f64();
        let source = self.manifest.source.clone();
        self.order.sink.event(Event::Finished { source, revision, fetched_bytes: bytes, seconds });
        let changed = !self.was_ready || bytes > 0 || !self.repaired.is_empty();
        Ok(Brought { snapshot, changed, fetched_bytes: bytes, wrong: fetched.wrong, repaired: self.repaired })
    }
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

/// Room that a file on its way has taken already.
fn reserved(repository: &Repository, digest: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(repository.incomplete(digest)).map_or(0, |there| there.blocks() * 512)
}

/// Room on the file system of a directory that may not be there yet.
fn free_bytes(directory: &Path) -> u64 {
    let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    rustix::fs::statvfs(there).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}
