//! The probes against real processes, without the rest of the capture.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, RingBuf};

use super::*;
use crate::profile::output::Output;
use crate::trace::{CaptureMeta, Event, Sink, SliceEvent, TrackDef, TrackRef};

/// A slice as it came.
pub(super) struct Seen {
    pub layer: Layer,
    pub track: String,
    pub tid: Option<u32>,
    pub start_ns: u64,
    pub dur_ns: u64,
    pub name: String,
    pub args: Vec<(String, String)>,
    pub flow: u64,
    pub estimate: bool,
}

/// Collects slices as they come.
#[derive(Default)]
pub(super) struct Collected {
    tracks: Vec<(Option<u32>, Layer, String)>,
    pub slices: Vec<Seen>,
}

impl Sink for Collected {
    fn process(&mut self, _: u32, _: &str, _: Option<&str>, _: Option<u32>) -> io::Result<()> {
        Ok(())
    }
    fn thread(&mut self, _: u32, _: u32, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        self.tracks.push((def.tid, def.layer, def.name.to_owned()));
        Ok(TrackRef(self.tracks.len() as u32 - 1))
    }
    fn slice(&mut self, track: TrackRef, s: &SliceEvent<'_>) -> io::Result<()> {
        let args = s.args.iter().map(|(k, v)| ((*k).to_owned(), format!("{v:?}"))).collect();
        let (tid, layer, track) = self.tracks[track.0 as usize].clone();
        let (start_ns, dur_ns, flow, estimate) = (s.start_ns, s.dur_ns, s.flow, s.estimate);
        self.slices.push(Seen { layer, track, tid, start_ns, dur_ns, name: s.name.to_owned(), args, flow, estimate });
        Ok(())
    }
    fn begin(&mut self, _: TrackRef, _: &Event<'_>) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self, _: TrackRef, _: &Event<'_>) -> io::Result<()> {
        Ok(())
    }
    fn instant(&mut self, _: TrackRef, _: &Event<'_>) -> io::Result<()> {
        Ok(())
    }
    fn counter(&mut self, _: TrackRef, _: u64, _: f64) -> io::Result<()> {
        Ok(())
    }
    fn meta(&mut self, _: u64, _: &CaptureMeta) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A capture reduced to these probes: makes the maps itself and drains the rings itself.
pub(super) struct Rig {
    pub probes: Probes,
    rings: Vec<RingBuf<MapData>>,
    pub records: u64,
}

impl Rig {
    pub fn new(layers: Layers, cache_dir: Option<PathBuf>) -> Rig {
        let probes = Probes::load(&|_| None, layers, cache_dir).unwrap();
        let ring = |name: &str| {
            let fd: OwnedFd = probes.multi.map(name).unwrap().try_clone_to_owned().unwrap();
            RingBuf::try_from(Map::RingBuf(MapData::from_fd(fd).unwrap())).unwrap()
        };
        let rings = vec![ring("rare"), ring("slices")];
        Rig { probes, rings, records: 0 }
    }

    pub fn attach(&mut self, pid: u32) {
        multi::update(self.probes.multi.map("targets").unwrap().as_fd(), pid, &[0; 24]).unwrap();
        let maps = maps::of(pid).unwrap();
        self.probes.attach(pid, &maps).unwrap();
    }

    pub fn drain(&mut self, out: &mut Output<'_>) {
        for ring in &mut self.rings {
            while let Some(item) = ring.next() {
                let head: Head = records::read(&item).unwrap();
                self.records += 1;
                self.probes.record(head.kind, &item, out).unwrap();
            }
        }
    }

    pub fn run(&mut self, out: &mut Output<'_>, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            self.drain(out);
        }
    }

    pub fn lost(&self) -> [u64; 4] {
        let mut lost = [[0u64; 1]; 4];
        multi::sum_per_cpu(self.probes.multi.map("lost").unwrap(), self.probes.cpus, &mut lost).unwrap();
        lost.map(|[n]| n)
    }
}

#[test]
#[ignore = "a workbench: AICTL_BENCH_LIB=path"]
fn scan_workbench() {
    let path = std::env::var_os("AICTL_BENCH_LIB").unwrap();
    let elf = elf::Elf::open(File::open(path).unwrap()).unwrap();
    for _ in 0..2 {
        let started = Instant::now();
        eprintln!("mentions {} {:?}", elf.mentions(&["cudaLaunchKernel", "nccxAllReduce"]), started.elapsed());
        let started = Instant::now();
        let scan = torch::scan(&elf).unwrap().unwrap();
        eprintln!("scan {} {:?}", scan.operators.len(), started.elapsed());
        let dir = tempfile::tempdir().unwrap();
        let started = Instant::now();
        cache::store(dir.path(), &elf, &scan).unwrap();
        eprintln!("store {:?}", started.elapsed());
        let started = Instant::now();
        assert!(cache::load(dir.path(), &elf).unwrap() == scan);
        eprintln!("load {:?}", started.elapsed());
    }
}

#[test]
#[ignore = "a workbench: AICTL_BENCH_PID=pid"]
fn workbench() {
    let pid: u32 = std::env::var("AICTL_BENCH_PID").unwrap().parse().unwrap();
    let dir = std::env::var_os("AICTL_BENCH_CACHE").map(PathBuf::from);
    let started = Instant::now();
    let mut rig = Rig::new(Layers::all(), dir);
    eprintln!("load {:?}", started.elapsed());
    let started = Instant::now();
    eprintln!("{:?} {:?}", rig.probes.calibrate(), started.elapsed());
    let started = Instant::now();
    rig.attach(pid);
    eprintln!("attach {:?} {:?}", started.elapsed(), rig.probes.statuses());
    let mut sink = Collected::default();
    let started = Instant::now();
    let mut out = Output::new(&mut sink);
    rig.run(&mut out, Duration::from_secs(1));
    eprintln!("{} records in {:?}, lost {:?}", rig.records, started.elapsed(), rig.lost());
    eprintln!("{:?}", rig.probes.costs());
    if std::env::var_os("AICTL_BENCH_THIN").is_some() {
        let started = Instant::now();
        eprintln!("{:?} {:?}", rig.probes.thin(Layer::Torch, 0.1), started.elapsed());
        rig.records = 0;
        rig.run(&mut out, Duration::from_secs(1));
        eprintln!("{} records, {:?}", rig.records, rig.probes.costs());
    }
    let mut names: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for slice in &sink.slices {
        let entry = names.entry((slice.layer.name().to_owned(), slice.name.clone())).or_default();
        if entry.0 < 2 && !slice.args.is_empty() {
            eprintln!("{} {:?} {} {:?}", slice.name, slice.args, slice.flow, slice.track);
        }
        entry.0 += 1;
        entry.1 += slice.dur_ns;
    }
    for (name, (count, total)) in names {
        eprintln!("{name:?} {count} mean {} us", total / count / 1000);
    }
    let started = Instant::now();
    drop(rig);
    eprintln!("detach {:?}", started.elapsed());
}
