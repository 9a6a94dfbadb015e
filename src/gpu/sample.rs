//! From NVML to what is measured, again and again. Runs in the process that may hang (see
//! [`super::sampler`]).

use std::collections::HashMap;

use nvml_wrapper::enum_wrappers::device::{
    Clock, ComputeMode, EccCounter, MemoryError, PcieUtilCounter, PerformancePolicy, RetirementCause,
    TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::sys_exports::field_id;
use nvml_wrapper::{Device, Nvml};

use super::{raw, read};
use crate::metrics::{GpuSample, InstanceSample, LinkSample, Metric, ProcessSample, Values};

/// NVLinks of a GPU at most (NVML_NVLINK_MAX_LINKS).
const MOST_LINKS: u32 = 18;

/// All links together, as the scope of a field (nvml.h: UINT_MAX aggregates).
const ALL_LINKS: u32 = u32::MAX;

/// KiB, in which NVML counts what went over NVLinks.
const KIB: f64 = 1024.0;

/// What is kept from one look to the next: by GPU, up to when loads of processes were read.
#[derive(Debug, Default)]
pub struct Seen {
    processes_us: HashMap<u32, u64>,
}

/// Reads one GPU. What it does not support is absent.
pub fn gpu(nvml: &Nvml, index: u32, seen: &mut Seen) -> GpuSample {
    let device = match nvml.device_by_index(index) {
        Ok(device) => device,
        Err(error) => {
            return GpuSample { index, blind: Some(format!("NVML: {error}")), ..GpuSample::default() };
        }
    };
    let device = &device;
    let mut sample = GpuSample {
        index,
        uuid: device.uuid().unwrap_or_default(),
        name: device.name().unwrap_or_default(),
        pci: device.pci_info().ok().and_then(|info| read::address(&info.bus_id)),
        nvlinks: links(nvml, device),
        instances: instances(nvml, device),
        ..GpuSample::default()
    };
    let values = &mut sample.metrics;
    load(nvml, device, values);
    memory(device, values);
    pace(device, values);
    power(device, values);
    heat(nvml, device, values);
    faults(nvml, device, values);
    bus(device, values);
    modes(device, values);
    nvlinks(nvml, device, &sample.nvlinks, values);
    sample.processes = processes(device, seen.processes_us.entry(index).or_default());
    // One that fell off the bus answers to nothing at all.
    if sample.metrics.is_empty() {
        let why = device.memory_info().err().map_or_else(|| "it tells nothing".to_owned(), |error| error.to_string());
        sample.blind = Some(format!("NVML: {why}"));
    }
    sample
}

fn number<T: Into<f64>>(answer: Result<T, NvmlError>) -> Option<f64> {
    answer.ok().map(Into::into)
}

/// Counters go beyond 32 bits; a float holds them exactly up to 2^53.
fn count(answer: Result<u64, NvmlError>) -> Option<f64> {
    answer.ok().map(|value| value as f64)
}

fn flag(answer: Result<bool, NvmlError>) -> Option<f64> {
    answer.ok().map(|on| f64::from(u8::from(on)))
}

fn load(nvml: &Nvml, device: &Device<'_>, values: &mut Values) {
    if let Ok(load) = device.utilization_rates() {
        values.set(Metric::Utilisation, f64::from(load.gpu));
        values.set(Metric::MemoryUtilisation, f64::from(load.memory));
    }
    values.set(Metric::EncoderUtilisation, number(device.encoder_utilization().map(|load| load.utilization)));
    values.set(Metric::DecoderUtilisation, number(device.decoder_utilization().map(|load| load.utilization)));
    values.set(Metric::JpegUtilisation, number(raw::jpeg_load(nvml, device)));
    values.set(Metric::OpticalFlowUtilisation, number(raw::optical_flow_load(nvml, device)));
}

fn memory(device: &Device<'_>, values: &mut Values) {
    if let Ok(memory) = device.memory_info() {
        values.set(Metric::MemoryUsed, memory.used as f64);
        values.set(Metric::MemoryFree, memory.free as f64);
        values.set(Metric::MemoryReserved, memory.reserved as f64);
        values.set(Metric::MemoryTotal, memory.total as f64);
    }
    if let Ok(window) = device.bar1_memory_info() {
        values.set(Metric::Bar1Used, window.used as f64);
        values.set(Metric::Bar1Total, window.total as f64);
    }
}

fn pace(device: &Device<'_>, values: &mut Values) {
    values.set(Metric::SmClock, number(device.clock_info(Clock::SM)));
    values.set(Metric::MemoryClock, number(device.clock_info(Clock::Memory)));
    values.set(Metric::VideoClock, number(device.clock_info(Clock::Video)));
    values.set(Metric::MaxSmClock, number(device.max_clock_info(Clock::SM)));
    values.set(Metric::MaxMemoryClock, number(device.max_clock_info(Clock::Memory)));
    values.set(Metric::PerformanceState, number(device.performance_state().map(|state| state.as_c())));
    values.set(Metric::ThrottleReasons, count(device.current_throttle_reasons().map(|reasons| reasons.bits())));
    let slowed = |policy| count(device.violation_status(policy).map(|time| time.violation_time)).map(|ns| ns / 1e9);
    values.set(Metric::PowerViolation, slowed(PerformancePolicy::Power));
    values.set(Metric::ThermalViolation, slowed(PerformancePolicy::Thermal));
}

fn power(device: &Device<'_>, values: &mut Values) {
    let watts = |answer: Result<u32, NvmlError>| number(answer).map(|mw| mw / 1000.0);
    values.set(Metric::Power, watts(device.power_usage()));
    values.set(Metric::PowerLimit, watts(device.enforced_power_limit()));
    values.set(Metric::PowerLimitSet, watts(device.power_management_limit()));
    values.set(Metric::Energy, count(device.total_energy_consumption()).map(|mj| mj / 1000.0));
}

fn heat(nvml: &Nvml, device: &Device<'_>, values: &mut Values) {
    values.set(Metric::Temperature, number(device.temperature(TemperatureSensor::Gpu)));
    let memory = raw::field(nvml, device, field_id::NVML_FI_DEV_MEMORY_TEMP, 0);
    // GPUs without the sensor say 0.
    values.set(Metric::MemoryTemperature, memory.ok().filter(|c| *c > 0.0));
    values.set(Metric::SlowdownTemperature, number(device.temperature_threshold(TemperatureThreshold::Slowdown)));
    values.set(Metric::ShutdownTemperature, number(device.temperature_threshold(TemperatureThreshold::Shutdown)));
    values.set(Metric::Fan, number(device.fan_speed(0)));
}

fn faults(nvml: &Nvml, device: &Device<'_>, values: &mut Values) {
    for (metric, kind, life) in [
        (Metric::EccCorrected, MemoryError::Corrected, EccCounter::Volatile),
        (Metric::EccUncorrected, MemoryError::Uncorrected, EccCounter::Volatile),
        (Metric::EccCorrectedLife, MemoryError::Corrected, EccCounter::Aggregate),
        (Metric::EccUncorrectedLife, MemoryError::Uncorrected, EccCounter::Aggregate),
    ] {
        values.set(metric, count(device.total_ecc_errors(kind, life)));
    }
    values.set(Metric::EccMode, flag(device.is_ecc_enabled().map(|mode| mode.currently_enabled)));
    if let Ok(rows) = raw::rows(nvml, device) {
        values.set(Metric::RowsCorrectable, f64::from(rows.correctable));
        values.set(Metric::RowsUncorrectable, f64::from(rows.uncorrectable));
        values.set(Metric::RowRemapPending, f64::from(u8::from(rows.pending)));
        values.set(Metric::RowRemapFailure, f64::from(u8::from(rows.failure)));
    }
    let retired = |cause| device.retired_pages(cause).ok().map(|pages| pages.len() as f64);
    values.set(Metric::RetiredCorrected, retired(RetirementCause::MultipleSingleBitEccErrors));
    values.set(Metric::RetiredUncorrected, retired(RetirementCause::DoubleBitEccError));
    values.set(Metric::RetiredPending, flag(device.are_pages_pending_retired()));
}

fn bus(device: &Device<'_>, values: &mut Values) {
    values.set(Metric::PcieReplays, number(device.pcie_replay_counter()));
    // NVML measures for 20 ms and says kB/s.
    values.set(Metric::PcieTx, number(device.pcie_throughput(PcieUtilCounter::Send)).map(|kb| kb * 1000.0));
    values.set(Metric::PcieRx, number(device.pcie_throughput(PcieUtilCounter::Receive)).map(|kb| kb * 1000.0));
    values.set(Metric::PcieGeneration, number(device.current_pcie_link_gen()));
    values.set(Metric::PcieWidth, number(device.current_pcie_link_width()));
    values.set(Metric::MaxPcieGeneration, number(device.max_pcie_link_gen()));
    values.set(Metric::MaxPcieWidth, number(device.max_pcie_link_width()));
}

fn modes(device: &Device<'_>, values: &mut Values) {
    // NVML's own numbers.
    let mode = |mode| match mode {
        ComputeMode::Default => 0.0,
        ComputeMode::ExclusiveThread => 1.0,
        ComputeMode::Prohibited => 2.0,
        ComputeMode::ExclusiveProcess => 3.0,
    };
    values.set(Metric::ComputeMode, device.compute_mode().ok().map(mode));
    values.set(Metric::Persistence, flag(device.is_in_persistent_mode()));
    values.set(Metric::MigMode, flag(device.mig_mode().map(|mode| mode.current == 1)));
}

/// The links in order, up to the first number that this GPU has not got.
fn links(nvml: &Nvml, device: &Device<'_>) -> Vec<LinkSample> {
    let mut links = Vec::new();
    for number in 0..MOST_LINKS {
        let link = device.link_wrapper_for(number);
        let Ok(active) = link.is_active() else { break };
        let mut values = Values::default();
        values.set(Metric::LinkActive, f64::from(u8::from(active)));
        let moved = |field| raw::field(nvml, device, field, number).ok().map(|kib| kib * KIB);
        values.set(Metric::LinkTx, moved(field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX));
        values.set(Metric::LinkRx, moved(field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX));
        values.set(Metric::LinkCrcErrors, count(link.error_counter(ErrorCounter::DlCrcFlit)));
        values.set(Metric::LinkReplays, count(link.error_counter(ErrorCounter::DlReplay)));
        values.set(Metric::LinkRecoveries, count(link.error_counter(ErrorCounter::DlRecovery)));
        links.push(LinkSample { link: number, metrics: values });
    }
    links
}

/// All links together.
fn nvlinks(nvml: &Nvml, device: &Device<'_>, links: &[LinkSample], values: &mut Values) {
    if links.is_empty() {
        return;
    }
    // Only where each link that is up tells: a part is no total.
    let sum = |metric| {
        let up = links.iter().filter(|link| link.metrics.get(Metric::LinkActive) == Some(1.0));
        up.map(|link| link.metrics.get(metric)).sum::<Option<f64>>()
    };
    values.set(Metric::NvlinksActive, sum(Metric::LinkActive));
    let all = |field| raw::field(nvml, device, field, ALL_LINKS).ok().map(|kib| kib * KIB);
    let (tx, rx) = (field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX);
    values.set(Metric::NvlinkTx, all(tx).or_else(|| sum(Metric::LinkTx)));
    values.set(Metric::NvlinkRx, all(rx).or_else(|| sum(Metric::LinkRx)));
    values.set(Metric::NvlinkCrcErrors, sum(Metric::LinkCrcErrors));
    values.set(Metric::NvlinkReplays, sum(Metric::LinkReplays));
    values.set(Metric::NvlinkRecoveries, sum(Metric::LinkRecoveries));
}

fn instances(nvml: &Nvml, device: &Device<'_>) -> Vec<InstanceSample> {
    let on = device.mig_mode().is_ok_and(|mode| mode.current == 1);
    let most = if on { device.mig_device_count().unwrap_or(0) } else { 0 };
    let devices = (0..most).filter_map(|number| device.mig_device_by_index(number).ok());
    let instance = |device: Device<'_>| {
        let (gpu_instance, compute_instance) = raw::instance_ids(nvml, &device);
        let mut metrics = Values::default();
        if let Ok(memory) = device.memory_info() {
            metrics.set(Metric::InstanceMemoryUsed, memory.used as f64);
            metrics.set(Metric::InstanceMemoryTotal, memory.total as f64);
        }
        InstanceSample { uuid: device.uuid().ok(), gpu_instance, compute_instance, metrics }
    };
    devices.map(instance).collect()
}

fn processes(device: &Device<'_>, since_us: &mut u64) -> Vec<ProcessSample> {
    let mut all: Vec<ProcessSample> = Vec::new();
    let mut add = |kind: &str, found: Result<Vec<ProcessInfo>, NvmlError>| {
        for process in found.unwrap_or_default() {
            // One that draws and computes is listed twice.
            if all.iter().any(|known| known.pid == process.pid) {
                continue;
            }
            let mut metrics = Values::default();
            if let UsedGpuMemory::Used(bytes) = process.used_gpu_memory {
                metrics.set(Metric::ProcessMemory, bytes as f64);
            }
            let kind = kind.to_owned();
            all.push(ProcessSample { pid: process.pid, kind, metrics, ..ProcessSample::default() });
        }
    };
    add("compute", device.running_compute_processes());
    add("graphics", device.running_graphics_processes());
    // Samples since the last look; the newest of each process counts.
    let mut samples = device.process_utilization_stats(*since_us).unwrap_or_default();
    samples.sort_by_key(|sample| sample.timestamp);
    for sample in samples {
        *since_us = (*since_us).max(sample.timestamp);
        let Some(process) = all.iter_mut().find(|process| process.pid == sample.pid) else { continue };
        for (metric, value) in [
            (Metric::ProcessSm, sample.sm_util),
            (Metric::ProcessMemoryUtilisation, sample.mem_util),
            (Metric::ProcessEncoder, sample.enc_util),
            (Metric::ProcessDecoder, sample.dec_util),
        ] {
            // Values that are none are beyond all percent.
            process.metrics.set(metric, Some(f64::from(value)).filter(|value| *value <= 100.0));
        }
    }
    all
}
