//! One check going over the GPUs: counts what could be read, collects what is wrong.

use jiff::Timestamp;

use super::Machine;
use super::facts::{Failure, Gpu, Look, Reading};
use crate::fault::catalogue::Severity;
use crate::fault::finding::{Check, Device, Finding, State};

/// A check at work.
pub struct Pass<'a> {
    pub machine: &'a Machine<'a>,
    pub look: &'a Look,
    name: &'static str,
    now: Timestamp,
    findings: Vec<Finding>,
    /// Readings that gave a value.
    read: u32,
    /// Why parts could not be seen.
    blind: Vec<String>,
    /// For people.
    notes: Vec<String>,
    /// Judges something else than the GPUs' readings.
    whole: bool,
}

impl<'a> Pass<'a> {
    pub fn new(machine: &'a Machine<'a>, look: &'a Look, name: &'static str, now: Timestamp) -> Pass<'a> {
        let (findings, blind, notes) = (Vec::new(), Vec::new(), Vec::new());
        Pass { machine, look, name, now, findings, read: 0, blind, notes, whole: false }
    }

    /// The GPUs that can say something.
    pub fn gpus(&self) -> impl Iterator<Item = &'a Gpu> + use<'a> {
        self.look.gpus.iter().filter(|gpu| gpu.opened.value().is_some() && !gpu.is_lost())
    }

    /// The value of a reading; a failure makes the check blind there.
    pub fn read<'r, T>(&mut self, gpu: &Gpu, what: &str, reading: &'r Reading<T>) -> Option<&'r T> {
        match reading {
            Reading::Value(value) => {
                self.read += 1;
                Some(value)
            }
            // Told by the checks `nvml` and `gpu-recovery`.
            Reading::NotSupported | Reading::Failed(Failure::Lost | Failure::ResetRequired) => None,
            Reading::Failed(failure) => {
                self.blind(format!("GPU {}: {what}: {failure}", gpu.index));
                None
            }
        }
    }

    /// Something could not be seen.
    pub fn blind(&mut self, why: String) {
        self.blind.push(why);
    }

    /// Something for people to know.
    pub fn note(&mut self, words: impl Into<String>) {
        self.notes.push(words.into());
    }

    /// The check itself has seen what it looks at, whatever the GPUs say.
    pub fn seen(&mut self, words: impl Into<String>) {
        self.whole = true;
        self.note(words);
    }

    /// A GPU has a fault.
    pub fn found(&mut self, gpu: &Gpu, fault: &str, evidence: impl Into<String>) {
        let pci = gpu.pci.clone().or_else(|| self.by_elimination());
        let device = Device { pci, uuid: gpu.uuid.clone(), index: Some(gpu.index), ..Device::default() };
        self.found_on(device, fault, vec![evidence.into()]);
    }

    /// A device, or the machine, has a fault.
    pub fn found_on(&mut self, device: Device, fault: &str, evidence: Vec<String>) {
        self.findings.push(Finding::read(self.machine.catalogue, fault, device, evidence, self.name, self.now));
    }

    /// The last fault found is not news: it has been so for a while, and is told as a note, unless
    /// the site itself decided how bad it is.
    pub fn no_news(&mut self, because: String) {
        let Some(finding) = self.findings.last_mut() else { return };
        if self.machine.catalogue.get(&finding.fault).is_some_and(|entry| !entry.decided) {
            finding.severity = Severity::Info;
        }
        finding.because = Some(because);
    }

    /// Address of the one GPU that the driver no longer names.
    fn by_elimination(&self) -> Option<String> {
        let named = |pci: &str| self.look.gpus.iter().any(|gpu| gpu.pci.as_deref() == Some(pci));
        let mut left = self.machine.bus.gpus.iter().filter(|gpu| !gpu.is_passed_through() && !named(&gpu.pci));
        match (left.next(), left.next()) {
            (Some(gpu), None) => Some(gpu.pci.clone()),
            _ => None,
        }
    }

    /// What came of it.
    pub fn close(mut self) -> (Check, Vec<Finding>) {
        let wrong = self.findings.iter().filter(|finding| finding.severity > Severity::Info).count();
        if !self.whole
            && let Some(trouble) = self.look.trouble()
        {
            let missing = self.look.count.map_or(0, |count| count as usize).saturating_sub(self.look.gpus.len());
            let which = if self.look.gpus.is_empty() { String::new() } else { format!("{missing} GPUs not read: ") };
            self.blind.push(format!("{which}{trouble}"));
        }
        let state = match () {
            () if wrong > 0 => State::Fault,
            () if !self.blind.is_empty() => State::Blind,
            () if self.read == 0 && !self.whole => State::Skipped,
            () => State::Ok,
        };
        let mut words = Vec::new();
        if !self.whole && state == State::Skipped {
            words.push("nothing of the kind on these GPUs".to_owned());
        } else if !self.whole && self.read > 0 {
            words.push(gpus(self.gpus().count()));
        }
        let mut names: Vec<&str> = self.findings.iter().map(|finding| finding.fault.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        words.extend((!names.is_empty()).then(|| names.join(", ")));
        words.append(&mut self.notes);
        let more = self.blind.len().saturating_sub(2);
        words.extend(self.blind.drain(..).take(2));
        words.extend((more > 0).then(|| format!("and {more} more")));
        (Check { name: self.name.to_owned(), state, detail: words.join("; ") }, self.findings)
    }
}

/// "1 GPU", "8 GPUs".
pub fn gpus(count: usize) -> String {
    format!("{count} GPU{}", if count == 1 { "" } else { "s" })
}
