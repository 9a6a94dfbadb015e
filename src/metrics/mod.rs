//! What is measured of nodes, their GPUs and the processes on these: plain data, with a name, a
//! unit and a meaning for each value, the text that Prometheus reads, and what follows for jobs.
//!
//! Uses no other room. The readers of `gpu`, `host` and `cmd::top` fill it in. Pure: no clock, file,
//! network or process.

pub mod exposition;
pub mod jobs;
pub mod prometheus;
pub mod rates;
mod sample;
mod table;
#[cfg(test)]
pub mod testing;
mod throttle;

pub use sample::{GpuSample, InstanceSample, LinkSample, NodeSample, PodRef, ProcessSample};
pub use table::{Kind, Metric, Scope, Values};
pub use throttle::reasons;

/// A maker of accelerators. NVIDIA's are read through NVML; AMD's and Huawei's have their place
/// here, and no reader yet. A reader gives absent values for what its devices don't tell.
pub trait Accelerators {
    /// Reads all devices of this machine; ends by the deadline whatever the driver does.
    ///
    /// # Errors
    /// A sentence: why nothing could be read.
    fn read(&mut self, deadline: std::time::Duration) -> Result<Vec<GpuSample>, String>;

    /// The driver's version, as far as the last reading told it.
    fn driver(&self) -> Option<String>;
}
