//! GPUs: on the bus, through NVML, and CUDA's driver.

use std::path::Path;
use std::time::{Duration, Instant};

use super::needs::Command;
use super::{Check, State};
use crate::fault::gpu::facts::End;
use crate::gpu::{bus, session};
use crate::host::apart::Apart;

const AREA: &str = "gpu";
/// NVIDIA's management library.
const NVML: &str = "libnvidia-ml.so.1";
/// This program, even if its file was replaced while it runs.
const PROGRAM: &str = "/proc/self/exe";

/// What is there of NVIDIA's.
pub fn checks(deadline: Duration) -> Vec<Check> {
    let bus = bus::look(Path::new("/"), 0);
    let there = bus.has_gpus();
    let seen = Check::new(AREA, "gpus", &[Command::Top]);
    let seen = match (bus.gpus.len(), bus.seen) {
        (0, true) => seen.is(
            State::Absent,
            "no NVIDIA GPU is on PCI",
            "of other machines: aictl top --fleet, aictl diagnose; AMD's and Huawei's are not read",
        ),
        (0, false) => seen.is(State::Unknown, "/sys/bus/pci can't be read", "is /sys mounted here?"),
        (count, _) => seen.ok(crate::view::human::plural(count as u64, "GPU on PCI", "GPUs on PCI")),
    };
    let look = session::look(Path::new(PROGRAM), deadline);
    let nvml = Check::new(AREA, "nvml", &[Command::Top]);
    // Without a GPU there is nothing that could be broken.
    let wrong = if there { State::Broken } else { State::Absent };
    let driver = look.driver.as_ref();
    let nvml = match &look.end {
        End::Whole => {
            let version = driver.and_then(|driver| driver.version.clone()).unwrap_or_default();
            nvml.ok(format!("driver {version}, {} GPUs", look.gpus.len()))
        }
        End::NoLibrary(why) => nvml.is(
            wrong,
            // The loader's words begin with the file's name; others do not.
            match why.lines().next().unwrap_or_default() {
                words if words.contains(NVML) => words.to_owned(),
                words => format!("{NVML}: {words}"),
            },
            "install NVIDIA's driver; in a container, use NVIDIA's runtime with NVIDIA_DRIVER_CAPABILITIES=utility",
        ),
        End::DriverNotLoaded => {
            nvml.is(wrong, "the kernel module is not loaded", "modprobe nvidia; dmesg says why not")
        }
        End::VersionMismatch => nvml.is(
            State::Broken,
            "library and kernel module are of different versions",
            "the driver was updated while it ran: reload its modules, or restart the machine",
        ),
        End::Refused(why) => nvml.is(State::Broken, why.clone(), "aictl diagnose --local says more"),
        End::Hung { at, .. } => {
            nvml.is(State::Broken, format!("it does not answer ({at})"), "aictl diagnose --local says more")
        }
        End::StillHung { pid } => {
            nvml.is(State::Broken, format!("process {pid} hangs in it"), "restart the machine: the driver is stuck")
        }
        End::Broke(why) => nvml.is(State::Unknown, why.clone(), "aictl diagnose --local says more"),
    };
    let cuda = cuda(there, driver.and_then(|driver| driver.cuda.clone()), deadline);
    vec![seen, nvml, cuda]
}

/// The library is loaded by a process of its own: its start-up code is not ours.
fn cuda(there: bool, version: Option<String>, deadline: Duration) -> Check {
    let check = Check::new(AREA, "cuda-driver", &[]);
    let loaded = Apart::start(|| -> Result<(), String> {
        // SAFETY: in a child that ends right after; what the library's constructors do ends with it.
        unsafe { libloading::Library::new("libcuda.so.1") }.map(std::mem::forget).map_err(|error| error.to_string())
    });
    let loaded = loaded.and_then(|reader| reader.wait::<Result<(), String>>(Instant::now() + deadline)?);
    match (loaded, there) {
        (Ok(()), _) => {
            check.ok(version.map_or("libcuda.so.1".to_owned(), |version| format!("libcuda.so.1, CUDA {version}")))
        }
        (Err(why), there) => check.is(
            if there { State::Broken } else { State::Absent },
            why.lines().next().unwrap_or_default().to_owned(),
            "needed by aictl preload --gpu alone: install NVIDIA's driver, or use the runtime's capability compute",
        ),
    }
}
