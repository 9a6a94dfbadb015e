//! What of a model is in the page cache, file by file; what can't be known is said to be unknown.

use std::io;

use serde::Serialize;

use super::portion::{self, Portion};
use crate::host::page_cache;

/// One file's part in the page cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileResidency {
    /// Its name in the model.
    pub name: String,
    /// Bytes that are meant of it.
    pub bytes: u64,
    /// Those that are in the page cache; null if that can't be known.
    pub resident_bytes: Option<u64>,
    /// Those not yet on the disk; null if that can't be known.
    pub dirty_bytes: Option<u64>,
    /// Why it can't be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// Looks at one file.
pub fn of(portion: &Portion) -> FileResidency {
    let mut found = FileResidency {
        name: portion.name.clone(),
        bytes: portion.bytes(),
        resident_bytes: Some(0),
        dirty_bytes: Some(0),
        unknown: None,
    };
    let file = match portion::open(&portion.path) {
        Ok(file) => file,
        // What is not there is not in memory either.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return found,
        Err(error) => {
            return FileResidency {
                resident_bytes: None,
                dirty_bytes: None,
                unknown: Some(error.to_string()),
                ..found
            };
        }
    };
    for range in &portion.ranges {
        match page_cache::cached(&file, range.clone()) {
            Ok(cached) => {
                found.resident_bytes = found.resident_bytes.map(|bytes| bytes + cached.bytes);
                found.dirty_bytes = found.dirty_bytes.zip(cached.dirty_bytes).map(|(one, other)| one + other);
            }
            Err(why) => {
                (found.resident_bytes, found.dirty_bytes, found.unknown) = (None, None, Some(why.to_string()));
                break;
            }
        }
    }
    found
}

/// Looks at all files of a model.
pub fn look(portions: &[Portion]) -> Vec<FileResidency> {
    portions.iter().map(of).collect()
}

/// What of all of them is in the page cache; `None` if it is unknown of one.
pub fn resident_bytes(files: &[FileResidency]) -> Option<u64> {
    files.iter().map(|file| file.resident_bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn portion(path: &Path, length: u64) -> Portion {
        Portion { name: "x".to_owned(), path: path.to_owned(), length, ranges: std::iter::once(0..length).collect() }
    }

    #[test]
    fn what_was_written_is_resident() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, vec![1; 10_000]).unwrap();
        assert_eq!(of(&portion(&path, 10_000)).resident_bytes, Some(10_000));
        let shrunk = of(&portion(&path, 50_000));
        assert_eq!(shrunk.resident_bytes, Some(3 * 4096), "no more than there is");
        assert_eq!(of(&portion(&directory.path().join("none"), 5)).resident_bytes, Some(0));
        let unknown = of(&portion(directory.path(), 5));
        assert_eq!((unknown.resident_bytes, unknown.unknown.as_deref()), (None, Some("not a regular file")));
        assert_eq!(resident_bytes(&[of(&portion(&path, 10_000)), unknown]), None);
    }
}
