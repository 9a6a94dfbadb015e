//! Whole recordings, built by hand, and their judgements.

use proptest::prelude::*;

use super::testing::{Build, MS, V};
use super::{Category, Report, VerdictKind, compare, judge};
use crate::trace::{Layer, Trace};

fn share(report: &Report, category: Category) -> f64 {
    report.breakdown.iter().find(|r| r.category == category).unwrap().share
}

fn text(report: &Report) -> String {
    report.verdict.because.iter().map(|e| e.text.as_str()).collect::<Vec<_>>().join("\n")
}

/// A training loop of torch: `load` ms in the loader, then 20 ms of operators, then the optimizer.
fn torch_loop(load: u64, steps: u64) -> Build {
    let mut b = Build::capture(&[10]);
    let main = b.process(10, None);
    let step = load + 25;
    for i in 0..steps {
        let t = (1000 + i * step) * MS;
        let next = "_SingleProcessDataLoaderIter.__next__";
        b.op(main, &format!("enumerate(DataLoader)#{next}"), t, load * MS);
        b.op(main, "aten::linear", t + load * MS, 10 * MS);
        b.op(main, "aten::addmm", t + load * MS, 9 * MS);
        b.op(main, "backward", t + (load + 10) * MS, 10 * MS);
        b.op(main, "autograd::AddmmBackward0", t + (load + 10) * MS, 10 * MS);
        b.op(main, "aten::mm", t + (load + 10) * MS, 10 * MS);
        b.op(main, "Optimizer.step#SGD.step", t + (load + 20) * MS, 5 * MS);
        b.sched(main, "running", t, step * MS, 0);
        b.frame(main, "<module>", ("train.py", 1, 0), t, step * MS);
        b.frame(main, next, ("/usr/lib/python3/dist-packages/torch/utils/data/dataloader.py", 600, 41), t, load * MS);
        b.frame(main, "SlowDataset.__getitem__", ("data.py", 17, 52), t, load * MS);
        b.line(main, ("data.py", 20), None, t, load * MS);
        b.frame(main, "train_step", ("train.py", 30, 42), t + load * MS, 25 * MS);
        b.line(main, ("train.py", 33), Some("libtorch_cpu.so"), t + load * MS, 25 * MS);
    }
    b
}

#[test]
fn a_slow_dataset_in_the_main_process_is_input_bound() {
    let report = judge(&torch_loop(75, 30).trace);
    assert_eq!(report.verdict.kind, VerdictKind::InputBound);
    assert_eq!((report.steps.source.as_str(), report.steps.count), ("optimizer", 29));
    assert_eq!(report.steps.p50_ms, Some(100.0));
    assert!((share(&report, Category::Input) - 0.75).abs() < 1e-9);
    assert!(report.verdict.confidence > 0.7, "{}", report.verdict.confidence);
    assert!(text(&report).contains("train.py:41") && text(&report).contains("SlowDataset.__getitem__ (data.py:17)"));
    assert!(report.verdict.advice.contains("train.py:41") && report.verdict.advice.contains("data.py:20"));
    let first = &report.verdict.because[0];
    assert_eq!(first.dur_ns, Some(75 * MS));
}

#[test]
fn a_loop_of_operators_is_cpu_bound() {
    let report = judge(&torch_loop(5, 60).trace);
    assert_eq!(report.verdict.kind, VerdictKind::CpuBound);
    assert!(share(&report, Category::ComputeCpu) > 0.65);
}

/// A main process of the standard library that waits for `workers` over a pipe.
fn fed_by_workers(busy: bool) -> Trace {
    let mut b = Build::capture(&[10]);
    let main = b.process(10, None);
    let worker = b.process(11, None);
    for i in 0..30u64 {
        let t = (1000 + i * 50) * MS;
        b.sched(main, "pipe", t, 40 * MS, 11);
        b.sched(main, "running", t + 40 * MS, 10 * MS, 0);
        b.frame(main, "main", ("train.py", 1, 0), t, 50 * MS);
        b.frame(main, "Queue.get", ("/usr/lib/python3.11/multiprocessing/queues.py", 90, 12), t, 40 * MS);
        b.frame(main, "learn", ("train.py", 30, 13), t + 40 * MS, 10 * MS);
        b.line(main, ("train.py", 31), None, t + 40 * MS, 10 * MS);
        let name = if busy { "running" } else { "futex" };
        b.sched(worker, "running", t, 10 * MS, 0);
        b.sched(worker, name, t + 10 * MS, 40 * MS, 10);
        b.frame(worker, "produce", ("train.py", 50, 0), t, 50 * MS);
        b.frame(worker, "decode_jpeg", ("train.py", 60, 51), t, 50 * MS);
    }
    b.trace
}

#[test]
fn too_few_workers_are_told_from_idle_ones() {
    let report = judge(&fed_by_workers(true));
    assert_eq!(report.verdict.kind, VerdictKind::InputBound);
    assert_eq!(report.processes[1].role, "worker");
    assert_eq!((report.steps.source.as_str(), report.steps.count), ("python_frame", 29));
    assert!(report.verdict.advice.contains("start more than 1 such process"), "{}", report.verdict.advice);
    assert!(report.verdict.advice.contains("train.py:12"));
    let report = judge(&fed_by_workers(false));
    assert_eq!(report.verdict.kind, VerdictKind::InputBound);
    assert!(report.verdict.advice.contains("idle 80 %"), "{}", report.verdict.advice);
}

/// Two ranks in lockstep; the second computes three times as long.
fn two_ranks() -> Trace {
    let mut b = Build::capture(&[20, 21]);
    for (rank, work) in [(0u32, 20u64), (1, 60)] {
        let main = b.process(20 + rank, Some(rank));
        for i in 0..30u64 {
            let t = (1000 + i * 70) * MS;
            b.sched(main, "running", t, work * MS, 0);
            b.sched(main, "futex", t + work * MS, (70 - work) * MS, 0);
            b.op(main, "aten::mm", t, work * MS);
            b.op(main, "Optimizer.step#SGD.step", t + 69 * MS, MS);
            b.slice(main, Layer::Nccl, "gloo::allreduce", t + work * MS, (69 - work) * MS, &[("bytes", V::N(4096))]);
            b.frame(main, "train", ("ddp.py", 5, 0), t, 70 * MS);
            b.line(main, ("ddp.py", 9), None, t, work * MS);
        }
    }
    b.trace
}

#[test]
fn the_late_rank_is_named() {
    let report = judge(&two_ranks());
    assert_eq!(report.verdict.kind, VerdictKind::CommunicationBound);
    assert_eq!(report.stragglers.len(), 1);
    let late = &report.stragglers[0];
    assert_eq!((late.pid, late.rank), (21, Some(1)));
    assert!((35.0..45.0).contains(&late.late_ms), "{}", late.late_ms);
    assert!(late.last_share > 0.9);
    assert!(report.verdict.advice.contains("rank 1 (pid 21)"), "{}", report.verdict.advice);
}

#[test]
fn an_empty_recording_is_inconclusive() {
    let report = judge(&Trace::default());
    assert_eq!(report.verdict.kind, VerdictKind::Inconclusive);
    assert_eq!(report.steps.count, 0);
    assert_eq!(report.breakdown.len(), 8);
}

#[test]
fn a_sleeping_process_is_idle_and_has_no_input() {
    let mut b = Build::capture(&[10]);
    let main = b.process(10, None);
    b.sched(main, "sleep", 1000 * MS, 4000 * MS, 0);
    b.frame(main, "<module>", ("train.py", 1, 0), 1000 * MS, 4000 * MS);
    b.line(main, ("train.py", 7), None, 1000 * MS, 4000 * MS);
    let report = judge(&b.trace);
    assert_eq!(report.verdict.kind, VerdictKind::Idle);
    assert!(report.verdict.advice.contains("train.py:7"), "{}", report.verdict.advice);
}

#[test]
fn checkpoints_are_io_bound_and_name_the_line() {
    let mut b = Build::capture(&[10]);
    let main = b.process(10, None);
    for i in 0..20u64 {
        let t = (1000 + i * 100) * MS;
        b.sched(main, "running", t, 40 * MS, 0);
        b.sched(main, "disk", t + 40 * MS, 60 * MS, 0);
        let args = [("path", V::S("/data/state.pkl"))];
        b.slice(main, Layer::Syscall, "fsync", t + 40 * MS, 60 * MS, &args);
        b.frame(main, "loop", ("t.py", 3, 0), t, 100 * MS);
        b.frame(main, "digest", ("t.py", 9, 4), t, 40 * MS);
        b.line(main, ("t.py", 10), Some("libcrypto.so.3"), t, 40 * MS);
        b.frame(main, "keep_state", ("t.py", 20, 5), t + 40 * MS, 60 * MS);
        b.line(main, ("t.py", 25), None, t + 40 * MS, 60 * MS);
    }
    let report = judge(&b.trace);
    assert_eq!(report.verdict.kind, VerdictKind::IoBound);
    assert!(report.verdict.advice.contains("keep_state (t.py:20)"), "{}", report.verdict.advice);
    assert!((report.steps.p50_ms.unwrap() - 100.0).abs() < 1e-9);
}

#[test]
fn a_diff_says_what_grew() {
    let (before, after) = (judge(&torch_loop(5, 60).trace), judge(&torch_loop(75, 30).trace));
    let diff = compare(&before, &after);
    assert_eq!(diff.p50_ms.before, Some(30.0));
    assert!((diff.p50_ms.ratio.unwrap() - 100.0 / 30.0).abs() < 1e-9);
    let input = diff.breakdown.iter().find(|c| c.category == Category::Input).unwrap();
    assert!((input.delta_s - 0.070).abs() < 1e-6, "{input:?}");
    assert!(diff.verdict.changed);
    assert!(diff.summary.contains("input"), "{}", diff.summary);
    assert_eq!(diff.top[0].name, "SlowDataset.__getitem__ (data.py)");
    let same = compare(&before, &before);
    assert!(same.summary.contains("as long as before") && same.top.is_empty());
}

/// Slices that need not nest, on any layer, with names that mean something.
fn wild() -> impl Strategy<Value = Trace> {
    const NAMES: [&str; 16] = [
        "running",
        "futex",
        "disk",
        "sleep",
        "gil",
        "read",
        "fsync",
        "poll",
        "aten::mm",
        "backward",
        "Optimizer.step#SGD.step",
        "load_batch",
        "train.py:7",
        "gloo::allreduce",
        "cudaStreamSynchronize",
        "save",
    ];
    let layers =
        [Layer::Sched, Layer::Syscall, Layer::Python, Layer::Torch, Layer::Cuda, Layer::Nccl, Layer::Step, Layer::Gpu];
    let slice = (0usize..4, 0usize..layers.len(), 0usize..NAMES.len(), 0u64..2000, 0u64..400, 9u64..14);
    proptest::collection::vec(slice, 0..120).prop_map(move |mut slices| {
        let mut b = Build::capture(&[10]);
        let threads = [b.process(10, Some(0)), b.process(11, None), b.thread(10, 12), b.process(13, Some(1))];
        slices.sort_by_key(|s| s.3);
        for (thread, layer, name, start, dur, n) in slices {
            let args = [("waker", V::N(n)), ("line", V::N(n)), ("file", V::S("/x/data.py")), ("path", V::S("/y"))];
            b.slice(threads[thread], layers[layer], NAMES[name], start * MS, dur * MS, &args);
        }
        b.trace
    })
}

proptest! {
    #[test]
    fn any_recording_is_judged_and_nothing_counts_twice(trace in wild()) {
        let report = judge(&trace);
        let sum: f64 = report.breakdown.iter().map(|r| r.share).sum();
        prop_assert!(sum == 0.0 || (sum - 1.0).abs() < 1e-9, "shares add up to {sum}");
        prop_assert!((0.0..=1.0).contains(&report.verdict.confidence));
        prop_assert_eq!(serde_json::to_string(&report).unwrap(), serde_json::to_string(&judge(&trace)).unwrap());
        compare(&report, &report);
    }

    #[test]
    fn the_breakdown_is_exactly_the_time_from_first_to_last_boundary(trace in wild()) {
        let index = super::index::Index::new(&trace);
        let roles = super::roles::Roles::of(&index);
        for driver in &roles.drivers {
            let found = super::steps::find(&index, *driver);
            let swept = super::breakdown::sweep(&index, &roles, *driver, &found.boundaries);
            let span = found.boundaries.last().copied().unwrap_or(0) - found.boundaries.first().copied().unwrap_or(0);
            prop_assert_eq!(swept.all_ns(), span);
            prop_assert_eq!(swept.steps.iter().flatten().sum::<u64>(), span);
            prop_assert_eq!(swept.causes.values().map(|t| t.ns).sum::<u64>(), span);
        }
    }
}

/// PyTorch's profiler records `get_worker_info` of worker.py in the main process, too.
#[test]
fn asking_for_the_worker_does_not_make_a_worker() {
    let mut b = torch_loop(75, 30);
    let main = crate::trace::ThreadId(0);
    let file = "/usr/lib/python3/dist-packages/torch/utils/data/_utils/worker.py";
    b.frame(main, "get_worker_info", (file, 90, 1), 4000 * MS, MS);
    assert_eq!(judge(&b.trace).verdict.kind, VerdictKind::InputBound);
}

/// A child forked below `main` has its parent's frames around its own.
#[test]
fn forked_workers_are_no_ranks() {
    let mut b = Build::capture(&[10]);
    let (main, worker) = (b.process(10, None), b.process(11, None));
    for i in 0..30u64 {
        let t = (1000 + i * 50) * MS;
        b.sched(main, "futex", t, 45 * MS, 11);
        b.sched(main, "running", t + 45 * MS, 5 * MS, 0);
        b.frame(main, "main", ("t.py", 1, 0), t, 50 * MS);
        b.sched(worker, "running", t, 40 * MS, 0);
        b.sched(worker, "pipe", t + 40 * MS, 10 * MS, 10);
        b.frame(worker, "main", ("t.py", 1, 0), t, 50 * MS);
        let process = "/usr/lib/python3.11/multiprocessing/process.py";
        b.frame(worker, "BaseProcess._bootstrap", (process, 290, 9), t, 50 * MS);
        b.frame(worker, "expand", ("t.py", 20, 108), t, 40 * MS);
    }
    let report = judge(&b.trace);
    assert_eq!(report.processes[1].role, "worker");
    assert_eq!(report.verdict.kind, VerdictKind::InputBound);
}

/// A launcher that was recorded from its start, two ranks, and a short child of one of them, which
/// has its rank by inheritance.
#[test]
fn launchers_and_inherited_ranks_drive_nothing() {
    let mut b = Build::capture(&[10]);
    let launcher = b.process(10, None);
    b.sched(launcher, "running", 1000 * MS, 200 * MS, 0);
    b.sched(launcher, "wait", 1200 * MS, 1300 * MS, 0);
    b.frame(launcher, "launch", ("run.py", 1, 0), 1000 * MS, 1500 * MS);
    for (pid, rank) in [(20, 0), (21, 1), (22, 1)] {
        let main = b.process(pid, Some(rank));
        let beats = if pid == 22 { 1 } else { 30 };
        for i in 0..beats {
            let t = (1000 + i * 50) * MS;
            b.sched(main, "running", t, 50 * MS, 0);
            b.frame(main, "train", ("run.py", 9, 0), t, 50 * MS);
        }
    }
    let report = judge(&b.trace);
    let mains: Vec<u32> = report.processes.iter().filter(|p| p.role == "main").map(|p| p.pid).collect();
    assert_eq!(mains, [20, 21]);
}

/// The main thread waits for a library's thread, which is woken by one that polls sockets.
#[test]
fn a_wait_is_followed_through_the_threads_that_move_data() {
    let mut b = Build::capture(&[10]);
    let main = b.process(10, None);
    let (runner, poller) = (b.thread(10, 12), b.thread(10, 13));
    for i in 0..30u64 {
        let t = (1000 + i * 50) * MS;
        b.sched(main, "futex", t, 40 * MS, 12);
        b.sched(main, "running", t + 40 * MS, 10 * MS, 0);
        b.op(main, "aten::mm", t + 40 * MS, 9 * MS);
        b.op(main, "Optimizer.step#SGD.step", t + 49 * MS, MS);
        b.sched(runner, "futex", t, 50 * MS, 13);
        b.sched(poller, "poll", t, 49 * MS, 0);
        b.sched(poller, "running", t + 49 * MS, MS, 0);
    }
    let report = judge(&b.trace);
    assert_eq!(report.verdict.kind, VerdictKind::CommunicationBound);
    assert!((share(&report, Category::Communication) - 0.8).abs() < 0.01);
}
