//! The viewer's end: adds what was taken to the trace on the screen.

use super::super::args::{ArgPool, SharedArgs};
use super::super::model::{Arg, ArgsId, Layer, Slice, StrId, Trace, Track, TrackId};
use super::super::nest::RawEvent;
use super::batch::{Batch, Part};
use super::tail::{Added, Tail};

/// So many slices are held, if not told otherwise: some 700 MB with their levels of detail.
const SLICES: usize = 16_000_000;

/// What a batch changed in a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tracks, and the first slice of each that is new, moved or cut; each track once.
    pub tracks: Vec<(TrackId, usize)>,
    /// Slices that only got their end, by their index after the change.
    pub ended: Vec<(TrackId, u32)>,
    /// Processes, threads or tracks were added or renamed, or a track has its first event.
    pub structure: bool,
    /// Names from this number on are new.
    pub first_name: usize,
    /// The oldest quarter was forgotten: every index is another.
    pub forgot: bool,
    /// Tracks, and the indices of new slices that came before others.
    inserted: Vec<(TrackId, Vec<u32>)>,
}

impl Changes {
    /// Where a slice is now that had an index before; `None` where the oldest were forgotten.
    pub fn moved(&self, track: TrackId, index: u32) -> Option<u32> {
        let before = |now: u32, inserted: &[u32]| {
            let (mut low, mut high) = (0, inserted.len());
            while low < high {
                let middle = low.midpoint(high);
                match inserted[middle] as usize - middle > now as usize {
                    true => high = middle,
                    false => low = middle + 1,
                }
            }
            now.saturating_add(low as u32)
        };
        let on_track = self.inserted.iter().filter(|(t, _)| *t == track);
        (!self.forgot).then(|| on_track.fold(index, |now, (_, inserted)| before(now, inserted)))
    }
}

/// Adds batches to a trace; keeps what is still open.
///
/// The trace must have been empty at first, and is changed by nobody else.
#[derive(Debug, Clone)]
pub struct Growth {
    tails: Vec<Tail>,
    /// Tracks with a slice that has no end so far.
    growing: Vec<TrackId>,
    shared: SharedArgs,
    limit: usize,
    slices: usize,
    bounds_ns: Option<(u64, u64)>,
    last_ns: u64,
    /// What is older was forgotten.
    kept_ns: u64,
    forgotten: u64,
    dropped: u64,
}

impl Default for Growth {
    fn default() -> Growth {
        Growth::new(SLICES)
    }
}

impl Growth {
    /// Holds so many slices at most; beyond, the oldest quarter is forgotten.
    pub fn new(limit: usize) -> Growth {
        Growth {
            tails: Vec::new(),
            growing: Vec::new(),
            shared: SharedArgs::default(),
            limit: limit.max(1),
            slices: 0,
            bounds_ns: None,
            last_ns: 0,
            kept_ns: 0,
            forgotten: 0,
            dropped: 0,
        }
    }

    /// Adds a batch.
    pub fn apply(&mut self, trace: &mut Trace, batch: Batch) -> Changes {
        let mut changes = Changes { first_name: trace.strings.len(), ..Changes::default() };
        for text in &batch.strings {
            trace.strings.intern(text);
        }
        changes.structure = !(batch.processes.is_empty() && batch.threads.is_empty() && batch.tracks.is_empty());
        for (id, process) in batch.processes {
            put(&mut trace.processes, id.0, process);
        }
        for (id, thread) in batch.threads {
            put(&mut trace.threads, id.0, thread);
        }
        for (parent, name, layer) in batch.tracks {
            let (slices, instants, counters) = (Vec::new(), Vec::new(), Vec::new());
            trace.tracks.push(Track { parent, name, layer, slices, instants, counters });
        }
        self.tails.resize_with(trace.tracks.len(), Tail::default);
        self.last_ns = self.last_ns.max(batch.last_ns);
        self.dropped = batch.dropped;
        for part in batch.parts {
            self.add_part(trace, part, &mut changes);
        }
        changes.tracks.sort_unstable();
        changes.tracks.dedup_by_key(|(track, _)| *track);
        self.stretch(trace);
        if batch.meta.is_some() {
            trace.meta = batch.meta;
        }
        if self.slices > self.limit {
            self.forget(trace);
            changes.forgot = true;
            changes.ended.clear();
            changes.tracks = (0u32..).zip(&trace.tracks).map(|(track, _)| (TrackId(track), 0)).collect();
        }
        changes
    }

    /// First and last moment of what is held, in ns; `None` while it holds nothing.
    pub fn bounds_ns(&self) -> Option<(u64, u64)> {
        self.bounds_ns.map(|(first, last)| (first, last.max(self.last_ns)))
    }

    /// Slices that are held no longer.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Events that never came this far, because the viewer was far behind.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn add_part(&mut self, trace: &mut Trace, mut part: Part, changes: &mut Changes) {
        let args = self.store_args(&mut trace.args, &part.args);
        let moved = |id: ArgsId| args.get(id.0 as usize).copied().unwrap_or_default();
        part.slices.sort_by_key(|(track, _)| *track);
        part.raw.sort_by_key(|(track, _)| *track);
        let (mut slices, mut raw) = (&part.slices[..], &part.raw[..]);
        loop {
            let first = |list: Option<TrackId>| list.map_or(u32::MAX, |track| track.0);
            let next = first(slices.first().map(|(t, _)| *t)).min(first(raw.first().map(|(t, _)| *t)));
            let (own_slices, other_slices) = slices.split_at(slices.partition_point(|(t, _)| t.0 <= next));
            let (own_raw, other_raw) = raw.split_at(raw.partition_point(|(t, _)| t.0 <= next));
            if own_slices.is_empty() && own_raw.is_empty() {
                break;
            }
            (slices, raw) = (other_slices, other_raw);
            let fresh = own_slices.iter().map(|&(_, slice)| Slice { args: moved(slice.args), ..slice }).collect();
            let own_raw = own_raw.iter().map(|&(_, event)| RawEvent { args: moved(event.args), ..event });
            self.add_to_track(trace, TrackId(next), fresh, own_raw, changes);
        }
        for (id, instant) in part.instants {
            let Some(track) = trace.tracks.get_mut(id.0 as usize) else { continue };
            changes.structure |= is_empty(track);
            let at = track.instants.partition_point(|i| i.ts_ns <= instant.ts_ns);
            track.instants.insert(at, super::super::model::Instant { args: moved(instant.args), ..instant });
            if track.layer != Layer::Meta {
                self.see(instant.ts_ns, instant.ts_ns);
            }
        }
        for (id, sample) in part.counters {
            let Some(track) = trace.tracks.get_mut(id.0 as usize) else { continue };
            changes.structure |= is_empty(track);
            let at = track.counters.partition_point(|c| c.ts_ns <= sample.ts_ns);
            track.counters.insert(at, sample);
        }
    }

    fn add_to_track(
        &mut self,
        trace: &mut Trace,
        id: TrackId,
        fresh: Vec<Slice>,
        raw: impl Iterator<Item = RawEvent>,
        changes: &mut Changes,
    ) {
        let Trace { tracks, args, .. } = trace;
        let at = id.0 as usize;
        let (Some(track), Some(tail)) = (tracks.get_mut(at), self.tails.get_mut(at)) else { return };
        let before = track.slices.len();
        let was_empty = is_empty(track);
        let mut join = |begin: ArgsId, end: ArgsId| match (begin, end) {
            (begin, ArgsId(0)) => begin,
            (ArgsId(0), end) => end,
            (begin, end) => {
                let both: Vec<(StrId, Arg)> = args.run(begin).chain(args.run(end)).collect();
                args.push(both)
            }
        };
        let Added { first, ended, inserted } = tail.add(&mut track.slices, fresh, raw, &mut join);
        if tail.grows() && !self.growing.contains(&id) {
            self.growing.push(id);
        }
        self.slices += track.slices.len() - before;
        if let Some(first) = first {
            changes.structure |= was_empty;
            changes.tracks.push((id, first));
            if track.layer != Layer::Meta
                && let (Some(first), Some(last)) = (track.slices.first(), track.slices.last())
            {
                let (start_ns, end_ns) = (first.start_ns, last.start_ns);
                self.see(start_ns, end_ns);
            }
        }
        if !inserted.is_empty() {
            changes.inserted.push((id, inserted));
        }
        changes.ended.extend(ended.into_iter().map(|index| (id, index)));
    }

    fn see(&mut self, first_ns: u64, last_ns: u64) {
        let (first_ns, last_ns) = (first_ns.max(self.kept_ns), last_ns.max(self.kept_ns));
        let (first, last) = self.bounds_ns.unwrap_or((first_ns, last_ns));
        self.bounds_ns = Some((first.min(first_ns), last.max(last_ns)));
    }

    /// Shows what is open as long as the recording.
    fn stretch(&mut self, trace: &mut Trace) {
        let (tails, last_ns) = (&self.tails, self.last_ns);
        self.growing.retain(|track| {
            let at = track.0 as usize;
            let (Some(track), Some(tail)) = (trace.tracks.get_mut(at), tails.get(at)) else { return false };
            tail.stretch(&mut track.slices, last_ns);
            tail.grows()
        });
    }

    /// Stores the arguments of a part; returns their new ids by the old.
    fn store_args(&mut self, pool: &mut ArgPool, part: &ArgPool) -> Vec<ArgsId> {
        let mut moved = vec![ArgsId(0); part.len() + 1];
        let mut run = Vec::new();
        let mut at = 1;
        while at < moved.len() {
            run.clear();
            run.extend(part.run(ArgsId(at as u32)));
            moved[at] = self.shared.store(pool, &run);
            at += run.len().max(1);
        }
        moved
    }

    /// Forgets the oldest quarter, with its arguments.
    fn forget(&mut self, trace: &mut Trace) {
        let before_ns = first_kept_ns(trace, self.slices);
        let was = self.slices;
        self.slices = 0;
        for (track, tail) in trace.tracks.iter_mut().zip(&mut self.tails) {
            tail.forget(&mut track.slices, before_ns);
            track.instants.retain(|instant| instant.ts_ns >= before_ns);
            // A counter keeps the value it had then.
            let gone = track.counters.partition_point(|sample| sample.ts_ns <= before_ns);
            track.counters.drain(..gone.saturating_sub(1));
            self.slices += track.slices.len();
        }
        let mut used = trace.args.unused();
        for track in &trace.tracks {
            track.slices.iter().for_each(|slice| used.keep(&trace.args, slice.args));
            track.instants.iter().for_each(|instant| used.keep(&trace.args, instant.args));
        }
        trace.args.compact(&mut used);
        for track in &mut trace.tracks {
            track.slices.iter_mut().for_each(|slice| slice.args = used.moved(slice.args));
            track.instants.iter_mut().for_each(|instant| instant.args = used.moved(instant.args));
        }
        self.shared = SharedArgs::default();
        self.kept_ns = before_ns;
        self.forgotten += (was - self.slices) as u64;
        if let Some((first_ns, last_ns)) = &mut self.bounds_ns {
            *first_ns = before_ns.clamp(*first_ns, *last_ns);
        }
    }
}

/// The moment a quarter of all slices starts before, about.
fn first_kept_ns(trace: &Trace, slices: usize) -> u64 {
    let stride = (slices / 50_000).max(1);
    let mut starts: Vec<u64> =
        trace.tracks.iter().flat_map(|track| track.slices.iter()).step_by(stride).map(|slice| slice.start_ns).collect();
    let quarter = starts.len() / 4;
    match quarter < starts.len() {
        true => *starts.select_nth_unstable(quarter).1,
        false => 0,
    }
}

fn is_empty(track: &Track) -> bool {
    track.slices.is_empty() && track.instants.is_empty() && track.counters.is_empty()
}

/// Puts an item where it belongs; numbers are given out one after the other.
fn put<T>(list: &mut Vec<T>, at: u32, item: T) {
    match list.get_mut(at as usize) {
        Some(place) => *place = item,
        None => list.push(item),
    }
}
