//! Texts of a running CPython: its str and bytes objects, read from outside.

use super::memory::Memory;

/// Longest text read, in characters; a name is cut there.
const TEXT_LIMIT: u64 = 1024;

/// Offsets of `PyASCIIObject`, the same in all supported versions (Include/cpython/unicodeobject.h).
const LENGTH: u64 = 16;
const STATE: u64 = 32;

/// `ob_size` and `ob_sval` of `PyBytesObject` (Include/cpython/bytesobject.h).
const BYTES_SIZE: u64 = 16;
const BYTES_DATA: u64 = 32;

/// Reads a str object; `None` for anything else. `headers` are the sizes of `PyASCIIObject` and
/// `PyCompactUnicodeObject`.
pub(crate) fn text(memory: &impl Memory, object: u64, headers: (u64, u64)) -> Option<String> {
    let length = memory.u64(object.checked_add(LENGTH)?)?;
    let state = memory.u32(object.checked_add(STATE)?)?;
    // The bit fields interned:2, kind:3, compact:1, ascii:1; some 3.14 made
    // `interned` a field of 16 bits. The layout with a valid kind and compact = 1 is taken.
    let (kind, compact, ascii) = [2, 16]
        .into_iter()
        .map(|shift| (state >> shift & 7, state >> (shift + 3) & 1, state >> (shift + 4) & 1))
        .find(|(kind, compact, _)| matches!(kind, 1 | 2 | 4) && *compact == 1)?;
    debug_assert_eq!(compact, 1);
    let data = object.checked_add(if ascii == 1 { headers.0 } else { headers.1 })?;
    let limit = usize::try_from(TEXT_LIMIT * 4).ok()?;
    let cut = length > TEXT_LIMIT;
    let raw = memory.bytes(data, length.min(TEXT_LIMIT) * u64::from(kind), limit)?;
    let mut text: String = match kind {
        1 => raw.iter().map(|byte| char::from(*byte)).collect(),
        2 => raw.as_chunks::<2>().0.iter().map(|unit| character(u16::from_le_bytes(*unit).into())).collect(),
        _ => raw.as_chunks::<4>().0.iter().map(|unit| character(u32::from_le_bytes(*unit))).collect(),
    };
    if cut {
        text.push('…');
    }
    Some(text)
}

/// A lone surrogate (os.fsdecode makes them) is no character.
fn character(code: u32) -> char {
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Reads a bytes object of at most `limit` bytes.
pub(crate) fn bytes(memory: &impl Memory, object: u64, limit: usize) -> Option<Vec<u8>> {
    let size = memory.u64(object.checked_add(BYTES_SIZE)?)?;
    memory.bytes(object.checked_add(BYTES_DATA)?, size, limit)
}
