//! Whose a process or a GPU is: user, pod, job of Slurm. All from files of the node, so that nothing
//! needs to be asked of a cluster: cgroups name pods by uid and containers by id, the kubelet keeps
//! its pods' logs below their names, and which devices it gave to whom in a checkpoint.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

use serde::Deserialize;

use super::container;
use super::tree::Tree;
use crate::metrics::{Metric, PodRef, ProcessSample};

/// Where the kubelet keeps which devices are whose (pkg/kubelet/cm/devicemanager, its checkpoint).
const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";
/// Where it keeps logs: NAMESPACE_POD_UID.
const POD_LOGS: &str = "/var/log/pods";
/// And links to them: POD_NAMESPACE_CONTAINER-ID.log.
const CONTAINER_LOGS: &str = "/var/log/containers";
/// USER_HZ is 100 on every Linux of our kind; /proc counts in it.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of a page, in which /proc/PID/statm counts.
const PAGE: f64 = 4096.0;

/// What the node's files say of its pods and users; read anew for each look.
#[derive(Debug, Default)]
pub struct Owners {
    by_uid: HashMap<String, PodRef>,
    by_container: HashMap<String, PodRef>,
    by_device: Vec<(String, PodRef)>,
    users: HashMap<u32, String>,
}

impl Owners {
    /// Reads them; what is not there tells nothing.
    pub fn read(tree: &Tree) -> Owners {
        let mut owners = Owners::default();
        for name in tree.names(POD_LOGS).unwrap_or_default() {
            if let Some(pod) = pod_of_directory(&name) {
                owners.by_uid.insert(pod.uid.clone(), pod);
            }
        }
        for name in tree.names(CONTAINER_LOGS).unwrap_or_default() {
            if let Some((id, pod)) = container_of_link(&name) {
                owners.by_container.insert(id, pod);
            }
        }
        let checkpoint = tree.read(CHECKPOINT).unwrap_or_default();
        owners.by_device = devices(&checkpoint);
        let passwd = tree.read("/etc/passwd").unwrap_or_default();
        owners.users = passwd.lines().filter_map(user).collect();
        owners
    }

    /// Completes what is known of a process.
    pub fn describe(&self, tree: &Tree, process: &mut ProcessSample) {
        let at = |file: &str| format!("/proc/{}/{file}", process.pid);
        process.name = tree.word(at("comm")).filter(|name| !name.is_empty());
        let owner = std::fs::metadata(tree.path(format!("/proc/{}", process.pid))).ok().map(|metadata| metadata.uid());
        process.user = owner.map(|uid| self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()));
        if let Ok(cgroup) = tree.read(at("cgroup")) {
            let place = place_of(&cgroup);
            process.slurm_job = place.slurm_job;
            process.pod = place.pod_uid.map(|uid| self.pod(&uid, place.container.as_deref()));
        }
        let pages = tree.read(at("statm")).ok().and_then(|text| text.split_whitespace().nth(1)?.parse::<f64>().ok());
        process.metrics.set(Metric::ProcessResident, pages.map(|pages| pages * PAGE));
        process.metrics.set(Metric::ProcessCpu, tree.read(at("stat")).ok().and_then(|text| cpu_s(&text)));
    }

    fn pod(&self, uid: &str, container: Option<&str>) -> PodRef {
        let mut pod = self.by_uid.get(uid).cloned().unwrap_or_default();
        if let Some(known) = container.and_then(|id| self.by_container.get(id)) {
            pod.namespace.clone_from(&known.namespace);
            pod.pod.clone_from(&known.pod);
            pod.container.clone_from(&known.container);
        }
        uid.clone_into(&mut pod.uid);
        pod
    }

    /// Pods that the kubelet gave a GPU, or a MIG device of it, to.
    pub fn given(&self, uuids: &[&str]) -> Vec<PodRef> {
        let given = self.by_device.iter().filter(|(device, _)| uuids.contains(&device.as_str()));
        given
            .map(|(_, pod)| {
                let mut named = self.pod(&pod.uid, None);
                named.container.clone_from(&pod.container);
                named
            })
            .collect()
    }
}

/// "NAMESPACE_POD_UID"; neither names nor uids hold a "_".
fn pod_of_directory(name: &str) -> Option<PodRef> {
    let mut parts = name.split('_');
    let pod = PodRef {
        namespace: parts.next()?.to_owned(),
        pod: parts.next()?.to_owned(),
        uid: parts.next()?.to_owned(),
        container: String::new(),
    };
    (parts.next().is_none() && !pod.uid.is_empty()).then_some(pod)
}

/// "POD_NAMESPACE_CONTAINER-ID.log".
fn container_of_link(name: &str) -> Option<(String, PodRef)> {
    let (names, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = names.split('_');
    let pod = PodRef {
        pod: parts.next()?.to_owned(),
        namespace: parts.next()?.to_owned(),
        container: parts.next()?.to_owned(),
        uid: String::new(),
    };
    (parts.next().is_none() && container::is_id(id)).then(|| (id.to_owned(), pod))
}

/// CPU time of /proc/PID/stat; the second field may hold anything, so fields count from its last ')'.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map(|word| word.parse::<f64>().ok());
    Some((ticks.next()?? + ticks.next()??) / TICKS_PER_S)
}

/// "name:x:1000:…".
fn user(line: &str) -> Option<(u32, String)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
}

/// Where a process is among cgroups.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    pod_uid: Option<String>,
    container: Option<String>,
    slurm_job: Option<u64>,
}

/// Reads /proc/PID/cgroup, of either version of cgroups: lines "ID:CONTROLLERS:PATH".
fn place_of(cgroup: &str) -> Place {
    // Of containers in containers, the innermost.
    let container = container::containers(cgroup).pop().map(str::to_owned);
    let mut place = Place { container, ..Place::default() };
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    for part in paths.flat_map(|path| path.split('/')) {
        // "pod1234-…", or below systemd "kubepods-burstable-pod1234_….slice".
        let stem = part.strip_suffix(".slice").unwrap_or(part);
        let uid = match stem.strip_prefix("kubepods").and_then(|rest| rest.rsplit_once("-pod")) {
            Some((_, uid)) => Some(uid.replace('_', "-")),
            None => stem.strip_prefix("pod").filter(|uid| uid.len() >= 32).map(str::to_owned),
        };
        if uid.as_deref().is_some_and(is_uid) {
            place.pod_uid = uid;
        }
        if let Some(job) = part.strip_prefix("job_").and_then(|job| job.parse().ok()) {
            place.slurm_job = Some(job);
        }
    }
    place
}

fn is_uid(text: &str) -> bool {
    (32..=36).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    #[serde(default)]
    pod_device_entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(default, rename = "ContainerName")]
    container_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: Devices,
}

/// By NUMA node since Kubernetes 1.20, a plain list before.
#[derive(Deserialize)]
#[serde(untagged)]
enum Devices {
    ByNode(HashMap<String, Vec<String>>),
    Plain(Vec<String>),
}

fn devices(text: &str) -> Vec<(String, PodRef)> {
    let Ok(checkpoint) = serde_json::from_str::<Checkpoint>(text) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in checkpoint.data.pod_device_entries.into_iter().flatten() {
        let ids = match entry.device_ids {
            Devices::ByNode(by_node) => by_node.into_values().flatten().collect(),
            Devices::Plain(ids) => ids,
        };
        for id in ids {
            // Shared in time: "GPU-…::3".
            let device = id.split("::").next().unwrap_or_default().to_owned();
            let pod =
                PodRef { uid: entry.pod_uid.clone(), container: entry.container_name.clone(), ..PodRef::default() };
            all.push((device, pod));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "0f3c9a1e-52d4-4c77-9e0b-8d2f6a7b1c3d";

    #[test]
    fn cgroups_of_all_runtimes_name_pod_and_container() {
        let id = "c0ffee".repeat(10) + "beef";
        let systemd = UID.replace('-', "_");
        for path in [
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice/cri-containerd-{id}.scope"
            ),
            format!("0::/kubepods.slice/kubepods-pod{systemd}.slice/crio-{id}.scope/container"),
            format!("0::/kubepods/besteffort/pod{UID}/{id}"),
            format!("12:devices:/kubepods/pod{UID}/{id}\n11:cpu,cpuacct:/kubepods/pod{UID}/{id}"),
            format!("0::/kubelet/kubepods-burstable-pod{systemd}.slice/docker-{id}.scope"),
        ] {
            let place = place_of(&path);
            assert_eq!(
                (place.pod_uid.as_deref(), place.container.as_deref()),
                (Some(UID), Some(id.as_str())),
                "{path}"
            );
        }
        assert_eq!(place_of("0::/user.slice/user-1000.slice/session-3.scope"), Place::default());
        assert_eq!(place_of("0::/system.slice/slurmstepd.scope/job_17/step_0/user/task_0").slurm_job, Some(17));
    }

    #[test]
    fn what_the_kubelet_gave_is_known_without_a_cluster() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(&format!("var/log/pods/team-a_train-0_{UID}/main/0.log"), "");
        let checkpoint = format!(
            r#"{{"Data":{{"PodDeviceEntries":[{{"PodUID":"{UID}","ContainerName":"main","ResourceName":"nvidia.com/gpu","DeviceIDs":{{"0":["GPU-1"],"1":["GPU-2::1"]}},"AllocResp":"CkA="}}],"RegisteredDevices":{{}}}},"Checksum":1}}"#
        );
        write(&CHECKPOINT[1..], &checkpoint);
        let owners = Owners::read(&Tree::new(root.path()));
        let wanted = PodRef {
            namespace: "team-a".to_owned(),
            pod: "train-0".to_owned(),
            container: "main".to_owned(),
            uid: UID.to_owned(),
        };
        assert_eq!(owners.given(&["GPU-2"]), [wanted]);
        assert!(owners.given(&["GPU-3"]).is_empty());
        let plain = checkpoint.replace(r#"{"0":["GPU-1"],"1":["GPU-2::1"]}"#, r#"["GPU-9"]"#);
        assert_eq!(devices(&plain)[0].0, "GPU-9");
    }

    #[test]
    fn a_process_is_described_by_files_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let id = "ab".repeat(32);
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/7/comm", "python\n");
        write("proc/7/cgroup", &format!("0::/kubepods/pod{UID}/{id}\n"));
        write("proc/7/statm", "100 50 1 1 0 1 0\n");
        write("proc/7/stat", "7 (a) b) R 1 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 99 1 1");
        write("etc/passwd", &format!("ada:x:{}:0::/:/bin/sh\n", rustix::process::geteuid().as_raw()));
        write(&format!("var/log/containers/train-0_team-a_main-{id}.log"), "");
        let tree = Tree::new(root.path());
        let mut process = ProcessSample { pid: 7, ..ProcessSample::default() };
        Owners::read(&tree).describe(&tree, &mut process);
        assert_eq!((process.name.as_deref(), process.user.as_deref()), (Some("python"), Some("ada")));
        let pod = process.pod.unwrap();
        assert_eq!((pod.shown().as_str(), pod.container.as_str()), ("team-a/train-0", "main"));
        assert_eq!(process.metrics.get(Metric::ProcessResident), Some(204_800.0));
        assert_eq!(process.metrics.get(Metric::ProcessCpu), Some(2.0));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_readers(text in "\\PC{0,200}|[0-9a-f_:/.-]{0,120}") {
            place_of(&text);
            pod_of_directory(&text);
            container_of_link(&text);
            devices(&text);
            user(&text);
        }
    }
}
