//! How long `aictl diagnose` takes over a large cluster: `cargo bench --bench fleet -- [NODES]`, 5,000
//! by default. A real API server is filled with nodes and their agents' findings; then the program
//! runs as its users run it. Printed are wall time and peak memory, and the ratio to what the server
//! alone needs to hand out the same lists, measured in the same run.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark's result is what it prints")]
#![allow(clippy::zombie_processes, reason = "wait4 is called for its resource usage")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use aictl::cluster::{Choice, Cluster, NodeFindings, Options, definition, list};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

#[path = "../tests/support/mod.rs"]
mod support;

const ROUNDS: usize = 7;

fn main() {
    let nodes = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(5000);
    let Some(kube) = support::kube::Kube::shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, kube.kubeconfig("default")).unwrap();
    let begin = Instant::now();
    kube.block_on(fill(kube, nodes));
    println!("filled with {nodes} nodes and their findings in {:.0} s", begin.elapsed().as_secs_f64());

    let (mut floor, mut table, mut json) = (Vec::new(), Vec::new(), Vec::new());
    let mut memory = 0;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let options = Options { kubeconfig: Some(kubeconfig.clone()), ..Options::default() };
        kube.block_on(async {
            let cluster = Cluster::connect(&options).await.unwrap();
            let all = |path: &'static str| {
                let cluster = cluster.clone();
                async move {
                    list(&cluster, "cannot list", path, &Choice::default(), |_: IgnoredAny| None::<()>).await.unwrap()
                }
            };
            futures::join!(all("/api/v1/nodes"), all("/apis/aictl.dev/v1alpha1/nodefindings"));
        });
        floor.push(begin.elapsed().as_secs_f64());
        for (arguments, times) in [(&[][..], &mut table), (&["-o", "json"], &mut json)] {
            let (seconds, bytes) = run(&kubeconfig, arguments);
            times.push(seconds);
            memory = memory.max(bytes);
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (floor, table, json) = (median(&mut floor), median(&mut table), median(&mut json));
    println!("the server's own time for both lists: {floor:.2} s");
    println!("aictl diagnose: {table:.2} s, {:.2} times that", table / floor);
    println!("aictl diagnose -o json: {json:.2} s, {:.2} times that", json / floor);
    println!("peak memory of the larger: {} MB", memory / 1_000_000);
}

/// Wall time and peak memory of one run.
fn run(kubeconfig: &std::path::Path, arguments: &[&str]) -> (f64, u64) {
    let begin = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_aictl"))
        .args(["diagnose", "--stale-after", "24h", "--kubeconfig"])
        .arg(kubeconfig)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the child is ours and not yet waited for; both places are valid for writing.
    let usage = unsafe {
        assert_eq!(
            libc::wait4(child.id() as libc::pid_t, &mut status, 0, usage.as_mut_ptr()),
            child.id() as libc::pid_t
        );
        usage.assume_init()
    };
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(std::process::ExitStatus::from_raw(status).code(), Some(3), "faults are to be found");
    (seconds, usage.ru_maxrss.unsigned_abs() * 1024)
}

async fn fill(kube: &support::kube::Kube, nodes: usize) {
    let client = kube.client();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("bench").force();
    definitions.patch("nodefindings.aictl.dev", &apply, &Patch::Apply(&definition())).await.unwrap();
    let objects: Api<NodeFindings> = Api::all(client.clone());
    while objects.list(&ListParams::default().limit(1)).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let places: Api<Node> = Api::all(client);
    stream::iter(0..nodes)
        .for_each_concurrent(64, |i| {
            let (objects, places) = (objects.clone(), places.clone());
            async move {
                let name = format!("gpu-{i:05}");
                places.create(&PostParams::default(), &node(&name)).await.unwrap();
                objects.create(&PostParams::default(), &findings(&name, i)).await.unwrap();
            }
        })
        .await;
}

/// As large as nodes are: labels, conditions, images.
fn node(name: &str) -> Node {
    let labels: serde_json::Map<String, Value> =
        (0..60).map(|i| (format!("feature.node.kubernetes.io/cpu-feature-{i}"), json!("true"))).collect();
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "KubeletHasNoProblem", "message": "kubelet has no such problem",
            "lastTransitionTime": "2026-11-01T00:00:00Z", "lastHeartbeatTime": "2026-11-01T00:00:00Z"})
    };
    let images: Vec<Value> = (0..40)
        .map(|i| json!({"names": [format!("registry.example/team/image-{i}@sha256:{i:064}")], "sizeBytes": 1_000_000}))
        .collect();
    let wrong =
        ["DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable", "KernelDeadlock", "ReadonlyFilesystem"];
    let mut conditions = vec![condition("Ready", "True")];
    conditions.extend(wrong.map(|kind| condition(kind, "False")));
    let node = json!({"metadata": {"name": name, "labels": labels}, "status": {
        "conditions": conditions, "images": images,
        "capacity": {"nvidia.com/gpu": "8", "rdma/hca": "8"}, "allocatable": {"nvidia.com/gpu": "8", "rdma/hca": "8"}}});
    serde_json::from_value(node).unwrap()
}

/// All checks of an agent; every fiftieth node has a fault.
fn findings(name: &str, i: usize) -> NodeFindings {
    let now = Timestamp::now().to_string();
    let checks: Vec<Value> = (0..24)
        .map(|i| json!({"name": format!("gpu-check-{i}"), "state": "ok", "detail": "8 GPUs, all as they should be, none replaced"}))
        .collect();
    let finding = json!({"fault": "xid-79", "title": "GPU has fallen off the bus", "component": "gpu",
        "device": {"pci": "0000:3b:00.0", "uuid": "GPU-00000000-0000-0000-0000-000000000000", "index": 3},
        "severity": "critical", "scope": "node", "action": "RESTART_BM", "count": 2, "first_seen": now, "last_seen": now,
        "evidence": ["NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python3, GPU has fallen off the bus."],
        "source": "kernel-log"});
    let found = if i.is_multiple_of(50) { vec![finding] } else { Vec::new() };
    let spec = json!({"lookedAt": now, "agent": "0.1.0", "refreshSeconds": 120, "gpus": 8, "state": "ok", "report":
        {"schema": "aictl.findings/v1", "node": name, "boot_id": null, "checks": checks, "findings": found}});
    NodeFindings::new(name, serde_json::from_value(spec).unwrap())
}
