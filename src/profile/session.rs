//! A running capture: the loaded programs, the processes followed, the records on their way.

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use rustc_hash::FxHashMap;

use super::convert::{IoLayer, Sched, Totals};
use super::loader::{Group, Kernel, Settings, Target};
use super::output::Output;
use super::records::{self, Block, Fault, Head, OffCpu, PathEvent, Syscall, Task, kind};
use super::rings::Rings;
use super::{CaptureError, CaptureOptions, CaptureProgress, Layers};
use crate::host::{maps, process};
use crate::trace::{CaptureMeta, Layer, LayerState, LayerStatus, LostEvents, Sink};

/// A blocking call at least this long gets a Python stack.
const WAIT_STACK_NS: u64 = 2_000_000;

/// One process that is followed.
struct Followed {
    /// Its maps may have changed: look for new libraries.
    dirty: bool,
    /// CPU time when last seen, ns.
    cpu_ns: u64,
    /// CPU time when first seen, ns.
    cpu_first_ns: u64,
    /// Bytes read and written when last seen.
    bytes: (u64, u64),
}

/// A capture under way.
pub(crate) struct Session<'s> {
    options: CaptureOptions,
    kernel: Kernel,
    totals: Totals,
    sched: Sched,
    io: IoLayer,
    out: Output<'s>,
    followed: FxHashMap<u32, Followed>,
    roots: Vec<u32>,
    /// Threads and processes that ended; forgotten one drain later, when their last records are through.
    ended: Vec<(u32, u32, bool)>,
    /// CPU time of targets that are gone, ns.
    gone_cpu_ns: u64,
    failed: Vec<LayerStatus>,
    meta: CaptureMeta,
    last_second_ns: u64,
}

/// CLOCK_MONOTONIC, ns: the recording's clock.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// CPU time of aictl itself, all threads, ns.
fn own_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl<'s> Session<'s> {
    /// Loads the programs and attaches them to the targets and their forks.
    pub fn attach(options: &CaptureOptions, sink: &'s mut dyn Sink) -> Result<(Session<'s>, Rings), CaptureError> {
        let mut kernel = Kernel::load()?;
        let start_ns = now_ns();
        kernel.set(settings(options, start_ns))?;
        let rings = Rings::new(&mut kernel)?;
        let refused = |error| CaptureError::Refused { what: "the eBPF maps".to_owned(), source: Box::new(error) };
        let totals = Totals::new(kernel.take("call_totals")?, kernel.take("file_totals")?).map_err(refused)?;
        let meta = CaptureMeta {
            aictl_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: jiff::Timestamp::now().to_string(),
            start_ns,
            targets: options.pids.clone(),
            overhead_budget: options.max_overhead,
            python_hz: options.python_hz,
            syscall_threshold_ns: nanos(options.syscall_threshold),
            ..CaptureMeta::default()
        };
        let mut session = Session {
            options: options.clone(),
            kernel,
            totals,
            sched: Sched::default(),
            io: IoLayer::new(),
            out: Output::new(sink),
            followed: FxHashMap::default(),
            roots: options.pids.clone(),
            ended: Vec::new(),
            gone_cpu_ns: 0,
            failed: Vec::new(),
            meta,
            last_second_ns: start_ns,
        };
        session.attach_all()?;
        Ok((session, rings))
    }

    fn attach_all(&mut self) -> Result<(), CaptureError> {
        // Forks first: a child born while we look around is then followed by the kernel.
        self.kernel.attach(Group::Process)?;
        for root in self.roots.clone() {
            self.follow(root, root)?;
            for child in process::descendants(root) {
                self.follow(child, root)?;
            }
        }
        for pid in self.followed.keys().copied().collect::<Vec<_>>() {
            self.look_at(pid);
        }
        let layers = self.options.layers;
        let wanted = [
            (layers.has(Layer::Sched), Layer::Sched, Group::Sched),
            (needs_syscalls(layers), Layer::Syscall, Group::Syscall),
            (layers.has(Layer::Io), Layer::Io, Group::Block),
            (layers.has(Layer::Io), Layer::Io, Group::Fault),
        ];
        for (_, layer, group) in wanted.into_iter().filter(|w| w.0) {
            if let Err(error) = self.kernel.attach(group) {
                if matches!(error, CaptureError::NotPermitted { .. }) {
                    return Err(error);
                }
                self.failed.push(LayerStatus {
                    layer: layer.name().to_owned(),
                    state: LayerState::Failed,
                    detail: error.to_string(),
                });
            }
        }
        match self.roots.iter().find(|root| !process::is_alive(**root)) {
            Some(&gone) if self.roots.len() == 1 => Err(CaptureError::TargetExited(gone)),
            _ => Ok(()),
        }
    }

    /// Starts to follow a process.
    fn follow(&mut self, pid: u32, root: u32) -> Result<(), CaptureError> {
        if self.followed.contains_key(&pid) {
            return Ok(());
        }
        if self.kernel.target(pid).is_none() {
            self.kernel.add_target(pid, Target { root, ..Target::default() })?;
        }
        let cpu_ns = process::cpu_time(pid).map_or(0, nanos);
        self.followed.insert(pid, Followed { dirty: true, cpu_ns, cpu_first_ns: cpu_ns, bytes: (0, 0) });
        self.out.process(pid).map_err(CaptureError::Write)
    }

    /// Looks at a process's maps for libraries and interpreters not seen yet.
    fn look_at(&mut self, pid: u32) {
        if let Some(followed) = self.followed.get_mut(&pid) {
            followed.dirty = false;
        }
        // A process that ended meanwhile has nothing to show.
        let Ok(_mappings) = maps::of(pid) else { return };
    }

    /// Hands everything in the rings on to the recording.
    pub fn drain(&mut self, rings: &mut Rings) -> Result<(), CaptureError> {
        let ended = std::mem::take(&mut self.ended);
        self.drain_rare(&mut rings.rare)?;
        self.drain_slices(rings)?;
        for (pid, tid, whole) in ended {
            self.sched.forget(tid);
            self.out.forget_thread(tid);
            if whole {
                self.io.forget_process(pid);
                self.out.forget_process(pid);
            }
        }
        Ok(())
    }

    fn drain_slices(&mut self, rings: &mut Rings) -> Result<(), CaptureError> {
        while let Some(item) = rings.slices.next() {
            let Some(head) = records::read::<Head>(&item) else { continue };
            let done = match head.kind {
                kind::ON_CPU => self.sched.on_cpu(&head, &mut self.out),
                kind::OFF_CPU => match records::read::<OffCpu>(&item) {
                    Some(record) => self.sched.off_cpu(&record, &mut self.out),
                    None => Ok(()),
                },
                kind::SYSCALL => match records::read::<Syscall>(&item) {
                    Some(record) => {
                        // Its path may have been told after the rare ring was last read.
                        if record.file != 0 && self.io.paths.get(record.file).is_none() {
                            self.drain_rare(&mut rings.rare)?;
                        }
                        self.io.syscall(&record, &mut self.out)
                    }
                    None => Ok(()),
                },
                _ => Ok(()),
            };
            done.map_err(CaptureError::Write)?;
        }
        Ok(())
    }

    fn drain_rare(&mut self, rare: &mut RingBuf<MapData>) -> Result<(), CaptureError> {
        while let Some(item) = rare.next() {
            let Some(head) = records::read::<Head>(&item) else { continue };
            match head.kind {
                kind::PATH => {
                    if let Some(event) = records::read::<PathEvent>(&item) {
                        self.io.paths.tell(&event);
                    }
                }
                kind::BLOCK => {
                    if let Some(record) = records::read::<Block>(&item) {
                        self.io.block(&record, &mut self.out).map_err(CaptureError::Write)?;
                    }
                }
                kind::FAULT => {
                    if let Some(record) = records::read::<Fault>(&item) {
                        self.io.fault(&record, &mut self.out).map_err(CaptureError::Write)?;
                    }
                }
                kind::MAPPED => {
                    if let Some(followed) = self.followed.get_mut(&head.tgid) {
                        followed.dirty = true;
                    }
                }
                kind::FORK | kind::EXEC | kind::EXIT => {
                    if let Some(task) = records::read::<Task>(&item) {
                        self.task(&task)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn task(&mut self, task: &Task) -> Result<(), CaptureError> {
        let head = &task.head;
        match head.kind {
            kind::FORK => {
                let root = self.kernel.target(head.id).map_or(head.tgid, |t| t.root);
                self.follow(head.id, root)?;
            }
            kind::EXEC => {
                if let Some(followed) = self.followed.get_mut(&head.tgid) {
                    followed.dirty = true;
                }
                self.out.describe(head.tgid).map_err(CaptureError::Write)?;
            }
            _ => {
                let whole = head.aux != 0;
                self.ended.push((head.tgid, head.tid, whole));
                if whole && let Some(followed) = self.followed.remove(&head.tgid) {
                    self.gone_cpu_ns += followed.cpu_ns.saturating_sub(followed.cpu_first_ns);
                }
            }
        }
        Ok(())
    }

    /// Regular small work: new libraries, open slices.
    pub fn tick(&mut self) -> Result<(), CaptureError> {
        let dirty: Vec<u32> = self.followed.iter().filter(|(_, f)| f.dirty).map(|(pid, _)| *pid).collect();
        for pid in dirty {
            self.look_at(pid);
        }
        Ok(())
    }

    /// Once a second: counters, notes, a flush so that a cut recording opens up to here.
    pub fn second(&mut self) -> Result<(), CaptureError> {
        let now = now_ns();
        let elapsed = now.saturating_sub(self.last_second_ns).max(1);
        self.last_second_ns = now;
        let reading = self.totals.read(&mut self.io.paths);
        self.counters(now, elapsed, &reading.bytes).map_err(CaptureError::Write)?;
        self.meta.syscalls = reading.syscalls;
        self.meta.files = reading.files;
        self.note(now)?;
        self.out.sink().flush().map_err(CaptureError::Write)
    }

    fn counters(&mut self, now: u64, elapsed: u64, bytes: &FxHashMap<u32, (u64, u64)>) -> std::io::Result<()> {
        for (&pid, followed) in &mut self.followed {
            let Some(cpu_ns) = process::cpu_time(pid).map(nanos) else { continue };
            let track = self.out.process_track(pid, "cpu", Layer::Sched, Some("%"))?;
            let used = cpu_ns.saturating_sub(followed.cpu_ns) as f64 * 100.0 / elapsed as f64;
            followed.cpu_ns = cpu_ns;
            self.out.sink().counter(track, now, used)?;
            let Some(&total) = bytes.get(&pid) else { continue };
            let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 * 1e9 / elapsed as f64;
            let read = self.out.process_track(pid, "read", Layer::Io, Some("bytes/s"))?;
            self.out.sink().counter(read, now, rate(total.0, followed.bytes.0))?;
            let write = self.out.process_track(pid, "write", Layer::Io, Some("bytes/s"))?;
            self.out.sink().counter(write, now, rate(total.1, followed.bytes.1))?;
            followed.bytes = total;
        }
        Ok(())
    }

    /// Brings the notes up to date and writes them.
    fn note(&mut self, now: u64) -> Result<(), CaptureError> {
        let lost = self.kernel.counters("lost", 5);
        self.meta.lost =
            LostEvents { slices: lost[0], samples: lost[1], rare: lost[2], unpaired: lost[3], unwind_failed: lost[4] };
        self.meta.end_ns = now;
        self.meta.layers = self.layer_statuses();
        self.meta.aictl_cpu_s = own_cpu_ns() as f64 / 1e9;
        let alive: u64 = self.followed.values().map(|f| f.cpu_ns.saturating_sub(f.cpu_first_ns)).sum();
        self.meta.target_cpu_s = (alive + self.gone_cpu_ns) as f64 / 1e9;
        self.out.sink().meta(now, &self.meta).map_err(CaptureError::Write)
    }

    /// State of every layer asked for.
    pub fn layer_statuses(&self) -> Vec<LayerStatus> {
        let mut statuses = Vec::new();
        for layer in self.options.layers.iter() {
            if let Some(failed) = self.failed.iter().find(|f| f.layer == layer.name()) {
                statuses.push(failed.clone());
                continue;
            }
            let detail = match layer {
                Layer::Sched => "every context switch".to_owned(),
                Layer::Syscall => format!("all counted, slices from {:?}", self.options.syscall_threshold),
                Layer::Io => "files, block requests, major faults".to_owned(),
                _ => continue,
            };
            statuses.push(LayerStatus { layer: layer.name().to_owned(), state: LayerState::On, detail });
        }
        statuses
    }

    /// How far the capture is.
    pub fn progress(&self, elapsed: Duration) -> CaptureProgress<'static> {
        CaptureProgress::Recording {
            elapsed,
            events: self.out.events,
            lost: self.meta.lost.total(),
            overhead: self.meta.overhead_share,
            processes: self.followed.len(),
        }
    }

    /// Whether a process named by the user still lives.
    pub fn any_root_alive(&self) -> bool {
        self.roots.iter().any(|root| self.followed.contains_key(root) && process::is_alive(*root))
    }

    /// Detaches everything, reads what is left, and ends the recording.
    pub fn finish(mut self, mut rings: Rings) -> Result<CaptureMeta, CaptureError> {
        for group in [Group::Syscall, Group::Sched, Group::Block, Group::Fault, Group::Process] {
            self.kernel.detach(group);
        }
        let end_ns = now_ns();
        self.drain(&mut rings)?;
        if self.options.layers.has(Layer::Sched) {
            let pids: Vec<u32> = self.followed.keys().copied().collect();
            self.sched.finish(&pids, self.meta.start_ns, end_ns, &mut self.out).map_err(CaptureError::Write)?;
        }
        self.second()?;
        self.out.sink().finish().map_err(CaptureError::Write)?;
        Ok(self.meta)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether the system-call programs are needed: also for Python's stacks at the end of waits,
/// and to see libraries being loaded.
fn needs_syscalls(layers: Layers) -> bool {
    layers.bits() & !Layers::none().with(Layer::Sched).bits() != 0
}

fn settings(options: &CaptureOptions, start: u64) -> Settings {
    Settings {
        syscall_threshold: nanos(options.syscall_threshold),
        wait_stack_threshold: WAIT_STACK_NS,
        oncpu_threshold: 0,
        start,
        layers: options.layers.bits(),
        pad: 0,
    }
}
