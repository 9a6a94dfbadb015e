//! The GPUs: NVML, asked by a process of its own, and the bus; judged by `fault::gpu`.

use std::path::Path;

use super::{LocalContext, Outcome};
use crate::fault::Device;
use crate::fault::gpu::facts::Gpu;
use crate::fault::gpu::{Machine, judge, reset_groups};
use crate::gpu::{bus, session};
use crate::host::machine;

/// This program, even if its file was replaced while it runs.
const PROGRAM: &str = "/proc/self/exe";

/// All checks of GPUs.
pub fn look(context: &LocalContext<'_>) -> Outcome {
    let uptime_s = machine::uptime().as_secs();
    let mut bus = bus::look(context.root, uptime_s);
    context.gpus_on_bus.set(bus.seen.then_some(bus.gpus.len() as u64));
    let look = bus.has_gpus().then(|| {
        let progress = context.settings.ui.progress();
        progress.set("asking NVML");
        session::look(Path::new(PROGRAM), context.deadline)
    });
    if let Some(look) = &look {
        // NVML's start makes files in /dev that were missing.
        bus.device_files = bus::look(context.root, uptime_s).device_files;
        *context.reset_groups.borrow_mut() = reset_groups(&look.gpus);
        *context.gpus.borrow_mut() = look.gpus.iter().map(device).collect();
    }
    let boot_id = machine::boot_id();
    let machine = Machine {
        catalogue: context.catalogue,
        bus: &bus,
        look: look.as_ref(),
        boot_id: boot_id.as_deref(),
        limits: context.catalogue.limits().gpu,
    };
    judge(&machine, &mut context.history.borrow_mut())
}

fn device(gpu: &Gpu) -> Device {
    Device { pci: gpu.pci.clone(), uuid: gpu.uuid.clone(), index: Some(gpu.index), ..Device::default() }
}
