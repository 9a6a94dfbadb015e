//! Writes Perfetto TrackEvent packets as events arrive.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::events::WrittenTrack;
use super::intern::{Interner, Kind};
use super::wire::{self, event_type, field};
use crate::trace::meta::CaptureMeta;
use crate::trace::model::Layer;
use crate::trace::sink::{ArgRef, Branch, Event, Sink, SliceEvent, TrackDef, TrackRef};

/// Packets are handed on in runs of about this size, whole, so that a file cut by kill -9
/// loses its tail only.
const FLUSH_BYTES: usize = 64 << 10;
/// The packet sequence of a file's own writer; its branches have the next ones. Names are numbered
/// in each for itself.
const SEQUENCE: u64 = 1;
/// Ids of tracks are of the whole file. Where there are branches, each sequence has those that are its
/// own number modulo this; small ones, since one stands in every event.
const STRIDE: u64 = 1024;
/// `TrackDescriptor.ChildTracksOrdering.EXPLICIT`.
const EXPLICIT_ORDER: u64 = 3;
/// `CounterDescriptor.Unit.UNIT_SIZE_BYTES`.
const UNIT_BYTES: u64 = 3;

/// The same moment on three clocks, in ns; lets viewers place the recording in wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockSnapshot {
    /// CLOCK_MONOTONIC, the recording's clock.
    pub monotonic_ns: u64,
    /// CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// CLOCK_REALTIME.
    pub realtime_ns: u64,
}

struct Process {
    uuid: u64,
    rank_told: bool,
}

/// A [`Sink`] that writes Perfetto's protobuf format.
///
/// Memory stays bounded: names are kept in a table that starts afresh when it grows large.
pub struct PerfettoWriter<W: Write> {
    out: W,
    pub(super) buf: Vec<u8>,
    /// Body of the event being written.
    pub(super) event: Vec<u8>,
    pub(super) names: Interner,
    pub(super) tracks: Vec<WrittenTrack>,
    processes: FxHashMap<u32, Process>,
    threads: FxHashMap<(u32, u32), u64>,
    last_uuid: u64,
    uuid_step: u64,
    meta_track: Option<TrackRef>,
    clock: ClockSnapshot,
    /// The next packet must tell the reader to forget the names.
    pub(super) clear_state: bool,
    /// How often it was told so.
    pub(super) generation: u32,
    pub(super) sequence: u64,
    /// Sequences given to branches.
    branches: u64,
    /// See [`FLUSH_BYTES`]; a branch keeps all until it is taken.
    flush_bytes: usize,
}

impl<W: Write> PerfettoWriter<W> {
    /// Starts a recording.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, clock: ClockSnapshot) -> io::Result<Self> {
        let mut writer = PerfettoWriter::of_sequence(out, clock, SEQUENCE);
        writer.clock_snapshot();
        writer.flush()?;
        Ok(writer)
    }

    fn of_sequence(out: W, clock: ClockSnapshot, sequence: u64) -> Self {
        PerfettoWriter {
            out,
            buf: Vec::with_capacity(FLUSH_BYTES + (8 << 10)),
            event: Vec::with_capacity(1 << 10),
            names: Interner::new(),
            tracks: Vec::new(),
            processes: FxHashMap::default(),
            threads: FxHashMap::default(),
            last_uuid: 0,
            uuid_step: 1,
            meta_track: None,
            clock,
            clear_state: true,
            generation: 0,
            sequence,
            branches: 0,
            flush_bytes: FLUSH_BYTES,
        }
    }

    /// Hands everything on and returns the writer underneath.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }

    fn clock_snapshot(&mut self) {
        let clock = self.clock;
        wire::message(&mut self.buf, field::TRACE_PACKET, |b| {
            wire::uint(b, field::PACKET_SEQUENCE, SEQUENCE);
            wire::message(b, field::PACKET_CLOCK_SNAPSHOT, |b| {
                for (id, time) in [
                    (wire::CLOCK_BOOTTIME, clock.boottime_ns),
                    (wire::CLOCK_MONOTONIC, clock.monotonic_ns),
                    (wire::CLOCK_REALTIME, clock.realtime_ns),
                ] {
                    wire::message(b, field::SNAPSHOT_CLOCK, |b| {
                        wire::uint(b, field::CLOCK_ID, u64::from(id));
                        wire::uint(b, field::CLOCK_TIMESTAMP, time);
                    });
                }
                wire::uint(b, field::SNAPSHOT_PRIMARY, u64::from(wire::CLOCK_BOOTTIME));
            });
        });
    }

    /// Tells the reader that names start afresh, and the defaults that hold from here on.
    pub(super) fn start_state(&mut self) {
        let sequence = self.sequence;
        wire::message(&mut self.buf, field::TRACE_PACKET, |b| {
            wire::uint(b, field::PACKET_SEQUENCE, sequence);
            wire::uint(b, field::PACKET_SEQUENCE_FLAGS, wire::STATE_CLEARED);
            wire::message(b, field::PACKET_DEFAULTS, |b| {
                wire::uint(b, field::PACKET_CLOCK, u64::from(wire::CLOCK_MONOTONIC));
            });
        });
        self.clear_state = false;
        self.generation += 1;
    }

    fn descriptor(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let sequence = self.sequence;
        wire::message(&mut self.buf, field::TRACE_PACKET, |b| {
            wire::uint(b, field::PACKET_SEQUENCE, sequence);
            wire::message(b, field::PACKET_DESCRIPTOR, body);
        });
        self.hand_on()
    }

    fn new_uuid(&mut self) -> u64 {
        self.last_uuid += self.uuid_step;
        self.last_uuid
    }

    fn process_uuid(&mut self, pid: u32) -> io::Result<u64> {
        if let Some(process) = self.processes.get(&pid) {
            return Ok(process.uuid);
        }
        self.process(pid, "", None, None)?;
        Ok(self.last_uuid)
    }

    fn thread_uuid(&mut self, pid: u32, tid: u32) -> io::Result<u64> {
        if let Some(&uuid) = self.threads.get(&(pid, tid)) {
            return Ok(uuid);
        }
        self.thread(pid, tid, "")?;
        Ok(self.last_uuid)
    }

    pub(super) fn hand_on(&mut self) -> io::Result<()> {
        if self.buf.len() < self.flush_bytes {
            return Ok(());
        }
        let done = self.out.write_all(&self.buf);
        self.buf.clear();
        done
    }
}

impl<W: Write> Sink for PerfettoWriter<W> {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        let (uuid, rank_told) = match self.processes.get(&pid) {
            Some(process) => (process.uuid, process.rank_told),
            None => (self.new_uuid(), false),
        };
        self.processes.insert(pid, Process { uuid, rank_told: rank_told || rank.is_some() });
        let shown = rank.map(|rank| format!("rank {rank}: {name}"));
        let shown = shown.as_deref().unwrap_or(name);
        self.descriptor(|b| {
            wire::uint(b, field::TRACK_UUID, uuid);
            wire::message(b, field::TRACK_PROCESS, |b| {
                wire::uint(b, field::PROCESS_PID, u64::from(pid));
                if let Some(cmdline) = cmdline {
                    wire::bytes(b, field::PROCESS_CMDLINE, cmdline.as_bytes());
                }
                wire::bytes(b, field::PROCESS_NAME, shown.as_bytes());
            });
        })?;
        if let (Some(rank), false) = (rank, rank_told) {
            let track = TrackRef(self.tracks.len() as u32);
            self.tracks.push(self.written(uuid, Layer::Meta));
            self.start_event(track, event_type::INSTANT, "process");
            self.arg("rank", ArgRef::U64(u64::from(rank)));
            self.end_event(self.clock.monotonic_ns)?;
            self.tracks.pop();
        }
        Ok(())
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        let process = self.process_uuid(pid)?;
        let uuid = match self.threads.get(&(pid, tid)) {
            Some(&uuid) => uuid,
            None => self.new_uuid(),
        };
        self.threads.insert((pid, tid), uuid);
        self.descriptor(|b| {
            wire::uint(b, field::TRACK_UUID, uuid);
            wire::uint(b, field::TRACK_PARENT, process);
            wire::message(b, field::TRACK_THREAD, |b| {
                wire::uint(b, field::THREAD_PID, u64::from(pid));
                wire::uint(b, field::THREAD_TID, u64::from(tid));
                if !name.is_empty() {
                    wire::bytes(b, field::THREAD_NAME, name.as_bytes());
                }
            });
            wire::uint(b, field::TRACK_CHILD_ORDERING, EXPLICIT_ORDER);
        })
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        let parent = match (def.pid, def.tid) {
            (None, _) => None,
            (Some(pid), None) => Some(self.process_uuid(pid)?),
            (Some(pid), Some(tid)) => Some(self.thread_uuid(pid, tid)?),
        };
        let uuid = self.new_uuid();
        let order = Layer::ALL.iter().position(|l| *l == def.layer).unwrap_or(Layer::ALL.len());
        self.descriptor(|b| {
            wire::uint(b, field::TRACK_UUID, uuid);
            if let Some(parent) = parent {
                wire::uint(b, field::TRACK_PARENT, parent);
            }
            wire::bytes(b, field::TRACK_NAME, def.name.as_bytes());
            if let Some(unit) = def.counter_unit {
                wire::message(b, field::TRACK_COUNTER, |b| {
                    wire::bytes(b, field::COUNTER_CATEGORY, def.layer.name().as_bytes());
                    match unit {
                        "" => {}
                        "bytes" => wire::uint(b, field::COUNTER_UNIT, UNIT_BYTES),
                        unit => wire::bytes(b, field::COUNTER_UNIT_NAME, unit.as_bytes()),
                    }
                });
            }
            wire::uint(b, field::TRACK_ORDER_RANK, order as u64);
        })?;
        let track = TrackRef(self.tracks.len() as u32);
        self.tracks.push(self.written(uuid, def.layer));
        Ok(track)
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        self.start_event(track, event_type::BEGIN, slice.name);
        self.args(slice.args);
        if slice.estimate && !slice.args.iter().any(|(key, _)| *key == "estimate") {
            self.arg("estimate", ArgRef::U64(1));
        }
        if slice.flow != 0 {
            wire::fixed64(&mut self.event, field::EVENT_FLOW, slice.flow);
        }
        self.end_event(slice.start_ns)?;
        self.plain_end(track, slice.start_ns.saturating_add(slice.dur_ns))
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.start_event(track, event_type::BEGIN, event.name);
        self.args(event.args);
        self.end_event(event.ts_ns)
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        if event.args.is_empty() {
            return self.plain_end(track, event.ts_ns);
        }
        self.start_event(track, event_type::END, "");
        self.args(event.args);
        self.end_event(event.ts_ns)
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.start_event(track, event_type::INSTANT, event.name);
        self.args(event.args);
        self.end_event(event.ts_ns)
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        self.start_event(track, event_type::COUNTER, "");
        wire::fixed64(&mut self.event, field::EVENT_DOUBLE_COUNTER, value.to_bits());
        self.end_event(ts_ns)
    }

    fn meta(&mut self, ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        let track = match self.meta_track {
            Some(track) => track,
            None => {
                let def = TrackDef { pid: None, tid: None, name: "aictl", layer: Layer::Meta, counter_unit: None };
                let track = self.track(def)?;
                *self.meta_track.insert(track)
            }
        };
        let json = serde_json::to_string(meta).map_err(io::Error::other)?;
        self.start_event(track, event_type::INSTANT, "capture");
        let key = self.names.id(Kind::Key, "json");
        wire::message(&mut self.event, field::EVENT_ANNOTATION, |b| {
            match key {
                Some(id) => wire::uint(b, field::ANNOTATION_NAME_IID, id),
                None => wire::bytes(b, field::ANNOTATION_NAME, b"json"),
            }
            wire::bytes(b, field::ANNOTATION_STRING, json.as_bytes());
        });
        self.end_event(ts_ns)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.write_all(&self.buf);
        self.buf.clear();
        done?;
        self.out.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.flush()
    }

    fn branch(&mut self) -> Option<Box<dyn Branch>> {
        // What was numbered before there were branches is below all that comes.
        if self.branches == 0 && self.last_uuid < STRIDE {
            (self.last_uuid, self.uuid_step) = (SEQUENCE, STRIDE);
        }
        let sequence = SEQUENCE + self.branches + 1;
        if self.uuid_step != STRIDE || sequence >= STRIDE {
            return None;
        }
        self.branches += 1;
        let mut branch = PerfettoWriter::of_sequence(io::sink(), self.clock, sequence);
        (branch.last_uuid, branch.uuid_step) = (sequence, STRIDE);
        branch.flush_bytes = usize::MAX;
        Some(Box::new(branch))
    }

    fn append(&mut self, written: &[u8]) -> io::Result<()> {
        self.out.write_all(written)
    }
}

impl Branch for PerfettoWriter<io::Sink> {
    fn take(&mut self) -> Vec<u8> {
        let next = Vec::with_capacity(self.buf.len() + self.buf.len() / 4);
        std::mem::replace(&mut self.buf, next)
    }
}
