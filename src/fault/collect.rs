//! From events to findings: one finding for each fault on each device, however often it came.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::catalogue::{Catalogue, Component, Entry, Severity};
use super::finding::{Device, Finding};
use super::log::{Event, EventKind, Stamp};
use super::nvlink::{Decoded, NvlinkTable, registers};
use super::rules;

/// Events older than what a collector looks at.
#[derive(Debug, Clone, Default)]
pub struct Horizon {
    /// When the machine booted; what came before is history. Also places times since boot.
    pub boot: Option<Timestamp>,
    /// What came before is history.
    pub since: Option<Timestamp>,
}

/// What makes two events the same finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub fault: String,
    pub pci: Option<String>,
    pub instance: Option<String>,
    pub name: Option<String>,
}

/// All events of one key.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub code: Option<u32>,
    pub count: u64,
    pub first: Stamp,
    pub last: Stamp,
    /// The first line, then the latest two.
    pub lines: VecDeque<String>,
    pub pid: Option<u32>,
    pub process: Option<String>,
    pub fatal: Option<bool>,
    /// What follows the number in the latest line.
    pub detail: String,
    /// The Xid that the driver says it follows from.
    pub caused_by: Option<u32>,
    /// The gravest of the NVLink errors decoded.
    pub decoded: Option<Decoded>,
    /// Times of the latest events, as many as a rate rule asks for.
    pub recent: VecDeque<i128>,
    /// The rate of the entry's rule was reached.
    pub too_often: bool,
    /// Separate incidents: another process, or a minute of quiet in between.
    pub incidents: u64,
}

/// Quiet for this long makes the next event another incident.
const QUIET_US: i128 = 60_000_000;

/// Takes events, gives findings.
#[derive(Debug)]
pub struct Collector<'c> {
    catalogue: &'c Catalogue,
    nvlink: &'c NvlinkTable,
    horizon: Horizon,
    groups: BTreeMap<Key, Group>,
    /// Events before the horizon.
    history: u64,
}

impl<'c> Collector<'c> {
    /// An empty one.
    pub fn new(catalogue: &'c Catalogue, nvlink: &'c NvlinkTable, horizon: Horizon) -> Collector<'c> {
        Collector { catalogue, nvlink, horizon, groups: BTreeMap::new(), history: 0 }
    }

    /// Events that lie before the horizon: history, not faults.
    pub fn history(&self) -> u64 {
        self.history
    }

    /// The machine booted again: what was told so far is history.
    pub fn booted(&mut self) {
        self.history += self.groups.values().map(|group| group.count.max(1)).sum::<u64>();
        self.groups.clear();
    }

    /// Takes an event.
    pub fn add(&mut self, event: Event) {
        if self.is_history(event.stamp) {
            self.history += 1;
            return;
        }
        let (code, fatal, instance, caused_by, detail, more) = match event.kind {
            EventKind::Xid { code, instance, caused_by, detail } => {
                let instance = instance.map(|(gpu, compute)| match compute {
                    Some(compute) => format!("{gpu}/{compute}"),
                    None => gpu.to_string(),
                });
                (Some(code), None, instance, caused_by, detail, false)
            }
            EventKind::Sxid { code, fatal, more, .. } => (Some(code), fatal, None, None, String::new(), more),
            EventKind::Sign => (None, None, None, None, String::new(), false),
        };
        let key = Key {
            fault: event.fault.into_owned(),
            pci: event.pci.map(|pci| pci.as_str().to_owned()),
            instance,
            name: event.name,
        };
        let decoded = match code {
            Some(code @ 144..=150) if key.fault.starts_with("xid") => self.nvlink.decode(code, &detail),
            Some(74) if key.fault.starts_with("xid") => registers(&detail),
            _ => None,
        };
        let rate = self.catalogue.get(&key.fault).and_then(|entry| entry.escalate.as_ref());
        let group = self.groups.entry(key).or_insert_with(|| Group::new(code, event.stamp));
        // Lines of register values stand before or after the event they belong to.
        if !more {
            group.count += 1;
        }
        group.tell_apart(event.stamp, event.pid);
        group.last = event.stamp;
        group.fatal = group.fatal.max(fatal);
        group.caused_by = caused_by.or(group.caused_by);
        group.pid = event.pid.or(group.pid);
        group.process = event.process.or(group.process.take());
        if !detail.is_empty() {
            group.detail = detail;
        }
        if decoded.as_ref().is_some_and(|new| group.decoded.as_ref().is_none_or(|old| new.severity > old.severity)) {
            group.decoded = decoded;
        }
        if group.lines.len() >= 3 {
            group.lines.remove(1);
        }
        group.lines.push_back(event.text);
        if let (Some(rate), Some(now)) = (rate, micros(event.stamp)) {
            group.recent.push_back(now);
            if group.recent.len() > rate.count as usize {
                group.recent.pop_front();
            }
            let span = group.recent.front().map_or(i128::MAX, |first| now - first);
            let full = group.recent.len() >= rate.count as usize;
            group.too_often |= full && span <= i128::from(rate.within_s) * 1_000_000;
        }
    }

    /// The findings, the worst first.
    pub fn finish(mut self, source: &str) -> Vec<Finding> {
        rules::merge_lost(&mut self.groups);
        let mut findings: Vec<Finding> =
            self.groups.iter().map(|(key, group)| self.finding(key, group, source)).collect();
        sort(&mut findings);
        findings
    }

    fn finding(&self, key: &Key, group: &Group, source: &str) -> Finding {
        let mut finding = Finding {
            fault: key.fault.clone(),
            code: group.code,
            title: String::new(),
            component: Component::Gpu,
            device: Device {
                pci: key.pci.clone(),
                instance: key.instance.clone(),
                name: key.name.clone(),
                ..Device::default()
            },
            severity: Severity::Warning,
            scope: "none".to_owned(),
            action: "INVESTIGATE".to_owned(),
            then: None,
            count: group.count.max(1),
            first_seen: self.wall(group.first),
            last_seen: self.wall(group.last),
            evidence: group.lines.iter().cloned().collect(),
            pid: group.pid,
            process: group.process.clone(),
            source: source.to_owned(),
            because: None,
        };
        let Some(entry) = self.catalogue.get(&key.fault) else {
            // Never acted on: nobody knows what it is.
            finding.title = "not in the catalogue".to_owned();
            return finding;
        };
        of_entry(&mut finding, entry, group);
        rules::judge(&mut finding, entry, key, group, &self.groups);
        finding
    }

    fn is_history(&self, stamp: Stamp) -> bool {
        let Some(wall) = self.wall(stamp) else { return false };
        // Clocks step at boot: a minute's grace.
        let boot = self.horizon.boot.and_then(|boot| boot.checked_sub(SignedDuration::from_secs(60)).ok());
        [boot, self.horizon.since].into_iter().flatten().any(|edge| wall < edge)
    }

    fn wall(&self, stamp: Stamp) -> Option<Timestamp> {
        match stamp {
            Stamp::None => None,
            Stamp::Wall(wall) => Some(wall),
            Stamp::SinceBoot(micros) => {
                let since = SignedDuration::from_micros(i64::try_from(micros).ok()?);
                self.horizon.boot.and_then(|boot| boot.checked_add(since).ok())
            }
        }
    }
}

impl Group {
    fn new(code: Option<u32>, stamp: Stamp) -> Group {
        Group {
            code,
            count: 0,
            first: stamp,
            last: stamp,
            lines: VecDeque::new(),
            pid: None,
            process: None,
            fatal: None,
            detail: String::new(),
            caused_by: None,
            decoded: None,
            recent: VecDeque::new(),
            too_often: false,
            incidents: 0,
        }
    }

    /// Counts an event as a new incident, or as part of the last one.
    fn tell_apart(&mut self, stamp: Stamp, pid: Option<u32>) {
        let quiet = match (micros(self.last), micros(stamp)) {
            (Some(last), Some(now)) => now - last >= QUIET_US,
            _ => false,
        };
        let other = pid.is_some() && self.pid.is_some() && pid != self.pid;
        if self.incidents == 0 || quiet || other {
            self.incidents += 1;
        }
    }
}

fn of_entry(finding: &mut Finding, entry: &Entry, group: &Group) {
    finding.title.clone_from(&entry.title);
    finding.component = entry.component;
    finding.severity = entry.severity.of(group.fatal);
    finding.scope.clone_from(&entry.scope);
    finding.action.clone_from(&entry.action);
    finding.then.clone_from(&entry.then);
}

/// A moment in microseconds, to compare with others of the same kind.
pub(super) fn micros(stamp: Stamp) -> Option<i128> {
    match stamp {
        Stamp::None => None,
        Stamp::SinceBoot(micros) => Some(i128::from(micros)),
        Stamp::Wall(wall) => Some(i128::from(wall.as_microsecond())),
    }
}

/// The worst first; of equals the latest.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let newest = b.last_seen.cmp(&a.last_seen);
        b.severity.cmp(&a.severity).then(newest).then_with(|| (&a.fault, &a.device.pci).cmp(&(&b.fault, &b.device.pci)))
    });
}

/// Makes one finding of those that two sources have of one fault on one device: the first stays,
/// as grave as the gravest, with the evidence of all.
pub fn unite(findings: Vec<Finding>) -> Vec<Finding> {
    let mut united: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = |other: &&mut Finding| {
            let (a, b) = (&other.device, &finding.device);
            let device = match (&a.pci, &b.pci) {
                (Some(a_pci), Some(b_pci)) => {
                    a_pci == b_pci && (a.name == b.name || a.name.is_none() || b.name.is_none())
                }
                (None, None) => a.name == b.name,
                _ => false,
            };
            other.fault == finding.fault && other.source != finding.source && device && a.instance == b.instance
        };
        let Some(first) = united.iter_mut().find(same) else {
            united.push(finding);
            continue;
        };
        if finding.severity > first.severity {
            first.severity = finding.severity;
            first.action = finding.action;
            first.because = finding.because.or(first.because.take());
        }
        first.count = first.count.max(finding.count);
        first.first_seen = first.first_seen.into_iter().chain(finding.first_seen).min();
        first.last_seen = first.last_seen.max(finding.last_seen);
        first.device.uuid = first.device.uuid.take().or(finding.device.uuid);
        first.device.index = first.device.index.or(finding.device.index);
        first.pid = first.pid.or(finding.pid);
        first.process = first.process.take().or(finding.process);
        first.evidence.extend(finding.evidence);
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_seen_by_two_is_one() {
        let catalogue = Catalogue::embedded().unwrap();
        let of = |source: &str, pci: &str, second: i64| {
            let device = Device { pci: Some(pci.to_owned()), ..Device::default() };
            let at = Timestamp::from_second(second).unwrap();
            Finding::read(&catalogue, "pcie-link-width", device, vec![source.to_owned()], source, at)
        };
        let grave = Finding { severity: Severity::Critical, ..of("pci", "0000:01:00.0", 20) };
        let united = unite(vec![of("gpu", "0000:01:00.0", 10), of("gpu", "0000:02:00.0", 10), grave]);
        assert_eq!(united.len(), 2);
        assert_eq!((united[0].severity, united[0].source.as_str()), (Severity::Critical, "gpu"));
        assert_eq!(united[0].evidence, ["gpu", "pci"]);
        assert_eq!(united[0].last_seen.unwrap().as_second(), 20);
    }
}
