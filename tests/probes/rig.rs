//! A capture into memory, and the processes to capture.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use aictl::profile::{CaptureOptions, CaptureProgress, Layers, capture};
use aictl::trace::{ArgRef, CaptureMeta, Event, Layer, LayerState, LayerStatus, Sink, SliceEvent, TrackDef, TrackRef};

/// A slice as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub layer: Layer,
    pub track: String,
    pub pid: Option<u32>,
    pub tid: Option<u32>,
    pub start_ns: u64,
    pub dur_ns: u64,
    pub name: String,
    pub args: BTreeMap<String, String>,
    pub flow: u64,
    pub estimate: bool,
}

impl Seen {
    /// An argument as text; empty if it has none of that name.
    pub fn arg(&self, key: &str) -> &str {
        self.args.get(key).map_or("", String::as_str)
    }
}

/// What a capture gave.
#[derive(Default)]
pub struct Captured {
    tracks: Vec<(Option<u32>, Option<u32>, Layer, String)>,
    pub slices: Vec<Seen>,
    pub layers: Vec<LayerStatus>,
    pub meta: CaptureMeta,
    /// Ends the capture with a slice for which it is true.
    until: Option<Until>,
    stop: Arc<AtomicBool>,
}

type Until = Box<dyn FnMut(&Seen) -> bool>;

impl Captured {
    /// The slices of a name.
    pub fn named(&self, name: &str) -> Vec<&Seen> {
        self.slices.iter().filter(|s| s.name == name).collect()
    }

    /// The slices of a layer.
    pub fn of(&self, layer: Layer) -> Vec<&Seen> {
        self.slices.iter().filter(|s| s.layer == layer).collect()
    }

    /// The state of a layer.
    pub fn state(&self, layer: Layer) -> LayerState {
        self.layers.iter().find(|l| l.layer == layer.name()).map(|l| l.state).unwrap()
    }

    /// Names and counts, for a failed assertion's message.
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for slice in &self.slices {
            *counts.entry((slice.layer.name(), &slice.name)).or_default() += 1;
        }
        format!("{counts:?} {:?}", self.layers)
    }

    /// Fails unless the slices of every track of these layers nest.
    pub fn assert_nested(&self, layers: &[Layer]) {
        type Place<'a> = (Option<u32>, Option<u32>, &'a str);
        let mut tracks: BTreeMap<Place<'_>, Vec<&Seen>> = BTreeMap::new();
        for slice in self.slices.iter().filter(|s| layers.contains(&s.layer)) {
            tracks.entry((slice.pid, slice.tid, &slice.track)).or_default().push(slice);
        }
        for slices in tracks.values_mut() {
            slices.sort_by_key(|s| (s.start_ns, u64::MAX - s.dur_ns));
            let mut open: Vec<&Seen> = Vec::new();
            for slice in slices {
                while open.last().is_some_and(|o| o.start_ns + o.dur_ns <= slice.start_ns) {
                    open.pop();
                }
                if let Some(outer) = open.last() {
                    let inside = slice.start_ns + slice.dur_ns <= outer.start_ns + outer.dur_ns;
                    assert!(inside, "{slice:?} crosses {outer:?}");
                }
                open.push(slice);
            }
        }
    }
}

impl Sink for Captured {
    fn process(&mut self, _: u32, _: &str, _: Option<&str>, _: Option<u32>) -> io::Result<()> {
        Ok(())
    }
    fn thread(&mut self, _: u32, _: u32, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        self.tracks.push((def.pid, def.tid, def.layer, def.name.to_owned()));
        Ok(TrackRef(self.tracks.len() as u32 - 1))
    }
    fn slice(&mut self, track: TrackRef, s: &SliceEvent<'_>) -> io::Result<()> {
        let text = |value: &ArgRef<'_>| match value {
            ArgRef::U64(n) => n.to_string(),
            ArgRef::I64(n) => n.to_string(),
            ArgRef::F64(n) => n.to_string(),
            ArgRef::Str(s) => (*s).to_owned(),
        };
        let (pid, tid, layer, track) = self.tracks[track.0 as usize].clone();
        let seen = Seen {
            layer,
            track,
            pid,
            tid,
            start_ns: s.start_ns,
            dur_ns: s.dur_ns,
            name: s.name.to_owned(),
            args: s.args.iter().map(|(k, v)| ((*k).to_owned(), text(v))).collect(),
            flow: s.flow,
            estimate: s.estimate,
        };
        if self.until.as_mut().is_some_and(|until| until(&seen)) {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.slices.push(seen);
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

/// The layers these tests are about.
pub fn probed() -> Layers {
    Layers::none().with(Layer::Torch).with(Layer::Cuda).with(Layer::Nccl)
}

/// Captures the uprobe layers of a process without any limit to their cost; `meanwhile` runs
/// once the probes are in place.
pub fn record(pid: u32, duration: Duration, meanwhile: impl FnOnce() + Send) -> Captured {
    let options = CaptureOptions {
        pids: vec![pid],
        layers: probed(),
        duration: Some(duration),
        max_overhead: 100.0,
        ..CaptureOptions::default()
    };
    record_with(&options, meanwhile)
}

/// As [`record`], until a slice comes for which `until` is true.
pub fn record_until(pid: u32, until: impl FnMut(&Seen) -> bool + 'static, meanwhile: impl FnOnce() + Send) -> Captured {
    let options = CaptureOptions {
        pids: vec![pid],
        layers: probed(),
        duration: Some(Duration::from_secs(60)),
        max_overhead: 100.0,
        ..CaptureOptions::default()
    };
    capture_into(Captured { until: Some(Box::new(until)), ..Captured::default() }, &options, meanwhile)
}

/// Captures as told.
pub fn record_with(options: &CaptureOptions, meanwhile: impl FnOnce() + Send) -> Captured {
    capture_into(Captured::default(), options, meanwhile)
}

fn capture_into(mut captured: Captured, options: &CaptureOptions, meanwhile: impl FnOnce() + Send) -> Captured {
    let stop = Arc::clone(&captured.stop);
    let mut layers = Vec::new();
    let (attached, wait) = mpsc::channel::<()>();
    let meta = std::thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv().is_ok() {
                meanwhile();
            }
        });
        let mut progress = |progress: CaptureProgress<'_>| {
            if let CaptureProgress::Attached { layers: now, .. } = progress {
                layers = now.to_vec();
                attached.send(()).unwrap();
            }
        };
        let meta = capture(options, &mut captured, &stop, &mut progress);
        drop(attached);
        meta.unwrap()
    });
    captured.layers = layers;
    captured.meta = meta;
    captured
}

/// A process that is killed when the test is over.
pub struct Running {
    pub child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it and waits for its first line.
    pub fn start(command: &mut Command) -> Running {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut running = Running { child, output };
        let first = running.line();
        assert!(!first.is_empty(), "{command:?} ended before it was ready");
        running
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next line; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Gives it a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
