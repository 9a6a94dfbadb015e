//! Judges a recording: finds the steps, says where their time went, and why.
//!
//! Uses `trace` only. Pure: no clock, file, network or randomness; the same trace gives
//! the same report.

mod advice;
mod breakdown;
mod causes;
mod classify;
mod compare;
mod cursor;
mod frames;
mod functions;
mod index;
mod input;
mod judge;
mod layers;
mod names;
mod outliers;
mod phases;
mod report;
mod roles;
mod steps;
mod straggler;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timing;
mod tops;
mod verdict;
mod words;
mod workers;

pub use compare::{COMPARISON_SCHEMA, CategoryChange, Change, Comparison, TopChange, VerdictChange, compare};
pub use index::track_path;
pub use judge::judge;
pub use outliers::Outlier;
pub use phases::{Phases, window};
pub use report::{
    BreakdownRow, Capture, Category, Evidence, ProcessRow, REPORT_SCHEMA, Report, Steps, Straggler, TopRow, Tops,
    Verdict, VerdictKind,
};
pub use timing::{StepTimes, judge_steps};
