//! What a Python function is for, as its name and file tell.
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
