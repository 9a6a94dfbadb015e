//! One machine as it is: processes, their memory maps, limits, clocks.
//!
//! Reads /proc and /sys; changes nothing; uses no other room.

pub mod apart;
pub mod kernel_log;
pub mod machine;
pub mod maps;
pub mod memory;
pub mod process;
pub mod state_file;
