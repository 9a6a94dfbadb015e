//! The journal: lines of JSON that are only ever added, each on disk before what it announces is
//! done, each with a checksum. A line that was cut short by a crash announced nothing that was
//! done, so it is taken off; damage anywhere else means that nobody knows what was done, and
//! nothing is done until a human has looked.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::hands::Sheet;
use super::record::{Event, Record};
use crate::fault::playbook::Clock;

/// An object of a cluster holds a megabyte; from here on old incidents make room.
const SHEET: usize = 600 * 1024;
/// What was closed longer ago than this counts for no rule with its usual settings.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(72);

/// Name of the file in the state directory.
const FILE: &str = "journal.jsonl";
/// What stands before the checksum, the last key of each line.
const SUM: &str = ",\"sum\":\"";

/// Why the journal can't be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// It can't be read or written.
    #[error("cannot {what} {path}")]
    Io {
        /// "open", "write".
        what: &'static str,
        /// Which file or directory.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line that is not the last is not what was written.
    #[error("{path}: line {line} is damaged: what was done can't be known, so nothing is done")]
    Damaged {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
}

/// Who writes, and where.
#[derive(Debug, Clone)]
pub struct Author {
    /// The machine.
    pub node: String,
    /// Its boot.
    pub boot_id: String,
    /// "root (pid 1204)".
    pub who: String,
}

/// The journal of one machine.
#[derive(Debug)]
pub struct Journal {
    paper: Paper,
    records: Vec<Record>,
    author: Author,
}

/// On what it is written.
#[derive(Debug)]
enum Paper {
    /// A file; up to `length` all its lines are whole.
    File { path: PathBuf, file: File, length: u64 },
    /// An object of a cluster.
    Sheet(Sheet),
}

impl Paper {
    fn place(&self) -> String {
        match self {
            Paper::File { path, .. } => path.display().to_string(),
            Paper::Sheet(sheet) => sheet.place(),
        }
    }

    fn append(&mut self, line: &[u8], before: &[Record]) -> io::Result<()> {
        match self {
            Paper::File { file, length, .. } => {
                let written = file.seek(SeekFrom::Start(*length)).and_then(|_| {
                    let (first, second) = line.split_at(line.len() / 2);
                    if dies_soon() {
                        file.write_all(first)?;
                        die_here();
                        file.write_all(second)?;
                    } else {
                        file.write_all(line)?;
                    }
                    die_here();
                    file.sync_data()
                });
                if let Err(error) = written {
                    // A full disk takes part of a line.
                    let _ = file.set_len(*length);
                    return Err(error);
                }
                *length += line.len() as u64;
                Ok(())
            }
            Paper::Sheet(sheet) => {
                let mut text = sheet.text().to_owned();
                if text.len() > SHEET {
                    text = shorter(before)?;
                }
                text.push_str(&String::from_utf8_lossy(line));
                die_here();
                sheet.write(text)
            }
        }
    }
}

/// The lines without those of incidents that were over long ago.
fn shorter(records: &[Record]) -> io::Result<String> {
    let Some(now) = records.last().map(|record| record.at) else { return Ok(String::new()) };
    let closed = |id: &str| {
        let of = records.iter().rev().find(|record| record.event.incident() == Some(id));
        of.is_some_and(|last| {
            let over = matches!(&last.event, Event::Closed { standing, .. }
                if matches!(standing, crate::fault::playbook::Standing::Restored | crate::fault::playbook::Standing::Undone));
            over && now.duration_since(last.at) > KEPT
        })
    };
    let mut text = String::new();
    for record in records {
        let old = match record.event.incident() {
            Some(id) => closed(id),
            None => now.duration_since(record.at) > KEPT,
        };
        if !old {
            text.push_str(&String::from_utf8_lossy(&line(record).map_err(io::Error::other)?));
        }
    }
    Ok(text)
}

impl Journal {
    /// The journal of a node in an object of its cluster. The caller holds the lease.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn on(sheet: Sheet, author: Author) -> Result<Journal, JournalError> {
        let records = Journal::of_text(sheet.text(), &sheet.place())?;
        Ok(Journal { paper: Paper::Sheet(sheet), records, author })
    }

    /// The records of such an object's text.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn of_text(text: &str, place: &str) -> Result<Vec<Record>, JournalError> {
        let (records, length) = parse(text.as_bytes(), Path::new(place), true)?;
        if (length as usize) < text.len() {
            // Such a text is written as a whole; a part of it was written by somebody else.
            return Err(JournalError::Damaged { path: place.to_owned(), line: records.len() + 1 });
        }
        Ok(records)
    }

    /// Opens the journal of a state directory, and makes both if they are not there. The caller
    /// holds the lock.
    ///
    /// # Errors
    /// If it can't be written, or is damaged.
    pub fn open(directory: &Path, author: Author) -> Result<Journal, JournalError> {
        let failed = |what, path: &Path| {
            let path = path.display().to_string();
            move |source| JournalError::Io { what, path, source }
        };
        make_directory(directory).map_err(failed("make", directory))?;
        let path = directory.join(FILE);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = file.map_err(failed("open", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read", &path))?;
        let (records, length) = parse(&bytes, &path, false)?;
        if (length as usize) < bytes.len() {
            // Kept for people, then taken off.
            let torn = directory.join(format!("journal.torn-{length}"));
            std::fs::write(&torn, &bytes[length as usize..]).map_err(failed("write", &torn))?;
            file.set_len(length).and_then(|()| file.sync_all()).map_err(failed("repair", &path))?;
        }
        // Whether it can be written is known before anything is done.
        file.sync_all().map_err(failed("write", &path))?;
        File::open(directory).and_then(|d| d.sync_all()).map_err(failed("write", directory))?;
        Ok(Journal { paper: Paper::File { path, file, length }, records, author })
    }

    /// The records of a state directory, without changing anything; none if there is no journal.
    ///
    /// # Errors
    /// If it can't be read, or is damaged.
    pub fn read(directory: &Path) -> Result<Vec<Record>, JournalError> {
        let path = directory.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(parse(&bytes, &path, false)?.0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(JournalError::Io { what: "read", path: path.display().to_string(), source }),
        }
    }

    /// Who writes.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// All that happened.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Writes what happened, and returns when it is on disk.
    ///
    /// # Errors
    /// If it can't be written; the journal is then as it was.
    pub fn append(&mut self, event: Event, clock: &Clock) -> Result<(), JournalError> {
        let record = Record {
            seq: self.records.last().map_or(0, |record| record.seq) + 1,
            at: clock.now,
            up_s: (clock.up_s * 1000.0).round() / 1000.0,
            boot_id: self.author.boot_id.clone(),
            node: self.author.node.clone(),
            who: self.author.who.clone(),
            event,
        };
        let place = self.paper.place();
        let failed = |source| JournalError::Io { what: "write", path: place, source };
        let line = line(&record).map_err(io::Error::other);
        die_here();
        let written = line.and_then(|line| self.paper.append(&line, &self.records));
        written.map_err(failed)?;
        die_here();
        self.records.push(record);
        Ok(())
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A record with its checksum, the last key, so that the line stays JSON.
fn line(record: &Record) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    // The last bracket.
    line.pop();
    let sum = crc32fast::hash(&line);
    line.extend(format!("{SUM}{sum:08x}\"}}\n").into_bytes());
    Ok(line)
}

/// The records, and up to where the bytes are whole. `gaps`: old records may have been left out.
fn parse(bytes: &[u8], path: &Path, gaps: bool) -> Result<(Vec<Record>, u64), JournalError> {
    let mut records: Vec<Record> = Vec::new();
    let mut length = 0;
    for (i, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let damaged = || JournalError::Damaged { path: path.display().to_string(), line: i + 1 };
        if line.last() != Some(&b'\n') {
            // Cut short while it was written.
            break;
        }
        let record = checked(line).ok_or_else(damaged)?;
        let last = records.last().map_or(0, |record| record.seq);
        if record.seq <= last || (record.seq != last + 1 && !gaps) {
            return Err(damaged());
        }
        records.push(record);
        length += line.len() as u64;
    }
    Ok((records, length))
}

fn checked(line: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(line).ok()?.trim_end();
    let at = text.rfind(SUM)?;
    let sum = u32::from_str_radix(text[at + SUM.len()..].strip_suffix("\"}")?, 16).ok()?;
    (crc32fast::hash(&text.as_bytes()[..at]) == sum).then_some(())?;
    serde_json::from_str(text).ok()
}

/// Tests kill the program at its n-th mark with AICTL_TEST_DIE_AT=n; released builds have no marks.
#[cfg(debug_assertions)]
fn die_here() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MARKS: AtomicU64 = AtomicU64::new(0);
    let mark = MARKS.fetch_add(1, Ordering::SeqCst) + 1;
    let wanted = std::env::var("AICTL_TEST_DIE_AT").ok().and_then(|n| n.parse::<u64>().ok());
    if wanted == Some(mark) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
fn die_here() {}

fn dies_soon() -> bool {
    cfg!(debug_assertions) && std::env::var_os("AICTL_TEST_DIE_AT").is_some()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fault::playbook::DeviceKey;

    pub fn author() -> Author {
        Author { node: "gpu-17".to_owned(), boot_id: "boot".to_owned(), who: "root (pid 7)".to_owned() }
    }

    pub fn clock(up_s: f64) -> Clock {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        Clock { now, local: "2026-11-24T12:00:00".parse().unwrap(), up_s }
    }

    fn seen(fault: &str) -> Event {
        Event::Seen { fault: fault.to_owned(), device: DeviceKey("node".to_owned()) }
    }

    fn journal(directory: &Path) -> Journal {
        Journal::open(directory, author()).unwrap()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a/b");
        let mut first = journal(&state);
        // What could be taken for the checksum is not.
        first.append(seen("x\",\"sum\":\"00000000\"}"), &clock(1.5)).unwrap();
        first.append(seen("y"), &clock(2.0)).unwrap();
        let again = journal(&state);
        assert_eq!(again.records(), first.records());
        assert_eq!(Journal::read(&state).unwrap(), first.records());
        assert!(Journal::read(directory.path()).unwrap().is_empty());
        let text = std::fs::read_to_string(state.join(FILE)).unwrap();
        for line in text.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["sum"].is_string());
        }
    }

    #[test]
    fn a_line_cut_short_anywhere_is_taken_off() {
        let directory = tempfile::tempdir().unwrap();
        let mut whole = journal(directory.path());
        whole.append(seen("x"), &clock(1.0)).unwrap();
        let one = std::fs::metadata(directory.path().join(FILE)).unwrap().len() as usize;
        whole.append(seen("y"), &clock(2.0)).unwrap();
        let path = directory.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        for cut in one..bytes.len() {
            let mut torn = bytes[..cut].to_vec();
            // Some filesystems leave zeros behind.
            torn.extend(vec![0; cut % 3]);
            std::fs::write(&path, torn).unwrap();
            assert_eq!(Journal::read(directory.path()).unwrap().len(), 1, "{cut}");
            let mut again = journal(directory.path());
            assert_eq!(again.records().len(), 1, "{cut}");
            again.append(seen("z"), &clock(3.0)).unwrap();
            assert_eq!(journal(directory.path()).records().len(), 2, "{cut}");
        }
        assert!(directory.path().join(format!("journal.torn-{one}")).exists());
    }

    #[test]
    fn damage_stops_everything() {
        let directory = tempfile::tempdir().unwrap();
        let mut whole = journal(directory.path());
        for fault in ["x", "y", "z"] {
            whole.append(seen(fault), &clock(1.0)).unwrap();
        }
        let path = directory.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        // A byte turned over; a line lost; a line twice.
        let mut flipped = bytes.clone();
        flipped[12] ^= 4;
        for damaged in [flipped, [lines[0], lines[2]].concat(), [lines[0], lines[1], lines[1]].concat()] {
            std::fs::write(&path, damaged).unwrap();
            let error = Journal::open(directory.path(), author()).unwrap_err();
            assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_journal_that_cannot_be_written_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert!(Journal::open(&directory.path().join("file/state"), author()).is_err());
    }
}
