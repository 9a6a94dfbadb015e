//! Real interpreters on the real kernel. AICTL_TEST_PYTHONS (paths, joined by colons) adds to
//! those found; root, clang and at least one CPython 3.9 or newer are needed, else the test is skipped.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{PerfEvent, RawTracePoint};
use aya::{Ebpf, EbpfLoader};

use super::test_sink::{Recorder, Seen};
use super::*;
use crate::host::maps;
use crate::profile::loader::Settings;
use crate::profile::{Layers, records};

const WORK: &str = include_str!("fixtures/work.py");
const MAIN: &str = r#"
#include "python.bpf.h"
char LICENSE[] SEC("license") = "GPL";
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 4096); __type(key, u32); __type(value, u64); } starts SEC(".maps");
SEC("raw_tracepoint/sys_enter") int on_enter(void *ctx)
{
	u64 both = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();
	u32 tid = both;
	if (target_of(both >> 32))
		bpf_map_update_elem(&starts, &tid, &now, 0);
	return 0;
}
SEC("raw_tracepoint/sys_exit") int on_exit(void *ctx)
{
	u64 both = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();
	u32 tid = both;
	u64 *start = bpf_map_lookup_elem(&starts, &tid);
	struct settings *settings = get_settings();
	if (start && settings && now - *start >= settings->wait_stack_threshold)
		python_wait_stack(*start, now, both >> 32);
	return 0;
}
"#;

/// Why a live test can't run here; panics instead where everything must run.
fn skipped(why: &str) {
    assert!(std::env::var_os("AICTL_REQUIRE_ALL").is_none(), "cannot run: {why}");
    println!("skipped: {why}");
}

fn clang() -> Option<&'static str> {
    ["clang-19", "clang"].into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

fn load() -> Result<Ebpf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    let clang = clang().ok_or("no clang")?;
    let folder = tempfile::tempdir().unwrap();
    let (source, object) = (folder.path().join("main.bpf.c"), folder.path().join("main.bpf.o"));
    std::fs::write(&source, MAIN).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile/bpf");
    let output = Command::new(clang)
        .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-Wall", "-Werror", "-D__TARGET_ARCH_x86", "-I"])
        .arg(include)
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    EbpfLoader::new().load_file(&object).map_err(|error| format!("eBPF: {error}"))
}

/// Interpreters to watch, one a version and file.
fn interpreters() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let named = std::env::var("AICTL_TEST_PYTHONS").unwrap_or_default();
    found.extend(named.split(':').filter(|path| !path.is_empty()).map(PathBuf::from));
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for minor in 9..=14 {
        let name = format!("python3.{minor}");
        let mut folders = vec![PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")];
        if let Ok(versions) = std::fs::read_dir(home.join(".pyenv/versions")) {
            folders.extend(versions.flatten().map(|entry| entry.path().join("bin")));
        }
        found.extend(folders.into_iter().map(|folder| folder.join(&name)).filter(|path| path.exists()));
    }
    let mut seen = BTreeSet::new();
    found.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    found
}

struct Work(Child);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts work.py and leaves its standard output to the caller.
fn spawn(python: &Path, seconds: f64) -> Work {
    let child = Command::new(python)
        .args(["-c", "import sys; exec(compile(sys.argv[1], '/x/work.py', 'exec'))", WORK])
        .arg(seconds.to_string())
        .stdout(Stdio::piped())
        .spawn();
    Work(child.unwrap())
}

fn start(python: &Path, seconds: f64) -> Work {
    let mut work = spawn(python, seconds);
    let mut line = String::new();
    BufReader::new(work.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    work
}

fn counter(map: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
    map.get(&index, 0).unwrap().iter().sum()
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many threads of a process sleep in a futex in a range of addresses.
fn threads_waiting_in(pid: u32, (start, end): (u64, u64)) -> usize {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let waits = |task: &std::fs::DirEntry| {
        let call = std::fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
        let mut fields = call.split(' ');
        let futex = fields.next() == Some("202");
        let address = fields.next().and_then(|text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok());
        futex && address.is_some_and(|address| (start..end).contains(&address))
    };
    tasks.flatten().filter(waits).count()
}

struct Watched {
    slices: Vec<Seen>,
    samples: u64,
    waits: u64,
    failed: u64,
    lost: u64,
    gil: Option<(u64, u64)>,
    meta: PythonMeta,
    certain_slot: bool,
    /// Threads seen waiting for a futex of the GIL.
    gil_waits: usize,
    /// Time in `on_sample` for a sample of the target, ns.
    cost: f64,
}

/// Watches a process for a while, as the capture does.
fn watch(mut bpf: Ebpf, pid: u32, hz: u32, duration: Duration, change: impl FnOnce(&mut PyProcess)) -> Watched {
    let mut targets: HashMap<_, u32, [u64; 3]> = HashMap::try_from(bpf.take_map("targets").unwrap()).unwrap();
    targets.insert(pid, [0; 3], 0).unwrap();
    let mut settings: Array<_, Settings> = Array::try_from(bpf.take_map("settings").unwrap()).unwrap();
    let layers = Layers::none().with(Layer::Python).bits();
    settings.set(0, Settings { wait_stack_threshold: 1_000_000, layers, ..Settings::default() }, 0).unwrap();
    let hits = PerCpuArray::try_from(bpf.take_map("hits").unwrap()).unwrap();
    let lost = PerCpuArray::try_from(bpf.take_map("lost").unwrap()).unwrap();
    let mut ring = RingBuf::try_from(bpf.take_map("samples").unwrap()).unwrap();
    let mut pythons = Pythons::new(HashMap::try_from(bpf.take_map("py_procs").unwrap()).unwrap());
    pythons.set_hz(hz);
    let begun = Instant::now();
    let meta = loop {
        if let Some(meta) = pythons.add(pid, &maps::of(pid).unwrap()).unwrap() {
            break meta;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "there is Python");
        std::thread::sleep(Duration::from_millis(1));
    };
    let again = pythons.add(pid, &maps::of(pid).unwrap()).unwrap();
    assert_eq!(again.as_ref(), Some(&meta), "adding twice changes nothing");
    let mut process = pythons.py_procs.get(&pid, 0).unwrap();
    change(&mut process);
    pythons.py_procs.insert(pid, process, 0).unwrap();

    for (name, point) in [("on_enter", "sys_enter"), ("on_exit", "sys_exit")] {
        let program: &mut RawTracePoint = bpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap();
        program.attach(point).unwrap();
    }
    let program: &mut PerfEvent = bpf.program_mut("on_sample").unwrap().try_into().unwrap();
    program.load().unwrap();
    Sampler::attach(program, 11).unwrap().detach(program).unwrap();
    let sampler = Sampler::attach(program, hz).unwrap();

    let mut recorder = Recorder::default();
    let mut out = Output::new(&mut recorder);
    let _stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let mut gil_waits = 0;
    let begun = Instant::now();
    // On a busy machine it takes longer to see enough.
    while begun.elapsed() < duration || (counter(&hits, 3) < 500 && begun.elapsed() < Duration::from_secs(30)) {
        std::thread::sleep(Duration::from_millis(50));
        gil_waits += pythons.gil_range(pid).map_or(0, |range| threads_waiting_in(pid, range));
        while let Some(record) = ring.next() {
            let head: StackHead = records::read(&record).unwrap();
            let frames: Vec<Frame> = record[size_of::<StackHead>()..]
                .chunks_exact(size_of::<Frame>())
                .map(|frame| records::read(frame).unwrap())
                .collect();
            assert_eq!(frames.len(), usize::from(head.head.aux));
            pythons.stack(&head, &frames, &mut out).unwrap();
        }
        pythons.tick(now_ns(), &mut out).unwrap();
    }
    let info = match bpf.program("on_sample").unwrap() {
        aya::programs::Program::PerfEvent(program) => program.info().unwrap(),
        _ => unreachable!("on_sample is a perf event program"),
    };
    let samples = counter(&hits, 3);
    // A run that finds another process costs some 60 ns.
    let others = info.run_count().saturating_sub(samples) as f64;
    let cost = (info.run_time().as_nanos() as f64 - 60.0 * others) / samples.max(1) as f64;
    sampler.detach(bpf.program_mut("on_sample").unwrap().try_into().unwrap()).unwrap();
    let certain_slot = pythons.processes[&pid].running.is_some_and(|running| running.tls != (0, 0));
    assert!(pythons.started().contains(&pid));
    let gil = pythons.gil_range(pid);
    pythons.remove(pid);
    pythons.finish(now_ns(), &mut out).unwrap();
    assert!(recorder.open.values().all(Vec::is_empty), "everything was closed");
    Watched {
        slices: recorder.slices,
        samples,
        waits: counter(&hits, 4),
        failed: counter(&lost, 4),
        lost: counter(&lost, 1),
        gil,
        meta,
        certain_slot,
        gil_waits,
        cost,
    }
}

/// Line number of the first line of work.py that contains `text`.
fn line_of(text: &str) -> String {
    (WORK.lines().position(|line| line.contains(text)).unwrap() + 1).to_string()
}

fn check(python: &Path, watched: &Watched) {
    let what = format!("{} {}", python.display(), watched.meta.version);
    let Watched { slices, .. } = watched;
    let walked = slices.len();
    println!(
        "{what}: {} samples of {:.0} ns, {} waits, {} not walked, {} lost, {walked} slices, slot {}",
        watched.samples, watched.cost, watched.waits, watched.failed, watched.lost, watched.certain_slot
    );
    assert!(watched.samples > 50, "{what}");
    assert!(watched.failed * 20 < watched.samples + watched.waits, "{what}: {} failed", watched.failed);
    assert_eq!(watched.lost, 0, "{what}");
    assert!(watched.gil.is_some(), "{what}");
    assert!(watched.gil_waits > 0, "{what}: two threads want the GIL, and none was seen waiting for it");
    let qualified = watched.meta.version.split('.').nth(1).unwrap().parse::<u32>().unwrap() >= 11;
    let method = |name: &str| if qualified { format!("Model.{name}") } else { name.to_owned() };
    for name in ["main", "leaf", "recurse", "generate", "consume", "native", "pause", "task", "worker"]
        .map(str::to_owned)
        .into_iter()
        .chain([method("forward"), method("inner")])
    {
        assert!(slices.iter().any(|s| s.name == name && s.args["file"] == "/x/work.py"), "{what}: no {name}");
    }
    // Chains of calls and their lines.
    for slice in slices.iter().filter(|s| s.name == method("inner")) {
        assert_eq!(slice.args["line"], line_of("def inner"), "{what}");
        assert_eq!(slices[slice.parent.unwrap()].name, method("forward"), "{what}");
        assert_eq!(slice.args["call_line"], line_of("return self.inner"), "{what}");
    }
    let leaf: BTreeSet<String> =
        ["def leaf", "total = 0", "for i in range(n)", "total += i * i", "return total"].map(line_of).into();
    let parent_name = |s: &Seen| s.parent.map_or("", |parent| slices[parent].name.as_str());
    for line in slices.iter().filter(|s| parent_name(s) == "leaf" && s.name.contains(':')) {
        assert!(leaf.contains(&line.args["line"]), "{what}: {}", line.name);
        assert_eq!(line.name, format!("work.py:{}", line.args["line"]));
    }
    // 200 calls deep: the outermost are cut off in the kernel, and put back here.
    assert!(slices.iter().any(|s| s.name == "leaf" && s.depth >= 120), "{what}: the recursion is not deep");
    // Waiting: exact, on its line, and as long as the sleep.
    let sleep = format!("work.py:{}", line_of("time.sleep"));
    let slept: Vec<_> = slices.iter().filter(|s| s.name == sleep && s.args.contains_key("waiting")).collect();
    assert!(slept.len() > 3, "{what}: {} sleeps", slept.len());
    // After most sleeps comes a wait for the GIL; a sample may cut a sleep's start off, and on a
    // crowded machine most are longer. Whole ones there must be.
    let whole = slept.iter().filter(|s| s.end - s.start >= 19_000_000).count();
    assert!(whole > 2, "{what}: {whole} of {} are sleeps", slept.len());
    // Below Python.
    let compress = format!("work.py:{}", line_of("zlib.compress"));
    let libraries: BTreeSet<_> =
        slices.iter().filter(|s| s.name == compress).filter_map(|s| s.args.get("native")).collect();
    assert!(libraries.iter().any(|name| name.contains("libz") || name.contains("zlib")), "{what}: {libraries:?}");
    // The main thread's holder of the GIL is known.
    let held = slices.iter().filter(|s| s.args.contains_key("gil")).count();
    assert!(held > 10, "{what}: the GIL was held {held} times");
    let unknown = slices.iter().filter(|s| s.name == "<unknown>").count();
    assert!(unknown * 20 < walked, "{what}: {unknown} of {walked} have no name");
}

fn each_interpreter(seconds: u64, change: impl Fn(&mut PyProcess)) {
    let mut count = 0;
    for python in interpreters() {
        let bpf = match load() {
            Ok(bpf) => bpf,
            Err(why) => {
                skipped(&why);
                return;
            }
        };
        let work = start(&python, 60.0);
        let watched = watch(bpf, work.0.id(), 199, Duration::from_secs(seconds), &change);
        check(&python, &watched);
        count += 1;
    }
    if count == 0 {
        skipped("no CPython 3.9 to 3.14");
    }
}

#[test]
fn every_interpreter_here_is_walked_and_named() {
    each_interpreter(3, |process| assert_ne!(process.tls, 0, "the thread state's slot is found"));
}

#[test]
fn threads_are_found_without_the_slot() {
    each_interpreter(2, |process| (process.tls, process.tls_block) = (0, 0));
}

#[test]
fn an_interpreter_that_is_still_starting_is_found_when_it_runs() {
    let pythons = interpreters();
    let (Some(python), Ok(bpf)) = (pythons.last(), load()) else {
        return skipped("root, clang and a CPython are needed");
    };
    let work = spawn(python, 60.0);
    let watched = watch(bpf, work.0.id(), 199, Duration::from_secs(3), |_| {});
    assert!(watched.certain_slot);
    check(python, &watched);
}

#[test]
fn an_old_python_is_declined_with_a_word() {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let Ok(versions) = std::fs::read_dir(home.join(".pyenv/versions")) else { return skipped("no pyenv") };
    let old = versions.flatten().map(|version| version.path().join("bin/python3.8")).find(|path| path.exists());
    let (Some(python), Ok(mut bpf)) = (old, load()) else {
        return skipped("root, clang and a CPython 3.8 of pyenv are needed");
    };
    let work = start(&python, 60.0);
    let pid = work.0.id();
    let mut pythons = Pythons::new(HashMap::try_from(bpf.take_map("py_procs").unwrap()).unwrap());
    let error = pythons.add(pid, &maps::of(pid).unwrap()).unwrap_err();
    assert!(error.contains("CPython 3.8") && error.contains("3.9 to 3.14"), "{error}");
    assert_eq!(pythons.add(pid, &maps::of(pid).unwrap()), Ok(None), "said once");
}

#[test]
fn an_exec_changes_the_python_and_then_takes_it_away() {
    let pythons_here = interpreters();
    let (Some(first), Some(last), Ok(mut bpf)) = (pythons_here.first(), pythons_here.last(), load()) else {
        return skipped("root, clang and a CPython are needed");
    };
    let mut pythons = Pythons::new(HashMap::try_from(bpf.take_map("py_procs").unwrap()).unwrap());
    let script = "import os, sys; input(); os.execv(sys.argv[1], sys.argv[1:])";
    let mut child = Command::new(first)
        .args(["-c", script])
        .args([last.as_os_str(), "-c".as_ref(), script.as_ref(), "/bin/sleep".as_ref(), "60".as_ref()])
        .stdin(Stdio::piped())
        .spawn()
        .map(Work)
        .unwrap();
    let pid = child.0.id();
    let mut stdin = child.0.stdin.take().unwrap();
    let begun = Instant::now();
    let mut see = |wanted: &dyn Fn(Option<&PythonMeta>) -> bool| loop {
        let found = pythons.add(pid, &maps::of(pid).unwrap()).unwrap();
        if wanted(found.as_ref()) {
            break (found, pythons.py_procs.get(&pid, 0).ok());
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{found:?}");
        std::thread::sleep(Duration::from_millis(10));
    };
    let (meta, before) = see(&|found| found.is_some());
    let version = meta.unwrap().version;
    writeln!(stdin).unwrap();
    if pythons_here.len() > 1 {
        let (_, after) = see(&|found| found.is_some_and(|meta| meta.version != version));
        assert_ne!(before, after);
    } else {
        std::thread::sleep(Duration::from_secs(1));
    }
    writeln!(stdin).unwrap();
    assert_eq!(see(&|found| found.is_none()), (None, None), "the kernel forgets it too");
}
