//! What the other names of a recording stand for: libraries, waits, system calls, operators.

pub(super) use super::functions::{FrameClass, frame_class, is_user_file};

/// What a library below Python does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum NativeClass {
    /// The interpreter and what glues it to libraries.
    #[default]
    Interpreter,
    /// PyTorch's dispatcher and operators: work or overhead, the operators say which.
    Torch,
    /// Anything that computes.
    Compute,
}

/// Sorts a library by its file name.
pub(super) fn native_class(path: &str) -> NativeClass {
    let file = path.rsplit('/').next().unwrap_or(path);
    let starts = |list: &[&str]| list.iter().any(|p| file.starts_with(p));
    if file.is_empty()
        || starts(&[
            "libpython",
            "python",
            "libc.so",
            "libc-",
            "libc.",
            "ld-linux",
            "libpthread",
            "libm.so",
            "libtorch_python",
            "_socket",
            "select.",
            "_queue",
            "_posixshmem",
            "_multiprocessing",
            "_asyncio",
            "_datetime",
            "_struct",
            "_random",
            "_heapq",
            "_bisect",
            "math.",
            "libstdc++",
            "libgcc",
            "[vdso]",
            "vdso",
            "_contextvars",
            "_ctypes",
            "libffi",
            "_C.",
            "array.",
            "libdl",
            "librt",
            "itertools",
            "_collections",
            "_functools",
            "_operator",
        ])
    {
        return NativeClass::Interpreter;
    }
    if starts(&["libtorch", "libc10", "libshm", "libcaffe2"]) {
        return NativeClass::Torch;
    }
    NativeClass::Compute
}

/// What a thread off the CPU waits for, or that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Reason {
    /// The recording does not say.
    #[default]
    Unknown,
    Running,
    Preempted,
    Sleep,
    Poll,
    Futex,
    Gil,
    Pipe,
    Socket,
    Disk,
    PageFault,
    Wait,
    File,
    Blocked,
}

/// Sorts the names of a `cpu` track.
pub(super) fn sched_reason(name: &str) -> Reason {
    match name {
        "running" => Reason::Running,
        "preempted" => Reason::Preempted,
        "sleep" => Reason::Sleep,
        "poll" => Reason::Poll,
        "futex" => Reason::Futex,
        "gil" => Reason::Gil,
        "pipe" => Reason::Pipe,
        "socket" => Reason::Socket,
        "disk" => Reason::Disk,
        "page_fault" => Reason::PageFault,
        "wait" => Reason::Wait,
        "file" => Reason::File,
        "blocked" => Reason::Blocked,
        _ => Reason::Unknown,
    }
}

/// What a system call does, as far as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum CallKind {
    /// None, or nothing of interest.
    #[default]
    Other,
    Read,
    Write,
    Sync,
    Sleep,
    Poll,
    Futex,
    Receive,
    /// Waits for somebody to call.
    Accept,
    Send,
    Wait,
    /// Opens, lists or asks about files.
    Open,
}

/// Sorts a system call.
pub(super) fn call_kind(name: &str) -> CallKind {
    match name {
        "read" | "pread64" | "readv" | "preadv" | "preadv2" | "io_getevents" | "readahead" => CallKind::Read,
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "ftruncate" | "fallocate" | "rename"
        | "renameat" | "renameat2" | "unlink" | "unlinkat" => CallKind::Write,
        "fsync" | "fdatasync" | "sync" | "syncfs" | "msync" | "sync_file_range" => CallKind::Sync,
        "nanosleep" | "clock_nanosleep" => CallKind::Sleep,
        "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => CallKind::Poll,
        "futex" | "futex_wait" | "futex_waitv" => CallKind::Futex,
        "recvfrom" | "recvmsg" | "recvmmsg" | "connect" => CallKind::Receive,
        "accept" | "accept4" => CallKind::Accept,
        "sendto" | "sendmsg" | "sendmmsg" | "sendfile" => CallKind::Send,
        "wait4" | "waitid" => CallKind::Wait,
        "openat" | "open" | "openat2" | "getdents64" | "newfstatat" | "stat" | "statx" | "lstat" | "fstat" => {
            CallKind::Open
        }
        _ => CallKind::Other,
    }
}

/// What a slice of the torch layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OpKind {
    /// None.
    #[default]
    None,
    /// An operator.
    Operator,
    /// A node of the backward pass: holds operators.
    Node,
    /// The whole backward pass.
    Backward,
    /// The optimizer's step.
    Optimizer,
    /// Fetching from the `DataLoader`.
    Loader,
    /// A collective as PyTorch names it.
    Collective,
    /// `ProfilerStep#7`.
    Step,
    /// A scope of unknown meaning.
    Scope,
}

/// Sorts a slice of the torch layer.
pub(super) fn op_kind(name: &str) -> OpKind {
    if name.starts_with("Optimizer.step#") {
        OpKind::Optimizer
    } else if name.starts_with("enumerate(DataLoader)#") {
        OpKind::Loader
    } else if name.starts_with("ProfilerStep#") {
        OpKind::Step
    } else if name == "backward" {
        OpKind::Backward
    } else if name.starts_with("autograd::") || name.ends_with("Backward0") || name.ends_with("Backward1") {
        OpKind::Node
    } else if name.starts_with("gloo:")
        || name.starts_with("nccl:")
        || name.starts_with("c10d::")
        || name == "record_param_comms"
    {
        OpKind::Collective
    } else if name.starts_with("Optimizer.zero_grad#")
        || name.starts_with("DistributedDataParallel.")
        || name.starts_with("## ")
    {
        OpKind::Scope
    } else if name.contains("::") {
        OpKind::Operator
    } else {
        OpKind::Scope
    }
}

/// Whether a CUDA call makes the thread wait for the device.
pub(super) fn cuda_waits(name: &str) -> bool {
    name.ends_with("Synchronize")
        || matches!(name, "cudaMemcpy" | "cuMemcpy" | "cudaStreamWaitValue32")
        || (name.starts_with("cuMemcpy") && !name.contains("Async"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_by_name_and_file() {
        let user = "/home/me/train.py";
        for (name, file, class) in [
            (
                "_MultiProcessingDataLoaderIter.__next__",
                "/usr/lib/python3/dist-packages/torch/utils/data/dataloader.py",
                FrameClass::Loader,
            ),
            ("SlowDataset.__getitem__", user, FrameClass::Loader),
            ("load_batch", user, FrameClass::LoadsByName),
            ("nextBatch", user, FrameClass::LoadsByName),
            ("batches", user, FrameClass::LoadsByName),
            ("train_batch", user, FrameClass::Plain),
            ("load_model", user, FrameClass::Plain),
            ("load_checkpoint", user, FrameClass::Plain),
            ("save_checkpoint", user, FrameClass::Saves),
            ("forward", user, FrameClass::Plain),
            ("all_reduce", user, FrameClass::Communicates),
            ("all_reduce", "/x/torch/distributed/distributed_c10d.py", FrameClass::Communicates),
            ("DistributedDataParallel.forward", "/x/torch/nn/parallel/distributed.py", FrameClass::Plain),
            ("checkpoint", "/x/torch/utils/checkpoint.py", FrameClass::Plain),
            ("Queue.get", "/usr/lib/python3.11/queue.py", FrameClass::QueueGet),
            ("<module>", user, FrameClass::Plain),
            ("run.<locals>.read_records", user, FrameClass::LoadsByName),
        ] {
            assert_eq!(frame_class(name, file), class, "{name} in {file}");
        }
    }

    #[test]
    fn libraries_are_sorted() {
        assert_eq!(native_class("/usr/lib/libtorch_python.so"), NativeClass::Interpreter);
        assert_eq!(native_class("libtorch_cpu.so"), NativeClass::Torch);
        assert_eq!(native_class("libcrypto.so.3"), NativeClass::Compute);
        assert_eq!(native_class("zlib.cpython-312-x86_64-linux-gnu.so"), NativeClass::Compute);
    }

    #[test]
    fn scopes_and_operators_are_told_apart() {
        assert_eq!(op_kind("Optimizer.step#SGD.step"), OpKind::Optimizer);
        assert_eq!(op_kind("autograd::AddmmBackward0"), OpKind::Node);
        assert_eq!(op_kind("aten::addmm"), OpKind::Operator);
        assert_eq!(op_kind("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"), OpKind::Loader);
    }
}
