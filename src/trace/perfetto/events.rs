//! Events as packets: what is done millions of times, and so with few steps.

use std::io::{self, Write};

use super::intern::{Interner, Kind};
use super::wire::{self, Short, event_type, field};
use super::write::PerfettoWriter;
use crate::trace::model::Layer;
use crate::trace::sink::{ArgRef, TrackRef};

/// What is known of a track that was made.
pub(super) struct WrittenTrack {
    pub uuid: u64,
    pub layer: Layer,
    /// A begin up to its name, and the generation of names that its category is of.
    begin: (u32, Short),
    /// All of an end without arguments that comes after its time.
    end: Short,
}

impl<W: Write> PerfettoWriter<W> {
    /// Encodes an event's common fields into `self.event`.
    pub(super) fn start_event(&mut self, track: TrackRef, kind: u64, name: &str) {
        if self.names.is_full() {
            self.names.clear();
            self.clear_state = true;
        }
        if self.clear_state {
            self.start_state();
        }
        self.event.clear();
        let Some(track) = self.tracks.get_mut(track.0 as usize) else {
            wire::uint(&mut self.event, field::EVENT_TYPE, kind);
            return;
        };
        let named = kind == event_type::BEGIN || kind == event_type::INSTANT;
        let category = |names: &mut Interner| names.id(Kind::Category, track.layer.name());
        if kind == event_type::BEGIN {
            if track.begin.0 != self.generation {
                track.begin = (self.generation, head(kind, track.uuid, category(&mut self.names)));
            }
            track.begin.1.write(&mut self.event);
        } else {
            let category = if named { category(&mut self.names) } else { None };
            head(kind, track.uuid, category).write(&mut self.event);
        }
        if named {
            match self.names.id(Kind::Name, name) {
                Some(id) => wire::uint(&mut self.event, field::EVENT_NAME_IID, id),
                None => wire::bytes(&mut self.event, field::EVENT_NAME, name.as_bytes()),
            }
        }
    }

    pub(super) fn arg(&mut self, key: &str, value: ArgRef<'_>) {
        let key_id = self.names.id(Kind::Key, key);
        let text_id = match value {
            ArgRef::Str(text) => self.names.repeated(text),
            _ => None,
        };
        wire::message(&mut self.event, field::EVENT_ANNOTATION, |b| {
            match key_id {
                Some(id) => wire::uint(b, field::ANNOTATION_NAME_IID, id),
                None => wire::bytes(b, field::ANNOTATION_NAME, key.as_bytes()),
            }
            match (value, text_id) {
                (ArgRef::U64(n), _) => wire::uint(b, field::ANNOTATION_UINT, n),
                (ArgRef::I64(n), _) => wire::uint(b, field::ANNOTATION_INT, n as u64),
                (ArgRef::F64(n), _) => wire::fixed64(b, field::ANNOTATION_DOUBLE, n.to_bits()),
                (ArgRef::Str(_), Some(id)) => wire::uint(b, field::ANNOTATION_STRING_IID, id),
                (ArgRef::Str(text), None) => wire::bytes(b, field::ANNOTATION_STRING, text.as_bytes()),
            }
        });
    }

    pub(super) fn args(&mut self, args: &[(&str, ArgRef<'_>)]) {
        for &(key, value) in args {
            self.arg(key, value);
        }
    }

    /// Writes `self.event` as a packet, with the names that are new in it.
    pub(super) fn end_event(&mut self, ts_ns: u64) -> io::Result<()> {
        let PerfettoWriter { buf, event, names, .. } = self;
        let (mut packet, mut front, mut middle) = (Short::default(), Short::default(), Short::default());
        front.uint(field::PACKET_TIMESTAMP, ts_ns);
        front.uint(field::PACKET_SEQUENCE, self.sequence);
        front.uint(field::PACKET_SEQUENCE_FLAGS, wire::NEEDS_STATE);
        if !names.fresh.is_empty() {
            front.head(field::PACKET_INTERNED, names.fresh.len());
        }
        middle.head(field::PACKET_TRACK_EVENT, event.len());
        packet.head(field::TRACE_PACKET, front.len() + names.fresh.len() + middle.len() + event.len());
        packet.write(buf);
        front.write(buf);
        if !names.fresh.is_empty() {
            buf.append(&mut names.fresh);
        }
        middle.write(buf);
        buf.extend_from_slice(event);
        self.hand_on()
    }

    /// An end without arguments, of which there is one for each slice.
    pub(super) fn plain_end(&mut self, track: TrackRef, ts_ns: u64) -> io::Result<()> {
        let Some(written) = self.tracks.get(track.0 as usize).filter(|_| !self.clear_state) else {
            self.start_event(track, event_type::END, "");
            return self.end_event(ts_ns);
        };
        let mut time = Short::default();
        time.uint(field::PACKET_TIMESTAMP, ts_ns);
        let mut packet = Short::default();
        packet.head(field::TRACE_PACKET, time.len() + written.end.len());
        packet.write(&mut self.buf);
        time.write(&mut self.buf);
        written.end.write(&mut self.buf);
        self.hand_on()
    }

    /// A track that can be written on.
    pub(super) fn written(&self, uuid: u64, layer: Layer) -> WrittenTrack {
        let (event, mut end) = (head(event_type::END, uuid, None), Short::default());
        end.uint(field::PACKET_SEQUENCE, self.sequence);
        end.uint(field::PACKET_SEQUENCE_FLAGS, wire::NEEDS_STATE);
        end.head(field::PACKET_TRACK_EVENT, event.len());
        end.put(&event);
        WrittenTrack { uuid, layer, begin: (0, Short::default()), end }
    }
}

/// What an event begins with.
fn head(kind: u64, track: u64, category: Option<u64>) -> Short {
    let mut head = Short::default();
    head.uint(field::EVENT_TYPE, kind);
    head.uint(field::EVENT_TRACK, track);
    if let Some(id) = category {
        head.uint(field::EVENT_CATEGORY_IID, id);
    }
    head
}
