//! Which class of colour a name belongs to.

use crate::trace::{Class, Layer, Slice, Trace};

/// What the classes stand for; their numbers are what [`class_of`] returns.
pub const CLASS_NAMES: [&str; 16] = [
    "other",
    "running",
    "runnable",
    "idle",
    "lock",
    "disk",
    "network",
    "python",
    "library",
    "compute",
    "memory",
    "backward",
    "data",
    "launch",
    "synchronize",
    "collective",
];

/// Anything else; steps, too.
pub const OTHER: Class = Class(0);
/// On a CPU.
pub const RUNNING: Class = Class(1);
/// Wants a CPU and has none.
pub const RUNNABLE: Class = Class(2);
/// Sleeps, or waits for somebody to call.
pub const IDLE: Class = Class(3);
/// Waits for a lock: futex, the GIL.
pub const LOCK: Class = Class(4);
/// Waits for a disk or a file.
pub const DISK: Class = Class(5);
/// Waits for a socket or a pipe, or moves data through one.
pub const NETWORK: Class = Class(6);
/// The user's Python.
pub const PYTHON: Class = Class(7);
/// Python of libraries and of the interpreter's start.
pub const LIBRARY: Class = Class(8);
/// Operators and kernels that compute.
pub const COMPUTE: Class = Class(9);
/// Operators, kernels and calls that move or fill memory.
pub const MEMORY: Class = Class(10);
/// The backward pass, and the optimizer.
pub const BACKWARD: Class = Class(11);
/// Loading data.
pub const DATA: Class = Class(12);
/// Calls that hand work to a device.
pub const LAUNCH: Class = Class(13);
/// Calls that wait for a device.
pub const SYNCHRONIZE: Class = Class(14);
/// Collectives.
pub const COLLECTIVE: Class = Class(15);

/// Class of a name on a layer.
pub fn class_of(layer: Layer, name: &str) -> Class {
    match layer {
        Layer::Sched => sched(name),
        Layer::Syscall => syscall(name),
        Layer::Io => DISK,
        Layer::Python => python(name, ""),
        Layer::Torch => torch(name),
        Layer::Cuda => cuda(name),
        Layer::Nccl => COLLECTIVE,
        Layer::Gpu => kernel(name),
        Layer::Step | Layer::Meta | Layer::Other => OTHER,
    }
}

fn sched(name: &str) -> Class {
    match name {
        "running" => RUNNING,
        "preempted" | "runnable" => RUNNABLE,
        "futex" | "gil" => LOCK,
        "disk" | "page_fault" | "file" => DISK,
        "socket" | "pipe" => NETWORK,
        "sleep" | "poll" | "wait" | "blocked" => IDLE,
        _ => OTHER,
    }
}

fn syscall(name: &str) -> Class {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&["futex"]) {
        LOCK
    } else if has(&["poll", "select", "nanosleep", "wait", "accept", "pause"]) {
        IDLE
    } else if has(&["recv", "send", "connect", "socket", "shutdown"]) {
        NETWORK
    } else if has(&["mmap", "munmap", "brk", "madvise", "mprotect", "mremap"]) {
        MEMORY
    } else if has(&["read", "write", "sync", "open", "stat", "getdents", "rename", "unlink", "truncate", "fallocate"]) {
        DISK
    } else {
        OTHER
    }
}

fn torch(name: &str) -> Class {
    let lower = name.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if name.starts_with("enumerate(DataLoader)") || has(&["dataloader", "pin_memory"]) {
        DATA
    } else if name.starts_with("ProfilerStep#") {
        OTHER
    } else if has(&["c10d::", "gloo:", "nccl:", "record_param_comms", "allreduce", "all_reduce", "allgather"]) {
        COLLECTIVE
    } else if lower == "backward" || has(&["autograd::", "backward", "optimizer", "accumulategrad"]) {
        BACKWARD
    } else if has(&["copy_", "aten::to", "_to_copy", "clone", "empty", "zero", "fill_", "cat", "contiguous", "resize"])
    {
        MEMORY
    } else if name.contains("::") {
        COMPUTE
    } else {
        OTHER
    }
}

fn cuda(name: &str) -> Class {
    if name.contains("Synchronize") || name.contains("WaitEvent") || name == "cudaMemcpy" || name == "cuMemcpy" {
        SYNCHRONIZE
    } else if ["Memcpy", "Memset", "Malloc", "Free"].iter().any(|part| name.contains(part)) {
        MEMORY
    } else {
        LAUNCH
    }
}

fn kernel(name: &str) -> Class {
    let lower = name.to_ascii_lowercase();
    if lower.contains("nccl") {
        COLLECTIVE
    } else if ["memcpy", "memset", "copy", "fill"].iter().any(|part| lower.contains(part)) {
        MEMORY
    } else {
        COMPUTE
    }
}

/// Python functions, by name and file.
fn python(name: &str, file: &str) -> Class {
    let last = name.rsplit('.').next().unwrap_or(name);
    let lower = name.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let library = ["/site-packages/", "/dist-packages/", "/lib/python3", "/usr/lib/python", "<frozen"];
    if matches!(last, "wait" | "sleep" | "select" | "poll" | "join" | "acquire" | "_wait_for_tstate_lock") {
        IDLE
    } else if has(&["dataloader", "__getitem__", "collate", "dataset", "load_batch", "next_batch", "prefetch"])
        || file.ends_with("/utils/data/dataloader.py")
        || file.contains("/utils/data/_utils/")
    {
        DATA
    } else if has(&["all_reduce", "allreduce", "all_gather", "allgather", "broadcast", "barrier", "reduce_scatter"]) {
        COLLECTIVE
    } else if has(&["backward"]) || (lower.contains("optimizer") && last == "step") {
        BACKWARD
    } else if library.iter().any(|part| file.contains(part)) || is_start(name) {
        LIBRARY
    } else {
        PYTHON
    }
}

/// Frames of the import machinery and of the interpreter's start.
fn is_start(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "<module>",
        "_find_and_load",
        "_find_and_load_unlocked",
        "_load_unlocked",
        "_call_with_frames_removed",
        "_handle_fromlist",
        "_bootstrap",
        "_bootstrap_inner",
    ];
    NAMES.contains(&name) || name.contains("Loader.exec_module") || name.starts_with("_run_")
}

/// Classes of the names from number `first` on, by the slice they are met on first.
pub(super) fn classes(trace: &Trace, first: usize) -> Vec<Class> {
    let mut classes: Vec<Option<Class>> = vec![None; trace.strings.len().saturating_sub(first)];
    for track in &trace.tracks {
        for slice in &track.slices {
            let Some(place) = (slice.name.0 as usize).checked_sub(first).and_then(|i| classes.get_mut(i)) else {
                continue;
            };
            if place.is_none() {
                *place = Some(class_of_slice(trace, track.layer, slice));
            }
        }
    }
    classes.into_iter().map(Option::unwrap_or_default).collect()
}

/// Class of a slice's name, with what its arguments tell of the file.
pub(super) fn class_of_slice(trace: &Trace, layer: Layer, slice: &Slice) -> Class {
    let name = trace.text(slice.name);
    match layer {
        Layer::Python => python(name, trace.arg_str(slice.args, "file").unwrap_or_default()),
        layer => class_of(layer, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_class_of_what_they_do() {
        for (layer, name, class) in [
            (Layer::Sched, "running", RUNNING),
            (Layer::Sched, "preempted", RUNNABLE),
            (Layer::Sched, "gil", LOCK),
            (Layer::Sched, "poll", IDLE),
            (Layer::Syscall, "epoll_wait", IDLE),
            (Layer::Syscall, "recvfrom", NETWORK),
            (Layer::Syscall, "fsync", DISK),
            (Layer::Torch, "aten::addmm", COMPUTE),
            (Layer::Torch, "aten::copy_", MEMORY),
            (Layer::Torch, "autograd::AddmmBackward0", BACKWARD),
            (Layer::Torch, "Optimizer.step#SGD.step", BACKWARD),
            (Layer::Torch, "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", DATA),
            (Layer::Cuda, "cudaLaunchKernel", LAUNCH),
            (Layer::Cuda, "cudaStreamSynchronize", SYNCHRONIZE),
            (Layer::Cuda, "cudaMemcpyAsync", MEMORY),
            (Layer::Gpu, "ncclDevKernel_AllReduce", COLLECTIVE),
            (Layer::Nccl, "gloo::allreduce", COLLECTIVE),
            (Layer::Python, "SlowDataset.__getitem__", DATA),
            (Layer::Python, "Condition.wait", IDLE),
            (Layer::Python, "train_step", PYTHON),
            (Layer::Python, "<module>", LIBRARY),
        ] {
            assert_eq!(class_of(layer, name), class, "{layer:?} {name}");
        }
        assert_eq!(python("Linear.forward", "/x/site-packages/torch/nn/modules/linear.py"), LIBRARY);
    }
}
