//! Facts of a machine, as plain data: what the readers of `host` fill in and the judges here take.
//! No judgement, no reading.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Speed and lanes of a PCIe link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Transfers a second on a lane, in millions: 16000 is generation 4.
    pub megatransfers: u32,
    /// Lanes.
    pub width: u32,
}

/// A device on PCI.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PciDevice {
    /// "0000:3b:00.0".
    pub address: String,
    /// 0x10de is NVIDIA.
    pub vendor: u32,
    /// The vendor's number of the product.
    pub device: u32,
    /// Class, subclass and interface: 0x030200 is a GPU without a display.
    pub class: u32,
    /// Kernel driver that has it.
    pub driver: Option<String>,
    /// "D0" is awake.
    pub power_state: Option<String>,
    /// NUMA node, where there is more than one.
    pub numa: Option<u32>,
    /// A virtual function of another device.
    pub is_virtual: bool,
    /// The link as it runs.
    pub link: Option<Link>,
    /// The best that the device can do.
    pub best: Option<Link>,
    /// The best that the port above can do.
    pub port_best: Option<Link>,
    /// Errors since boot.
    pub aer: Option<Aer>,
}

/// PCIe errors that a device has reported since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Aer {
    /// Corrected.
    pub corrected: u64,
    /// Not corrected, link still up.
    pub nonfatal: u64,
    /// Not corrected, link in doubt.
    pub fatal: u64,
}

/// A port of an RDMA adapter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RdmaPort {
    /// "mlx5_0".
    pub adapter: String,
    /// "1".
    pub port: String,
    /// Address of the adapter.
    pub pci: Option<String>,
    /// A virtual function: its port follows the physical one.
    pub is_virtual: bool,
    /// "InfiniBand" or "Ethernet".
    pub link_layer: String,
    /// "ACTIVE", "INIT", "DOWN".
    pub state: String,
    /// "LinkUp", "Polling", "Disabled".
    pub physical: String,
    /// "400 Gb/sec (4X NDR)".
    pub rate: String,
    /// Error counters by name.
    pub counters: BTreeMap<String, u64>,
}

/// A file system that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// "ext4".
    pub kind: String,
    /// "/dev/nvme0n1p2".
    pub source: String,
    /// This mount may not be written to.
    pub read_only: bool,
    /// The whole file system may not be written to.
    pub file_system_read_only: bool,
    /// /etc/fstab says that it is to be writable; `None` if it does not name it.
    pub wanted_writable: Option<bool>,
    /// Room on it.
    pub room: Room,
}

/// Room on a file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Room {
    /// Of no interest for its kind.
    #[default]
    NotAsked,
    /// It did not answer in time.
    NoAnswer,
    /// It can't be asked.
    Unknown(String),
    /// So much.
    Known {
        /// Size in bytes.
        bytes: u64,
        /// Bytes that programs may still use.
        free_bytes: u64,
        /// Files it can hold; 0 if it has no such limit.
        inodes: u64,
        /// Files that can still be made.
        free_inodes: u64,
    },
}

/// Processes and threads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Tasks {
    /// Processes seen.
    pub processes: u64,
    /// Threads seen.
    pub threads: u64,
    /// Processes that ended and were not collected.
    pub zombies: u64,
    /// The parent with the most of them: number, name, how many.
    pub zombie_parent: Option<(u32, String, u64)>,
    /// Threads that have waited in the kernel without a break.
    pub stuck: Vec<StuckTask>,
    /// Not all could be seen.
    pub partial: bool,
}

/// A thread that waits in the kernel where no signal wakes it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StuckTask {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// A thread of the kernel itself.
    pub kernel: bool,
    /// When it began, ticks since boot; tells it from a later one of the same number.
    pub started: u64,
    /// Times it was switched away from: unchanged means that it has not run.
    pub switches: u64,
    /// How long it has not run, seconds; `None` where the kernel does not say.
    pub waited_s: Option<f64>,
    /// Function it waits in, where it may be read.
    pub waits_in: String,
    /// Where it waits, innermost first, where it may be read.
    pub stack: Vec<String>,
}

/// A process that has devices open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// "/dev/nvidia0", sorted.
    pub devices: Vec<String>,
}

/// Who has the GPUs' device files open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holders {
    /// By process.
    pub holders: Vec<Holder>,
    /// Device files there are.
    pub devices: Vec<String>,
    /// Processes whose open files may not be read.
    pub hidden: u64,
}

/// The kernel's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSync {
    /// Somebody keeps it in step.
    pub synchronised: bool,
    /// Largest error it may have, microseconds.
    pub largest_error_us: i64,
    /// Time since boot, seconds.
    pub uptime_s: u64,
}

/// A unit of systemd.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// "kubelet.service".
    pub unit: String,
    /// "loaded", "not-found", "masked".
    pub load: String,
    /// "active", "inactive", "failed", "activating".
    pub active: String,
    /// "running", "dead", "auto-restart".
    pub sub: String,
    /// "enabled", "disabled", "static".
    pub enabled: String,
    /// "success", "exit-code", "oom-kill".
    pub result: String,
    /// Times it was started again by itself.
    pub restarts: u64,
    /// Conditions in the unit file for a start are met.
    pub conditions_met: bool,
    /// How long it has been in its state, seconds.
    pub for_s: Option<u64>,
}

/// How much of something limited is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// In use.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// Limits of the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Connections that the kernel tracks.
    pub connections: Option<Share>,
    /// Processes and threads.
    pub tasks: Option<Share>,
    /// Open files.
    pub files: Option<Share>,
}

/// A memory controller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryController {
    /// "mc0".
    pub name: String,
    /// Errors corrected since boot.
    pub corrected: u64,
    /// Errors not corrected since boot.
    pub uncorrected: u64,
    /// Modules: label, corrected, not corrected.
    pub modules: Vec<(String, u64, u64)>,
}

/// What a crash left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CrashRecord {
    /// File's name.
    pub name: String,
    /// It is of a panic, not of a mere oops or shutdown.
    pub panic: bool,
    /// When.
    pub at: Option<Timestamp>,
    /// The lines that say most.
    pub lines: Vec<String>,
}
