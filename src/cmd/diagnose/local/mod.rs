//! `--local`: every source of this machine, one after the other.
//!
//! A source looks at one thing and gives its checks, each with what it found. To add one, add its
//! function to [`SOURCES`].

use std::path::Path;
use std::time::Duration;

use super::kernel_log::Look;
use crate::fault::{Catalogue, Check, FINDINGS_SCHEMA, Finding, Findings, sort};
use crate::host::machine;

/// What a source may need.
pub struct LocalContext<'c> {
    /// What faults are.
    #[allow(dead_code, reason = "for the sources that follow")]
    pub catalogue: &'c Catalogue,
    /// How to look at the kernel's log.
    pub look: &'c Look<'c>,
    /// Where /proc, /sys and /dev hang: "/", or a tree of a test.
    #[allow(dead_code, reason = "for the sources that follow")]
    pub root: &'c Path,
    /// Longest time a source may take that could hang.
    #[allow(dead_code, reason = "for the sources that follow")]
    pub deadline: Duration,
}

/// What a source says: its checks, and what each found.
pub type Outcome = Vec<(Check, Vec<Finding>)>;

/// One source.
type Source = fn(&LocalContext<'_>) -> Outcome;

/// All sources, in the order of the report. The kernel's log comes first.
const SOURCES: &[Source] = &[kernel_log];

/// Looks at this machine.
pub fn look(context: &LocalContext<'_>) -> Findings {
    let (mut checks, mut findings) = (Vec::new(), Vec::new());
    for (check, found) in SOURCES.iter().flat_map(|source| source(context)) {
        checks.push(check);
        findings.extend(found);
    }
    sort(&mut findings);
    Findings {
        schema: FINDINGS_SCHEMA,
        node: Some(machine::node_name()),
        boot_id: machine::boot_id(),
        checks,
        findings,
    }
}

fn kernel_log(context: &LocalContext<'_>) -> Outcome {
    vec![context.look.local()]
}
