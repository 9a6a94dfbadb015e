//! How fast the timeline viewer opens a long recording, draws it at any zoom, and follows a
//! capture.
//!
//! `cargo bench --bench timeline -- [SLICES]`; the default is 10 million. The viewer runs as a
//! process of its own, so that its peak memory is its own. Times are wall-clock times; beside
//! them stand CPU times, which say more on a busy machine.

#![allow(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aictl::trace::{ArgRef, ClockSnapshot, Event, Layer, PerfettoWriter, Sink, SliceEvent, TrackDef, TrackRef, live};
use aictl::tui::scene::{Scene, Window};
use aictl::tui::state::{Live, Size, State};
use aictl::tui::{Background, Colors, Look, Marks, Msg, snapshot, update};
use rustix::time::{ClockId, clock_gettime};

const SIZE: Size = Size { columns: 200, rows: 50 };
const LOOK: Look = Look { colors: Colors::True, background: Background::Dark, marks: Marks::Unicode };
const VIEWS: u64 = 400;
const SLICES_PER_S: u64 = 100_000;
const LIVE: Duration = Duration::from_secs(10);
const FRAME: Duration = Duration::from_millis(33);

const OPERATORS: [&str; 8] =
    ["aten::addmm", "aten::t", "aten::relu", "aten::mm", "aten::copy_", "aten::add_", "aten::sum", "aten::view"];
const STATES: [&str; 4] = ["running", "futex", "socket", "gil"];

/// Small and always the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

fn slice<'a>(start_ns: u64, dur_ns: u64, name: &'a str, args: &'a [(&'a str, ArgRef<'a>)]) -> SliceEvent<'a> {
    SliceEvent { start_ns, dur_ns, name, args, flow: 0, estimate: false }
}

/// Tracks of a training job: its main thread's operators, which have half of all slices, its
/// Python, and the states, system calls and operators of other threads.
struct Job {
    main: TrackRef,
    python: TrackRef,
    threads: Vec<(TrackRef, TrackRef)>,
    now_ns: u64,
    round: u64,
}

impl Job {
    fn new(sink: &mut dyn Sink) -> io::Result<Job> {
        sink.process(1000, "python3", Some("python3 train.py"), Some(0))?;
        let mut track = |tid, layer: Layer, name| {
            sink.track(TrackDef { pid: Some(1000), tid: Some(tid), name, layer, counter_unit: None })
        };
        let main = track(1000, Layer::Torch, "torch")?;
        let python = track(1000, Layer::Python, "python")?;
        let thread = |tid| Ok((track(tid, Layer::Sched, "cpu")?, track(tid, Layer::Syscall, "syscall")?));
        let threads = (1001..1009).map(thread).collect::<io::Result<_>>()?;
        sink.begin(python, &Event { ts_ns: 1_000_000, name: "main", args: &[] })?;
        Ok(Job { main, python, threads, now_ns: 1_000_000, round: 0 })
    }

    /// Twenty slices in some 200 µs; ten of them on one track, parents after their children.
    fn go_on(&mut self, sink: &mut dyn Sink) -> io::Result<u64> {
        let (start, round) = (self.now_ns, self.round);
        for i in 0..8u64 {
            let name = OPERATORS[((round + i) % 8) as usize];
            let args = [("bytes", ArgRef::U64(round * 8 + i)), ("stream", ArgRef::U64(7))];
            let args = if i == 3 { &args[..] } else { &[] };
            sink.slice(self.main, &slice(start + 5_000 + i * 20_000, 15_000 + i * 300, name, args))?;
        }
        sink.slice(self.main, &slice(start + 2_000, 80_000, "aten::linear", &[]))?;
        sink.slice(self.main, &slice(start + 1_000, 190_000, "backward", &[]))?;
        let line = [("file", ArgRef::Str("train.py")), ("line", ArgRef::U64(round % 50))];
        sink.begin(self.python, &Event { ts_ns: start, name: "train_step", args: &line })?;
        sink.begin(self.python, &Event { ts_ns: start + 500, name: "Linear.forward", args: &line })?;
        sink.end(self.python, &Event { ts_ns: start + 150_000, name: "", args: &[] })?;
        sink.end(self.python, &Event { ts_ns: start + 195_000, name: "", args: &[] })?;
        for (i, &(states, calls)) in (0..).zip(&self.threads[(round % 2) as usize * 4..][..4]) {
            let state = STATES[((round + i) % 4) as usize];
            sink.slice(states, &slice(start + i * 1000, 190_000, state, &[]))?;
            let args = [("bytes", ArgRef::U64(4096))];
            sink.slice(calls, &slice(start + i * 1000, 30_000, "read", &args))?;
        }
        self.now_ns += 200_000;
        self.round += 1;
        Ok(20)
    }
}

fn write(path: &Path, slices: u64) -> io::Result<()> {
    let mut sink = PerfettoWriter::new(File::create(path)?, ClockSnapshot::default())?;
    let mut job = Job::new(&mut sink)?;
    let mut written = 1;
    while written < slices {
        written += job.go_on(&mut sink)?;
    }
    sink.finish()
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Wall-clock time and this thread's CPU time of something, in seconds.
fn timed<T>(what: impl FnOnce() -> T) -> (T, f64, f64) {
    let (started, cpu) = (Instant::now(), seconds(ClockId::ThreadCPUTime));
    let result = what();
    (result, started.elapsed().as_secs_f64(), seconds(ClockId::ThreadCPUTime) - cpu)
}

/// "p50 1.20 p99 3.40 max 5.60 ms".
fn spread(seconds: &mut [f64]) -> String {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds.get(((seconds.len() - 1) as f64 * share) as usize).map_or(0.0, |s| s * 1e3);
    format!("p50 {:.2}, p99 {:.2}, max {:.2} ms", at(0.5), at(0.99), at(1.0))
}

fn peak_memory() -> io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find_map(|l| l.strip_prefix("VmHWM:")).map_or("unknown", str::trim).to_owned())
}

fn open(path: &Path) -> io::Result<State> {
    let (trace, read_s, read_cpu) = timed(|| aictl::trace::read(&mut File::open(path)?).map_err(io::Error::other));
    let trace = trace?;
    let slices = trace.slice_count();
    let (scene, scene_s, scene_cpu) = timed(|| Scene::new(Arc::new(trace)));
    let (state, first_s, first_cpu) = timed(|| {
        let state = State::new(scene, "benchmark", SIZE);
        snapshot(&state, LOOK);
        state
    });
    println!(
        "open: {slices} slices in {:.2} s ({:.2} CPU): read {read_s:.2} ({read_cpu:.2}), scene {scene_s:.2} ({scene_cpu:.2}), first frame {first_s:.3} ({first_cpu:.3}); peak memory {}",
        read_s + scene_s + first_s,
        read_cpu + scene_cpu + first_cpu,
        peak_memory()?
    );
    Ok(state)
}

/// Frames from the whole recording down to a microsecond, at random places.
fn frames(state: &mut State) -> io::Result<()> {
    let bounds = state.bounds();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    state.expanded = (0..state.scene.tree.nodes.len() as u32).map(aictl::tui::scene::NodeId).collect();
    state.folded.clear();
    state.rebuild_lines();
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for n in 0..VIEWS {
        // From the whole to a microsecond in equal ratios.
        let shorter = (bounds.len_ns() as f64 / 1e3).powf(n as f64 / (VIEWS - 1) as f64);
        let length = ((bounds.len_ns() as f64 / shorter) as u64).clamp(1, bounds.len_ns());
        let from = bounds.from_ns + random.below(bounds.len_ns() - length + 1);
        state.view = Window::new(from, from + length);
        state.cursor_ns = from + length / 2;
        let (_, s, c) = timed(|| snapshot(state, LOOK));
        wall.push(s);
        cpu.push(c);
    }
    println!(
        "frames: {VIEWS} of {}x{}, {} lines, from {:.0} s to 1 us: {} (CPU: {}); peak memory {}",
        SIZE.columns,
        SIZE.rows,
        state.lines.len(),
        bounds.len_ns() as f64 / 1e9,
        spread(&mut wall),
        spread(&mut cpu),
        peak_memory()?
    );
    Ok(())
}

/// A capture at full speed on a thread of its own, and the viewer that follows it.
fn follow() -> io::Result<()> {
    let (mut sink, feed) = live(1_000_000);
    let (over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let capture = scope.spawn(|| -> io::Result<f64> {
            let mut job = Job::new(&mut sink)?;
            let started = Instant::now();
            while started.elapsed() < LIVE {
                let due = (started.elapsed().as_secs_f64() * SLICES_PER_S as f64) as u64;
                while written.load(Ordering::Relaxed) < due {
                    written.fetch_add(job.go_on(&mut sink)?, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            over.store(true, Ordering::Release);
            Ok(seconds(ClockId::ThreadCPUTime))
        });
        let mut state = State::new(Scene::default(), "benchmark", SIZE);
        state.live = Some(Live { follows: true, ..Live::default() });
        let (started, cpu) = (Instant::now(), seconds(ClockId::ThreadCPUTime));
        let (mut wall, mut work) = (Vec::new(), Vec::new());
        let mut last = false;
        while !last {
            last = over.load(Ordering::Acquire);
            let frame = Instant::now();
            let ((), s, c) = timed(|| {
                if let Some(batch) = feed.take() {
                    update(&mut state, Msg::Grow(Box::new(batch)));
                }
                update(&mut state, Msg::Tick);
                snapshot(&state, LOOK);
            });
            wall.push(s);
            work.push(c);
            std::thread::sleep(FRAME.saturating_sub(frame.elapsed()));
        }
        let (elapsed, cpu) = (started.elapsed().as_secs_f64(), seconds(ClockId::ThreadCPUTime) - cpu);
        let capture_cpu = capture.join().map_err(|_| io::Error::other("the capture's thread panicked"))??;
        let written = written.load(Ordering::Relaxed) + 1;
        let shown = state.scene.trace.slice_count() as u64;
        println!(
            "live: {:.0} slices/s for {elapsed:.1} s: {:.1} frames/s, viewer {:.1} % of a core, capture's end {:.1} %; frame {} (CPU: {}); {} slices lost of {written}; peak memory {}",
            written as f64 / elapsed,
            work.len() as f64 / elapsed,
            cpu / elapsed * 100.0,
            capture_cpu / elapsed * 100.0,
            spread(&mut wall),
            spread(&mut work),
            written - shown.min(written),
            peak_memory()?
        );
        Ok(())
    })
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["view", path] => return frames(&mut open(Path::new(path))?),
        ["live"] => return follow(),
        _ => {}
    }
    let slices = args.first().and_then(|n| n.parse().ok()).unwrap_or(10_000_000);
    let file = tempfile::NamedTempFile::new()?;
    write(file.path(), slices)?;
    let own = |args: &[&std::ffi::OsStr]| match Command::new(std::env::current_exe()?).args(args).status()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("the viewer failed")),
    };
    own(&["view".as_ref(), file.path().as_os_str()])?;
    own(&["live".as_ref()])
}
