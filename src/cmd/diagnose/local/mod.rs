//! `--local`: every source of this machine, one after the other.
//!
//! A source looks at one thing and gives its checks, each with what it found. To add one, add its
//! function to [`SOURCES`].

mod history;
mod node;

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use super::kernel_log::Look;
use crate::fault::{Catalogue, Check, FINDINGS_SCHEMA, Finding, Findings, History, sort, unite};
use crate::host::machine;

/// What a source may need.
pub struct LocalContext<'c> {
    /// What faults are.
    pub catalogue: &'c Catalogue,
    /// How to look at the kernel's log.
    pub look: &'c Look<'c>,
    /// Where /proc, /sys and /dev hang: "/", or a tree of a test.
    pub root: &'c Path,
    /// Longest time a source may take that could hang.
    pub deadline: Duration,
    /// Earlier looks; sources add to it what rates are made of.
    pub history: RefCell<History>,
}

pub use history::Kept;

/// What a source says: its checks, and what each found.
pub type Outcome = Vec<(Check, Vec<Finding>)>;

/// One source.
type Source = fn(&LocalContext<'_>) -> Outcome;

/// All sources, in the order of the report. The kernel's log comes first.
const SOURCES: &[Source] = &[kernel_log, node::node];

/// Looks at this machine, and remembers what rates are made of.
pub fn look(context: LocalContext<'_>, kept: Kept) -> Findings {
    let (mut checks, mut findings) = (Vec::new(), Vec::new());
    for (check, found) in SOURCES.iter().flat_map(|source| source(&context)) {
        checks.push(check);
        findings.extend(found);
    }
    checks.push(kept.write(context.history.into_inner()));
    let mut findings = unite(findings);
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
