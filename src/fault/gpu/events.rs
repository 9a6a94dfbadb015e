//! Xids that NVML tells of while somebody listens: a second source beside the kernel's log, for where
//! that can't be read, or was overwritten.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::catalogue::{Catalogue, Severity};
use super::super::finding::{Check, Device, Finding, State};

/// Name of the check.
pub const EVENTS: &str = "nvml-events";

/// An Xid as NVML tells of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct XidEvent {
    /// "0000:3b:00.0"; a GPU that is lost may not say it any more.
    pub pci: Option<String>,
    /// Its number.
    pub code: u32,
    /// MIG GPU instance and compute instance.
    pub instance: (Option<u32>, Option<u32>),
}

/// What has been heard so far.
#[derive(Debug, Default)]
pub struct XidEvents {
    heard: BTreeMap<XidEvent, Heard>,
    /// Why nobody listens; at first nobody has begun to.
    deaf: Option<String>,
    /// GPUs that are listened to.
    gpus: u32,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl XidEvents {
    /// Somebody listens to so many GPUs.
    pub fn listening(&mut self, gpus: u32) {
        (self.deaf, self.gpus) = (None, gpus);
    }

    /// Nobody listens, and why. What was heard before stays.
    pub fn deaf(&mut self, why: String) {
        self.deaf = Some(why);
    }

    /// An event.
    pub fn add(&mut self, event: XidEvent, now: Timestamp) {
        let heard = self.heard.entry(event).or_insert(Heard { count: 0, first: now, last: now });
        heard.count += 1;
        heard.last = now;
    }

    /// Adds the check and its findings to those of a look. What the kernel's log tells of as well is
    /// one fault: there it stays, as the rules of the log have judged it, with a line of evidence more.
    pub fn judge(&self, catalogue: &Catalogue, checks: &mut Vec<Check>, findings: &mut Vec<Finding>) {
        let mut own = 0;
        let mut worst = Severity::Info;
        for (event, heard) in &self.heard {
            let fault = format!("xid-{}", event.code);
            let words = format!(
                "NVML told of Xid {} {} from {:.0} to {:.0}",
                event.code,
                if heard.count == 1 { "once".to_owned() } else { format!("{} times", heard.count) },
                heard.first,
                heard.last
            );
            let instance = event.instance.0.map(|gpu| match event.instance.1 {
                Some(compute) => format!("{gpu}/{compute}"),
                None => gpu.to_string(),
            });
            let same = |finding: &&mut Finding| {
                let place = finding.device.pci == event.pci || event.pci.is_none();
                finding.fault == fault && place && (finding.device.instance == instance || instance.is_none())
            };
            if let Some(known) = findings.iter_mut().find(same) {
                known.evidence.push(words);
                continue;
            }
            own += 1;
            let device = Device { pci: event.pci.clone(), instance, ..Device::default() };
            let mut finding = Finding::read(catalogue, &fault, device, vec![words], EVENTS, heard.last);
            finding.code = Some(event.code);
            finding.count = heard.count;
            finding.first_seen = Some(heard.first);
            worst = worst.max(finding.severity);
            findings.push(finding);
        }
        let state = match &self.deaf {
            _ if worst > Severity::Info => State::Fault,
            Some(_) => State::Blind,
            None => State::Ok,
        };
        let mut detail = match &self.deaf {
            Some(why) => format!("nobody listens: {why}"),
            None => format!("listening to {}", super::pass::gpus(self.gpus as usize)),
        };
        if !self.heard.is_empty() {
            let all = self.heard.values().map(|heard| heard.count).sum::<u64>();
            detail.push_str(&format!("; {all} Xids heard, {own} of them not in the kernel's log"));
        }
        checks.push(Check { name: EVENTS.to_owned(), state, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pci: &str, code: u32) -> XidEvent {
        XidEvent { pci: Some(pci.to_owned()), code, instance: (None, None) }
    }

    #[test]
    fn what_the_log_tells_as_well_is_one_fault() {
        let catalogue = Catalogue::embedded().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut events = XidEvents::default();
        events.listening(8);
        for second in 0..3 {
            events.add(event("0000:3b:00.0", 79), at(second));
        }
        events.add(event("0000:5e:00.0", 79), at(9));
        let device = Device { pci: Some("0000:3b:00.0".to_owned()), ..Device::default() };
        let logged = Finding::read(&catalogue, "xid-79", device, vec!["line".to_owned()], "kernel-log", at(1));
        let (mut checks, mut findings) = (Vec::new(), vec![logged]);
        events.judge(&catalogue, &mut checks, &mut findings);
        assert_eq!(findings.len(), 2);
        assert_eq!((findings[0].source.as_str(), findings[0].count, findings[0].evidence.len()), ("kernel-log", 1, 2));
        let own = &findings[1];
        assert_eq!((own.source.as_str(), own.code, own.severity), (EVENTS, Some(79), Severity::Critical));
        assert_eq!((checks[0].state, checks[0].name.as_str()), (State::Fault, EVENTS));
        assert!(checks[0].detail.contains("8 GPUs; 4 Xids heard, 1 of them not"), "{}", checks[0].detail);
    }

    #[test]
    fn who_does_not_listen_is_blind() {
        let catalogue = Catalogue::embedded().unwrap();
        let mut events = XidEvents::default();
        events.deaf("no library".to_owned());
        let (mut checks, mut findings) = (Vec::new(), Vec::new());
        events.judge(&catalogue, &mut checks, &mut findings);
        assert_eq!((checks[0].state, findings.len()), (State::Blind, 0));
    }
}
