//! One writer at a time in a store. The kernel lets the lock go when its holder ends, however it
//! ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::error::PreloadError;

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Pause between two looks at a lock that another run has.
const PAUSE: Duration = Duration::from_millis(50);

impl Lock {
    /// Takes the lock of a hub directory, and makes the directory if need be.
    pub(super) fn take(hub: &Path, wait: Duration) -> Result<Lock, PreloadError> {
        // Hugging Face's tools keep theirs there too, and skip the directory when they list.
        let directory = hub.join(".locks");
        let path = directory.join("aictl.lock");
        let failed = |error| PreloadError::store("lock", &path, error);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(failed)?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() < wait => std::thread::sleep(PAUSE.min(wait)),
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = file.read_to_string(&mut holder);
                    return Err(PreloadError::Held { store: hub.to_owned(), holder: holder.trim().to_owned() });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        let holder = format!("pid {}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(failed)?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path(), Duration::ZERO).unwrap();
        let second = Lock::take(directory.path(), Duration::from_millis(80)).unwrap_err();
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        Lock::take(directory.path(), Duration::ZERO).unwrap();
    }
}
