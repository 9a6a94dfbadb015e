//! Layers of artifacts that are archives (tar, also with gzip or zstd): their members become blobs of
//! their own, so that what is published is plain files, as of every other source.
//!
//! ModelPack's and KitOps's tools write such layers. A layer is hashed before it comes here, but who
//! made it is a stranger: [`each_file`] takes nothing but files with harmless names, sizes are measured
//! by the room on the disk, and no more is held in memory than a piece.

mod frames;
mod read;
mod record;
#[cfg(test)]
mod tests;
mod together;

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use read::{Unsound, each_file};
use record::Record;
pub use record::{forget, made};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
pub use together::Together;

use super::digest;
use super::error::PreloadError;
use super::fetch::quarantine;
use super::portion::has_tensors;
use super::source::hex;
use super::store::Repository;
use super::store::manifest::Stamp;
use super::tensors::Header;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;
/// A window of zstd may take one part in so many of the memory that a run may use: two archives are
/// unpacked at a time, a decoder holds twice its window, and files arrive meanwhile.
const PARTS: u64 = 8;

/// A file that an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, in hex, which names its blob.
    pub sha256: String,
    /// Its blob; `None` if it is not wanted, and there is none.
    pub stamp: Option<Stamp>,
}

/// Makes blobs of an archive's members that are wanted. What is there already stays as it is; what a
/// run made that was cut off is not made again. `reached` becomes the bytes of the archive that were
/// read.
///
/// # Errors
/// If it is no sound archive, holds anything but files and directories, or a name that leads
/// elsewhere; if the disk is full or the store fails; or if the work was ended.
pub fn unpack(
    repository: &Repository,
    layer: &str,
    wants: &dyn Fn(&str) -> bool,
    together: &Together,
    reached: &AtomicU64,
) -> Result<Vec<Member>, PreloadError> {
    let path = repository.blob(layer);
    let file = File::open(&path).map_err(|error| PreloadError::store("read", &path, error))?;
    let source = BufReader::with_capacity(PIECE, Counted { file, reached });
    let record = Record::open(repository, layer)?;
    let mut work = Work { repository, layer, together, record, piece: vec![0; PIECE], members: Vec::new() };
    let taken = each_file(source, &together.stop, together.window, |name, bytes, content| {
        let member = if wants(&name) { work.keep(name, bytes, content) } else { work.pass(name, bytes, content) }?;
        work.members.push(member);
        Ok(())
    });
    match taken {
        Ok(()) => Ok(work.members),
        Err(Failure::Store(error)) => Err(error),
        Err(Failure::Archive(Unsound(why))) => Err(PreloadError::Source {
            what: format!("layer {}", &layer[..12.min(layer.len())]),
            why: if together.stop.load(Ordering::Relaxed) { "the run was ended".to_owned() } else { why },
            passing: false,
        }),
    }
}

/// What went wrong.
enum Failure {
    /// The archive.
    Archive(Unsound),
    /// The store.
    Store(PreloadError),
}

impl From<Unsound> for Failure {
    fn from(why: Unsound) -> Failure {
        Failure::Archive(why)
    }
}

impl From<PreloadError> for Failure {
    fn from(error: PreloadError) -> Failure {
        Failure::Store(error)
    }
}

struct Work<'a> {
    repository: &'a Repository,
    layer: &'a str,
    together: &'a Together,
    record: Record,
    piece: Vec<u8>,
    members: Vec<Member>,
}

impl Work<'_> {
    /// Only says what a member is.
    fn pass(&mut self, name: String, bytes: u64, content: &mut dyn Read) -> Result<Member, Failure> {
        let sha256 = self.copy(content, bytes, None)?;
        Ok(Member { name, bytes, sha256, stamp: None })
    }

    /// Makes a blob of a member.
    fn keep(&mut self, name: String, bytes: u64, content: &mut dyn Read) -> Result<Member, Failure> {
        let known = self.together.claim(|claimed| {
            let known = self.record.take(self.repository, &name, bytes);
            claimed.extend(known.iter().map(|member| member.sha256.clone()));
            known
        });
        if let Some(member) = known {
            return Ok(member);
        }
        let aside = format!("{}.{}", self.layer, self.members.len());
        let aside = Aside::new(self.repository.private("incomplete").join(aside))?;
        // What a run left that was cut off is gone by now.
        let together = self.together;
        let promise = together.room(bytes, &self.repository.directory().join("blobs"))?;
        let sha256 = self.copy(content, bytes, Some(&aside))?;
        drop(promise);
        if has_tensors(&name)
            && bytes > 0
            && let Err(error) = Header::read(&aside.file)
        {
            // Loaders trust it: as of a file that comes alone.
            let (why, quarantine) = (error.to_string(), quarantine(self.repository, &sha256, &aside.path)?);
            return Err(PreloadError::Header { name, why, quarantine }.into());
        }
        let blob = self.repository.blob(&sha256);
        let failed = |what, error| PreloadError::store(what, &aside.path, error);
        let stamp = together.claim(|claimed| {
            // Other revisions may have it, and know it by its stamp.
            let there = fs::symlink_metadata(&blob).is_ok_and(|there| there.is_file() && there.len() == bytes)
                && digest::of_file(&blob, false).is_ok_and(|found| found.sha256 == sha256);
            if !there {
                aside.file.sync_data().map_err(|error| failed("force to disk", error))?;
                fs::rename(&aside.path, &blob).map_err(|error| failed("rename", error))?;
            }
            let found = fs::symlink_metadata(&blob).map_err(|error| PreloadError::store("read", &blob, error))?;
            claimed.insert(sha256.clone());
            Ok::<Stamp, PreloadError>(Stamp::of(&found))
        })?;
        let member = Member { name, bytes, sha256, stamp: Some(stamp) };
        self.record.keep(&member)?;
        Ok(member)
    }

    /// Copies a member, and says what it hashes to.
    fn copy(&mut self, content: &mut dyn Read, bytes: u64, aside: Option<&Aside>) -> Result<String, Failure> {
        let mut sha256 = Sha256::new();
        let mut left = bytes;
        while left > 0 {
            let length = match content.read(&mut self.piece) {
                Ok(0) => return Err(Unsound::of("it ends in the middle of a file").into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Unsound::of(error).into()),
            };
            sha256.update(&self.piece[..length]);
            if let Some(aside) = aside {
                let written = (&aside.file).write_all(&self.piece[..length]);
                written.map_err(|error| PreloadError::store("write", &aside.path, error))?;
            }
            left = left.saturating_sub(length as u64);
        }
        Ok(hex(&sha256.finalize()))
    }
}

/// A file on its way, which is removed if it gets no other name.
struct Aside {
    path: PathBuf,
    file: File,
}

impl Aside {
    fn new(path: PathBuf) -> Result<Aside, PreloadError> {
        let failed = |error| PreloadError::store("create", &path, error);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(failed)?;
        Ok(Aside { path, file })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Says how far a file is read.
struct Counted<'a> {
    file: File,
    reached: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.reached.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}
