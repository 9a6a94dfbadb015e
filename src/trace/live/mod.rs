//! A timeline that grows while a capture runs: the capture hands over what it has seen, the
//! viewer takes it when it is ready, and neither waits for the other.
//!
//! [`LiveSink`] stands beside the file's writer on the capture's thread. It puts plain data into
//! an inbox; [`LiveFeed::take`] swaps the inbox for an empty one. [`Growth`] adds what was taken
//! to a [`Trace`](super::Trace) that started empty.

mod batch;
mod growth;
mod numbers;
mod sink;
mod tail;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use batch::Batch;
pub use growth::{Changes, Growth};
pub use sink::LiveSink;

/// What the two ends share.
type Inbox = Arc<Mutex<Batch>>;

/// A push leaves what is shared as whole as it was, so one that panicked elsewhere does no harm.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The viewer's end.
#[derive(Debug)]
pub struct LiveFeed {
    inbox: Inbox,
}

impl LiveFeed {
    /// Takes what came since the last time; `None` if nothing did.
    pub fn take(&self) -> Option<Batch> {
        let mut inbox = lock(&self.inbox);
        if inbox.is_empty() {
            return None;
        }
        let next = inbox.successor();
        Some(std::mem::replace(&mut *inbox, next))
    }
}

/// Makes the two ends. So many events (at least) wait for a viewer that is behind; beyond twice
/// as many the oldest are dropped from the view and counted ([`Batch::dropped`]).
pub fn live(limit: usize) -> (LiveSink, LiveFeed) {
    let inbox = Inbox::default();
    (LiveSink::new(Arc::clone(&inbox), limit), LiveFeed { inbox })
}
