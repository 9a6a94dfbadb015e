//! Processes that hold a GPU open: in the way of its reset, and hit by it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A process that holds a GPU's device file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuHolder {
    /// Its number.
    pub pid: u32,
    /// When it began, in ticks since boot.
    pub started: u64,
    /// Its name, at most 15 bytes.
    pub name: String,
}

/// PCI addresses of the GPUs that the NVIDIA driver has; `root` is "/", or a tree of a test.
pub fn gpus(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("proc/driver/nvidia/gpus")).into_iter().flatten().flatten();
    let mut all: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    all.sort();
    all
}

/// Processes that hold a GPU, or any if none is named. Where nobody knows which device file is the
/// GPU's, all count.
///
/// # Errors
/// If some process could hold it unseen.
pub fn holders(root: &Path, pci: Option<&str>) -> Result<Vec<GpuHolder>, String> {
    let minor = pci.and_then(|pci| minor(root, pci));
    let devices: Vec<String> =
        device_files(root).into_iter().filter(|(n, _)| minor.is_none_or(|m| m == *n)).map(|d| d.1).collect();
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<FileId> = devices.iter().filter_map(|name| FileId::of(&root.join("dev").join(name))).collect();
    let processes = fs::read_dir("/proc").map_err(|error| format!("cannot read /proc: {error}"))?;
    let mut found = Vec::new();
    for pid in processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()) {
        let directory = format!("/proc/{pid}/fd");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // It has ended.
            Err(_) if !Path::new(&directory).exists() => continue,
            Err(error) => return Err(format!("cannot see what pid {pid} holds: {error}")),
        };
        let holds = entries.flatten().any(|entry| {
            // The name first: to ask a broken file server about its files may take for ever.
            let named = fs::read_link(entry.path());
            let name = named.ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
            name.is_some_and(|name| devices.contains(&name))
                && FileId::of(&entry.path()).is_some_and(|file| files.contains(&file))
        });
        if holds && let Some(holder) = holder(pid) {
            found.push(holder);
        }
    }
    Ok(found)
}

/// Numbers of the device files (/dev/nvidia3 is 3) of the GPUs that a process holds open. Of a
/// container's, too: its files may have other names there, but the same numbers.
pub fn held_by(pid: u32) -> Vec<u32> {
    /// The driver's major number (Documentation/admin-guide/devices.txt), and the minor of
    /// /dev/nvidiactl, which is no GPU.
    const NVIDIA: u32 = 195;
    const CONTROL: u32 = 255;
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        // The name first: to ask a broken file server about its files may take for ever.
        fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().contains("nvidia"))
    });
    let devices = named.filter_map(|entry| fs::metadata(entry.path()).ok());
    let devices = devices.filter(|data| data.file_type().is_char_device()).map(|data| data.rdev());
    let gpus = devices.filter(|device| rustix::fs::major(*device) == NVIDIA).map(rustix::fs::minor);
    let mut gpus: Vec<u32> = gpus.filter(|minor| *minor < CONTROL - 1).collect();
    gpus.sort_unstable();
    gpus.dedup();
    gpus
}

fn holder(pid: u32) -> Option<GpuHolder> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&stat);
    let (head, rest) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    Some(GpuHolder { pid, started: rest.split_whitespace().nth(19)?.parse().ok()?, name })
}

/// A device by its numbers, so that it is known in a container, too, whatever its path is there.
#[derive(Debug, PartialEq, Eq)]
enum FileId {
    Device(u64),
    File(u64, u64),
}

impl FileId {
    fn of(path: &Path) -> Option<FileId> {
        let data = fs::metadata(path).ok()?;
        let device = data.file_type().is_char_device();
        Some(if device { FileId::Device(data.rdev()) } else { FileId::File(data.dev(), data.ino()) })
    }
}

/// "nvidia3" and 3, for all GPUs.
fn device_files(root: &Path) -> Vec<(u32, String)> {
    let entries = fs::read_dir(root.join("dev")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| Some((name.strip_prefix("nvidia")?.parse().ok()?, name))).collect()
}

/// "Device Minor: 3", as the driver says it of a GPU.
fn minor(root: &Path, pci: &str) -> Option<u32> {
    let directory = root.join("proc/driver/nvidia/gpus").join(pci.to_ascii_lowercase());
    let text = fs::read_to_string(directory.join("information")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Device Minor:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dev")).unwrap();
        for (n, pci) in ["0000:3b:00.0", "0000:5e:00.0"].iter().enumerate() {
            fs::write(root.path().join(format!("dev/nvidia{n}")), "").unwrap();
            let directory = root.path().join("proc/driver/nvidia/gpus").join(pci);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("information"), format!("Model: \t A\nDevice Minor: \t {n}\n")).unwrap();
        }
        fs::write(root.path().join("dev/nvidiactl"), "").unwrap();
        root
    }

    #[test]
    fn who_holds_which_gpu_is_seen() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = tree();
        assert_eq!(gpus(root.path()), ["0000:3b:00.0", "0000:5e:00.0"]);
        // A child that another test has just started has our files open until it becomes another program.
        let come_to_be = |pci, wanted: &[u32]| {
            let found = || -> Vec<u32> { holders(root.path(), pci).unwrap().iter().map(|h| h.pid).collect() };
            let so = (0..600).any(|_| {
                let so = found() == wanted;
                std::thread::sleep(std::time::Duration::from_millis(if so { 0 } else { 100 }));
                so
            });
            assert!(so, "{pci:?}: {:?}, not {wanted:?}", found());
        };
        let us = [std::process::id()];
        come_to_be(None, &[]);
        let file = fs::File::open(root.path().join("dev/nvidia1")).unwrap();
        come_to_be(None, &us);
        come_to_be(Some("0000:5E:00.0"), &us);
        come_to_be(Some("0000:3b:00.0"), &[]);
        // A GPU that the driver has lost: nobody knows its file.
        come_to_be(Some("0000:af:00.0"), &us);
        drop(file);
        come_to_be(None, &[]);
    }
}
