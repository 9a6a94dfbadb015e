//! PyTorch's operators, backward, optimizer and data loader, and gloo, in two generations.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aictl::profile::CaptureOptions;
use aictl::trace::{Layer, LayerState};

use crate::rig::{Running, probed, record, record_with};
use crate::support;

pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name)
}

/// The distribution's PyTorch.
pub fn old() -> Option<PathBuf> {
    support::require("root and BTF", support::can_trace()).then_some(())?;
    support::require_some("python3-torch", support::system_torch())
}

/// A current PyTorch.
pub fn new() -> Option<PathBuf> {
    support::require("root and BTF", support::can_trace()).then_some(())?;
    support::require_some("a current PyTorch", support::pypi_torch())
}

fn operators_of(python: &Path) {
    let target = Running::start(Command::new(python).arg(script("train_small.py")));
    let captured = record(target.pid(), Duration::from_secs(2), || ());
    assert_eq!(captured.state(Layer::Torch), LayerState::On);
    for name in [
        "aten::addmm",
        "aten::relu",
        "aten::mm",
        "autograd::AddmmBackward0",
        "autograd::AccumulateGrad",
        "backward",
        "Optimizer.step#SGD.step",
        "Optimizer.zero_grad#SGD.zero_grad",
        "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__",
    ] {
        assert!(captured.named(name).len() > 1, "no {name}: {}", captured.summary());
    }
    captured.assert_nested(&[Layer::Torch]);
    assert_eq!(captured.meta.lost.total(), 0);
    // A step has two layers with addmm, one backward and one optimizer step.
    let steps = captured.named("Optimizer.step#SGD.step").len() as f64;
    let per_step = |name: &str| captured.named(name).len() as f64 / steps;
    assert!((1.9..2.1).contains(&per_step("aten::addmm")), "{}", captured.summary());
    assert!((0.9..1.1).contains(&per_step("backward")), "{}", captured.summary());
    // The nodes run inside the backward pass, by time and by thread.
    let node = captured.named("autograd::AddmmBackward0")[3];
    let end = node.start_ns + node.dur_ns;
    let around = |s: &&crate::rig::Seen| s.start_ns <= node.start_ns && end <= s.start_ns + s.dur_ns;
    assert!(captured.named("backward").into_iter().any(|s| around(&s) && s.tid == node.tid));
}

#[test]
fn operators_of_an_old_pytorch() {
    if let Some(python) = old() {
        operators_of(&python);
    }
}

#[test]
fn operators_of_a_current_pytorch() {
    if let Some(python) = new() {
        operators_of(&python);
    }
}

#[test]
fn a_kept_scan_gives_the_same() {
    let Some(python) = old() else { return };
    let target = Running::start(Command::new(python).arg(script("train_small.py")));
    let cache = tempfile::tempdir().unwrap();
    let options = CaptureOptions {
        pids: vec![target.pid()],
        layers: probed(),
        duration: Some(Duration::from_secs(1)),
        max_overhead: 100.0,
        cache_dir: Some(cache.path().to_owned()),
        ..CaptureOptions::default()
    };
    let first = record_with(&options, || ());
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 1);
    let second = record_with(&options, || ());
    assert!(!first.named("aten::addmm").is_empty() && !second.named("aten::addmm").is_empty());
    assert_eq!(first.layers, second.layers);
}

fn collectives_of(python: &Path) {
    let meeting = tempfile::tempdir().unwrap();
    let start = |rank: &str| {
        let mut command = Command::new(python);
        command.arg(script("gloo_pair.py")).arg(rank).arg(meeting.path().join("store"));
        command
    };
    // Each waits for the other before it is ready.
    let other = std::thread::spawn({
        let mut command = start("1");
        move || Running::start(&mut command)
    });
    let target = Running::start(&mut start("0"));
    let _other = other.join().unwrap();
    let captured = record(target.pid(), Duration::from_secs(2), || ());
    assert_eq!(captured.state(Layer::Nccl), LayerState::On);
    for name in ["gloo::allreduce", "gloo::broadcast", "gloo::allgather", "gloo::barrier", "c10d::wait"] {
        assert!(!captured.named(name).is_empty(), "no {name}: {}", captured.summary());
    }
    captured.assert_nested(&[Layer::Nccl]);
    // The caller waits while gloo's own threads work.
    let main = Some(target.pid());
    assert!(captured.named("c10d::wait").iter().any(|s| s.tid == main && s.dur_ns > 10_000));
    assert!(captured.named("gloo::allreduce").iter().all(|s| s.tid != main));
}

#[test]
fn collectives_of_an_old_pytorch() {
    if let Some(python) = old() {
        collectives_of(&python);
    }
}

#[test]
fn collectives_of_a_current_pytorch() {
    if let Some(python) = new() {
        collectives_of(&python);
    }
}

#[test]
fn the_budget_takes_the_shortest_operators_first() {
    let Some(python) = old() else { return };
    let target = Running::start(Command::new(python).arg(script("train_small.py")));
    let options = CaptureOptions {
        pids: vec![target.pid()],
        layers: probed(),
        duration: Some(Duration::from_secs(6)),
        max_overhead: 0.02,
        ..CaptureOptions::default()
    };
    let captured = record_with(&options, || ());
    assert!(captured.meta.thinned.iter().any(|t| t.probe.contains("operators")), "{:?}", captured.meta.thinned);
    let half = captured.slices.iter().map(|s| s.start_ns).min().unwrap() + 4_000_000_000;
    let late = |name: &str| captured.named(name).iter().filter(|s| s.start_ns > half).count();
    assert!(late("Optimizer.step#SGD.step") > 0, "what tells most stays: {}", captured.summary());
    let operators = |late: bool| {
        captured.slices.iter().filter(|s| s.name.starts_with("aten::") && (s.start_ns > half) == late).count()
    };
    assert!(operators(true) * 2 < operators(false), "{:?}", captured.meta.thinned);
}
