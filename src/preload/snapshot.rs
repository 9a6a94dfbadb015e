//! One revision of a model as it lies on disk.

use std::path::PathBuf;

use serde::Serialize;

/// How far a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every file that was wanted is whole.
    Ready,
    /// Some are missing, or in part.
    Partial,
    /// A file on disk is not what it was when it was checked.
    Damaged,
}

impl State {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Partial => "partial",
            State::Damaged => "damaged",
        }
    }
}

/// One revision of one source in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it came from, without credentials, as a SOURCE that can be given again.
    pub source: String,
    /// The commit of a hub, the digest of a manifest, or a digest over the listing of others.
    pub revision: String,
    /// The directory with the files under their own names: what a server is given.
    pub path: PathBuf,
    /// Files that were wanted, in the order of their names.
    pub files: Vec<File>,
    /// Whether the content of every file was hashed and found right since it last changed.
    pub verified: bool,
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name in the source, with `/`.
    pub name: String,
    /// Its path in the snapshot's directory; a symbolic link.
    pub path: PathBuf,
    /// The file with its bytes, shared by revisions that have the same content.
    pub blob: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content in hex, once it is known.
    pub sha256: Option<String>,
    /// The entity tag of its source.
    pub etag: Option<String>,
    /// What is on disk.
    pub presence: Presence,
}

/// What of a file is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// All of it.
    Whole,
    /// So many bytes, under another name.
    Partial(u64),
    /// There is a file, which is not the one that was checked.
    Damaged,
    /// Nothing.
    Missing,
}

impl Snapshot {
    /// Sizes of all its files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// What of it is on disk.
    pub fn on_disk_bytes(&self) -> u64 {
        let here = |file: &File| match file.presence {
            Presence::Whole => file.bytes,
            Presence::Partial(bytes) => bytes,
            Presence::Damaged | Presence::Missing => 0,
        };
        self.files.iter().map(here).sum()
    }

    /// How far it is.
    pub fn state(&self) -> State {
        if self.files.iter().any(|file| file.presence == Presence::Damaged) {
            State::Damaged
        } else if self.files.iter().all(|file| file.presence == Presence::Whole) {
            State::Ready
        } else {
            State::Partial
        }
    }

    /// The files that are whole.
    pub fn whole(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.presence == Presence::Whole)
    }
}
