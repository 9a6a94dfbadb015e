//! Hashes of files that are there already.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::source::hex;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// What a file's content hashes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256, in hex.
    pub sha256: String,
    /// What git calls it: SHA-1 over "blob SIZE\0" and the content; only where it was asked for.
    pub git: Option<String>,
}

/// Hashes a file.
///
/// # Errors
/// If it can't be read.
pub fn of_file(path: &Path, for_git: bool) -> io::Result<Digests> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let (mut sha256, mut sha1) = (Sha256::new(), for_git.then(Sha1::new));
    if let Some(sha1) = &mut sha1 {
        sha1.update(format!("blob {size}\0"));
    }
    let mut piece = vec![0; PIECE];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            break;
        }
        sha256.update(&piece[..length]);
        if let Some(sha1) = &mut sha1 {
            sha1.update(&piece[..length]);
        }
    }
    Ok(Digests { sha256: hex(&sha256.finalize()), git: sha1.map(|sha1| hex(&sha1.finalize())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hello");
        std::fs::write(&path, "hello\n").unwrap();
        let digests = of_file(&path, true).unwrap();
        assert_eq!(digests.sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        // As `git hash-object` says.
        assert_eq!(digests.git.as_deref(), Some("ce013625030ba8dba906f756967f9e9ca394464a"));
    }
}
