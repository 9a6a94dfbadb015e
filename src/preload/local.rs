//! A model that lies in a directory of its own, not in a store.

use std::fs;
use std::path::Path;

use super::memory_error::MemoryError;
use super::portion;
use super::snapshot::{File, Presence, Snapshot};
use super::tensors::Index;

/// Describes the files at a path as they are. Nobody has checked them; what an index names and is
/// not there is missing.
///
/// # Errors
/// If there is nothing there, or it can't be read.
pub fn snapshot(path: &Path) -> Result<Snapshot, MemoryError> {
    let root = fs::canonicalize(path).map_err(|error| MemoryError::file("open", path, error))?;
    let found = portion::files_at(&root)?;
    let mut files: Vec<File> = found.iter().map(|(name, path)| file(name, path)).collect();
    for (name, path) in found.iter().filter(|(name, _)| Index::is_one(name)) {
        let Ok(index) = portion::read_index(path) else { continue };
        let beside = name.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
        for name in index.files().into_iter().map(|file| format!("{beside}{file}")) {
            if !files.iter().any(|file| file.name == name) {
                files.push(file(&name, &root.join(&name)));
            }
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let source = format!("file://{}", root.display());
    Ok(Snapshot { source, revision: String::new(), path: root, files, verified: false })
}

fn file(name: &str, path: &Path) -> File {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file);
    File {
        name: name.to_owned(),
        path: path.to_owned(),
        blob: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        bytes: metadata.as_ref().map_or(0, fs::Metadata::len),
        sha256: None,
        etag: None,
        presence: if metadata.is_some() { Presence::Whole } else { Presence::Missing },
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::State;
    use super::*;

    #[test]
    fn what_the_index_names_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.safetensors"), "12345").unwrap();
        let map = serde_json::json!({ "weight_map": { "x": "a.safetensors", "y": "b.safetensors" } });
        fs::write(directory.path().join(Index::NAME), map.to_string()).unwrap();
        let found = snapshot(directory.path()).unwrap();
        let names: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.safetensors", "b.safetensors", Index::NAME]);
        assert_eq!(found.state(), State::Partial);
        fs::write(directory.path().join("b.safetensors"), "").unwrap();
        assert_eq!(snapshot(directory.path()).unwrap().state(), State::Ready);
        assert!(snapshot(&directory.path().join("none")).is_err());
    }
}
