//! From NVML to facts. Runs in the process that may hang (see [`super::session`]).

use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, RetirementCause, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id;
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings as sys;

use super::raw;
use crate::fault::gpu::facts::{
    Clocks, Driver, Ecc, End, Failure, Gpu, Instance, Link, LinkEnd, Pages, Pcie, Process, Reading, Switch, Thermal,
};

/// NVLinks of a GPU at most (NVML_NVLINK_MAX_LINKS).
const MOST_LINKS: u32 = 18;

/// Starts NVML.
///
/// # Errors
/// Why it did not start.
pub fn start() -> Result<Nvml, End> {
    Nvml::init().map_err(|error| match error {
        NvmlError::LibloadingError(cause) => End::NoLibrary(cause.to_string()),
        NvmlError::FailedToLoadSymbol(words) => End::NoLibrary(words),
        NvmlError::LibraryNotFound => End::NoLibrary(error.to_string()),
        NvmlError::DriverNotLoaded => End::DriverNotLoaded,
        NvmlError::LibRmVersionMismatch => End::VersionMismatch,
        other => End::Refused(other.to_string()),
    })
}

/// Versions.
pub fn driver(nvml: &Nvml) -> Driver {
    Driver {
        version: nvml.sys_driver_version().ok(),
        nvml: nvml.sys_nvml_version().ok(),
        cuda: nvml.sys_cuda_driver_version().ok().map(|v| format!("{}.{}", v / 1000, v % 1000 / 10)),
    }
}

/// GPUs that NVML counts.
///
/// # Errors
/// Why it would not say.
pub fn count(nvml: &Nvml) -> Result<u32, End> {
    nvml.device_count().map_err(|error| End::Refused(format!("no count of GPUs: {error}")))
}

/// One GPU.
pub fn gpu(nvml: &Nvml, index: u32) -> Gpu {
    let device = match nvml.device_by_index(index) {
        Ok(device) => device,
        Err(error) => {
            let failure = failure(&error).unwrap_or_else(|| Failure::Other(error.to_string()));
            return Gpu { index, opened: Reading::Failed(failure), ..Gpu::default() };
        }
    };
    let device = &device;
    Gpu {
        index,
        opened: Reading::Value(()),
        uuid: device.uuid().ok(),
        pci: device.pci_info().ok().and_then(|info| address(&info.bus_id)),
        name: device.name().ok(),
        serial: device.serial().ok(),
        architecture: device.architecture().ok().map(|architecture| format!("{architecture:?}")),
        mig: reading(device.mig_mode()).map(|mode| Switch { current: mode.current == 1, pending: mode.pending == 1 }),
        instances: instances(nvml, device),
        recovery_action: field(device, field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)
            .map(|value| u32::try_from(value).unwrap_or(u32::MAX)),
        ecc: ecc(nvml, device),
        rows: reading(raw::rows(nvml, device)),
        banks: reading(raw::banks(nvml, device)),
        pages: pages(device),
        inforom: reading(device.validate_info_rom()),
        links: links(nvml, device),
        pcie: Pcie {
            width: reading(device.current_pcie_link_width()),
            max_width: reading(device.max_pcie_link_width()),
            generation: reading(device.current_pcie_link_gen()),
            max_generation: reading(device.max_pcie_link_gen()),
            replays: reading(device.pcie_replay_counter()),
        },
        clocks: clocks(device),
        thermal: Thermal {
            gpu_c: reading(device.temperature(TemperatureSensor::Gpu)),
            slowdown_c: reading(device.temperature_threshold(TemperatureThreshold::Slowdown)),
            shutdown_c: reading(device.temperature_threshold(TemperatureThreshold::Shutdown)),
        },
        power_mw: reading(device.power_usage()),
        power_limit_mw: reading(device.enforced_power_limit()),
        fabric: reading(raw::fabric(nvml, device)),
        persistence: reading(device.is_in_persistent_mode()),
        memory_total_bytes: reading(device.memory_info()).map(|memory| memory.total),
        memory_used_bytes: reading(device.memory_info()).map(|memory| memory.used),
        processes: reading(device.running_compute_processes()).map(|all| {
            let used = |memory| match memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            all.into_iter().map(|p| Process { pid: p.pid, used_bytes: used(p.used_gpu_memory) }).collect()
        }),
    }
}

fn ecc(nvml: &Nvml, device: &Device<'_>) -> Ecc {
    let errors = |kind, life| reading(device.total_ecc_errors(kind, life));
    Ecc {
        mode: reading(device.is_ecc_enabled())
            .map(|mode| Switch { current: mode.currently_enabled, pending: mode.pending_enabled }),
        on_by_default: reading(raw::ecc_by_default(nvml, device)),
        volatile_corrected: errors(MemoryError::Corrected, EccCounter::Volatile),
        volatile_uncorrected: errors(MemoryError::Uncorrected, EccCounter::Volatile),
        aggregate_corrected: errors(MemoryError::Corrected, EccCounter::Aggregate),
        aggregate_uncorrected: errors(MemoryError::Uncorrected, EccCounter::Aggregate),
        sram_threshold_exceeded: reading(raw::sram_threshold(nvml, device)),
    }
}

fn pages(device: &Device<'_>) -> Pages {
    let retired = |cause| {
        reading(device.retired_pages(cause)).map(|pages: Vec<_>| u32::try_from(pages.len()).unwrap_or(u32::MAX))
    };
    Pages {
        pending: reading(device.are_pages_pending_retired()),
        corrected: retired(RetirementCause::MultipleSingleBitEccErrors),
        uncorrected: retired(RetirementCause::DoubleBitEccError),
    }
}

fn clocks(device: &Device<'_>) -> Clocks {
    let load = device.utilization_rates();
    let (gpu, memory) = match load {
        Ok(load) => (Reading::Value(load.gpu), Reading::Value(load.memory)),
        Err(error) => (reading(Err(error)), Reading::NotSupported),
    };
    Clocks {
        sm_mhz: reading(device.clock_info(Clock::SM)),
        max_sm_mhz: reading(device.max_clock_info(Clock::SM)),
        memory_mhz: reading(device.clock_info(Clock::Memory)),
        max_memory_mhz: reading(device.max_clock_info(Clock::Memory)),
        reasons: reading(device.current_throttle_reasons()).map(|reasons| reasons.bits()),
        performance_state: reading(device.performance_state()).map(|state| state.as_c()),
        utilisation_percent: gpu,
        memory_utilisation_percent: memory,
    }
}

/// The links in order, up to the first number that this GPU has not got.
fn links(nvml: &Nvml, device: &Device<'_>) -> Vec<Link> {
    let mut links = Vec::new();
    for number in 0..MOST_LINKS {
        let link = device.link_wrapper_for(number);
        let active = reading(link.is_active());
        if active == Reading::NotSupported {
            break;
        }
        let errors = |counter| reading(link.error_counter(counter));
        let up = active == Reading::Value(true);
        links.push(Link {
            active,
            crc_errors: errors(ErrorCounter::DlCrcFlit),
            replays: errors(ErrorCounter::DlReplay),
            recoveries: errors(ErrorCounter::DlRecovery),
            end: if up { end(nvml, device, number) } else { Reading::NotSupported },
        });
    }
    links
}

/// What a link leads to.
fn end(nvml: &Nvml, device: &Device<'_>, number: u32) -> Reading<LinkEnd> {
    match raw::link_end(nvml, device, number) {
        Ok(sys::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_GPU) => {}
        Ok(sys::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH) => return Reading::Value(LinkEnd::Switch),
        Ok(_) => return Reading::Value(LinkEnd::Other),
        Err(error) => return reading(Err(error)),
    }
    let place = reading(device.link_wrapper_for(number).remote_pci_info()).map(|info| address(&info.bus_id));
    match place {
        Reading::Value(Some(pci)) => Reading::Value(LinkEnd::Gpu(pci)),
        Reading::Failed(failure) => Reading::Failed(failure),
        _ => Reading::NotSupported,
    }
}

fn instances(nvml: &Nvml, device: &Device<'_>) -> Vec<Instance> {
    let on = device.mig_mode().is_ok_and(|mode| mode.current == 1);
    let most = if on { device.mig_device_count().unwrap_or(0) } else { 0 };
    let devices = (0..most).filter_map(|number| device.mig_device_by_index(number).ok());
    let instance = |device: Device<'_>| {
        let (gpu_instance, compute_instance) = raw::instance_ids(nvml, &device);
        Instance { uuid: device.uuid().ok(), gpu_instance, compute_instance }
    };
    devices.map(instance).collect()
}

/// A value that has only a number. Drivers that do not know the number say so in many ways.
fn field(device: &Device<'_>, id: u32) -> Reading<u64> {
    let values = match device.field_values_for(&[FieldId(id)]) {
        Ok(values) => values,
        Err(error) => return reading(Err(error)),
    };
    match values.into_iter().next() {
        Some(Ok(sample)) => reading(sample.value.map(|value| match value {
            SampleValue::U32(value) => u64::from(value),
            SampleValue::U64(value) => value,
            SampleValue::I64(value) => u64::try_from(value).unwrap_or(0),
            SampleValue::F64(value) => value as u64,
        })),
        Some(Err(error)) => reading(Err(error)),
        None => Reading::NotSupported,
    }
}

fn reading<T>(answer: Result<T, NvmlError>) -> Reading<T> {
    match answer {
        Ok(value) => Reading::Value(value),
        Err(error) => failure(&error).map_or(Reading::NotSupported, Reading::Failed),
    }
}

/// What an error means; `None` for "not supported", which has many names: a call or a number that
/// an older library does not know, a value that this GPU has not got.
fn failure(error: &NvmlError) -> Option<Failure> {
    Some(match error {
        NvmlError::NotSupported
        | NvmlError::InvalidArg
        | NvmlError::NotFound
        | NvmlError::NoData
        | NvmlError::FunctionNotFound
        | NvmlError::FailedToLoadSymbol(_)
        // Values and codes newer than the wrapper: 25 is "layout of the structure not known".
        | NvmlError::UnexpectedVariant(_) => return None,
        NvmlError::GpuLost => Failure::Lost,
        NvmlError::ResetRequired => Failure::ResetRequired,
        NvmlError::CorruptedInfoROM => Failure::InforomCorrupt,
        NvmlError::NoPermission => Failure::NoPermission,
        other => Failure::Other(other.to_string()),
    })
}

/// "00000000:3B:00.0" as the kernel writes it: "0000:3b:00.0".
pub fn address(bus_id: &str) -> Option<String> {
    let (domain, rest) = bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_kernels() {
        assert_eq!(address("00000000:3B:00.0").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(address("0008:01:00.0").as_deref(), Some("0008:01:00.0"));
        assert_eq!(address("00010000:00:00.0").as_deref(), Some("10000:00:00.0"));
        assert_eq!(address("nonsense"), None);
    }

    #[test]
    fn not_supported_has_many_names_and_is_no_failure() {
        for error in [NvmlError::NotSupported, NvmlError::InvalidArg, NvmlError::UnexpectedVariant(25)] {
            assert_eq!(reading::<u32>(Err(error)), Reading::NotSupported);
        }
        assert_eq!(reading::<u32>(Err(NvmlError::GpuLost)), Reading::Failed(Failure::Lost));
        assert_eq!(reading(Ok(3)), Reading::Value(3));
        assert!(matches!(reading::<u32>(Err(NvmlError::Unknown)), Reading::Failed(Failure::Other(_))));
    }
}
