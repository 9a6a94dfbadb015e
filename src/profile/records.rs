//! The kernel's records as Rust sees them: the mirror of bpf/common.bpf.h.

use bytemuck::{AnyBitPattern, Pod, Zeroable};

/// `enum kind` of common.bpf.h.
pub mod kind {
    #![allow(missing_docs)]
    pub const ON_CPU: u16 = 1;
    pub const OFF_CPU: u16 = 2;
    pub const SYSCALL: u16 = 3;
    pub const OP: u16 = 4;
    pub const CUDA: u16 = 5;
    pub const NCCL: u16 = 16;
    pub const TORCH: u16 = 17;
    pub const BLOCK: u16 = 18;
    pub const FAULT: u16 = 19;
    pub const FORK: u16 = 20;
    pub const EXEC: u16 = 21;
    pub const EXIT: u16 = 22;
    pub const MAPPED: u16 = 23;
    pub const PATH: u16 = 24;
}

/// Starts every record.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Head {
    /// CLOCK_MONOTONIC, ns.
    pub start: u64,
    /// ns.
    pub dur: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Depends on the kind.
    pub id: u32,
    /// [`kind`].
    pub kind: u16,
    /// Depends on the kind.
    pub aux: u16,
}

/// A thread off the CPU; `head.id` is the system call's number + 1, `head.aux` the state's bits.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct OffCpu {
    /// Common part.
    pub head: Head,
    /// From the wake-up to running again, ns.
    pub runnable: u64,
    /// Thread that woke it, 0 if unknown.
    pub waker: u32,
    /// `OFF_*`.
    pub flags: u32,
}

/// A system call; `head.id` is its number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Syscall {
    /// Common part.
    pub head: Head,
    /// What it returned.
    pub ret: i64,
    /// First argument.
    pub arg0: u64,
    /// Second argument.
    pub arg1: u64,
    /// Key of a [`PathEvent`], 0 for none.
    pub file: u64,
}

/// A call of a probed C function.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Call {
    /// Common part; `id` is the probe's.
    pub head: Head,
    /// Integer arguments.
    pub args: [u64; 6],
    /// Seventh and eighth argument.
    pub stack: [u64; 2],
    /// Return address on entry.
    pub caller: u64,
    /// Returned value.
    pub ret: u64,
    /// Probe-specific.
    pub extra: u64,
    /// Probe-specific text, NUL-ended.
    pub text: [u8; 64],
}

/// A block request; `head.id` is the device, `head.aux` the operation.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Block {
    /// Common part.
    pub head: Head,
    /// First sector.
    pub sector: u64,
    /// Length.
    pub bytes: u32,
    /// Unused.
    pub pad: u32,
    /// Disk's name, NUL-ended.
    pub disk: [u8; 32],
}

/// A major page fault.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Fault {
    /// Common part.
    pub head: Head,
    /// Address that was missing.
    pub address: u64,
}

/// A fork, exec or exit.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct Task {
    /// Common part.
    pub head: Head,
    /// Thread's name, NUL-ended.
    pub comm: [u8; 16],
}

/// Room for text in a [`PathEvent`].
pub const PATH_TEXT: usize = 768;

/// The path behind a file key; `head.aux` counts its parts.
#[repr(C)]
#[derive(Debug, Clone, Copy, AnyBitPattern)]
pub struct PathEvent {
    /// Common part; `id` is the inode's mode.
    pub head: Head,
    /// The key.
    pub file: u64,
    /// Descriptor it was first seen under.
    pub fd: u32,
    /// Bytes used in `text`.
    pub len: u32,
    /// NUL-separated components, the last one first.
    pub text: [u8; PATH_TEXT],
}

/// One frame of a Python stack.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Address of the code object.
    pub code: u64,
    /// Instruction pointer inside it, as the version keeps it.
    pub ip: u64,
    /// Address of the interpreter's frame.
    pub at: u64,
}

/// Head of a Python stack; `head.aux` frames follow, innermost first; `head.id` is `stack_flag`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct StackHead {
    /// Common part.
    pub head: Head,
    /// User instruction pointer.
    pub ip: u64,
}

/// `STACK_*` of common.bpf.h.
pub mod stack_flag {
    #![allow(missing_docs)]
    pub const WAITING: u32 = 1;
    pub const GIL_HELD: u32 = 2;
    pub const TRUNCATED: u32 = 8;
    pub const FAULT: u32 = 16;
}

/// Reads a record of type `T` from the front of `bytes`; `None` if they are too short.
pub fn read<T: AnyBitPattern>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).and_then(|b| bytemuck::try_pod_read_unaligned(b).ok())
}

/// The text up to the first NUL.
pub fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default())
}
