//! One file on its way: where its bytes gather, how far they are, and what they hash to.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::super::error::PreloadError;
use super::super::origin::{Place, Remote};
use super::super::portion;
use super::super::source::hex;
use super::super::store::Repository;
use super::super::store::journal::{self, Journal};
use super::super::store::manifest::Stamp;
use super::super::tensors::Header;

/// Bytes read at a time to be hashed.
const PIECE: usize = 1 << 20;
/// The kernel is told to begin writing to disk after so many bytes, so that the end is not late.
const WRITE_OUT: u64 = 32 << 20;
/// Bytes after which progress is made to last over a power failure.
const SYNC: u64 = 512 << 20;

/// A file on its way.
#[derive(Debug)]
pub struct Arrival {
    /// What it is.
    pub remote: Remote,
    /// The file it gathers in.
    pub file: File,
    /// How far its ranges are.
    pub journal: Journal,
    /// Whether other nodes are asked for it.
    pub asks_peers: bool,
    repository: Repository,
    /// What of it is wanted, if not all.
    need: Option<Vec<Range<u64>>>,
    givers: Mutex<Vec<(usize, String)>>,
    hashing: Mutex<Hashing>,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Hashing {
    at: u64,
    written_out: u64,
    synced: u64,
    sha256: Sha256,
    sha1: Option<Sha1>,
    piece: Vec<u8>,
}

/// What became of a file whose bytes are all there.
#[derive(Debug)]
pub enum End {
    /// It is right, and has its final name.
    Whole {
        /// SHA-256 of its content, in hex.
        sha256: String,
        /// The blob as it is now.
        stamp: Stamp,
    },
    /// It is not what was promised, and was put apart.
    Wrong(PreloadError),
    /// It changed at its source while it was copied.
    Changed,
}

/// A file to be fetched.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it is.
    pub remote: Remote,
    /// What of it, if not all: ranges in order.
    pub need: Option<Vec<Range<u64>>>,
    /// Whether other nodes may be asked for it.
    pub asks_peers: bool,
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// How far from its start a range must be there for what is needed of it.
fn cut(need: &[Range<u64>], range: &Range<u64>) -> u64 {
    let inside = need.iter().filter(|part| part.start < range.end && part.end > range.start && part.start < part.end);
    inside.map(|part| part.end.min(range.end) - range.start).max().unwrap_or(0)
}

impl Arrival {
    /// Opens what is there of a file, or begins it.
    ///
    /// # Errors
    /// If there is no room, or the store can't be written.
    pub fn open(repository: &Repository, wanted: Wanted) -> Result<Arrival, PreloadError> {
        let Wanted { remote, need, asks_peers } = wanted;
        let path = repository.incomplete(&remote.digest);
        let failed = |what: &'static str| {
            let path = path.clone();
            move |error| PreloadError::store(what, path, error)
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // A link planted there would lead the bytes elsewhere.
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let file = options.open(&path).map_err(failed("open"))?;
        let range = journal::range_length(remote.bytes, remote.in_ranges);
        let fresh = file.metadata().map_err(failed("read"))?.len() != remote.bytes;
        let journal = if remote.bytes > range {
            let key = format!("{} {} {}", remote.digest, remote.etag.as_deref().unwrap_or_default(), remote.bytes);
            Journal::open(&repository.journal(&remote.digest), &key, remote.bytes, range)
                .map_err(failed("keep a journal of"))?
        } else {
            // Begun anew if it is cut off: it is one request.
            Journal::in_memory(remote.bytes, range).map_err(failed("keep a journal of"))?
        };
        if fresh {
            journal.reset();
            file.set_len(0).map_err(failed("empty"))?;
            // Of a file with holes only what comes takes room.
            let reserved = match need {
                Some(_) => file.set_len(remote.bytes),
                None => journal::reserve(&file, remote.bytes),
            };
            if let Err(error) = reserved {
                // A full disk is not filled further by what can't be used.
                let _ = (fs::remove_file(&path), fs::remove_file(repository.journal(&remote.digest)));
                return Err(failed("reserve room for")(error));
            }
        }
        let hashing = Mutex::new(Hashing {
            at: 0,
            written_out: 0,
            synced: 0,
            sha256: Sha256::new(),
            sha1: remote.git.as_ref().map(|_| {
                let mut sha1 = Sha1::new();
                sha1.update(format!("blob {}\0", remote.bytes));
                sha1
            }),
            piece: vec![0; PIECE.min(usize::try_from(remote.bytes).unwrap_or(PIECE))],
        });
        // One request brings it, and without a journal nobody would know what is there.
        let mut need = need.filter(|_| remote.bytes > range);
        let all = |need: &Vec<Range<u64>>| {
            (0..journal.count()).all(|index| {
                cut(need, &journal.range(index)).max(journal.written(index)) == length(&journal.range(index))
            })
        };
        if need.as_ref().is_some_and(all) {
            need = None;
        }
        let (repository, givers) = (repository.clone(), Mutex::default());
        let asks_peers = asks_peers && need.is_none() && !matches!(remote.place, Place::File { .. });
        let ended = AtomicBool::new(false);
        Ok(Arrival { remote, file, journal, asks_peers, repository, need, givers, hashing, ended })
    }

    /// Whether only a part of it is wanted.
    pub fn is_part(&self) -> bool {
        self.need.is_some()
    }

    /// How many bytes of a range are wanted, from its start.
    pub fn wanted(&self, index: usize) -> u64 {
        let range = self.journal.range(index);
        self.need.as_ref().map_or(length(&range), |need| cut(need, &range))
    }

    /// How many bytes of all ranges.
    pub fn wanted_bytes(&self) -> u64 {
        (0..self.journal.count()).map(|index| self.wanted(index)).sum()
    }

    /// A range came from another node.
    pub fn given_by(&self, index: usize, address: String) {
        self.givers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, address));
    }

    /// Which ranges came from other nodes.
    pub fn givers(&self) -> Vec<(Range<u64>, String)> {
        let givers = self.givers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        givers.iter().map(|(index, address)| (self.journal.range(*index), address.clone())).collect()
    }

    /// Makes what came of a part last over a power failure.
    ///
    /// # Errors
    /// If it can't be forced to disk.
    pub fn settle(&self) -> Result<(), PreloadError> {
        let path = || self.repository.incomplete(&self.remote.digest);
        self.journal.sync(|| self.file.sync_data()).map_err(|error| PreloadError::store("force to disk", path(), error))
    }

    /// Writes bytes of a range that is `written` bytes far, and says so in the journal.
    ///
    /// # Errors
    /// If they can't be written; the journal stays where it was.
    pub fn write(&self, range: usize, written: u64, bytes: &[u8]) -> Result<(), PreloadError> {
        let offset = self.journal.range(range).start + written;
        let path = || self.repository.incomplete(&self.remote.digest);
        self.file.write_all_at(bytes, offset).map_err(|error| PreloadError::store("write", path(), error))?;
        self.journal.mark(range, written + bytes.len() as u64);
        Ok(())
    }

    /// Hashes what came since the last call, in the file's order. When all of it is hashed, checks
    /// it, forces it to disk and gives it its name: the first call that sees the end returns it.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn advance(&self) -> Result<Option<End>, PreloadError> {
        let path = self.repository.incomplete(&self.remote.digest);
        let failed = |what: &'static str| {
            let path = path.clone();
            move |error| PreloadError::store(what, path, error)
        };
        let mut hashing = self.hashing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            let whole = self.journal.whole_up_to(hashing.at);
            if whole <= hashing.at {
                break;
            }
            while hashing.at < whole {
                self.hash_piece(&mut hashing, whole).map_err(failed("read back"))?;
            }
        }
        if hashing.at < self.remote.bytes || self.ended.swap(true, Ordering::AcqRel) {
            return Ok(None);
        }
        let sha256 = hex(&std::mem::take(&mut hashing.sha256).finalize());
        let sha1 = hashing.sha1.take().map(|sum| hex(&sum.finalize()));
        drop(hashing);
        if let Some(end) = self.check(&sha256, sha1.as_deref())? {
            return Ok(Some(end));
        }
        self.file.sync_data().map_err(failed("force to disk"))?;
        let blob = self.repository.blob(&self.remote.digest);
        fs::rename(&path, &blob).map_err(failed("rename"))?;
        super::super::store::sync_directory(&self.repository.directory().join("blobs"))
            .map_err(failed("force to disk"))?;
        let _ = fs::remove_file(self.repository.journal(&self.remote.digest));
        let stamp = Stamp::of(&self.file.metadata().map_err(failed("read"))?);
        Ok(Some(End::Whole { sha256, stamp }))
    }

    fn hash_piece(&self, hashing: &mut Hashing, end: u64) -> io::Result<()> {
        let Hashing { at, written_out, synced, sha256, sha1, piece } = hashing;
        let length = usize::try_from(end - *at).map_or(piece.len(), |left| left.min(piece.len()));
        self.file.read_exact_at(&mut piece[..length], *at)?;
        sha256.update(&piece[..length]);
        if let Some(sha1) = sha1 {
            sha1.update(&piece[..length]);
        }
        *at += length as u64;
        if *at - *written_out >= WRITE_OUT {
            begin_write_out(&self.file, *written_out, *at - *written_out);
            *written_out = *at;
        }
        if *at - *synced >= SYNC {
            self.journal.sync(|| self.file.sync_data())?;
            *synced = *at;
        }
        Ok(())
    }

    /// Compares with what was promised; what is wrong is put apart.
    fn check(&self, sha256: &str, sha1: Option<&str>) -> Result<Option<End>, PreloadError> {
        if let Place::File { path, modified_ns } = &self.remote.place {
            let now = fs::metadata(path).ok();
            let same =
                now.is_some_and(|now| now.size() == self.remote.bytes && Stamp::of(&now).modified_ns == *modified_ns);
            if !same {
                self.discard();
                return Ok(Some(End::Changed));
            }
        }
        let pairs =
            [("sha256", self.remote.sha256.as_deref(), Some(sha256)), ("git digest", self.remote.git.as_deref(), sha1)];
        for (had, wanted, found) in pairs {
            if let (Some(wanted), Some(found)) = (wanted, found)
                && wanted != found
            {
                let quarantine = quarantine(
                    &self.repository,
                    &self.remote.digest,
                    &self.repository.incomplete(&self.remote.digest),
                )?;
                let _ = fs::remove_file(self.repository.journal(&self.remote.digest));
                return Ok(Some(End::Wrong(PreloadError::Checksum {
                    name: self.remote.name.clone(),
                    had,
                    found: found.to_owned(),
                    wanted: wanted.to_owned(),
                    quarantine,
                })));
            }
        }
        if portion::has_tensors(&self.remote.name)
            && !self.remote.packed
            && self.remote.bytes > 0
            && let Err(error) = Header::read(&self.file)
        {
            // Loaders trust it: sizes that lie lead them out of the file or out of memory.
            let path = self.repository.incomplete(&self.remote.digest);
            let quarantine = quarantine(&self.repository, &self.remote.digest, &path)?;
            let _ = fs::remove_file(self.repository.journal(&self.remote.digest));
            return Ok(Some(End::Wrong(PreloadError::Header {
                name: self.remote.name.clone(),
                why: error.to_string(),
                quarantine,
            })));
        }
        Ok(None)
    }

    /// Drops what came.
    pub fn discard(&self) {
        let _ = fs::remove_file(self.repository.incomplete(&self.remote.digest));
        let _ = fs::remove_file(self.repository.journal(&self.remote.digest));
    }
}

/// Puts a wrong file apart, and returns where it is now.
///
/// # Errors
/// If it can't be moved.
pub fn quarantine(repository: &Repository, digest: &str, path: &std::path::Path) -> Result<PathBuf, PreloadError> {
    let directory = repository.private("quarantine");
    fs::create_dir_all(&directory).map_err(|error| PreloadError::store("create", &directory, error))?;
    let place = directory.join(digest);
    fs::rename(path, &place).map_err(|error| PreloadError::store("put apart", path, error))?;
    Ok(place)
}

/// Begins to write pages to disk and does not wait. What fails here fails again when it is forced.
fn begin_write_out(file: &File, offset: u64, length: u64) {
    use std::os::fd::AsRawFd;
    // SAFETY: a descriptor that is open, no memory.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset as i64, length as i64, libc::SYNC_FILE_RANGE_WRITE);
    }
}
