//! Captures a running process through eBPF and writes what it sees into a `trace::Sink`.
//!
//! Uses `host` and `trace`. Changes nothing in the target: probes are kernel-side, filtered
//! by process, and gone with their file descriptors when aictl ends, however it ends.
//! Kernel side in bpf/ (C, CO-RE; compiled objects committed); prints nothing.

mod attach;
mod budget;
mod capture;
mod convert;
mod dispatch;
mod error;
mod governor;
mod loader;
mod meter;
mod multi;
mod notes;
mod options;
mod output;
mod pricing;
mod probes;
mod python;
pub(crate) mod records;
mod rings;
mod session;
mod thinning;

pub use capture::capture;
pub use error::CaptureError;
pub use options::{CaptureOptions, CaptureProgress, Layers};
pub use output::rank_of;
