//! Small files of /proc, /sys and /etc below a root, which tests move.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest file that is read: those of /proc and /sys are far shorter.
const LONGEST: u64 = 4 << 20;

/// Where /proc, /sys, /dev and /etc hang.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// A tree below `root`; "/" is this machine.
    pub fn new(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    /// The real place of an absolute path.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether it is this machine, not a tree of a test.
    pub fn is_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A file's text.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String, String> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        let read = File::open(self.path(path)).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
        read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file's only word or line, without what surrounds it; `None` if it can't be read.
    pub fn word(&self, path: impl AsRef<Path>) -> Option<String> {
        self.read(path).ok().map(|text| text.trim().to_owned())
    }

    /// A file's only number.
    pub fn number<T: FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.word(path)?.parse().ok()
    }

    /// Names in a directory, sorted; none if it is not there.
    ///
    /// # Errors
    /// A sentence, if it is there and can't be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<String>, String> {
        let path = path.as_ref();
        let entries = match fs::read_dir(self.path(path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Last part of where a link leads: the driver's name of `…/driver`.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }
}
