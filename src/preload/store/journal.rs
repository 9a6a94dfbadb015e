//! How far each range of a file on its way is: a small file beside it, mapped into memory.
//!
//! Two marks a range. `written` follows every write: it survives the process, since the kernel
//! keeps both pages, but it may be ahead of the disk. `synced` is only moved after the bytes below
//! it were forced to disk: it survives a power failure. The journal says in which boot it was
//! written; in another one only `synced` counts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapMut;
use sha2::{Digest, Sha256};

/// Begins every journal; the digit is the format's version.
const MAGIC: &[u8; 8] = b"AICTLJ1\n";
/// Bytes before the marks.
const HEADER: usize = 96;
/// Where the boot stands in the header; it is the only part that changes.
const BOOT: Range<usize> = 64..96;
/// Length of a range: long enough that a request's overhead vanishes, short enough that 64
/// connections share a shard of a few gigabytes.
const RANGE: u64 = 8 << 20;
/// More ranges than these, and they get longer.
const MOST_RANGES: u64 = 1 << 18;

/// The marks of a file on its way.
#[derive(Debug)]
pub struct Journal {
    map: MmapMut,
    size: u64,
    range: u64,
    count: usize,
}

/// The length of a file's ranges; a file whose source serves no ranges is one.
pub fn range_length(size: u64, in_ranges: bool) -> u64 {
    let mut range = RANGE;
    while size.div_ceil(range) > MOST_RANGES {
        range *= 2;
    }
    if in_ranges { range } else { size.max(1) }
}

impl Journal {
    /// Opens the journal of a file that is known by `key` (its digest, tag and size), or begins one.
    /// What was begun under another key counts for nothing.
    ///
    /// # Errors
    /// If it can't be read or made.
    pub fn open(path: &Path, key: &str, size: u64, range: u64) -> io::Result<Journal> {
        let count = usize::try_from(size.div_ceil(range)).map_err(io::Error::other)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        for number in [size, range, count as u64] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.extend_from_slice(&Sha256::digest(key.as_bytes()));
        let boot = boot();
        let length = HEADER + count * 16;
        let there = fs::read(path).unwrap_or_default();
        if there.len() != length || there[..BOOT.start] != header[..] {
            header.extend_from_slice(&boot);
            header.resize(length, 0);
            // Not forced to disk: what a power failure leaves of it counts too little, never too much.
            let _ = fs::remove_file(path);
            fs::write(path, &header)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // SAFETY: the store's lock keeps other writers away; whoever cuts the file short on purpose
        // ends this process with SIGBUS, and nothing wrong is published.
        let map = unsafe { MmapMut::map_mut(&file)? };
        if map.len() != length {
            return Err(io::Error::other("the journal was changed by another program"));
        }
        let mut journal = Journal { map, size, range, count };
        if journal.map[BOOT] != boot {
            for index in 0..count {
                journal.mark(index, journal.slot(count + index).load(Ordering::Relaxed));
            }
            // The marks first: with the new boot beside old marks a power failure would count.
            journal.map.flush()?;
            journal.map[BOOT].copy_from_slice(&boot);
            journal.map.flush()?;
        }
        Ok(journal)
    }

    /// Marks of a file that is not worth a journal on disk.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn in_memory(size: u64, range: u64) -> io::Result<Journal> {
        let count = usize::try_from(size.div_ceil(range)).map_err(io::Error::other)?;
        Ok(Journal { map: MmapMut::map_anon(HEADER + count * 16)?, size, range, count })
    }

    fn slot(&self, index: usize) -> &AtomicU64 {
        let offset = HEADER + index * 8;
        debug_assert!(offset + 8 <= self.map.len());
        // SAFETY: inside the map, aligned to 8 since a map begins at a page; other threads reach it
        // only as an atomic too, and the header is apart.
        unsafe { &*self.map.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// How many ranges there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The bytes of a range.
    pub fn range(&self, index: usize) -> Range<u64> {
        let start = index as u64 * self.range;
        start..start.saturating_add(self.range).min(self.size)
    }

    /// How many bytes of a range are written, from its start.
    pub fn written(&self, index: usize) -> u64 {
        let range = self.range(index);
        self.slot(index).load(Ordering::Acquire).min(range.end - range.start)
    }

    /// Says so.
    pub fn mark(&self, index: usize, bytes: u64) {
        self.slot(index).store(bytes, Ordering::Release);
    }

    /// Forgets all.
    pub fn reset(&self) {
        for index in 0..self.count * 2 {
            self.slot(index).store(0, Ordering::Release);
        }
    }

    /// All bytes that are written.
    pub fn total(&self) -> u64 {
        (0..self.count).map(|index| self.written(index)).sum()
    }

    /// Up to where the file is written without a hole, seen from `from`, which was such a place.
    pub fn whole_up_to(&self, from: u64) -> u64 {
        let mut index = usize::try_from(from / self.range).unwrap_or(self.count);
        let mut end = from;
        while index < self.count {
            let range = self.range(index);
            end = range.start + self.written(index);
            if end < range.end {
                break;
            }
            index += 1;
        }
        end.max(from)
    }

    /// Forces the file's bytes to disk with `sync`, then moves the marks that outlast a power failure.
    ///
    /// # Errors
    /// If `sync` fails; the marks stay.
    pub fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let before: Vec<u64> = (0..self.count).map(|index| self.written(index)).collect();
        sync()?;
        for (index, bytes) in before.into_iter().enumerate() {
            self.slot(self.count + index).store(bytes, Ordering::Release);
        }
        Ok(())
    }

    /// How many bytes a journal on disk counts, for whoever only looks; 0 if there is none.
    pub fn bytes_of(path: &Path) -> u64 {
        let Ok(text) = fs::read(path) else { return 0 };
        let number = |at: usize| text.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let Some(count) = number(24).and_then(|count| usize::try_from(count).ok()) else { return 0 };
        if text[..8] != MAGIC[..]
            || count.checked_mul(16).and_then(|marks| marks.checked_add(HEADER)) != Some(text.len())
        {
            return 0;
        }
        let first = if text[BOOT] == boot() { 0 } else { count };
        (first..first + count).filter_map(|index| number(HEADER + index * 8)).fold(0, u64::saturating_add)
    }
}

/// Which boot this is, as 32 bytes; on a machine that doesn't say, one that no other equals.
fn boot() -> [u8; 32] {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let id = id.unwrap_or_else(|_| format!("process {} {:?}", std::process::id(), std::time::SystemTime::now()));
    Sha256::digest(id.trim().as_bytes()).into()
}

/// Reserves the space of a file on its way, so that a full disk is met before the first byte.
///
/// # Errors
/// If there is not enough room.
pub fn reserve(file: &File, size: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    if size == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        // Some network file systems can't; they get a file with holes.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => file.set_len(size),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
        let mut text = fs::read(path).unwrap();
        text[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(path, &text).unwrap();
    }

    #[test]
    fn marks_survive_the_process_and_only_synced_ones_the_boot() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let journal = Journal::open(&path, "key", 25, 10).unwrap();
        assert_eq!((journal.count(), journal.range(2)), (3, 20..25));
        journal.mark(0, 10);
        journal.mark(1, 4);
        journal.sync(|| Ok(())).unwrap();
        journal.mark(1, 7);
        journal.mark(2, 5);
        assert_eq!((journal.total(), journal.whole_up_to(0)), (22, 17));
        drop(journal);
        assert_eq!(Journal::bytes_of(&path), 22);
        assert_eq!(Journal::open(&path, "key", 25, 10).unwrap().total(), 22);

        overwrite(&path, BOOT.start, &[7; 32]);
        assert_eq!(Journal::bytes_of(&path), 14);
        let journal = Journal::open(&path, "key", 25, 10).unwrap();
        assert_eq!((journal.written(0), journal.written(1), journal.written(2)), (10, 4, 0));
        drop(journal);
        assert_eq!(Journal::bytes_of(&path), 14);
    }

    #[test]
    fn another_key_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        Journal::open(&path, "key", 25, 10).unwrap().mark(0, 10);
        assert_eq!(Journal::open(&path, "other", 25, 10).unwrap().total(), 0);
        Journal::open(&path, "other", 25, 10).unwrap().mark(0, 10);
        assert_eq!(Journal::open(&path, "other", 26, 10).unwrap().total(), 0);
        fs::write(&path, "AICTLJ1\nrubbish").unwrap();
        assert_eq!(Journal::bytes_of(&path), 0);
        assert_eq!(Journal::open(&path, "other", 26, 10).unwrap().total(), 0);
    }

    #[test]
    fn a_failed_sync_moves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.journal");
        let journal = Journal::open(&path, "key", 25, 10).unwrap();
        journal.mark(0, 10);
        assert!(journal.sync(|| Err(io::Error::other("no"))).is_err());
        drop(journal);
        overwrite(&path, BOOT.start, &[7; 32]);
        assert_eq!(Journal::bytes_of(&path), 0);
    }

    #[test]
    fn huge_files_have_few_ranges() {
        assert_eq!(range_length(10 << 30, true), RANGE);
        assert!(u64::MAX.div_ceil(range_length(u64::MAX, true)) <= MOST_RANGES);
        assert_eq!(range_length(100, false), 100);
    }

    proptest! {
        #[test]
        fn whole_up_to_is_the_first_hole(size in 1u64..200, range in 1u64..40, marks in prop::collection::vec(0u64..50, 200)) {
            let directory = tempfile::tempdir().unwrap();
            let journal = Journal::open(&directory.path().join("j"), "k", size, range).unwrap();
            let mut covered = vec![false; size as usize];
            for (index, &mark) in marks.iter().enumerate().take(journal.count()) {
                journal.mark(index, mark);
                let start = journal.range(index).start;
                for at in start..start + journal.written(index) {
                    covered[at as usize] = true;
                }
            }
            let hole = covered.iter().position(|&covered| !covered).map_or(size, |at| at as u64);
            prop_assert_eq!(journal.whole_up_to(0), hole);
            prop_assert_eq!(journal.total(), covered.iter().filter(|&&covered| covered).count() as u64);
        }
    }
}
