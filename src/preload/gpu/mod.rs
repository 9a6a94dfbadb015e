//! Loads tensors into GPU memory through the CUDA driver, to see how fast it goes and to keep them
//! there for a loader.
//!
//! The driver's library is opened at run time, and only in a process of its own: a call into a
//! broken driver may never come back. That process tells what it does, line by line; one that says
//! nothing for too long is killed.

mod driver;
mod load;
mod report;
mod session;
mod staging;

pub use report::{GpuLoad, Keep, Order, OrderedFile, Unable};
pub use session::{ARGUMENT, load, serve};
