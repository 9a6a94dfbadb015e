//! A recording on its way from one machine to another while it is made: every call of a
//! [`Sink`](super::Sink) as some bytes, and back.
//!
//! The bytes are a run of operations; what they name (texts, tracks) is numbered in the order of
//! its first use, so both ends must have seen all of it from the start, in order. They are neither
//! compressed nor framed: who carries them does that.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{RelayError, RelayReader};
pub use encode::RelayWriter;

/// Operations, by their first byte. The numbers are spoken between versions: none is used twice.
mod op {
    pub const TEXT: u8 = 1;
    pub const PROCESS: u8 = 2;
    pub const THREAD: u8 = 3;
    pub const TRACK: u8 = 4;
    pub const SLICE: u8 = 5;
    pub const BEGIN: u8 = 6;
    pub const END: u8 = 7;
    pub const INSTANT: u8 = 8;
    pub const COUNTER: u8 = 9;
    pub const META: u8 = 10;
    /// Both ends forget all texts; tracks stay.
    pub const FORGET: u8 = 11;
}

/// Kinds of an argument's value.
mod value {
    pub const U64: u8 = 0;
    pub const I64: u8 = 1;
    pub const F64: u8 = 2;
    pub const TEXT: u8 = 3;
}

/// Longest text that is sent: names, command lines and notes are far shorter.
const MAX_TEXT: usize = 1 << 20;
/// Longest notes that are sent.
const MAX_META: usize = 64 << 20;
/// Arguments of one event; ours have a dozen at most.
const MAX_ARGS: usize = 4096;
