//! Perfetto's TrackEvent format, written and read by hand: the few messages we need, fast.

mod events;
mod intern;
mod packets;
mod read;
mod sequence;
mod tracks;
pub(super) mod wire;
mod write;

pub(super) use read::read;
pub use write::{ClockSnapshot, PerfettoWriter};

use wire::{Fields, take_varint};

/// Whether a file's first bytes are a Perfetto packet. A newline is the same byte as the
/// packet's tag, so the first packet has to be sound as far as it is there.
pub(super) fn looks_right(head: &[u8]) -> bool {
    let Some((&0x0a, mut rest)) = head.split_first() else { return false };
    let Ok(len) = take_varint(&mut rest) else { return rest.len() < 5 && rest.iter().all(|byte| *byte >= 0x80) };
    match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
        Some(packet) => Fields::of(packet).all(|item| item.is_ok()),
        // Not all of it is in `head`: its first field's tag must be one of TracePacket's.
        None => rest.first().is_none_or(|tag| !tag.is_ascii_whitespace() && !matches!(tag, b'{' | b'[' | b'"')),
    }
}
