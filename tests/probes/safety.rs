//! Whatever happens, the process that is watched goes on and computes what it should.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::rig::{Running, Seen, record_until};
use crate::support;
use crate::torch::{new, old, script};

fn trouble(python: &Path) -> Running {
    Running::start(Command::new(python).arg(script("torch_trouble.py")))
}

/// Lets it end, and checks that it did so well.
fn end(mut target: Running) {
    target.tell("end");
    let line = target.line();
    let counts: Vec<u64> = line.split(' ').map(|n| n.parse().expect("the target died")).collect();
    assert!(counts[0] > 1000 && counts[1] > 100, "it hardly ran: {line}");
    assert_eq!(counts[2], 0, "wrong results: {line}");
    assert!(target.child.wait().unwrap().success());
}

fn survives_a_capture(python: &Path) {
    let target = trouble(python);
    // On a busy machine that takes longer.
    let (mut count, mut threads) = (0, std::collections::BTreeSet::new());
    let enough = move |seen: &Seen| {
        if seen.name == "aten::mm" {
            count += 1;
            threads.insert(seen.tid);
        }
        count > 400 && threads.len() > 4
    };
    let captured = record_until(target.pid(), enough, || ());
    assert!(captured.named("aten::mm").len() > 100, "{}", captured.summary());
    // Of an operator that threw only its absence is recorded, and its callers stay right.
    captured.assert_nested(&[aictl::trace::Layer::Torch]);
    let threads: std::collections::BTreeSet<_> = captured.named("aten::mm").iter().map(|s| s.tid).collect();
    assert!(threads.len() > 4, "{threads:?}");
    end(target);
}

#[test]
fn errors_threads_forks_and_libraries_of_an_old_pytorch() {
    if let Some(python) = old() {
        survives_a_capture(&python);
    }
}

#[test]
fn errors_threads_forks_and_libraries_of_a_current_pytorch() {
    if let Some(python) = new() {
        survives_a_capture(&python);
    }
}

#[test]
fn probes_come_and_go_while_it_runs() {
    let Some(python) = old() else { return };
    let target = trouble(&python);
    for _ in 0..5 {
        let mut count = 0;
        let some = move |_: &Seen| {
            count += 1;
            count > 200
        };
        let captured = record_until(target.pid(), some, || ());
        assert!(!captured.slices.is_empty());
    }
    end(target);
}

#[test]
fn aictl_killed_leaves_nothing_behind() {
    let Some(python) = old() else { return };
    let target = trouble(&python);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace.perfetto");
    for _ in 0..3 {
        let mut aictl = Command::new(env!("CARGO_BIN_EXE_aictl"))
            .args(["profile", "--max-overhead", "100%", "-d", "60s", "--pid", &target.pid().to_string(), "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let attached = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            std::fs::metadata(&file).is_ok_and(|f| f.len() > 100_000)
        });
        aictl.kill().unwrap();
        aictl.wait().unwrap();
        if !support::require("a working `aictl profile`", attached) {
            return;
        }
        std::fs::remove_file(&file).unwrap();
    }
    end(target);
}
