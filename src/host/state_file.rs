//! A small file that is either the old one or the new one, whatever happens in between.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest file that is read; ours have some ten kilobytes.
const LONGEST: u64 = 8 << 20;

/// Where programs keep their state: /var/lib for root, else `$XDG_STATE_HOME`, else
/// `~/.local/state`; none without a home.
pub fn usual_place(name: &str) -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(Path::new("/var/lib/aictl").join(name));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("aictl").join(name))
}

/// Reads the file; `None` if there is none yet.
///
/// # Errors
/// If it can't be read, or is no small file of text.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Puts a new file in the old one's place: written beside it, brought to the disk, renamed.
///
/// # Errors
/// If one of these steps fails; the old file then stands.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let beside = directory.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let done = write_new(&beside, text).and_then(|()| fs::rename(&beside, path));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done?;
    // The rename itself must survive a crash, too.
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // What a killed process of the same number left behind.
    let _ = fs::remove_file(path);
    let mut file = File::options().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/state.json");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_no_file_is_an_error_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).is_err());
        assert!(write(directory.path(), "x").is_err());
        assert!(directory.path().is_dir());
        fs::write(directory.path().join("raw"), [0xff, 0xfe]).unwrap();
        assert!(read(&directory.path().join("raw")).is_err());
    }
}
