//! The fetch: ranges of all files over as many connections as pay, written where they belong,
//! hashed behind the writers, each file named when it is whole and right.

mod arrival;
mod hashers;
mod pace;
mod range;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::error::PreloadError;
use super::event::{Event, Sink};
use super::origin::{Origin, ReadError};
use super::peer::Peers;
use super::store::Repository;
use super::store::manifest::Stamp;
use arrival::End;
pub use arrival::{Arrival, Wanted, quarantine};
use hashers::{Hashers, Said};
pub use pace::pause;
use pace::{Limit, Pace};
use range::{Failure, Shared};

/// Time between two looks at the goodput.
const LOOK: Duration = Duration::from_millis(300);
/// Between the first ones, until the number of connections is found: every turn.
const FIRST_LOOKS: Duration = Duration::from_millis(90);
/// Time between two turns at which progress is looked at.
const TURN: Duration = Duration::from_millis(100);
/// Below this share of a limit to the rate it is not the limit that holds.
const HELD: f64 = 0.9;
/// Memory that a connection may take: the client's buffer, at most 400 kB of hyper's and what the
/// kernel hands over at once.
const MEMORY_A_CONNECTION: u64 = 2 << 20;
/// Memory of a thread that hashes.
const MEMORY_A_HASHER: u64 = 2 << 20;

/// How to fetch.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Most connections.
    pub connections: usize,
    /// Most memory for data on its way, in bytes.
    pub max_memory: u64,
    /// Most bytes a second.
    pub limit_rate: Option<u64>,
    /// Time without a byte after which a request is made again.
    pub stall: Duration,
    /// Failures of a range one after the other, without progress, that are too many.
    pub retries: u32,
    /// Time between two events about a file's progress.
    pub tell: Duration,
}

/// A file that is whole now.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The name of its blob.
    pub digest: String,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
    /// Its blob as it is now.
    pub stamp: Stamp,
}

/// What came of a fetch.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Bytes that came from the source.
    pub bytes: u64,
    /// Bytes that came from other nodes.
    pub peer_bytes: u64,
    /// Files that changed at their source: to be listed anew.
    pub changed: Vec<String>,
    /// Files that were not what was promised.
    pub wrong: Vec<PreloadError>,
}

impl Manner {
    /// Connections that fit into the memory.
    pub fn connections(&self) -> usize {
        let room = self.max_memory.saturating_sub(hasher_count() as u64 * MEMORY_A_HASHER) / MEMORY_A_CONNECTION;
        self.connections.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
    }
}

/// Threads that hash: a core does 1.8 GB/s, more than most networks bring.
fn hasher_count() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 4)
}

/// Fetches files; `arrived` is told of each that is whole.
///
/// # Errors
/// If the store fails, or the source does, again and again. What came stays, for the next run.
pub async fn fetch(
    origin: Arc<Origin>,
    peers: Option<Arc<Peers>>,
    repository: &Repository,
    wanted: Vec<Wanted>,
    manner: &Manner,
    sink: &dyn Sink,
    arrived: &mut (dyn FnMut(Arrived) + Send),
) -> Result<Fetched, PreloadError> {
    let shared = Arc::new(Shared {
        origin,
        limit: manner.limit_rate.map(|rate| Mutex::new(Limit::new(rate))),
        stall: manner.stall,
        fetched: AtomicU64::new(0),
        peers,
        from_peers: AtomicU64::new(0),
        waiting: AtomicUsize::new(0),
    });
    let (hashers, heard) = Hashers::start(hasher_count());
    let mut work = Work {
        shared: Arc::clone(&shared),
        repository,
        manner,
        sink,
        hashers,
        heard,
        left: wanted.into(),
        ready: VecDeque::new(),
        later: Vec::new(),
        moving: BTreeMap::new(),
        suspects: BTreeMap::new(),
        running: JoinSet::new(),
        pace: Pace::new(manner.connections()),
        quiet_until: None,
        next_number: 0,
        told_at: Instant::now(),
        done: Fetched::default(),
    };
    let ended = work.run(arrived).await;
    work.done.bytes = shared.fetched.load(Ordering::Relaxed);
    work.done.peer_bytes = shared.from_peers.load(Ordering::Relaxed);
    ended.map(|()| work.done)
}

/// A range to be fetched.
#[derive(Debug, Clone, Copy)]
struct Job {
    file: usize,
    range: usize,
    failures: u32,
    /// How far it was at the last failure.
    written: u64,
}

/// Which ranges came from which peers.
type Givers = Vec<(Range<u64>, String)>;

struct Moving {
    arrival: Arc<Arrival>,
    ranges_left: usize,
    told: u64,
}

struct Work<'a> {
    shared: Arc<Shared>,
    repository: &'a Repository,
    manner: &'a Manner,
    sink: &'a dyn Sink,
    hashers: Hashers,
    heard: UnboundedReceiver<Said>,
    left: VecDeque<Wanted>,
    ready: VecDeque<Job>,
    later: Vec<(Instant, Job)>,
    moving: BTreeMap<usize, Moving>,
    /// Files that came from peers and were wrong, by digest: where the wrong bytes are, and whose.
    suspects: BTreeMap<String, (PathBuf, Givers)>,
    running: JoinSet<(Job, Result<(), Failure>)>,
    pace: Pace,
    quiet_until: Option<Instant>,
    next_number: usize,
    told_at: Instant,
    done: Fetched,
}

impl Work<'_> {
    async fn run(&mut self, arrived: &mut (dyn FnMut(Arrived) + Send)) -> Result<(), PreloadError> {
        let mut looked = (Instant::now(), 0);
        let mut tick = tokio::time::interval(TURN);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = self.pace.target();
        loop {
            self.start_requests()?;
            if self.moving.is_empty() && self.left.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Some(joined) = self.running.join_next(), if !self.running.is_empty() => {
                    // A task that panicked is an error of ours; the range is as far as its journal says.
                    let (job, ended) = joined.map_err(|error| PreloadError::Source {
                        what: self.shared.origin.source().to_string(), why: error.to_string(), passing: true,
                    })?;
                    self.range_ended(job, ended)?;
                }
                Some((arrival, end)) = self.heard.recv() => self.file_ended(&arrival, end?, arrived)?,
                _ = tick.tick() => {
                    self.tell();
                    looked = self.look(looked);
                    if self.pace.target() != told {
                        told = self.pace.target();
                        self.sink.event(Event::Connections { count: told });
                    }
                }
            }
        }
    }

    /// Looks at the goodput when it is time: `looked` is when it was last, and what had come by then.
    fn look(&mut self, looked: (Instant, u64)) -> (Instant, u64) {
        let (since, before) = looked;
        // What peers give is counted a range at a time: too coarse for short looks.
        let short = self.pace.is_starting() && self.shared.peers.is_none();
        let elapsed = since.elapsed();
        if elapsed < if short { FIRST_LOOKS } else { LOOK } {
            return looked;
        }
        let came = self.shared.came();
        let rate = (came - before) as f64 / elapsed.as_secs_f64();
        let held = self.manner.limit_rate.is_some_and(|limit| rate >= limit as f64 * HELD);
        let busy = self.running.len() >= self.pace.target() && self.quiet_until.is_none() && !held;
        self.pace.look(rate, busy, self.shared.waiting.load(Ordering::Relaxed));
        (Instant::now(), came)
    }

    /// Starts as many requests as may run.
    fn start_requests(&mut self) -> Result<(), PreloadError> {
        let now = Instant::now();
        if self.quiet_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        self.quiet_until = None;
        while self.running.len() < self.pace.target() {
            let due = self.later.iter().position(|(at, _)| *at <= now).map(|at| self.later.swap_remove(at).1);
            let Some(job) = due.or_else(|| self.ready.pop_front()) else {
                match self.left.pop_front() {
                    Some(remote) => self.open(remote)?,
                    None => break,
                }
                continue;
            };
            let Some(moving) = self.moving.get(&job.file) else { continue };
            let (shared, arrival) = (Arc::clone(&self.shared), Arc::clone(&moving.arrival));
            self.running.spawn(async move { (job, range::fetch(shared, arrival, job.range).await) });
        }
        Ok(())
    }

    fn open(&mut self, wanted: Wanted) -> Result<(), PreloadError> {
        let arrival = Arc::new(Arrival::open(self.repository, wanted)?);
        let file = self.next_number;
        self.next_number += 1;
        let journal = &arrival.journal;
        let have_bytes = journal.total();
        let mut holes: Vec<usize> =
            (0..journal.count()).filter(|&index| journal.written(index) < arrival.wanted(index)).collect();
        if let Some(peers) = self.shared.peers.as_ref().filter(|_| arrival.asks_peers) {
            peers.shelf.arriving(&arrival);
            // First what others wait for.
            holes.sort_by_cached_key(|&index| !peers.owns(&arrival.remote.digest, index));
        }
        let (name, bytes) = (arrival.remote.name.clone(), arrival.wanted_bytes());
        self.sink.event(Event::FileStarted { name, bytes, have_bytes: have_bytes.min(bytes) });
        if arrival.is_part() && holes.is_empty() {
            self.part_ended(&arrival)?;
            return Ok(());
        }
        if !arrival.is_part() && (have_bytes > 0 || holes.is_empty()) {
            self.hashers.advance(file, &arrival);
        }
        let job = |range: usize| Job { file, range, failures: 0, written: arrival.journal.written(range) };
        self.ready.extend(holes.iter().map(|&range| job(range)));
        self.moving.insert(file, Moving { ranges_left: holes.len(), told: have_bytes, arrival });
        Ok(())
    }

    /// What was wanted of a file is here.
    fn part_ended(&mut self, arrival: &Arrival) -> Result<(), PreloadError> {
        arrival.settle()?;
        let (name, bytes) = (arrival.remote.name.clone(), arrival.wanted_bytes());
        self.sink.event(Event::PartDone { name, bytes, have_bytes: bytes });
        Ok(())
    }

    fn range_ended(&mut self, job: Job, ended: Result<(), Failure>) -> Result<(), PreloadError> {
        let Some(moving) = self.moving.get_mut(&job.file) else { return Ok(()) };
        let failure = match ended {
            Ok(()) => {
                moving.ranges_left -= 1;
                if !moving.arrival.is_part() {
                    self.hashers.advance(job.file, &moving.arrival);
                } else if moving.ranges_left == 0 {
                    let arrival = Arc::clone(&moving.arrival);
                    self.moving.remove(&job.file);
                    self.part_ended(&arrival)?;
                }
                return Ok(());
            }
            Err(failure) => failure,
        };
        let error = match failure {
            Failure::Store(error) => return Err(error),
            Failure::Read(error) => error,
        };
        let arrival = Arc::clone(&moving.arrival);
        match error {
            ReadError::Changed => {
                self.drop_changed(job.file);
                Ok(())
            }
            ReadError::Passing { why, wait, busy } => {
                let written = arrival.journal.written(job.range);
                let failures = if written > job.written { 1 } else { job.failures + 1 };
                if failures > self.manner.retries {
                    let passing = ReadError::Passing { why, wait, busy };
                    return Err(passing.into_error(self.shared.origin.source(), &arrival.remote.name));
                }
                let wait_for = pause(failures, wait, fastrand::f64());
                if busy {
                    self.pace.overloaded();
                }
                if let Some(wait) = wait {
                    // It is the server that wants rest, not this range.
                    let until = Instant::now() + wait;
                    self.quiet_until = Some(self.quiet_until.map_or(until, |before| before.max(until)));
                }
                self.sink.event(Event::Retry {
                    name: arrival.remote.name.clone(),
                    offset: arrival.journal.range(job.range).start + written,
                    why,
                    wait_ms: u64::try_from(wait_for.as_millis()).unwrap_or(u64::MAX),
                });
                self.later.push((Instant::now() + wait_for, Job { failures, written, ..job }));
                Ok(())
            }
            error => Err(error.into_error(self.shared.origin.source(), &arrival.remote.name)),
        }
    }

    fn drop_changed(&mut self, file: usize) {
        let Some(moving) = self.moving.remove(&file) else { return };
        self.ready.retain(|job| job.file != file);
        self.later.retain(|(_, job)| job.file != file);
        moving.arrival.discard();
        if let Some(peers) = &self.shared.peers {
            peers.shelf.withdraw(&moving.arrival.remote.digest);
        }
        let name = moving.arrival.remote.name.clone();
        self.sink.event(Event::Changed { name: name.clone() });
        self.done.changed.push(name);
    }

    fn file_ended(
        &mut self,
        arrival: &Arc<Arrival>,
        end: End,
        arrived: &mut (dyn FnMut(Arrived) + Send),
    ) -> Result<(), PreloadError> {
        let number =
            self.moving.iter().find(|(_, moving)| Arc::ptr_eq(&moving.arrival, arrival)).map(|(number, _)| *number);
        let Some(number) = number else { return Ok(()) };
        let (name, bytes) = (arrival.remote.name.clone(), arrival.remote.bytes);
        let digest = arrival.remote.digest.clone();
        match end {
            End::Whole { sha256, stamp } => {
                self.moving.remove(&number);
                if let Some(peers) = &self.shared.peers {
                    peers.shelf.whole(&digest, self.repository.blob(&digest));
                    self.find_liars(arrival);
                }
                self.sink.event(Event::FileDone { name, bytes, sha256: sha256.clone() });
                arrived(Arrived { digest, sha256, stamp });
            }
            End::Wrong(error) => {
                self.moving.remove(&number);
                if let Some(peers) = &self.shared.peers {
                    peers.shelf.withdraw(&digest);
                }
                let quarantine = match &error {
                    PreloadError::Checksum { quarantine, .. } | PreloadError::Header { quarantine, .. } => {
                        self.sink.event(Event::Quarantined { name, path: quarantine.display().to_string() });
                        quarantine.clone()
                    }
                    _ => PathBuf::new(),
                };
                let givers = arrival.givers();
                if givers.is_empty() {
                    self.done.wrong.push(error);
                } else {
                    // Not the source's fault, maybe: once more, from it alone.
                    let aside = quarantine.with_extension("from-peers");
                    let _ = std::fs::rename(&quarantine, &aside);
                    self.suspects.insert(digest, (aside, givers));
                    self.open(Wanted { remote: arrival.remote.clone(), need: None, asks_peers: false })?;
                }
            }
            End::Changed => self.drop_changed(number),
        }
        Ok(())
    }

    /// A file that was wrong with what peers gave is right now: whose bytes were others?
    fn find_liars(&mut self, arrival: &Arrival) {
        let Some((wrong, givers)) = self.suspects.remove(&arrival.remote.digest) else { return };
        let Some(peers) = &self.shared.peers else { return };
        let Ok(wrong) = std::fs::File::open(wrong) else { return };
        let mut banned = BTreeSet::new();
        for (range, peer) in givers {
            if !same(&wrong, &arrival.file, range) && banned.insert(peer.clone()) {
                peers.ban(&peer);
                self.sink.event(Event::PeerBanned { peer, name: arrival.remote.name.clone() });
            }
        }
    }

    fn tell(&mut self) {
        if self.told_at.elapsed() < self.manner.tell {
            return;
        }
        self.told_at = Instant::now();
        for moving in self.moving.values_mut() {
            let have_bytes = moving.arrival.journal.total();
            if have_bytes != moving.told {
                moving.told = have_bytes;
                let (name, bytes) = (moving.arrival.remote.name.clone(), moving.arrival.wanted_bytes());
                self.sink.event(Event::Progress { name, have_bytes: have_bytes.min(bytes), bytes });
            }
        }
    }
}

/// Whether two files have the same bytes in a range; what can't be read is not the same.
fn same(one: &std::fs::File, other: &std::fs::File, range: Range<u64>) -> bool {
    use std::os::unix::fs::FileExt;
    let (mut here, mut there) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end - at).map_or(here.len(), |left| left.min(here.len()));
        let read =
            one.read_exact_at(&mut here[..length], at).and_then(|()| other.read_exact_at(&mut there[..length], at));
        if read.is_err() || here[..length] != there[..length] {
            return false;
        }
        at += length as u64;
    }
    true
}
