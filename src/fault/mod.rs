//! Faults of GPUs, nodes and add-ons: what they are called, how a log tells of them, and what
//! follows from what was seen.
//!
//! Uses no other room; facts come in as arguments. Pure: no clock, file, network, process or
//! randomness, so the same facts always give the same findings.

pub mod ask;
mod catalogue;
pub mod cluster;
mod collect;
pub mod facts;
mod finding;
pub mod gpu;
mod history;
pub mod job;
mod limits;
pub mod log;
pub mod node;
mod nvlink;
pub mod playbook;
mod rules;

pub use catalogue::{Catalogue, CatalogueError, Component, Entry, Escalation, Rating, Severity, Variant};
pub use collect::{Collector, Horizon, sort, unite};
pub use finding::{Check, Device, FINDINGS_SCHEMA, Finding, Findings, State};
pub use history::{Growth, History, Known};
pub use limits::Limits;
pub use nvlink::{Decoded, NvlinkTable, registers};

/// "3 disks", "1 disk".
fn counted(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}
