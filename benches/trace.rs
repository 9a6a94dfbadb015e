//! How fast recordings are written and read, and what they cost in bytes and memory.
//!
//! `cargo bench --bench trace -- [MEGABYTES] [plain|args|json]`; the default is 64 plain. The
//! reader runs as a process of its own, so that its peak memory is its own.

#![allow(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use aictl::trace::{ArgRef, ChromeWriter, ClockSnapshot, Layer, PerfettoWriter, Sink, SliceEvent, TrackDef, TrackRef};

/// Counts what goes through.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

const NAMES: [&str; 8] =
    ["aten::addmm", "aten::t", "aten::relu", "aten::mm", "aten::copy_", "aten::add_", "aten::sum", "aten::view"];

/// One parent with seven children on each of eight threads' tracks; returns the slices written.
fn round(sink: &mut dyn Sink, tracks: &[TrackRef], n: u64, with_args: bool) -> u64 {
    let base = 3_000_000_000_000_000 + n * 10_000;
    let mut written = 0;
    for &track in tracks {
        for (i, name) in NAMES.iter().enumerate() {
            let i = i as u64;
            // The parent comes last, as a finished call does.
            let (start_ns, dur_ns) = if i == 7 { (base, 9_000) } else { (base + 100 + i * 1000, 900) };
            let args = [
                ("bytes", ArgRef::U64(n * 8 + i)),
                ("ret", ArgRef::I64(n as i64)),
                ("path", ArgRef::Str("/data/imagenet/shard-00017.tar")),
            ];
            let args = if with_args { &args[..] } else { &[] };
            let slice = SliceEvent { start_ns, dur_ns, name, args, flow: 0, estimate: false };
            sink.slice(track, &slice).expect("writing to a temporary file");
            written += 1;
        }
    }
    written
}

fn tracks(sink: &mut dyn Sink) -> Vec<TrackRef> {
    (0..8)
        .map(|n| {
            let def =
                TrackDef { pid: Some(1), tid: Some(10 + n), name: "torch", layer: Layer::Torch, counter_unit: None };
            sink.track(def).expect("writing to a temporary file")
        })
        .collect()
}

fn write(path: &Path, megabytes: u64, what: &str) -> io::Result<()> {
    let with_args = what == "args";
    let started = Instant::now();
    let mut slices = 0;
    let bytes = if what == "json" {
        let mut sink = ChromeWriter::new(Counted { inner: BufWriter::new(File::create(path)?), bytes: 0 });
        let tracks = tracks(&mut sink);
        for n in 0..megabytes * 140 {
            slices += round(&mut sink, &tracks, n, with_args);
        }
        sink.finish()?;
        sink.into_inner()?.bytes
    } else {
        let out = Counted { inner: File::create(path)?, bytes: 0 };
        let mut sink = PerfettoWriter::new(out, ClockSnapshot::default())?;
        let tracks = tracks(&mut sink);
        for n in 0..megabytes * if with_args { 220 } else { 340 } {
            slices += round(&mut sink, &tracks, n, with_args);
        }
        sink.finish()?;
        sink.into_inner()?.bytes
    };
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "write {what}: {slices} slices in {seconds:.2} s, {:.0} slices/s ({:.0} per CPU second), {:.1} bytes/slice, {} MB",
        slices as f64 / seconds,
        slices as f64 / cpu_seconds(),
        bytes as f64 / slices as f64,
        bytes / 1_000_000
    );
    Ok(())
}

/// CPU time of this process in seconds; what a busy machine measures better than the clock.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn read(path: &Path) -> io::Result<()> {
    let started = Instant::now();
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let trace = aictl::trace::read(&mut file).map_err(io::Error::other)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).map_or("unknown", str::trim);
    println!(
        "read: {} slices, {} MB in {seconds:.2} s, {:.0} MB/s ({:.0} MB per CPU second), peak memory {peak}, warnings {:?}",
        trace.slice_count(),
        bytes / 1_000_000,
        bytes as f64 / 1e6 / seconds,
        bytes as f64 / 1e6 / cpu,
        trace.warnings
    );
    Ok(())
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [verb, path] = args.as_slice()
        && verb == "read"
    {
        return read(Path::new(path));
    }
    let megabytes = args.first().and_then(|n| n.parse().ok()).unwrap_or(64);
    let what = args.get(1).map_or("plain", String::as_str);
    let file = tempfile::NamedTempFile::new()?;
    write(file.path(), megabytes, what)?;
    let status = Command::new(std::env::current_exe()?).arg("read").arg(file.path()).status()?;
    if !status.success() {
        return Err(io::Error::other("the reader failed"));
    }
    Ok(())
}
