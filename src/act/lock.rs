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

/// Why a state directory can't be used.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// What was done to this machine since its boot stands in another journal.
    #[error("the journal of this machine is in {known}; {wanted} knows nothing of what was done since the boot")]
    Elsewhere {
        /// Where it is.
        known: String,
        /// Where it is not.
        wanted: String,
    },
    /// It can't be written down which it is.
    #[error("cannot write {path}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where a machine's state directory is written down, until the next boot.
const CLAIM: &str = "run/aictl/state-directory";
/// Two who claim at the same moment wait for each other.
const CLAIMING: Duration = Duration::from_secs(10);

/// Makes a directory the one state directory of a machine until its next boot, or sees that it is: two
/// daemons with a journal each would both repair what one of them has repaired. One that is gone is
/// replaced. `root`: "/", or the tree of a test.
///
/// # Errors
/// If it is another, or root can't write it down; where others can't, nothing is held against them.
pub fn claim(root: &Path, directory: &Path) -> Result<(), ClaimError> {
    let path = root.join(CLAIM);
    let failed = |source| ClaimError::Io { path: path.display().to_string(), source };
    let claimed = || -> io::Result<Option<String>> {
        let wanted = directory.canonicalize()?.display().to_string();
        std::fs::create_dir_all(path.parent().unwrap_or(root))?;
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o644).open(&path)?;
        let since = Instant::now();
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if since.elapsed() >= CLAIMING {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut known = String::new();
        file.read_to_string(&mut known)?;
        let known = known.trim();
        if known == wanted {
            return Ok(None);
        }
        if !known.is_empty() && Path::new(known).is_dir() {
            return Ok(Some(known.to_owned()));
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(wanted.as_bytes())?;
        Ok(None)
    };
    match claimed() {
        Ok(None) => Ok(()),
        Ok(Some(known)) => Err(ClaimError::Elsewhere { known, wanted: directory.display().to_string() }),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => {
            Ok(())
        }
        Err(error) => Err(failed(error)),
    }
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
    fn a_machine_has_one_journal_until_it_boots_or_that_is_gone() {
        let machine = tempfile::tempdir().unwrap();
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let claim = |state: &tempfile::TempDir| claim(machine.path(), state.path());
        claim(&one).unwrap();
        claim(&one).unwrap();
        let told = claim(&other).unwrap_err().to_string();
        assert!(told.contains(&one.path().display().to_string()), "{told}");
        drop(one);
        claim(&other).unwrap();
        std::fs::remove_dir_all(machine.path().join("run")).unwrap();
        claim(&other).unwrap();
    }

    #[test]
    fn the_second_is_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path(), Duration::ZERO, || false).unwrap();
        let second = Lock::take(directory.path(), Duration::from_millis(80), || false).unwrap_err();
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        // A child that another test has just started has it open until it becomes another program.
        Lock::take(directory.path(), Duration::from_secs(60), || false).unwrap();
    }
}
