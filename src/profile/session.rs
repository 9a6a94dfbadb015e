//! A running capture: the loaded programs, the processes followed, the records on their way.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::budget::Budget;
use super::convert::{IoLayer, Sched, Totals};
use super::loader::{Group, Kernel, Settings, Target, load_once, program_error};
use super::output::Output;
use super::pricing::{Pricing, call_ns};
use super::probes::Probes;
use super::python::{Pythons, Sampler};
use super::rings::Rings;
use super::{CaptureError, CaptureOptions, CaptureProgress, Layers};
use crate::host::{maps, process};
use crate::trace::{CaptureMeta, Layer, LayerState, LayerStatus, Sink};

/// A blocking call at least this long gets a Python stack.
const WAIT_STACK_NS: u64 = 2_000_000;

/// One process that is followed.
pub(super) struct Followed {
    /// Its maps may have changed: look for new libraries.
    pub(super) dirty: bool,
    /// CPU time when last seen, ns.
    pub(super) cpu_ns: u64,
    /// CPU time when first seen, ns.
    pub(super) cpu_first_ns: u64,
    /// Bytes read and written when last seen.
    pub(super) bytes: (u64, u64),
}

/// A capture under way.
pub(crate) struct Session<'s> {
    pub(super) options: CaptureOptions,
    pub(super) settings: Settings,
    pub(super) kernel: Kernel,
    pub(super) totals: Totals,
    pub(super) sched: Sched,
    pub(super) io: IoLayer,
    pub(super) probes: Option<Probes>,
    pub(super) pythons: Pythons,
    pub(super) sampler: Option<Sampler>,
    pub(super) out: Output<'s>,
    pub(super) budget: Budget,
    pub(super) followed: FxHashMap<u32, Followed>,
    pub(super) roots: Vec<u32>,
    /// Processes, threads, whether the whole process ended, and when (ns); forgotten one drain later,
    /// when their last records are through.
    pub(super) ended: Vec<(u32, u32, bool, u64)>,
    /// CPU time of targets that are gone, ns.
    pub(super) gone_cpu_ns: u64,
    pub(super) not_on: Vec<LayerStatus>,
    pub(super) meta: CaptureMeta,
    pub(super) last_look_ns: u64,
}

/// CLOCK_MONOTONIC, ns: the recording's clock.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl<'s> Session<'s> {
    /// Loads the programs and attaches them to the targets and their forks.
    pub fn attach(options: &CaptureOptions, sink: &'s mut dyn Sink) -> Result<(Session<'s>, Rings), CaptureError> {
        let mut kernel = Kernel::load()?;
        let start_ns = now_ns();
        let settings = settings(options, start_ns);
        kernel.set(settings)?;
        let rings = Rings::new(&mut kernel)?;
        let refused = |error| CaptureError::Refused { what: "the eBPF maps".to_owned(), source: Box::new(error) };
        let totals = Totals::new(kernel.take("call_totals")?, kernel.take("file_totals")?).map_err(refused)?;
        let py_procs = aya::maps::HashMap::try_from(kernel.take("py_procs")?).map_err(refused)?;
        let mut pythons = Pythons::new(py_procs);
        pythons.set_hz(options.python_hz);
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
            settings,
            kernel,
            totals,
            sched: Sched::default(),
            io: IoLayer::new(),
            probes: None,
            pythons,
            sampler: None,
            out: Output::new(sink),
            budget: Budget::new(options.max_overhead),
            followed: FxHashMap::default(),
            roots: options.pids.clone(),
            ended: Vec::new(),
            gone_cpu_ns: 0,
            not_on: Vec::new(),
            meta,
            last_look_ns: start_ns,
        };
        session.load_probes()?;
        session.attach_all()?;
        Ok((session, rings))
    }

    fn load_probes(&mut self) -> Result<(), CaptureError> {
        let layers = self.options.layers;
        if ![Layer::Torch, Layer::Cuda, Layer::Nccl].into_iter().any(|l| layers.has(l)) {
            return Ok(());
        }
        let cache = self.options.cache_dir.clone();
        let kernel = &self.kernel;
        let probes = Probes::load(&|name| kernel.map_fd(name), layers, cache)?;
        let hit = probes.calibrate();
        self.probes = Some(probes);
        self.budget.meter.prices.set_probes(hit.probe_ns, hit.return_ns);
        Ok(())
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
        let call_before_ns = call_ns();
        for (_, layer, group) in wanted.into_iter().filter(|w| w.0) {
            if let Err(error) = self.kernel.attach(group) {
                if matches!(error, CaptureError::NotPermitted { .. }) {
                    return Err(error);
                }
                self.set_status(layer, LayerState::Failed, &error.to_string());
            }
        }
        if layers.has(Layer::Python) {
            self.sample_at(self.options.python_hz)?;
        }
        self.budget.start(now_ns(), Pricing::start(call_before_ns));
        if self.roots.iter().any(|root| process::is_alive(*root)) {
            return Ok(());
        }
        Err(CaptureError::TargetExited(self.roots.first().copied().unwrap_or_default()))
    }

    /// Starts to follow a process.
    pub(super) fn follow(&mut self, pid: u32, root: u32) -> Result<(), CaptureError> {
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
        let Ok(mappings) = maps::of(pid) else { return };
        if self.options.layers.has(Layer::Python) {
            self.look_for_python(pid, &mappings);
        }
        if let Some(probes) = &mut self.probes
            && let Err(error) = probes.attach(pid, &mappings)
        {
            self.set_status(Layer::Torch, LayerState::Failed, &error.to_string());
        }
    }

    fn look_for_python(&mut self, pid: u32, mappings: &[maps::Mapping]) {
        match self.pythons.add(pid, mappings) {
            Ok(Some(found)) => {
                if !self.meta.pythons.contains(&found) {
                    self.meta.pythons.push(found);
                }
                self.tell_gil(pid);
            }
            Ok(None) => {}
            Err(why) => self.set_status(Layer::Python, LayerState::Failed, &why),
        }
    }

    /// Tells the kernel where a process's GIL is, if that is known by now.
    fn tell_gil(&mut self, pid: u32) {
        let Some((gil_start, gil_end)) = self.pythons.gil_range(pid) else { return };
        if let Some(target) = self.kernel.target(pid) {
            // Only tells `gil` from `futex`: a target that just ended needs neither.
            let _ = self.kernel.add_target(pid, Target { gil_start, gil_end, ..target });
        }
    }

    /// Starts or restarts the sampling at a rate; 0 ends it.
    pub(super) fn sample_at(&mut self, hz: u32) -> Result<(), CaptureError> {
        let Some(aya::programs::Program::PerfEvent(program)) = self.kernel.program_mut("on_sample") else {
            return Ok(());
        };
        let failed = |error| program_error("program on_sample", error);
        match self.sampler.take() {
            Some(sampler) => sampler.detach(program).map_err(failed)?,
            None if hz == 0 => {}
            None => load_once(program, aya::programs::PerfEvent::load).map_err(failed)?,
        }
        if hz > 0 {
            self.sampler = Some(Sampler::attach(program, hz).map_err(failed)?);
            self.pythons.set_hz(hz);
        }
        Ok(())
    }

    /// Regular small work: new libraries, open slices.
    pub fn tick(&mut self) -> Result<(), CaptureError> {
        let dirty: Vec<u32> = self.followed.iter().filter(|(_, f)| f.dirty).map(|(pid, _)| *pid).collect();
        for pid in dirty {
            self.look_at(pid);
        }
        self.pythons.tick(now_ns(), &mut self.out).map_err(CaptureError::Write)?;
        for pid in self.pythons.started() {
            self.tell_gil(pid);
        }
        Ok(())
    }

    /// Notes that a layer is not captured, and why.
    pub(super) fn set_status(&mut self, layer: Layer, state: LayerState, why: &str) {
        self.not_on.retain(|status| status.layer != layer.name());
        self.not_on.push(LayerStatus { layer: layer.name().to_owned(), state, detail: why.to_owned() });
    }

    /// State of every layer asked for.
    pub fn layer_statuses(&self) -> Vec<LayerStatus> {
        let mut statuses = Vec::new();
        let mut probed = self.probes.as_ref().map(Probes::statuses).unwrap_or_default();
        for layer in self.options.layers.iter() {
            if let Some(failed) = self.not_on.iter().find(|f| f.layer == layer.name()) {
                statuses.push(failed.clone());
                continue;
            }
            let detail = match layer {
                Layer::Sched => "every context switch".to_owned(),
                Layer::Syscall => format!("all counted, slices from {:?}", self.options.syscall_threshold),
                Layer::Io => "files, block requests, major faults".to_owned(),
                Layer::Python => match self.meta.pythons.first() {
                    Some(python) => format!("CPython {} at {} Hz", python.version, self.meta.python_hz),
                    None => {
                        let detail = "no CPython in the process".to_owned();
                        statuses.push(LayerStatus { layer: "python".to_owned(), state: LayerState::Absent, detail });
                        continue;
                    }
                },
                _ => {
                    statuses.extend(probed.extract_if(.., |status| status.layer == layer.name()));
                    continue;
                }
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
        if let Some(probes) = &mut self.probes {
            probes.release();
        }
        self.sample_at(0)?;
        for group in [Group::Syscall, Group::Sched, Group::Block, Group::Fault, Group::Process] {
            self.kernel.detach(group);
        }
        let end_ns = now_ns();
        self.drain(&mut rings)?;
        if let Some(probes) = &mut self.probes {
            probes.finish(end_ns, &mut self.out).map_err(CaptureError::Write)?;
        }
        self.pythons.finish(end_ns, &mut self.out).map_err(CaptureError::Write)?;
        if self.options.layers.has(Layer::Sched) {
            let pids: Vec<u32> = self.followed.keys().copied().collect();
            self.sched.finish(&pids, self.meta.start_ns, end_ns, &mut self.out).map_err(CaptureError::Write)?;
        }
        self.look()?;
        self.out.sink().finish().map_err(CaptureError::Write)?;
        Ok(self.meta)
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
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
