//! Captures of real processes on the real kernel, in memory.
#![allow(clippy::unwrap_used, reason = "what a test needs fails it where it is missing")]

mod support;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aictl::profile::{CaptureError, CaptureOptions, CaptureProgress, Layers, capture};
use aictl::trace::{CaptureMeta, Layer, LayerState, MemorySink, Parent, Slice, Trace, Track};

/// A Python script under watch; killed at the end.
struct Script {
    child: Child,
    directory: tempfile::TempDir,
    /// How much it has said so far: a byte when it begins, and more if it wants to.
    said: Arc<AtomicUsize>,
}

impl Script {
    /// Starts it, and waits until it has come to its own code, whose first line is the second.
    fn start(source: &str) -> Script {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new("/usr/bin/python3")
            .arg("-c")
            .arg(format!("print('.', end='', flush=True)\n{source}"))
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        let said = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&said);
        std::thread::spawn(move || {
            while stdout.read_exact(&mut [0]).is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Script { child, directory, said }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn can_trace() -> bool {
    support::require("root and a kernel with BTF", support::can_trace())
        && support::require("/usr/bin/python3", std::path::Path::new("/usr/bin/python3").exists())
}

fn options(pid: u32) -> CaptureOptions {
    // A crowded test machine may make probes dear; what is tested here must not be thinned.
    CaptureOptions { pids: vec![pid], duration: Some(Duration::from_secs(3)), max_overhead: 1.0, ..Default::default() }
}

fn record(options: &CaptureOptions) -> (Trace, CaptureMeta) {
    let mut sink = MemorySink::new();
    let meta = capture(options, &mut sink, &AtomicBool::new(false), &mut |_| {}).unwrap();
    (sink.into_trace(), meta)
}

/// Captures until the script has said so many bytes more.
fn record_until_said(options: &CaptureOptions, script: &Script, count: usize) -> (Trace, CaptureMeta) {
    let (mut sink, stop, mut before) = (MemorySink::new(), AtomicBool::new(false), None);
    let meta = capture(options, &mut sink, &stop, &mut |progress| {
        let said = script.said.load(Ordering::Relaxed);
        if matches!(progress, CaptureProgress::Attached { .. }) {
            before = Some(said);
        }
        if before.is_some_and(|before| said >= before + count) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    (sink.into_trace(), meta.unwrap())
}

fn thread_tracks(trace: &Trace, pid: u32, layer: Layer) -> Vec<&Track> {
    let of_pid = |track: &&Track| match track.parent {
        Parent::Thread(thread) => trace.processes[trace.threads[thread.0 as usize].process.0 as usize].pid == pid,
        _ => false,
    };
    trace.tracks.iter().filter(|t| t.layer == layer).filter(of_pid).collect()
}

/// Total time of slices of a name on a process's tracks of a layer, s.
fn seconds(trace: &Trace, pid: u32, layer: Layer, name: &str) -> f64 {
    let slices = thread_tracks(trace, pid, layer).into_iter().flat_map(|track| &track.slices);
    slices.filter(|s| trace.text(s.name) == name).map(|s| s.dur_ns as f64 / 1e9).sum()
}

#[test]
fn a_sleeper_that_computes_is_seen_doing_both() {
    if !can_trace() {
        return;
    }
    let script = Script::start(
        "import time\nwhile True:\n  end = time.process_time() + 0.05\n  while time.process_time() < end: pass\n  time.sleep(0.05)\n  print('.', end='', flush=True)",
    );
    // Ten rounds, however long a busy machine takes for them.
    let mut wanted = options(script.pid());
    wanted.duration = Some(Duration::from_secs(60));
    let (trace, meta) = record_until_said(&wanted, &script, 10);
    let (sleep, running) =
        (seconds(&trace, script.pid(), Layer::Sched, "sleep"), seconds(&trace, script.pid(), Layer::Sched, "running"));
    let waiting: f64 =
        ["preempted", "futex", "blocked"].map(|n| seconds(&trace, script.pid(), Layer::Sched, n)).iter().sum();
    assert!(sleep > 0.3 && running > 0.3, "sleep {sleep} running {running}");
    // The thread is somewhere all the time, and nowhere twice.
    let whole = (meta.end_ns - meta.start_ns) as f64 / 1e9;
    assert!((sleep + running + waiting - whole).abs() < 0.1 * whole, "{sleep} + {running} + {waiting} of {whole}");
    let calls: u64 = meta.syscalls.iter().filter(|c| c.name == "clock_nanosleep").map(|c| c.count).sum();
    assert!(calls >= 5, "{:?}", meta.syscalls);
    assert_eq!(meta.lost.slices + meta.lost.samples + meta.lost.rare, 0);
}

#[test]
fn files_come_with_path_and_bytes() {
    if !can_trace() {
        return;
    }
    let script = Script::start(
        "import os, time\nwhile True:\n  with open('data.bin', 'wb', buffering=0) as f:\n    f.write(b'x' * 3_000_000); os.fsync(f.fileno())\n  f = open('data.bin', 'rb', buffering=0)\n  while f.read(1_000_000): pass\n  print('.', end='', flush=True)\n  time.sleep(0.02)",
    );
    let mut wanted = options(script.pid());
    wanted.syscall_threshold = Duration::ZERO;
    // However slow the disk is: some rounds.
    wanted.duration = Some(Duration::from_secs(60));
    let (trace, meta) = record_until_said(&wanted, &script, 5);
    let row = |op: &str| meta.files.iter().find(|f| f.op == op && f.path.ends_with("/data.bin")).cloned();
    let (read, write) = (row("read").expect("reads"), row("write").expect("writes"));
    assert!(write.count > 0 && write.bytes == write.count * 3_000_000, "{write:?}");
    // Three full reads and one at the end of the file; the capture may begin or end within a round.
    assert!(read.bytes / 1_000_000 * 4 / 3 >= read.count - 4, "{read:?}");
    assert!(row("fsync").is_some());
    let tracks = thread_tracks(&trace, script.pid(), Layer::Syscall);
    // It writes to its stdout, too.
    let to_file = |s: &&Slice| trace.arg_str(s.args, "path").is_some_and(|path| path.ends_with("/data.bin"));
    let mut writes = tracks.iter().flat_map(|t| &t.slices).filter(|s| trace.text(s.name) == "write");
    let written = writes.find(to_file).expect("a write");
    assert_eq!(trace.arg_u64(written.args, "bytes"), Some(3_000_000));
    let blocks = trace.tracks.iter().filter(|t| t.layer == Layer::Io && trace.text(t.name).starts_with("block "));
    let flushed: u64 = blocks.flat_map(|t| &t.slices).filter_map(|s| trace.arg_u64(s.args, "bytes")).sum();
    // tmpfs has no block device below it.
    if rustix::fs::statfs(script.directory.path()).is_ok_and(|fs| fs.f_type != 0x0102_1994) {
        assert!(flushed >= 3_000_000, "{flushed} bytes of block requests");
    }
}

#[test]
fn forks_are_followed() {
    if !can_trace() {
        return;
    }
    let script = Script::start(
        "import os, time\nwhile True:\n  pid = os.fork()\n  if pid == 0:\n    end = time.process_time() + 0.02\n    while time.process_time() < end: pass\n    os._exit(0)\n  os.waitpid(pid, 0)",
    );
    let (trace, _) = record(&options(script.pid()));
    let children: Vec<u32> = trace.processes.iter().map(|p| p.pid).filter(|pid| *pid != script.pid()).collect();
    assert!(children.len() >= 5, "{children:?}");
    // Each ran 20 ms and ended, most of them without ever leaving the CPU; the first and the last may be cut.
    let ran = children.iter().filter(|pid| seconds(&trace, **pid, Layer::Sched, "running") > 0.015).count();
    assert!(ran + 2 >= children.len(), "{ran} of {}", children.len());
    assert!(seconds(&trace, script.pid(), Layer::Sched, "wait") > 0.0, "the parent waits for them");
}

#[test]
fn a_pipe_a_socket_and_a_lock_are_told_apart() {
    if !can_trace() {
        return;
    }
    let script = Script::start(
        "import os, socket, threading, time\nr, w = os.pipe(); a, b = socket.socketpair(); lock = threading.Event()\n\
         threading.Thread(target=lambda: [os.read(r, 1) for _ in range(10**9)], daemon=True).start()\n\
         threading.Thread(target=lambda: [a.recv(1) for _ in range(10**9)], daemon=True).start()\n\
         threading.Thread(target=lambda: [lock.wait() and lock.clear() for _ in range(10**9)], daemon=True).start()\n\
         while True:\n  time.sleep(0.02); os.write(w, b'x'); b.send(b'x'); lock.set()",
    );
    let (trace, _) = record(&options(script.pid()));
    for reason in ["pipe", "socket", "futex", "sleep"] {
        let time = seconds(&trace, script.pid(), Layer::Sched, reason);
        assert!(time > 0.5, "{reason} {time}");
    }
}

#[test]
fn python_frames_name_the_line_that_runs() {
    if !can_trace() {
        return;
    }
    let script = Script::start(
        "def inner():\n  return sum(range(20000))\ndef outer():\n  while True:\n    for _ in range(500): inner()\n    print('.', end='', flush=True)\nouter()",
    );
    let mut wanted = options(script.pid());
    wanted.duration = Some(Duration::from_secs(60));
    let (trace, meta) = record_until_said(&wanted, &script, 8);
    let inner = seconds(&trace, script.pid(), Layer::Python, "inner");
    assert!(inner > 0.3, "{inner} s in inner");
    assert!(meta.pythons.iter().any(|p| p.pid == script.pid()));
    let tracks = thread_tracks(&trace, script.pid(), Layer::Python);
    let line = tracks.iter().flat_map(|t| &t.slices).find(|s| trace.text(s.name) == "<string>:3").expect("a line");
    assert_eq!(trace.arg_u64(line.args, "line"), Some(3));
}

#[test]
fn only_the_layers_asked_for_are_captured() {
    if !can_trace() {
        return;
    }
    let script = Script::start("import time\nwhile True: time.sleep(0.001)");
    let mut wanted = options(script.pid());
    wanted.layers = Layers::none().with(Layer::Sched);
    wanted.duration = Some(Duration::from_secs(1));
    let (trace, meta) = record(&wanted);
    assert!(trace.tracks.iter().all(|t| matches!(t.layer, Layer::Sched | Layer::Meta)));
    assert!(meta.syscalls.is_empty() && meta.files.is_empty());
    assert_eq!(meta.layers.len(), 1);
    assert_eq!(meta.layers[0].state, LayerState::On);
}

#[test]
fn a_budget_of_nothing_gives_up_what_is_dear() {
    if !can_trace() {
        return;
    }
    let script = Script::start("import os\nwhile True: os.getppid()");
    let mut wanted = options(script.pid());
    wanted.max_overhead = 0.001;
    wanted.duration = Some(Duration::from_secs(4));
    let (_, meta) = record(&wanted);
    assert!(!meta.thinned.is_empty());
    let calls = meta.layers.iter().find(|l| l.layer == "syscall").unwrap();
    assert_eq!(calls.state, LayerState::Dropped, "{:?} {:?}", meta.layers, meta.thinned);
}

#[test]
fn the_capture_ends_with_its_target_and_on_request() {
    if !can_trace() {
        return;
    }
    let mut script = Script::start("import sys; sys.stdin.read()");
    let mut wanted = options(script.pid());
    wanted.duration = None;
    let meta = capture(&wanted, &mut MemorySink::new(), &AtomicBool::new(false), &mut |progress| {
        if matches!(progress, CaptureProgress::Recording { .. }) {
            drop(script.child.stdin.take());
        }
    });
    let meta = meta.unwrap();
    assert!(meta.end_ns > meta.start_ns);

    let script = Script::start("import time; time.sleep(600)");
    let mut wanted = options(script.pid());
    wanted.duration = None;
    let stop = AtomicBool::new(false);
    let mut sink = MemorySink::new();
    let meta = capture(&wanted, &mut sink, &stop, &mut |progress| {
        if matches!(progress, CaptureProgress::Recording { .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    meta.unwrap();
    // It slept throughout and never switched: that is known all the same.
    assert!(seconds(&sink.into_trace(), script.pid(), Layer::Sched, "sleep") > 0.0);
}

#[test]
fn no_such_process_is_said() {
    let error = capture(&options(0x3fff_fff0), &mut MemorySink::new(), &AtomicBool::new(false), &mut |_| {});
    assert!(matches!(error, Err(CaptureError::NoSuchProcess(0x3fff_fff0))));
}
