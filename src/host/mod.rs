//! One machine as it is: processes, their memory maps, limits, clocks.
//!
//! Reads /proc and /sys, and runs programs that look, on a leash; changes nothing. Of other rooms
//! it uses only `fault::facts` and `metrics`, the plain data that judges take.

pub mod apart;
pub mod block_device;
pub mod command;
pub mod container;
pub mod gpu_holders;
pub mod infiniband;
pub mod kernel_log;
pub mod load;
pub mod machine;
pub mod maps;
pub mod memory;
pub mod memory_room;
pub mod mounts;
pub mod open_files;
pub mod owners;
pub mod page_cache;
pub mod pci;
pub mod process;
pub mod services;
pub mod state_file;
pub mod system;
pub mod tasks;
pub mod tree;
pub mod trust;
