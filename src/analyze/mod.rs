//! Judges a recording: finds the steps, says where their time went, and why.
//!
//! Uses `trace` only. Pure: no clock, file, network or randomness; the same trace gives
//! the same report.

mod report;

pub use report::{
    BreakdownRow, Capture, Category, Evidence, ProcessRow, REPORT_SCHEMA, Report, Steps, Straggler, TopRow, Tops,
    Verdict, VerdictKind,
};
