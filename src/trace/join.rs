//! Several captures into one recording while they run, on one clock.
//!
//! [`merge`](super::merge()) puts whole recordings together; this does so event by event, for
//! captures of several machines that are watched as one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use super::merge::together;
use super::meta::{CaptureMeta, NodeNote};
use super::sink::{Branch, Event, Sink, SliceEvent, TrackDef, TrackRef};

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
    /// Times were moved by it: it stays.
    begun: bool,
    /// Its notes so far, in the recording's numbers and times.
    notes: Option<CaptureMeta>,
    /// About the part itself.
    about: NodeNote,
}

/// What all parts share, on whatever thread each is.
#[derive(Debug, Default)]
struct Shared {
    parts: Vec<Part>,
    /// Whose a number is.
    taken: FxHashMap<u32, usize>,
    /// The newest moment that notes are of.
    newest_ns: u64,
}

impl Shared {
    fn about(&mut self, part: usize, note: NodeNote) {
        if let Some(part) = self.parts.get_mut(part) {
            if !part.begun {
                (part.offset_ns, part.error_ns) = (note.clock_offset_ns, note.clock_error_ns);
            }
            part.about = NodeNote { clock_offset_ns: part.offset_ns, clock_error_ns: part.error_ns, ..note };
        }
    }

    fn notes(&self) -> CaptureMeta {
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
}

/// Nothing that is changed under the lock is left half done.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Joins captures into a sink.
pub struct Joiner<'s> {
    sink: &'s mut dyn Sink,
    shared: Arc<Mutex<Shared>>,
    movers: Vec<Mover>,
    noted_ns: u64,
}

/// Gives a part's events the recording's numbers and times.
#[derive(Debug)]
struct Mover {
    part: usize,
    shared: Arc<Mutex<Shared>>,
    /// The recording's number of each of its processes and threads.
    ids: FxHashMap<u32, u32>,
    /// Once an event was moved by it.
    offset_ns: Option<i64>,
}

/// One of the captures, as a sink to write it into.
pub struct Joined<'j> {
    mover: &'j mut Mover,
    sink: &'j mut dyn Sink,
}

/// One of the captures, to be written on a thread of its own. What it was told is [taken](Apart::take)
/// and given to [`Joiner::append`].
pub struct Apart {
    mover: Mover,
    branch: Box<dyn Branch>,
}

impl Apart {
    /// As [`Joiner::about`].
    pub fn about(&self, note: NodeNote) {
        lock(&self.mover.shared).about(self.mover.part, note);
    }

    /// The part as a sink.
    pub fn sink(&mut self) -> Joined<'_> {
        Joined { mover: &mut self.mover, sink: &mut *self.branch }
    }

    /// Takes what was written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        self.branch.take()
    }
}

impl<'s> Joiner<'s> {
    /// Starts a recording of so many parts.
    pub fn new(sink: &'s mut dyn Sink, parts: usize) -> Joiner<'s> {
        let shared = Shared { parts: (0..parts).map(|_| Part::default()).collect(), ..Shared::default() };
        let shared = Arc::new(Mutex::new(shared));
        let movers = (0..parts).map(|part| Mover::new(part, &shared)).collect();
        Joiner { sink, shared, movers, noted_ns: 0 }
    }

    /// Tells about a part: its node, and by how much its clock is ahead. To be called before its
    /// first event, and again when more is known; times that are written stay, and so do the offset
    /// and its error that they were moved by.
    pub fn about(&mut self, part: usize, note: NodeNote) {
        lock(&self.shared).about(part, note);
    }

    /// A part as a sink; to be written here, on this thread.
    pub fn part(&mut self, part: usize) -> Joined<'_> {
        let shared = &self.shared;
        while self.movers.len() <= part {
            self.movers.push(Mover::new(self.movers.len(), shared));
        }
        Joined { mover: &mut self.movers[part], sink: self.sink }
    }

    /// A part to be written on another thread, if the sink has branches: then not here as well.
    pub fn apart(&mut self, part: usize) -> Option<Apart> {
        Some(Apart { branch: self.sink.branch()?, mover: Mover::new(part, &self.shared) })
    }

    /// Puts in what a part on another thread has written.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn append(&mut self, written: &[u8]) -> io::Result<()> {
        self.sink.append(written)?;
        self.note()
    }

    /// Notes on all parts together, as far as they have come.
    pub fn notes(&self) -> CaptureMeta {
        lock(&self.shared).notes()
    }

    /// Writes notes if it is time.
    fn note(&mut self) -> io::Result<()> {
        let shared = lock(&self.shared);
        let now = shared.newest_ns;
        if now <= self.noted_ns || now < self.noted_ns.saturating_add(NOTES_NS) {
            return Ok(());
        }
        let all = shared.notes();
        drop(shared);
        self.noted_ns = now;
        self.sink.meta(now, &all)
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn flush(&mut self) -> io::Result<()> {
        self.note()?;
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
}

impl Mover {
    fn new(part: usize, shared: &Arc<Mutex<Shared>>) -> Mover {
        Mover { part, shared: Arc::clone(shared), ids: FxHashMap::default(), offset_ns: None }
    }

    /// The recording's number of a process or thread: its own, unless another part has it.
    fn id(&mut self, id: u32) -> u32 {
        if let Some(&known) = self.ids.get(&id) {
            return known;
        }
        let mut shared = lock(&self.shared);
        let mut number = id;
        while shared.taken.get(&number).is_some_and(|owner| *owner != self.part) {
            number = number.wrapping_add(PID_SPACE);
        }
        shared.taken.insert(number, self.part);
        drop(shared);
        self.ids.insert(id, number);
        number
    }

    #[inline]
    fn time(&mut self, ts_ns: u64) -> u64 {
        let offset = match self.offset_ns {
            Some(offset) => offset,
            None => self.settle(),
        };
        // Most clocks are moved by less than they show.
        match ts_ns.checked_add_signed(offset.wrapping_neg()) {
            Some(moved) if offset != i64::MIN => moved,
            _ => u64::try_from((i128::from(ts_ns) - i128::from(offset)).max(0)).unwrap_or(u64::MAX),
        }
    }

    /// The offset as it is known now is the part's.
    #[cold]
    fn settle(&mut self) -> i64 {
        let mut shared = lock(&self.shared);
        let part = shared.parts.get_mut(self.part);
        let offset = part.map_or(0, |part| {
            part.begun = true;
            part.offset_ns
        });
        *self.offset_ns.insert(offset)
    }

    fn node(&self) -> String {
        lock(&self.shared).parts.get(self.part).map(|part| part.about.node.clone()).unwrap_or_default()
    }

    /// Notes of the part in the recording's numbers and times.
    fn translate(&mut self, mut notes: CaptureMeta) -> CaptureMeta {
        notes.start_ns = self.time(notes.start_ns);
        notes.end_ns = self.time(notes.end_ns);
        for thinned in &mut notes.thinned {
            thinned.ts_ns = self.time(thinned.ts_ns);
        }
        let node = self.node();
        for pid in &mut notes.targets {
            *pid = self.id(*pid);
        }
        let pids = notes.syscalls.iter_mut().map(|total| &mut total.pid);
        let pids = pids.chain(notes.files.iter_mut().map(|total| &mut total.pid));
        for pid in pids.chain(notes.pythons.iter_mut().map(|python| &mut python.pid)) {
            *pid = self.id(*pid);
        }
        for place in &mut notes.places {
            let number = self.id(place.pid);
            place.pid_on_node = (number != place.pid).then_some(place.pid);
            place.pid = number;
            place.node.clone_from(&node);
        }
        notes
    }
}

impl Sink for Joined<'_> {
    fn process(&mut self, pid: u32, name: &str, cmdline: Option<&str>, rank: Option<u32>) -> io::Result<()> {
        let pid = self.mover.id(pid);
        self.sink.process(pid, name, cmdline, rank)
    }

    fn thread(&mut self, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        let (pid, tid) = (self.mover.id(pid), self.mover.id(tid));
        self.sink.thread(pid, tid, name)
    }

    fn track(&mut self, def: TrackDef<'_>) -> io::Result<TrackRef> {
        let pid = def.pid.map(|pid| self.mover.id(pid));
        let tid = def.tid.map(|tid| self.mover.id(tid));
        // A track of no process: whose it is must be said.
        let node = if pid.is_none() { self.mover.node() } else { String::new() };
        let named = (!node.is_empty()).then(|| format!("{node}: {}", def.name));
        let name = named.as_deref().unwrap_or(def.name);
        self.sink.track(TrackDef { pid, tid, name, ..def })
    }

    fn slice(&mut self, track: TrackRef, slice: &SliceEvent<'_>) -> io::Result<()> {
        // Arrows count from 1 in every part: none may lead from one into another.
        let turn = (self.mover.part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let flow = if slice.flow == 0 { 0 } else { (slice.flow ^ turn).max(1) };
        let start_ns = self.mover.time(slice.start_ns);
        self.sink.slice(track, &SliceEvent { start_ns, flow, ..*slice })
    }

    fn begin(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let ts_ns = self.mover.time(event.ts_ns);
        self.sink.begin(track, &Event { ts_ns, ..*event })
    }

    fn end(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let ts_ns = self.mover.time(event.ts_ns);
        self.sink.end(track, &Event { ts_ns, ..*event })
    }

    fn instant(&mut self, track: TrackRef, event: &Event<'_>) -> io::Result<()> {
        let ts_ns = self.mover.time(event.ts_ns);
        self.sink.instant(track, &Event { ts_ns, ..*event })
    }

    fn counter(&mut self, track: TrackRef, ts_ns: u64, value: f64) -> io::Result<()> {
        let ts_ns = self.mover.time(ts_ns);
        self.sink.counter(track, ts_ns, value)
    }

    /// Written with those of all parts, now and then and at the end.
    fn meta(&mut self, ts_ns: u64, meta: &CaptureMeta) -> io::Result<()> {
        let notes = self.mover.translate(meta.clone());
        let now = self.mover.time(ts_ns);
        let mut shared = lock(&self.mover.shared);
        shared.newest_ns = shared.newest_ns.max(now);
        if let Some(part) = shared.parts.get_mut(self.mover.part) {
            part.notes = Some(notes);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    /// The end of one part is not the recording's.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
