//! Writes the Trace Event Format as events arrive.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustc_hash::FxHashMap;

use crate::trace::meta::CaptureMeta;
use crate::trace::model::Layer;
use crate::trace::sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};

/// Events are handed on in runs of about this size, whole.
const FLUSH_BYTES: usize = 64 << 10;
/// Layer tracks get thread ids above Linux's largest (2^22), so that they meet no real one.
const FIRST_TRACK_TID: u64 = (1 << 22) + 1;

struct WrittenTrack {
    pid: u32,
    tid: u64,
    layer: Layer,
    /// The track's name, already quoted: counters carry it on every event.
    name: Box<str>,
}

/// A [`Sink`] that writes Chrome's JSON array format; a file cut short is still readable.
pub struct ChromeWriter<W: Write> {
    out: W,
    buf: Vec<u8>,
    tracks: Vec<WrittenTrack>,
    threads: FxHashMap<(u32, u32), Box<str>>,
    meta_track: Option<TrackRef>,
    first: bool,
    finished: bool,
}

impl<W: Write> ChromeWriter<W> {
    /// Starts a recording; nothing is written before the first event.
    pub fn new(out: W) -> Self {
        ChromeWriter {
            out,
            buf: Vec::with_capacity(FLUSH_BYTES + (8 << 10)),
            tracks: Vec::new(),
            threads: FxHashMap::default(),
            meta_track: None,
            first: true,
            finished: false,
        }
    }

    /// Hands everything on and returns the writer underneath. The closing bracket is
    /// written by [`Sink::finish`] only.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.hand_on(0)?;
        Ok(self.out)
    }

    fn hand_on(&mut self, from: usize) -> io::Result<()> {
        if self.buf.len() <= from {
            return Ok(());
        }
        let done = self.out.write_all(&self.buf);
        self.buf.clear();
        done
    }

    fn open(&mut self, ph: char) {
        self.buf.extend_from_slice(if self.first { b"[\n{\"ph\":\"" } else { b",\n{\"ph\":\"" });
        self.first = false;
        let mut utf8 = [0; 4];
        self.buf.extend_from_slice(ph.encode_utf8(&mut utf8).as_bytes());
        self.buf.push(b'"');
    }

    fn close(&mut self) -> io::Result<()> {
        self.buf.push(b'}');
        self.hand_on(FLUSH_BYTES)
    }

    fn raw(&mut self, text: &str) {
        self.buf.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, mut value: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.buf.extend_from_slice(&digits[at..]);
    }

    /// `key` comes with its quotes and colon.
    fn micros(&mut self, key: &str, ns: u64) {
        self.raw(key);
        self.number(ns / 1000);
        let rest = ns % 1000;
        if rest > 0 {
            let digits = [b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8];
            self.buf.extend_from_slice(&digits);
        }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        quote(&mut self.buf, text)
    }

    fn place(&mut self, track: TrackRef) {
        let Some((pid, tid)) = self.tracks.get(track.0 as usize).map(|t| (t.pid, t.tid)) else { return };
        self.raw(",\"pid\":");
        self.number(u64::from(pid));
        self.raw(",\"tid\":");
        self.number(tid);
    }

    fn cat(&mut self, track: TrackRef) {
        let Some(layer) = self.tracks.get(track.0 as usize).map(|t| t.layer) else { return };
        self.raw(",\"cat\":\"");
        self.raw(layer.name());
        self.raw("\"");
    }

    fn arg(&mut self, first: &mut bool, key: &str, value: ArgRef<'_>) -> io::Result<()> {
        self.raw(if *first { ",\"args\":{" } else { "," });
        *first = false;
        self.text(key)?;
        self.raw(":");
        match value {
            ArgRef::U64(n) => self.number(n),
            ArgRef::I64(n) => {
                if n < 0 {
                    self.raw("-");
                }
                self.number(n.unsigned_abs());
            }
            // serde_json writes what is not finite as null.
            ArgRef::F64(n) => serde_json::to_writer(&mut self.buf, &n)?,
            ArgRef::Str(text) => self.text(text)?,
        }
        Ok(())
    }

    fn args(&mut self, args: &[(&str, ArgRef<'_>)], estimate: bool, flow: u64) -> io::Result<()> {
        let mut first = true;
        for &(key, value) in args {
            self.arg(&mut first, key, value)?;
        }
        if estimate && !args.iter().any(|(key, _)| *key == "estimate") {
            self.arg(&mut first, "estimate", ArgRef::U64(1))?;
        }
        if flow != 0 {
            self.arg(&mut first, "flow", ArgRef::U64(flow))?;
        }
        if !first {
            self.raw("}");
        }
        Ok(())
    }

    fn event(&mut self, ph: char, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.open(ph);
        if ph != 'E' {
            self.raw(",\"name\":");
            self.text(event.name)?;
            self.cat(track);
        }
        if ph == 'i' {
            self.raw(",\"s\":\"t\"");
        }
        self.place(track);
        self.micros(",\"ts\":", event.ts_ns);
        self.args(event.args, false, 0)?;
        self.close()
    }

    fn metadata(&mut self, name: &str, pid: u32, tid: u64, args: &[(&str, ArgRef<'_>)]) -> io::Result<()> {
        self.open('M');
        self.raw(",\"name\":");
        self.text(name)?;
        self.raw(",\"pid\":");
        self.number(u64::from(pid));
        self.raw(",\"tid\":");
        self.number(tid);
        self.args(args, false, 0)?;
        self.close()
    }
}

impl<W: Write> ChromeWriter<GzEncoder<W>> {
    /// Starts a recording packed with gzip.
    pub fn gzip(out: W) -> Self {
        ChromeWriter::new(GzEncoder::new(out, Compression::fast()))
    }
}

fn quote(buf: &mut Vec<u8>, text: &str) -> io::Result<()> {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        buf.push(b'"');
        buf.extend_from_slice(text.as_bytes());
        buf.push(b'"');
        return Ok(());
    }
    Ok(serde_json::to_writer(buf, text)?)
}

impl<W: Write> Sink for ChromeWriter<W> {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        let shown = rank.map(|rank| format!("rank {rank}: {name}"));
        let mut args = vec![("name", ArgRef::Str(shown.as_deref().unwrap_or(name)))];
        if let Some(cmdline) = cmdline {
            args.push(("cmdline", ArgRef::Str(cmdline)));
        }
        if let Some(rank) = rank {
            args.push(("rank", ArgRef::U64(u64::from(rank))));
        }
        self.metadata("process_name", pid, 0, &args)
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        self.threads.insert((pid, tid), name.into());
        self.metadata("thread_name", pid, u64::from(tid), &[("name", ArgRef::Str(name))])
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        let tid = FIRST_TRACK_TID + self.tracks.len() as u64;
        let pid = def.pid.unwrap_or(0);
        let order = Layer::ALL.iter().position(|l| *l == def.layer).unwrap_or(Layer::ALL.len()) as u64;
        let mut shown = def.name.to_owned();
        let mut args = Vec::new();
        if let (Some(_), Some(owner)) = (def.pid, def.tid) {
            let name = self.threads.get(&(pid, owner)).map_or("", |name| name);
            shown = format!("{name} {owner} / {}", def.name);
            args.push(("thread", ArgRef::U64(u64::from(owner))));
        }
        args.push(("name", ArgRef::Str(&shown)));
        args.push(("track", ArgRef::Str(def.name)));
        args.push(("layer", ArgRef::Str(def.layer.name())));
        if def.pid.is_none() {
            args.push(("global", ArgRef::U64(1)));
        }
        self.metadata("thread_name", pid, tid, &args)?;
        let index = ("sort_index", ArgRef::U64(def.tid.map_or(0, u64::from) << 4 | order));
        self.metadata("thread_sort_index", pid, tid, &[index])?;
        let mut name = Vec::new();
        quote(&mut name, def.name)?;
        let name = String::from_utf8_lossy(&name).into();
        self.tracks.push(WrittenTrack { pid, tid, layer: def.layer, name });
        Ok(TrackRef((self.tracks.len() - 1) as u32))
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        self.open('X');
        self.raw(",\"name\":");
        self.text(slice.name)?;
        self.cat(track);
        self.place(track);
        self.micros(",\"ts\":", slice.start_ns);
        self.micros(",\"dur\":", slice.dur_ns);
        self.args(slice.args, slice.estimate, slice.flow)?;
        self.close()
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.event('B', track, event)
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.event('E', track, event)
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        self.event('i', track, event)
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        self.open('C');
        self.raw(",\"name\":");
        if let Some(name) = self.tracks.get(track.0 as usize).map(|t| t.name.clone()) {
            self.raw(&name);
        }
        self.cat(track);
        self.place(track);
        self.micros(",\"ts\":", ts_ns);
        self.args(&[("value", ArgRef::F64(value))], false, 0)?;
        self.close()
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
        let json = serde_json::to_string(meta)?;
        self.instant(track, &Event { ts_ns, name: "capture", args: &[("json", ArgRef::Str(&json))] })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_on(0)?;
        self.out.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.finished {
            self.finished = true;
            self.buf.extend_from_slice(if self.first { b"[]\n" } else { b"\n]\n" });
        }
        self.flush()
    }
}
