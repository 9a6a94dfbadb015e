//! One run at a time. The kernel lets the lock go when its holder ends, however it ends, so that
//! none is ever left behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;

/// Why there is no lock.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another run has it.
    #[error("another run is at work ({0})")]
    Held(String),
    /// It can't be made.
    #[error("cannot lock {path}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a state directory, and waits for it up to `wait`.
    ///
    /// # Errors
    /// If another run still has it then, or it can't be made.
    pub fn take(directory: &Path, wait: Duration, stop: impl Fn() -> bool) -> Result<Lock, LockError> {
        Lock::at(&directory.join("lock"), 0o600, wait, stop)
    }

    /// The same of any file, which is made with a mode if it is not there.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn at(path: &Path, mode: u32, wait: Duration, stop: impl Fn() -> bool) -> Result<Lock, LockError> {
        let failed = |source| LockError::Io { path: path.display().to_string(), source };
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(mode).open(path);
        let mut file = opened.map_err(failed)?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() < wait && !stop() => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = file.read_to_string(&mut holder);
                    return Err(LockError::Held(holder.trim().to_owned()));
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        let pid = format!("pid {}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes())).map_err(failed)?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path(), Duration::ZERO, || false).unwrap();
        let second = Lock::take(directory.path(), Duration::from_millis(80), || false).unwrap_err();
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        Lock::take(directory.path(), Duration::ZERO, || false).unwrap();
    }
}
