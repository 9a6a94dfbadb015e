//! What those who unpack archives of one repository at the same time share: names and room.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::error::PreloadError;
use super::super::store::free_bytes;
use super::{Failure, PARTS, Unsound};

/// Time between two looks whether there is room.
const LOOK: Duration = Duration::from_millis(50);

/// What they share.
#[derive(Debug)]
pub struct Together {
    /// Set to end the work.
    pub stop: AtomicBool,
    /// Bytes of the disk that are left to what is yet to be fetched.
    pub hold: AtomicU64,
    /// Bytes that a window of zstd may take.
    pub(super) window: u64,
    /// Digests of blobs that no manifest names yet.
    claimed: Mutex<BTreeSet<String>>,
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// Bytes that are being written.
    promised: u64,
    /// Archives that are at work, or are done and not yet removed.
    begun: usize,
    /// Those of them that wait for room.
    waiting: usize,
}

/// Room on the disk, until it is dropped.
#[derive(Debug)]
pub struct Promise<'a> {
    together: &'a Together,
    bytes: u64,
}

impl Together {
    /// For runs that may take so many bytes of memory.
    pub fn new(max_memory: u64) -> Together {
        Together {
            stop: AtomicBool::new(false),
            hold: AtomicU64::new(0),
            window: max_memory / PARTS,
            claimed: Mutex::default(),
            room: Mutex::default(),
        }
    }

    /// An archive is at work.
    pub fn begun(&self) {
        self.locked().begun += 1;
    }

    /// So many are done, and gone where nobody needs them.
    pub fn ended(&self, count: usize) {
        let mut room = self.locked();
        room.begun = room.begun.saturating_sub(count);
    }

    /// Does something with the digests of all blobs that were made, while nobody else gives a blob its
    /// name: two archives may hold the same file, and a file of one may be another, which is about to go.
    pub fn claim<T>(&self, work: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        work(&mut self.claimed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn locked(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for so many bytes in a directory: another archive may be about to go.
    ///
    /// # Errors
    /// If there is none, and nothing will go; or if the work was ended.
    pub(super) fn room(&self, bytes: u64, directory: &Path) -> Result<Promise<'_>, Failure> {
        let mut waits = false;
        loop {
            let mut room = self.locked();
            let hold = self.hold.load(Ordering::Relaxed);
            let free_bytes = free_bytes(directory).saturating_sub(room.promised);
            if bytes.saturating_add(hold) <= free_bytes {
                room.promised += bytes;
                room.waiting -= usize::from(waits);
                return Ok(Promise { together: self, bytes });
            }
            room.waiting += usize::from(!waits);
            waits = true;
            let nothing_goes = room.begun <= room.waiting && hold == 0;
            let stopped = self.stop.load(Ordering::Relaxed);
            if nothing_goes || stopped {
                room.waiting -= 1;
                drop(room);
                if stopped {
                    return Err(Unsound::of("the run was ended").into());
                }
                let store = directory.to_owned();
                return Err(PreloadError::Full { store, needed_bytes: bytes, free_bytes }.into());
            }
            drop(room);
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let mut room = self.together.locked();
        room.promised = room.promised.saturating_sub(self.bytes);
    }
}
