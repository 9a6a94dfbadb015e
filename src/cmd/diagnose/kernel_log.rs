//! The check `kernel-log`: this machine's log, or a saved one.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::recording;
use super::super::settings::Settings;
use super::Error;
use crate::fault::log::{Clock, Counts, LogReader, SavedLog, Told};
use crate::fault::{Catalogue, Check, Collector, Finding, Horizon, NvlinkTable, Severity, State};
use crate::host::kernel_log::KernelLog;
use crate::host::machine;
use crate::view::human;

/// Name of the check.
const NAME: &str = "kernel-log";

/// How to look at a log.
pub struct Look<'c> {
    /// What faults are.
    pub catalogue: &'c Catalogue,
    /// What NVLink errors are.
    pub nvlink: &'c NvlinkTable,
    /// Leave out what came before.
    pub since: Option<Timestamp>,
    /// Take programs' words.
    pub trusting: bool,
}

impl Look<'_> {
    /// Reads a saved log.
    pub fn replay(&self, path: &Path, settings: &Settings) -> Result<(Check, Vec<Finding>), Error> {
        let progress = settings.ui.progress();
        progress.set(&format!("reading {}", if path == Path::new("-") { Path::new("stdin") } else { path }.display()));
        self.saved(path)
    }

    /// The same, without a word of how far it is.
    pub fn saved(&self, path: &Path) -> Result<(Check, Vec<Finding>), Error> {
        let (mut input, shown) = recording::open(path)?;
        let cannot = |error| Error::failed(format!("cannot read {shown}"), error);
        let head = head(input.as_mut()).map_err(cannot)?;
        let whole = head.as_slice().chain(input);
        let input: Box<dyn Read + '_> =
            if head.starts_with(&GZIP) { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        let mut log = SavedLog::new(self.reader());
        let mut collector = Collector::new(self.catalogue, self.nvlink, Horizon { boot: None, since: self.since });
        let mut take = |told| match told {
            Told::Event(event) => collector.add(event),
            Told::Booted => collector.booted(),
        };
        let mut input = BufReader::with_capacity(1 << 18, input);
        let mut line = Vec::new();
        let mut trouble = None;
        loop {
            line.clear();
            // A line without an end is cut at a length that no log line has.
            match (&mut input).take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => log.line(&line, &mut take),
                Err(error) if log.reader().counts().lines == 0 => return Err(cannot(error)),
                // The rest of a cut file: what came before it counts.
                Err(error) => {
                    trouble = Some(format!("cannot read it to its end: {error}"));
                    break;
                }
            }
        }
        log.finish(&mut take);
        let counts = log.reader().counts();
        if counts.lines > 0 && !log.is_known() {
            trouble = Some(format!("cannot tell what they say: {}", unknown(&head)));
        }
        let older = log.older();
        Ok(outcome(counts, older, collector, trouble))
    }

    /// Reads this machine's log.
    pub fn local(&self) -> (Check, Vec<Finding>) {
        let blind = |detail: String| (Check { name: NAME.to_owned(), state: State::Blind, detail }, Vec::new());
        let mut log = match KernelLog::open() {
            Ok(log) => log,
            Err(error) => return blind(format!("cannot open /dev/kmsg: {error}; run as root, or with CAP_SYSLOG")),
        };
        let uptime = SignedDuration::try_from(machine::uptime()).unwrap_or(SignedDuration::ZERO);
        let boot = Timestamp::now().checked_sub(uptime).ok();
        let mut reader = self.reader();
        let mut collector = Collector::new(self.catalogue, self.nvlink, Horizon { boot, since: self.since });
        let read = log.read(|record| {
            if let Some(event) = reader.line(record) {
                collector.add(event);
            }
        });
        let broken = read.err().map(|error| format!("cannot read /dev/kmsg on: {error}"));
        let lost = (log.lost() > 0).then(|| "older records were overwritten".to_owned());
        outcome(reader.counts(), 0, collector, broken.or(lost))
    }

    fn reader(&self) -> LogReader {
        LogReader::new(Clock { now: Timestamp::now(), zone: TimeZone::system() }, self.trusting)
    }
}

/// A journal entry with a stack trace in JSON may have tens of kilobytes.
const LONGEST_LINE: u64 = 1 << 20;

/// How gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The first bytes.
fn head(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    input.take(6).read_to_end(&mut head)?;
    Ok(head)
}

/// Why nothing of a log could be read, and what can be.
fn unknown(head: &[u8]) -> &'static str {
    match head {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "they are packed by zstd; unpack them: zstd -dc FILE | aictl diagnose --kernel-log -"
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            "they are packed by xz; unpack them: xz -dc FILE | aictl diagnose --kernel-log -"
        }
        [b'B', b'Z', b'h', ..] => {
            "they are packed by bzip2; unpack them: bzip2 -dc FILE | aictl diagnose --kernel-log -"
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            "they are UTF-16; convert them: iconv -f UTF-16 -t UTF-8 FILE | aictl diagnose --kernel-log -"
        }
        _ => {
            "none has a form that is known; read are what dmesg (also --json), journalctl (short, json, export, \
             verbose) and syslog write, and /dev/kmsg, plain or in gzip"
        }
    }
}

fn outcome(counts: Counts, older: u64, collector: Collector<'_>, trouble: Option<String>) -> (Check, Vec<Finding>) {
    let history = collector.history() + older;
    let findings = collector.finish(NAME);
    let mut detail = format!("{} lines, {} told of faults", human::count(counts.lines), human::count(counts.events));
    for (n, words) in [
        (history, "before the last boot or the time asked for"),
        (counts.refused, "written by programs, not by the kernel"),
    ] {
        if n > 0 {
            detail.push_str(&format!("; {} {words}", human::count(n)));
        }
    }
    if let Some(trouble) = &trouble {
        detail.push_str(&format!("; {trouble}"));
    }
    let wrong = findings.iter().any(|finding| finding.severity > Severity::Info);
    let state = if wrong {
        State::Fault
    } else if counts.lines == 0 || trouble.as_ref().is_some_and(|t| t.starts_with("cannot")) {
        // Nothing was read: that is not health.
        State::Blind
    } else {
        State::Ok
    };
    (Check { name: NAME.to_owned(), state, detail }, findings)
}

/// A time, or a length back from now.
pub fn since(text: &str) -> Result<Timestamp, Error> {
    if let Ok(length) = text.parse::<super::super::values::Length>()
        && let Ok(back) = SignedDuration::try_from(length.0)
        && let Ok(time) = Timestamp::now().checked_sub(back)
    {
        return Ok(time);
    }
    let local = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(TimeZone::system()).ok().map(|z| z.timestamp());
    text.parse::<Timestamp>().ok().or_else(local).ok_or_else(|| {
        Error::usage(format!("--since {text}: not a time"))
            .hint("write 2h, 30m, 2026-11-24T10:00:00Z or 2026-11-24T10:00")
    })
}
