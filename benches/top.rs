//! How long `aictl top` takes over a large fleet: `cargo bench --bench top -- [NODES]`, 1,000 by
//! default, of 8 GPUs each. A real API server's proxy reads simulated exporters, which all are one
//! server on this machine's own address; and a simulated Prometheus answers for as many GPUs. Printed
//! are the time of one more look of a program that runs, and its peak memory.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark's result is what it prints")]
#![allow(clippy::zombie_processes, reason = "wait4 is called for its resource usage")]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aictl::metrics::{GpuSample, Metric, NodeSample, PodRef, ProcessSample, Scope};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

#[path = "../tests/support/mod.rs"]
mod support;

const GPUS: u32 = 8;
const LOOKS: &str = "8";

fn main() {
    let nodes = std::env::args().filter_map(|arg| arg.parse::<u32>().ok()).next().unwrap_or(1000);
    let prometheus = serve("127.0.0.1:0", move |head| ("", answer(head, nodes).into_bytes()));
    let (times, memory) = run(&["--prometheus", &format!("http://{prometheus}")]);
    println!("{nodes} nodes x {GPUS} GPUs from Prometheus: {times}; peak memory {} MB", memory / 1_000_000);

    let Some(kube) = support::kube::Kube::shared() else { return };
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    let address = socket.local_addr().unwrap().ip();
    let page = serde_json::to_string(&node()).unwrap();
    // Once for all: each of a fleet's exporters packs its own page, on its own machine.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(page.as_bytes()).unwrap();
    let packed: Arc<[u8]> = packed.finish().unwrap().into();
    println!("one exporter's page: {} kB, packed {} kB", page.len() / 1000, packed.len() / 1000);
    serve(&format!("{address}:9400"), move |head| match head.to_lowercase().contains("accept-encoding: gzip") {
        true => ("Content-Encoding: gzip\r\n", packed.to_vec()),
        false => ("", page.clone().into_bytes()),
    });
    let namespace = kube.namespace("bench");
    kube.block_on(async {
        let pods: Api<Pod> = Api::namespaced(kube.client(), &namespace);
        stream::iter(0..nodes)
            .for_each_concurrent(32, |i| {
                let pods = pods.clone();
                async move {
                    let name = format!("top-{i}");
                    let pod: Pod = serde_json::from_value(json!({
                        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "aictl-top"}},
                        "spec": {"nodeName": format!("gpu-{i}"), "containers": [{"name": "c", "image": "none"}]}}))
                    .unwrap();
                    pods.create(&PostParams::default(), &pod).await.unwrap();
                    let ip = address.to_string();
                    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
                    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
                }
            })
            .await;
    });
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, kube.kubeconfig(&namespace)).unwrap();
    let file = kubeconfig.display().to_string();
    let (times, memory) = run(&["--fleet", "--kubeconfig", &file, "--agent-namespace", &namespace]);
    println!("{nodes} nodes x {GPUS} GPUs through the API server: {times}; peak memory {} MB", memory / 1_000_000);
}

/// Looks several times; what each took, and the peak of memory.
fn run(arguments: &[&str]) -> (String, u64) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aictl"))
        .args(["top", "--once", "-v", "--by", "node", "--deadline", "60s", "--looks", LOOKS])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the child is ours and not yet waited for; both places are valid for writing.
    let usage = unsafe {
        libc::wait4(child.id() as libc::pid_t, &mut status, 0, usage.as_mut_ptr());
        usage.assume_init()
    };
    assert_eq!(std::process::ExitStatus::from_raw(status).code(), Some(0), "{said}");
    let mut times: Vec<u32> = said.lines().filter_map(|line| line.split(' ').nth(3)?.parse().ok()).collect();
    times.sort_unstable();
    assert!(!times.is_empty(), "{said}");
    let words = format!(
        "a look takes {} ms (median of {}; {} to {})",
        times[times.len() / 2],
        times.len(),
        times[0],
        times[times.len() - 1]
    );
    (words, usage.ru_maxrss.unsigned_abs() * 1024)
}

/// A node with all metrics that there are.
fn node() -> NodeSample {
    let mut node = NodeSample { node: "gpu".to_owned(), ..NodeSample::default() };
    for metric in Metric::of(Scope::Node) {
        node.machine.set(metric, 123_456.5);
    }
    for index in 0..GPUS {
        let mut gpu = GpuSample {
            index,
            uuid: format!("GPU-{index:032}"),
            name: "NVIDIA H100".to_owned(),
            ..GpuSample::default()
        };
        for metric in Metric::of(Scope::Gpu) {
            gpu.metrics.set(metric, 12_345.0 + f64::from(index));
        }
        let mut process = ProcessSample { pid: 4000 + index, ..ProcessSample::default() };
        for metric in Metric::of(Scope::Process) {
            process.metrics.set(metric, 98_765.0);
        }
        gpu.processes.push(process);
        gpu.pods.push(PodRef { namespace: "team".to_owned(), pod: format!("train-{index}"), ..PodRef::default() });
        for link in 0..18 {
            let mut sample = aictl::metrics::LinkSample { link, ..Default::default() };
            for metric in Metric::of(Scope::Link) {
                sample.metrics.set(metric, 1.0);
            }
            gpu.nvlinks.push(sample);
        }
        node.gpus.push(gpu);
    }
    node
}

/// What a Prometheus says of one metric for all GPUs.
fn answer(head: &str, nodes: u32) -> String {
    let name = head.split("query=").nth(1).and_then(|rest| rest.split([' ', '&']).next()).unwrap_or_default();
    let mut text = String::from(r#"{"status":"success","data":{"resultType":"vector","result":["#);
    for node in 0..nodes {
        for gpu in 0..GPUS {
            let comma = if node + gpu == 0 { "" } else { "," };
            let _ = write!(
                text,
                r#"{comma}{{"metric":{{"__name__":"{name}","DCGM_FI_DRIVER_VERSION":"570.86.15","Hostname":"gpu-{node}","UUID":"GPU-{node:016}-{gpu}","container":"exporter","device":"nvidia{gpu}","endpoint":"metrics","exported_container":"main","exported_namespace":"team","exported_pod":"train-{node}","gpu":"{gpu}","instance":"10.0.0.1:9400","job":"nvidia-dcgm-exporter","modelName":"NVIDIA H100 80GB HBM3","namespace":"gpu-operator","pci_bus_id":"00000000:1B:00.0","pod":"nvidia-dcgm-exporter-abcde","service":"nvidia-dcgm-exporter"}},"value":[1700000000.1,"{gpu}"]}}"#
            );
        }
    }
    text.push_str("]}}");
    text
}

/// Headers, each with its end, and a body.
type Answer = (&'static str, Vec<u8>);

/// Serves, a thread a connection; gives its address.
fn serve(address: &str, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind(address).unwrap();
    let bound = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || while one(&stream, &*answer).is_some() {});
        }
    });
    bound
}

/// Answers one request of a connection that stays; `None` at its end.
fn one(mut stream: &TcpStream, answer: &dyn Fn(&str) -> Answer) -> Option<()> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
    let (headers, body) = answer(&String::from_utf8_lossy(&bytes));
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok()
}
