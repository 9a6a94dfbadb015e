//! What aictl knows of a revision: the whole listing of its source, and which files it found right.
//! It is what makes a second run quick: no file is read and nothing is asked for that is in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::error::PreloadError;
use super::super::name;
use super::super::unpack::Member;
use super::{Repository, write_whole};

/// The file format.
const SCHEMA: &str = "aictl.preload-manifest/v1";

/// A revision of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always "aictl.preload-manifest/v1".
    schema: String,
    /// The source, without credentials.
    pub source: String,
    /// Its revision.
    pub revision: String,
    /// Patterns of files that are wanted; none for all.
    #[serde(default)]
    pub include: Vec<String>,
    /// Patterns of files that are not.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// All that the source lists, wanted or not.
    pub files: Vec<Entry>,
    /// Layers that were archives, by their digest: the names of their members, which are `files`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub archives: BTreeMap<String, Vec<String>>,
}

/// One file of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The name of its blob.
    pub digest: String,
    /// The entity tag of its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// SHA-256 of the content: promised by the source, or found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether include and exclude leave it in.
    pub wanted: bool,
    /// The blob as it was when its content was found right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Stamp>,
    /// Whether it is a layer that is to become the files in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packed: bool,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Inode.
    pub inode: u64,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(metadata: &fs::Metadata) -> Stamp {
        Stamp {
            inode: metadata.ino(),
            modified_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        }
    }

    /// Whether a file of so many bytes is there, and is as it was.
    pub fn is_of(self, path: &Path, bytes: u64) -> bool {
        fs::symlink_metadata(path)
            .is_ok_and(|found| found.is_file() && found.len() == bytes && Stamp::of(&found) == self)
    }
}

impl Manifest {
    /// A manifest of a listing, of which nothing is here.
    pub fn new(source: String, revision: String, files: Vec<Entry>) -> Manifest {
        let schema = SCHEMA.to_owned();
        let archives = BTreeMap::new();
        Manifest { schema, source, revision, include: vec![], exclude: vec![], files, archives }
    }

    /// Reads the manifest of a revision; `None` if there is none, or it is of no use: then it is
    /// made anew from the source.
    ///
    /// # Errors
    /// If it is there and can't be read.
    pub fn read(repository: &Repository, revision: &str) -> Result<Option<Manifest>, PreloadError> {
        let path = repository.private("manifests").join(format!("{revision}.json"));
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(PreloadError::store("read", &path, error)),
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else { return Ok(None) };
        // Whoever can write to the store could name files elsewhere.
        let harmless = name::check_together(manifest.files.iter().map(|file| file.name.as_str())).is_ok()
            && manifest.files.iter().all(|file| is_digest(&file.digest))
            && manifest.archives.keys().all(|digest| is_digest(digest));
        Ok((manifest.schema == SCHEMA && manifest.revision == revision && harmless).then_some(manifest))
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, repository: &Repository) -> Result<(), PreloadError> {
        let path = repository.private("manifests").join(format!("{}.json", self.revision));
        let text = serde_json::to_vec(self).map_err(|error| PreloadError::store("write", &path, error.into()))?;
        write_whole(&path, &text)
    }

    /// Revisions that have a manifest.
    pub fn revisions(repository: &Repository) -> Vec<String> {
        let entries = fs::read_dir(repository.private("manifests")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut revisions: Vec<String> = names
            .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
            .filter(|name| is_digest(name))
            .collect();
        revisions.sort();
        revisions
    }

    /// Says anew which files are wanted; so is an archive of which it is not known yet what it holds.
    pub fn want(&mut self, wants: impl Fn(&str) -> bool) {
        for entry in &mut self.files {
            let unknown = entry.packed && entry.name == archive_name(&entry.digest);
            entry.wanted = unknown || wants(&entry.name);
        }
    }

    /// What came of the archives that are unpacked, by their digest.
    pub fn unpacked(&self) -> BTreeMap<String, Vec<Entry>> {
        if self.archives.is_empty() {
            return BTreeMap::new();
        }
        let files: BTreeMap<&str, &Entry> = self.files.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let member = |name: &String| files.get(name.as_str()).map(|entry| (*entry).clone());
        let members = |names: &Vec<String>| names.iter().map(member).collect::<Option<_>>();
        self.archives.iter().filter_map(|(digest, names)| Some((digest.clone(), members(names)?))).collect()
    }

    /// Puts what an archive holds in its place.
    ///
    /// # Errors
    /// If one of its files can't be beside the others.
    pub fn replace(&mut self, archive: &str, members: Vec<Member>) -> Result<(), PreloadError> {
        let names = members.iter().map(|member| member.name.clone()).collect();
        // A file that an archive holds may be a layer, too.
        self.files.retain(|entry| !(entry.packed && entry.digest == archive));
        self.files.extend(members.into_iter().map(|member| Entry {
            name: member.name,
            bytes: member.bytes,
            digest: member.sha256.clone(),
            etag: None,
            sha256: Some(member.sha256),
            wanted: member.stamp.is_some(),
            whole: member.stamp,
            packed: false,
        }));
        self.archives.insert(archive.to_owned(), names);
        self.check_together()
    }

    /// Says which of its files can't be beside the others.
    ///
    /// # Errors
    /// If there is one.
    pub fn check_together(&self) -> Result<(), PreloadError> {
        let together = name::check_together(self.files.iter().map(|entry| entry.name.as_str()));
        together.map_err(|(name, why)| PreloadError::Name { source_name: self.source.clone(), name, why })
    }

    /// The files that are wanted.
    pub fn wanted(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().filter(|file| file.wanted)
    }
}

/// The name of a layer that is an archive and does not say what is in it. One that says it holds a
/// single file has that file's.
pub fn archive_name(digest: &str) -> String {
    format!("layer-{}.tar", &digest[..12.min(digest.len())])
}

impl Entry {
    /// Whether its blob is whole and was not touched since it was found right.
    pub fn is_whole(&self, repository: &Repository) -> bool {
        self.whole.is_some_and(|stamp| stamp.is_of(&repository.blob(&self.digest), self.bytes))
    }

    /// Remembers that its blob is right as it is now.
    ///
    /// # Errors
    /// If it is not there.
    pub fn found_right(&mut self, blob: &Path) -> io::Result<()> {
        self.whole = Some(Stamp::of(&fs::symlink_metadata(blob)?));
        Ok(())
    }
}

/// What happened to a revision, of which only the time matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The source was asked, and this was its newest.
    Checked,
    /// Somebody asked for it through aictl.
    Used,
}

impl Repository {
    fn moment(&self, revision: &str, moment: Moment) -> std::path::PathBuf {
        let ending = match moment {
            Moment::Checked => "checked",
            Moment::Used => "used",
        };
        self.private("manifests").join(format!("{revision}.{ending}"))
    }

    /// Remembers that something happens now; of no weight where it can't be written.
    pub fn happens(&self, revision: &str, moment: Moment) {
        let path = self.moment(revision, moment);
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let _ = file.and_then(|file| file.set_modified(std::time::SystemTime::now()));
    }

    /// When it happened last.
    pub fn happened(&self, revision: &str, moment: Moment) -> Option<std::time::SystemTime> {
        fs::metadata(self.moment(revision, moment)).ok()?.modified().ok()
    }
}

/// Whether a text can be the name of a blob or of a revision: one harmless component.
pub fn is_digest(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=128).contains(&text.len()) && text.chars().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preload::{Source, Store};

    fn entry(name: &str) -> Entry {
        let digest = "ab12".to_owned();
        Entry {
            name: name.to_owned(),
            bytes: 3,
            digest,
            etag: None,
            sha256: None,
            wanted: true,
            whole: None,
            packed: false,
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_unless_it_lies() {
        let directory = tempfile::tempdir().unwrap();
        let source: Source = "hf://a/b".parse().unwrap();
        let repository = Store::at_home(directory.path()).repository(&source);
        assert_eq!(Manifest::read(&repository, "c0ffee").unwrap(), None);
        let manifest = Manifest::new(source.to_string(), "c0ffee".to_owned(), vec![entry("x/y")]);
        manifest.write(&repository).unwrap();
        assert_eq!(Manifest::read(&repository, "c0ffee").unwrap(), Some(manifest.clone()));
        assert_eq!(Manifest::revisions(&repository), ["c0ffee"]);
        for name in ["../y", "/etc/passwd", ""] {
            Manifest { files: vec![entry(name)], ..manifest.clone() }.write(&repository).unwrap();
            assert_eq!(Manifest::read(&repository, "c0ffee").unwrap(), None, "{name}");
        }
        Manifest { files: vec![Entry { digest: "../x".to_owned(), ..entry("y") }], ..manifest }
            .write(&repository)
            .unwrap();
        assert_eq!(Manifest::read(&repository, "c0ffee").unwrap(), None);
    }

    #[test]
    fn a_blob_that_was_touched_is_not_whole() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Store::at_home(directory.path()).repository(&"hf://a/b".parse().unwrap());
        repository.create().unwrap();
        let mut file = entry("x");
        let blob = repository.blob(&file.digest);
        fs::write(&blob, "abc").unwrap();
        assert!(!file.is_whole(&repository));
        file.found_right(&blob).unwrap();
        assert!(file.is_whole(&repository));
        fs::remove_file(&blob).unwrap();
        fs::write(directory.path().join("other"), "abc").unwrap();
        fs::rename(directory.path().join("other"), &blob).unwrap();
        assert!(!file.is_whole(&repository));
    }
}
