//! What a capture writes into: one trait for the Perfetto writer, the Chrome writer
//! and the in-memory [`Trace`](super::Trace) that the live view reads.

use std::io;

use super::model::Layer;

/// Handle of a track given by [`Sink::track`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackRef(pub u32);

/// A track to be made.
#[derive(Debug, Clone, Copy)]
pub struct TrackDef<'a> {
    /// Process it belongs to; `None` for a track of the whole recording.
    pub pid: Option<u32>,
    /// Thread it belongs to; `None` for a track of the process.
    pub tid: Option<u32>,
    /// Its name.
    pub name: &'a str,
    /// What it shows.
    pub layer: Layer,
    /// Set for a counter track: its unit ("bytes", "%", "").
    pub counter_unit: Option<&'a str>,
}

/// An argument's value on its way into a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ArgRef<'a> {
    /// An unsigned number.
    U64(u64),
    /// A signed number.
    I64(i64),
    /// A fraction.
    F64(f64),
    /// A text.
    Str(&'a str),
}

/// A finished slice.
#[derive(Debug, Clone, Copy)]
pub struct SliceEvent<'a> {
    /// Start in ns (CLOCK_MONOTONIC).
    pub start_ns: u64,
    /// Length in ns.
    pub dur_ns: u64,
    /// What ran.
    pub name: &'a str,
    /// Its arguments.
    pub args: &'a [(&'a str, ArgRef<'a>)],
    /// Joins slices with the same non-zero number by an arrow (launch → kernel).
    pub flow: u64,
    /// The duration is an estimate.
    pub estimate: bool,
}

/// A begin, an end or an instant.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// When, in ns (CLOCK_MONOTONIC).
    pub ts_ns: u64,
    /// What; empty for an end.
    pub name: &'a str,
    /// Its arguments; those of an end are added to the slice's.
    pub args: &'a [(&'a str, ArgRef<'a>)],
}

/// Something that takes a recording as it happens.
///
/// Contract: a process or thread is defined before its tracks; on one track, slices nest,
/// and a parent comes before its children when both start in the same nanosecond. A slice
/// may arrive after slices that started later, except that slices which touch (one ends in the
/// nanosecond the next starts) arrive in their order: Perfetto's own importer needs that to
/// tell their ends apart. `begin` and `end` pair up as a stack.
pub trait Sink {
    /// Defines a process, or tells more about it (same pid again).
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()>;
    /// Defines a thread, or renames it.
    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()>;
    /// Makes a track.
    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef>;
    /// Adds a finished slice.
    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()>;
    /// Opens a slice whose end is not known yet.
    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()>;
    /// Closes the slice opened last on the track.
    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()>;
    /// Adds a point in time.
    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()>;
    /// Adds a counter's value.
    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()>;
    /// Writes the recording's own notes; the last one counts.
    fn meta(&mut self, ts_ns: u64, meta: &super::CaptureMeta) -> io::Result<()>;
    /// Hands everything buffered on, so that a reader of the file sees it.
    fn flush(&mut self) -> io::Result<()>;
    /// Ends the recording (closes what a format needs closed).
    fn finish(&mut self) -> io::Result<()>;
    /// A part of the recording that is written beside the rest, on another thread. `None` where the
    /// format has no such parts.
    fn branch(&mut self) -> Option<Box<dyn Branch>> {
        None
    }
    /// Puts in what a branch of this sink has written.
    fn append(&mut self, written: &[u8]) -> io::Result<()> {
        if written.is_empty() { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    }
}

/// A part of a recording. Its tracks are numbered for themselves; its processes and threads must be
/// those of no other part. Notes ([`Sink::meta`]) are the whole's and not to be written here.
pub trait Branch: Sink + Send + Sync {
    /// Takes what was written since the last time, to be given to [`Sink::append`] in this order.
    fn take(&mut self) -> Vec<u8>;
}
