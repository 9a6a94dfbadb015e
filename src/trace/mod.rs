//! The timeline as data: tracks of slices, instants and counters, and the codecs
//! that carry them (Perfetto TrackEvent, Chrome JSON as PyTorch's profiler writes it).
//!
//! Uses no other room. Works over `Read` and `Write`; opens no file, knows no clock,
//! prints nothing.

mod args;
mod build;
mod chrome;
mod cut;
#[cfg(test)]
mod cut_tests;
mod excerpt;
#[cfg(test)]
mod foreign_tests;
mod join;
#[cfg(test)]
mod join_tests;
mod live;
mod lod;
mod memory;
mod merge;
#[cfg(test)]
mod merge_tests;
mod meta;
mod model;
mod nest;
mod perfetto;
mod query;
mod read;
mod relay;
mod sink;
mod tee;
#[cfg(test)]
mod tests;

pub use args::ArgPool;
pub use chrome::ChromeWriter;
pub use cut::{WHOLE_NS, cut};
pub use excerpt::{excerpt, slices_within};
pub use join::{Apart, Joined, Joiner};
pub use live::{Batch, Changes, Growth, LiveFeed, LiveSink, live};
pub use lod::{CLASSES, Cell, Class, TrackIndex};
pub use memory::MemorySink;
pub use merge::{Alignment, Part, merge};
pub use meta::{
    CaptureMeta, FileTotal, LayerState, LayerStatus, LostEvents, NodeNote, Place, PythonMeta, SyscallTotal, Thinned,
};
pub use model::{
    Arg, ArgsId, CounterSample, Flags, Instant, Layer, Parent, Process, ProcessId, Slice, StrId, Strings, Thread,
    ThreadId, Trace, Track, TrackId,
};
pub use perfetto::{ClockSnapshot, PerfettoWriter};
pub use query::{Overlapping, SelfTime};
pub use read::{ReadError, read};
pub use relay::{RelayError, RelayReader, RelayWriter};
pub use sink::{ArgRef, Branch, Event, Sink, SliceEvent, TrackDef, TrackRef};
pub use tee::Tee;
