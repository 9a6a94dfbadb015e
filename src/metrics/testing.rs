//! Nodes for tests.

use super::{GpuSample, Metric, NodeSample, PodRef, ProcessSample};

/// A node with GPUs of which the first half works: the even ones for team-a, the odd ones for team-b.
pub fn node(name: &str, gpus: u32) -> NodeSample {
    let mut node = NodeSample {
        node: name.to_owned(),
        at: jiff::Timestamp::from_second(1_800_000_000).ok(),
        driver: Some("570.86.15".to_owned()),
        gpus: (0..gpus).map(|index| gpu(name, index, index < gpus.div_ceil(2))).collect(),
        ..NodeSample::default()
    };
    node.machine.set(Metric::Cpus, 64.0);
    node.machine.set(Metric::CpuUsed, 25.0);
    node.machine.set(Metric::RamTotal, 1e12);
    node.machine.set(Metric::RamAvailable, 4e11);
    node
}

fn gpu(node: &str, index: u32, works: bool) -> GpuSample {
    let mut gpu = GpuSample {
        index,
        uuid: format!("GPU-{node}-{index}"),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        pci: Some(format!("0000:{:02x}:00.0", 0x1b + index)),
        ..GpuSample::default()
    };
    for (metric, value) in [
        (Metric::Utilisation, if works { 90.0 } else { 0.0 }),
        (Metric::MemoryUsed, 40.0 * 1024f64.powi(3)),
        (Metric::MemoryTotal, 80.0 * 1024f64.powi(3)),
        (Metric::Power, if works { 612.0 } else { 70.0 }),
        (Metric::PowerLimit, 700.0),
        (Metric::Temperature, if works { 61.0 } else { 31.0 }),
        (Metric::SmClock, if works { 1755.0 } else { 345.0 }),
        (Metric::Energy, 1.5),
        (Metric::Idle, if works { 0.0 } else { 1200.0 }),
        (Metric::ThrottleReasons, if works { 4.0 } else { 1.0 }),
    ] {
        gpu.metrics.set(metric, value);
    }
    let team = if index.is_multiple_of(2) { "a" } else { "b" };
    let pod = PodRef {
        namespace: format!("team-{team}"),
        pod: format!("train-{index}"),
        container: "main".to_owned(),
        uid: format!("uid-{index}"),
    };
    gpu.pods.push(pod.clone());
    if works {
        let mut process = ProcessSample {
            pid: 4000 + index,
            kind: "compute".to_owned(),
            name: Some("python".to_owned()),
            user: Some("ada".to_owned()),
            pod: Some(pod),
            ..ProcessSample::default()
        };
        process.metrics.set(Metric::ProcessMemory, 39.0 * 1024f64.powi(3));
        process.metrics.set(Metric::ProcessSm, 88.0);
        gpu.processes.push(process);
    }
    gpu
}
