//! Why a capture could not be made.

use std::io;

/// Why a capture could not be made; `hint` says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The process is not there.
    #[error("no process with pid {0}")]
    NoSuchProcess(u32),
    /// The process ended before the probes were in place.
    #[error("process {0} ended while aictl was attaching to it")]
    TargetExited(u32),
    /// Not enough rights.
    #[error("not permitted to {what}")]
    NotPermitted {
        /// "load eBPF programs", "read the memory map of process 7".
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel lacks something.
    #[error("this kernel has no {what}")]
    KernelLacks {
        /// "BTF (/sys/kernel/btf/vmlinux)", "uprobe_multi links".
        what: String,
    },
    /// The kernel refused a program or a probe.
    #[error("the kernel refused {what}")]
    Refused {
        /// "program on_switch", "3110 probes in libtorch_cpu.so".
        what: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The recording can't be written.
    #[error("cannot write the recording")]
    Write(#[source] io::Error),
    /// Something could not be read.
    #[error("cannot read {what}")]
    Read {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl CaptureError {
    /// What to do next, for people.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            CaptureError::NoSuchProcess(_) | CaptureError::TargetExited(_) => {
                Some("list processes with: ps -eo pid,etime,args | grep python")
            }
            CaptureError::NotPermitted { .. } => {
                Some("run as root, or give aictl CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE: sudo aictl profile …")
            }
            CaptureError::KernelLacks { .. } => {
                Some("aictl needs Linux 6.6 or newer with CONFIG_DEBUG_INFO_BTF and CONFIG_UPROBE_EVENTS")
            }
            CaptureError::Write(_) => Some("choose another file with -w FILE"),
            CaptureError::Refused { .. } | CaptureError::Read { .. } => None,
        }
    }
}
