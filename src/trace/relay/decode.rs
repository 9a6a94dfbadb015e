//! The receiving end. What comes from another machine is believed to be nothing in particular:
//! any bytes give events or an error, and memory in proportion to their number.

use std::io;

use super::super::meta::CaptureMeta;
use super::super::model::Layer;
use super::super::sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};
use super::{MAX_ARGS, MAX_META, MAX_TEXT, op, value};

/// Why bytes are no run of operations.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// They end within an operation.
    #[error("the stream ends in the middle of an event")]
    Cut,
    /// They are none of ours.
    #[error("the stream is broken: {0}")]
    Broken(&'static str),
    /// What was in them could not be handed on.
    #[error("cannot write the recording")]
    Write(#[source] io::Error),
}

/// Hands the operations of a [`RelayWriter`](super::RelayWriter) on to a sink.
#[derive(Debug, Default)]
pub struct RelayReader {
    texts: Vec<Box<str>>,
    tracks: Vec<TrackRef>,
    last_ns: u64,
}

/// The rest of a run of bytes.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn byte(&mut self) -> Result<u8, RelayError> {
        let (first, rest) = self.0.split_first().ok_or(RelayError::Cut)?;
        self.0 = rest;
        Ok(*first)
    }

    fn uint(&mut self) -> Result<u64, RelayError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(RelayError::Broken("a number has no end"))
    }

    fn signed(&mut self) -> Result<i64, RelayError> {
        let n = self.uint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn small(&mut self) -> Result<u32, RelayError> {
        u32::try_from(self.uint()?).map_err(|_| RelayError::Broken("a number is too large"))
    }

    fn optional(&mut self) -> Result<Option<u32>, RelayError> {
        match self.uint()? {
            0 => Ok(None),
            n => u32::try_from(n - 1).map(Some).map_err(|_| RelayError::Broken("a number is too large")),
        }
    }

    fn run(&mut self, most: usize) -> Result<&'b [u8], RelayError> {
        let length = usize::try_from(self.uint()?).unwrap_or(usize::MAX);
        if length > most {
            return Err(RelayError::Broken("a text is too long"));
        }
        let (run, rest) = self.0.split_at_checked(length).ok_or(RelayError::Cut)?;
        self.0 = rest;
        Ok(run)
    }

    fn fraction(&mut self) -> Result<f64, RelayError> {
        let (run, rest) = self.0.split_first_chunk::<8>().ok_or(RelayError::Cut)?;
        self.0 = rest;
        Ok(f64::from_bits(u64::from_le_bytes(*run)))
    }
}

impl RelayReader {
    /// Starts with a recording.
    pub fn new() -> RelayReader {
        RelayReader::default()
    }

    /// Hands on what some bytes hold: whole operations, in order.
    ///
    /// # Errors
    /// If the bytes are broken, or the sink fails; nothing that comes later can be read then.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), RelayError> {
        let mut bytes = Bytes(bytes);
        while !bytes.0.is_empty() {
            self.operation(&mut bytes, sink)?;
        }
        Ok(())
    }

    fn operation(&mut self, bytes: &mut Bytes<'_>, sink: &mut dyn Sink) -> Result<(), RelayError> {
        let operation = bytes.byte()?;
        match operation {
            op::TEXT => {
                let text = bytes.run(MAX_TEXT)?;
                self.texts.push(String::from_utf8_lossy(text).into());
                Ok(())
            }
            op::FORGET => {
                self.texts.clear();
                Ok(())
            }
            op::PROCESS => {
                let (pid, name, line, rank) = (bytes.small()?, bytes.uint()?, bytes.uint()?, bytes.optional()?);
                let line = line.checked_sub(1).map(|line| text(&self.texts, line)).transpose()?;
                sink.process(pid, text(&self.texts, name)?, line, rank).map_err(RelayError::Write)
            }
            op::THREAD => {
                let (pid, tid, name) = (bytes.small()?, bytes.small()?, bytes.uint()?);
                sink.thread(pid, tid, text(&self.texts, name)?).map_err(RelayError::Write)
            }
            op::TRACK => self.track(bytes, sink),
            op::SLICE => {
                let (track, start_ns) = (self.known(bytes)?, self.time(bytes)?);
                let (dur_ns, name, flow, estimate) = (bytes.uint()?, bytes.uint()?, bytes.uint()?, bytes.byte()? != 0);
                let args = args(&self.texts, bytes)?;
                let name = text(&self.texts, name)?;
                let slice = SliceEvent { start_ns, dur_ns, name, args: &args, flow, estimate };
                sink.slice(track, &slice).map_err(RelayError::Write)
            }
            op::BEGIN | op::END | op::INSTANT => {
                let (track, ts_ns, name) = (self.known(bytes)?, self.time(bytes)?, bytes.uint()?);
                let args = args(&self.texts, bytes)?;
                let event = Event { ts_ns, name: text(&self.texts, name)?, args: &args };
                match operation {
                    op::BEGIN => sink.begin(track, &event),
                    op::END => sink.end(track, &event),
                    _ => sink.instant(track, &event),
                }
                .map_err(RelayError::Write)
            }
            op::COUNTER => {
                let (track, ts_ns) = (self.known(bytes)?, self.time(bytes)?);
                sink.counter(track, ts_ns, bytes.fraction()?).map_err(RelayError::Write)
            }
            op::META => {
                let ts_ns = self.time(bytes)?;
                let notes: CaptureMeta = serde_json::from_slice(bytes.run(MAX_META)?)
                    .map_err(|_| RelayError::Broken("its notes can't be read"))?;
                sink.meta(ts_ns, &notes).map_err(RelayError::Write)
            }
            _ => Err(RelayError::Broken("an operation is unknown")),
        }
    }

    fn track(&mut self, bytes: &mut Bytes<'_>, sink: &mut dyn Sink) -> Result<(), RelayError> {
        let (pid, tid, name) = (bytes.optional()?, bytes.optional()?, bytes.uint()?);
        let layer = Layer::ALL.get(usize::from(bytes.byte()?)).copied().unwrap_or(Layer::Other);
        let unit = bytes.uint()?.checked_sub(1).map(|unit| text(&self.texts, unit)).transpose()?;
        let name = text(&self.texts, name)?;
        let track = sink.track(TrackDef { pid, tid, name, layer, counter_unit: unit }).map_err(RelayError::Write)?;
        self.tracks.push(track);
        Ok(())
    }

    fn known(&self, bytes: &mut Bytes<'_>) -> Result<TrackRef, RelayError> {
        let track = bytes.small()?;
        self.tracks.get(track as usize).copied().ok_or(RelayError::Broken("it names a track that it did not make"))
    }

    fn time(&mut self, bytes: &mut Bytes<'_>) -> Result<u64, RelayError> {
        self.last_ns = self.last_ns.wrapping_add(bytes.signed()? as u64);
        Ok(self.last_ns)
    }
}

fn text(texts: &[Box<str>], id: u64) -> Result<&str, RelayError> {
    let text = usize::try_from(id).ok().and_then(|id| texts.get(id));
    text.map(|text| &**text).ok_or(RelayError::Broken("it names a text that it did not send"))
}

fn args<'t>(texts: &'t [Box<str>], bytes: &mut Bytes<'_>) -> Result<Vec<(&'t str, ArgRef<'t>)>, RelayError> {
    let count = usize::try_from(bytes.uint()?).unwrap_or(usize::MAX);
    if count > MAX_ARGS {
        return Err(RelayError::Broken("an event has too many arguments"));
    }
    let mut args = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        let key = text(texts, bytes.uint()?)?;
        let value = match bytes.byte()? {
            value::U64 => ArgRef::U64(bytes.uint()?),
            value::I64 => ArgRef::I64(bytes.signed()?),
            value::F64 => ArgRef::F64(bytes.fraction()?),
            value::TEXT => ArgRef::Str(text(texts, bytes.uint()?)?),
            _ => return Err(RelayError::Broken("an argument has no type of ours")),
        };
        args.push((key, value));
    }
    Ok(args)
}
