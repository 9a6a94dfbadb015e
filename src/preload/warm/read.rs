//! Ways to bring a part of a file into the page cache without copying it out of the kernel.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::Serialize;

use crate::host::page_cache::page_size;

/// A way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// sendfile(2) to /dev/null: the kernel reads ahead as far as the device's setting says, and
    /// copies nothing.
    Sendfile,
    /// A mapping with MADV_HUGEPAGE, filled by MADV_POPULATE_READ: the kernel reads ahead by huge
    /// pages, whatever the device's setting is.
    Populate,
    /// pread(2): copies, and works everywhere.
    Pread,
}

/// Read-ahead from which sendfile keeps a device busier than huge pages do. Measured on a virtio
/// disk: as fast as O_DIRECT at 8 MiB, half of it at 128 KiB, where huge pages reach 0.8.
const LONG_READ_AHEAD: u64 = 4 << 20;
/// A huge page of x86-64, and of arm64 with pages of 4 KiB; elsewhere only the rate suffers.
const HUGE_PAGE: u64 = 2 << 20;
/// Bytes after which a thread looks whether it shall stop, and says how far it is.
const STEP: u64 = 8 << 20;
/// Bytes of one request where nothing is read ahead. A request that is longer than the device's
/// read-ahead is cut short by the kernel; the rest then comes by small reads.
const REQUEST: u64 = 4 << 20;

impl Way {
    /// The way for a device with a read-ahead.
    pub fn suited_to(read_ahead_bytes: Option<u64>) -> Way {
        match read_ahead_bytes {
            Some(bytes) if bytes >= LONG_READ_AHEAD => Way::Sendfile,
            _ => Way::Populate,
        }
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Way::Sendfile => "sendfile",
            Way::Populate => "populate",
            Way::Pread => "pread",
        }
    }

    /// Threads that keep a device busy. All but the last wait most of their time. Measured on a virtio
    /// disk (benches/page_cache.py --ways): 8 and 16 of them came to 0.80-0.84 of the device's limit,
    /// these to 0.82-0.95; more were no faster.
    pub(super) fn threads(self) -> usize {
        match self {
            Way::Sendfile => 12,
            Way::Populate => 32,
            Way::Pread => 8,
        }
    }

    /// Bytes that one thread reads in a row.
    pub(super) fn span(self) -> u64 {
        match self {
            Way::Sendfile => 64 << 20,
            Way::Populate | Way::Pread => 32 << 20,
        }
    }
}

/// What threads and their watcher tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Bytes read so far.
    pub done: AtomicU64,
    /// Whether to stop.
    pub stop: AtomicBool,
}

/// One thread's tools.
#[derive(Debug)]
pub(super) struct Reader {
    null: Option<File>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Opens what is needed.
    pub fn new() -> Reader {
        // Without it (a bare chroot) there is pread.
        Reader { null: OpenOptions::new().write(true).open("/dev/null").ok(), buffer: Vec::new() }
    }

    /// Reads a range; less of it if the file has shrunk, which is no error here: what is resident is
    /// asked of the kernel afterwards.
    pub fn read(&mut self, way: Way, exact: bool, file: &File, range: Range<u64>, shared: &Shared) -> io::Result<()> {
        let end = range.end.min(file.metadata()?.len());
        let range = range.start..end.max(range.start);
        if exact {
            advise(file, 0..0, libc::POSIX_FADV_RANDOM);
        }
        let done = match (way, &self.null) {
            (Way::Sendfile | Way::Populate, Some(null)) if exact => by_request(null, file, range.clone(), shared),
            (Way::Sendfile, Some(null)) => by_sendfile(null, file, range.clone(), shared),
            (Way::Populate, _) => by_populate(file, range.clone(), shared),
            _ => return self.by_pread(file, range, shared),
        };
        match done {
            // The file system or the kernel does not have it; nothing was read by then.
            Err((at, error)) if is_unsupported(&error) => self.by_pread(file, at..range.end, shared),
            Err((_, error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    fn by_pread(&mut self, file: &File, range: Range<u64>, shared: &Shared) -> io::Result<()> {
        self.buffer.resize(1 << 20, 0);
        let mut at = range.start;
        while at < range.end && !shared.stop.load(Ordering::Relaxed) {
            let want = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(self.buffer.len());
            match file.read_at(&mut self.buffer[..want], at) {
                Ok(0) => break,
                Ok(size) => {
                    at += size as u64;
                    shared.done.fetch_add(size as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ENODEV | libc::ESPIPE))
}

type Step = Result<(), (u64, io::Error)>;

fn by_sendfile(null: &File, file: &File, range: Range<u64>, shared: &Shared) -> Step {
    // Doubles how far is read ahead for this open file (POSIX_FADV_SEQUENTIAL in mm/fadvise.c).
    advise(file, 0..0, libc::POSIX_FADV_SEQUENTIAL);
    send(null, file, range, shared)
}

/// Asks for each piece and waits for it, on a file that is set to be read at random: the kernel reads
/// that and no page more.
fn by_request(null: &File, file: &File, range: Range<u64>, shared: &Shared) -> Step {
    let mut at = range.start;
    while at < range.end && !shared.stop.load(Ordering::Relaxed) {
        let piece = at..range.end.min(at + REQUEST);
        advise(file, piece.clone(), libc::POSIX_FADV_WILLNEED);
        send(null, file, piece.clone(), shared)?;
        at = piece.end;
    }
    Ok(())
}

/// Gives the kernel advice about a range; 0..0 means all of the file. It need not take it.
fn advise(file: &File, range: Range<u64>, advice: libc::c_int) {
    let (Ok(offset), Ok(length)) = (libc::off_t::try_from(range.start), libc::off_t::try_from(range.end - range.start))
    else {
        return;
    };
    // SAFETY: a call on an open descriptor without pointers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, length, advice) };
}

fn send(null: &File, file: &File, range: Range<u64>, shared: &Shared) -> Step {
    let mut at = range.start;
    while at < range.end && !shared.stop.load(Ordering::Relaxed) {
        let size = usize::try_from((range.end - at).min(STEP)).unwrap_or(usize::MAX);
        let mut offset = libc::off_t::try_from(at).map_err(|_| (at, io::Error::from_raw_os_error(libc::EOVERFLOW)))?;
        // SAFETY: both descriptors are open; the kernel writes the offset back where it is told to.
        let sent = unsafe { libc::sendfile(null.as_raw_fd(), file.as_raw_fd(), &raw mut offset, size) };
        match u64::try_from(sent) {
            Ok(0) => break,
            Ok(sent) => {
                at += sent;
                shared.done.fetch_add(sent, Ordering::Relaxed);
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err((at, error)),
            },
        }
    }
    Ok(())
}

/// A mapping of part of a file that nobody touches: only the kernel fills it.
struct Mapping {
    reserved: *mut libc::c_void,
    reserved_size: usize,
    start: *mut libc::c_void,
}

impl Mapping {
    /// Maps a range that begins at a multiple of pages, so that huge pages of the file can be
    /// huge pages of the mapping.
    fn new(file: &File, start: u64, size: usize) -> io::Result<Mapping> {
        let overflow = || io::Error::from_raw_os_error(libc::EOVERFLOW);
        let offset = libc::off_t::try_from(start).map_err(|_| overflow())?;
        let huge = usize::try_from(HUGE_PAGE).map_err(|_| overflow())?;
        let reserved_size = size.checked_add(2 * huge).ok_or_else(overflow)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: reserves addresses of our own; the file's mapping goes into them, so it replaces
        // nothing of anybody's. Neither is ever read or written here.
        unsafe {
            let reserved = libc::mmap(std::ptr::null_mut(), reserved_size, libc::PROT_NONE, flags, -1, 0);
            if reserved == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let mut mapping = Mapping { reserved, reserved_size, start: reserved };
            let address = reserved as usize;
            let aligned = address.next_multiple_of(huge) + usize::try_from(start % HUGE_PAGE).unwrap_or(0);
            mapping.start = reserved.byte_add(aligned - address);
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            let mapped = libc::mmap(mapping.start, size, libc::PROT_READ, flags, file.as_raw_fd(), offset);
            if mapped == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            // Not known to every kernel; then reads are as long as the device's setting says.
            libc::madvise(mapping.start, size, libc::MADV_HUGEPAGE);
            Ok(mapping)
        }
    }

    /// Fills a part. Where the file has ended in the meantime, this is an error, not a signal.
    fn fill(&self, offset: usize, size: usize) -> io::Result<()> {
        // SAFETY: inside of the mapping, by the caller's arithmetic; MADV_POPULATE_READ changes no memory.
        match unsafe { libc::madvise(self.start.byte_add(offset), size, libc::MADV_POPULATE_READ) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the addresses reserved in `new`, with all that was mapped into them.
        unsafe { libc::munmap(self.reserved, self.reserved_size) };
    }
}

fn by_populate(file: &File, range: Range<u64>, shared: &Shared) -> Step {
    let start = range.start / page_size() * page_size();
    let overflow = |_| (range.start, io::Error::from_raw_os_error(libc::EOVERFLOW));
    let size = usize::try_from(range.end - start).map_err(overflow)?;
    if range.is_empty() {
        return Ok(());
    }
    let mapping = Mapping::new(file, start, size).map_err(|error| (range.start, error))?;
    let mut at = 0;
    while at < size && !shared.stop.load(Ordering::Relaxed) {
        let step = (size - at).min(STEP as usize);
        match mapping.fill(at, step) {
            Ok(()) => {
                shared.done.fetch_add(step as u64, Ordering::Relaxed);
                at += step;
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => {}
                // The file ends before here by now.
                Some(libc::EFAULT | libc::ENOMEM) => break,
                _ => return Err(((start + at as u64).max(range.start), error)),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::cold;
    use super::*;
    use crate::host::page_cache;

    fn cold(bytes: usize) -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("x");
        let content: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        cold::drop_pages(&file, 0..bytes as u64).unwrap();
        (directory, file)
    }

    #[test]
    fn every_way_brings_all_of_it() {
        let ways = [Way::Sendfile, Way::Populate, Way::Pread];
        for (way, exact) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
            for (size, range) in
                [(20_000_001, 0..20_000_001u64), (9_000_000, 3_000_001..8_000_000), (1, 0..1), (5, 5..5)]
            {
                let (_directory, file) = cold(size);
                let shared = Shared::default();
                Reader::new().read(way, exact, &file, range.clone(), &shared).unwrap();
                let there = page_cache::cached(&file, range.clone()).unwrap().bytes;
                assert_eq!(there, range.end - range.start, "{way:?} {range:?}");
                if exact {
                    let all = page_cache::cached(&file, 0..size as u64).unwrap().bytes;
                    assert!(all <= there + 2 * page_size(), "{way:?} {range:?}: {all} are there");
                }
            }
        }
    }

    #[test]
    fn a_file_that_has_shrunk_ends_the_read() {
        for way in [Way::Sendfile, Way::Populate, Way::Pread] {
            let (_directory, file) = cold(100_000);
            let shared = Shared::default();
            Reader::new().read(way, false, &file, 0..50_000_000, &shared).unwrap();
            assert_eq!(page_cache::cached(&file, 0..100_000).unwrap().bytes, 100_000, "{way:?}");
            Reader::new().read(way, true, &file, 200_000..300_000, &shared).unwrap();
        }
    }

    #[test]
    fn a_mapping_that_loses_its_file_is_no_signal() {
        let (directory, file) = cold(8 << 20);
        let mapping = Mapping::new(&file, 0, 8 << 20).unwrap();
        File::options().write(true).open(directory.path().join("x")).unwrap().set_len(1 << 20).unwrap();
        mapping.fill(0, 1 << 20).unwrap();
        assert_eq!(mapping.fill(4 << 20, 1 << 20).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    fn the_device_decides() {
        assert_eq!(Way::suited_to(Some(8 << 20)), Way::Sendfile);
        assert_eq!([Way::suited_to(Some(128 << 10)), Way::suited_to(None)], [Way::Populate; 2]);
    }
}
