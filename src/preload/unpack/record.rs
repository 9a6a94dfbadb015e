//! What of an archive has become blobs: a run that was cut off in the middle is gone on with, and needs
//! room only for the rest.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::super::error::PreloadError;
use super::super::store::Repository;
use super::super::store::manifest::is_digest;
use super::Member;

/// A file of members, one JSON object a line.
pub struct Record {
    path: PathBuf,
    file: File,
    known: BTreeMap<String, Member>,
}

fn path_of(repository: &Repository, layer: &str) -> PathBuf {
    repository.private("incomplete").join(format!("{layer}.members"))
}

/// Removes what is recorded of an archive, when a manifest says the same.
pub fn forget(repository: &Repository, layer: &str) {
    let _ = fs::remove_file(path_of(repository, layer));
}

/// Bytes of an archive that have become blobs, though no manifest says so yet.
pub fn made(repository: &Repository, layer: &str) -> u64 {
    let text = fs::read_to_string(path_of(repository, layer)).unwrap_or_default();
    let there = members(&text).filter(|member| is_there(repository, member));
    there.map(|member| member.bytes).fold(0, u64::saturating_add)
}

fn members(text: &str) -> impl Iterator<Item = Member> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// Whether a member's blob is as it was when it was made.
fn is_there(repository: &Repository, member: &Member) -> bool {
    // Whoever can write to the store could name a file elsewhere.
    is_digest(&member.sha256)
        && member.stamp.is_some_and(|stamp| stamp.is_of(&repository.blob(&member.sha256), member.bytes))
}

impl Record {
    /// What is recorded of an archive. Lines that are cut off or strange are as if not there.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub fn open(repository: &Repository, layer: &str) -> Result<Record, PreloadError> {
        let path = path_of(repository, layer);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let known = members(&text).map(|member| (member.name.clone(), member)).collect();
        let open = || {
            fs::create_dir_all(repository.private("incomplete"))?;
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            if !text.is_empty() && !text.ends_with('\n') {
                file.write_all(b"\n")?;
            }
            Ok(file)
        };
        let file = open().map_err(|error| PreloadError::store("write", &path, error))?;
        Ok(Record { path, file, known })
    }

    /// A member whose blob is as it was when it was made.
    pub fn take(&mut self, repository: &Repository, name: &str, bytes: u64) -> Option<Member> {
        self.known.remove(name).filter(|member| member.bytes == bytes && is_there(repository, member))
    }

    /// Keeps a member.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn keep(&mut self, member: &Member) -> Result<(), PreloadError> {
        let line = serde_json::to_string(member).map_err(std::io::Error::from);
        let written = line.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|error| PreloadError::store("write", &self.path, error))
    }
}
