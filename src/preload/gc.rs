//! Makes room: which revisions go, by quota, age and last use; never one that is open or mapped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::error::PreloadError;
use super::snapshot::Presence;
use super::store::manifest::{Manifest, Moment};
use super::store::{Repository, Store};
use crate::host::open_files;

/// What nobody names is left this long: a run that was cut off may go on with it.
const LEFTOVERS_LIVE: Duration = Duration::from_secs(24 * 3600);

/// One revision that could go.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its repository.
    pub repository: Repository,
    /// Its source.
    pub source: String,
    /// Its revision.
    pub revision: String,
    /// Its directory.
    pub path: PathBuf,
    /// Its blobs and their sizes; other revisions may have them too.
    pub blobs: BTreeMap<PathBuf, u64>,
    /// When it was last used, by aictl or by a reader.
    pub last_used: SystemTime,
    /// Who has it open.
    pub held_by: Option<String>,
    /// Whether aictl brought it.
    pub ours: bool,
}

/// What is to become of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Always "aictl.preload-gc/v1".
    pub schema: &'static str,
    /// Its source.
    pub source: String,
    /// Its revision.
    pub revision: String,
    /// Its directory.
    pub path: PathBuf,
    /// "remove" or "keep".
    pub action: &'static str,
    /// Why.
    pub why: String,
    /// Bytes that become free.
    pub frees_bytes: u64,
    /// Time since it was last used.
    pub unused_s: u64,
}

/// What to hold to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Most bytes in the store.
    pub max_size: Option<u64>,
    /// Longest time without use.
    pub unused_for: Option<Duration>,
    /// Also what other tools brought.
    pub all: bool,
}

/// Looks at what is in a store.
///
/// # Errors
/// If it can't be read.
pub fn survey(store: &Store) -> Result<Vec<Candidate>, PreloadError> {
    let open = open_files::look();
    let mut found = Vec::new();
    for repository in store.repositories()? {
        let ours: BTreeSet<String> = Manifest::revisions(&repository).into_iter().collect();
        for snapshot in repository.snapshots()? {
            let mut candidate = Candidate {
                repository: repository.clone(),
                source: snapshot.source,
                ours: ours.contains(&snapshot.revision),
                last_used: [Moment::Used, Moment::Checked]
                    .into_iter()
                    .filter_map(|moment| repository.happened(&snapshot.revision, moment))
                    .max()
                    .unwrap_or(SystemTime::UNIX_EPOCH),
                revision: snapshot.revision,
                path: snapshot.path,
                blobs: BTreeMap::new(),
                held_by: None,
            };
            let files = snapshot.files.into_iter().filter(|file| !matches!(file.presence, Presence::Missing));
            let mut blobs: BTreeSet<PathBuf> = files.map(|file| file.blob).collect();
            if candidate.ours {
                blobs.extend(linked(&repository, &candidate.path));
            }
            for blob in blobs {
                let Ok(there) = fs::metadata(&blob) else { continue };
                let used = [there.accessed(), there.modified()].into_iter().flatten().max();
                candidate.last_used = candidate.last_used.max(used.unwrap_or(SystemTime::UNIX_EPOCH));
                if let Some(holder) = open.holder(there.dev(), there.ino(), &blob) {
                    candidate.held_by = Some(holder);
                }
                candidate.blobs.insert(blob, there.len());
            }
            found.push(candidate);
        }
    }
    Ok(found)
}

/// Decides; changes nothing, asks no clock.
pub fn decide(candidates: &[Candidate], rules: &Rules, now: SystemTime) -> Vec<Verdict> {
    let mut users: BTreeMap<&Path, (usize, u64)> = BTreeMap::new();
    for (blob, bytes) in candidates.iter().flat_map(|candidate| &candidate.blobs) {
        users.entry(blob.as_path()).or_insert((0, *bytes)).0 += 1;
    }
    let mut size: u64 = users.values().map(|(_, bytes)| bytes).sum();
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by_key(|candidate| candidate.last_used);
    let mut verdicts = Vec::new();
    for candidate in order {
        let unused = now.duration_since(candidate.last_used).unwrap_or_default();
        let alone =
            |blob: &PathBuf| users.get(blob.as_path()).filter(|(count, _)| *count == 1).map(|(_, bytes)| *bytes);
        let frees: u64 = candidate.blobs.keys().filter_map(alone).sum();
        let too_old = rules.unused_for.is_some_and(|most| unused > most);
        let too_much = rules.max_size.is_some_and(|most| size > most);
        let (action, why) = match &candidate.held_by {
            _ if !too_old && !too_much => ("keep", "within the limits".to_owned()),
            _ if !candidate.ours && !rules.all => ("keep", "another tool brought it".to_owned()),
            Some(holder) => ("keep", format!("open in {holder}")),
            None if too_old => ("remove", "unused for too long".to_owned()),
            None => ("remove", "over the size".to_owned()),
        };
        let mut frees_bytes = 0;
        if action == "remove" {
            frees_bytes = frees;
            size -= frees;
            for blob in candidate.blobs.keys() {
                if let Some((count, _)) = users.get_mut(blob.as_path()) {
                    *count -= 1;
                }
            }
        }
        verdicts.push(Verdict {
            schema: "aictl.preload-gc/v1",
            source: candidate.source.clone(),
            revision: candidate.revision.clone(),
            path: candidate.path.clone(),
            action,
            why,
            frees_bytes,
            unused_s: unused.as_secs(),
        });
    }
    verdicts
}

/// What would have to go so that so many bytes become free, by path; empty if it can't be had.
///
/// # Errors
/// If the store can't be read.
pub fn to_free(store: &Store, bytes: u64) -> Result<Vec<PathBuf>, PreloadError> {
    let candidates = survey(store)?;
    let blobs: BTreeMap<&PathBuf, &u64> = candidates.iter().flat_map(|candidate| &candidate.blobs).collect();
    let size: u64 = blobs.values().copied().sum();
    let rules = Rules { max_size: Some(size.saturating_sub(bytes)), ..Rules::default() };
    let verdicts = decide(&candidates, &rules, SystemTime::now());
    let removed: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.action == "remove").collect();
    let enough = removed.iter().map(|verdict| verdict.frees_bytes).sum::<u64>() >= bytes;
    Ok(if enough { removed.into_iter().map(|verdict| verdict.path.clone()).collect() } else { Vec::new() })
}

/// Removes one revision; names first, bytes last, so that a reader never finds half of it.
///
/// # Errors
/// If something of it can't be removed.
pub fn remove(candidate: &Candidate) -> Result<(), PreloadError> {
    let repository = &candidate.repository;
    let refs = repository.directory().join("refs");
    for path in files_below(&refs) {
        if fs::read_to_string(&path).is_ok_and(|revision| revision.trim() == candidate.revision) {
            fs::remove_file(&path).map_err(|error| PreloadError::store("remove", &path, error))?;
        }
    }
    for ending in ["json", "used", "checked"] {
        let _ = fs::remove_file(repository.private("manifests").join(format!("{}.{ending}", candidate.revision)));
    }
    if candidate.path.symlink_metadata().is_ok() {
        let trash = repository.private("trash");
        let failed = |error| PreloadError::store("remove", &candidate.path, error);
        fs::create_dir_all(repository.private("")).map_err(failed)?;
        let _ = fs::remove_dir_all(&trash);
        fs::rename(&candidate.path, &trash).map_err(failed)?;
        fs::remove_dir_all(&trash).map_err(failed)?;
    }
    let still = named(repository)?;
    for blob in candidate.blobs.keys().filter(|blob| !still.contains(*blob)) {
        // A link of a snapshot may lead out of the store; what lies there is not ours.
        if blob.starts_with(repository.directory())
            || fs::canonicalize(repository.directory()).is_ok_and(|own| blob.starts_with(own))
        {
            fs::remove_file(blob).map_err(|error| PreloadError::store("remove", blob, error))?;
        }
    }
    Ok(())
}

/// All blobs that have a name in a repository.
fn named(repository: &Repository) -> Result<BTreeSet<PathBuf>, PreloadError> {
    let files = repository.snapshots()?.into_iter().flat_map(|snapshot| snapshot.files).map(|file| file.blob);
    Ok(files.chain(linked(repository, &repository.directory().join("snapshots"))).collect())
}

/// The blobs to which links below a directory lead: also of files that a later run did not want any
/// more, or of a revision whose manifest is gone. Their readers need them.
fn linked(repository: &Repository, directory: &Path) -> Vec<PathBuf> {
    let blob = |link: PathBuf| {
        let target = fs::read_link(link).ok()?;
        let below = target.parent().is_some_and(|parent| parent.ends_with("blobs"));
        Some(repository.blob(target.file_name()?.to_str()?)).filter(|_| below)
    };
    files_below(directory).into_iter().filter_map(blob).collect()
}

/// Removes what runs left that were cut off long ago, and files that were put apart; returns the
/// bytes. With `dry` only counts.
///
/// # Errors
/// If the store can't be read.
pub fn leftovers(store: &Store, now: SystemTime, dry: bool) -> Result<u64, PreloadError> {
    let mut freed = 0;
    let open = open_files::look();
    for repository in store.repositories()? {
        let mut paths = files_below(&repository.private("incomplete"));
        paths.extend(files_below(&repository.private("quarantine")));
        paths.extend(files_below(&repository.private("trash")));
        if repository.private("manifests").is_dir() {
            let named = named(&repository)?;
            let blobs = files_below(&repository.directory().join("blobs"));
            paths.extend(blobs.into_iter().filter(|blob| {
                !named.contains(blob) && !fs::canonicalize(blob).is_ok_and(|blob| named.contains(&blob))
            }));
        }
        let links = files_below(&repository.private("parts"));
        let parts: BTreeSet<PathBuf> = links.iter().filter_map(|link| fs::canonicalize(link).ok()).collect();
        let parts: BTreeSet<PathBuf> = paths
            .iter()
            .filter(|path| fs::canonicalize(path).is_ok_and(|path| parts.contains(&path)))
            .cloned()
            .collect();
        for path in paths {
            let Ok(there) = fs::symlink_metadata(&path) else { continue };
            // A part of a model lies there for good, and is only read.
            let read = there.accessed().ok().filter(|_| parts.contains(&path));
            let used = there.modified().ok().max(read);
            let age = used.and_then(|then| now.duration_since(then).ok()).unwrap_or_default();
            if age < LEFTOVERS_LIVE || open.holder(there.dev(), there.ino(), &path).is_some() {
                continue;
            }
            if dry || fs::remove_file(&path).is_ok() {
                freed += there.blocks() * 512;
            }
        }
        for link in links {
            if !dry && !link.exists() {
                let _ = fs::remove_file(link);
            }
        }
    }
    Ok(freed)
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(store: &Store, revision: &str, blobs: &[(&str, u64)], age_s: u64) -> Candidate {
        let repository = store.repository(&"hf://a/b".parse().unwrap());
        Candidate {
            source: format!("hf://a/b@{revision}"),
            path: repository.snapshot(revision),
            blobs: blobs.iter().map(|(digest, bytes)| (repository.blob(digest), *bytes)).collect(),
            revision: revision.to_owned(),
            last_used: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age_s),
            held_by: None,
            ours: true,
            repository,
        }
    }

    fn removed(candidates: &[Candidate], rules: Rules) -> Vec<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let verdicts = decide(candidates, &rules, now).into_iter();
        verdicts.filter(|verdict| verdict.action == "remove").map(|verdict| verdict.revision).collect()
    }

    #[test]
    fn the_oldest_goes_first_and_what_is_open_stays() {
        let store = Store::at_home(Path::new("/nowhere"));
        let mut all = [
            candidate(&store, "new", &[("x", 60)], 10),
            candidate(&store, "old", &[("y", 50)], 1000),
            candidate(&store, "mid", &[("z", 40)], 100),
        ];
        let size = |bytes| Rules { max_size: Some(bytes), ..Rules::default() };
        assert_eq!(removed(&all, Rules::default()), [""; 0]);
        assert_eq!(removed(&all, size(150)), [""; 0]);
        assert_eq!(removed(&all, size(149)), ["old"]);
        assert_eq!(removed(&all, size(70)), ["old", "mid"]);
        all[1].held_by = Some("vllm (pid 7)".to_owned());
        assert_eq!(removed(&all, size(70)), ["mid", "new"]);
        all[2].ours = false;
        assert_eq!(removed(&all, size(70)), ["new"]);
        let old = Rules { unused_for: Some(Duration::from_secs(50)), all: true, ..Rules::default() };
        assert_eq!(removed(&all, old), ["mid"]);
    }

    #[test]
    fn shared_blobs_free_nothing_until_the_last() {
        let store = Store::at_home(Path::new("/nowhere"));
        let all = [candidate(&store, "r1", &[("x", 60), ("y", 5)], 1000), candidate(&store, "r2", &[("x", 60)], 10)];
        let verdicts = decide(&all, &Rules { max_size: Some(0), ..Rules::default() }, SystemTime::now());
        assert_eq!(verdicts.iter().map(|verdict| verdict.frees_bytes).collect::<Vec<_>>(), [5, 60]);
    }

    proptest! {
        #[test]
        fn nothing_open_ever_goes(
            sizes in prop::collection::vec((0u64..100, 0u64..1000, any::<bool>()), 0..12), most in 0u64..300
        ) {
            let store = Store::at_home(Path::new("/nowhere"));
            let all: Vec<Candidate> = sizes.iter().enumerate().map(|(index, (bytes, age, held))| {
                let mut made = candidate(&store, &format!("r{index}"), &[(&format!("b{}", index / 2), *bytes)], *age);
                made.held_by = held.then(|| "x".to_owned());
                made
            }).collect();
            let gone = removed(&all, Rules { max_size: Some(most), ..Rules::default() });
            prop_assert!(all.iter().all(|candidate| candidate.held_by.is_none() || !gone.contains(&candidate.revision)));
        }
    }
}
