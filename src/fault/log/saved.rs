//! A saved log: lines in any form that log writers give them, records that take several lines, and
//! where in it the machine booted again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;

use super::boots::{Direction, Edge, direction, of_banner};
use super::entry::{Entry, Fields, LONGEST, Objects};
use super::envelope::{Message, Origin, Stamp, journal_header, open};
use super::reader::{Event, LogReader};

/// What a saved log tells, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Of a fault.
    Event(Event),
    /// That the machine booted again: all that was told before is history.
    Booted,
}

/// Reads a saved log.
#[derive(Debug)]
pub struct SavedLog {
    reader: LogReader,
    marks: AhoCorasick,
    objects: Objects,
    block: Option<Fields>,
    /// A field of `-o export` that is written as a length and bytes: its name, and what came of it.
    binary: Option<Bytes>,
    /// The piece before had no end.
    cut: bool,
    /// A line or record had a form that is known.
    known: bool,
    /// Lines that look like messages, without anything around them.
    bare: u64,
    /// Lines with something in them.
    written: u64,
    edge: Edge,
    /// A mark of journalctl stood before this line.
    marked: bool,
    /// What is still to come is older: the log runs backwards.
    backwards: bool,
    /// Of each machine: its boot, and when its latest record was received.
    boots: BTreeMap<String, (String, Stamp, Stamp)>,
    /// Machines of which faults were told since the last boot.
    hosts: BTreeSet<String>,
    /// Events that are older than the last boot because the log runs backwards.
    older: u64,
}

/// A field as a length and bytes.
#[derive(Debug)]
struct Bytes {
    name: String,
    /// The length and what it counts, as far as that is kept.
    bytes: Vec<u8>,
    /// What is not kept.
    dropped: u64,
}

/// Most machines whose boots are told apart in one log.
const MOST_HOSTS: usize = 4096;

/// The kernel's first line.
const BANNER: &str = "Linux version ";

impl SavedLog {
    /// Reads by the rules of a reader.
    pub fn new(reader: LogReader) -> SavedLog {
        // Building it fails only on more words than fit into memory.
        let marks = AhoCorasick::new([BANNER, "-- Boot ", "-- Reboot --"]);
        SavedLog {
            reader,
            marks: marks.unwrap_or_else(|_| unreachable!("a few words fit")),
            objects: Objects::default(),
            block: None,
            binary: None,
            cut: false,
            known: false,
            bare: 0,
            written: 0,
            edge: Edge::default(),
            marked: false,
            backwards: false,
            boots: BTreeMap::new(),
            hosts: BTreeSet::new(),
            older: 0,
        }
    }

    /// The reader, with what it has counted.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Events that are history because the log runs backwards and a newer boot came before them.
    pub fn older(&self) -> u64 {
        self.older
    }

    /// Whether anything was written in a form that is known: if not, nothing can be said of it.
    pub fn is_known(&self) -> bool {
        // A log without times and hosts shows by most of its lines.
        self.known || self.bare > 0 && self.bare * 2 >= self.written
    }

    /// Takes a line with its end; what comes without an end is gone on with by the next.
    pub fn line(&mut self, line: &[u8], take: &mut impl FnMut(Told)) {
        let whole_before = !std::mem::replace(&mut self.cut, !line.ends_with(b"\n"));
        if self.binary.is_some() {
            return self.go_on_with_bytes(line);
        }
        let mut line = Cow::Borrowed(line);
        if memchr::memchr(0x1b, &line).is_some() {
            line = Cow::Owned(without_colours(&line));
        }
        let line = &*line;
        if self.objects.is_inside() {
            if !whole_before || self.objects.goes_on(line) {
                return self.json(line, take);
            }
            self.objects.reset();
        }
        if !whole_before {
            // The rest of a line that no log has.
            return;
        }
        if let Some(json) = json_of(line) {
            self.close(take);
            return self.json(json, take);
        }
        if self.field(line, take) {
            return;
        }
        self.close(take);
        self.plain(line, take);
    }

    /// The end of the log.
    pub fn finish(&mut self, take: &mut impl FnMut(Told)) {
        self.binary = None;
        self.close(take);
        if std::mem::take(&mut self.marked) && direction(&self.edge, Stamp::None) == Some(Direction::Forwards) {
            self.boot(take);
        }
    }

    fn json(&mut self, line: &[u8], take: &mut impl FnMut(Told)) {
        let mut objects = std::mem::take(&mut self.objects);
        objects.feed(line, |object| {
            let text = String::from_utf8_lossy(object);
            if let Some(entry) = Entry::of_json(&text, self.reader.clock()) {
                self.entry(&entry, take);
            }
        });
        self.objects = objects;
    }

    /// A line of `-o export` or `-o verbose`; whether it is one.
    fn field(&mut self, line: &[u8], take: &mut impl FnMut(Told)) -> bool {
        let inner = line.trim_ascii();
        if inner.is_empty() {
            let inside = self.block.is_some();
            self.close(take);
            return inside;
        }
        let indent = line.iter().take_while(|byte| **byte == b' ').count();
        if !matches!(indent, 0 | 4) {
            // Another line of a field's value in `-o verbose`: a program's words, whatever they say.
            return self.block.is_some();
        }
        let end = inner.iter().position(|b| !(b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_'));
        let (name, rest) = inner.split_at(end.unwrap_or(inner.len()));
        let known =
            || name.starts_with(b"_") || name.starts_with(b"SYSLOG_") || matches!(name, b"MESSAGE" | b"PRIORITY");
        if let Some(value) = rest.strip_prefix(b"=").filter(|_| !name.is_empty()) {
            if self.block.is_none() && !known() {
                return false;
            }
            let again = name == b"MESSAGE" && self.block.as_ref().is_some_and(Fields::ends_before_a_message);
            if again || name == b"__CURSOR" {
                self.close(take);
            }
            let value = String::from_utf8_lossy(value).into_owned();
            self.block.get_or_insert_default().set(&String::from_utf8_lossy(name), value);
            return true;
        }
        if rest.is_empty() && indent == 0 && self.block.as_ref().is_some_and(Fields::is_framed) {
            // Only the name: a length and bytes follow.
            let name = String::from_utf8_lossy(name).into_owned();
            self.binary = Some(Bytes { name, bytes: Vec::new(), dropped: 0 });
            return true;
        }
        let header = std::str::from_utf8(inner).ok().filter(|_| inner.ends_with(b"]"));
        let Some(stamp) = header.and_then(|text| journal_header(text, self.reader.clock())) else { return false };
        self.close(take);
        self.block = Some(Fields::received(stamp));
        true
    }

    fn go_on_with_bytes(&mut self, line: &[u8]) {
        let Some(mut field) = self.binary.take() else { return };
        field.bytes.extend_from_slice(line);
        let over = field.bytes.len().saturating_sub(8 + LONGEST);
        field.bytes.truncate(8 + LONGEST);
        field.dropped += over as u64;
        let Some(size) = field.bytes.first_chunk().map(|size| u64::from_le_bytes(*size)) else {
            self.binary = Some(field);
            return;
        };
        let read = (field.bytes.len() as u64 - 8).saturating_add(field.dropped);
        // A line's end follows it.
        if read <= size {
            self.binary = Some(field);
            return;
        }
        let end = usize::try_from(size.saturating_add(8)).unwrap_or(usize::MAX).min(field.bytes.len());
        let value = String::from_utf8_lossy(field.bytes.get(8..end).unwrap_or_default());
        // Its lines are one message, as in the kernel's own log.
        let value = value.replace('\n', " ").replace(" NVRM: ", " ");
        self.block.get_or_insert_default().set(&field.name, value);
    }

    /// The record that was open is whole.
    fn close(&mut self, take: &mut impl FnMut(Told)) {
        if let Some(entry) = self.block.take().and_then(Fields::entry) {
            self.entry(&entry, take);
        }
    }

    fn entry(&mut self, entry: &Entry, take: &mut impl FnMut(Told)) {
        self.known = true;
        self.written += 1;
        let host = entry.host.clone().unwrap_or_default();
        if let Some(boot) = &entry.boot {
            self.boot_of(&host, boot, entry.received, take);
        } else {
            self.banner(&entry.message, entry.origin, entry.stamp, &host, take);
            self.edge.pass(entry.stamp, &host);
        }
        if let Some(event) = self.reader.entry(&entry.message, entry.origin, entry.stamp) {
            self.tell(event, host, take);
        }
    }

    /// A record of a boot: of another than the machine's last?
    fn boot_of(&mut self, host: &str, boot: &str, received: Stamp, take: &mut impl FnMut(Told)) {
        let Some((last, first, before)) = self.boots.get_mut(host) else {
            if self.boots.len() < MOST_HOSTS {
                self.boots.insert(host.to_owned(), (boot.to_owned(), received, received));
            }
            return;
        };
        if last == boot {
            *before = received;
            return;
        }
        let edge = Edge::of(*first, *before);
        (*last, *first, *before) = (boot.to_owned(), received, received);
        match direction(&edge, received) {
            Some(Direction::Backwards) => self.backwards |= self.boots.len() == 1,
            Some(Direction::Forwards) if self.is_only(host) => self.boot(take),
            _ => {}
        }
    }

    fn plain(&mut self, line: &[u8], take: &mut impl FnMut(Told)) {
        if line.trim_ascii().is_empty() {
            self.reader.pass();
            return;
        }
        self.written += 1;
        let mark = self.marks.is_match(line);
        if mark && is_mark(line) {
            self.known = true;
            self.marked = true;
            self.reader.pass();
            return;
        }
        if !self.known || self.marked || mark || !self.edge.has_begun() {
            let (text, clock) = (String::from_utf8_lossy(line), self.reader.clock().clone());
            let message = open(&text, &clock);
            self.look_at(&message, line, take);
        }
        self.edge.keep(line);
        if let Some(event) = self.reader.line(line) {
            self.known = true;
            let host = open(&String::from_utf8_lossy(line), self.reader.clock()).host.unwrap_or_default().to_owned();
            self.tell(event, host, take);
        }
    }

    /// A line whose envelope matters: the first, those at a boot, and all until a form is known.
    fn look_at(&mut self, message: &Message<'_>, line: &[u8], take: &mut impl FnMut(Told)) {
        self.known |= message.stamp != Stamp::None || message.origin != Origin::Unknown || message.host.is_some();
        self.bare += u64::from(!self.known && is_message(line));
        let host = message.host.unwrap_or_default().to_owned();
        if std::mem::take(&mut self.marked) {
            self.edge.read(self.reader.clock());
            let same = self.edge.host().is_none_or(|before| before.is_empty() || host.is_empty() || before == host);
            match direction(&self.edge, message.stamp) {
                Some(Direction::Backwards) => self.backwards |= same,
                Some(Direction::Forwards) if same && self.is_only(&host) => self.boot(take),
                _ => {}
            }
        }
        self.banner(message.text, message.origin, message.stamp, &host, take);
        self.edge.begin(message.stamp);
    }

    /// The kernel's first line tells of a boot.
    fn banner(&mut self, text: &str, origin: Origin, stamp: Stamp, host: &str, take: &mut impl FnMut(Told)) {
        if !text.starts_with(BANNER) || origin == Origin::Program {
            return;
        }
        self.edge.read(self.reader.clock());
        match of_banner(&self.edge, stamp) {
            Some(Direction::Backwards) => self.backwards |= self.is_only(host),
            Some(Direction::Forwards) if self.is_only(host) => self.boot(take),
            _ => {}
        }
    }

    /// Whether all faults since the last boot were told of this machine: another's are no history.
    fn is_only(&self, host: &str) -> bool {
        self.hosts.iter().all(|other| other.is_empty() || host.is_empty() || other == host)
    }

    fn boot(&mut self, take: &mut impl FnMut(Told)) {
        if !self.backwards {
            self.hosts.clear();
            self.edge = Edge::default();
            self.reader.forget();
            take(Told::Booted);
        }
    }

    fn tell(&mut self, event: Event, host: String, take: &mut impl FnMut(Told)) {
        if self.backwards {
            self.older += 1;
            return;
        }
        if self.hosts.len() < MOST_HOSTS {
            self.hosts.insert(host);
        }
        take(Told::Event(event));
    }
}

/// `-- Boot 5ad5… --` or `-- Reboot --`, alone on a line, as journalctl writes them. No message can:
/// something stands in front of each.
fn is_mark(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line == b"-- Reboot --" || line.starts_with(b"-- Boot ") && line.ends_with(b" --")
}

/// Where a line of JSON begins: with `data: ` before it in server-sent events, with a record
/// separator in a sequence, perhaps in a list.
fn json_of(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii_start();
    let line = line.strip_prefix(b"\x1e").or_else(|| line.strip_prefix(b"data: ")).unwrap_or(line);
    match line {
        [b'{', ..] | [b'[', b'{', ..] => Some(line),
        _ => None,
    }
}

/// Whether a line without an envelope looks like a message of the kernel: text, and of what it is.
fn is_message(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line.trim_ascii_end()) else { return false };
    !text.contains(|c: char| c.is_control() && c != '\t') && (text.contains(": ") || text.starts_with(BANNER))
}

/// A line without the codes that colour it.
fn without_colours(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = memchr::memchr(0x1b, rest) {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let end = match rest {
            [_, b'[', code @ ..] => code
                .iter()
                .position(|byte| !(0x20..0x40).contains(byte))
                .filter(|&end| (0x40..0x7f).contains(&code[end])),
            _ => None,
        };
        match end {
            Some(end) => rest = &rest[end + 3..],
            None => {
                plain.push(0x1b);
                rest = &rest[1..];
            }
        }
    }
    plain.extend_from_slice(rest);
    plain
}
