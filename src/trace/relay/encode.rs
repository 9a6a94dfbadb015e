//! The sending end.

use std::io;

use rustc_hash::FxHashMap;

use super::super::meta::CaptureMeta;
use super::super::model::Layer;
use super::super::sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};
use super::{MAX_TEXT, op, value};

/// When the table of texts holds more, both ends start afresh: memory stays bounded however
/// long the capture.
const MAX_TEXTS: usize = 64 << 10;
/// The same, in bytes.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// A [`Sink`] that turns what it is told into bytes, to be taken with [`RelayWriter::take`].
#[derive(Debug, Default)]
pub struct RelayWriter {
    out: Vec<u8>,
    texts: FxHashMap<Box<str>, u64>,
    text_bytes: usize,
    tracks: u32,
    /// Times are sent as the difference to the last: they are close together.
    last_ns: u64,
}

impl RelayWriter {
    /// Starts a recording.
    pub fn new() -> RelayWriter {
        RelayWriter::default()
    }

    /// Bytes that wait to be taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes the bytes so far: whole operations.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Before an operation, never within one: makes room in the table of texts.
    fn tidy(&mut self) {
        if self.texts.len() > MAX_TEXTS || self.text_bytes > MAX_TEXT_BYTES {
            self.texts.clear();
            self.text_bytes = 0;
            self.out.push(op::FORGET);
        }
    }

    /// A text's number, sent before it is first used.
    fn text(&mut self, text: &str) -> u64 {
        let text = &text[..text.floor_char_boundary(MAX_TEXT)];
        if let Some(&id) = self.texts.get(text) {
            return id;
        }
        let id = self.texts.len() as u64;
        self.texts.insert(text.into(), id);
        self.text_bytes += text.len();
        self.out.push(op::TEXT);
        uint(&mut self.out, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
        id
    }

    fn time(&mut self, ts_ns: u64) {
        signed(&mut self.out, ts_ns.wrapping_sub(self.last_ns) as i64);
        self.last_ns = ts_ns;
    }

    /// Numbers the texts of arguments; they must go out before the operation that names them.
    fn name_args(&mut self, args: &[(&str, ArgRef<'_>)]) -> Vec<(u64, u64)> {
        let mut ids = Vec::with_capacity(args.len());
        for (key, value) in args {
            let key = self.text(key);
            ids.push((key, if let ArgRef::Str(text) = value { self.text(text) } else { 0 }));
        }
        ids
    }

    fn args(&mut self, args: &[(&str, ArgRef<'_>)], ids: &[(u64, u64)]) {
        uint(&mut self.out, args.len() as u64);
        for ((_, value), (key, text)) in args.iter().zip(ids) {
            uint(&mut self.out, *key);
            match *value {
                ArgRef::U64(n) => {
                    self.out.push(value::U64);
                    uint(&mut self.out, n);
                }
                ArgRef::I64(n) => {
                    self.out.push(value::I64);
                    signed(&mut self.out, n);
                }
                ArgRef::F64(n) => {
                    self.out.push(value::F64);
                    self.out.extend_from_slice(&n.to_bits().to_le_bytes());
                }
                ArgRef::Str(_) => {
                    self.out.push(value::TEXT);
                    uint(&mut self.out, *text);
                }
            }
        }
    }

    fn event(&mut self, op: u8, track: TrackRef, event: &Event<'_>) {
        self.tidy();
        let name = self.text(event.name);
        let ids = self.name_args(event.args);
        self.out.push(op);
        uint(&mut self.out, track.0.into());
        self.time(event.ts_ns);
        uint(&mut self.out, name);
        self.args(event.args, &ids);
    }
}

/// LEB128, seven bits a byte, as protobuf has it.
fn uint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Zigzag: small numbers of both signs stay short.
fn signed(out: &mut Vec<u8>, n: i64) {
    uint(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// 0 for none, else one more.
fn optional(out: &mut Vec<u8>, n: Option<u32>) {
    uint(out, n.map_or(0, |n| u64::from(n) + 1));
}

/// A layer's place in [`Layer::ALL`].
fn layer(layer: Layer) -> u8 {
    Layer::ALL.iter().position(|l| *l == layer).unwrap_or(Layer::ALL.len() - 1) as u8
}

impl Sink for RelayWriter {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        self.tidy();
        let name = self.text(name);
        let line = cmdline.map(|line| self.text(line));
        self.out.push(op::PROCESS);
        uint(&mut self.out, pid.into());
        uint(&mut self.out, name);
        uint(&mut self.out, line.map_or(0, |line| line + 1));
        optional(&mut self.out, rank);
        Ok(())
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        self.tidy();
        let name = self.text(name);
        self.out.push(op::THREAD);
        uint(&mut self.out, pid.into());
        uint(&mut self.out, tid.into());
        uint(&mut self.out, name);
        Ok(())
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        self.tidy();
        let name = self.text(def.name);
        let unit = def.counter_unit.map(|unit| self.text(unit));
        self.out.push(op::TRACK);
        optional(&mut self.out, def.pid);
        optional(&mut self.out, def.tid);
        uint(&mut self.out, name);
        self.out.push(layer(def.layer));
        uint(&mut self.out, unit.map_or(0, |unit| unit + 1));
        let track = TrackRef(self.tracks);
        self.tracks += 1;
        Ok(track)
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        self.tidy();
        let name = self.text(slice.name);
        let ids = self.name_args(slice.args);
        self.out.push(op::SLICE);
        uint(&mut self.out, track.0.into());
        self.time(slice.start_ns);
        uint(&mut self.out, slice.dur_ns);
        uint(&mut self.out, name);
        uint(&mut self.out, slice.flow);
        self.out.push(slice.estimate.into());
        self.args(slice.args, &ids);
        Ok(())
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.event(op::BEGIN, track, event);
        Ok(())
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.event(op::END, track, event);
        Ok(())
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.event(op::INSTANT, track, event);
        Ok(())
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        self.out.push(op::COUNTER);
        uint(&mut self.out, track.0.into());
        self.time(ts_ns);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
        Ok(())
    }

    fn meta(&mut self, ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        let notes = serde_json::to_vec(meta)?;
        self.out.push(op::META);
        self.time(ts_ns);
        uint(&mut self.out, notes.len() as u64);
        self.out.extend_from_slice(&notes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
