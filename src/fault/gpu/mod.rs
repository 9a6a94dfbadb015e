//! Judges GPUs: from what NVML and the bus say of them to checks and findings.
//!
//! A reading that is not supported is no fault; one that failed makes its check blind. What could
//! as well be a setting or a topology is compared with the like GPUs of the machine, with earlier
//! looks, or both, and is passed over in silence where there is nothing to compare with.

mod driver;
mod events;
pub mod facts;
mod links;
mod memory;
mod pace;
mod pass;
mod peers;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use super::catalogue::Catalogue;
use super::finding::{Check, Finding, State};
use super::history::History;
pub use events::{EVENTS, XidEvent, XidEvents};
use facts::{Bus, End, Gpu, Look};
use pass::Pass;
pub use peers::reset_groups;

/// What is judged, and by what.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// What faults are.
    pub catalogue: &'a Catalogue,
    /// The machine without NVML.
    pub bus: &'a Bus,
    /// What NVML said; `None` if it was not asked, for there is no GPU.
    pub look: Option<&'a Look>,
    /// Identifier of this boot.
    pub boot_id: Option<&'a str>,
    /// Where soft faults begin.
    pub limits: Limits,
}

/// Where soft faults begin.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Corrected memory errors an hour.
    pub corrected_per_hour: f64,
    /// PCIe packets sent again, a minute.
    pub replays_per_minute: f64,
    /// NVLink packets with a wrong checksum, a second, on one link.
    pub crc_per_second: f64,
    /// Rows that may be replaced after uncorrectable errors.
    pub uncorrectable_rows: u32,
    /// Pages that may be retired.
    pub retired_pages: u32,
    /// A GPU is under load from here on, percent.
    pub busy_percent: u32,
    /// Share of its highest clock below which a busy GPU is slow.
    pub slow_clock: f64,
    /// After a boot GPUs may take so long to join the fabric, s.
    pub fabric_grace_s: u64,
    /// A GPU is too hot from here on, °C; without it where it slows itself down.
    pub hottest_c: Option<u32>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            corrected_per_hour: 100.0,
            replays_per_minute: 8.0,
            crc_per_second: 100.0,
            uncorrectable_rows: 512,
            retired_pages: 64,
            busy_percent: 90,
            slow_clock: 0.5,
            fabric_grace_s: 900,
            hottest_c: None,
        }
    }
}

/// One check: its name, and what it looks at.
type Judge = fn(&mut Pass<'_>, &mut History);

/// All checks, in the order of the report.
const CHECKS: [(&str, Judge); 11] = [
    ("nvml", driver::nvml),
    ("driver", driver::driver),
    ("gpu-count", driver::count),
    ("gpu-recovery", memory::recovery),
    ("gpu-ecc", memory::ecc),
    ("gpu-rows", memory::rows),
    ("gpu-pcie", links::pcie),
    ("gpu-nvlink", links::nvlink),
    ("gpu-fabric", links::fabric),
    ("gpu-clocks", pace::clocks),
    ("gpu-temperature", pace::temperature),
];

/// The checks, and what each found.
pub fn judge(machine: &Machine<'_>, history: &mut History) -> Vec<(Check, Vec<Finding>)> {
    let Some(look) = machine.look else {
        let why = if machine.bus.passed_through() {
            "the GPUs are given to virtual machines"
        } else {
            "this machine has no NVIDIA GPU"
        };
        return CHECKS.iter().map(|(name, _)| (skipped(name, why), Vec::new())).collect();
    };
    let check = |(name, judge): &(&'static str, Judge)| {
        let mut pass = Pass::new(machine, look, name, history.now());
        judge(&mut pass, history);
        pass.close()
    };
    CHECKS.iter().map(check).collect()
}

fn skipped(name: &str, why: &str) -> Check {
    Check { name: name.to_owned(), state: State::Skipped, detail: why.to_owned() }
}

impl Bus {
    /// Whether NVML should be asked: there is a GPU that this machine itself uses, or a driver.
    pub fn has_gpus(&self) -> bool {
        self.gpus.iter().any(|gpu| !gpu.is_passed_through()) || !self.device_files.is_empty() || self.module.is_some()
    }

    /// All GPUs are given to virtual machines.
    fn passed_through(&self) -> bool {
        !self.gpus.is_empty() && self.gpus.iter().all(facts::BusGpu::is_passed_through)
    }
}

impl facts::BusGpu {
    /// Given to a virtual machine.
    fn is_passed_through(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| driver.contains("vfio"))
    }
}

impl Gpu {
    /// The driver has lost it.
    fn is_lost(&self) -> bool {
        use facts::{Failure::Lost, Reading::Failed};
        self.opened == Failed(Lost)
            || self.thermal.gpu_c == Failed(Lost)
            || self.clocks.sm_mhz == Failed(Lost)
            || self.ecc.mode == Failed(Lost)
    }

    /// Divided into MIG devices.
    fn is_divided(&self) -> bool {
        self.mig.value().is_some_and(|mig| mig.current)
    }

    /// A key for what is remembered of it.
    fn key(&self, of: &str) -> String {
        format!("gpu/{}/{of}", self.uuid.as_deref().unwrap_or("?"))
    }
}

impl Look {
    /// Why GPUs were not read, if they were not.
    fn trouble(&self) -> Option<&'static str> {
        Some(match &self.end {
            End::Whole => return None,
            End::NoLibrary(_) => "NVML's library is missing",
            End::DriverNotLoaded => "the driver is not loaded",
            End::VersionMismatch => "library and kernel module do not fit",
            End::Refused(_) => "NVML did not start",
            End::Hung { .. } | End::StillHung { .. } => "NVML did not answer",
            End::Broke(_) => "NVML broke off",
        })
    }
}
