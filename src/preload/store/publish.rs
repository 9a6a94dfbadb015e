//! Gives a revision its names: links in a snapshot's directory first, the branch that leads to it
//! last, so that a reader sees all of it or none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::error::PreloadError;
use super::manifest::{Entry, Manifest};
use super::{Repository, sync_directory, write_whole};

impl Repository {
    /// Makes the links of all files of a manifest that are wanted and whole.
    ///
    /// # Errors
    /// If one can't be made, or a directory on its way is a link.
    pub fn link(&self, manifest: &Manifest) -> Result<(), PreloadError> {
        let snapshot = self.snapshot(&manifest.revision);
        let entries: Vec<&Entry> = manifest.wanted().filter(|entry| entry.whole.is_some()).collect();
        if snapshot.symlink_metadata().is_err() {
            // Made aside and renamed: whoever lists snapshots sees no half of it.
            let aside = self.private("tree");
            let _ = fs::remove_dir_all(&aside);
            self.link_into(&aside, &entries)?;
            let parent = self.directory.join("snapshots");
            let failed = |error| PreloadError::store("create", &snapshot, error);
            fs::create_dir_all(&parent).map_err(failed)?;
            return fs::rename(&aside, &snapshot).and_then(|()| sync_directory(&parent)).map_err(failed);
        }
        self.link_into(&snapshot, &entries)
    }

    fn link_into(&self, root: &Path, entries: &[&Entry]) -> Result<(), PreloadError> {
        let failed = |path: &Path, error| PreloadError::store("create", path, error);
        fs::create_dir_all(root).map_err(|error| failed(root, error))?;
        for entry in entries {
            let depth = entry.name.matches('/').count();
            let target = PathBuf::from(format!("{}blobs/{}", "../".repeat(depth + 2), entry.digest));
            let path = root.join(&entry.name);
            if fs::read_link(&path).is_ok_and(|there| there == target) {
                continue;
            }
            let directory = path.parent().unwrap_or(root);
            make_directories(root, directory).map_err(|error| failed(directory, error))?;
            // A link is replaced in one step; a file that somebody put there goes the same way.
            let temporary = directory.join(format!(".aictl-{}", std::process::id()));
            let _ = fs::remove_file(&temporary);
            let made = std::os::unix::fs::symlink(&target, &temporary).and_then(|()| fs::rename(&temporary, &path));
            made.map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }

    /// Says which revision a branch or tag is now.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn refer(&self, reference: &str, revision: &str) -> Result<(), PreloadError> {
        let path = self.reference(reference);
        if fs::read_to_string(&path).is_ok_and(|there| there.trim() == revision) {
            return Ok(());
        }
        write_whole(&path, revision.as_bytes())
    }

    /// Which revision a branch or tag was when it was last looked at.
    pub fn referred(&self, reference: &str) -> Option<String> {
        let text = fs::read_to_string(self.reference(reference)).ok()?;
        Some(text.trim().to_owned()).filter(|revision| super::manifest::is_digest(revision))
    }
}

/// Makes the directories from `root` down to `path`; a link on the way would lead elsewhere.
fn make_directories(root: &Path, path: &Path) -> io::Result<()> {
    let mut at = root.to_owned();
    for component in path.strip_prefix(root).unwrap_or(Path::new("")).components() {
        at.push(component);
        match fs::symlink_metadata(&at) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is in the way of a directory")),
            Err(_) => fs::create_dir(&at)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::super::manifest::Stamp;
    use super::*;

    fn entry(name: &str, digest: &str) -> Entry {
        let whole = Some(Stamp { inode: 1, modified_ns: 1 });
        Entry {
            name: name.to_owned(),
            bytes: 3,
            digest: digest.to_owned(),
            etag: None,
            sha256: None,
            wanted: true,
            whole,
            packed: false,
        }
    }

    #[test]
    fn links_are_relative_and_may_be_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Store::at_home(directory.path()).repository(&"hf://a/b".parse().unwrap());
        repository.create().unwrap();
        fs::write(repository.blob("d1"), "abc").unwrap();
        fs::write(repository.blob("d2"), "def").unwrap();
        let mut manifest = Manifest::new("hf://a/b".to_owned(), "r1".to_owned(), vec![entry("x/y/z", "d1")]);
        repository.link(&manifest).unwrap();
        let snapshot = repository.snapshot("r1");
        assert_eq!(fs::read_to_string(snapshot.join("x/y/z")).unwrap(), "abc");
        manifest.files.push(entry("w", "d2"));
        repository.link(&manifest).unwrap();
        assert_eq!(fs::read_to_string(snapshot.join("w")).unwrap(), "def");
        repository.refer("refs/pr/1", "r1").unwrap();
        assert_eq!(repository.referred("refs/pr/1").as_deref(), Some("r1"));
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Store::at_home(directory.path()).repository(&"hf://a/b".parse().unwrap());
        repository.create().unwrap();
        let snapshot = repository.snapshot("r1");
        fs::create_dir_all(&snapshot).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, snapshot.join("x")).unwrap();
        let manifest = Manifest::new("hf://a/b".to_owned(), "r1".to_owned(), vec![entry("x/y", "d1")]);
        assert!(repository.link(&manifest).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
