//! What happens while a model comes near, as data. Bars, JSON lines and tests are listeners.

use serde::Serialize;

/// Something that happened. Names of files are as the source names them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A source was looked at: this is what it has, and what of it is here.
    Planned {
        /// The source, without credentials.
        source: String,
        /// Its revision.
        revision: String,
        /// Files wanted.
        files: usize,
        /// Their sizes together.
        bytes: u64,
        /// What of them needs no fetching.
        have_bytes: u64,
    },
    /// The first byte of a file is about to be asked for.
    FileStarted {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
        /// What is here of it from an earlier run.
        have_bytes: u64,
    },
    /// Bytes came; about ten times a second for each file that moves.
    Progress {
        /// The file.
        name: String,
        /// Bytes of it that are here now.
        have_bytes: u64,
        /// Its size.
        bytes: u64,
    },
    /// A file is whole, checked and has its final name.
    FileDone {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
        /// SHA-256 of its content, in hex.
        sha256: String,
    },
    /// A request failed and is made again.
    Retry {
        /// The file.
        name: String,
        /// First byte asked for.
        offset: u64,
        /// What went wrong, without credentials.
        why: String,
        /// Pause before it is made again.
        wait_ms: u64,
    },
    /// What was wanted of a file is here; the rest of it is not.
    PartDone {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
        /// What of it is here.
        have_bytes: u64,
    },
    /// A peer gave bytes that are not the file's; it is not asked any more.
    PeerBanned {
        /// Its address.
        peer: String,
        /// The file.
        name: String,
    },
    /// A file changed at its source; what was here of it is dropped.
    Changed {
        /// The file.
        name: String,
    },
    /// A file was not what it should be, and was put apart.
    Quarantined {
        /// The file.
        name: String,
        /// Where it is.
        path: String,
    },
    /// A layer is an archive, and becomes files.
    Unpacking {
        /// The layer.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Of such a layer so much was read; about ten times a second.
    UnpackProgress {
        /// The layer.
        name: String,
        /// Bytes of it that are behind us.
        read_bytes: u64,
        /// Its size.
        bytes: u64,
    },
    /// Its files are whole.
    Unpacked {
        /// The layer.
        name: String,
        /// How many files it holds.
        files: usize,
        /// Their sizes together.
        bytes: u64,
    },
    /// The number of connections was changed.
    Connections {
        /// How many now.
        count: usize,
    },
    /// Files are about to be read into the page cache.
    WarmStarted {
        /// The source.
        source: String,
        /// Bytes that are meant.
        bytes: u64,
        /// Those that are there already, as far as it is known.
        resident_bytes: u64,
    },
    /// They are so far; about ten times a second.
    WarmProgress {
        /// The source.
        source: String,
        /// Bytes that were there or have been read.
        resident_bytes: u64,
        /// Bytes that are meant.
        bytes: u64,
    },
    /// Reading has ended, and the kernel was asked what is there.
    WarmDone {
        /// The source.
        source: String,
        /// Bytes that are meant.
        bytes: u64,
        /// Those in the page cache; null if that can't be known.
        resident_bytes: Option<u64>,
        /// Bytes that were read.
        read_bytes: u64,
        /// Time it took.
        seconds: f64,
        /// CPU time it took.
        cpu_seconds: f64,
        /// How it was read: "sendfile", "populate", "pread".
        way: &'static str,
    },
    /// Jobs are about to be made on nodes.
    FleetPlanned {
        /// How many nodes.
        nodes: usize,
        /// How many at once.
        at_once: usize,
    },
    /// A node's Job is there.
    NodeStarted {
        /// The node.
        node: String,
        /// Its Job.
        job: String,
    },
    /// A node is so far, by its own words.
    NodeProgress {
        /// The node.
        node: String,
        /// Bytes that are there.
        have_bytes: u64,
        /// Bytes that are wanted.
        bytes: u64,
    },
    /// All nodes together are so far.
    FleetProgress {
        /// How many nodes.
        nodes: usize,
        /// How many have ended.
        done: usize,
        /// Bytes that are there.
        have_bytes: u64,
        /// Bytes that are wanted, as far as nodes have said.
        bytes: u64,
    },
    /// Something keeps a node's pod from starting.
    NodeTrouble {
        /// The node.
        node: String,
        /// What.
        why: String,
    },
    /// A node failed, and is tried again.
    NodeRetry {
        /// The node.
        node: String,
        /// What went wrong.
        why: String,
    },
    /// A node has ended.
    NodeDone {
        /// The node.
        node: String,
        /// "done", "wrong", "blind", "failed".
        state: &'static str,
        /// Why it is not done.
        why: Option<String>,
    },
    /// An object of Fluid or KServe stands differently than before.
    Step {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// As its controller says.
        phase: String,
        /// What its controller adds.
        detail: Option<String>,
    },
    /// All that was wanted of a source is here.
    Finished {
        /// The source.
        source: String,
        /// Its revision.
        revision: String,
        /// Bytes that came from the source, over the network or from a mount.
        fetched_bytes: u64,
        /// Bytes that came from other nodes.
        peer_bytes: u64,
        /// Time it took.
        seconds: f64,
    },
}

/// Hears what happens. Called from several threads; must be quick.
pub trait Sink: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Sink for Silent {
    fn event(&self, _: Event) {}
}
