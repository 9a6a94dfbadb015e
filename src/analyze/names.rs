//! What names tell: Python functions, libraries, system calls, operators.
//!
//! Names are the second witness. The first is structure (who waits for whom, what runs, what
//! repeats), so a name alone never makes a frame that spans the whole recording an input.

/// What a Python function is for, as far as its name and file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum FrameClass {
    /// Nothing known.
    #[default]
    Plain,
    /// Part of a known data loader, or a `__getitem__` of a dataset.
    Loader,
    /// Reads like loading data: `load_batch`, `next_sample`.
    LoadsByName,
    /// Takes from a queue, a pipe or a connection.
    QueueGet,
    /// Puts into a queue.
    QueuePut,
    /// Saves something to a file.
    Saves,
    /// Talks to other ranks.
    Communicates,
    /// Waits for a thread, a process or a future.
    Joins,
}

/// Whether a source file is the user's own: neither the standard library nor an installed package.
pub(super) fn is_user_file(file: &str) -> bool {
    !file.is_empty()
        && !file.starts_with('<')
        && !["site-packages", "dist-packages", "/lib/python3", "/lib64/python3"].iter().any(|p| file.contains(p))
        && !in_torch(file)
}

/// Foreign recordings shorten paths to start at the package.
fn in_torch(file: &str) -> bool {
    file.starts_with("torch/") || file.contains("/torch/")
}

/// Sorts a function by its (qualified) name and file.
pub(super) fn frame_class(name: &str, file: &str) -> FrameClass {
    let (class, function) = name.rsplit_once('.').unwrap_or(("", name));
    if let Some(known) = library_class(function, file) {
        return known;
    }
    if !is_user_file(file) {
        return package_class(class, function, file);
    }
    user_class(class, function)
}

/// Functions of the standard library and of torch.
fn library_class(function: &str, file: &str) -> Option<FrameClass> {
    let ends = |suffix: &str| file.ends_with(suffix);
    if in_torch(file) {
        if file.contains("torch/utils/data/") {
            return Some(FrameClass::Loader);
        }
        if ends("torch/serialization.py") {
            return Some(if function.contains("save") { FrameClass::Saves } else { FrameClass::Plain });
        }
        if ends("torch/distributed/distributed_c10d.py") {
            return Some(FrameClass::Communicates);
        }
        return Some(FrameClass::Plain);
    }
    if ends("/queue.py") || ends("multiprocessing/queues.py") || ends("asyncio/queues.py") {
        return Some(match function {
            "get" | "_get" | "get_nowait" => FrameClass::QueueGet,
            "put" | "_put" | "put_nowait" => FrameClass::QueuePut,
            _ => FrameClass::Plain,
        });
    }
    if ends("multiprocessing/connection.py") {
        return Some(match function {
            "recv" | "recv_bytes" | "recv_bytes_into" | "_recv_bytes" | "_recv" | "poll" | "_poll" => {
                FrameClass::QueueGet
            }
            "send" | "send_bytes" | "_send_bytes" | "_send" => FrameClass::QueuePut,
            _ => FrameClass::Plain,
        });
    }
    if ends("multiprocessing/pool.py") && (function == "next" || function == "get") {
        return Some(FrameClass::QueueGet);
    }
    if ends("concurrent/futures/_base.py") && (function == "result" || function == "wait")
        || ends("/threading.py") && (function == "join" || function == "_wait_for_tstate_lock")
        || ends("/subprocess.py") && matches!(function, "wait" | "_wait" | "communicate" | "_communicate")
        || ends("multiprocessing/process.py") && function == "join"
        || ends("multiprocessing/popen_fork.py")
    {
        return Some(FrameClass::Joins);
    }
    if (ends("json/__init__.py") || ends("/pickle.py") || ends("/shelve.py")) && function == "dump" {
        return Some(FrameClass::Saves);
    }
    None
}

/// Functions of other installed packages.
fn package_class(class: &str, function: &str, file: &str) -> FrameClass {
    let in_package = |name: &str| file.contains(name);
    if in_package("/datasets/") || in_package("/webdataset/") || in_package("/torchdata/") || in_package("/petastorm/")
    {
        return FrameClass::Loader;
    }
    if function == "__getitem__" && class.to_ascii_lowercase().contains("dataset") {
        return FrameClass::Loader;
    }
    if in_package("safetensors/") && function.contains("save")
        || in_package("numpy/lib/") && function.starts_with("save")
    {
        return FrameClass::Saves;
    }
    FrameClass::Plain
}

/// Words that say the function works on data instead of fetching it.
const WORK: &[&str] = &[
    "train",
    "training",
    "step",
    "forward",
    "backward",
    "loss",
    "fit",
    "optimize",
    "optimizer",
    "update",
    "compute",
    "infer",
    "inference",
    "predict",
    "generate",
    "eval",
    "evaluate",
    "validate",
    "test",
    "model",
    "main",
    "loop",
    "epoch",
    "epochs",
    "gradient",
    "gradients",
    "grad",
    "grads",
    "weights",
    "state",
    "config",
    "checkpoint",
    "checkpoints",
    "ckpt",
    "params",
    "parameters",
    "args",
    "serve",
    "handle",
    "run",
];
/// Words for what training data come as.
const DATA: &[&str] = &[
    "batch",
    "batches",
    "minibatch",
    "minibatches",
    "data",
    "sample",
    "samples",
    "example",
    "examples",
    "record",
    "records",
    "image",
    "images",
    "item",
    "items",
    "shard",
    "shards",
    "chunk",
    "chunks",
    "file",
    "files",
    "input",
    "inputs",
    "row",
    "rows",
    "token",
    "tokens",
    "document",
    "documents",
    "line",
    "lines",
    "frame",
    "frames",
    "features",
    "block",
    "page",
];
/// Words for getting them.
const FETCH: &[&str] = &[
    "load",
    "loads",
    "read",
    "reads",
    "fetch",
    "get",
    "next",
    "make",
    "produce",
    "iter",
    "iterate",
    "decode",
    "parse",
    "prepare",
    "preprocess",
    "build",
    "yield",
    "pull",
    "receive",
    "stream",
    "open",
    "download",
    "prefetch",
    "augment",
    "tokenize",
    "transform",
    "collate",
    "shuffle",
    "draw",
    "take",
    "acquire",
    "pop",
    "slow",
];
/// Words that are enough alone.
const LOADER: &[&str] = &[
    "dataset",
    "datasets",
    "dataloader",
    "loader",
    "loaders",
    "prefetch",
    "prefetcher",
    "collate",
    "augment",
    "augmentation",
    "datapipe",
    "datasource",
    "datamodule",
    "preprocess",
    "feeder",
    "reader",
    "fetcher",
    "batcher",
    "sampler",
];
/// Words for saving.
const SAVE: &[&str] = &[
    "save",
    "saves",
    "saving",
    "dump",
    "checkpoint",
    "checkpointing",
    "ckpt",
    "persist",
    "snapshot",
    "export",
    "fsync",
    "flush",
    "write",
    "store",
];
/// Words for talking to other ranks.
const COMMUNICATE: &[&str] = &["allreduce", "allgather", "barrier", "rendezvous", "broadcast"];

/// The user's own functions.
fn user_class(class: &str, function: &str) -> FrameClass {
    let mut class_words: Vec<String> = Vec::new();
    // "Outer.method.<locals>" leaves markers that say nothing.
    for part in class.split('.').filter(|p| !p.starts_with('<')) {
        split_words(part, &mut class_words);
    }
    let mut words = Vec::new();
    split_words(function, &mut words);
    let any = |list: &[&str], of: &[String]| of.iter().any(|w| list.contains(&w.as_str()));
    if any(COMMUNICATE, &words)
        || words.windows(2).any(|w| w[0] == "all" && (w[1] == "reduce" || w[1] == "gather"))
        || any(&["sync", "synchronize", "average", "exchange", "reduce"], &words)
            && any(&["gradient", "gradients", "grads", "grad", "ranks", "rank", "peers", "peer"], &words)
    {
        return FrameClass::Communicates;
    }
    let saves = any(SAVE, &words) && !any(&["forward", "batch", "load", "restore", "read"], &words);
    if saves {
        return FrameClass::Saves;
    }
    if function == "__getitem__" || function == "__getitems__" {
        return FrameClass::Loader;
    }
    if any(WORK, &words) {
        return FrameClass::Plain;
    }
    if function == "__next__" || function == "__iter__" {
        return FrameClass::LoadsByName;
    }
    let of_loader = any(LOADER, &class_words) && function != "__init__";
    let fetches = any(FETCH, &words);
    if any(LOADER, &words)
        || of_loader
        || any(DATA, &words) && (fetches || words.len() == 1)
        || matches!(function, "load" | "fetch" | "read" | "prefetch" | "collate_fn")
        || any(DATA, &words) && any(&["iterator", "generator", "gen", "source", "feed", "stream"], &words)
    {
        return FrameClass::LoadsByName;
    }
    FrameClass::Plain
}

/// Splits `get_nextBatch2` into `get`, `next`, `batch`.
fn split_words(name: &str, into: &mut Vec<String>) {
    let mut word = String::new();
    let mut lower_before = false;
    for c in name.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && lower_before) {
            if !word.is_empty() {
                into.push(std::mem::take(&mut word));
            }
            lower_before = false;
        }
        if c.is_alphabetic() {
            word.extend(c.to_lowercase());
            lower_before = c.is_lowercase();
        }
    }
    if !word.is_empty() {
        into.push(word);
    }
}

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
        "recvfrom" | "recvmsg" | "recvmmsg" | "accept" | "accept4" | "connect" => CallKind::Receive,
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
