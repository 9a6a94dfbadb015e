//! What this node can give to others: files that are whole, and finished ranges of those on their way.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::super::fetch::Arrival;

/// A waiting request looks again after this time even if nobody wakes it.
const LOOK: Duration = Duration::from_millis(500);

/// The shelf of one run.
#[derive(Debug, Default)]
pub struct Shelf {
    items: Mutex<HashMap<String, Item>>,
    changed: Notify,
    moved: AtomicU64,
    given: AtomicU64,
    done: AtomicBool,
}

#[derive(Debug, Clone)]
enum Item {
    Arriving(Arc<Arrival>),
    Whole(PathBuf),
}

/// What a request finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is here.
    Here,
    /// It may come yet.
    NotYet,
    /// It will not.
    Never,
}

impl Shelf {
    fn items(&self) -> MutexGuard<'_, HashMap<String, Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is on its way.
    pub fn arriving(&self, arrival: &Arc<Arrival>) {
        self.items().insert(arrival.remote.digest.clone(), Item::Arriving(Arc::clone(arrival)));
    }

    /// A file is whole, and was found right.
    pub fn whole(&self, digest: &str, blob: PathBuf) {
        self.items().insert(digest.to_owned(), Item::Whole(blob));
        self.changed.notify_waiters();
    }

    /// A file turned out to be wrong, or changed.
    pub fn withdraw(&self, digest: &str) {
        self.items().remove(digest);
    }

    /// A range came, of so many bytes.
    pub fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Bytes that came in this run.
    pub fn moved_bytes(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Bytes that were given to others.
    pub fn given_bytes(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.done.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Whether nothing more will come.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Waits up to `wait` for a part of a file to be here.
    pub async fn wait_for(&self, digest: &str, part: &Range<u64>, wait: Duration) -> Presence {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            match self.items().get(digest) {
                Some(Item::Whole(_)) => return Presence::Here,
                Some(Item::Arriving(arrival)) if arrival.journal.whole_up_to(part.start) >= part.end => {
                    return Presence::Here;
                }
                None if self.is_done() => return Presence::Never,
                _ => {}
            }
            let now = tokio::time::Instant::now();
            if now >= until {
                return Presence::NotYet;
            }
            let _ = tokio::time::timeout_at(until.min(now + LOOK), changed).await;
        }
    }

    /// Reads a part that was found to be here.
    ///
    /// # Errors
    /// If it can't be read, or is no longer here.
    pub async fn read(&self, digest: &str, part: Range<u64>) -> io::Result<Vec<u8>> {
        let item = self.items().get(digest).cloned();
        let read = move || {
            let file = match item {
                Some(Item::Whole(path)) => File::open(path)?,
                Some(Item::Arriving(arrival)) if arrival.journal.whole_up_to(part.start) >= part.end => {
                    arrival.file.try_clone()?
                }
                _ => return Err(io::Error::from(io::ErrorKind::NotFound)),
            };
            // A peer may ask for what is behind the end; it gets no memory for that.
            if part.end > file.metadata()?.len() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let mut bytes = vec![0; usize::try_from(part.end - part.start).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, part.start)?;
            Ok(bytes)
        };
        let bytes: Vec<u8> = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
        self.given.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_there_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        std::fs::write(&path, "0123456789").unwrap();
        let shelf = Arc::new(Shelf::default());
        assert_eq!(shelf.wait_for("d", &(2..5), Duration::ZERO).await, Presence::NotYet);
        assert!(shelf.read("d", 2..5).await.is_err());
        let asking = tokio::spawn({
            let shelf = Arc::clone(&shelf);
            async move { shelf.wait_for("d", &(2..5), Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        shelf.whole("d", path);
        assert_eq!(asking.await.unwrap(), Presence::Here);
        assert_eq!(shelf.read("d", 2..5).await.unwrap(), b"234");
        assert!(shelf.read("d", 5..11).await.is_err(), "behind the end");
        shelf.close();
        assert_eq!(shelf.wait_for("other", &(0..1), Duration::from_secs(60)).await, Presence::Never);
        assert_eq!(shelf.given_bytes(), 3);
    }
}
