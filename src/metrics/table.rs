//! The values: one line each, with everything that is to be said of it.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// What a value is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A GPU.
    Gpu,
    /// An NVLink of a GPU.
    Link,
    /// A MIG device.
    Instance,
    /// A process on a GPU.
    Process,
    /// The machine.
    Node,
}

/// How a value moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up and down.
    Gauge,
    /// Up only, until a driver or machine starts anew.
    Counter,
}

struct Entry {
    metric: Metric,
    scope: Scope,
    kind: Kind,
    key: &'static str,
    name: &'static str,
    scale: f64,
    help: &'static str,
}

macro_rules! metrics {
    ($($metric:ident $scope:ident $kind:ident $key:literal $name:literal $scale:literal $help:literal;)*) => {
        /// A value that is measured.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Metric {
            $(#[doc = $help] $metric,)*
        }

        const TABLE: &[Entry] = &[$(Entry {
            metric: Metric::$metric, scope: Scope::$scope, kind: Kind::$kind,
            key: $key, name: $name, scale: $scale, help: $help,
        },)*];
    };
}

// Key of JSON; name for Prometheus, which is that of dcgm-exporter where the meaning is the same
// (DCGM's dcgm_fields.h, dcgm-exporter's etc/default-counters.csv); what the value is multiplied by
// for Prometheus, since DCGM counts memory in MiB, energy in mJ and PCIe in kB/s; meaning.
metrics! {
    Utilisation Gpu Gauge "utilisation_percent" "DCGM_FI_DEV_GPU_UTIL" 1.0 "Share of time with a kernel running, percent.";
    MemoryUtilisation Gpu Gauge "memory_utilisation_percent" "DCGM_FI_DEV_MEM_COPY_UTIL" 1.0 "Share of time with memory read or written, percent.";
    EncoderUtilisation Gpu Gauge "encoder_utilisation_percent" "DCGM_FI_DEV_ENC_UTIL" 1.0 "Load of the video encoder, percent.";
    DecoderUtilisation Gpu Gauge "decoder_utilisation_percent" "DCGM_FI_DEV_DEC_UTIL" 1.0 "Load of the video decoder, percent.";
    JpegUtilisation Gpu Gauge "jpeg_utilisation_percent" "aictl_gpu_jpeg_utilisation_percent" 1.0 "Load of the JPEG engine, percent.";
    OpticalFlowUtilisation Gpu Gauge "optical_flow_utilisation_percent" "aictl_gpu_optical_flow_utilisation_percent" 1.0 "Load of the optical flow engine, percent.";
    MemoryUsed Gpu Gauge "memory_used_bytes" "DCGM_FI_DEV_FB_USED" 0.00000095367431640625 "Memory in use, MiB.";
    MemoryFree Gpu Gauge "memory_free_bytes" "DCGM_FI_DEV_FB_FREE" 0.00000095367431640625 "Memory free, MiB.";
    MemoryReserved Gpu Gauge "memory_reserved_bytes" "DCGM_FI_DEV_FB_RESERVED" 0.00000095367431640625 "Memory that the driver keeps for itself, MiB.";
    MemoryTotal Gpu Gauge "memory_total_bytes" "DCGM_FI_DEV_FB_TOTAL" 0.00000095367431640625 "Memory in all, MiB.";
    Bar1Used Gpu Gauge "bar1_used_bytes" "DCGM_FI_DEV_BAR1_USED" 0.00000095367431640625 "Window of PCIe into memory, in use, MiB.";
    Bar1Total Gpu Gauge "bar1_total_bytes" "DCGM_FI_DEV_BAR1_TOTAL" 0.00000095367431640625 "Window of PCIe into memory, MiB.";
    SmClock Gpu Gauge "sm_clock_mhz" "DCGM_FI_DEV_SM_CLOCK" 1.0 "Clock of the SMs, MHz.";
    MemoryClock Gpu Gauge "memory_clock_mhz" "DCGM_FI_DEV_MEM_CLOCK" 1.0 "Clock of the memory, MHz.";
    VideoClock Gpu Gauge "video_clock_mhz" "DCGM_FI_DEV_VIDEO_CLOCK" 1.0 "Clock of the video engines, MHz.";
    MaxSmClock Gpu Gauge "max_sm_clock_mhz" "DCGM_FI_DEV_MAX_SM_CLOCK" 1.0 "Highest clock of the SMs, MHz.";
    MaxMemoryClock Gpu Gauge "max_memory_clock_mhz" "DCGM_FI_DEV_MAX_MEM_CLOCK" 1.0 "Highest clock of the memory, MHz.";
    Power Gpu Gauge "power_w" "DCGM_FI_DEV_POWER_USAGE" 1.0 "Power drawn, W.";
    PowerLimit Gpu Gauge "power_limit_w" "DCGM_FI_DEV_ENFORCED_POWER_LIMIT" 1.0 "Power allowed, W.";
    PowerLimitSet Gpu Gauge "power_limit_set_w" "DCGM_FI_DEV_POWER_MGMT_LIMIT" 1.0 "Power limit that was set, W.";
    Energy Gpu Counter "energy_j" "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" 1000.0 "Energy since the driver was loaded, mJ.";
    Temperature Gpu Gauge "temperature_c" "DCGM_FI_DEV_GPU_TEMP" 1.0 "Temperature of the GPU, degrees Celsius.";
    MemoryTemperature Gpu Gauge "memory_temperature_c" "DCGM_FI_DEV_MEMORY_TEMP" 1.0 "Temperature of the memory, degrees Celsius.";
    SlowdownTemperature Gpu Gauge "slowdown_temperature_c" "DCGM_FI_DEV_SLOWDOWN_TEMP" 1.0 "Temperature at which hardware slows down, degrees Celsius.";
    ShutdownTemperature Gpu Gauge "shutdown_temperature_c" "DCGM_FI_DEV_SHUTDOWN_TEMP" 1.0 "Temperature at which the GPU shuts down, degrees Celsius.";
    Fan Gpu Gauge "fan_percent" "DCGM_FI_DEV_FAN_SPEED" 1.0 "Speed of the first fan, percent.";
    PerformanceState Gpu Gauge "performance_state" "DCGM_FI_DEV_PSTATE" 1.0 "Performance state; 0 is the fastest.";
    ThrottleReasons Gpu Gauge "throttle_reasons" "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS" 1.0 "Why clocks are not higher, NVML's bits.";
    PowerViolation Gpu Counter "power_violation_s" "aictl_gpu_power_violation_seconds_total" 1.0 "Time slowed down by the power limit, s.";
    ThermalViolation Gpu Counter "thermal_violation_s" "aictl_gpu_thermal_violation_seconds_total" 1.0 "Time slowed down by heat, s.";
    ComputeMode Gpu Gauge "compute_mode" "DCGM_FI_DEV_COMPUTE_MODE" 1.0 "Who may compute: 0 all, 2 nobody, 3 one process.";
    Persistence Gpu Gauge "persistence_mode" "DCGM_FI_DEV_PERSISTENCE_MODE" 1.0 "1 if the driver keeps the GPU awake without a program.";
    MigMode Gpu Gauge "mig_mode" "DCGM_FI_DEV_MIG_MODE" 1.0 "1 if the GPU is divided into MIG devices.";
    EccMode Gpu Gauge "ecc_mode" "DCGM_FI_DEV_ECC_CURRENT" 1.0 "1 if ECC is on.";
    EccCorrected Gpu Counter "ecc_corrected" "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL" 1.0 "Memory errors corrected since the driver was loaded.";
    EccUncorrected Gpu Counter "ecc_uncorrected" "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL" 1.0 "Memory errors not corrected since the driver was loaded.";
    EccCorrectedLife Gpu Counter "ecc_corrected_life" "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL" 1.0 "Memory errors corrected in the GPU's life.";
    EccUncorrectedLife Gpu Counter "ecc_uncorrected_life" "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL" 1.0 "Memory errors not corrected in the GPU's life.";
    RowsCorrectable Gpu Counter "remapped_rows_correctable" "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS" 1.0 "Rows of memory replaced after correctable errors.";
    RowsUncorrectable Gpu Counter "remapped_rows_uncorrectable" "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS" 1.0 "Rows of memory replaced after uncorrectable errors.";
    RowRemapPending Gpu Gauge "row_remap_pending" "DCGM_FI_DEV_ROW_REMAP_PENDING" 1.0 "1 if a replacement of rows waits for a reset.";
    RowRemapFailure Gpu Gauge "row_remap_failure" "DCGM_FI_DEV_ROW_REMAP_FAILURE" 1.0 "1 if a replacement of rows has failed.";
    RetiredCorrected Gpu Counter "retired_pages_corrected" "DCGM_FI_DEV_RETIRED_SBE" 1.0 "Pages of memory retired after corrected errors.";
    RetiredUncorrected Gpu Counter "retired_pages_uncorrected" "DCGM_FI_DEV_RETIRED_DBE" 1.0 "Pages of memory retired after an uncorrected error.";
    RetiredPending Gpu Gauge "retired_pages_pending" "DCGM_FI_DEV_RETIRED_PENDING" 1.0 "1 if pages wait to be retired.";
    PcieReplays Gpu Counter "pcie_replays" "DCGM_FI_DEV_PCIE_REPLAY_COUNTER" 1.0 "Packets of PCIe sent again.";
    PcieTx Gpu Gauge "pcie_tx_bytes_per_s" "DCGM_FI_DEV_PCIE_TX_THROUGHPUT" 0.001 "Sent over PCIe, kB/s.";
    PcieRx Gpu Gauge "pcie_rx_bytes_per_s" "DCGM_FI_DEV_PCIE_RX_THROUGHPUT" 0.001 "Received over PCIe, kB/s.";
    PcieGeneration Gpu Gauge "pcie_generation" "DCGM_FI_DEV_PCIE_LINK_GEN" 1.0 "Generation of the PCIe link now.";
    PcieWidth Gpu Gauge "pcie_width" "DCGM_FI_DEV_PCIE_LINK_WIDTH" 1.0 "Lanes of the PCIe link now.";
    MaxPcieGeneration Gpu Gauge "max_pcie_generation" "DCGM_FI_DEV_PCIE_MAX_LINK_GEN" 1.0 "Generation of PCIe that card and slot can.";
    MaxPcieWidth Gpu Gauge "max_pcie_width" "DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH" 1.0 "Lanes of PCIe that card and slot can.";
    NvlinksActive Gpu Gauge "nvlinks_active" "aictl_gpu_nvlinks_active" 1.0 "NVLinks that are up.";
    NvlinkTx Gpu Counter "nvlink_tx_bytes" "aictl_gpu_nvlink_tx_bytes_total" 1.0 "Sent over all NVLinks, bytes.";
    NvlinkRx Gpu Counter "nvlink_rx_bytes" "aictl_gpu_nvlink_rx_bytes_total" 1.0 "Received over all NVLinks, bytes.";
    NvlinkTxRate Gpu Gauge "nvlink_tx_bytes_per_s" "aictl_gpu_nvlink_tx_bytes_per_second" 1.0 "Sent over all NVLinks, bytes a second.";
    NvlinkRxRate Gpu Gauge "nvlink_rx_bytes_per_s" "aictl_gpu_nvlink_rx_bytes_per_second" 1.0 "Received over all NVLinks, bytes a second.";
    NvlinkCrcErrors Gpu Counter "nvlink_crc_errors" "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL" 1.0 "Wrong checksums on all NVLinks.";
    NvlinkReplays Gpu Counter "nvlink_replays" "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL" 1.0 "Packets sent again on all NVLinks.";
    NvlinkRecoveries Gpu Counter "nvlink_recoveries" "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL" 1.0 "Times that NVLinks were trained anew.";
    XidLast Gpu Gauge "xid_last" "DCGM_FI_DEV_XID_ERRORS" 1.0 "Last XID: since boot by the kernel's log, else since NVML is listened to.";
    Xids Gpu Counter "xids" "aictl_gpu_xids_total" 1.0 "XIDs: since boot by the kernel's log, else since NVML is listened to.";
    Idle Gpu Gauge "idle_s" "aictl_gpu_idle_seconds" 1.0 "Time since the GPU was last seen at work, or since it is watched, s.";
    LinkActive Link Gauge "active" "aictl_nvlink_active" 1.0 "1 if the NVLink is up.";
    LinkTx Link Counter "tx_bytes" "aictl_nvlink_tx_bytes_total" 1.0 "Sent over the NVLink, bytes.";
    LinkRx Link Counter "rx_bytes" "aictl_nvlink_rx_bytes_total" 1.0 "Received over the NVLink, bytes.";
    LinkCrcErrors Link Counter "crc_errors" "aictl_nvlink_crc_errors_total" 1.0 "Wrong checksums on the NVLink.";
    LinkReplays Link Counter "replays" "aictl_nvlink_replays_total" 1.0 "Packets sent again on the NVLink.";
    LinkRecoveries Link Counter "recoveries" "aictl_nvlink_recoveries_total" 1.0 "Times that the NVLink was trained anew.";
    InstanceMemoryUsed Instance Gauge "used_bytes" "aictl_mig_memory_used_bytes" 1.0 "Memory of the MIG device in use, bytes.";
    InstanceMemoryTotal Instance Gauge "total_bytes" "aictl_mig_memory_total_bytes" 1.0 "Memory of the MIG device, bytes.";
    ProcessMemory Process Gauge "gpu_memory_bytes" "aictl_process_gpu_memory_bytes" 1.0 "GPU memory that the process holds, bytes.";
    ProcessSm Process Gauge "sm_percent" "aictl_process_sm_utilisation_percent" 1.0 "Load of the SMs by the process, percent.";
    ProcessMemoryUtilisation Process Gauge "gpu_memory_bandwidth_percent" "aictl_process_memory_utilisation_percent" 1.0 "Share of time with memory used by the process, percent.";
    ProcessEncoder Process Gauge "encoder_percent" "aictl_process_encoder_utilisation_percent" 1.0 "Load of the encoder by the process, percent.";
    ProcessDecoder Process Gauge "decoder_percent" "aictl_process_decoder_utilisation_percent" 1.0 "Load of the decoder by the process, percent.";
    ProcessCpu Process Counter "cpu_s" "aictl_process_cpu_seconds_total" 1.0 "CPU time that the process has used, s.";
    ProcessResident Process Gauge "resident_bytes" "aictl_process_resident_bytes" 1.0 "Memory of the machine that the process holds, bytes.";
    Cpus Node Gauge "cpus" "aictl_node_cpus" 1.0 "CPUs.";
    CpuUsed Node Gauge "cpu_percent" "aictl_node_cpu_percent" 1.0 "Share of all CPUs in use, percent.";
    CpuBusy Node Counter "cpu_busy_s" "aictl_node_cpu_busy_seconds_total" 1.0 "Time that CPUs worked, all together, s.";
    Load1 Node Gauge "load_1m" "aictl_node_load1" 1.0 "Tasks that run or wait, mean of a minute.";
    Load5 Node Gauge "load_5m" "aictl_node_load5" 1.0 "Tasks that run or wait, mean of five minutes.";
    RamTotal Node Gauge "ram_total_bytes" "aictl_node_memory_total_bytes" 1.0 "Memory, bytes.";
    RamAvailable Node Gauge "ram_available_bytes" "aictl_node_memory_available_bytes" 1.0 "Memory that programs can still have, bytes.";
    CpuPressure Node Gauge "cpu_pressure_percent" "aictl_node_pressure_cpu_percent" 1.0 "Time that some task waited for a CPU, percent of the last 10 s.";
    MemoryPressure Node Gauge "memory_pressure_percent" "aictl_node_pressure_memory_percent" 1.0 "Time that some task waited for memory, percent of the last 10 s.";
    IoPressure Node Gauge "io_pressure_percent" "aictl_node_pressure_io_percent" 1.0 "Time that some task waited for a disk, percent of the last 10 s.";
    DiskRead Node Counter "disk_read_bytes" "aictl_node_disk_read_bytes_total" 1.0 "Read from disks, bytes.";
    DiskWritten Node Counter "disk_written_bytes" "aictl_node_disk_written_bytes_total" 1.0 "Written to disks, bytes.";
    DiskReadRate Node Gauge "disk_read_bytes_per_s" "aictl_node_disk_read_bytes_per_second" 1.0 "Read from disks, bytes a second.";
    DiskWriteRate Node Gauge "disk_write_bytes_per_s" "aictl_node_disk_written_bytes_per_second" 1.0 "Written to disks, bytes a second.";
    RdmaPorts Node Gauge "rdma_ports_active" "aictl_node_rdma_ports_active" 1.0 "Ports of InfiniBand and RoCE that are up.";
    RdmaTx Node Counter "rdma_tx_bytes" "aictl_node_rdma_tx_bytes_total" 1.0 "Sent over InfiniBand and RoCE, bytes.";
    RdmaRx Node Counter "rdma_rx_bytes" "aictl_node_rdma_rx_bytes_total" 1.0 "Received over InfiniBand and RoCE, bytes.";
    RdmaTxRate Node Gauge "rdma_tx_bytes_per_s" "aictl_node_rdma_tx_bytes_per_second" 1.0 "Sent over InfiniBand and RoCE, bytes a second.";
    RdmaRxRate Node Gauge "rdma_rx_bytes_per_s" "aictl_node_rdma_rx_bytes_per_second" 1.0 "Received over InfiniBand and RoCE, bytes a second.";
}

impl Metric {
    /// All of a scope, in the order of the table.
    pub fn of(scope: Scope) -> impl Iterator<Item = Metric> {
        TABLE.iter().filter(move |entry| entry.scope == scope).map(|entry| entry.metric)
    }

    fn entry(self) -> &'static Entry {
        // The table is made from the same list as the type, in the same order.
        &TABLE[self as usize]
    }

    /// Key in JSON, with the unit at its end.
    pub fn key(self) -> &'static str {
        self.entry().key
    }

    /// Name for Prometheus.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// What a value is multiplied by for Prometheus.
    pub fn scale(self) -> f64 {
        self.entry().scale
    }

    /// What it means, with the unit that Prometheus sees.
    pub fn help(self) -> &'static str {
        self.entry().help
    }

    /// How it moves.
    pub fn kind(self) -> Kind {
        self.entry().kind
    }

    /// What it is about.
    pub fn scope(self) -> Scope {
        self.entry().scope
    }

    /// By its name for Prometheus.
    pub fn named(name: &str) -> Option<Metric> {
        TABLE.iter().find(|entry| entry.name == name).map(|entry| entry.metric)
    }

    /// Its place in the table by its key. Keys come in the table's order, mostly: it is looked for
    /// behind `after` first.
    fn keyed(key: &str, after: usize) -> Option<usize> {
        let (before, behind) = TABLE.split_at(after.min(TABLE.len()));
        let is = |entry: &Entry| entry.key == key;
        behind.iter().position(is).map(|place| place + before.len()).or_else(|| before.iter().position(is))
    }
}

/// Values by metric. What is not supported or could not be read is absent, never 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(Vec<(Metric, f64)>);

impl Values {
    /// A value.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == metric).map(|(_, value)| *value)
    }

    /// Sets a value; one that is no number is absent.
    pub fn set(&mut self, metric: Metric, value: impl Into<Option<f64>>) {
        let Some(value) = value.into().filter(|value| value.is_finite()) else { return };
        match self.0.iter_mut().find(|(known, _)| *known == metric) {
            Some((_, old)) => *old = value,
            None => self.0.push((metric, value)),
        }
    }

    /// All that are there.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, f64)> {
        self.0.iter().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Memory in use, share of 1.
    pub fn memory_share(&self) -> Option<f64> {
        let total = self.get(Metric::MemoryTotal).or_else(|| {
            Some(
                self.get(Metric::MemoryUsed)?
                    + self.get(Metric::MemoryFree)?
                    + self.get(Metric::MemoryReserved).unwrap_or(0.0),
            )
        })?;
        Some(self.get(Metric::MemoryUsed)? / total).filter(|share| share.is_finite())
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (metric, value) in &self.0 {
            // Counts are whole numbers in JSON, too; up to 2^53 a float holds them exactly.
            if value.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(value) {
                map.serialize_entry(metric.key(), &(*value as u64))?;
            } else {
                map.serialize_entry(metric.key(), value)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("values by key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Vec::with_capacity(TABLE.len());
                let mut after = 0;
                // Keys of a newer agent are not known, and passed over.
                while let Some(place) = map.next_key_seed(Key { after })? {
                    match place.and_then(|place| Some((place, TABLE.get(place)?))) {
                        Some((place, entry)) => {
                            values.push((entry.metric, map.next_value()?));
                            after = place + 1;
                        }
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                // A fleet has many.
                values.shrink_to_fit();
                Ok(Values(values))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// A key that is looked up without being kept.
struct Key {
    after: usize,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<usize>, E> {
        Ok(Metric::keyed(text, self.after))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_metrics_share_a_key_or_a_name() {
        let keys: HashSet<_> = TABLE.iter().map(|entry| entry.key).collect();
        let names: HashSet<_> = TABLE.iter().map(|entry| entry.name).collect();
        assert_eq!((keys.len(), names.len()), (TABLE.len(), TABLE.len()));
        assert!(Metric::of(Scope::Gpu).count() >= 40);
        for (at, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.metric as usize, at);
            assert!(entry.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{}", entry.name);
            let counts = entry.name.starts_with("DCGM") || entry.name.ends_with("_total");
            assert!(entry.kind == Kind::Gauge || counts, "{}: a counter's name ends in _total", entry.name);
        }
    }

    #[test]
    fn values_survive_json_and_what_is_absent_stays_so() {
        let mut values = Values::default();
        values.set(Metric::Utilisation, 97.0);
        values.set(Metric::Power, 412.5);
        values.set(Metric::Energy, None);
        values.set(Metric::Temperature, f64::NAN);
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(text, r#"{"utilisation_percent":97,"power_w":412.5}"#);
        let newer = text.replace('}', r#","new_key":[1,2]}"#);
        assert_eq!(serde_json::from_str::<Values>(&newer).unwrap(), values);
        // In any order.
        let turned: Values = serde_json::from_str(r#"{"power_w":412.5,"x":1,"utilisation_percent":97}"#).unwrap();
        assert_eq!(turned.get(Metric::Power), Some(412.5));
        assert_eq!(turned.get(Metric::Utilisation), Some(97.0));
    }

    #[test]
    fn every_key_is_found_wherever_it_is_looked_for_first() {
        for (place, entry) in TABLE.iter().enumerate() {
            for after in [0, place, place + 1, TABLE.len(), usize::MAX] {
                assert_eq!(Metric::keyed(entry.key, after), Some(place));
            }
        }
        assert_eq!(Metric::keyed("", 3), None);
    }
}
