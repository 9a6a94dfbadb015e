//! What is to be known of GPUs: one value a reading. "Not supported" and "could not be read" are
//! values of their own, for neither is a fault. The readers of `gpu` fill it in.

use serde::{Deserialize, Serialize};

/// What came of reading something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    /// It is so.
    Value(T),
    /// This GPU or driver has no such thing.
    #[default]
    NotSupported,
    /// It could not be read.
    Failed(Failure),
}

impl<T> Reading<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Reading::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The value turned into another.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Reading::Value(value) => Reading::Value(turn(value)),
            Reading::NotSupported => Reading::NotSupported,
            Reading::Failed(failure) => Reading::Failed(failure),
        }
    }
}

/// Why a reading failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The driver has lost the GPU.
    Lost,
    /// The GPU wants a reset before it says anything.
    ResetRequired,
    /// The store of the GPU's settings is damaged.
    InforomCorrupt,
    /// Not allowed.
    NoPermission,
    /// Anything else, in the library's words.
    Other(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Failure::Lost => "the driver has lost the GPU",
            Failure::ResetRequired => "the GPU needs a reset first",
            Failure::InforomCorrupt => "the InfoROM is corrupt",
            Failure::NoPermission => "not permitted",
            Failure::Other(words) => words,
        })
    }
}

/// What NVML said, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Versions; `None` if NVML did not start.
    pub driver: Option<Driver>,
    /// GPUs that NVML counts; `None` if it did not start.
    pub count: Option<u32>,
    /// GPUs that were read, in order of their index.
    pub gpus: Vec<Gpu>,
    /// How it ended.
    pub end: End,
    /// How long it took, ms.
    pub took_ms: u64,
}

/// How a look at NVML ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All GPUs were read.
    Whole,
    /// libnvidia-ml.so.1 is not there, or can't be used.
    NoLibrary(String),
    /// The kernel module is not loaded.
    DriverNotLoaded,
    /// Library and kernel module are of different versions.
    VersionMismatch,
    /// NVML would not start for another reason.
    Refused(String),
    /// A call did not come back in time.
    Hung {
        /// In which: "start", "GPU 3".
        at: String,
        /// What the process that called does: 'D' is stuck in the kernel.
        state: Option<char>,
    },
    /// An earlier look hangs in the kernel still, so no other was begun.
    StillHung {
        /// The process that hangs.
        pid: u32,
    },
    /// The process that called ended without saying why.
    Broke(String),
}

/// Versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Of the driver, "570.86.15".
    pub version: Option<String>,
    /// Of NVML, "12.570.86.15".
    pub nvml: Option<String>,
    /// Newest CUDA that the driver can, "12.8".
    pub cuda: Option<String>,
}

/// One GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's index.
    pub index: u32,
    /// Whether it could be opened; if not, all else is empty.
    pub opened: Reading<()>,
    /// "GPU-…".
    pub uuid: Option<String>,
    /// "0000:3b:00.0".
    pub pci: Option<String>,
    /// "NVIDIA H100 80GB HBM3".
    pub name: Option<String>,
    /// Serial number of the board.
    pub serial: Option<String>,
    /// "Hopper".
    pub architecture: Option<String>,
    /// MIG on: now, and after the next reset.
    pub mig: Reading<Switch>,
    /// MIG devices.
    pub instances: Vec<Instance>,
    /// What the GPU asks for: 0 nothing, 1 reset, 2 reboot, 3 drain of peer-to-peer work, 4 drain
    /// and reset.
    pub recovery_action: Reading<u32>,
    /// Memory errors.
    pub ecc: Ecc,
    /// Rows of memory replaced (Ampere and later).
    pub rows: Reading<Rows>,
    /// Banks by spare rows left (Ampere and later).
    pub banks: Reading<Banks>,
    /// Pages of memory retired (before Ampere).
    pub pages: Pages,
    /// The checksum of the InfoROM holds.
    pub inforom: Reading<()>,
    /// NVLinks by number; empty where it has none.
    pub links: Vec<Link>,
    /// The PCIe link.
    pub pcie: Pcie,
    /// Clocks and load.
    pub clocks: Clocks,
    /// Temperatures.
    pub thermal: Thermal,
    /// Power drawn, mW.
    pub power_mw: Reading<u32>,
    /// Power allowed, mW.
    pub power_limit_mw: Reading<u32>,
    /// Membership in the NVLink fabric.
    pub fabric: Reading<Fabric>,
    /// The driver keeps the GPU awake without a program.
    pub persistence: Reading<bool>,
    /// Memory in all, bytes.
    pub memory_total_bytes: Reading<u64>,
    /// Memory in use, bytes.
    pub memory_used_bytes: Reading<u64>,
    /// Programs that compute on it.
    pub processes: Reading<Vec<Process>>,
}

/// On or off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Now.
    pub current: bool,
    /// After the next reset.
    pub pending: bool,
}

/// A MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// "MIG-…".
    pub uuid: Option<String>,
    /// Number of the GPU instance.
    pub gpu_instance: Option<u32>,
    /// Number of the compute instance in it.
    pub compute_instance: Option<u32>,
}

/// Memory errors and their correction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ecc {
    /// On: now, and after the next reset.
    pub mode: Reading<Switch>,
    /// On, as it left the factory.
    pub on_by_default: Reading<bool>,
    /// Corrected since the driver was loaded or the GPU reset.
    pub volatile_corrected: Reading<u64>,
    /// Uncorrected since then.
    pub volatile_uncorrected: Reading<u64>,
    /// Corrected in its life.
    pub aggregate_corrected: Reading<u64>,
    /// Uncorrected in its life.
    pub aggregate_uncorrected: Reading<u64>,
    /// The GPU says that its SRAM had too many.
    pub sram_threshold_exceeded: Reading<bool>,
}

/// Rows of memory that were replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// After correctable errors.
    pub correctable: u32,
    /// After uncorrectable errors.
    pub uncorrectable: u32,
    /// A replacement waits for a reset.
    pub pending: bool,
    /// A replacement has failed.
    pub failure: bool,
}

/// Banks by spare rows left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banks {
    /// All spares left.
    pub max: u32,
    /// Many.
    pub high: u32,
    /// Some.
    pub partial: u32,
    /// One.
    pub low: u32,
    /// None.
    pub none: u32,
}

/// Pages of memory that were retired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// Some wait for a reload of the driver.
    pub pending: Reading<bool>,
    /// After several corrected errors.
    pub corrected: Reading<u32>,
    /// After an uncorrected error.
    pub uncorrected: Reading<u32>,
}

/// One NVLink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// It is up.
    pub active: Reading<bool>,
    /// Packets with a wrong checksum.
    pub crc_errors: Reading<u64>,
    /// Packets sent again.
    pub replays: Reading<u64>,
    /// Times the link was trained anew.
    pub recoveries: Reading<u64>,
    /// What is at its other end, where it is up.
    #[serde(default)]
    pub end: Reading<LinkEnd>,
}

/// The other end of an NVLink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkEnd {
    /// Another GPU, by its PCI address.
    Gpu(String),
    /// A switch.
    Switch,
    /// Something else: a processor.
    Other,
}

/// The PCIe link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pcie {
    /// Lanes now.
    pub width: Reading<u32>,
    /// Lanes that card and slot can.
    pub max_width: Reading<u32>,
    /// Generation now; lower when idle.
    pub generation: Reading<u32>,
    /// Generation that card and slot can.
    pub max_generation: Reading<u32>,
    /// Packets sent again.
    pub replays: Reading<u32>,
}

/// Clocks, and why they are not higher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// Of the SMs, MHz.
    pub sm_mhz: Reading<u32>,
    /// The highest of the SMs, MHz.
    pub max_sm_mhz: Reading<u32>,
    /// Of the memory, MHz.
    pub memory_mhz: Reading<u32>,
    /// The highest of the memory, MHz.
    pub max_memory_mhz: Reading<u32>,
    /// NVML's bits of reasons.
    pub reasons: Reading<u64>,
    /// 0 is the fastest.
    pub performance_state: Reading<u32>,
    /// Share of time with a kernel running, percent.
    pub utilisation_percent: Reading<u32>,
    /// Share of time with memory in use, percent.
    pub memory_utilisation_percent: Reading<u32>,
}

/// Bits of [`Clocks::reasons`].
pub mod reason {
    /// Nothing runs.
    pub const IDLE: u64 = 0x1;
    /// Set so by somebody.
    pub const APPLICATION_CLOCKS: u64 = 0x2;
    /// The power limit is reached.
    pub const POWER_CAP: u64 = 0x4;
    /// Hardware has halved the clocks, or worse.
    pub const HARDWARE_SLOWDOWN: u64 = 0x8;
    /// In step with another GPU.
    pub const SYNC_BOOST: u64 = 0x10;
    /// The driver lowers the clocks for heat.
    pub const SOFTWARE_THERMAL: u64 = 0x20;
    /// Hardware lowers the clocks for heat.
    pub const HARDWARE_THERMAL: u64 = 0x40;
    /// The server has asked for less power at once.
    pub const POWER_BRAKE: u64 = 0x80;
}

/// Temperatures, degrees Celsius.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thermal {
    /// Of the GPU.
    pub gpu_c: Reading<u32>,
    /// Where hardware slows down.
    pub slowdown_c: Reading<u32>,
    /// Where it shuts down.
    pub shutdown_c: Reading<u32>,
}

/// Membership in the NVLink fabric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fabric {
    /// 0 not supported, 1 not started, 2 in progress, 3 completed.
    pub state: u8,
    /// NVML's code of what went wrong, if completed.
    pub status: u32,
    /// NVML's bits of health, on newer drivers.
    pub health: Option<u32>,
}

/// A program on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// GPU memory that it holds, bytes.
    pub used_bytes: Option<u64>,
}

/// What the machine knows of its GPUs without NVML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bus {
    /// NVIDIA GPUs on PCI, by address.
    pub gpus: Vec<BusGpu>,
    /// Numbers of the files /dev/nvidiaN.
    pub device_files: Vec<u32>,
    /// Version of the kernel module, if it is loaded.
    pub module: Option<String>,
    /// PCI could be looked at.
    pub seen: bool,
    /// This is a container, which may have been given a part of the GPUs.
    pub contained: bool,
    /// Since boot, s.
    pub uptime_s: u64,
}

/// An NVIDIA GPU on PCI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusGpu {
    /// "0000:3b:00.0".
    pub pci: String,
    /// The kernel driver that has it.
    pub driver: Option<String>,
}
