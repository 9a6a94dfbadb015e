//! Judges of a machine apart from its GPUs' own word and its log: facts in, findings out. Each
//! knows what only looks like a fault.

mod infiniband;
mod pci;
mod services;
mod storage;
mod system;
mod tasks;

use jiff::Timestamp;

pub use infiniband::rdma_ports;
pub use pci::pci_devices;
pub use services::{UNITS, services};
pub use storage::{disks, file_systems};
pub use system::{clock, crash_records, limits, memory};
pub use tasks::{holders, tasks};

use super::catalogue::{Catalogue, Component, Severity};
use super::counted;
use super::finding::{Device, Finding};

/// What a judge says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// Faults.
    pub findings: Vec<Finding>,
    /// What was looked at, in one line.
    pub detail: String,
    /// What could not be seen: not a fault, and not health either.
    pub blind: Option<String>,
}

impl Verdict {
    fn of(detail: impl Into<String>) -> Verdict {
        Verdict { detail: detail.into(), ..Verdict::default() }
    }

    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

/// A finding of this moment, as the catalogue has it.
fn found(catalogue: &Catalogue, fault: &str, source: &str, now: Timestamp) -> Finding {
    let read = Finding::read(catalogue, fault, Device::default(), Vec::new(), source, now);
    Finding { first_seen: Some(now), ..read }
}

/// The finding is as grave as its entry says for when it comes often.
fn escalate(catalogue: &Catalogue, finding: &mut Finding, times: u64) {
    let rate = catalogue.get(&finding.fault).and_then(|entry| entry.escalate.as_ref());
    if let Some(rate) = rate.filter(|rate| times >= u64::from(rate.count)) {
        finding.severity = finding.severity.max(rate.severity.of(None));
        finding.action.clone_from(&rate.action);
    }
}

/// Circumstances make a finding another than its entry says, unless a site has decided on it.
fn rate_as(catalogue: &Catalogue, finding: &mut Finding, severity: Severity, action: &str) {
    if catalogue.get(&finding.fault).is_none_or(|entry| !entry.decided) {
        finding.severity = severity;
        action.clone_into(&mut finding.action);
    }
}

#[cfg(test)]
mod testing {
    use super::super::{Catalogue, History};
    use jiff::Timestamp;

    pub fn catalogue() -> Catalogue {
        Catalogue::embedded().unwrap()
    }

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    pub fn fresh() -> History {
        History::default().resume(Some("boot"), at(0))
    }

    /// The next look at the same machine, so many seconds later.
    pub fn later(mut history: History, seconds: i64) -> History {
        let now = history.now().as_second() + seconds;
        history.close();
        history.resume(Some("boot"), Timestamp::from_second(now).unwrap())
    }

    pub fn names(findings: &[super::Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.fault.as_str()).collect()
    }
}
