//! The way of a file's pages out of the page cache.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use crate::host::page_cache;

/// Drops a range's pages from the cache; those that are dirty are written first. Pages that are
/// mapped or locked stay, without an error: look again with [`page_cache::cached`].
///
/// # Errors
/// If the file can't be written back, or the kernel refuses.
pub fn drop_pages(file: &File, range: Range<u64>) -> io::Result<()> {
    let length = range.end.saturating_sub(range.start);
    if page_cache::cached(file, range.clone()).is_ok_and(|cached| cached.dirty_bytes.is_none_or(|dirty| dirty > 0)) {
        file.sync_data()?;
    }
    let (Ok(offset), Ok(length)) = (libc::off_t::try_from(range.start), libc::off_t::try_from(length)) else {
        return Err(io::Error::from_raw_os_error(libc::EOVERFLOW));
    };
    // SAFETY: a call on an open descriptor without pointers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, length, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use page_cache::{Cached, cached};

    /// A file on a disk: pages of a tmpfs can't be dropped.
    fn on_disk(bytes: usize) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        file.as_file().sync_all().unwrap();
        file
    }

    #[test]
    fn pages_come_and_go() {
        let named = on_disk(1_000_001);
        let mut file = File::open(named.path()).unwrap();
        drop_pages(&file, 0..1_000_001).unwrap();
        assert_eq!(cached(&file, 0..1_000_001).unwrap().bytes, 0);
        file.read_to_end(&mut Vec::new()).unwrap();
        let all = cached(&file, 0..1_000_001).unwrap();
        assert_eq!((all.bytes, all.dirty_bytes), (1_000_001, Some(0)));
        drop_pages(&file, 0..1_000_001).unwrap();
        assert_eq!(cached(&file, 0..1_000_001).unwrap().bytes, 0);
    }

    #[test]
    fn dirty_pages_are_written_before_they_go() {
        let mut named = on_disk(100);
        named.write_all(&vec![1; 500_000]).unwrap();
        let file = File::open(named.path()).unwrap();
        assert!(cached(&file, 0..500_100).unwrap().dirty_bytes.unwrap() > 400_000);
        drop_pages(&file, 0..500_100).unwrap();
        assert_eq!(cached(&file, 0..500_100).unwrap(), Cached { bytes: 0, dirty_bytes: Some(0) });
    }
}
