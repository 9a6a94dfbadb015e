//! The timeline as data: tracks of slices, instants and counters, and the codecs
//! that carry them (Perfetto TrackEvent, Chrome JSON as PyTorch's profiler writes it).
//!
//! Uses no other room. Works over `Read` and `Write`; opens no file, knows no clock,
//! prints nothing.

mod meta;
mod model;
mod sink;

pub use meta::{CaptureMeta, FileTotal, LayerState, LayerStatus, LostEvents, PythonMeta, SyscallTotal, Thinned};
pub use model::{
    Arg, ArgsId, CounterSample, Flags, Instant, Layer, Parent, Process, ProcessId, Slice, StrId, Strings, Thread,
    ThreadId, Trace, Track, TrackId,
};
pub use sink::{ArgRef, Event, Sink, SliceEvent, TrackDef, TrackRef};
