//! Which container a process is in, by its cgroup: versions 1 and 2, as containerd, CRI-O, Docker
//! and Podman name them, with cgroups by systemd or by the runtime itself.
//!
//! | runtime | by systemd | by itself |
//! |---|---|---|
//! | containerd | `cri-containerd-ID.scope` | `ID`, `kubepods-….slice:cri-containerd:ID` |
//! | CRI-O | `crio-ID.scope` | `crio-ID` |
//! | Docker | `docker-ID.scope` | `ID` |
//! | Podman | `libpod-ID.scope` | `libpod-ID` |

use std::fs;
use std::path::Path;

/// A container's id has so many hexadecimal digits, with every runtime that Kubernetes knows.
const ID: usize = 64;

const PROC: &str = "/proc";

/// The id in what a pod's status calls a container: `containerd://ID`, `cri-o://ID`, `docker://ID`.
pub fn id_of(reference: &str) -> Option<&str> {
    let (_, id) = reference.split_once("://")?;
    is_id(id).then_some(id)
}

/// Ids of the containers that a process is in, by the text of its /proc/PID/cgroup, the outermost
/// first. Cgroups that a container makes within its own do not matter, nor does the reader's own
/// cgroup namespace (paths begin with `/..` then).
pub fn containers(cgroup: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for line in cgroup.lines() {
        // "4:memory:/kubepods/…"; a name of version 1 may hold colons, a path may, too.
        let mut parts = line.splitn(3, ':');
        let Some(path) = parts.nth(2) else { continue };
        for id in path.split('/').filter_map(id_in) {
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    found
}

/// The container id that a cgroup's name holds.
fn id_in(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    // CRI-O's monitor of a container is not in it.
    if name.starts_with("crio-conmon-") || name.starts_with("libpod-conmon-") {
        return None;
    }
    let id = name.rsplit([':', '-']).next().unwrap_or(name);
    is_id(id).then_some(id)
}

/// Whether a text is a container's id.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Processes of this machine that are in one of some containers, with the place of that container
/// among them. Kernel threads and processes that end meanwhile are left out.
///
/// # Errors
/// If /proc can't be read at all.
pub fn processes(ids: &[&str]) -> std::io::Result<Vec<(u32, usize)>> {
    processes_in(Path::new(PROC), ids)
}

fn processes_in(proc: &Path, ids: &[&str]) -> std::io::Result<Vec<(u32, usize)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(index) = which_in(proc, pid, ids) {
            found.push((pid, index));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// In which of some containers a process is.
pub fn which(pid: u32, ids: &[&str]) -> Option<usize> {
    which_in(Path::new(PROC), pid, ids)
}

fn which_in(proc: &Path, pid: u32, ids: &[&str]) -> Option<usize> {
    let cgroup = fs::read(proc.join(pid.to_string()).join("cgroup")).ok()?;
    let cgroup = String::from_utf8_lossy(&cgroup);
    let around = containers(&cgroup);
    ids.iter().position(|id| around.contains(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const B: &str = "ffffffffffffffff0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn every_runtime_and_driver_is_understood() {
        let pod = "2f1b3c4d-0000-4000-8000-00000000abcd";
        let under = pod.replace('-', "_");
        let slices = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice");
        for path in [
            format!("{slices}/cri-containerd-{A}.scope"),
            format!("{slices}/crio-{A}.scope"),
            format!("{slices}/crio-{A}.scope/container"),
            format!("{slices}/docker-{A}.scope"),
            format!("/kubepods/burstable/pod{pod}/{A}"),
            format!("/kubepods/pod{pod}/crio-{A}"),
            format!("/kubelet.slice{slices}/cri-containerd-{A}.scope/init.scope"),
            format!("/system.slice/containerd.service/kubepods-burstable-pod{under}.slice:cri-containerd:{A}"),
            format!("/docker/{A}"),
            format!("/system.slice/docker-{A}.scope"),
            format!("/machine.slice/libpod-{A}.scope/container"),
            format!("/../cri-containerd-{A}.scope"),
            format!("/../../kubepods-pod{under}.slice/cri-containerd-{A}.scope"),
        ] {
            assert_eq!(containers(&format!("0::{path}\n")), [A], "{path}");
            assert_eq!(
                containers(&format!("12:pids:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n")),
                [A]
            );
        }
    }

    /// A node's /proc as kernels with cgroups of version 1, of version 2 and of both have it: a pod of two
    /// containers, the pause container beside them, a shell on the node, and a process that has just ended.
    #[test]
    fn processes_of_containers_are_found_whatever_the_version() {
        let ids: Vec<String> = (1..4).map(|n: u8| format!("{n:064x}")).collect();
        let pod = "/kubepods.slice/kubepods-pod2f1b3c4d.slice";
        let of = |number: usize| format!("{pod}/cri-containerd-{}.scope", ids[number]);
        // Each version's lines around the path; of both: controllers in version 1, systemd's tree in version 2.
        let versions = [
            ("v1", "11:memory:PATH\n10:pids:PATH\n4:cpu,cpuacct:PATH\n1:name=systemd:PATH\n"),
            ("v2", "0::PATH\n"),
            ("both", "11:memory:PATH\n10:pids:PATH\n0::/system.slice/containerd.service\n"),
        ];
        for (version, lines) in versions {
            let proc = tempfile::tempdir().unwrap();
            let put = |pid: &str, path: &str| {
                fs::create_dir(proc.path().join(pid)).unwrap();
                fs::write(proc.path().join(pid).join("cgroup"), lines.replace("PATH", path)).unwrap();
            };
            put("1", "/init.scope");
            put("2000", &of(0));
            // Its main process, a worker in a cgroup that it made itself, and the other container.
            put("2101", &of(1));
            put("2102", &format!("{}/workers", of(1)));
            put("2201", &of(2));
            put("3000", "/user.slice/user-0.slice/session-3.scope");
            fs::create_dir(proc.path().join("4000")).unwrap();
            fs::write(proc.path().join("cgroups"), "").unwrap();
            let wanted = [ids[1].as_str(), ids[2].as_str()];
            let found = processes_in(proc.path(), &wanted).unwrap();
            assert_eq!(found, [(2101, 0), (2102, 0), (2201, 1)], "{version}");
        }
        assert!(processes_in(Path::new("/nowhere"), &[]).is_err());
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in [
            "/".to_owned(),
            "/init.scope".to_owned(),
            "/user.slice/user-1000.slice/session-3.scope".to_owned(),
            format!("/kubepods.slice/crio-conmon-{A}.scope"),
            format!("/kubepods/{}", &A[1..]),
            format!("/kubepods/{A}0"),
            format!("/kubepods/{}g", &A[1..]),
        ] {
            assert!(containers(&format!("0::{path}\n")).is_empty(), "{path}");
        }
        assert!(containers("nonsense\n\n::\n3:x").is_empty());
    }

    #[test]
    fn a_container_in_a_container_is_in_both() {
        let text = format!("0::/kubepods/pod1/{A}/docker/{B}\n");
        assert_eq!(containers(&text), [A, B]);
    }

    #[test]
    fn a_status_names_its_runtime() {
        assert_eq!(id_of(&format!("containerd://{A}")), Some(A));
        assert_eq!(id_of(&format!("cri-o://{A}")), Some(A));
        assert_eq!(id_of(A), None);
        assert_eq!(id_of("docker://../../etc"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[\\PC\\n:/.-]{0,200}") {
            for id in containers(&text) {
                prop_assert!(is_id(id) && text.contains(id));
            }
        }

        #[test]
        fn an_id_is_found_wherever_it_stands(
            before in proptest::collection::vec("[a-z0-9_.-]{1,12}", 0..4),
            prefix in proptest::sample::select(vec!["", "cri-containerd-", "crio-", "docker-", "libpod-", "x.slice:cri-containerd:"]),
            scope in any::<bool>(),
            after in proptest::collection::vec("[a-z.]{1,12}", 0..3),
            id in "[0-9a-f]{64}",
        ) {
            let suffix = if scope { ".scope" } else { "" };
            let mut parts = before;
            parts.push(format!("{prefix}{id}{suffix}"));
            parts.extend(after);
            let text = format!("0::/{}\n", parts.join("/"));
            prop_assert_eq!(containers(&text), vec![id.as_str()]);
        }
    }
}
