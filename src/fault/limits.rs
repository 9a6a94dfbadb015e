//! Where soft faults begin: a site's own numbers, in a file of its checks; what it leaves out stays
//! as the project has it.

use serde::Deserialize;

use super::gpu;

/// All limits. Keys name their unit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// What GPUs report of themselves.
    pub gpu: gpu::Limits,
    /// Ports of RDMA adapters.
    pub rdma: Rdma,
    /// PCIe devices.
    pub pci: Corrected,
    /// The machine's memory.
    pub memory: Corrected,
    /// Room on disks.
    pub disks: Disks,
    /// Processes.
    pub tasks: Tasks,
}

/// Of a port. Defaults: NVSentinel's link counters and gpud's port checks (see the catalogue).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rdma {
    /// Symbol errors an hour, over which the link is as good as lost. Default: what the InfiniBand
    /// standard allows for its bit error rate.
    pub symbols_per_hour: f64,
    /// Symbol errors a second.
    pub symbols_per_second: f64,
    /// Errors in what was received, a second.
    pub receive_errors_per_second: f64,
    /// Packets thrown away, a second.
    pub discards_per_second: f64,
    /// Acknowledgements that came too late (RoCE), a second.
    pub ack_timeouts_per_second: f64,
    /// Losses of the link within 5 minutes that make it flap.
    pub flaps: u64,
}

impl Default for Rdma {
    fn default() -> Rdma {
        Rdma {
            symbols_per_hour: 120.0,
            symbols_per_second: 10.0,
            receive_errors_per_second: 10.0,
            discards_per_second: 100.0,
            ack_timeouts_per_second: 1.0,
            flaps: 2,
        }
    }
}

/// Errors that were corrected.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Corrected {
    /// An hour.
    pub corrected_per_hour: u64,
}

impl Default for Corrected {
    fn default() -> Corrected {
        Corrected { corrected_per_hour: 10 }
    }
}

/// Shares that must be free. Defaults: the kubelet's limits for its eviction.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disks {
    /// Of the room on the system's file systems.
    pub room: f64,
    /// Of their inodes.
    pub inodes: f64,
    /// Of both on others, which people fill on purpose.
    pub data_room: f64,
}

impl Default for Disks {
    fn default() -> Disks {
        Disks { room: 0.10, inodes: 0.05, data_room: 0.01 }
    }
}

/// Of processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tasks {
    /// A thread that waits in the kernel for so long hangs, s. Default: the kernel's own (hung_task_timeout_secs).
    pub hung_s: f64,
    /// Zombies.
    pub zombies: u64,
}

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks { hung_s: 120.0, zombies: 100 }
    }
}

impl Limits {
    /// What is wrong with them: a limit that everything exceeds, or nothing can.
    ///
    /// # Errors
    /// The key, and why.
    pub fn check(&self) -> Result<(), String> {
        let (gpu, rdma, disks) = (&self.gpu, &self.rdma, &self.disks);
        for (key, rate) in [
            ("gpu.corrected_per_hour", gpu.corrected_per_hour),
            ("gpu.replays_per_minute", gpu.replays_per_minute),
            ("gpu.crc_per_second", gpu.crc_per_second),
            ("rdma.symbols_per_hour", rdma.symbols_per_hour),
            ("rdma.symbols_per_second", rdma.symbols_per_second),
            ("rdma.receive_errors_per_second", rdma.receive_errors_per_second),
            ("rdma.discards_per_second", rdma.discards_per_second),
            ("rdma.ack_timeouts_per_second", rdma.ack_timeouts_per_second),
            ("tasks.hung_s", self.tasks.hung_s),
        ] {
            if !(rate.is_finite() && rate > 0.0) {
                return Err(format!("{key}: {rate} is not above 0"));
            }
        }
        for (key, share) in [
            ("gpu.slow_clock", gpu.slow_clock),
            ("disks.room", disks.room),
            ("disks.inodes", disks.inodes),
            ("disks.data_room", disks.data_room),
        ] {
            if !(0.0..1.0).contains(&share) {
                return Err(format!("{key}: {share} is no share from 0 to 1"));
            }
        }
        for (key, count) in [
            ("gpu.uncorrectable_rows", u64::from(gpu.uncorrectable_rows)),
            ("gpu.retired_pages", u64::from(gpu.retired_pages)),
            ("rdma.flaps", rdma.flaps),
            ("pci.corrected_per_hour", self.pci.corrected_per_hour),
            ("memory.corrected_per_hour", self.memory.corrected_per_hour),
            ("tasks.zombies", self.tasks.zombies),
        ] {
            if count == 0 {
                return Err(format!("{key}: 0 would make every machine faulty"));
            }
        }
        if !(1..=100).contains(&gpu.busy_percent) {
            return Err(format!("gpu.busy_percent: {} is not from 1 to 100", gpu.busy_percent));
        }
        match gpu.hottest_c {
            Some(degrees) if !(40..=120).contains(&degrees) => {
                Err(format!("gpu.hottest_c: {degrees} °C is not from 40 to 120"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_and_the_defaults_are_fine() {
        let read = |yaml: &str| serde_yaml::from_str::<Limits>(yaml).map_err(|error| error.to_string());
        assert!(Limits::default().check().is_ok());
        let some = read("gpu: {hottest_c: 80, corrected_per_hour: 5}\nrdma: {flaps: 4}").unwrap();
        assert!(some.check().is_ok());
        assert_eq!((some.gpu.hottest_c, some.rdma.flaps, some.gpu.retired_pages), (Some(80), 4, 64));
        for wrong in [
            "gpu: {hottest_c: 800}",
            "gpu: {corrected_per_hour: -1}",
            "gpu: {corrected_per_hour: .nan}",
            "gpu: {busy_percent: 0}",
            "disks: {room: 10}",
            "rdma: {flaps: 0}",
            "tasks: {hung_s: 0}",
        ] {
            assert!(read(wrong).unwrap().check().is_err(), "{wrong}");
        }
        for unknown in ["gpus: {}", "gpu: {hottest: 80}", "gpu: {hottest_c: hot}"] {
            assert!(read(unknown).is_err(), "{unknown}");
        }
    }
}
