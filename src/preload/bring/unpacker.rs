//! Archives that become files, while others still come.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use super::super::choice::Choice;
use super::super::error::PreloadError;
use super::super::event::{Event, Sink};
use super::super::store::Repository;
use super::super::store::manifest::Entry;
use super::super::unpack::{Member, Together, unpack};
use super::Order;

/// Archives unpacked at a time: a core unpacks slower than a disk writes, and each may take a
/// decoder's window of memory.
const AT_ONCE: usize = 2;
/// Time between two words on how far they are.
pub const TELL: Duration = Duration::from_millis(100);

/// An archive's digest, and what it held.
pub type Done = (String, Vec<Member>);

/// The archives of one revision. Those at work end when it is dropped; to wait for that, [`Unpacker::end`].
pub struct Unpacker {
    repository: Repository,
    choice: Choice,
    pub(super) together: Arc<Together>,
    /// Digests of all that were given.
    known: BTreeSet<String>,
    waiting: VecDeque<Entry>,
    begun: Vec<Begun>,
    running: JoinSet<(String, Result<Vec<Member>, PreloadError>)>,
    told: Instant,
    /// Archives that were given out, and are dealt with when the next is asked for.
    unsettled: usize,
}

/// An archive that is being unpacked.
struct Begun {
    layer: Entry,
    reached: Arc<AtomicU64>,
}

impl Unpacker {
    /// Without any.
    pub fn new(order: &Order<'_>, repository: &Repository) -> Unpacker {
        Unpacker {
            repository: repository.clone(),
            choice: order.choice.clone(),
            together: Arc::new(Together::new(order.manner.max_memory)),
            known: BTreeSet::new(),
            waiting: VecDeque::new(),
            begun: Vec::new(),
            running: JoinSet::new(),
            told: Instant::now(),
            unsettled: 0,
        }
    }

    /// Leaves so many bytes of the disk to what is yet to be fetched.
    pub fn hold_back(&self, bytes: u64) {
        self.together.hold.store(bytes, Ordering::Relaxed);
    }

    /// Of that so many have come.
    pub fn arrived(&self, bytes: u64) {
        let less = |held: u64| Some(held.saturating_sub(bytes));
        let _ = self.together.hold.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// What was given out is dealt with: its room may be free.
    fn settled(&mut self) {
        self.together.ended(std::mem::take(&mut self.unsettled));
    }

    /// Takes an archive that is whole; one that it has had already is passed over.
    pub fn add(&mut self, layer: &Entry, sink: &dyn Sink) {
        if self.known.insert(layer.digest.clone()) {
            self.waiting.push_back(layer.clone());
            self.fill(sink);
        }
    }

    fn fill(&mut self, sink: &dyn Sink) {
        while self.running.len() < AT_ONCE
            && let Some(layer) = self.waiting.pop_front()
        {
            sink.event(Event::Unpacking { name: layer.name.clone(), bytes: layer.bytes });
            let (repository, choice, together) =
                (self.repository.clone(), self.choice.clone(), Arc::clone(&self.together));
            let (digest, reached) = (layer.digest.clone(), Arc::<AtomicU64>::default());
            self.together.begun();
            self.begun.push(Begun { layer, reached: Arc::clone(&reached) });
            self.running.spawn_blocking(move || {
                let members = unpack(&repository, &digest, &|name| choice.wants(name), &together, &reached);
                (digest, members)
            });
        }
    }

    /// The next that is done, if one is.
    ///
    /// # Errors
    /// If it could not be unpacked.
    pub fn ready(&mut self, sink: &dyn Sink) -> Option<Result<Done, PreloadError>> {
        self.settled();
        let ended = self.running.try_join_next()?;
        Some(self.ended(ended, sink))
    }

    /// Waits until one is done; `None` if there are no more.
    ///
    /// # Errors
    /// If it could not be unpacked.
    pub async fn next(&mut self, sink: &dyn Sink) -> Option<Result<Done, PreloadError>> {
        self.settled();
        loop {
            match tokio::time::timeout(TELL, self.running.join_next()).await {
                Ok(ended) => return Some(self.ended(ended?, sink)),
                Err(_) => self.tell(sink),
            }
        }
    }

    fn ended(
        &mut self,
        ended: Result<(String, Result<Vec<Member>, PreloadError>), JoinError>,
        sink: &dyn Sink,
    ) -> Result<Done, PreloadError> {
        let (digest, members) = ended.map_err(|error| PreloadError::Source {
            what: "an archive".to_owned(),
            why: format!("unpacking was given up: {error}"),
            passing: true,
        })?;
        self.unsettled += 1;
        let members = members?;
        if let Some(place) = self.begun.iter().position(|begun| begun.layer.digest == digest) {
            let bytes = members.iter().map(|member| member.bytes).fold(0, u64::saturating_add);
            let Begun { layer, .. } = self.begun.remove(place);
            sink.event(Event::Unpacked { name: layer.name, files: members.len(), bytes });
        }
        self.fill(sink);
        Ok((digest, members))
    }

    /// Says how far they are, ten times a second at the most.
    pub fn tell(&mut self, sink: &dyn Sink) {
        if self.told.elapsed() < TELL {
            return;
        }
        self.told = Instant::now();
        for Begun { layer, reached } in &self.begun {
            let read_bytes = reached.load(Ordering::Relaxed);
            sink.event(Event::UnpackProgress { name: layer.name.clone(), read_bytes, bytes: layer.bytes });
        }
    }

    /// Ends those at work: what they made stays.
    pub async fn end(&mut self) {
        self.together.stop.store(true, Ordering::Relaxed);
        self.waiting.clear();
        while self.running.join_next().await.is_some() {}
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        self.together.stop.store(true, Ordering::Relaxed);
    }
}
