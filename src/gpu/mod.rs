//! NVIDIA GPUs of one machine: what NVML, the PCI bus and /dev say of them, as plain facts.
//!
//! NVML is loaded at run time and only ever called in a process of its own, since a call into a
//! broken driver may never come back. Uses the facts of `fault` and the values of `metrics`, which it
//! fills in, and no other room; changes nothing and judges nothing.

pub mod bus;
pub mod events;
mod raw;
mod read;
mod sample;
pub mod sampler;
pub mod session;
