//! Reads a log line by line: passes over what can't be a fault at a gigabyte a second, reads the
//! rest in full.

use std::borrow::Cow;

use aho_corasick::AhoCorasick;

use super::entry::Entry;
use super::envelope::{Clock, Origin, Stamp, open};
use super::signs::{RULES, Sign, address};
use super::xid::{PciAddress, sxid, xid};

/// What a line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Name in the catalogue: "xid-79", "sxid-20034", "oom-memcg".
    pub fault: Cow<'static, str>,
    /// What kind of line it was.
    pub kind: EventKind,
    /// Device.
    pub pci: Option<PciAddress>,
    /// Another name of what is hit: a disk, a network interface, a server.
    pub name: Option<String>,
    /// Process.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<String>,
    /// When.
    pub stamp: Stamp,
    /// The message, without its envelope.
    pub text: String,
}

/// What only one kind of line has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A GPU's Xid.
    Xid {
        /// Its number.
        code: u32,
        /// MIG GPU instance and compute instance.
        instance: Option<(u32, Option<u32>)>,
        /// The Xid it follows from.
        caused_by: Option<u32>,
        /// What stands after number, pid and name.
        detail: String,
    },
    /// A switch's SXid.
    Sxid {
        /// Its number.
        code: u32,
        /// Whether the line says it is fatal.
        fatal: Option<bool>,
        /// NVLink port.
        link: Option<u32>,
        /// The line adds to the one before.
        more: bool,
    },
    /// Any other line.
    Sign,
}

/// What a reader has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Lines.
    pub lines: u64,
    /// Lines that told of a fault.
    pub events: u64,
    /// Lines that would have, had a program not written them.
    pub refused: u64,
}

/// Reads a kernel log.
#[derive(Debug)]
pub struct LogReader {
    words: AhoCorasick,
    clock: Clock,
    /// Programs may write faults, too: for tests through /dev/kmsg.
    trusting: bool,
    counts: Counts,
    /// A record of several lines that began with a GPU's address, and how many lines ago.
    begun: Option<(PciAddress, u8)>,
}

/// First line of the record of several lines that tells of a lost GPU.
const RECORD: &str = "The NVIDIA GPU ";
/// Lines such a record has, with room for others in between.
const RECORD_LINES: u8 = 6;

impl LogReader {
    /// A reader that takes the kernel's word only, or with `trusting` everybody's.
    pub fn new(clock: Clock, trusting: bool) -> LogReader {
        let words = RULES.iter().map(|rule| rule.words).chain(["Xid (", RECORD, "\"MESSAGE\""]);
        // Building it fails only on more words than fit into memory.
        let words = AhoCorasick::new(words).unwrap_or_else(|_| unreachable!("a few dozen words fit"));
        LogReader { words, clock, trusting, counts: Counts::default(), begun: None }
    }

    /// What has been seen so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Reads one line, without its end.
    pub fn line(&mut self, line: &[u8]) -> Option<Event> {
        self.counts.lines += 1;
        if !self.words.is_match(line) {
            return None;
        }
        let text = String::from_utf8_lossy(line);
        let event = if text.starts_with('{') { self.journal(&text) } else { self.plain(&text) }?;
        self.counts.events += 1;
        Some(event)
    }

    /// A line of `journalctl -o json`.
    fn journal(&mut self, line: &str) -> Option<Event> {
        let entry = Entry::of_json(line, &self.clock)?;
        self.message(&entry.message, entry.origin, entry.stamp)
    }

    /// How times are read.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Counts a line that tells nothing.
    pub(super) fn pass(&mut self) {
        self.counts.lines += 1;
    }

    /// Takes a record that is read already; it counts as a line.
    pub(super) fn entry(&mut self, message: &str, origin: Origin, stamp: Stamp) -> Option<Event> {
        self.counts.lines += 1;
        let event = self.message(message, origin, stamp)?;
        self.counts.events += 1;
        Some(event)
    }

    /// The next line is another boot's: no record goes on across it.
    pub(super) fn forget(&mut self) {
        self.begun = None;
    }

    fn plain(&mut self, line: &str) -> Option<Event> {
        let message = open(line, &self.clock);
        // /dev/kmsg escapes the line ends inside a record.
        let text = if message.text.contains("\\x0a") {
            Cow::Owned(message.text.replace("\\x0a", " ").replace(" NVRM: ", " "))
        } else {
            Cow::Borrowed(message.text)
        };
        self.message(&text, message.origin, message.stamp)
    }

    fn message(&mut self, text: &str, origin: Origin, stamp: Stamp) -> Option<Event> {
        if let Some((_, left)) = &mut self.begun {
            *left -= 1;
            if *left == 0 {
                self.begun = None;
            }
        }
        if text.starts_with("NVRM: The NVIDIA GPU ") && !text.contains("fallen off the bus") {
            self.begun = address(text).map(|pci| (pci, RECORD_LINES));
        }
        let event = event(text, stamp)?;
        if origin == Origin::Program && !self.trusting {
            self.counts.refused += 1;
            return None;
        }
        if event.fault == "gpu-lost-no-xid" && event.pci.is_none() {
            let pci = self.begun.take().map(|(pci, _)| pci);
            return Some(Event { pci, ..event });
        }
        Some(event)
    }
}

/// What a bare message tells.
fn event(text: &str, stamp: Stamp) -> Option<Event> {
    if let Some(x) = xid(text) {
        return Some(Event {
            fault: format!("xid-{}", x.code).into(),
            pci: x.pci,
            name: None,
            pid: x.pid,
            process: x.process.map(str::to_owned),
            stamp,
            text: text.to_owned(),
            kind: EventKind::Xid {
                code: x.code,
                instance: x.instance,
                caused_by: x.caused_by,
                detail: x.text.to_owned(),
            },
        });
    }
    if let Some(s) = sxid(text) {
        return Some(Event {
            fault: format!("sxid-{}", s.code).into(),
            pci: s.pci,
            name: None,
            pid: None,
            process: None,
            stamp,
            text: text.to_owned(),
            kind: EventKind::Sxid { code: s.code, fatal: s.fatal, link: s.link, more: s.more },
        });
    }
    let rules = RULES.iter().filter(|rule| text.contains(rule.words));
    let Sign { fault, pci, name, pid, process } = rules.into_iter().find_map(|rule| (rule.read)(text))?;
    Some(Event {
        fault: fault.into(),
        kind: EventKind::Sign,
        pci,
        name: name.map(str::to_owned),
        pid,
        process: process.map(str::to_owned),
        stamp,
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn reader(trusting: bool) -> LogReader {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        LogReader::new(Clock { now, zone: TimeZone::UTC }, trusting)
    }

    const XID: &str = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.";

    #[test]
    fn every_writer_of_logs_is_read() {
        let wall = |text: &str| Stamp::Wall(text.parse().unwrap());
        let boot = Stamp::SinceBoot(12_345_678_901);
        for (line, stamp) in [
            (XID.to_owned(), Stamp::None),
            (format!("[12345.678901] {XID}"), boot),
            (format!("[12345.678901] [T4711] {XID}"), boot),
            (format!("[12345.678901] [   T99] {XID}"), boot),
            (format!("<3>[12345.678901] {XID}"), boot),
            (format!("3,1234,12345678901,-;{XID}"), boot),
            (format!("3,1234,12345678901,-,caller=T12;{XID}"), boot),
            (format!("kern  :err   : [12345.678901] {XID}"), boot),
            (format!("[Tue Nov 24 10:00:01 2026] {XID}"), wall("2026-11-24T10:00:01Z")),
            (format!("2026-11-24T10:00:01,123456+00:00 {XID}"), wall("2026-11-24T10:00:01.123456Z")),
            (format!("Nov 24 10:00:01 gpu-17 kernel: {XID}"), wall("2026-11-24T10:00:01Z")),
            (format!("Dec  3 10:00:01 gpu-17 kernel: {XID}"), wall("2025-12-03T10:00:01Z")),
            (format!("Nov 24 10:00:01.5 gpu-17 kernel: [12345.678901] {XID}"), wall("2026-11-24T10:00:01.5Z")),
            (format!("<3>Nov 24 10:00:01 gpu-17 kernel: {XID}"), wall("2026-11-24T10:00:01Z")),
            (format!("2026-11-24T10:00:01+0000 gpu-17 kernel: {XID}"), wall("2026-11-24T10:00:01Z")),
            (format!("2026-11-24T11:00:01.25+01:00 gpu-17 kernel: {XID}"), wall("2026-11-24T10:00:01.25Z")),
            (format!("[12345.678901] gpu-17 kernel: {XID}"), boot),
            (format!("<3>1 2026-11-24T10:00:01Z gpu-17 kernel - - - {XID}"), wall("2026-11-24T10:00:01Z")),
            (format!("kernel: {XID}"), Stamp::None),
            (
                format!(r#"{{"MESSAGE":"{XID}","_TRANSPORT":"kernel","__REALTIME_TIMESTAMP":"1795514401000000"}}"#),
                wall("2026-11-24T10:00:01Z"),
            ),
        ] {
            let event = reader(false).line(line.as_bytes());
            let event = event.unwrap_or_else(|| panic!("not read: {line}"));
            assert_eq!((event.fault.as_ref(), event.stamp, event.text.as_str()), ("xid-79", stamp, XID), "{line}");
        }
    }

    #[test]
    fn a_program_that_writes_like_the_kernel_is_refused() {
        for line in [
            format!("12,1234,12345678901,-;{XID}"),
            format!("<13>[12345.678901] {XID}"),
            format!("user  :err   : [12345.678901] {XID}"),
            format!("Nov 24 10:00:01 gpu-17 train[123]: {XID}"),
            format!("2026-11-24T10:00:01+0000 gpu-17 python3[7]: {XID}"),
            format!(r#"{{"MESSAGE":"{XID}","_TRANSPORT":"stdout","SYSLOG_FACILITY":"3"}}"#),
            format!(r#"{{"MESSAGE":"{XID}","_TRANSPORT":"kernel","SYSLOG_FACILITY":"1"}}"#),
        ] {
            let mut strict = reader(false);
            assert_eq!(strict.line(line.as_bytes()), None, "{line}");
            assert_eq!(strict.counts().refused, 1, "{line}");
            assert!(reader(true).line(line.as_bytes()).is_some(), "{line}");
        }
    }

    #[test]
    fn a_record_of_three_lines_is_one_lost_gpu() {
        let mut reader = reader(false);
        let lines = [
            "[ 9.1] NVRM: The NVIDIA GPU 0000:c1:00.0",
            "[ 9.1] NVRM: (PCI ID: 10de:2342) installed in this system has",
            "[ 9.1] NVRM: fallen off the bus and is not responding to commands.",
        ];
        let events: Vec<Event> = lines.iter().filter_map(|line| reader.line(line.as_bytes())).collect();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].fault, "gpu-lost-no-xid");
        assert_eq!(events[0].pci.as_ref().unwrap().as_str(), "0000:c1:00.0");
        let one = format!("4,1,2,-;{}", lines.map(|l| &l[7..]).join("\\x0a"));
        let event = super::tests::reader(false).line(one.as_bytes()).unwrap();
        assert_eq!((event.fault.as_ref(), event.pci.unwrap().as_str()), ("gpu-lost-no-xid", "0000:c1:00.0"));
    }

    #[test]
    fn words_of_the_rules_are_in_lines_of_any_bytes() {
        let mut reader = reader(false);
        assert_eq!(reader.line(b"\xff\xfe Xid ( \x00 \x1b[31m"), None);
        assert!(reader.line("[1.0] NVRM: Xid (PCI:0000:01:00): 31, pid=1, name=\u{1f600}, x".as_bytes()).is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "(\\[|<|[0-9]|Nov |NVRM: Xid \\(|PCI:|: |, |\\]|;|EDAC |.|é){0,40}") {
            reader(true).line(line.as_bytes());
        }
    }
}
