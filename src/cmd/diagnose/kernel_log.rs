//! The check `kernel-log`: this machine's log, or a saved one.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::recording;
use super::super::settings::Settings;
use super::Error;
use crate::fault::log::{Clock, LogReader};
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
        let (input, shown) = recording::open(path)?;
        let mut reader = self.reader();
        let mut collector = Collector::new(self.catalogue, self.nvlink, Horizon { boot: None, since: self.since });
        let mut input = BufReader::with_capacity(1 << 18, input);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line without an end is cut at a length that no log line has.
            let read = (&mut input).take(LONGEST_LINE).read_until(b'\n', &mut line);
            if read.map_err(|error| Error::failed(format!("cannot read {shown}"), error))? == 0 {
                break;
            }
            if let Some(event) = reader.line(&line) {
                collector.add(event);
            }
        }
        Ok(outcome(&reader, collector, None))
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
        outcome(&reader, collector, broken.or(lost))
    }

    fn reader(&self) -> LogReader {
        LogReader::new(Clock { now: Timestamp::now(), zone: TimeZone::system() }, self.trusting)
    }
}

/// A journal entry with a stack trace in JSON may have tens of kilobytes.
const LONGEST_LINE: u64 = 1 << 20;

fn outcome(reader: &LogReader, collector: Collector<'_>, trouble: Option<String>) -> (Check, Vec<Finding>) {
    let counts = reader.counts();
    let history = collector.history();
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
