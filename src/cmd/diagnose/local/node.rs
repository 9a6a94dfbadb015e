//! The machine apart from its GPUs' own word: PCI, RDMA, disks, tasks, services, clock, limits,
//! memory, crashes. All readers that could hang start at once, each in a process of its own.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{LocalContext, Outcome};
use crate::fault::facts::{PciDevice, RdmaPort};
use crate::fault::node::{self, Verdict};
use crate::fault::{Check, Finding, Severity, State};
use crate::host::apart::Apart;
use crate::host::tree::Tree;
use crate::host::{infiniband, machine, mounts, pci, services, system, tasks};

/// Longest time for the readers together, whatever the deadline: they take some milliseconds.
const LONGEST: Duration = Duration::from_secs(5);

/// Class of a bridge of NVIDIA's own, which NVSwitches are.
const SWITCH: (u32, u32) = (0x10de, 0x0680);

/// A reader at work.
struct Reading(Result<Apart, String>);

impl Reading {
    fn start<T: Serialize>(reader: impl FnOnce() -> Result<T, String>) -> Reading {
        Reading(Apart::start(reader))
    }

    fn take<T: DeserializeOwned>(self, end: Instant) -> Result<T, String> {
        self.0?.wait::<Result<T, String>>(end)?
    }
}

/// All checks of the machine.
pub fn node(context: &LocalContext<'_>) -> Outcome {
    let tree = Tree::new(context.root);
    let budget = context.deadline.min(LONGEST);
    let end = Instant::now() + budget;
    let pci = Reading::start(|| pci::devices(&tree));
    let ports = Reading::start(|| infiniband::ports(&tree));
    let seen = Reading::start(|| tasks::tasks(&tree));
    let held = Reading::start(|| tasks::holders(&tree));
    let controllers = Reading::start(|| system::memory_controllers(&tree));
    let records = Reading::start(|| system::crash_records(&tree));
    let limits = Reading::start(|| system::limits(&tree));
    let units: Vec<&str> = node::UNITS.iter().map(|(unit, _)| *unit).collect();
    let mounts = mounts::all(&tree, Instant::now() + budget / 2);
    let services = services::services(&tree, &units, budget / 2);
    // What was ready long ago must not be late because others were.
    let end = end.max(Instant::now() + Duration::from_millis(500));

    let catalogue = context.catalogue;
    let history = &mut *context.history.borrow_mut();
    let now = history.now();
    let pci = pci.take::<Vec<PciDevice>>(end);
    let switches = pci.iter().flatten().any(|device| (device.vendor, device.class >> 8) == SWITCH);
    let mut checks = vec![
        check("pci", some(&pci, "no PCI", |found| node::pci_devices(found, catalogue, history))),
        check("infiniband", {
            let ports = ports.take::<Vec<RdmaPort>>(end);
            some(&ports, "no RDMA adapter", |found| node::rdma_ports(found, catalogue, history))
        }),
    ];
    checks.push(check("filesystems", some(&mounts, "none", |found| node::file_systems(found, catalogue, now))));
    checks.push(check("disks", some(&mounts, "none", |found| node::disks(found, catalogue, now))));
    checks.push(check("tasks", all(seen.take(end), |found| node::tasks(&found, catalogue, history))));
    checks.push(check(
        "holders",
        match held.take::<crate::fault::facts::Holders>(end) {
            Ok(held) if held.devices.is_empty() => Seen::Skipped("no device file of a GPU"),
            held => all(held, |found| node::holders(&found)),
        },
    ));
    checks.push(check(
        "services",
        match services {
            Ok(None) => Seen::Skipped("systemd does not run this machine"),
            Ok(Some(found)) => Seen::Judged(node::services(&found, switches, catalogue, history)),
            Err(error) => Seen::Blind(error),
        },
    ));
    checks.push(check("clock", all(system::clock(), |found| node::clock(&found, catalogue, now))));
    checks.push(check("limits", all(limits.take(end), |found| node::limits(&found, catalogue, now))));
    checks.push(check("edac", {
        let controllers = controllers.take::<Vec<_>>(end);
        some(&controllers, "no driver for the memory controllers", |found| node::memory(found, catalogue, history))
    }));
    let boot = SignedDuration::try_from(machine::uptime()).ok().and_then(|up| Timestamp::now().checked_sub(up).ok());
    checks.push(check(
        "pstore",
        all(records.take::<Vec<_>>(end), |found| node::crash_records(&found, boot, catalogue, now)),
    ));
    checks
}

/// What became of a reading.
enum Seen {
    Judged(Verdict),
    Skipped(&'static str),
    Blind(String),
}

fn all<T>(reading: Result<T, String>, judge: impl FnOnce(T) -> Verdict) -> Seen {
    match reading {
        Ok(found) => Seen::Judged(judge(found)),
        Err(error) => Seen::Blind(error),
    }
}

/// The same of a list, which may be empty because the machine has no such thing.
fn some<T>(reading: &Result<Vec<T>, String>, none: &'static str, judge: impl FnOnce(&[T]) -> Verdict) -> Seen {
    match reading {
        Ok(found) if found.is_empty() => Seen::Skipped(none),
        Ok(found) => Seen::Judged(judge(found)),
        Err(error) => Seen::Blind(error.clone()),
    }
}

fn check(name: &str, seen: Seen) -> (Check, Vec<Finding>) {
    let (state, detail, findings) = match seen {
        Seen::Skipped(why) => (State::Skipped, why.to_owned(), Vec::new()),
        Seen::Blind(why) => (State::Blind, why, Vec::new()),
        Seen::Judged(Verdict { findings, detail, blind }) => {
            let wrong = findings.iter().any(|finding| finding.severity > Severity::Info);
            let state = match (wrong, &blind) {
                (true, _) => State::Fault,
                (false, Some(_)) => State::Blind,
                (false, None) => State::Ok,
            };
            let parts = [Some(detail).filter(|detail| !detail.is_empty()), blind];
            (state, parts.into_iter().flatten().collect::<Vec<_>>().join("; "), findings)
        }
    };
    (Check { name: name.to_owned(), state, detail }, findings)
}
