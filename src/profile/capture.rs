//! A capture from attach to detach.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::session::{Session, now_ns};
use super::{CaptureError, CaptureOptions, CaptureProgress};
use crate::host::process;
use crate::trace::{CaptureMeta, Sink};

/// The reader wakes at least this often; the kernel wakes it earlier when a ring fills.
const TICK: Duration = Duration::from_millis(100);

/// Captures the processes named in `options` into `sink` until `stop` is set, the duration
/// is over or the targets are gone; returns the notes that were also written last.
pub fn capture(
    options: &CaptureOptions,
    sink: &mut dyn Sink,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(CaptureProgress<'_>),
) -> Result<CaptureMeta, CaptureError> {
    let began = Instant::now();
    if let Some(&pid) = options.pids.iter().find(|pid| !process::is_alive(**pid)) {
        return Err(CaptureError::NoSuchProcess(pid));
    }
    let (mut session, mut rings) = Session::attach(options, sink)?;
    progress(CaptureProgress::Attached { took: began.elapsed(), layers: &session.layer_statuses() });

    let attached = Instant::now();
    let mut next_look = attached + session.look_interval();
    let mut next_progress = attached;
    while !stop.load(Ordering::Relaxed) {
        let left = options.duration.map_or(TICK, |d| d.saturating_sub(attached.elapsed()));
        if left.is_zero() {
            break;
        }
        rings.wait(TICK.min(left))?;
        session.drain(&mut rings)?;
        session.tick()?;
        let now = Instant::now();
        if now >= next_look {
            session.look(now_ns())?;
            next_look = now + session.look_interval();
        }
        if now >= next_progress {
            progress(session.progress(attached.elapsed()));
            next_progress = now + 2 * TICK;
        }
        if !session.any_root_alive() {
            break;
        }
    }
    session.finish(rings)
}
