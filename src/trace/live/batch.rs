//! What waits for the viewer.

use rustc_hash::FxHashMap;

use super::super::args::ArgPool;
use super::super::meta::CaptureMeta;
use super::super::model::{
    ArgsId, CounterSample, Instant, Layer, Parent, Process, ProcessId, Slice, StrId, Thread, ThreadId, TrackId,
};
use super::super::nest::{RawEvent, RawKind};

/// What a capture has seen since the last batch was taken.
#[derive(Debug, Default)]
pub struct Batch {
    /// New texts, in the order of their numbers.
    pub(super) strings: Vec<Box<str>>,
    /// Processes that are new or have changed.
    pub(super) processes: Vec<(ProcessId, Process)>,
    /// Threads that are new or have changed.
    pub(super) threads: Vec<(ThreadId, Thread)>,
    /// New tracks, in the order of their numbers.
    pub(super) tracks: Vec<(Parent, StrId, Layer)>,
    /// Events, older ones first.
    pub(super) parts: [Part; 2],
    /// The recording's own notes, the last.
    pub(super) meta: Option<CaptureMeta>,
    /// The newest moment of the recording so far, in ns.
    pub(super) last_ns: u64,
    /// Events left out because they waited too long; of the whole capture.
    pub(super) dropped: u64,
    /// Something is in it.
    pub(super) filled: bool,
}

/// A run of events, with their arguments.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub args: ArgPool,
    pub slices: Vec<(TrackId, Slice)>,
    pub raw: Vec<(TrackId, RawEvent)>,
    pub instants: Vec<(TrackId, Instant)>,
    pub counters: Vec<(TrackId, CounterSample)>,
}

impl Part {
    pub fn events(&self) -> usize {
        self.slices.len() + self.raw.len() + self.instants.len() + self.counters.len()
    }

    /// Takes over, before all else, those begins and ends of a part that is dropped whose partner
    /// is not in it: without them, what comes later would be paired wrongly. Returns how many.
    fn take_unpaired(&mut self, dropped: &Part) -> usize {
        let mut open: FxHashMap<TrackId, Vec<usize>> = FxHashMap::default();
        let mut unpaired = vec![true; dropped.raw.len()];
        for (i, (track, event)) in dropped.raw.iter().enumerate() {
            match event.kind {
                RawKind::Begin => open.entry(*track).or_default().push(i),
                RawKind::End => {
                    if let Some(begin) = open.get_mut(track).and_then(Vec::pop) {
                        unpaired[begin] = false;
                        unpaired[i] = false;
                    }
                }
            }
        }
        let mut raw: Vec<(TrackId, RawEvent)> =
            dropped.raw.iter().zip(unpaired).filter(|(_, unpaired)| *unpaired).map(|(event, _)| *event).collect();
        for (_, event) in &mut raw {
            event.args = match event.args {
                ArgsId(0) => ArgsId(0),
                id => self.args.push(dropped.args.run(id)),
            };
        }
        let count = raw.len();
        raw.append(&mut self.raw);
        self.raw = raw;
        count
    }
}

impl Batch {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.filled
    }

    /// Events in it: slices, begins, ends, instants, counter values.
    pub fn events(&self) -> usize {
        self.parts.iter().map(Part::events).sum()
    }

    /// Events that were left out of the view (not of the recording) because the viewer was far
    /// behind, since the capture began.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// An empty one to go on with.
    pub(super) fn successor(&self) -> Batch {
        Batch { last_ns: self.last_ns, dropped: self.dropped, ..Batch::default() }
    }

    /// The part that takes an event; drops the older one if there are `limit` in the newer.
    pub(super) fn part(&mut self, limit: usize) -> &mut Part {
        self.filled = true;
        let [older, newer] = &mut self.parts;
        if newer.events() >= limit.max(1) {
            let gone = std::mem::replace(older, std::mem::take(newer));
            let unpaired = older.take_unpaired(&gone);
            self.dropped += (gone.events() - unpaired) as u64;
        }
        newer
    }
}
