//! The uprobe layers against real processes: PyTorch, CUDA, NCCL, gloo. Need root.
#![allow(clippy::unwrap_used, reason = "what a test needs fails it where it is missing")]

mod gpu;
mod rig;
mod safety;
#[path = "../support/mod.rs"]
mod support;
mod torch;
