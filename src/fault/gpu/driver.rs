//! NVML itself, the driver, and whether all GPUs are there.

use super::facts::{BusGpu, End, Failure, Reading};
use super::pass::{Pass, gpus};
use crate::fault::finding::Device;
use crate::fault::history::History;

/// Whether NVML answers, and for every GPU.
pub fn nvml(pass: &mut Pass<'_>, _history: &mut History) {
    let look = pass.look;
    let loaded = pass.machine.bus.module.is_some();
    match &look.end {
        End::Whole => pass.seen(format!("{} read in {} ms", gpus(look.gpus.len()), look.took_ms)),
        End::Hung { at, state } if loaded => {
            let place = if at == "start" { "NVML's start".to_owned() } else { format!("NVML at {at}") };
            let state = match state {
                Some('D') => "; the process is stuck in the kernel (state D)".to_owned(),
                Some(state) => format!("; the process is in state {state}"),
                None => String::new(),
            };
            let evidence = format!("{place} did not answer within {} ms{state}", look.took_ms);
            pass.found_on(Device::default(), "nvidia-smi-hang", vec![evidence]);
        }
        End::StillHung { pid } => {
            let evidence = format!("process {pid} of an earlier look is stuck in the kernel still; no other was begun");
            pass.found_on(Device::default(), "nvidia-smi-hang", vec![evidence]);
        }
        End::Hung { at, .. } => pass.blind(format!("no answer at {at}")),
        End::NoLibrary(words) | End::Refused(words) | End::Broke(words) => pass.blind(words.clone()),
        End::DriverNotLoaded | End::VersionMismatch => {}
    }
    for gpu in &look.gpus {
        match &gpu.opened {
            _ if gpu.is_lost() => {
                pass.found(gpu, "gpu-lost", format!("NVML on GPU {}: {}", gpu.index, Failure::Lost));
            }
            Reading::Failed(failure) if *failure != Failure::ResetRequired => {
                pass.blind(format!("GPU {}: {failure}", gpu.index));
            }
            _ => {}
        }
    }
}

/// Whether the right driver is loaded, and fits its libraries.
pub fn driver(pass: &mut Pass<'_>, _history: &mut History) {
    let bus = pass.machine.bus;
    for gpu in bus.gpus.iter().filter(|gpu| gpu.driver.as_deref() == Some("nouveau")) {
        let device = Device { pci: Some(gpu.pci.clone()), ..Device::default() };
        pass.found_on(device, "nouveau-loaded", vec![format!("{} belongs to the driver nouveau", gpu.pci)]);
    }
    let module = bus.module.as_deref();
    match (&pass.look.end, module) {
        (End::VersionMismatch, _) => {
            let module = module.unwrap_or("of unknown version");
            let evidence = format!("NVML says that its library does not fit the kernel module, which is {module}");
            pass.found_on(Device::default(), "driver-mismatch", vec![evidence]);
            pass.seen(format!("kernel module {module}"));
        }
        // In a container the library is left out on purpose, or by the toolkit's fault.
        (End::NoLibrary(words), Some(module)) if !bus.contained => {
            let evidence = format!("the kernel module {module} is loaded, but: {words}");
            pass.found_on(Device::default(), "driver-lib-missing", vec![evidence]);
            pass.seen(format!("kernel module {module}"));
        }
        (End::NoLibrary(_) | End::DriverNotLoaded, None) => {
            pass.seen(format!("{} on PCI, but no NVIDIA driver is loaded", gpus(bus.gpus.len())));
            pass.blind("nothing to ask".to_owned());
        }
        (_, module) => {
            let driver = pass.look.driver.clone().unwrap_or_default();
            let version = driver.version.as_deref().or(module);
            let cuda = driver.cuda.map_or(String::new(), |cuda| format!(", CUDA up to {cuda}"));
            match version {
                Some(version) => pass.seen(format!("driver {version}{cuda}")),
                None => pass.blind("the driver's version is not known".to_owned()),
            }
        }
    }
}

/// Whether PCI, NVML and /dev name the same number of GPUs.
pub fn count(pass: &mut Pass<'_>, _history: &mut History) {
    let bus = pass.machine.bus;
    let ours = |gpu: &&BusGpu| gpu.driver.as_deref().is_none_or(|driver| driver == "nvidia");
    let on_bus: Vec<&BusGpu> = bus.gpus.iter().filter(ours).collect();
    let Some(nvml) = pass.look.count.map(|count| count as usize) else { return };
    let files = bus.device_files.len();
    let words = format!("{} on PCI, {nvml} in NVML, {files} in /dev", on_bus.len());
    pass.seen(words.clone());
    let read_all = pass.look.gpus.len() == nvml && pass.look.gpus.iter().all(|gpu| gpu.pci.is_some());
    let named = |pci: &str| pass.look.gpus.iter().any(|gpu| gpu.pci.as_deref() == Some(pci));
    let missing: Vec<&BusGpu> = on_bus.iter().copied().filter(|gpu| !named(&gpu.pci)).collect();
    // A container that was given some of the GPUs sees them all on PCI.
    let given = bus.contained && files <= nvml && missing.iter().all(|gpu| gpu.driver.is_some());
    let mut evidence = vec![words];
    if read_all && !missing.is_empty() {
        let list: Vec<&str> = missing.iter().map(|gpu| gpu.pci.as_str()).collect();
        evidence.push(format!("not in NVML: {}", list.join(", ")));
    }
    let device = match &missing[..] {
        [one] if read_all => Device { pci: Some(one.pci.clone()), ..Device::default() },
        _ => Device::default(),
    };
    if on_bus.is_empty() {
        pass.note("PCI can't be seen from here");
    } else if nvml < on_bus.len() && given {
        pass.note("this container was given a part of them");
    } else if nvml != on_bus.len() {
        pass.found_on(device, "gpu-count-mismatch", evidence);
    } else if files < nvml && bus.contained {
        pass.note("this container was given a part of the files in /dev");
    } else if files < nvml {
        pass.found_on(Device::default(), "gpu-count-mismatch", evidence);
    }
}
