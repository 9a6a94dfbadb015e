//! Protobuf's wire format, as far as a trace needs it.

/// Field numbers of Perfetto's messages (protos/perfetto/trace/, public since 2018; numbers
/// never change meaning).
pub(in crate::trace) mod field {
    pub const TRACE_PACKET: u32 = 1;

    pub const PACKET_CLOCK_SNAPSHOT: u32 = 6;
    pub const PACKET_TIMESTAMP: u32 = 8;
    pub const PACKET_SEQUENCE: u32 = 10;
    pub const PACKET_TRACK_EVENT: u32 = 11;
    pub const PACKET_INTERNED: u32 = 12;
    pub const PACKET_SEQUENCE_FLAGS: u32 = 13;
    pub const PACKET_CLEARED: u32 = 41;
    pub const PACKET_COMPRESSED: u32 = 50;
    pub const PACKET_CLOCK: u32 = 58;
    pub const PACKET_DEFAULTS: u32 = 59;
    pub const PACKET_DESCRIPTOR: u32 = 60;

    pub const DEFAULTS_EVENT: u32 = 11;

    pub const EVENT_CATEGORY_IID: u32 = 3;
    pub const EVENT_ANNOTATION: u32 = 4;
    pub const EVENT_TYPE: u32 = 9;
    pub const EVENT_NAME_IID: u32 = 10;
    pub const EVENT_TRACK: u32 = 11;
    pub const EVENT_CATEGORY: u32 = 22;
    pub const EVENT_NAME: u32 = 23;
    pub const EVENT_COUNTER: u32 = 30;
    pub const EVENT_FLOW: u32 = 47;
    pub const EVENT_DOUBLE_COUNTER: u32 = 44;

    pub const ANNOTATION_NAME_IID: u32 = 1;
    pub const ANNOTATION_BOOL: u32 = 2;
    pub const ANNOTATION_UINT: u32 = 3;
    pub const ANNOTATION_INT: u32 = 4;
    pub const ANNOTATION_DOUBLE: u32 = 5;
    pub const ANNOTATION_STRING: u32 = 6;
    pub const ANNOTATION_POINTER: u32 = 7;
    pub const ANNOTATION_JSON: u32 = 9;
    pub const ANNOTATION_NAME: u32 = 10;
    pub const ANNOTATION_STRING_IID: u32 = 17;

    pub const INTERNED_CATEGORY: u32 = 1;
    pub const INTERNED_EVENT_NAME: u32 = 2;
    pub const INTERNED_ANNOTATION_NAME: u32 = 3;
    pub const INTERNED_ANNOTATION_STRING: u32 = 29;
    pub const INTERNED_IID: u32 = 1;
    pub const INTERNED_TEXT: u32 = 2;

    pub const TRACK_UUID: u32 = 1;
    pub const TRACK_NAME: u32 = 2;
    pub const TRACK_PROCESS: u32 = 3;
    pub const TRACK_THREAD: u32 = 4;
    pub const TRACK_PARENT: u32 = 5;
    pub const TRACK_COUNTER: u32 = 8;
    pub const TRACK_STATIC_NAME: u32 = 10;
    pub const TRACK_CHILD_ORDERING: u32 = 11;
    pub const TRACK_ORDER_RANK: u32 = 12;

    pub const PROCESS_PID: u32 = 1;
    pub const PROCESS_CMDLINE: u32 = 2;
    pub const PROCESS_NAME: u32 = 6;

    pub const THREAD_PID: u32 = 1;
    pub const THREAD_TID: u32 = 2;
    pub const THREAD_NAME: u32 = 5;

    pub const COUNTER_CATEGORY: u32 = 2;
    pub const COUNTER_UNIT: u32 = 3;
    pub const COUNTER_UNIT_NAME: u32 = 6;

    pub const SNAPSHOT_CLOCK: u32 = 1;
    pub const SNAPSHOT_PRIMARY: u32 = 2;
    pub const CLOCK_ID: u32 = 1;
    pub const CLOCK_TIMESTAMP: u32 = 2;
    pub const CLOCK_INCREMENTAL: u32 = 3;
    pub const CLOCK_MULTIPLIER: u32 = 4;
}

/// Perfetto's number of CLOCK_REALTIME.
pub(in crate::trace) const CLOCK_REALTIME: u32 = 1;
/// Perfetto's number of CLOCK_MONOTONIC.
pub(in crate::trace) const CLOCK_MONOTONIC: u32 = 3;
/// Perfetto's number of CLOCK_BOOTTIME, the clock of a packet that names none.
pub(in crate::trace) const CLOCK_BOOTTIME: u32 = 6;

/// Values of `TrackEvent.type`.
pub(in crate::trace) mod event_type {
    pub const BEGIN: u64 = 1;
    pub const END: u64 = 2;
    pub const INSTANT: u64 = 3;
    pub const COUNTER: u64 = 4;
}

/// Bits of `TracePacket.sequence_flags`.
pub(in crate::trace) const STATE_CLEARED: u64 = 1;
pub(in crate::trace) const NEEDS_STATE: u64 = 2;

/// Appends a varint.
#[inline(always)]
pub(in crate::trace) fn varint(buf: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        buf.push(value as u8);
    } else {
        long_varint(buf, value);
    }
}

#[inline]
fn long_varint(buf: &mut Vec<u8>, value: u64) {
    let mut short = Short::default();
    short.varint(value);
    short.write(buf);
}

/// Room of a [`Short`].
const SHORT: usize = 48;

/// A few small fields on the stack, for what is written with every event.
#[derive(Debug, Clone, Copy)]
pub(in crate::trace) struct Short {
    bytes: [u8; SHORT],
    len: usize,
}

impl Default for Short {
    fn default() -> Short {
        Short { bytes: [0; SHORT], len: 0 }
    }
}

impl Short {
    /// How many bytes were put in.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends what was put in. All of it and back: a copy of a length that the compiler knows is no call.
    #[inline(always)]
    pub fn write(&self, buf: &mut Vec<u8>) {
        let before = buf.len();
        buf.extend_from_slice(&self.bytes);
        buf.truncate(before + self.len);
    }

    #[inline(always)]
    fn byte(&mut self, byte: u8) {
        // Never full: nobody puts in more than six numbers.
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// What another holds.
    pub fn put(&mut self, other: &Short) {
        other.bytes.iter().take(other.len).for_each(|byte| self.byte(*byte));
    }

    /// A varint.
    #[inline(always)]
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// A varint field.
    #[inline(always)]
    pub fn uint(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// Tag and length of a field of so many bytes, which follow.
    #[inline(always)]
    pub fn head(&mut self, field: u32, length: usize) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(length as u64);
    }
}

/// Appends a varint field.
#[inline]
pub(in crate::trace) fn uint(buf: &mut Vec<u8>, field: u32, value: u64) {
    varint(buf, u64::from(field) << 3);
    varint(buf, value);
}

/// Appends an eight-byte field.
#[inline]
pub(in crate::trace) fn fixed64(buf: &mut Vec<u8>, field: u32, value: u64) {
    varint(buf, u64::from(field) << 3 | 1);
    buf.extend_from_slice(&value.to_le_bytes());
}

/// Appends a text or bytes field.
pub(in crate::trace) fn bytes(buf: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(buf, u64::from(field) << 3 | 2);
    varint(buf, value.len() as u64);
    buf.extend_from_slice(value);
}

/// Appends a message field whose body `body` writes.
pub(in crate::trace) fn message(buf: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>)) {
    varint(buf, u64::from(field) << 3 | 2);
    let at = buf.len();
    buf.push(0);
    body(buf);
    let len = buf.len() - at - 1;
    if len < 0x80 {
        buf[at] = len as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        varint(&mut prefix, len as u64);
        buf.splice(at..=at, prefix);
    }
}

/// The bytes are not protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trace) struct Malformed;

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::trace) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As an unsigned number; 0 for bytes.
    pub fn uint(self) -> u64 {
        match self {
            Value::Varint(n) | Value::Fixed64(n) => n,
            Value::Fixed32(n) => u64::from(n),
            Value::Bytes(_) => 0,
        }
    }

    /// As bytes; empty for a number.
    pub fn bytes(self) -> &'a [u8] {
        if let Value::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// As a fraction.
    pub fn double(self) -> f64 {
        match self {
            Value::Fixed64(bits) => f64::from_bits(bits),
            Value::Fixed32(bits) => f64::from(f32::from_bits(bits)),
            other => other.uint() as f64,
        }
    }
}

/// Reads a varint from the front of `buf`.
#[inline(always)]
pub(in crate::trace) fn take_varint(buf: &mut &[u8]) -> Result<u64, Malformed> {
    match buf.split_first() {
        Some((&byte, rest)) if byte < 0x80 => {
            *buf = rest;
            Ok(u64::from(byte))
        }
        _ => take_long_varint(buf),
    }
}

#[inline]
fn take_long_varint(buf: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (i, &byte) in buf.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *buf = &buf[i + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// The fields of a message, in order.
pub(in crate::trace) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = take_field(&mut self.rest);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[inline(always)]
fn take_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>), Malformed> {
    let tag = take_varint(rest)?;
    let field = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
    if field == 0 {
        return Err(Malformed);
    }
    let value = match tag & 7 {
        0 => Value::Varint(take_varint(rest)?),
        1 => {
            let (head, tail) = rest.split_first_chunk::<8>().ok_or(Malformed)?;
            *rest = tail;
            Value::Fixed64(u64::from_le_bytes(*head))
        }
        2 => {
            let len = usize::try_from(take_varint(rest)?).map_err(|_| Malformed)?;
            let (head, tail) = rest.split_at_checked(len).ok_or(Malformed)?;
            *rest = tail;
            Value::Bytes(head)
        }
        5 => {
            let (head, tail) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            *rest = tail;
            Value::Fixed32(u32::from_le_bytes(*head))
        }
        _ => return Err(Malformed),
    };
    Ok((field, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut buf = Vec::new();
            varint(&mut buf, value);
            let mut rest = &buf[..];
            assert_eq!(take_varint(&mut rest), Ok(value));
            assert!(rest.is_empty());
        }
        let mut buf = Vec::new();
        message(&mut buf, 7, |b| bytes(b, 1, &[b'x'; 500]));
        uint(&mut buf, 300, 5);
        let fields: Vec<_> = Fields::of(&buf).map(Result::unwrap).collect();
        assert_eq!(fields[1], (300, Value::Varint(5)));
        let inner: Vec<_> = Fields::of(fields[0].1.bytes()).map(Result::unwrap).collect();
        assert_eq!(inner[0].1.bytes(), [b'x'; 500]);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(
            Fields::of(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).next(),
            Some(Err(Malformed))
        );
        assert_eq!(Fields::of(&[0x0a, 5, 1]).next(), Some(Err(Malformed)));
        assert_eq!(Fields::of(&[0x0b]).next(), Some(Err(Malformed)));
        assert_eq!(Fields::of(&[0x80; 20]).next(), Some(Err(Malformed)));
    }
}
