//! Reads what lies in a repository, without its source.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::error::PreloadError;
use super::super::snapshot::{File, Presence, Snapshot};
use super::Repository;
use super::journal::Journal;
use super::manifest::{Entry, Manifest, Stamp};

/// Directories a snapshot may be deep; a link that makes a circle is not followed anyway.
const DEEPEST: usize = 16;

impl Repository {
    /// Its revisions: those that aictl fetched, then those that other tools did.
    ///
    /// # Errors
    /// If a manifest can't be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, PreloadError> {
        let mut found = Vec::new();
        let ours = Manifest::revisions(self);
        for revision in &ours {
            if let Some(manifest) = Manifest::read(self, revision)? {
                found.push(self.of_manifest(&manifest));
            }
        }
        let mut others: Vec<String> = fs::read_dir(self.directory.join("snapshots"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|revision| !ours.contains(revision))
            .collect();
        others.sort();
        found.extend(others.into_iter().map(|revision| self.of_others(revision)));
        Ok(found)
    }

    /// The snapshot of a manifest, as it is on disk now.
    pub fn of_manifest(&self, manifest: &Manifest) -> Snapshot {
        let path = self.snapshot(&manifest.revision);
        let files: Vec<File> = manifest
            .wanted()
            .map(|entry| File {
                name: entry.name.clone(),
                path: path.join(&entry.name),
                blob: self.blob(&entry.digest),
                bytes: entry.bytes,
                sha256: entry.sha256.clone(),
                etag: entry.etag.clone(),
                presence: self.presence(entry, &path),
            })
            .collect();
        let verified = !files.is_empty() && files.iter().all(|file| file.presence == Presence::Whole);
        Snapshot { source: manifest.source.clone(), revision: manifest.revision.clone(), path, files, verified }
    }

    fn presence(&self, entry: &Entry, snapshot: &Path) -> Presence {
        if entry.is_whole(self) {
            // Without its name no server finds it. The link leads to the very file: cheaper than two
            // real paths, with a thousand files.
            let linked = fs::metadata(snapshot.join(&entry.name))
                .is_ok_and(|found| found.len() == entry.bytes && entry.whole == Some(Stamp::of(&found)));
            return if linked { Presence::Whole } else { Presence::Partial(entry.bytes) };
        }
        if entry.whole.is_some() && self.blob(&entry.digest).exists() {
            return Presence::Damaged;
        }
        match Journal::bytes_of(&self.journal(&entry.digest)) {
            0 => Presence::Missing,
            bytes => Presence::Partial(bytes.min(entry.bytes)),
        }
    }

    /// A revision that another tool put there: what it has is taken for all that was wanted.
    fn of_others(&self, revision: String) -> Snapshot {
        let path = self.snapshot(&revision);
        let mut files = Vec::new();
        walk(&path, &path, 0, &mut files);
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let datasets = self.directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with("datasets--"));
        let kind = if datasets { "datasets/" } else { "" };
        let source = format!("hf://{kind}{}@{revision}", self.name());
        Snapshot { source, revision, path, files, verified: false }
    }
}

fn walk(root: &Path, directory: &Path, depth: usize, found: &mut Vec<File>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < DEEPEST {
            walk(root, &path, depth + 1, found);
        }
        let Ok(name) = path.strip_prefix(root) else { continue };
        if kind.is_dir() {
            continue;
        }
        let target = fs::metadata(&path).ok().filter(fs::Metadata::is_file);
        found.push(File {
            name: name.to_string_lossy().into_owned(),
            blob: fs::canonicalize(&path).unwrap_or_else(|_| path.clone()),
            bytes: target.as_ref().map_or(0, fs::Metadata::len),
            sha256: None,
            etag: None,
            presence: if target.is_some() { Presence::Whole } else { Presence::Missing },
            path,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;
    use crate::preload::Model;
    use crate::preload::snapshot::State;

    #[test]
    fn what_other_tools_fetched_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at_home(directory.path());
        assert_eq!(store.snapshots().unwrap(), []);
        let repository = store.repository(&"hf://org/model".parse().unwrap());
        repository.create().unwrap();
        fs::write(repository.blob("abc"), "12345").unwrap();
        let snapshot = repository.snapshot("c0ffee");
        fs::create_dir_all(snapshot.join("sub")).unwrap();
        std::os::unix::fs::symlink("../../../blobs/abc", snapshot.join("sub/file")).unwrap();
        std::os::unix::fs::symlink("../../blobs/none", snapshot.join("gone")).unwrap();
        let found = store.snapshots().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].source.as_str(), found[0].state()), ("hf://org/model@c0ffee", State::Partial));
        let model = Model::of(&found[0], None);
        assert_eq!((model.files, model.bytes, model.on_disk_bytes, model.verified), (2, 5, 5, false));
    }
}
