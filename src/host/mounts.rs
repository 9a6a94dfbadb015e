//! File systems that are mounted, what /etc/fstab wants of them, and the room on them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::apart::Apart;
use super::tree::Tree;
use crate::fault::facts::{Mount, Room};

/// Kinds on a disk of this machine.
const LOCAL: [&str; 9] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "overlay"];
/// Kinds on other machines, which may not answer. FUSE file systems have names like "fuse.juicefs".
const REMOTE: [&str; 9] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "wekafs"];
/// Most file systems that are asked: a node may have hundreds of the same.
const MOST: usize = 64;

/// All file systems that hold files, with the room on them. Those that don't answer until `end`
/// say so.
///
/// # Errors
/// A sentence, if the list can't be read.
pub fn all(tree: &Tree, end: Instant) -> Result<Vec<Mount>, String> {
    let mut mounts = list(&tree.read("/proc/self/mountinfo")?);
    let wanted = fstab(&tree.read("/etc/fstab").unwrap_or_default());
    for mount in &mut mounts {
        mount.wanted_writable = wanted.get(&mount.point).copied();
    }
    // One file system mounted at many places (containers, bind mounts) is asked once.
    let mut asked: Vec<(usize, Result<Apart, String>)> = Vec::new();
    let mut sources: Vec<(String, bool)> = Vec::new();
    for (i, mount) in mounts.iter().enumerate() {
        let id = (mount.source.clone(), mount.kind == "overlay");
        if asked.len() >= MOST || (sources.contains(&id) && mount.source.starts_with('/')) {
            continue;
        }
        sources.push(id);
        let path = tree.path(&mount.point);
        asked.push((i, Apart::start(move || room(&path))));
    }
    for (i, apart) in asked {
        let room = match apart.map(|apart| apart.wait::<Room>(end)) {
            Ok(Ok(room)) => room,
            Ok(Err(error)) if error.contains("in time") => Room::NoAnswer,
            Ok(Err(error)) | Err(error) => Room::Unknown(error),
        };
        if let Some(mount) = mounts.get_mut(i) {
            mount.room = room;
        }
    }
    Ok(mounts)
}

fn room(path: &std::path::Path) -> Room {
    match rustix::fs::statvfs(path) {
        Ok(stat) => Room::Known {
            bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            inodes: stat.f_files,
            free_inodes: stat.f_favail,
        },
        Err(error) => Room::Unknown(error.to_string()),
    }
}

/// Lines of proc_pid_mountinfo(5): `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`.
fn list(text: &str) -> Vec<Mount> {
    let mut mounts: BTreeMap<String, Mount> = BTreeMap::new();
    for line in text.lines() {
        let Some((first, second)) = line.split_once(" - ") else { continue };
        let first: Vec<&str> = first.split(' ').collect();
        let second: Vec<&str> = second.split(' ').collect();
        let (Some(point), Some(options)) = (first.get(4), first.get(5)) else { continue };
        let (Some(kind), Some(source)) = (second.first(), second.get(1)) else { continue };
        let known = LOCAL.contains(kind) || REMOTE.contains(kind) || kind.starts_with("fuse.");
        if !known {
            continue;
        }
        let is_ro = |options: &str| options.split(',').any(|option| option == "ro");
        // Of several at one point the last is on top.
        let mount = Mount {
            point: unescape(point),
            kind: (*kind).to_owned(),
            source: unescape(source),
            read_only: is_ro(options),
            file_system_read_only: second.get(2).is_some_and(|options| is_ro(options)),
            ..Mount::default()
        };
        mounts.insert(mount.point.clone(), mount);
    }
    mounts.into_values().collect()
}

/// Mount points of fstab(5), and whether they are to be writable.
fn fstab(text: &str) -> BTreeMap<String, bool> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let entries = fields.filter_map(|fields| {
        let options = fields.get(3)?;
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        Some((unescape(fields.get(1)?), !has("ro") && !has("noauto")))
    });
    entries.filter(|(point, _)| point.starts_with('/')).collect()
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(byte) = bytes.get(i) {
        let octal = bytes.get(i + 1..i + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *byte == b'\\') {
            Some(value) => {
                out.push(value);
                i += 4;
            }
            None => {
                out.push(*byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn mounts_are_read_with_both_sets_of_options() {
        let text = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 ro,errors=remount-ro\n\
                    22 21 0:5 / /proc rw - proc proc rw\n\
                    23 21 8:2 / /my\\040data rw,noatime - xfs /dev/sda2 rw\n\
                    24 21 0:9 / /nfs rw - nfs4 srv:/x rw,vers=4.2\n\
                    25 21 0:7 / /snap/x ro - squashfs /dev/loop0 ro\n\
                    26 1 8:1 /sub / ro - ext4 /dev/sdb1 ro\nbroken line\n";
        let mounts = list(text);
        let points: Vec<&str> = mounts.iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/", "/my data", "/nfs"]);
        assert_eq!(mounts[0].source, "/dev/sdb1", "the one on top");
        assert!(mounts[0].read_only && !mounts[1].file_system_read_only);
    }

    #[test]
    fn fstab_says_what_is_wanted() {
        let wanted =
            fstab("# x\nUUID=1 / ext4 errors=remount-ro 0 1\n/dev/b /ro xfs defaults,ro 0 0\nswap none swap sw\n");
        assert_eq!(wanted, BTreeMap::from([("/".to_owned(), true), ("/ro".to_owned(), false)]));
    }

    #[test]
    fn this_machine_has_room_somewhere() {
        let mounts = all(&Tree::new("/"), Instant::now() + Duration::from_secs(20)).unwrap();
        assert!(mounts.iter().any(|mount| matches!(mount.room, Room::Known { bytes, .. } if bytes > 0)), "{mounts:?}");
    }
}
