//! A process that is not profiled pays nothing, even if it maps the same libraries.
//!
//! A program of its own, since captures of other tests may probe the same library for everyone.
#![allow(clippy::unwrap_used, reason = "what a test needs fails it where it is missing")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aictl::profile::{CaptureOptions, CaptureProgress, capture};
use aictl::trace::MemorySink;

/// The breakpoint that a probe is.
const INT3: &str = "cc";

/// A process that tells what stands at the beginning of an operator in its own memory.
struct Witness {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Witness {
    fn start(python: &Path) -> Witness {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/bystander.py");
        let mut child = Command::new(python).arg(script).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut witness = Witness { child, lines };
        assert_eq!(witness.line(), "ready");
        witness
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// What it finds from now on, so many times: old news in its pipe is passed over.
    fn look(&mut self, count: usize) -> Vec<String> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = now.tv_sec * 1_000_000_000 + now.tv_nsec;
        let mut seen = Vec::new();
        while seen.len() < count {
            let line = self.line();
            let (when, byte) = line.split_once(' ').unwrap();
            if when.parse::<i64>().unwrap() > now {
                seen.push(byte.to_owned());
            }
        }
        seen
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bystander_runs_its_own_code() {
    if !support::require("root and a kernel with BTF", support::can_trace()) {
        return;
    }
    let Some(python) = support::require_some("python3-torch", support::system_torch()) else { return };
    let (mut target, mut bystander) = (Witness::start(&python), Witness::start(&python));
    let clean = (0..60).any(|_| !bystander.look(20).iter().any(|byte| byte == INT3));
    assert!(clean, "another profiler of this machine has probes in PyTorch all the time");
    let options = CaptureOptions {
        pids: vec![target.child.id()],
        duration: Some(Duration::from_secs(2)),
        max_overhead: 100.0,
        ..CaptureOptions::default()
    };
    let (mut of_target, mut of_bystander) = (Vec::new(), Vec::new());
    capture(&options, &mut MemorySink::new(), &AtomicBool::new(false), &mut |progress| {
        if matches!(progress, CaptureProgress::Attached { .. }) {
            of_target.extend(target.look(20));
            of_bystander.extend(bystander.look(20));
        }
    })
    .unwrap();
    assert!(of_target.iter().any(|byte| byte == INT3), "the target was probed: {of_target:?}");
    assert!(!of_bystander.iter().any(|byte| byte == INT3), "the bystander was not: {of_bystander:?}");
}
