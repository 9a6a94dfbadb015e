//! Reads Perfetto recordings, ours and others', as a stream of packets.

use std::io::{Read, Take};

use flate2::read::ZlibDecoder;
use rustc_hash::FxHashMap;

use super::packets::{Packets, Stop};
use super::sequence::{Clocks, Sequence};
use super::tracks::Tracks;
use super::wire::{Fields, Malformed, STATE_CLEARED, event_type, field};
use crate::trace::build::Builder;
use crate::trace::model::{Arg, ArgsId, Flags, Layer, StrId, Trace, TrackId};
use crate::trace::read::ReadError;

/// A bundle of compressed packets may unpack to this much; more is taken for a bomb.
const MAX_UNPACKED: u64 = 1 << 30;

/// A begin that may be followed by its own end.
struct Begun {
    track: TrackId,
    ts_ns: u64,
    name: StrId,
    args: ArgsId,
    flags: Flags,
    sequence: u32,
}

struct Reader {
    builder: Builder,
    tracks: Tracks,
    clocks: Clocks,
    sequences: Vec<Sequence>,
    sequence_index: FxHashMap<u32, u32>,
    /// Id and index of the sequence met last: packets come in runs.
    last_sequence: Option<(u32, u32)>,
    begun: Option<Begun>,
    args: Vec<(StrId, Arg)>,
    keys: Keys,
    packets: u64,
    malformed: u64,
    unresolved: u64,
}

/// Argument names the reader itself looks for.
struct Keys {
    rank: StrId,
    json: StrId,
    flow: StrId,
    process: StrId,
    capture: StrId,
}

/// Reads a whole recording.
pub(in crate::trace) fn read(input: &mut dyn Read) -> Result<Trace, ReadError> {
    let mut builder = Builder::new();
    let keys = Keys {
        rank: builder.text("rank"),
        json: builder.text("json"),
        flow: builder.text("flow"),
        process: builder.text("process"),
        capture: builder.text("capture"),
    };
    let mut reader = Reader {
        builder,
        tracks: Tracks::default(),
        clocks: Clocks::default(),
        sequences: Vec::new(),
        sequence_index: FxHashMap::default(),
        last_sequence: None,
        begun: None,
        args: Vec::new(),
        keys,
        packets: 0,
        malformed: 0,
        unresolved: 0,
    };
    let mut stream = Packets::new(input);
    let stopped = reader.stream(&mut stream, true);
    let (offset, left) = (stream.offset, stream.left_over());
    match stopped {
        Ok(()) => {}
        Err(Stop::Io(source)) if reader.packets == 0 => return Err(ReadError::Io { offset, source }),
        Err(_) if reader.packets == 0 => return Err(ReadError::Damaged { offset }),
        Err(Stop::Io(source)) => {
            reader.builder.warn(format!("the recording could be read up to byte {offset} only: {source}"))
        }
        Err(Stop::Cut) => reader
            .builder
            .warn(format!("the recording is cut: {left} bytes of an unfinished packet at byte {offset} were left out")),
        Err(Stop::Damaged) => reader
            .builder
            .warn(format!("the recording is damaged at byte {offset}: everything from there on was left out")),
    }
    Ok(reader.finish())
}

impl Reader {
    fn stream(&mut self, stream: &mut Packets<'_>, outermost: bool) -> Result<(), Stop> {
        while let Some(packet) = stream.next()? {
            self.packets += 1;
            if self.packet(packet, outermost).is_err() {
                self.malformed += 1;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Trace {
        self.flush_begun();
        if self.malformed > 0 {
            self.builder
                .warn(format!("{} of {} packets can't be read and were left out", self.malformed, self.packets));
        }
        if self.unresolved > 0 {
            self.builder.warn(format!("{} names refer to packets that are missing", self.unresolved));
        }
        self.tracks.resolve(&mut self.builder);
        self.builder.trace.clock = self.clocks.wall;
        self.builder.finish()
    }

    fn packet(&mut self, packet: &[u8], outermost: bool) -> Result<(), Malformed> {
        let (mut time, mut clock, mut sequence, mut cleared) = (0, None, 0, false);
        let (mut event, mut interned, mut descriptor, mut snapshot) = (None, None, None, None);
        let (mut defaults, mut compressed) = (None, None);
        for item in Fields::of(packet) {
            let (number, value) = item?;
            match number {
                field::PACKET_TIMESTAMP => time = value.uint(),
                field::PACKET_CLOCK => clock = u32::try_from(value.uint()).ok(),
                field::PACKET_SEQUENCE => sequence = value.uint() as u32,
                field::PACKET_SEQUENCE_FLAGS => cleared |= value.uint() & STATE_CLEARED != 0,
                field::PACKET_CLEARED => cleared |= value.uint() != 0,
                field::PACKET_TRACK_EVENT => event = Some(value.bytes()),
                field::PACKET_INTERNED => interned = Some(value.bytes()),
                field::PACKET_DESCRIPTOR => descriptor = Some(value.bytes()),
                field::PACKET_CLOCK_SNAPSHOT => snapshot = Some(value.bytes()),
                field::PACKET_DEFAULTS => defaults = Some(value.bytes()),
                field::PACKET_COMPRESSED => compressed = Some(value.bytes()),
                _ => {}
            }
        }
        if let Some(compressed) = compressed {
            return if outermost { self.compressed(compressed) } else { Err(Malformed) };
        }
        let sequence = self.sequence(sequence);
        let Some(state) = self.sequences.get_mut(sequence as usize) else { return Err(Malformed) };
        if cleared {
            state.clear();
        }
        if let Some(defaults) = defaults {
            state.defaults(defaults)?;
        }
        if let Some(interned) = interned {
            state.interned(interned, &mut self.builder)?;
        }
        if let Some(snapshot) = snapshot {
            self.clocks.snapshot(snapshot, state)?;
        }
        if let Some(descriptor) = descriptor {
            self.tracks.descriptor(descriptor, &mut self.builder)?;
        }
        if let Some(event) = event {
            let ts_ns = self.clocks.time(state, clock, time);
            self.event(event, ts_ns, sequence)?;
        }
        Ok(())
    }

    /// Index of a sequence's state.
    fn sequence(&mut self, id: u32) -> u32 {
        if let Some((last, index)) = self.last_sequence
            && last == id
        {
            return index;
        }
        let sequences = &mut self.sequences;
        let index = *self.sequence_index.entry(id).or_insert_with(|| {
            sequences.push(Sequence::default());
            (sequences.len() - 1) as u32
        });
        self.last_sequence = Some((id, index));
        index
    }

    fn compressed(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut unpacked: Take<_> = ZlibDecoder::new(bytes).take(MAX_UNPACKED);
        let mut stream = Packets::new(&mut unpacked);
        self.stream(&mut stream, false).map_err(|_| Malformed)
    }

    fn event(&mut self, body: &[u8], ts_ns: u64, sequence: u32) -> Result<(), Malformed> {
        let Some(state) = self.sequences.get(sequence as usize) else { return Err(Malformed) };
        let (mut kind, mut track, mut category, mut name) = (0, state.track.unwrap_or(0), None, StrId(0));
        let (mut value, mut json, mut category_iid) = (0.0, None, None);
        self.args.clear();
        for item in Fields::of(body) {
            let (number, found) = item?;
            match number {
                field::EVENT_TYPE => kind = found.uint(),
                field::EVENT_TRACK => track = found.uint(),
                field::EVENT_CATEGORY_IID => category_iid = category_iid.or(Some(found.uint())),
                field::EVENT_CATEGORY => {
                    let text = self.builder.text(&String::from_utf8_lossy(found.bytes()));
                    category = category.or(Some(text));
                }
                field::EVENT_NAME_IID => match state.names.get(found.uint()) {
                    Some(text) => name = text,
                    None => self.unresolved += 1,
                },
                field::EVENT_NAME => name = self.builder.text(&String::from_utf8_lossy(found.bytes())),
                field::EVENT_ANNOTATION => match annotation(found.bytes(), state, &mut self.builder, self.keys.json)? {
                    Annotation::Arg(key, value) => self.args.push((key, value)),
                    Annotation::Json(text) => json = Some(text),
                    Annotation::Unresolved => self.unresolved += 1,
                    Annotation::Ignored => {}
                },
                field::EVENT_FLOW => self.args.push((self.keys.flow, Arg::U64(found.uint()))),
                field::EVENT_COUNTER => value = found.uint() as i64 as f64,
                field::EVENT_DOUBLE_COUNTER => value = found.double(),
                _ => {}
            }
        }
        if let Some(json) = json {
            let text = String::from_utf8_lossy(json);
            if name == self.keys.capture {
                self.builder.meta_json(&text);
                return Ok(());
            }
            let text = self.builder.text(&text);
            self.args.push((self.keys.json, Arg::Str(text)));
        }
        if kind == event_type::INSTANT && name == self.keys.process && self.rank_note(track) {
            return Ok(());
        }
        if !(event_type::BEGIN..=event_type::COUNTER).contains(&kind) {
            return Ok(());
        }
        // The track's first event tells its layer.
        let sequences = &self.sequences;
        let layer = |builder: &Builder| {
            let state = sequences.get(sequence as usize);
            let named = category_iid.and_then(|id| state?.categories.get(id)).or(category);
            named.map_or(Layer::Other, |text| Layer::from_name(builder.trace.text(text)))
        };
        let track = self.tracks.track(track, layer, &mut self.builder);
        match kind {
            event_type::BEGIN => {
                self.flush_begun();
                let args = self.builder.args(&self.args);
                let flags = self.builder.flags(&self.args);
                self.begun = Some(Begun { track, ts_ns, name, args, flags, sequence });
            }
            event_type::END => self.end(track, ts_ns, sequence),
            event_type::INSTANT => {
                let args = self.builder.args(&self.args);
                self.builder.instant(track, ts_ns, name, args);
            }
            event_type::COUNTER => self.builder.counter(track, ts_ns, value),
            _ => {}
        }
        Ok(())
    }

    /// A begin directly followed by its track's end is a finished slice, unless the track's other
    /// begins and ends show that it is not in the order of time. Any other begin waits until all
    /// are there, to be paired in the order of time.
    fn end(&mut self, track: TrackId, ts_ns: u64, sequence: u32) {
        if let Some(b) = &self.begun
            && (b.track, b.sequence) == (track, sequence)
            && b.ts_ns <= ts_ns
            && self.args.is_empty()
            && self.builder.last_raw_ns(track).is_none_or(|last| last < b.ts_ns)
        {
            self.builder.slice(track, b.ts_ns, ts_ns - b.ts_ns, b.name, b.args, b.flags);
            self.begun = None;
            return;
        }
        self.flush_begun();
        let args = self.builder.args(&self.args);
        self.builder.end(track, ts_ns, args);
    }

    fn flush_begun(&mut self) {
        if let Some(b) = self.begun.take() {
            self.builder.begin(b.track, b.ts_ns, b.name, b.args, b.flags);
        }
    }

    /// Takes in the instant by which a process tells its rank.
    fn rank_note(&mut self, track: u64) -> bool {
        let rank = self.args.iter().find(|(key, _)| *key == self.keys.rank);
        let Some((_, Arg::U64(rank))) = rank else { return false };
        u32::try_from(*rank).is_ok_and(|rank| self.tracks.set_rank(track, rank, &mut self.builder))
    }
}

enum Annotation<'a> {
    Arg(StrId, Arg),
    /// The recording's own notes, not stored among the texts: there is one every second.
    Json(&'a [u8]),
    /// A name or text was interned in a packet that is missing.
    Unresolved,
    /// A nested value.
    Ignored,
}

fn annotation<'a>(
    body: &'a [u8],
    state: &Sequence,
    builder: &mut Builder,
    json: StrId,
) -> Result<Annotation<'a>, Malformed> {
    let mut key = None;
    let mut value = None;
    let mut text = None;
    for item in Fields::of(body) {
        let (number, found) = item?;
        match number {
            field::ANNOTATION_NAME_IID => key = Some(state.keys.get(found.uint())),
            field::ANNOTATION_NAME => key = Some(Some(builder.text(&String::from_utf8_lossy(found.bytes())))),
            field::ANNOTATION_BOOL | field::ANNOTATION_UINT | field::ANNOTATION_POINTER => {
                value = Some(Some(Arg::U64(found.uint())));
            }
            field::ANNOTATION_INT => value = Some(Some(Arg::I64(found.uint() as i64))),
            field::ANNOTATION_DOUBLE => value = Some(Some(Arg::F64(found.double()))),
            field::ANNOTATION_STRING | field::ANNOTATION_JSON => text = Some(found.bytes()),
            field::ANNOTATION_STRING_IID => value = Some(state.texts.get(found.uint()).map(Arg::Str)),
            _ => {}
        }
    }
    if let Some(text) = text {
        if key == Some(Some(json)) {
            return Ok(Annotation::Json(text));
        }
        value = Some(Some(Arg::Str(builder.text(&String::from_utf8_lossy(text)))));
    }
    Ok(match (key, value) {
        (Some(Some(key)), Some(Some(value))) => Annotation::Arg(key, value),
        (None, _) | (_, None) => Annotation::Ignored,
        _ => Annotation::Unresolved,
    })
}
