//! Events as packets: what is done millions of times, and so with few steps.

use std::io::{self, Write};

use super::intern::Kind;
use super::wire::{self, Short, event_type, field};
use super::write::PerfettoWriter;
use crate::trace::model::Layer;
use crate::trace::sink::{ArgRef, TrackRef};

/// What is known of a track that was made.
pub(super) struct WrittenTrack {
    pub uuid: u64,
    pub layer: Layer,
    /// Number of the layer's name, in this generation of names.
    category: (u32, u64),
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
        wire::uint(&mut self.event, field::EVENT_TYPE, kind);
        let Some(track) = self.tracks.get_mut(track.0 as usize) else { return };
        wire::uint(&mut self.event, field::EVENT_TRACK, track.uuid);
        if kind == event_type::BEGIN || kind == event_type::INSTANT {
            if track.category.0 != self.generation {
                // 0 is no number of a name.
                let id = self.names.id(Kind::Category, track.layer.name()).unwrap_or(0);
                track.category = (self.generation, id);
            }
            if track.category.1 != 0 {
                wire::uint(&mut self.event, field::EVENT_CATEGORY_IID, track.category.1);
            }
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
        let (mut front, mut middle) = (Short::default(), Short::default());
        front.uint(field::PACKET_TIMESTAMP, ts_ns);
        front.uint(field::PACKET_SEQUENCE, self.sequence);
        front.uint(field::PACKET_SEQUENCE_FLAGS, wire::NEEDS_STATE);
        if !names.fresh.is_empty() {
            front.head(field::PACKET_INTERNED, names.fresh.len());
        }
        middle.head(field::PACKET_TRACK_EVENT, event.len());
        let parts = [front.as_slice(), &names.fresh, middle.as_slice(), event];
        let mut packet = Short::default();
        packet.head(field::TRACE_PACKET, parts.iter().map(|part| part.len()).sum());
        buf.extend_from_slice(packet.as_slice());
        parts.iter().for_each(|part| buf.extend_from_slice(part));
        names.fresh.clear();
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
        packet.head(field::TRACE_PACKET, time.as_slice().len() + written.end.as_slice().len());
        for part in [&packet, &time, &written.end] {
            self.buf.extend_from_slice(part.as_slice());
        }
        self.hand_on()
    }

    /// A track that can be written on.
    pub(super) fn written(&self, uuid: u64, layer: Layer) -> WrittenTrack {
        let (mut event, mut end) = (Short::default(), Short::default());
        event.uint(field::EVENT_TYPE, event_type::END);
        event.uint(field::EVENT_TRACK, uuid);
        end.uint(field::PACKET_SEQUENCE, self.sequence);
        end.uint(field::PACKET_SEQUENCE_FLAGS, wire::NEEDS_STATE);
        end.head(field::PACKET_TRACK_EVENT, event.as_slice().len());
        end.put(event.as_slice());
        WrittenTrack { uuid, layer, category: (0, 0), end }
    }
}
