//! `--local`: every source of this machine, one after the other.
//!
//! A source looks at one thing and gives its checks, each with what it found. To add one, add its
//! function to [`SOURCES`].

mod gpu;
mod history;
mod node;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::checks::Checks;
use super::kernel_log::Look;
use crate::cmd::settings::Settings;
use crate::fault::gpu::XidEvents;
use crate::fault::playbook::GpuFacts;
use crate::fault::{Catalogue, Check, Device, FINDINGS_SCHEMA, Finding, Findings, History, State, sort, unite};
use crate::host::machine;

/// What a source may need.
pub struct LocalContext<'c> {
    /// What faults are.
    pub catalogue: &'c Catalogue,
    /// How to look at the kernel's log.
    pub look: &'c Look<'c>,
    /// Where /proc, /sys and /dev hang: "/", or a tree of a test.
    pub root: &'c Path,
    /// Longest time a source may take that could hang.
    pub deadline: Duration,
    /// Output, for progress.
    pub settings: &'c Settings,
    /// Names of the sources to ask; all if empty.
    pub only: &'c [String],
    /// The GPUs, as far as a source has named them: address, uuid and index of each.
    pub gpus: RefCell<Vec<Device>>,
    /// GPUs, and which must be reset together, where a source has asked them.
    pub reset_groups: RefCell<Vec<GpuFacts>>,
    /// GPUs on the bus, as far as a source has counted them.
    pub gpus_on_bus: Cell<Option<u64>>,
    /// Earlier looks; sources add to it what rates are made of.
    pub history: RefCell<History>,
    /// Xids that NVML told of, where somebody listens.
    pub events: Option<&'c RefCell<XidEvents>>,
    /// What a saved log told, which stands in for this machine's.
    pub saved_log: Option<&'c (Check, Vec<Finding>)>,
}

pub use history::Kept;

/// What a source says: its checks, and what each found.
pub type Outcome = Vec<(Check, Vec<Finding>)>;

/// One source.
type Source = fn(&LocalContext<'_>) -> Outcome;

/// All sources by name, in the order of the report. The kernel's log comes first.
const SOURCES: &[(&str, Source)] = &[("kernel-log", kernel_log), ("gpu", gpu::look), ("node", node::node)];

/// Name of a site's own checks among the sources.
const SITE: &str = "checks";

/// Names for `--only`.
pub fn sources() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|(name, _)| *name).chain([SITE])
}

/// Looks at this machine, runs a site's own checks, and remembers what rates are made of. Also
/// gives the number of GPUs on the bus, where that could be seen. The site's checks are ended once
/// what `stop` gives is set; it is asked right before they begin.
pub fn look(
    context: LocalContext<'_>,
    kept: Kept,
    site: &Checks,
    stop: impl FnOnce() -> Arc<AtomicBool>,
) -> (Findings, Option<u64>) {
    let (mut checks, mut findings) = (Vec::new(), Vec::new());
    let asked = |name: &str| context.only.is_empty() || context.only.iter().any(|only| only == name);
    let chosen = SOURCES.iter().filter(|(name, _)| asked(name));
    let own: Outcome = chosen.flat_map(|(_, source)| source(&context)).collect();
    let site = if asked(SITE) { site.run(context.catalogue, stop) } else { Vec::new() };
    for (check, found) in own.into_iter().chain(site) {
        checks.push(check);
        findings.extend(found);
    }
    if let Some(events) = context.events {
        events.borrow().judge(context.catalogue, &mut checks, &mut findings);
    }
    name_gpus(&mut findings, &context.gpus.borrow());
    let gpus = context.gpus_on_bus.get();
    let groups = context.reset_groups.take();
    checks.push(kept.write(context.history.into_inner()));
    let mut findings = unite(findings);
    sort(&mut findings);
    let node = Some(machine::node_name());
    (Findings { schema: FINDINGS_SCHEMA, node, boot_id: machine::boot_id(), checks, findings, gpus: groups }, gpus)
}

/// Gives findings that know only a GPU's address its uuid and index.
fn name_gpus(findings: &mut [Finding], gpus: &[Device]) {
    for device in findings.iter_mut().map(|finding| &mut finding.device).filter(|device| device.pci.is_some()) {
        let Some(gpu) = gpus.iter().find(|gpu| gpu.pci == device.pci) else { continue };
        device.uuid = device.uuid.take().or_else(|| gpu.uuid.clone());
        device.index = device.index.or(gpu.index);
    }
}

fn kernel_log(context: &LocalContext<'_>) -> Outcome {
    if let Some(saved) = context.saved_log {
        return vec![saved.clone()];
    }
    if context.root == Path::new("/") {
        return vec![context.look.local()];
    }
    let file = context.root.join("dev/kmsg");
    let outcome = context.look.replay(&file, context.settings);
    vec![outcome.unwrap_or_else(|_| {
        let detail = format!("{} can't be read", file.display());
        (Check { name: "kernel-log".to_owned(), state: State::Blind, detail }, Vec::new())
    })]
}
