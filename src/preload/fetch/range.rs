//! One range of one file: from a stream of bytes to their place on disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::super::error::PreloadError;
use super::super::origin::{Origin, Place, ReadError};
use super::super::peer::{Asked, Peers};
use super::arrival::Arrival;
use super::pace::Limit;

/// Bytes copied at a time from a mount.
const PIECE: usize = 1 << 20;

/// What all ranges share.
#[derive(Debug)]
pub struct Shared {
    /// The far side.
    pub origin: Arc<Origin>,
    /// A limit to the rate.
    pub limit: Option<Mutex<Limit>>,
    /// Time without a byte after which a request is given up.
    pub stall: Duration,
    /// Bytes that came from the source.
    pub fetched: AtomicU64,
    /// Other nodes, which are asked first.
    pub peers: Option<Arc<Peers>>,
    /// Bytes that came from them.
    pub from_peers: AtomicU64,
    /// Requests to the source of whose answer no byte is there yet.
    pub waiting: AtomicUsize,
}

impl Shared {
    /// Bytes that came, from wherever.
    pub fn came(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed) + self.from_peers.load(Ordering::Relaxed)
    }
}

/// Counts a request that waits for its first byte, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Waiting<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a range is not whole.
#[derive(Debug)]
pub enum Failure {
    /// The far side.
    Read(ReadError),
    /// The store.
    Store(PreloadError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        Failure::Read(error)
    }
}

/// Fetches what a range lacks.
pub async fn fetch(shared: Arc<Shared>, arrival: Arc<Arrival>, index: usize) -> Result<(), Failure> {
    if let Place::File { path, .. } = &arrival.remote.place {
        let path = path.clone();
        let copied = tokio::task::spawn_blocking(move || copy(&shared, &arrival, index, &path)).await;
        return copied.unwrap_or_else(|_| Err(ReadError::Final("the copy was given up".to_owned()).into()));
    }
    if from_peers(&shared, &arrival, index).await.map_err(Failure::Store)? {
        return Ok(());
    }
    let range = arrival.journal.range(index);
    if !arrival.remote.in_ranges {
        // It comes from its start only.
        arrival.journal.mark(index, 0);
    }
    let mut written = arrival.journal.written(index);
    let length = arrival.wanted(index);
    let wanted = range.start + written..range.start + length;
    let stalled = || ReadError::passing(format!("no byte for {} s", shared.stall.as_secs_f64()));
    let mut waiting = Some(Waiting::new(&shared.waiting));
    let started = tokio::time::timeout(shared.stall, shared.origin.read(&arrival.remote, wanted)).await;
    let mut stream = started.map_err(|_| stalled())??;
    while written < length {
        let next = tokio::time::timeout(shared.stall, stream.next()).await.map_err(|_| stalled())?;
        let Some(bytes) = next else {
            return Err(ReadError::passing(format!("it ended {} bytes early", length - written)).into());
        };
        let mut bytes = bytes?;
        drop(waiting.take());
        if bytes.len() as u64 > length - written {
            bytes.truncate(usize::try_from(length - written).unwrap_or(usize::MAX));
        }
        arrival.write(index, written, &bytes).map_err(Failure::Store)?;
        written += bytes.len() as u64;
        shared.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        pause(&shared, bytes.len()).await;
    }
    if let Some(peers) = &shared.peers {
        peers.shelf.moved(length);
    }
    Ok(())
}

/// Asks other nodes for what a range lacks; whether it is whole now. What comes from them is not
/// subject to the limit of the rate, which spares the source.
async fn from_peers(shared: &Shared, arrival: &Arrival, index: usize) -> Result<bool, PreloadError> {
    let Some(peers) = shared.peers.as_ref().filter(|_| arrival.asks_peers) else { return Ok(false) };
    let range = arrival.journal.range(index);
    let written = arrival.journal.written(index);
    let part = range.start + written..range.end;
    let bytes = part.end - part.start;
    let write = |bytes: &[u8]| arrival.write(index, written, bytes);
    match peers.ask(&arrival.remote.digest, index, part, &write).await? {
        Asked::Given(address) => {
            arrival.given_by(index, address);
            shared.from_peers.fetch_add(bytes, Ordering::Relaxed);
            peers.shelf.moved(bytes);
            Ok(true)
        }
        Asked::Nobody => Ok(false),
    }
}

async fn pause(shared: &Shared, bytes: usize) {
    let Some(limit) = &shared.limit else { return };
    let wait = limit.lock().unwrap_or_else(PoisonError::into_inner).book(bytes, Instant::now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// Copies from a mount; the kernel does it without this process where both sides allow it.
fn copy(shared: &Shared, arrival: &Arrival, index: usize, path: &std::path::Path) -> Result<(), Failure> {
    let trouble = |error: std::io::Error| match error.raw_os_error() {
        Some(libc::EIO | libc::ETIMEDOUT | libc::ESTALE) => ReadError::passing(error.to_string()),
        _ => ReadError::Final(error.to_string()),
    };
    let source = File::open(path).map_err(trouble)?;
    let range = arrival.journal.range(index);
    let length = arrival.wanted(index);
    let mut written = arrival.journal.written(index);
    let mut by_kernel = true;
    let mut piece = Vec::new();
    while written < length {
        let at = range.start + written;
        let wanted = usize::try_from(length - written).unwrap_or(PIECE).min(PIECE);
        let mut copied = 0;
        if by_kernel {
            let (mut from, mut to) = (at, at);
            match rustix::fs::copy_file_range(&source, Some(&mut from), &arrival.file, Some(&mut to), wanted) {
                Ok(count) => copied = count,
                Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
                    return Err(Failure::Store(PreloadError::store(
                        "write",
                        path,
                        std::io::Error::from_raw_os_error(libc::ENOSPC),
                    )));
                }
                Err(_) => by_kernel = false,
            }
            if copied > 0 {
                arrival.journal.mark(index, written + copied as u64);
            }
        }
        if copied == 0 {
            piece.resize(PIECE, 0);
            copied = source.read_at(&mut piece[..wanted], at).map_err(trouble)?;
            if copied == 0 {
                return Err(ReadError::Changed.into());
            }
            arrival.write(index, written, &piece[..copied]).map_err(Failure::Store)?;
        }
        written += copied as u64;
        shared.fetched.fetch_add(copied as u64, Ordering::Relaxed);
        if let Some(limit) = &shared.limit {
            let wait = limit.lock().unwrap_or_else(PoisonError::into_inner).book(copied, Instant::now());
            std::thread::sleep(wait);
        }
    }
    Ok(())
}
