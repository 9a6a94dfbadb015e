//! A part of a model on disk: only the byte ranges that some tensors need.
//!
//! What came of a file gathers where files on their way do, with holes for the rest, and never gets a
//! final name: `status` says "partial", and a later run for all of the model goes on with it. What a
//! loader is given is a directory of links of its own, `.aictl/parts/REVISION/PART/`, in which a
//! shard has its whole length and its true header, and zeros where tensors were not asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::error::PreloadError;
use super::origin::{Origin, Remote};
use super::portion::{has_tensors, is_weights};
use super::snapshot::{File, Presence, Snapshot};
use super::source::hex;
use super::store::Repository;
use super::store::journal::Journal;
use super::store::manifest::{Manifest, is_digest};
use super::tensors::{Choice, Header, Index, Need, select};

/// Headers that are asked for at once.
const AT_ONCE: usize = 8;
/// Asked for at first: most headers are shorter.
const FIRST: u64 = 256 << 10;
/// Longest index that is read.
const LONGEST_INDEX: u64 = 64 << 20;

/// Which part.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which tensors.
    pub choice: Choice,
    /// What the directory with it is called: one harmless component, the same for the same choice.
    pub label: String,
}

/// What tells one list of texts from another, as a harmless name.
pub fn fingerprint(texts: &[String]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hex(&hash.finalize())
}

/// What is needed of each file.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// By name; a file that is not named is not needed. `None` is all of it.
    files: BTreeMap<String, Option<Vec<Range<u64>>>>,
}

impl Needs {
    /// Reads the index and the headers at the source, and chooses.
    ///
    /// # Errors
    /// If one can't be read, or is not sound.
    pub async fn of(
        origin: &Origin,
        repository: &Repository,
        remotes: &[&Remote],
        part: &Part,
    ) -> Result<Needs, PreloadError> {
        let mut indexed = BTreeSet::new();
        for remote in remotes.iter().filter(|remote| Index::is_one(&remote.name)) {
            if remote.bytes > LONGEST_INDEX {
                return Err(unsound(remote, format!("an index of {} bytes", remote.bytes)));
            }
            let text = origin.bytes(remote, 0..remote.bytes).await?;
            let index = Index::parse(&text).map_err(|why| unsound(remote, why))?;
            let beside = remote.name.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
            indexed.extend(index.files().into_iter().map(|file| format!("{beside}{file}")));
        }
        // Weights beside an index would bring the same tensors again.
        let chosen: Vec<&Remote> = remotes
            .iter()
            .copied()
            .filter(|remote| indexed.is_empty() || !is_weights(&remote.name) || indexed.contains(&remote.name))
            .collect();
        let mut reads = Vec::new();
        for remote in chosen.iter().copied() {
            reads.push(maybe_header(origin, repository, remote));
        }
        let headers: Vec<Option<Header>> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let needs = select(&part.choice, &headers);
        // A rank may have nothing of few tensors; a pattern that matches none is a mistake.
        let tensors = || needs.iter().zip(&headers).filter(|(_, header)| header.is_some());
        if part.choice.rank.is_none() && tensors().count() > 0 && tensors().all(|(need, _)| *need == Need::Nothing) {
            let source_name = origin.source().to_string();
            return Err(PreloadError::Nothing { source_name, what: "no tensors that match".to_owned() });
        }
        let mut files = BTreeMap::new();
        for ((remote, need), header) in chosen.iter().zip(needs).zip(&headers) {
            let ranges = match (need, header) {
                (Need::Whole, _) | (_, None) => None,
                (Need::Ranges(ranges), _) => Some(ranges),
                // Whoever reads the model needs every header, to know which layers there are.
                (Need::Nothing, Some(header)) => Some(std::iter::once(0..header.data_start).collect()),
            };
            files.insert(remote.name.clone(), ranges);
        }
        Ok(Needs { files })
    }

    /// What is needed of a file: nothing, all (`None` inside), or ranges.
    pub fn of_file(&self, name: &str) -> Option<Option<Vec<Range<u64>>>> {
        self.files.get(name).cloned()
    }
}

fn unsound(remote: &Remote, why: impl ToString) -> PreloadError {
    PreloadError::Source { what: remote.name.clone(), why: why.to_string(), passing: false }
}

async fn maybe_header(
    origin: &Origin,
    repository: &Repository,
    remote: &Remote,
) -> Result<Option<Header>, PreloadError> {
    if has_tensors(&remote.name) { header(origin, repository, remote).await.map(Some) } else { Ok(None) }
}

/// The header of a file: from here if it is whole here, else from the source.
async fn header(origin: &Origin, repository: &Repository, remote: &Remote) -> Result<Header, PreloadError> {
    let here = fs::File::open(repository.blob(&remote.digest)).ok().and_then(|file| Header::read(&file).ok());
    if let Some(header) = here {
        return Ok(header);
    }
    let first = origin.bytes(remote, 0..remote.bytes.min(FIRST)).await?;
    let prefix = first.first_chunk::<8>().ok_or_else(|| unsound(remote, "it is too short for a safetensors file"))?;
    let length = Header::json_length(*prefix, remote.bytes).map_err(|error| unsound(remote, error))?;
    let end = 8 + length;
    let mut json = first.get(8..).unwrap_or_default().to_vec();
    let have = first.len() as u64;
    if have < end {
        json.extend(origin.bytes(remote, have..end).await?);
    }
    json.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Header::parse(&json, remote.bytes).map_err(|error| unsound(remote, error))
}

/// Where the links of a part are.
pub fn directory_of(repository: &Repository, revision: &str, part: &Part) -> PathBuf {
    repository.private("parts").join(revision).join(&part.label)
}

/// Makes the directory of links, and says what is in it.
///
/// # Errors
/// If it can't be made.
pub fn published(
    repository: &Repository,
    manifest: &Manifest,
    part: &Part,
    needs: &Needs,
) -> Result<Snapshot, PreloadError> {
    debug_assert!(is_digest(&part.label));
    let parent = repository.private("parts").join(&manifest.revision);
    let root = directory_of(repository, &manifest.revision, part);
    let aside = parent.join(format!(".{}", std::process::id()));
    let failed = |error| PreloadError::store("create", &root, error);
    let _ = fs::remove_dir_all(&aside);
    let mut files = Vec::new();
    for entry in manifest.wanted().filter(|entry| needs.files.contains_key(&entry.name)) {
        let whole = entry.is_whole(repository);
        let place = if whole { repository.blob(&entry.digest) } else { repository.incomplete(&entry.digest) };
        let below = place.strip_prefix(repository.directory()).unwrap_or(&place).to_owned();
        let up = "../".repeat(entry.name.matches('/').count() + 4);
        let link = aside.join(&entry.name);
        if place.exists() {
            if !whole {
                // Of use now: gc goes by it. No harm if the clock can't be set.
                for path in [&place, &repository.journal(&entry.digest)] {
                    let file = fs::OpenOptions::new().write(true).open(path);
                    let _ = file.and_then(|file| file.set_modified(std::time::SystemTime::now()));
                }
            }
            fs::create_dir_all(link.parent().unwrap_or(&aside)).map_err(failed)?;
            std::os::unix::fs::symlink(PathBuf::from(up).join(below), &link).map_err(failed)?;
        }
        let have = Journal::bytes_of(&repository.journal(&entry.digest)).min(entry.bytes);
        files.push(File {
            name: entry.name.clone(),
            path: root.join(&entry.name),
            blob: place,
            bytes: entry.bytes,
            sha256: entry.sha256.clone(),
            etag: entry.etag.clone(),
            presence: if whole { Presence::Whole } else { Presence::Partial(have) },
        });
    }
    let _ = fs::remove_dir_all(&root);
    fs::rename(&aside, &root).map_err(failed)?;
    let (source, revision) = (manifest.source.clone(), manifest.revision.clone());
    Ok(Snapshot { source, revision, path: root, files, verified: false })
}
