//! One writer at a time in a store.

use std::path::Path;
use std::time::Duration;

use super::super::error::PreloadError;
use crate::act::{Lock, LockError};

/// Takes the lock of a hub directory, and makes the directory if need be.
pub(super) fn take(hub: &Path, wait: Duration) -> Result<Lock, PreloadError> {
    // Hugging Face's tools keep theirs there too, and skip the directory when they list.
    let path = hub.join(".locks/aictl.lock");
    Lock::at(&path, 0o666, wait, || false).map_err(|error| match error {
        LockError::Held(holder) => PreloadError::Held { store: hub.to_owned(), holder },
        LockError::Io { source, .. } => PreloadError::store("lock", &path, source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = take(directory.path(), Duration::ZERO).unwrap();
        let second = take(directory.path(), Duration::from_millis(80)).unwrap_err();
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        // A child that another test has just started has it open until it becomes another program.
        take(directory.path(), Duration::from_secs(60)).unwrap();
    }
}
