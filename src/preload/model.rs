//! What is said of a model: one line of `aictl preload status`.

use std::path::PathBuf;

use serde::Serialize;

use super::gpu::GpuLoad;
use super::residency::FileResidency;
use super::snapshot::{Snapshot, State};

/// A model on this node (`aictl.model/v1`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// Always "aictl.model/v1".
    pub schema: &'static str,
    /// Where it came from, without credentials.
    pub source: String,
    /// Its revision.
    pub revision: String,
    /// Directory to give to a server.
    pub path: PathBuf,
    /// Files wanted of it.
    pub files: usize,
    /// Their sizes together.
    pub bytes: u64,
    /// What of them is on disk, whole or in part.
    pub on_disk_bytes: u64,
    /// What of them is in the page cache; null if it can't be known.
    pub resident_bytes: Option<u64>,
    /// Whether the content of every file was hashed and found right.
    pub verified: bool,
    /// How far it is.
    pub state: State,
    /// What of them is locked in memory; absent where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_bytes: Option<u64>,
    /// What is in the page cache file by file; absent where that was not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_file: Vec<FileResidency>,
    /// What was loaded into GPUs by this run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuLoad>,
}

impl Model {
    /// The model of a snapshot; `resident_bytes` where somebody looked.
    pub fn of(snapshot: &Snapshot, resident_bytes: Option<u64>) -> Model {
        Model {
            schema: "aictl.model/v1",
            source: snapshot.source.clone(),
            revision: snapshot.revision.clone(),
            path: snapshot.path.clone(),
            files: snapshot.files.len(),
            bytes: snapshot.bytes(),
            on_disk_bytes: snapshot.on_disk_bytes(),
            resident_bytes,
            verified: snapshot.verified,
            state: snapshot.state(),
            pinned_bytes: None,
            per_file: Vec::new(),
            gpus: Vec::new(),
        }
    }
}
