//! What it costs to watch many ranks as one: the streams of simulated agents, merged as `aictl profile`
//! merges those of real ones.
//!
//! `cargo bench --bench agent_stream -- [RANKS [NODES [EVENTS_A_SECOND [SECONDS [THREADS]]]]]`: 64 ranks on
//! 8 nodes with 20,000 events a second each, for 5 s, on as many threads as there are cores. Agents write what
//! theirs would send, packed, into files first, in a process of their own; what is measured is the near end
//! alone: unpacking, joining on one clock and writing one recording. Not in it: the network, TLS and the API
//! server's websocket.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark's result is what it prints")]

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use aictl::agent::Unpacker;
use aictl::trace::{
    Apart, ArgRef, CaptureMeta, ClockSnapshot, Event, Joiner, Layer, NodeNote, PerfettoWriter, RelayReader,
    RelayWriter, Sink, SliceEvent, TrackDef, TrackRef,
};
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// As in the agent: events go in runs of about this size.
const RUN: usize = 64 << 10;
/// As in aictl: written runs of all nodes that wait for the writer.
const WAITING: usize = 64;
/// What an agent lets a rank send, bytes a second.
const RANK_BYTES_S: f64 = 5e6;
const NAMES: [&str; 8] =
    ["aten::addmm", "aten::t", "aten::relu", "aten::mm", "aten::copy_", "aten::add_", "aten::sum", "aten::view"];

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    if let [_, word, directory, numbers @ ..] = &arguments[..]
        && word == "generate"
    {
        let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
        let [ranks, nodes, rate, seconds] = numbers[..] else { return };
        (0..nodes).for_each(|node| generate(Path::new(directory), node, ranks / nodes, rate, seconds));
        return;
    }
    let number = |at: usize, default: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (ranks, nodes, rate, seconds) = (number(1, 64), number(2, 8).max(1), number(3, 20_000), number(4, 5).max(1));
    let place = tempfile::tempdir().unwrap();
    let generated = Command::new(std::env::current_exe().unwrap())
        .args(["generate".into(), place.path().as_os_str().to_owned()])
        .args([ranks, nodes, rate, seconds].map(|number| number.to_string()))
        .status();
    assert!(generated.unwrap().success());
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    merge(place.path(), [ranks, nodes, rate, seconds, number(5, cores).max(1)]);
}

/// A node's stream: lengths and packed runs, as its agent would send them.
fn generate(directory: &Path, node: u64, ranks: u64, rate: u64, seconds: u64) {
    let mut file = BufWriter::new(File::create(directory.join(node.to_string())).unwrap());
    let mut relay = RelayWriter::new();
    let mut tracks = Vec::new();
    for rank in 0..ranks {
        let pid = 1000 + rank as u32;
        relay.process(pid, "python", Some("python train.py"), Some((node * ranks + rank) as u32)).unwrap();
        relay.thread(pid, pid, "python").unwrap();
        let mut track = |layer: Layer| {
            relay.track(TrackDef { pid: Some(pid), tid: Some(pid), name: "", layer, counter_unit: None }).unwrap()
        };
        tracks.push([track(Layer::Torch), track(Layer::Syscall), track(Layer::Python)]);
    }
    let begin_ns = 3_000_000_000_000_000u64;
    let step_ns = 1_000_000_000 / rate.max(1);
    let mut noise = fastrand::Rng::with_seed(node);
    for number in 0..rate * seconds {
        for [torch, syscall, python] in &tracks {
            one(&mut relay, [*torch, *syscall, *python], begin_ns + number * step_ns, step_ns, number, &mut noise);
        }
        if number % rate == 0 {
            relay.meta(begin_ns + number * step_ns, &CaptureMeta::default()).unwrap();
        }
        if relay.len() >= RUN || number + 1 == rate * seconds {
            let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&relay.take()).unwrap();
            let packed = packed.finish().unwrap();
            file.write_all(&(packed.len() as u32).to_le_bytes()).unwrap();
            file.write_all(&packed).unwrap();
        }
    }
}

/// Mostly operators, with times that do not repeat; a system call now and then, and Python's frames.
fn one(to: &mut RelayWriter, tracks: [TrackRef; 3], at: u64, step_ns: u64, number: u64, noise: &mut fastrand::Rng) {
    let [torch, syscall, python] = tracks;
    let (start_ns, dur_ns) = (at + noise.u64(0..step_ns / 4 + 1), noise.u64(1..step_ns / 2 + 2));
    let slice = |name, args| SliceEvent { start_ns, dur_ns, name, args, flow: 0, estimate: false };
    match number % 16 {
        0 => to.slice(syscall, &slice("read", &[("bytes", ArgRef::U64(noise.u64(0..1 << 20)))])).unwrap(),
        1 => to.begin(python, &Event { ts_ns: at, name: "train", args: &[] }).unwrap(),
        15 => to.end(python, &Event { ts_ns: at, name: "", args: &[] }).unwrap(),
        _ => to.slice(torch, &slice(NAMES[noise.usize(0..NAMES.len())], &[])).unwrap(),
    }
}

/// One node's part of the recording.
struct Node {
    stream: BufReader<File>,
    reader: RelayReader,
    unpacker: Unpacker,
    part: Apart,
}

impl Node {
    /// Its next run, as packets; `None` at its end.
    fn next(&mut self, events: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut packed = vec![0; u32::from_le_bytes(length) as usize];
        self.stream.read_exact(&mut packed).unwrap();
        events.clear();
        self.unpacker.unpack(&packed, events).unwrap();
        self.reader.feed(events, &mut self.part.sink()).unwrap();
        Some(self.part.take())
    }
}

/// Some nodes' streams, in turn, up to their ends.
fn work(mut nodes: Vec<Node>, out: &SyncSender<Vec<u8>>) {
    let mut events = Vec::new();
    while !nodes.is_empty() {
        nodes.retain_mut(|node| match node.next(&mut events) {
            Some(written) => out.send(written).is_ok(),
            None => false,
        });
    }
}

fn merge(directory: &Path, [ranks, nodes, rate, seconds, threads]: [u64; 5]) {
    let bytes: u64 = (0..nodes).map(|node| fs::metadata(directory.join(node.to_string())).unwrap().len()).sum();
    let out = directory.join("run.pftrace");
    let mut sink = PerfettoWriter::new(BufWriter::new(File::create(&out).unwrap()), ClockSnapshot::default()).unwrap();
    let (begin, before, here) = (Instant::now(), cpu_s(), own_s());
    let mut joiner = Joiner::new(&mut sink, nodes as usize);
    let mut shares: Vec<Vec<Node>> = (0..threads).map(|_| Vec::new()).collect();
    for index in 0..nodes {
        let stream = BufReader::new(File::open(directory.join(index.to_string())).unwrap());
        let part = joiner.apart(index as usize).unwrap();
        part.about(NodeNote { node: format!("node-{index}"), clock_offset_ns: 1000, ..NodeNote::default() });
        let node = Node { stream, reader: RelayReader::new(), unpacker: Unpacker::default(), part };
        shares[(index % threads) as usize].push(node);
    }
    let (sender, written) = sync_channel(WAITING);
    for share in shares {
        let sender = sender.clone();
        thread::spawn(move || work(share, &sender));
    }
    drop(sender);
    written.iter().for_each(|run| joiner.append(&run).unwrap());
    joiner.finish().unwrap();
    let writing = own_s() - here;
    // What others do on the machine is not in it.
    let (took, wall) = (cpu_s() - before, begin.elapsed().as_secs_f64());
    let megabytes = bytes as f64 / 1e6;
    let all = ranks / nodes * nodes * rate * seconds;
    println!("{ranks} ranks on {nodes} nodes, {rate} events/s each, {seconds} s; {threads} threads");
    let (a_rank, a_second) = (megabytes / (ranks * seconds) as f64, megabytes / seconds as f64);
    println!("  on the wire   {a_rank:.3} MB/s a rank, {a_second:.1} MB/s in all");
    let (nanos, packed) = (took * 1e9 / all as f64, megabytes / took);
    println!("  joining       {nanos:.0} ns of CPU an event, {packed:.0} MB/s of packed stream a core");
    println!("  in wall time  {:.0} MB/s of packed stream ({wall:.1} s)", megabytes / wall);
    let most = megabytes / writing;
    println!("  writing       {:.0} % of that CPU, in one thread: {most:.0} MB/s at most", writing / took * 100.0);
    println!("  so            {:.0} % of a core for these ranks", took / seconds as f64 * 100.0);
    println!("  at the limit  {:.1} ranks a core ({:.0} MB/s each)", packed * 1e6 / RANK_BYTES_S, RANK_BYTES_S / 1e6);
    println!("  recording     {:.1} MB", fs::metadata(&out).unwrap().len() as f64 / 1e6);
    println!("  memory        {:.0} MB at most", peak_mb());
}

/// CPU time of this process so far, s.
fn cpu_s() -> f64 {
    seconds(rustix::time::ClockId::ProcessCPUTime)
}

/// CPU time of this thread so far, s.
fn own_s() -> f64 {
    seconds(rustix::time::ClockId::ThreadCPUTime)
}

fn seconds(clock: rustix::time::ClockId) -> f64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory this process had, MB.
fn peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kb: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1000.0
}
