//! A running capture: the loaded programs, the processes followed, the records on their way.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::budget::Budget;
use super::convert::{IoLayer, Sched, Totals};
use super::loader::{Group, Kernel, Settings};
use super::output::Output;
use super::probes::{Early, Probes};
use super::python::{Pythons, Sampler};
use super::rings::Rings;
use super::{CaptureError, CaptureOptions, CaptureProgress};
use crate::host::process;
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
    /// Stacks of waits taken when they were last looked at, and when that was.
    pub(super) wait_stacks_seen: (u64, u64),
}

/// CLOCK_MONOTONIC, ns: the recording's clock.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl<'s> Session<'s> {
    /// Loads the programs and attaches them to the targets and their forks.
    pub fn attach(options: &CaptureOptions, sink: &'s mut dyn Sink) -> Result<(Session<'s>, Rings), CaptureError> {
        let early = Early::start(options);
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
            wait_stacks_seen: (0, 0),
        };
        session.load_probes(early)?;
        session.attach_all()?;
        Ok((session, rings))
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
        // Nothing is recorded from here on, however long the probes take to come off.
        self.kernel.clear_targets();
        let end_ns = now_ns();
        if let Some(probes) = &mut self.probes {
            probes.release();
        }
        self.sample_at(0)?;
        for group in [Group::Syscall, Group::Sched, Group::Block, Group::Fault, Group::Process] {
            self.kernel.detach(group);
        }
        self.drain(&mut rings)?;
        if let Some(probes) = &mut self.probes {
            probes.finish(end_ns, &mut self.out).map_err(CaptureError::Write)?;
        }
        self.pythons.finish(end_ns, &mut self.out).map_err(CaptureError::Write)?;
        if self.options.layers.has(Layer::Sched) {
            let pids: Vec<u32> = self.followed.keys().copied().collect();
            self.sched.finish(&pids, self.meta.start_ns, end_ns, &mut self.out).map_err(CaptureError::Write)?;
        }
        self.look(end_ns)?;
        self.out.sink().finish().map_err(CaptureError::Write)?;
        Ok(self.meta)
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn settings(options: &CaptureOptions, start: u64) -> Settings {
    Settings {
        syscall_threshold: nanos(options.syscall_threshold),
        wait_stack_threshold: WAIT_STACK_NS,
        start,
        layers: options.layers.bits(),
        pad: 0,
    }
}
