//! Mounts: the files below a directory, or one file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::access;
use super::super::store::manifest::Stamp;
use super::{Listing, Place, ReadError, Remote, made_digest, made_revision};

/// Directories below each other; a link that leads in a circle ends there.
const DEEPEST: usize = 32;

/// `~/path` below the user's home.
pub fn expand(path: &Path) -> PathBuf {
    let below = path.strip_prefix("~").ok().and_then(|rest| Some(access::home()?.join(rest)));
    let path = below.unwrap_or_else(|| path.to_owned());
    // The components, so that `./m` and `m/` are one source.
    std::path::absolute(&path).unwrap_or(path).components().collect()
}

/// Lists them. What is a link to a file counts as the file.
pub fn list(root: &Path) -> Result<Listing, ReadError> {
    let metadata = fs::metadata(root).map_err(|error| ReadError::Final(error.to_string()))?;
    let mut files = Vec::new();
    if metadata.is_dir() {
        walk(root, "", 0, &mut files)?;
    } else {
        let name = root.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| ReadError::Final("its name is not text".to_owned()))?;
        files.push(file(name.to_owned(), root.to_owned(), &metadata)?);
    }
    Ok(Listing { revision: made_revision(&files), files })
}

fn walk(directory: &Path, prefix: &str, depth: usize, found: &mut Vec<Remote>) -> Result<(), ReadError> {
    let failed = |path: &Path, error: std::io::Error| ReadError::Final(format!("{}: {error}", path.display()));
    for entry in fs::read_dir(directory).map_err(|error| failed(directory, error))? {
        let entry = entry.map_err(|error| failed(directory, error))?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| ReadError::Final(format!("{} is not text", path.display())))?;
        let metadata = fs::metadata(&path).map_err(|error| failed(&path, error))?;
        if metadata.is_dir() {
            if depth == DEEPEST {
                return Err(ReadError::Final(format!("{} lies too deep", path.display())));
            }
            walk(&path, &format!("{prefix}{name}/"), depth + 1, found)?;
        } else if metadata.is_file() {
            found.push(file(format!("{prefix}{name}"), path, &metadata)?);
        }
    }
    Ok(())
}

fn file(name: String, path: PathBuf, metadata: &fs::Metadata) -> Result<Remote, ReadError> {
    let Stamp { inode, modified_ns } = Stamp::of(metadata);
    let bytes = metadata.len();
    let shown = path.to_str().ok_or_else(|| ReadError::Final(format!("{} is not text", path.display())))?;
    let parts =
        ["file", shown, &bytes.to_string(), &modified_ns.to_string(), &inode.to_string(), &metadata.dev().to_string()];
    let digest = made_digest(&parts);
    Ok(Remote {
        name,
        bytes,
        digest,
        sha256: None,
        git: None,
        etag: None,
        in_ranges: true,
        packed: false,
        place: Place::File { path, modified_ns },
    })
}
