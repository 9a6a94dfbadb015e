//! The uprobe layers against real processes: PyTorch, CUDA, NCCL, gloo. Need root.

mod gpu;
mod rig;
mod safety;
#[path = "../support/mod.rs"]
mod support;
mod torch;
