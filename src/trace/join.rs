//! Several captures into one recording while they run, on one clock.
//!
//! [`merge`](super::merge()) puts whole recordings together; this does so event by event, for
//! captures of several machines that are watched as one.

use std::io;

use rustc_hash::FxHashMap;

use super::merge::together;
use super::meta::{CaptureMeta, NodeNote};
use super::sink::{Event, Sink, SliceEvent, TrackDef, TrackRef};

/// Notes of all parts are written at most so often, in ns of the recording: they grow with the
/// number of parts, and each part has news of its own once a second.
const NOTES_NS: u64 = 2_000_000_000;
/// A number that two machines use is raised by a multiple of this: no Linux has larger ones
/// (PID_MAX_LIMIT).
const PID_SPACE: u32 = 1 << 22;

/// What is known of one part.
#[derive(Debug, Default)]
struct Part {
    /// What to take from its times, in ns.
    offset_ns: i64,
    /// How far that may be wrong, in ns.
    error_ns: u64,
    /// The recording's number of each of its processes and threads.
    ids: FxHashMap<u32, u32>,
    /// Its notes so far, in the recording's numbers and times.
    notes: Option<CaptureMeta>,
    /// About the part itself.
    about: NodeNote,
}

/// Joins captures into a sink.
pub struct Joiner<'s> {
    sink: &'s mut dyn Sink,
    parts: Vec<Part>,
    /// Whose a number is.
    taken: FxHashMap<u32, usize>,
    noted_ns: u64,
}

/// One of the captures, as a sink to write it into.
pub struct Joined<'j, 's> {
    joiner: &'j mut Joiner<'s>,
    part: usize,
}

impl<'s> Joiner<'s> {
    /// Starts a recording of so many parts.
    pub fn new(sink: &'s mut dyn Sink, parts: usize) -> Joiner<'s> {
        let parts = (0..parts).map(|_| Part::default()).collect();
        Joiner { sink, parts, taken: FxHashMap::default(), noted_ns: 0 }
    }

    /// Tells about a part: its node, and by how much its clock is ahead. To be called before its
    /// first event, and again when more is known; times that are written stay, and so do the offset
    /// and its error that they were moved by.
    pub fn about(&mut self, part: usize, note: NodeNote) {
        if let Some(part) = self.parts.get_mut(part) {
            if part.notes.is_none() && part.ids.is_empty() {
                (part.offset_ns, part.error_ns) = (note.clock_offset_ns, note.clock_error_ns);
            }
            part.about = NodeNote { clock_offset_ns: part.offset_ns, clock_error_ns: part.error_ns, ..note };
        }
    }

    /// The sink of a part.
    pub fn part(&mut self, part: usize) -> Joined<'_, 's> {
        Joined { joiner: self, part }
    }

    /// Notes on all parts together, as far as they have come.
    pub fn notes(&self) -> CaptureMeta {
        let notes = self.parts.iter().filter_map(|part| {
            let mut notes = part.notes.clone()?;
            notes.nodes = vec![part.about.clone()];
            Some(notes)
        });
        let mut all = notes.reduce(together).unwrap_or_default();
        // Of parts without an event something may be known as well.
        let silent = self.parts.iter().filter(|part| part.notes.is_none() && !part.about.node.is_empty());
        all.nodes.extend(silent.map(|part| part.about.clone()));
        all
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    /// Writes the last notes and ends the recording.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(self) -> io::Result<CaptureMeta> {
        let notes = self.notes();
        self.sink.meta(notes.end_ns, &notes)?;
        self.sink.finish()?;
        Ok(notes)
    }

    /// The recording's number of a process or thread of a part: its own, unless another part has it.
    fn id(&mut self, part: usize, id: u32) -> u32 {
        if let Some(&known) = self.parts.get(part).and_then(|part| part.ids.get(&id)) {
            return known;
        }
        let mut number = id;
        while self.taken.get(&number).is_some_and(|owner| *owner != part) {
            number = number.wrapping_add(PID_SPACE);
        }
        self.taken.insert(number, part);
        if let Some(part) = self.parts.get_mut(part) {
            part.ids.insert(id, number);
        }
        number
    }

    fn time(&self, part: usize, ts_ns: u64) -> u64 {
        let offset = self.parts.get(part).map_or(0, |part| part.offset_ns);
        u64::try_from((i128::from(ts_ns) - i128::from(offset)).max(0)).unwrap_or(u64::MAX)
    }

    /// Notes of a part in the recording's numbers and times.
    fn translate(&mut self, part: usize, mut notes: CaptureMeta) -> CaptureMeta {
        notes.start_ns = self.time(part, notes.start_ns);
        notes.end_ns = self.time(part, notes.end_ns);
        for thinned in &mut notes.thinned {
            thinned.ts_ns = self.time(part, thinned.ts_ns);
        }
        let node = self.parts.get(part).map(|part| part.about.node.clone()).unwrap_or_default();
        for pid in &mut notes.targets {
            *pid = self.id(part, *pid);
        }
        let pids = notes.syscalls.iter_mut().map(|total| &mut total.pid);
        let pids = pids.chain(notes.files.iter_mut().map(|total| &mut total.pid));
        for pid in pids.chain(notes.pythons.iter_mut().map(|python| &mut python.pid)) {
            *pid = self.id(part, *pid);
        }
        for place in &mut notes.places {
            let number = self.id(part, place.pid);
            place.pid_on_node = (number != place.pid).then_some(place.pid);
            place.pid = number;
            place.node.clone_from(&node);
        }
        notes
    }
}

impl Joined<'_, '_> {
    fn at(&self, ts_ns: u64) -> u64 {
        self.joiner.time(self.part, ts_ns)
    }
}

impl Sink for Joined<'_, '_> {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        let pid = self.joiner.id(self.part, pid);
        self.joiner.sink.process(pid, name, cmdline, rank)
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        let (pid, tid) = (self.joiner.id(self.part, pid), self.joiner.id(self.part, tid));
        self.joiner.sink.thread(pid, tid, name)
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        let pid = def.pid.map(|pid| self.joiner.id(self.part, pid));
        let tid = def.tid.map(|tid| self.joiner.id(self.part, tid));
        let node = self.joiner.parts.get(self.part).map_or("", |part| &part.about.node);
        // A track of no process: whose it is must be said.
        let named = (pid.is_none() && !node.is_empty()).then(|| format!("{node}: {}", def.name));
        let name = named.as_deref().unwrap_or(def.name);
        self.joiner.sink.track(TrackDef { pid, tid, name, ..def })
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        // Arrows count from 1 in every part: none may lead from one into another.
        let turn = (self.part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let flow = if slice.flow == 0 { 0 } else { (slice.flow ^ turn).max(1) };
        self.joiner.sink.slice(track, &SliceEvent { start_ns: self.at(slice.start_ns), flow, ..*slice })
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let ts_ns = self.at(event.ts_ns);
        self.joiner.sink.begin(track, &Event { ts_ns, ..*event })
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let ts_ns = self.at(event.ts_ns);
        self.joiner.sink.end(track, &Event { ts_ns, ..*event })
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let ts_ns = self.at(event.ts_ns);
        self.joiner.sink.instant(track, &Event { ts_ns, ..*event })
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        let ts_ns = self.at(ts_ns);
        self.joiner.sink.counter(track, ts_ns, value)
    }

    fn meta(&mut self, ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        let notes = self.joiner.translate(self.part, meta.clone());
        let now = self.at(ts_ns);
        if let Some(part) = self.joiner.parts.get_mut(self.part) {
            part.notes = Some(notes);
        }
        if now >= self.joiner.noted_ns.saturating_add(NOTES_NS) {
            self.joiner.noted_ns = now;
            let all = self.joiner.notes();
            self.joiner.sink.meta(now, &all)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.joiner.sink.flush()
    }

    /// The end of one part is not the recording's.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
