//! Does what was planned, watches memory meanwhile, and looks at the end what came of it.

use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::event::{Event, Sink};
use super::super::memory_error::MemoryError;
use super::super::portion;
use super::super::residency::{self, FileResidency};
use super::super::room::{self, Terms};
use super::plan::{Plan, Span, absent};
use super::read::{Reader, Shared, Way};
use crate::host::tree::Tree;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Bytes that are meant.
    pub bytes: u64,
    /// Those in the page cache now; `None` if that can't be known.
    pub resident_bytes: Option<u64>,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that did not fit and were left out.
    pub left_out_bytes: u64,
    /// Whether reading stopped early because memory ran short.
    pub ran_short: bool,
    /// Time it took.
    pub seconds: f64,
    /// CPU time it took, of this process.
    pub cpu_seconds: f64,
    /// How it was read.
    pub way: Way,
    /// File by file.
    pub files: Vec<FileResidency>,
}

/// Between two looks at progress and memory.
const TICK: Duration = Duration::from_millis(100);
/// With less room than this, and by as much more to come than fits, reading stops.
const NARROW: u64 = 32 << 20;

/// Warms. `name` is what events call the model; `stop` is set to end early.
///
/// # Errors
/// If a file can't be read, or `stop` was set.
pub fn run(
    plan: &Plan,
    name: &str,
    terms: &Terms,
    tree: &Tree,
    sink: &dyn Sink,
    stop: &AtomicBool,
) -> Result<Outcome, MemoryError> {
    let begin = Instant::now();
    let cpu = cpu_seconds();
    sink.event(Event::WarmStarted { source: name.to_owned(), bytes: plan.bytes, resident_bytes: plan.resident_bytes });
    let mut work = Work { plan, name, terms, tree, sink, stop, ran_short: false, read_bytes: 0 };
    work.read(&plan.spans)?;
    let mut files = residency::look(&plan.portions);
    // What was pushed out while the rest came, or was never taken in, gets a second chance.
    if plan.left_out_bytes == 0 && !work.ran_short && residency::resident_bytes(&files).is_some_and(|b| b < plan.bytes)
    {
        let missing = work.missing();
        work.read(&missing)?;
        files = residency::look(&plan.portions);
    }
    let outcome = Outcome {
        bytes: plan.bytes,
        resident_bytes: residency::resident_bytes(&files),
        read_bytes: work.read_bytes,
        left_out_bytes: plan.left_out_bytes,
        ran_short: work.ran_short,
        seconds: begin.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu,
        way: plan.way,
        files,
    };
    sink.event(Event::WarmDone {
        source: name.to_owned(),
        bytes: outcome.bytes,
        resident_bytes: outcome.resident_bytes,
        read_bytes: outcome.read_bytes,
        seconds: outcome.seconds,
        cpu_seconds: outcome.cpu_seconds,
        way: plan.way.name(),
    });
    Ok(outcome)
}

struct Work<'a> {
    plan: &'a Plan,
    name: &'a str,
    terms: &'a Terms,
    tree: &'a Tree,
    sink: &'a dyn Sink,
    stop: &'a AtomicBool,
    ran_short: bool,
    read_bytes: u64,
}

impl Work<'_> {
    fn read(&mut self, spans: &[Span]) -> Result<(), MemoryError> {
        let shared = Shared::default();
        let next = AtomicUsize::new(0);
        let broken: Mutex<Option<MemoryError>> = Mutex::new(None);
        let running = AtomicUsize::new(self.plan.threads);
        std::thread::scope(|scope| {
            for _ in 0..self.plan.threads {
                scope.spawn(|| {
                    if let Err(error) = self.thread(spans, &next, &shared) {
                        shared.stop.store(true, Ordering::Relaxed);
                        if let Ok(mut broken) = broken.lock() {
                            broken.get_or_insert(error);
                        }
                    }
                    running.fetch_sub(1, Ordering::Release);
                });
            }
            self.watch(&shared, &running);
        });
        let done = shared.done.load(Ordering::Relaxed);
        self.read_bytes += done;
        if let Some(error) = broken.into_inner().unwrap_or_default() {
            return Err(error);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(MemoryError::Interrupted);
        }
        self.ran_short |= shared.stop.load(Ordering::Relaxed);
        Ok(())
    }

    /// Takes one span after the other. The file that was open last stays so: its read-ahead goes on.
    fn thread(&self, spans: &[Span], next: &AtomicUsize, shared: &Shared) -> Result<(), MemoryError> {
        let mut reader = Reader::new();
        let mut opened: Option<(usize, File)> = None;
        while !shared.stop.load(Ordering::Relaxed) {
            let Some(span) = spans.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let Some(portion) = self.plan.portions.get(span.portion) else { break };
            let file = match opened.take() {
                Some((index, file)) if index == span.portion => file,
                _ => portion::open(&portion.path).map_err(|error| MemoryError::file("open", &portion.path, error))?,
            };
            let done = reader.read(self.plan.way, span.exact, &file, span.range.clone(), shared);
            done.map_err(|error| MemoryError::file("read", &portion.path, error))?;
            opened = Some((span.portion, file));
        }
        Ok(())
    }

    /// Tells of progress, and stops the threads when asked to or when memory runs short.
    fn watch(&self, shared: &Shared, running: &AtomicUsize) {
        let mut told = Instant::now();
        // Short work must not wait for a long tick.
        let mut pause = Duration::from_micros(500);
        while running.load(Ordering::Acquire) > 0 {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
            if self.stop.load(Ordering::Relaxed) {
                shared.stop.store(true, Ordering::Relaxed);
            }
            if told.elapsed() < TICK {
                continue;
            }
            told = Instant::now();
            let done = shared.done.load(Ordering::Relaxed);
            let resident = self.plan.resident_bytes + self.read_bytes + done;
            self.sink.event(Event::WarmProgress {
                source: self.name.to_owned(),
                resident_bytes: resident.min(self.plan.bytes),
                bytes: self.plan.bytes,
            });
            let to_come = self.plan.read_bytes.saturating_sub(done);
            let room = room::look(self.tree, self.terms, resident).map_or(u64::MAX, |room| room.bytes);
            if room < NARROW && to_come > room + NARROW {
                shared.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn missing(&self) -> Vec<Span> {
        let mut missing = Vec::new();
        for (index, portion) in self.plan.portions.iter().enumerate() {
            let Ok(file) = portion::open(&portion.path) else { continue };
            for range in &portion.ranges {
                missing.extend(absent(&file, range.clone()).into_iter().map(|range| Span {
                    portion: index,
                    range,
                    exact: true,
                }));
            }
        }
        missing
    }
}

/// CPU time of this process so far.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
