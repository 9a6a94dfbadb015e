//! What the far end has to send, and keeps until the near end has it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::frame::encode_sequenced;

/// So many bytes wait for a connection that is slow or gone: at 1 MB/s a quarter of a minute.
/// Beyond, events are left out (and counted) before they are numbered; what defines things, notes
/// and news still come, for they are few.
pub const WINDOW: usize = 16 << 20;

/// Numbered messages on their way.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that wait, for a look without the lock.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<[u8]>>,
    /// Number of the first that waits.
    first: u64,
    /// Number of the next to be written on the connection.
    next: u64,
    /// The connection in use; a newer one takes over.
    connection: u64,
    closed: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A push or pop that panicked elsewhere has left whole messages.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message.
    pub fn push(&self, kind: u8, body: &[u8]) {
        let mut state = self.lock();
        let number = state.first + state.waiting.len() as u64;
        let bytes: Arc<[u8]> = encode_sequenced(kind, number, body).into();
        self.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        state.waiting.push_back(bytes);
        self.changed.notify_all();
    }

    /// Whether events should be left out.
    pub fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > WINDOW
    }

    /// Whether all that was added has come.
    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Everything before a number has come.
    pub fn acknowledge(&self, number: u64) {
        let mut state = self.lock();
        while state.first < number {
            let Some(gone) = state.waiting.pop_front() else { break };
            self.bytes.fetch_sub(gone.len(), Ordering::Relaxed);
            state.first += 1;
        }
        state.next = state.next.max(state.first);
        self.changed.notify_all();
    }

    /// A new connection goes on with a number; gives the connection's own. `None`, and nothing
    /// changes, if that was acknowledged before or never was.
    pub fn take_over(&self, number: u64) -> Option<u64> {
        {
            let state = self.lock();
            if number < state.first || number > state.first + state.waiting.len() as u64 {
                return None;
            }
        }
        self.acknowledge(number);
        let mut state = self.lock();
        state.next = number;
        state.connection += 1;
        self.changed.notify_all();
        Some(state.connection)
    }

    /// Waits for the next message of a connection; `None` once another took over, or nothing can
    /// come any more.
    pub fn next(&self, connection: u64) -> Option<Arc<[u8]>> {
        let mut state = self.lock();
        loop {
            if state.connection != connection || state.closed {
                return None;
            }
            let place = usize::try_from(state.next - state.first).unwrap_or(usize::MAX);
            if let Some(bytes) = state.waiting.get(place).map(Arc::clone) {
                state.next += 1;
                return Some(bytes);
            }
            let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Wakes whoever waits, for good.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;

    fn number(bytes: &[u8]) -> u64 {
        let frame = frame::read(&mut &bytes[..]).unwrap().unwrap();
        frame::number(&frame.body).unwrap().0
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again() {
        let outbox = Outbox::default();
        let first = outbox.take_over(0).unwrap();
        for _ in 0..5 {
            outbox.push(frame::kind::EVENTS, b"x");
        }
        let sent: Vec<u64> = (0..4).map(|_| number(&outbox.next(first).unwrap())).collect();
        assert_eq!(sent, [0, 1, 2, 3]);
        outbox.acknowledge(1);
        // The near end has got 0, 1 and 2.
        let second = outbox.take_over(3).unwrap();
        assert!(outbox.next(first).is_none(), "the old connection has nothing to send");
        assert_eq!([number(&outbox.next(second).unwrap()), number(&outbox.next(second).unwrap())], [3, 4]);
        outbox.acknowledge(5);
        assert!(outbox.is_empty());
        // What is gone, or was never there, can't be gone on with.
        assert!(outbox.take_over(2).is_none());
        assert!(outbox.take_over(9).is_none());
        assert!(outbox.take_over(5).is_some());
    }

    #[test]
    fn the_window_fills_and_empties() {
        let outbox = Outbox::default();
        outbox.take_over(0).unwrap();
        for _ in 0..17 {
            outbox.push(frame::kind::EVENTS, &vec![0; 1 << 20]);
        }
        assert!(outbox.is_full());
        outbox.acknowledge(9);
        assert!(!outbox.is_full());
    }

    #[test]
    fn a_closed_outbox_holds_nobody() {
        let outbox = Outbox::default();
        let connection = outbox.take_over(0).unwrap();
        outbox.close();
        assert!(outbox.next(connection).is_none());
    }
}
