//! Puts the probes in place, at the start and whenever a target forks, execs or loads a library.

use rustc_hash::FxHashSet;

use super::CaptureError;
use super::Layers;
use super::loader::{Group, Target, load_once, program_error};
use super::pricing::{Pricing, call_ns};
use super::probes::{Early, Probes};
use super::python::Sampler;
use super::session::{Followed, Session, nanos, now_ns};
use crate::host::{maps, process};
use crate::trace::{Layer, LayerState};

impl Session<'_> {
    pub(super) fn load_probes(&mut self, early: Option<Early>) -> Result<(), CaptureError> {
        let layers = self.options.layers;
        if ![Layer::Torch, Layer::Cuda, Layer::Nccl].into_iter().any(|l| layers.has(l)) {
            return Ok(());
        }
        let cache = self.options.cache_dir.clone();
        let kernel = &self.kernel;
        let probes = Probes::load(&|name| kernel.map_fd(name), layers, cache, early)?;
        let hit = probes.calibrate();
        self.probes = Some(probes);
        self.budget.meter.prices.set_probes(hit.probe_ns, hit.return_ns);
        Ok(())
    }

    /// Puts every probe in place, then makes the targets targets: until then nothing is recorded,
    /// so that the recording begins when all of it is there.
    pub(super) fn attach_all(&mut self) -> Result<(), CaptureError> {
        let mut prepared = FxHashSet::default();
        for root in self.roots.clone() {
            prepared.insert(root);
            prepared.extend(process::descendants(root));
        }
        if let Some(probes) = &mut self.probes {
            prepared.iter().for_each(|pid| probes.ours(*pid));
        }
        for &pid in &prepared {
            self.look_at(pid);
        }
        self.attach_groups()?;
        self.begin()?;
        for root in self.roots.clone() {
            // The kernel follows the forks of a target from now on; those it had already are ours to
            // find, and they may fork while we look.
            self.follow(root, root)?;
            loop {
                let found = process::descendants(root).into_iter().filter(|pid| !self.followed.contains_key(pid));
                let found: Vec<u32> = found.collect();
                if found.is_empty() {
                    break;
                }
                for child in found {
                    self.follow(child, root)?;
                }
            }
        }
        for (pid, followed) in &mut self.followed {
            followed.dirty = !prepared.contains(pid);
        }
        for pid in prepared {
            self.tell_gil(pid);
        }
        if self.roots.iter().any(|root| process::is_alive(*root)) {
            return Ok(());
        }
        Err(CaptureError::TargetExited(self.roots.first().copied().unwrap_or_default()))
    }

    fn attach_groups(&mut self) -> Result<(), CaptureError> {
        let layers = self.options.layers;
        let wanted = [
            (true, Layer::Sched, Group::Process),
            (layers.has(Layer::Sched), Layer::Sched, Group::Sched),
            (needs_syscalls(layers), Layer::Syscall, Group::Syscall),
            (layers.has(Layer::Io), Layer::Io, Group::Block),
            (layers.has(Layer::Io), Layer::Io, Group::Fault),
        ];
        let call_before_ns = call_ns();
        for (_, layer, group) in wanted.into_iter().filter(|w| w.0) {
            match self.kernel.attach(group) {
                Ok(()) => {}
                // Without these nothing can be recorded at all.
                Err(error) if group == Group::Process || matches!(error, CaptureError::NotPermitted { .. }) => {
                    return Err(error);
                }
                Err(error) => self.set_status(layer, LayerState::Failed, &error.to_string()),
            }
        }
        if layers.has(Layer::Python) {
            self.sample_at(self.options.python_hz)?;
        }
        self.budget.start(now_ns(), Pricing::start(call_before_ns));
        Ok(())
    }

    /// The recording begins here.
    fn begin(&mut self) -> Result<(), CaptureError> {
        let now = now_ns();
        self.settings.start = now;
        self.kernel.set(self.settings)?;
        self.meta.started_at = jiff::Timestamp::now().to_string();
        self.meta.start_ns = now;
        self.last_look_ns = now;
        Ok(())
    }

    /// Starts to follow a process.
    pub(super) fn follow(&mut self, pid: u32, root: u32) -> Result<(), CaptureError> {
        if self.followed.contains_key(&pid) {
            return Ok(());
        }
        if self.kernel.target(pid).is_none() {
            self.kernel.add_target(pid, Target { root, ..Target::default() })?;
        }
        if let Some(probes) = &mut self.probes {
            probes.ours(pid);
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
}

/// Whether the system-call programs are needed: also for Python's stacks at the end of waits,
/// and to see libraries being loaded.
fn needs_syscalls(layers: Layers) -> bool {
    layers.bits() & !Layers::none().with(Layer::Sched).bits() != 0
}
