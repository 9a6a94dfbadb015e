//! The store: a hub cache as Hugging Face's tools have it, so that what is in it starts in
//! transformers, vLLM and SGLang as it stands.
//!
//! ```text
//! hub/.locks/aictl.lock                    one writer
//! hub/models--org--name/blobs/DIGEST       the bytes, once for all revisions
//! hub/models--org--name/snapshots/REV/…    links to them under their names
//! hub/models--org--name/refs/main          which revision a branch is
//! hub/models--org--name/.aictl/…           manifests, files on their way, files put apart
//! ```
//!
//! Files on their way lie apart from `blobs/`: other tools take `blobs/X.incomplete` for a prefix
//! of the file and would go on behind its end.

pub mod journal;
mod lock;
pub mod manifest;
mod publish;
mod rate;
mod scan;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use manifest::{Entry, Manifest};
pub use rate::{keep_rate, rate_of};

use super::error::PreloadError;
use super::snapshot::Snapshot;
use super::source::Source;
use crate::act::Lock;

/// Where a repository keeps what other tools don't know of.
pub const PRIVATE: &str = ".aictl";

/// A store on disk. Opening it reads and makes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    hub: PathBuf,
}

impl Store {
    /// The store of a directory that serves as `HF_HOME`: its repositories lie in `hub/`.
    pub fn at_home(directory: &Path) -> Store {
        Store { hub: directory.join("hub") }
    }

    /// The store whose repositories lie in this very directory, as `HF_HUB_CACHE` names it.
    pub fn at_hub(directory: &Path) -> Store {
        Store { hub: directory.to_owned() }
    }

    /// The store that Hugging Face's tools would use: `variable` looks one up in the environment.
    pub fn usual(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Store> {
        let given = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
        if let Some(hub) = given("HF_HUB_CACHE").or_else(|| given("HUGGINGFACE_HUB_CACHE")) {
            return Some(Store::at_hub(&hub));
        }
        let cache = || given("XDG_CACHE_HOME").or_else(|| given("HOME").map(|home| home.join(".cache")));
        let home = given("HF_HOME").or_else(|| cache().map(|cache| cache.join("huggingface")))?;
        Some(Store::at_home(&home))
    }

    /// The directory with the repositories.
    pub fn hub(&self) -> &Path {
        &self.hub
    }

    /// The place of a source's files.
    pub fn repository(&self, source: &Source) -> Repository {
        Repository { directory: self.hub.join(source.directory()) }
    }

    /// All that lies in the store, also what other tools put there, in the order of directories.
    ///
    /// # Errors
    /// If the store is there and can't be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, PreloadError> {
        let mut found = Vec::new();
        for repository in self.repositories()? {
            found.extend(repository.snapshots()?);
        }
        Ok(found)
    }

    /// The repositories in the store.
    ///
    /// # Errors
    /// If the store is there and can't be read.
    pub fn repositories(&self) -> Result<Vec<Repository>, PreloadError> {
        let failed = |error| PreloadError::store("read", &self.hub, error);
        let entries = match fs::read_dir(&self.hub) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(|name| name.starts_with("models--") || name.starts_with("datasets--"));
            if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(Repository { directory: entry.path() });
            }
        }
        found.sort_by(|one, other| one.directory.cmp(&other.directory));
        Ok(found)
    }

    /// Takes the store for writing, waiting up to `wait` for another run.
    ///
    /// # Errors
    /// If another run has it, or it can't be made.
    pub fn lock(&self, wait: std::time::Duration) -> Result<Lock, PreloadError> {
        lock::take(&self.hub, wait)
    }
}

/// One repository in the store: all revisions of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    directory: PathBuf,
}

impl Repository {
    /// Its directory, `models--org--name`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What a hub calls it: `org/name`.
    pub fn name(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split_once("--").map_or(name.clone(), |(_, rest)| rest.replace("--", "/"))
    }

    /// The file with the bytes of a digest.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest)
    }

    /// The directory of a revision.
    pub fn snapshot(&self, revision: &str) -> PathBuf {
        self.directory.join("snapshots").join(revision)
    }

    /// The file that says which revision a branch is.
    pub fn reference(&self, name: &str) -> PathBuf {
        self.directory.join("refs").join(name)
    }

    /// A directory that is ours alone: "incomplete", "manifests", "quarantine".
    pub fn private(&self, name: &str) -> PathBuf {
        self.directory.join(PRIVATE).join(name)
    }

    /// The file in which a digest's bytes gather.
    pub fn incomplete(&self, digest: &str) -> PathBuf {
        self.private("incomplete").join(format!("{digest}.incomplete"))
    }

    /// The journal of such a file.
    pub fn journal(&self, digest: &str) -> PathBuf {
        self.private("incomplete").join(format!("{digest}.journal"))
    }

    /// Makes its directories.
    ///
    /// # Errors
    /// If one can't be made, or is no directory.
    pub fn create(&self) -> Result<(), PreloadError> {
        for name in ["blobs", "snapshots", "refs", ".aictl/incomplete", ".aictl/manifests"] {
            let path = self.directory.join(name);
            fs::create_dir_all(&path).map_err(|error| PreloadError::store("create", &path, error))?;
        }
        Ok(())
    }
}

/// Writes a small file so that it is there as a whole or not at all, also after a power failure.
///
/// # Errors
/// If it can't be written.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), PreloadError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let temporary = directory.join(name);
        let mut file = fs::File::create(&temporary)?;
        io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(directory)
    };
    write().map_err(|error| PreloadError::store("write", path, error))
}

/// Room on the file system of a directory that may not be there yet.
pub fn free_bytes(directory: &Path) -> u64 {
    let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    rustix::fs::statvfs(there).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Makes names in a directory last over a power failure.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
