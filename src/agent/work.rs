//! The capture at the far end: from containers to processes, from events to messages.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use regex::Regex;
use rustc_hash::FxHashSet;

use super::flow::{Flow, RANK_BYTES_S};
use super::frame::kind;
use super::outbox::Outbox;
use super::protocol::{Failure, News, Order};
use crate::host::{container, gpu_holders, process};
use crate::profile::{CaptureError, CaptureOptions, CaptureProgress, Layers, capture, rank_of};
use crate::trace::{CaptureMeta, Event, Layer, Place, RelayWriter, Sink, SliceEvent, Thinned, TrackDef, TrackRef};

/// Events go out in runs of about this size …
const RUN: usize = 64 << 10;
/// … and none waits longer than this, as long as others come.
const WAIT: Duration = Duration::from_millis(150);
/// A look at the clock costs as much as an event: one in so many.
const LOOK: u32 = 64;
/// Processes come and go: a capture that misses one it was to attach to is tried again.
const TRIES: u32 = 5;
/// Which GPUs are held is looked up with every so many notes (one a second).
const GPUS: u32 = 8;

/// Captures as ordered; its last message is how it ended. `cut` says why, where `stop` was not the near
/// end's wish.
pub fn run(order: &Order, outbox: &Outbox, stop: &AtomicBool, cut: &OnceLock<&'static str>) {
    let last = match try_run(order, outbox, stop) {
        Ok(()) => cut.get().map_or(News::Ended, |why| News::Cut((*why).to_owned())),
        Err(failure) => News::Failed(failure),
    };
    tell(outbox, &last);
}

fn tell(outbox: &Outbox, news: &News) {
    // Plain data of ours: it can be written.
    outbox.push(kind::NEWS, &serde_json::to_vec(news).unwrap_or_default());
}

fn try_run(order: &Order, outbox: &Outbox, stop: &AtomicBool) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (pids, ranks) = find(order)?;
        let options = CaptureOptions {
            pids,
            layers: order.layers.iter().fold(Layers::none(), |set, name| set.with(Layer::from_name(name))),
            duration: order.duration_ms.map(Duration::from_millis),
            max_overhead: order.max_overhead,
            python_hz: order.python_hz,
            syscall_threshold: Duration::from_nanos(order.syscall_threshold_ns),
            cache_dir: None,
        };
        let mut sink = StreamSink::new(order, ranks, outbox);
        let result = capture(&options, &mut sink, stop, &mut |progress| {
            if let Some(news) = news(&progress, options.pids.len()) {
                tell(outbox, &news);
            }
        });
        match result {
            Ok(_) => {
                sink.push();
                return Ok(());
            }
            // Nothing of it was recorded: the targets are looked up before anything is written.
            Err(CaptureError::NoSuchProcess(_) | CaptureError::TargetExited(_))
                if tries < TRIES && sink.is_untouched() => {}
            Err(error) => return Err(failure(&error)),
        }
    }
}

fn news(progress: &CaptureProgress<'_>, targets: usize) -> Option<News> {
    Some(match progress {
        CaptureProgress::Attached { took, layers } => {
            News::Attached { took_s: took.as_secs_f64(), layers: layers.to_vec(), processes: targets }
        }
        CaptureProgress::Recording { elapsed, events, lost, overhead, processes } => News::Recording {
            elapsed_s: elapsed.as_secs_f64(),
            events: *events,
            lost: *lost,
            overhead: *overhead,
            processes: *processes,
        },
        CaptureProgress::Note { .. } => return None,
    })
}

fn failure(error: &CaptureError) -> Failure {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let blind = matches!(
        error,
        CaptureError::NotPermitted { .. } | CaptureError::KernelLacks { .. } | CaptureError::Refused { .. }
    );
    Failure { blind, text: error.to_string(), causes, hint: error.hint().map(str::to_owned) }
}

/// Processes of the containers, and each container's rank for processes that have none.
fn find(order: &Order) -> Result<(Vec<u32>, Vec<Option<u32>>), Failure> {
    let plain = |text: String, hint: &str| Failure { text, hint: Some(hint.to_owned()), ..Failure::default() };
    let pattern = order.process.as_deref().map(Regex::new).transpose();
    let pattern = pattern.map_err(|error| plain(format!("--process is no regular expression: {error}"), ""))?;
    let ids: Vec<&str> = order.containers.iter().map(|wanted| wanted.id.as_str()).collect();
    let all = container::processes(&ids).map_err(|error| plain(format!("cannot read /proc: {error}"), ""))?;
    let alive: Vec<(u32, usize)> = all.into_iter().filter(|(pid, _)| process::is_alive(*pid)).collect();
    if alive.is_empty() {
        let names: Vec<String> = order.containers.iter().map(|c| format!("{} of {}", c.container, c.pod)).collect();
        return Err(plain(
            format!("no process of container {} is seen on this node", names.join(", ")),
            "the agent needs the node's processes (hostPID); a container in a virtual machine of its own has none there",
        ));
    }
    // A pod one of whose processes tells its rank needs no other.
    let mut ranks: Vec<Option<u32>> = order.containers.iter().map(|wanted| wanted.rank).collect();
    for (pid, index) in &alive {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if rank_of(&environment).is_some() {
            let pod = order.containers.get(*index).map(|wanted| &wanted.pod);
            for (rank, _) in ranks.iter_mut().zip(&order.containers).filter(|(_, wanted)| Some(&wanted.pod) == pod) {
                *rank = None;
            }
        }
    }
    let wanted = |pid: u32| pattern.as_ref().is_none_or(|pattern| pattern.is_match(&command_line(pid)));
    let chosen: Vec<u32> = alive.iter().map(|(pid, _)| *pid).filter(|pid| wanted(*pid)).collect();
    if chosen.is_empty() {
        let mut lines: Vec<String> = alive.iter().map(|(pid, _)| command_line(*pid)).collect();
        lines.truncate(5);
        return Err(plain(
            format!(
                "no process of these containers matches --process {}",
                order.process.as_deref().unwrap_or_default()
            ),
            &format!("there are: {}", lines.join(" · ")),
        ));
    }
    Ok((chosen, ranks))
}

fn command_line(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ")
}

/// Puts events into the outbox, and says where processes run.
struct StreamSink<'o> {
    relay: RelayWriter,
    outbox: &'o Outbox,
    order: &'o Order,
    ids: Vec<&'o str>,
    ranks: Vec<Option<u32>>,
    places: Vec<Place>,
    unsent: u64,
    flow: Flow,
    /// Ranks seen: each may send its share.
    seen: FxHashSet<u32>,
    /// When the first event was left out to hold that, ns.
    thinned_ns: Option<u64>,
    notes: u32,
    pushed: Instant,
    since_look: u32,
    touched: bool,
}

impl<'o> StreamSink<'o> {
    fn new(order: &'o Order, ranks: Vec<Option<u32>>, outbox: &'o Outbox) -> StreamSink<'o> {
        StreamSink {
            relay: RelayWriter::new(),
            outbox,
            order,
            ids: order.containers.iter().map(|wanted| wanted.id.as_str()).collect(),
            ranks,
            places: Vec::new(),
            unsent: 0,
            flow: Flow::new(RANK_BYTES_S * order.containers.len().max(1) as f64, Instant::now()),
            seen: FxHashSet::default(),
            thinned_ns: None,
            notes: 0,
            pushed: Instant::now(),
            since_look: 0,
            touched: false,
        }
    }

    fn is_untouched(&self) -> bool {
        !self.touched && self.relay.is_empty()
    }

    /// Hands on what waits.
    fn push(&mut self) {
        self.since_look = 0;
        self.pushed = Instant::now();
        if self.relay.is_empty() {
            return;
        }
        self.touched = true;
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
        // Into memory, which takes all.
        if packed.write_all(&self.relay.take()).is_ok() {
            let packed = packed.finish().unwrap_or_default();
            self.outbox.push(kind::EVENTS, &packed);
            self.flow.sent(packed.len(), self.pushed);
        }
    }

    /// After an event: it may be time to hand on.
    fn added(&mut self, result: io::Result<()>) -> io::Result<()> {
        self.since_look += 1;
        if self.relay.len() >= RUN || (self.since_look >= LOOK && self.pushed.elapsed() > WAIT) {
            self.push();
        } else if self.since_look >= LOOK {
            self.since_look = 0;
        }
        result
    }

    /// Whether an event goes out; counts it if not.
    fn goes(&mut self, ts_ns: u64, duration_ns: u64) -> bool {
        let admitted = self.flow.admits(duration_ns);
        if admitted && !self.outbox.is_full() {
            return true;
        }
        self.unsent += 1;
        if !admitted {
            self.thinned_ns.get_or_insert(ts_ns);
        }
        // While nothing goes out, nothing else looks at the clock.
        self.since_look += 1;
        if self.since_look >= LOOK {
            self.since_look = 0;
            self.flow.sent(0, Instant::now());
        }
        false
    }

    /// What was left out to hold the rate, for the report.
    fn thinned(&self) -> Option<Thinned> {
        let which = match self.flow.longest_ns() / 1000 {
            0 => "some slices".to_owned(),
            least_us => format!("slices shorter than {least_us} us"),
        };
        Some(Thinned {
            probe: format!("stream: {which}"),
            action: format!("left out: a rank may send {:.0} MB/s", RANK_BYTES_S / 1e6),
            ts_ns: self.thinned_ns?,
            hits_per_s: 0.0,
            cost_share: 0.0,
        })
    }
}

impl Sink for StreamSink<'_> {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        let container = container::which(pid, &self.ids);
        let known = self.places.iter().any(|place| place.pid == pid);
        if let Some(wanted) = container.filter(|_| !known).and_then(|index| self.order.containers.get(index)) {
            let (pod, container) = (wanted.pod.clone(), wanted.container.clone());
            self.places.push(Place { pid, pod, container, gpus: gpu_holders::held_by(pid), ..Place::default() });
        }
        let rank = rank.or_else(|| container.and_then(|index| self.ranks.get(index).copied().flatten()));
        self.seen.extend(rank);
        let ranks = self.seen.len().max(self.order.containers.len()).max(1);
        self.flow.set(RANK_BYTES_S * ranks as f64);
        let result = self.relay.process(pid, name, cmdline, rank);
        self.added(result)
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        self.relay.thread(pid, tid, name)
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        self.relay.track(def)
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        if !self.goes(slice.start_ns, slice.dur_ns) {
            return Ok(());
        }
        let result = self.relay.slice(track, slice);
        self.added(result)
    }

    // A begin without its end, or an end without its begin, would be paired wrongly: both always go. They
    // are Python's frames, whose number the rate of the samples bounds.
    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let result = self.relay.begin(track, event);
        self.added(result)
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let result = self.relay.end(track, event);
        self.added(result)
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        if !self.goes(event.ts_ns, 0) {
            return Ok(());
        }
        let result = self.relay.instant(track, event);
        self.added(result)
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        if !self.goes(ts_ns, u64::MAX) {
            return Ok(());
        }
        let result = self.relay.counter(track, ts_ns, value);
        self.added(result)
    }

    fn meta(&mut self, ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        if self.notes.is_multiple_of(GPUS) {
            for place in &mut self.places {
                let held = gpu_holders::held_by(place.pid);
                if !held.is_empty() {
                    place.gpus = held;
                }
            }
        }
        self.notes += 1;
        let mut notes = meta.clone();
        notes.places.clone_from(&self.places);
        notes.lost.unsent = self.unsent;
        notes.thinned.extend(self.thinned());
        let result = self.relay.meta(ts_ns, &notes);
        self.added(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push();
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.push();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_that_sends_too_much_is_thinned_and_that_is_said() {
        let (order, outbox) = (Order::default(), Outbox::default());
        let mut sink = StreamSink::new(&order, Vec::new(), &outbox);
        // A thousandth of the real limit, so that it is met at once.
        sink.flow = Flow::new(5e3, Instant::now());
        let (pid, tid) = (Some(1), Some(1));
        let track = sink.track(TrackDef { pid, tid, name: "", layer: Layer::Syscall, counter_unit: None }).unwrap();
        for number in 0..200_000u64 {
            let name = format!("call {}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let slice =
                SliceEvent { start_ns: number * 100, dur_ns: 50, name: &name, args: &[], flow: 0, estimate: false };
            sink.slice(track, &slice).unwrap();
        }
        sink.meta(20_000_000, &CaptureMeta::default()).unwrap();
        sink.finish().unwrap();
        assert!(sink.unsent > 100_000, "{}", sink.unsent);
        let thinned = sink.thinned().unwrap();
        assert!(thinned.action.contains("5 MB/s") && thinned.ts_ns > 0, "{thinned:?}");
        assert!(!outbox.is_full());
    }
}
