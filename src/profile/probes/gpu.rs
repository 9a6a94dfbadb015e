//! An estimate of what the device did: from launches to the synchronize that waited for them.
//!
//! Probes on the host don't see the device. What is known: a launch can't have begun before
//! its call, work of one stream runs in order, and all of it was over when a synchronize of
//! the stream, an event behind it or the device returned (or, if that did not have to wait,
//! when it was called). Between these bounds the time is shared out equally among the
//! launches. So the sum is an upper bound of the stream's busy time, and a single slice no
//! more than a guess: all are marked as estimates.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

/// Launches kept for a stream that nobody synchronizes; beyond that the older half is let go
/// as if the newest launch had waited for it.
const MOST_PENDING: usize = 4096;
/// A synchronize shorter than this did not wait, ns.
const WAITED_NS: u64 = 20_000;

/// Work handed to a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Work<T> {
    /// When the call that launched it began, ns.
    pub launched_ns: u64,
    /// Whatever the caller wants to know when the end is known.
    pub what: T,
}

/// Work with its estimated span.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Estimate<T> {
    /// Start, ns.
    pub start_ns: u64,
    /// Length, ns.
    pub dur_ns: u64,
    /// As handed in.
    pub what: T,
}

#[derive(Debug)]
struct Stream<T> {
    pending: VecDeque<Work<T>>,
    /// End of the last estimate: the next can't start earlier.
    free_ns: u64,
}

/// The streams of all processes.
#[derive(Debug)]
pub(crate) struct Streams<T> {
    streams: FxHashMap<(u32, u64), Stream<T>>,
    /// Which stream an event was last put into, and when: (process, event) to (stream, ns).
    events: FxHashMap<(u32, u64), (u64, u64)>,
}

impl<T> Default for Streams<T> {
    fn default() -> Self {
        Streams { streams: FxHashMap::default(), events: FxHashMap::default() }
    }
}

/// What is estimated, with its stream.
pub(crate) type Estimates<T> = Vec<(u64, Estimate<T>)>;

impl<T> Streams<T> {
    /// Work was launched.
    pub fn launch(&mut self, pid: u32, stream: u64, work: Work<T>) -> Estimates<T> {
        let entry = self.streams.entry((pid, stream)).or_insert(Stream { pending: VecDeque::new(), free_ns: 0 });
        let now = work.launched_ns;
        entry.pending.push_back(work);
        if entry.pending.len() <= MOST_PENDING {
            return Vec::new();
        }
        let cut = entry.pending[MOST_PENDING / 2].launched_ns.min(now);
        self.settle(pid, stream, cut, cut)
    }

    /// An event was put into a stream.
    pub fn record(&mut self, pid: u32, event: u64, stream: u64, at_ns: u64) {
        // A job that makes a new event every time must not fill the memory.
        if self.events.len() >= 1 << 16 {
            self.events.clear();
        }
        self.events.insert((pid, event), (stream, at_ns));
    }

    /// A stream was waited for, from `start_ns` on for `dur_ns`.
    pub fn wait_stream(&mut self, pid: u32, stream: u64, start_ns: u64, dur_ns: u64) -> Estimates<T> {
        self.settle(pid, stream, u64::MAX, end_of(start_ns, dur_ns))
    }

    /// An event was waited for.
    pub fn wait_event(&mut self, pid: u32, event: u64, start_ns: u64, dur_ns: u64) -> Estimates<T> {
        match self.events.get(&(pid, event)).copied() {
            Some((stream, recorded_ns)) => self.settle(pid, stream, recorded_ns, end_of(start_ns, dur_ns)),
            None => Vec::new(),
        }
    }

    /// The whole device was waited for.
    pub fn wait_device(&mut self, pid: u32, start_ns: u64, dur_ns: u64) -> Estimates<T> {
        let streams: Vec<u64> = self.streams.keys().filter(|(p, _)| *p == pid).map(|(_, s)| *s).collect();
        let end = end_of(start_ns, dur_ns);
        streams.into_iter().flat_map(|stream| self.settle(pid, stream, u64::MAX, end)).collect()
    }

    /// Forgets a process.
    pub fn forget(&mut self, pid: u32) {
        self.streams.retain(|(p, _), _| *p != pid);
        self.events.retain(|(p, _), _| *p != pid);
    }

    /// Everything of a process that was never waited for, as if it had been at `end_ns`.
    pub fn finish(&mut self, end_ns: u64) -> Vec<(u32, u64, Estimate<T>)> {
        let keys: Vec<(u32, u64)> = self.streams.keys().copied().collect();
        let settle = |(pid, stream): (u32, u64)| {
            self.settle(pid, stream, u64::MAX, end_ns).into_iter().map(move |(s, e)| (pid, s, e)).collect::<Vec<_>>()
        };
        keys.into_iter().flat_map(settle).collect()
    }

    /// Shares the time up to `end_ns` out among the work launched before `before_ns`.
    fn settle(&mut self, pid: u32, stream: u64, before_ns: u64, end_ns: u64) -> Estimates<T> {
        let Some(entry) = self.streams.get_mut(&(pid, stream)) else { return Vec::new() };
        let done = entry.pending.iter().take_while(|w| w.launched_ns <= before_ns.min(end_ns)).count();
        let mut estimates = Vec::with_capacity(done);
        for (i, work) in entry.pending.drain(..done).enumerate() {
            let start_ns = work.launched_ns.max(entry.free_ns).min(end_ns);
            let dur_ns = (end_ns - start_ns) / (done - i) as u64;
            entry.free_ns = start_ns + dur_ns;
            estimates.push((stream, Estimate { start_ns, dur_ns, what: work.what }));
        }
        estimates
    }
}

fn end_of(start_ns: u64, dur_ns: u64) -> u64 {
    if dur_ns < WAITED_NS { start_ns } else { start_ns + dur_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(launched_ns: u64, what: u32) -> Work<u32> {
        Work { launched_ns, what }
    }

    #[test]
    fn time_is_shared_up_to_the_wait_and_never_overlaps() {
        let mut streams = Streams::default();
        for i in 0..4 {
            assert!(streams.launch(1, 7, work(i * 10, i as u32)).is_empty());
        }
        let got = streams.wait_stream(1, 7, 50, 100_000 - 50);
        assert_eq!(got.len(), 4);
        let mut free = 0;
        for (i, (stream, e)) in got.iter().enumerate() {
            assert_eq!((*stream, e.what), (7, i as u32));
            assert!(e.start_ns >= free && e.start_ns >= i as u64 * 10, "{e:?}");
            free = e.start_ns + e.dur_ns;
        }
        assert_eq!(free, 100_000);
        assert!((20_000..30_000).contains(&got[3].1.dur_ns), "{got:?}");
        assert!(streams.wait_stream(1, 7, 200_000, 100_000).is_empty(), "counted once");
    }

    #[test]
    fn a_wait_that_did_not_wait_ends_the_work_when_it_was_called() {
        let mut streams = Streams::default();
        streams.launch(1, 0, work(1_000, 0));
        let got = streams.wait_device(1, 5_000, 100);
        assert_eq!((got[0].1.start_ns, got[0].1.dur_ns), (1_000, 4_000));
    }

    #[test]
    fn an_event_ends_only_what_was_launched_before_it() {
        let mut streams = Streams::default();
        streams.launch(1, 3, work(10, 0));
        streams.record(1, 0xe, 3, 15);
        streams.launch(1, 3, work(20, 1));
        assert!(streams.wait_event(1, 0xf, 30, 50_000).is_empty(), "an unknown event");
        assert_eq!(streams.wait_event(1, 0xe, 30, 50_000).len(), 1);
        assert_eq!(streams.finish(100_000).len(), 1);
    }

    #[test]
    fn processes_do_not_mix() {
        let mut streams = Streams::default();
        streams.launch(1, 0, work(10, 0));
        assert!(streams.wait_device(2, 50, 50_000).is_empty());
        assert_eq!(streams.wait_device(1, 50, 50_000).len(), 1);
    }

    #[test]
    fn nobody_synchronizing_does_not_fill_the_memory() {
        let mut streams = Streams::default();
        let given: usize = (0..100_000u64).map(|i| streams.launch(1, 0, work(i * 100, 0)).len()).sum();
        assert!(given >= 100_000 - MOST_PENDING - 1);
        assert!(streams.streams[&(1, 0)].pending.len() <= MOST_PENDING);
    }
}
