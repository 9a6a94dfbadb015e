//! A capture from attach to detach.

use std::sync::atomic::AtomicBool;

use super::{CaptureError, CaptureOptions, CaptureProgress};
use crate::trace::{CaptureMeta, Sink};

/// Captures the processes named in `options` into `sink` until `stop` is set, the duration
/// is over or the targets are gone; returns the notes that were also written last.
pub fn capture(
    options: &CaptureOptions,
    sink: &mut dyn Sink,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(CaptureProgress<'_>),
) -> Result<CaptureMeta, CaptureError> {
    let _ = (options, sink, stop, progress);
    Err(CaptureError::KernelLacks { what: "capture".to_owned() })
}
