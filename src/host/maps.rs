//! What a process has mapped, and how to read the very files it mapped.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use procfs::process::{MMPermissions, MMapPath, Process};

/// One file mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Offset of `start` in the file, bytes.
    pub offset: u64,
    /// Whether code may run in it.
    pub executable: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// Device and inode, the file's identity.
    pub file: (u64, u64),
    /// Path as the process sees it (in its own mount namespace), without " (deleted)".
    pub path: PathBuf,
}

/// Returns the file mappings of a process, in order of address.
pub fn of(pid: u32) -> io::Result<Vec<Mapping>> {
    let pid = i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    let maps = Process::new(pid).and_then(|p| p.maps()).map_err(to_io)?;
    Ok(maps
        .into_iter()
        .filter_map(|map| {
            let MMapPath::Path(path) = map.pathname else { return None };
            let text = path.to_string_lossy();
            let path = text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from);
            Some(Mapping {
                start: map.address.0,
                end: map.address.1,
                offset: map.offset,
                executable: map.perms.contains(MMPermissions::EXECUTE),
                writable: map.perms.contains(MMPermissions::WRITE),
                file: (((map.dev.0 as u64) << 32) | (map.dev.1 as u32 as u64), map.inode),
                path,
            })
        })
        .collect())
}

/// Path through which the mapped file itself can be opened and probed, even when it was
/// deleted or lies in another mount namespace: /proc/PID/map_files/START-END.
pub fn link(pid: u32, mapping: &Mapping) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end))
}

/// Opens the mapped file itself.
pub fn open(pid: u32, mapping: &Mapping) -> io::Result<File> {
    File::open(link(pid, mapping)).or_else(|_| {
        // Without CAP_SYS_ADMIN or CHECKPOINT_RESTORE map_files is closed; the target's root often is not.
        let relative = mapping.path.strip_prefix("/").unwrap_or(&mapping.path);
        File::open(PathBuf::from(format!("/proc/{pid}/root")).join(relative))
    })
}

fn to_io(error: procfs::ProcError) -> io::Error {
    match error {
        procfs::ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        procfs::ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        procfs::ProcError::Io(error, _) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn own_executable_is_mapped_and_opens() {
        let maps = super::of(std::process::id()).unwrap();
        let exe = std::env::current_exe().unwrap();
        let code = maps.iter().find(|m| m.executable && m.path == exe).unwrap();
        assert!(code.end > code.start);
        super::open(std::process::id(), code).unwrap();
    }

    #[test]
    fn no_such_process_is_not_found() {
        let error = super::of(0x3fff_ffff).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
