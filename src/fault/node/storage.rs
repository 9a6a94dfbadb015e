//! File systems: read-only against what they should be, full, not answering.

use jiff::Timestamp;

use super::super::facts::{Mount, Room};
use super::{Catalogue, Finding, Verdict, counted, found};

const FILE_SYSTEMS: &str = "filesystems";
const DISKS: &str = "disks";

/// Kinds that are writable by nature: others (squashfs, erofs) are read-only and well.
const WRITABLE: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs"];
/// Kinds of which one that does not answer is a server's fault.
const NFS: [&str; 2] = ["nfs", "nfs4"];
/// Where kubelet watches for room (its nodefs and imagefs), and the system needs some.
const SYSTEM: [&str; 9] = [
    "/",
    "/var",
    "/var/lib",
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/log",
    "/tmp",
];

/// Read-only file systems that should be writable.
pub fn file_systems(mounts: &[Mount], catalogue: &Catalogue, now: Timestamp) -> Verdict {
    let mut verdict = Verdict::of(counted(mounts.len(), "file system", "file systems"));
    for mount in mounts.iter().filter(|mount| WRITABLE.contains(&mount.kind.as_str())) {
        // The kernel's own remount after errors changes the file system and leaves the mount's
        // option; a read-only mount by a person has both, and fstab then decides.
        let by_kernel = mount.file_system_read_only && !mount.read_only && mount.wanted_writable != Some(false);
        let against_fstab = mount.file_system_read_only && mount.wanted_writable == Some(true);
        if !by_kernel && !against_fstab {
            continue;
        }
        let mut finding = of(mount, found(catalogue, "fs-readonly", FILE_SYSTEMS, now));
        let mounted = if mount.read_only { "ro" } else { "rw" };
        finding
            .evidence
            .push(format!("{} on {} {}: mount {mounted}, file system ro", mount.source, mount.point, mount.kind));
        finding.because = Some(
            if by_kernel { "the kernel has made it read-only" } else { "/etc/fstab wants it writable" }.to_owned(),
        );
        // One disk mounted at many places is one fault.
        if !verdict.findings.iter().any(|other| other.device.name == finding.device.name) {
            verdict.add(finding);
        }
    }
    verdict
}

/// Full disks, and file systems that don't answer.
pub fn disks(mounts: &[Mount], catalogue: &Catalogue, now: Timestamp) -> Verdict {
    let mut verdict = Verdict::default();
    let (mut asked, mut silent, mut unknown) = (0, Vec::new(), Vec::new());
    let mut fullest: Option<(f64, &str)> = None;
    for mount in mounts {
        match &mount.room {
            Room::NotAsked => {}
            Room::NoAnswer if NFS.contains(&mount.kind.as_str()) => {
                let mut finding = of(mount, found(catalogue, "nfs-hang", DISKS, now));
                finding.evidence.push(format!("{} on {}: statfs did not return in time", mount.source, mount.point));
                verdict.add(finding);
            }
            Room::NoAnswer => silent.push(mount.point.as_str()),
            Room::Unknown(error) if error.contains("ermission denied") => {}
            Room::Unknown(error) => unknown.push(format!("{}: {error}", mount.point)),
            Room::Known { bytes, free_bytes, inodes, free_inodes } => {
                asked += 1;
                let free = share(*free_bytes, *bytes);
                if let Some(finding) = full(mount, free, share(*free_inodes, *inodes), catalogue, now) {
                    verdict.add(finding);
                }
                if let Some(free) = free.filter(|_| !mount.file_system_read_only)
                    && fullest.is_none_or(|(least, _)| free < least)
                {
                    fullest = Some((free, &mount.point));
                }
            }
        }
    }
    verdict.detail = format!("{} asked", counted(asked, "file system", "file systems"));
    if let Some((free, point)) = fullest {
        verdict.detail.push_str(&format!(", the fullest is {point} with {:.0} % free", free * 100.0));
    }
    let mut blind = Vec::new();
    if !silent.is_empty() {
        blind.push(format!("no answer in time from {}", silent.join(", ")));
    }
    blind.extend(unknown);
    verdict.blind = Some(blind.join("; ")).filter(|words| !words.is_empty());
    verdict
}

/// Free part of something; `None` of nothing.
fn share(free: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| free as f64 / all as f64)
}

fn full(
    mount: &Mount,
    room: Option<f64>,
    inodes: Option<f64>,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Option<Finding> {
    // On a read-only file system nothing is going to be written.
    if mount.read_only || mount.file_system_read_only {
        return None;
    }
    let limits = catalogue.limits().disks;
    let system = SYSTEM.contains(&mount.point.as_str());
    let (least_room, least_inodes) =
        if system { (limits.room, limits.inodes) } else { (limits.data_room, limits.data_room) };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let words = match (room, inodes) {
        (Some(room), _) if room < least_room => {
            format!("{} of the room is free, below {}", percent(room), percent(least_room))
        }
        (_, Some(inodes)) if inodes < least_inodes => {
            format!("{} of the inodes are free, below {}", percent(inodes), percent(least_inodes))
        }
        _ => return None,
    };
    let mut finding = of(mount, found(catalogue, "disk-pressure", DISKS, now));
    finding.evidence.push(format!("{} on {}: {words}", mount.source, mount.point));
    finding.because = Some(words);
    Some(finding)
}

fn of(mount: &Mount, mut finding: Finding) -> Finding {
    let is_device = mount.source.starts_with("/dev/") && finding.fault == "fs-readonly";
    finding.device.name = Some(if is_device { mount.source.clone() } else { mount.point.clone() });
    finding
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, catalogue, names};
    use super::*;

    fn mount(point: &str, read_only: bool, file_system_read_only: bool) -> Mount {
        Mount {
            point: point.to_owned(),
            kind: "ext4".to_owned(),
            source: format!("/dev/of{}", point.replace('/', "-")),
            read_only,
            file_system_read_only,
            ..Mount::default()
        }
    }

    fn with_room(point: &str, free_bytes: u64, free_inodes: u64) -> Mount {
        Mount { room: Room::Known { bytes: 1000, free_bytes, inodes: 1000, free_inodes }, ..mount(point, false, false) }
    }

    #[test]
    fn read_only_against_the_will_is_a_fault() {
        let judged = |mount: Mount| names(&file_systems(&[mount], &catalogue(), at(0)).findings).len();
        assert_eq!(judged(mount("/", false, true)), 1, "the kernel did it");
        assert_eq!(judged(mount("/", false, false)), 0);
        assert_eq!(judged(mount("/data", true, true)), 0, "mounted so");
        assert_eq!(judged(mount("/data", true, false)), 0, "a read-only bind of a writable one");
        assert_eq!(judged(Mount { wanted_writable: Some(true), ..mount("/data", true, true) }), 1);
        assert_eq!(judged(Mount { wanted_writable: Some(false), ..mount("/data", false, true) }), 0);
        assert_eq!(judged(Mount { kind: "squashfs".to_owned(), ..mount("/snap", false, true) }), 0);
        let twice = [
            Mount { source: "/dev/a".into(), ..mount("/a", false, true) },
            Mount { source: "/dev/a".into(), ..mount("/b", false, true) },
        ];
        assert_eq!(file_systems(&twice, &catalogue(), at(0)).findings.len(), 1);
    }

    #[test]
    fn full_is_for_system_disks_what_kubelet_says() {
        let judged = |mount: Mount| disks(&[mount], &catalogue(), at(0)).findings.len();
        assert_eq!(judged(with_room("/", 99, 900)), 1);
        assert_eq!(judged(with_room("/", 100, 900)), 0);
        assert_eq!(judged(with_room("/var/lib/kubelet", 900, 49)), 1);
        assert_eq!(judged(with_room("/data", 50, 900)), 0, "data disks may be nearly full");
        assert_eq!(judged(with_room("/data", 5, 900)), 1);
        assert_eq!(judged(Mount { read_only: true, ..with_room("/", 0, 0) }), 0);
        let no_inodes = Room::Known { bytes: 1000, free_bytes: 900, inodes: 0, free_inodes: 0 };
        assert_eq!(judged(Mount { room: no_inodes, ..mount("/", false, false) }), 0, "btrfs has no such limit");
    }

    #[test]
    fn silence_is_a_fault_of_nfs_and_blindness_elsewhere() {
        let silent =
            |kind: &str| Mount { kind: kind.to_owned(), room: Room::NoAnswer, ..mount("/share", false, false) };
        assert_eq!(names(&disks(&[silent("nfs4")], &catalogue(), at(0)).findings), ["nfs-hang"]);
        let other = disks(&[silent("fuse.juicefs")], &catalogue(), at(0));
        assert!(other.findings.is_empty() && other.blind.unwrap().contains("/share"));
    }
}
