//! What can go wrong between a file on disk and memory.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::room::Room;
use super::tensors::HeaderError;

/// Why a model is not in memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// A file can't be used.
    #[error("cannot {what} {path}")]
    File {
        /// The operation: "open", "read".
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing at a path.
    #[error("{path} has no files")]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
    /// A safetensors file is not one.
    #[error("{path} is no sound safetensors file")]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: HeaderError,
    },
    /// The index of a model is not one.
    #[error("{path} is no index of a model: {why}")]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The machine does not say how much memory it has.
    #[error("cannot see how much memory is free: {0}")]
    NoRoomKnown(String),
    /// Not all of it fits.
    #[error("{needed_bytes} bytes more do not fit into memory: there is room for {}, limited by {}", .room.bytes, .room.limit)]
    TooLarge {
        /// What would have to come.
        needed_bytes: u64,
        /// What there is.
        room: Room,
    },
    /// Memory may not be locked.
    #[error("may lock {limit_bytes} bytes of memory, and {needed_bytes} are needed")]
    LockLimit {
        /// RLIMIT_MEMLOCK.
        limit_bytes: u64,
        /// What is to be locked.
        needed_bytes: u64,
    },
    /// The process that holds memory could not.
    #[error("the process that was to hold it failed: {0}")]
    Holder(String),
    /// A signal ended it.
    #[error("interrupted")]
    Interrupted,
}

impl MemoryError {
    /// An error of a file.
    pub fn file(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> MemoryError {
        MemoryError::File { what, path: path.into(), source }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            MemoryError::TooLarge { .. } => Some(
                "warm what fits: --fit; or only what a rank needs: --rank I/N; a Job that warms must have a memory \
                 limit above the model's size",
            ),
            MemoryError::LockLimit { .. } => {
                Some("raise it: ulimit -l, LimitMEMLOCK= of the unit, or give the capability CAP_IPC_LOCK")
            }
            MemoryError::Header { .. } => Some("fetch it again with --verify, or look at it with its writer's tools"),
            _ => None,
        }
    }
}
