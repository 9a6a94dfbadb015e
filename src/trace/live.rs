//! A timeline that grows while a capture runs: the capture hands over what it has seen, the
//! viewer takes it when it is ready, and neither waits for the other.

use super::model::{Trace, TrackId};

/// What a capture has seen since the last batch was taken.
#[derive(Debug, Default)]
pub struct Batch {}

/// What a batch changed in a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tracks, and the first slice of each that is new or moved.
    pub tracks: Vec<(TrackId, usize)>,
    /// Processes, threads or tracks were added or renamed.
    pub structure: bool,
    /// Names from this number on are new.
    pub first_name: usize,
}

/// Adds batches to a trace; keeps what is still open.
#[derive(Debug, Default)]
pub struct Growth {}

impl Growth {
    /// Adds a batch.
    pub fn apply(&mut self, trace: &mut Trace, batch: Batch) -> Changes {
        let Batch {} = batch;
        Changes { first_name: trace.strings.len(), ..Changes::default() }
    }
}
