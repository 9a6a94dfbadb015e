//! The device below a file, as far as reading from it goes.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::page_cache::file_system_kind;
use super::tree::Tree;

/// What the kernel does with reads of a device or a remote file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadPath {
    /// "254:0"; major 0 is no device of this machine.
    pub device: String,
    /// Bytes that the kernel reads ahead of a sequential reader; `None` if it does not say.
    pub read_ahead_bytes: Option<u64>,
    /// Whether its pages are the only copy (tmpfs, ramfs): nothing can be warmed there.
    pub is_memory: bool,
}

/// `f_type` of file systems that lie in memory (include/uapi/linux/magic.h): tmpfs, ramfs, hugetlbfs.
const IN_MEMORY: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// Looks at the device of an open file.
pub fn read_path(tree: &Tree, file: &File) -> ReadPath {
    let is_memory = file_system_kind(file).is_some_and(is_in_memory);
    let Ok(metadata) = file.metadata() else { return ReadPath { is_memory, ..ReadPath::default() } };
    let device = format!("{}:{}", rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    ReadPath { read_ahead_bytes: read_ahead(tree, &device), device, is_memory }
}

fn is_in_memory(kind: i64) -> bool {
    // hugetlbfs's number fills the sign bit of 32.
    IN_MEMORY.contains(&kind) || IN_MEMORY.contains(&(kind & 0xffff_ffff))
}

/// A partition has no setting of its own, but that of its disk; what is no disk has one by its number.
fn read_ahead(tree: &Tree, device: &str) -> Option<u64> {
    let kib = |path: String| tree.number::<u64>(path);
    let found = kib(format!("/sys/class/bdi/{device}/read_ahead_kb"))
        .or_else(|| kib(format!("/sys/dev/block/{device}/queue/read_ahead_kb")))
        .or_else(|| kib(format!("/sys/dev/block/{device}/../queue/read_ahead_kb")))?;
    found.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_setting_is_found_for_disks_partitions_and_mounts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/devices/vda/queue/read_ahead_kb", "8192\n");
        write("sys/devices/vda/vda1/partition", "1\n");
        write("sys/class/bdi/0:55/read_ahead_kb", "128\n");
        fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
        for (device, target) in [("254:0", "vda"), ("254:1", "vda/vda1")] {
            std::os::unix::fs::symlink(
                root.path().join("sys/devices").join(target),
                root.path().join("sys/dev/block").join(device),
            )
            .unwrap();
        }
        let tree = Tree::new(root.path());
        assert_eq!(read_ahead(&tree, "254:0"), Some(8 << 20));
        assert_eq!(read_ahead(&tree, "254:1"), Some(8 << 20));
        assert_eq!(read_ahead(&tree, "0:55"), Some(128 << 10));
        assert_eq!(read_ahead(&tree, "9:9"), None);
    }

    #[test]
    fn memory_is_told_from_disks() {
        let tree = Tree::new("/");
        let proc = read_path(&tree, &File::open("/proc/self/stat").unwrap());
        assert!(!proc.is_memory);
        if let Ok(file) = tempfile::tempfile_in("/dev/shm") {
            assert!(read_path(&tree, &file).is_memory);
        }
        let here = read_path(&tree, &File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap());
        assert!(!here.device.is_empty());
    }
}
