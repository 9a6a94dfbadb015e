//! The whole way of one source to the disk: what is known, what is new, what is missing, the
//! fetch, and the names in the end.

mod archives;
mod errand;
mod plan;
mod unpacker;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use archives::tidy;
use archives::tidy_left;
use errand::Errand;
pub use plan::{Plan, plan};

use super::access::Access;
use super::choice::Choice;
use super::error::PreloadError;
use super::event::Sink;
use super::fetch::{self, Manner};
use super::origin::{Listing, Newest, Origin};
use super::part::Part;
use super::peer::Peers;
use super::snapshot::Snapshot;
use super::source::Source;
use super::store::manifest::{Entry, Manifest, Moment};
use super::store::{Repository, Store};
use crate::act::Lock;

/// Times that a source may change under our hands before we give up.
const MOST_CHANGES: usize = 4;
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
    /// Only these tensors; all of every file if `None`.
    pub part: Option<&'a Part>,
    /// Other nodes, which are asked before the source.
    pub peers: Option<&'a Arc<Peers>>,
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
    /// Bytes that came from the source.
    pub fetched_bytes: u64,
    /// Bytes that came from other nodes.
    pub peer_bytes: u64,
    /// Files that are not what the source promises; they are not in the snapshot.
    pub wrong: Vec<PreloadError>,
    /// Files that were damaged on disk, and were fetched anew.
    pub repaired: Vec<String>,
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
        return Ok(unchanged(order, &repository, &manifest));
    }
    let (origin, newest) = ask(order).await?;
    let revision = newest.revision().to_owned();
    if let Some(manifest) = ready(order, &repository, &revision)?.filter(|_| !order.verify) {
        let known = order.source.reference().is_none_or(|name| repository.referred(name).as_deref() == Some(&revision));
        if known {
            if let Some(index) = errand::index_of(order.source, &revision) {
                repository.refer(index, &revision)?;
            }
            repository.happens(&revision, Moment::Checked);
            repository.happens(&revision, Moment::Used);
            return Ok(unchanged(order, &repository, &manifest));
        }
    }
    let _lock = lock(order).await?;
    let (mut origin, mut newest) = (origin, newest);
    let mut total = (0, 0);
    let mut restless = String::new();
    for _ in 0..MOST_CHANGES {
        let listing = listing(&origin, newest).await?;
        let mut errand = Errand::new(order, &repository, listing)?;
        errand.adopt()?;
        errand.pack_again();
        if let Some(part) = order.part {
            errand.narrow(&origin, part).await?;
        }
        errand.check_room()?;
        let fetched = errand.bring(Arc::clone(&origin)).await?;
        total = (total.0 + fetched.bytes, total.1 + fetched.peer_bytes);
        if let Some(changed) = fetched.changed.first() {
            restless.clone_from(changed);
            (origin, newest) = ask(order).await?;
            continue;
        }
        return errand.publish(fetched, total, since);
    }
    Err(PreloadError::Restless { name: restless, times: MOST_CHANGES })
}

/// The manifest with which nothing is to be asked or done: whole, and fresh enough.
fn known(order: &Order<'_>, repository: &Repository) -> Result<Option<Manifest>, PreloadError> {
    let asked = match order.source {
        Source::Hub { revision, .. } if is_commit(revision) => Some(revision.clone()),
        Source::Registry { reference, .. } => match reference.strip_prefix("sha256:") {
            // An index leads to the manifest that was taken.
            Some(digest) => repository.referred(reference).or_else(|| Some(digest.to_owned())),
            None => repository.referred(reference),
        },
        other => other.reference().and_then(|name| repository.referred(name)),
    };
    let age = |revision: &str| {
        let then = repository.happened(revision, Moment::Checked)?;
        SystemTime::now().duration_since(then).ok()
    };
    // A commit and a digest do not change.
    let fixed = order.source.reference().is_none_or(is_commit);
    let fresh = |revision: &str| {
        fixed || order.access.offline || order.max_age.is_some_and(|most| age(revision).is_some_and(|age| age <= most))
    };
    // Whether a thousand files are whole is looked at last.
    let manifest = match &asked {
        Some(revision) if fresh(revision) && (!order.verify || order.access.offline) => {
            ready(order, repository, revision)?
        }
        _ => None,
    };
    if manifest.is_none() && order.access.offline {
        let what = "nothing that is whole here, and HF_HUB_OFFLINE forbids to ask".to_owned();
        return Err(PreloadError::Nothing { source_name: order.source.to_string(), what });
    }
    Ok(manifest)
}

/// The manifest of a revision, if all that is wanted of it is whole and has its name.
fn ready(order: &Order<'_>, repository: &Repository, revision: &str) -> Result<Option<Manifest>, PreloadError> {
    let Some(mut manifest) = Manifest::read(repository, revision)? else { return Ok(None) };
    let texts = order.choice.texts();
    if (&manifest.include, &manifest.exclude) != (&texts.0, &texts.1) {
        manifest.want(|name| order.choice.wants(name));
    }
    let whole = manifest.wanted().next().is_some() && manifest.wanted().all(|entry| entry.is_whole(repository));
    let snapshot = repository.snapshot(revision);
    let named = |entry: &Entry| fs::symlink_metadata(snapshot.join(&entry.name)).is_ok_and(|there| there.is_symlink());
    Ok((whole && manifest.wanted().all(named)).then_some(manifest))
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit())
}

fn unchanged(order: &Order<'_>, repository: &Repository, manifest: &Manifest) -> Brought {
    offer(order, repository, manifest);
    tidy_left(order, manifest);
    let snapshot = repository.of_manifest(manifest);
    Brought { snapshot, changed: false, fetched_bytes: 0, peer_bytes: 0, wrong: Vec::new(), repaired: Vec::new() }
}

/// Lets other nodes have what earlier runs brought, before the source is asked for anything: who
/// meets us may ask at once.
pub fn offer_known(order: &Order<'_>) {
    let Some(peers) = order.peers else { return };
    let repository = order.store.repository(order.source);
    for revision in Manifest::revisions(&repository) {
        let Ok(Some(manifest)) = Manifest::read(&repository, &revision) else { continue };
        for entry in manifest.files.iter().filter(|entry| entry.is_whole(&repository)) {
            peers.shelf.whole(&entry.digest, repository.blob(&entry.digest));
        }
    }
}

/// Lets other nodes have what is whole here.
fn offer(order: &Order<'_>, repository: &Repository, manifest: &Manifest) {
    let Some(peers) = order.peers else { return };
    for entry in manifest.wanted().filter(|entry| entry.whole.is_some()) {
        peers.shelf.whole(&entry.digest, repository.blob(&entry.digest));
    }
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
