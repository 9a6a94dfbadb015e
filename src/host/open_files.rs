//! Which files processes have open or mapped.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files that are open or mapped, and by whom.
#[derive(Debug, Clone, Default)]
pub struct OpenFiles {
    by_identity: HashMap<(u64, u64), u32>,
    by_path: HashMap<PathBuf, u32>,
    unseen: usize,
}

impl OpenFiles {
    /// Who has a file, as "python3 (pid 41873)". The path is for mappings on file systems whose
    /// maps name another device than stat does.
    pub fn holder(&self, device: u64, inode: u64, path: &Path) -> Option<String> {
        let pid = self.by_identity.get(&(device, inode)).or_else(|| self.by_path.get(path))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("{} (pid {pid})", name.trim()))
    }

    /// Processes that could not be looked into: other users', without privileges.
    pub fn unseen(&self) -> usize {
        self.unseen
    }
}

/// Looks at all processes but this one.
pub fn look() -> OpenFiles {
    let mut found = OpenFiles::default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let process = entry.path();
        match fs::read_dir(process.join("fd")) {
            Ok(descriptors) => {
                for descriptor in descriptors.flatten() {
                    if let Ok(file) = fs::metadata(descriptor.path())
                        && file.is_file()
                    {
                        found.by_identity.insert((file.dev(), file.ino()), pid);
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => found.unseen += 1,
            Err(_) => continue,
        }
        for line in fs::read_to_string(process.join("maps")).unwrap_or_default().lines() {
            let Some((device, inode, path)) = mapped(line) else { continue };
            found.by_identity.insert((device, inode), pid);
            found.by_path.insert(PathBuf::from(path), pid);
        }
    }
    found
}

/// Device, inode and path of a line of /proc/PID/maps that maps a file.
fn mapped(line: &str) -> Option<(u64, u64, &str)> {
    let mut fields = line.splitn(6, ' ');
    let device = fields.nth(3)?;
    let inode: u64 = fields.next()?.parse().ok().filter(|inode| *inode != 0)?;
    let path = fields.next()?.trim_start();
    let (major, minor) = device.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some((rustix::fs::makedev(number(major)?, number(minor)?), inode, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn lines_of_maps() {
        let line = "7f00-7f01 r--p 00000000 fe:00 1234                       /models/a b";
        assert_eq!(mapped(line), Some((rustix::fs::makedev(0xfe, 0), 1234, "/models/a b")));
        assert_eq!(mapped("7f00-7f01 rw-p 00000000 00:00 0 "), None);
        assert_eq!(mapped("rubbish"), None);
    }

    #[test]
    fn a_file_that_a_process_has_open_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "x").unwrap();
        let there = fs::metadata(&path).unwrap();
        assert_eq!(look().holder(there.dev(), there.ino(), &path), None);
        let stdin = Stdio::from(fs::File::open(&path).unwrap());
        let mut child = Command::new("sleep").arg("60").stdin(stdin).spawn().unwrap();
        let holder = look().holder(there.dev(), there.ino(), &path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(holder.is_some_and(|holder| holder.contains(&child.id().to_string())));
    }
}
