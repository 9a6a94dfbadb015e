//! Carries out what the budget decides: less of the dearest probes.

use super::governor::Thin;
use super::loader::Group;
use super::meter::Class;
use super::session::Session;
use super::{CaptureError, Layers};
use crate::trace::{Layer, LayerState, Thinned};

/// Index into `hits` (enum hit of common.bpf.h).
const HIT_WAIT_STACK: u32 = 4;

/// The longest that short waits may go without a Python stack, ns.
const WAIT_STACK_MAX_NS: u64 = 50_000_000;

/// Below this rate Python samples say too little to be worth their cost, Hz.
const PYTHON_LEAST_HZ: u32 = 19;

impl Session<'_> {
    /// Thins one class; what was done is noted for the report.
    pub(super) fn thin(&mut self, thin: &Thin, now_ns: u64) -> Result<(), CaptureError> {
        let done = match thin.class {
            Class::Syscall => self.thin_syscalls(thin, now_ns)?,
            Class::Sched => {
                self.kernel.detach(Group::Sched);
                self.settings.layers &= Layers::all().without(Layer::Sched).bits();
                self.kernel.set(self.settings)?;
                self.drop_layer(thin.class, "detached to hold the overhead budget");
                Some(("context switches".to_owned(), "detached".to_owned()))
            }
            Class::Python => self.thin_python(thin)?,
            Class::Torch | Class::Cuda | Class::Nccl => self.thin_probes(thin)?,
        };
        if let Some((probe, action)) = done {
            self.meta.thinned.push(Thinned {
                probe,
                action,
                ts_ns: now_ns,
                hits_per_s: thin.hits_per_s,
                cost_share: thin.share,
            });
        }
        Ok(())
    }

    /// Fewer Python stacks at the end of waits, where these are the dear part; else no system
    /// calls at all: a job that makes a hundred thousand a second pays for each.
    fn thin_syscalls(&mut self, thin: &Thin, now_ns: u64) -> Result<Option<(String, String)>, CaptureError> {
        let stacks = self.kernel.counters("hits", HIT_WAIT_STACK + 1).pop().unwrap_or(0);
        let (seen, since) = std::mem::replace(&mut self.wait_stacks_seen, (stacks, now_ns));
        let since = if since == 0 { self.meta.start_ns } else { since };
        let rate = stacks.saturating_sub(seen) as f64 * 1e9 / now_ns.saturating_sub(since).max(1) as f64;
        let of_stacks = rate * self.budget.meter.prices.get(Class::Python) / 1e9;
        if of_stacks * 2.0 > thin.share && self.settings.wait_stack_threshold < WAIT_STACK_MAX_NS {
            let threshold = (self.settings.wait_stack_threshold * 5).min(WAIT_STACK_MAX_NS);
            self.settings.wait_stack_threshold = threshold;
            self.kernel.set(self.settings)?;
            let action = format!("after waits of {} ms or longer", threshold / 1_000_000);
            return Ok(Some(("Python stacks of waits".to_owned(), action)));
        }
        self.kernel.detach(Group::Syscall);
        self.drop_layer(Class::Syscall, "detached to hold the overhead budget");
        Ok(Some(("system calls".to_owned(), "detached".to_owned())))
    }

    fn thin_probes(&mut self, thin: &Thin) -> Result<Option<(String, String)>, CaptureError> {
        let Some(probes) = &mut self.probes else { return Ok(None) };
        let layer = thin.class.layer();
        let failed = |source| CaptureError::Read { what: format!("the {} probes' counters", layer.name()), source };
        probes.thin(layer, thin.allowed / thin.share).map_err(failed)
    }

    /// Fewer samples a second, down to a rate that still tells where a job spends its time.
    fn thin_python(&mut self, thin: &Thin) -> Result<Option<(String, String)>, CaptureError> {
        let (was, asked) = (self.meta.python_hz, self.options.python_hz);
        let wanted = (f64::from(was) * thin.allowed / thin.share) as u32;
        if was <= PYTHON_LEAST_HZ {
            self.sample_at(0)?;
            self.drop_layer(Class::Python, "sampling ended to hold the overhead budget");
            return Ok(Some(("Python sampling".to_owned(), "ended".to_owned())));
        }
        let hz = wanted.max(PYTHON_LEAST_HZ);
        self.sample_at(hz)?;
        self.meta.python_hz = hz;
        Ok(Some(("Python sampling".to_owned(), format!("{hz} Hz instead of {asked} Hz"))))
    }

    fn drop_layer(&mut self, class: Class, why: &str) {
        self.set_status(class.layer(), LayerState::Dropped, why);
    }
}
