//! Which bytes of a file are in the page cache.
//!
//! The kernel tells only owners and those who may write (cachestat(2)); to others mincore(2)
//! answers that all is there. That answer is not taken.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// What of a range is in the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cached {
    /// Bytes that are there.
    pub bytes: u64,
    /// Bytes not yet on the disk, those on their way included; `None` where only mincore answers.
    pub dirty_bytes: Option<u64>,
}

/// Why it can't be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// The file is another's, and may not be written: the kernel keeps it from us.
    NotPermitted,
    /// Something else, in a few words.
    Failed(String),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unseen::NotPermitted => f.write_str("the kernel tells it only to the file's owner and to who may write it"),
            Unseen::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Unseen {}

impl From<io::Error> for Unseen {
    fn from(error: io::Error) -> Unseen {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Unseen::NotPermitted,
            _ => Unseen::Failed(error.to_string()),
        }
    }
}

/// Number of cachestat(2), the same on all architectures since it is newer than their common table
/// (include/uapi/asm-generic/unistd.h, Linux 6.5). libc does not have it everywhere.
const SYS_CACHESTAT: libc::c_long = 451;

/// `struct cachestat_range` of include/uapi/linux/mman.h.
#[repr(C)]
struct CachestatRange {
    offset: u64,
    /// 0 means up to the end.
    length: u64,
}

/// `struct cachestat` there; all are pages.
#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cache: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// `f_type` of overlayfs (include/uapi/linux/magic.h). There the pages belong to a file of a layer
/// below; cachestat sees the empty upper one, mincore the right one.
const OVERLAYFS: i64 = 0x794c_7630;

/// Most that is asked of mincore at once: one byte a page.
const MINCORE_SPAN: u64 = 1 << 30;

/// Looks at a range of an open file. Pages at the range's ends count with the bytes that are inside.
///
/// # Errors
/// If the kernel does not say; never a guess.
pub fn cached(file: &File, range: Range<u64>) -> Result<Cached, Unseen> {
    let length = range.end.saturating_sub(range.start);
    if length == 0 {
        return Ok(Cached { bytes: 0, dirty_bytes: Some(0) });
    }
    if is_overlay(file) {
        return by_mincore(file, range);
    }
    let asked = CachestatRange { offset: range.start, length };
    let mut answer = Cachestat::default();
    // SAFETY: both structures have the kernel's layout and live over the call, which reads the first
    // and writes the second.
    let done = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const asked, &raw mut answer, 0) };
    if done == 0 {
        let bytes = |pages: u64| pages.saturating_mul(page_size()).min(length);
        let dirty = answer.dirty.saturating_add(answer.writeback);
        return Ok(Cached { bytes: bytes(answer.cache), dirty_bytes: Some(bytes(dirty)) });
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => by_mincore(file, range),
        error => Err(error.into()),
    }
}

/// The answer of mincore(2) through a mapping, where it is a true one.
fn by_mincore(file: &File, range: Range<u64>) -> Result<Cached, Unseen> {
    if !mincore_is_true(file)? {
        return Err(Unseen::NotPermitted);
    }
    let page = page_size();
    // What is behind the end has no pages; the file may have shrunk.
    let end = range.end.min(file.metadata()?.len());
    let mut at = range.start / page * page;
    let mut pages = 0;
    let mut answer = Vec::new();
    while at < end {
        let length = (end - at).min(MINCORE_SPAN);
        let size = usize::try_from(length).map_err(|_| Unseen::Failed("too long to be mapped".to_owned()))?;
        let offset = libc::off_t::try_from(at).map_err(|_| Unseen::Failed("too long to be mapped".to_owned()))?;
        answer.resize(usize::try_from(length.div_ceil(page)).unwrap_or(0), 0u8);
        // SAFETY: a new read-only mapping which nobody touches, so that a file that shrinks does no
        // harm; mincore writes one byte a page into `answer`, which has one for each.
        let done = unsafe {
            let map =
                libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), offset);
            if map == libc::MAP_FAILED {
                return Err(io::Error::last_os_error().into());
            }
            let done = libc::mincore(map, size, answer.as_mut_ptr().cast());
            let error = io::Error::last_os_error();
            libc::munmap(map, size);
            if done == 0 { Ok(()) } else { Err(error) }
        };
        done?;
        pages += answer.iter().filter(|page| **page & 1 == 1).count() as u64;
        at += length.div_ceil(page) * page;
    }
    Ok(Cached { bytes: pages.saturating_mul(page).min(range.end - range.start), dirty_bytes: None })
}

/// Whether mincore answers truly: to the owner, to who may override that, and to who may write.
fn mincore_is_true(file: &File) -> Result<bool, Unseen> {
    let owner = file.metadata()?.uid();
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(true);
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let may_write = rustix::fs::accessat(
        rustix::fs::CWD,
        path.as_str(),
        rustix::fs::Access::WRITE_OK,
        rustix::fs::AtFlags::EACCESS,
    );
    // CAP_FOWNER counts for owners that this user namespace knows.
    Ok(may_write.is_ok() || (has_capability(CAP_FOWNER) && owner != OVERFLOW_UID))
}

/// Who owns what belongs to nobody in this user namespace (/proc/sys/kernel/overflowuid).
const OVERFLOW_UID: u32 = 65_534;
/// Capability number (include/uapi/linux/capability.h).
const CAP_FOWNER: u32 = 3;
/// Capability number: may lock any amount of memory.
pub const CAP_IPC_LOCK: u32 = 14;

/// Whether this process has a capability in effect.
pub fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).is_some_and(|set| set >> number & 1 == 1)
}

fn is_overlay(file: &File) -> bool {
    file_system_kind(file) == Some(OVERLAYFS)
}

/// The number of the kind of file system that a file is on (`f_type`, include/uapi/linux/magic.h).
#[allow(clippy::useless_conversion, reason = "the field's type differs between architectures")]
pub fn file_system_kind(file: &File) -> Option<i64> {
    i64::try_from(rustix::fs::fstatfs(file).ok()?.f_type).ok()
}

/// Bytes of a page.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn pages_are_counted_and_ranges_clip_them() {
        // On a disk: a temporary directory may be memory.
        let mut named = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        named.write_all(&vec![7; 1_000_001]).unwrap();
        let mut file = File::open(named.path()).unwrap();
        file.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(cached(&file, 0..1_000_001).unwrap().bytes, 1_000_001);
        assert_eq!(cached(&file, 5_000..10_000).unwrap().bytes, 5_000, "pages at the ends count in part");
        assert_eq!(cached(&file, 7..7).unwrap().bytes, 0);
        let pages = 1_000_001u64.div_ceil(page_size());
        assert_eq!(cached(&file, 0..9_000_000).unwrap().bytes, pages * page_size(), "nothing is behind the end");
        assert_eq!(by_mincore(&file, 0..1_000_001).unwrap().bytes, 1_000_001);
        assert_eq!(by_mincore(&file, 4096..4097).unwrap().bytes, 1);
    }

    #[test]
    fn what_is_no_file_of_pages_is_unknown() {
        let file = File::open("/dev/null").unwrap();
        assert!(cached(&file, 0..10).is_err() || cached(&file, 0..10).unwrap().bytes == 0);
        assert!(cached(&File::open("/").unwrap(), 0..10).is_ok_and(|cached| cached.bytes <= 10));
    }

    #[test]
    fn capabilities_are_read() {
        assert_eq!(has_capability(CAP_FOWNER), rustix::process::geteuid().is_root());
        assert!(!has_capability(63));
    }
}
