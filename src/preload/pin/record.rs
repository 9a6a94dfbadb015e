//! Which processes hold which files.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::portion::Portion;
use crate::host::{machine, process, state_file};

/// A process that holds files in memory (`aictl.pin/v1`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// Always "aictl.pin/v1".
    pub schema: String,
    /// The process.
    pub pid: u32,
    /// When it began, in clock ticks since boot: tells it from a later process of the same number.
    pub start_ticks: u64,
    /// The boot that it belongs to.
    pub boot_id: Option<String>,
    /// What the model is called.
    pub source: String,
    /// Bytes that are locked.
    pub bytes: u64,
    /// Files that are locked, or parts of them.
    pub files: Vec<PinnedFile>,
    /// The GPU in whose memory they are kept instead, as CUDA counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
    /// Since when.
    pub since: Timestamp,
}

/// A file that is locked. It is known by its inode: the name may mean another by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedFile {
    /// Where it was.
    pub path: PathBuf,
    /// Its device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// What of it is locked, in order.
    pub ranges: Vec<Range<u64>>,
}

impl PinnedFile {
    /// The file of a portion, as it is now.
    ///
    /// # Errors
    /// If it is not there.
    pub fn of(portion: &Portion) -> io::Result<PinnedFile> {
        let metadata = fs::metadata(&portion.path)?;
        Ok(PinnedFile {
            path: fs::canonicalize(&portion.path)?,
            device: metadata.dev(),
            inode: metadata.ino(),
            ranges: portion.ranges.clone(),
        })
    }

    fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    fn covers(&self, other: &PinnedFile) -> bool {
        let within =
            |range: &Range<u64>| self.ranges.iter().any(|own| own.start <= range.start && range.end <= own.end);
        self.id() == other.id() && other.ranges.iter().all(within)
    }
}

/// The directory with the records of this node.
#[derive(Debug, Clone)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// The records in a directory.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Pins {
        Pins { directory: directory.into() }
    }

    /// The usual place: a pin ends with the machine's run, so below /run for root, else below
    /// $XDG_RUNTIME_DIR, else where state is kept. `None` without a home.
    pub fn usual() -> Option<Pins> {
        if rustix::process::geteuid().is_root() {
            return Some(Pins::in_directory("/run/aictl/pins"));
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let directory = runtime.map(|path| path.join("aictl/pins")).or_else(|| state_file::usual_place("pins"));
        directory.map(Pins::in_directory)
    }

    /// Where the records are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The processes that hold something now. Records of those that are gone are removed on the way.
    pub fn all(&self) -> Vec<Pin> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = state_file::read(&path).ok().flatten();
            let Some(pin) = text.and_then(|text| serde_json::from_str::<Pin>(&text).ok()) else { continue };
            if pin.is_alive() {
                found.push(pin);
            } else {
                let _ = fs::remove_file(&path);
            }
        }
        found.sort_by_key(|pin| (pin.since, pin.pid));
        found
    }

    /// Bytes of some files that are locked. Each counts once, however many hold it.
    pub fn pinned_bytes(&self, portions: &[Portion]) -> u64 {
        let pins = self.all();
        let files = portions.iter().filter_map(|portion| PinnedFile::of(portion).ok());
        let locked = |file: PinnedFile| {
            let by_pin = pins.iter().flat_map(|pin| &pin.files).filter(|pinned| pinned.id() == file.id());
            let shared = by_pin.map(|pinned| overlap(&pinned.ranges, &file.ranges));
            shared.max().unwrap_or(0)
        };
        files.map(locked).sum()
    }

    /// The processes that hold any of some files.
    pub fn holders(&self, portions: &[Portion]) -> Vec<Pin> {
        let wanted: BTreeSet<(u64, u64)> =
            portions.iter().filter_map(|portion| PinnedFile::of(portion).ok()).map(|file| file.id()).collect();
        let holds = |pin: &Pin| pin.files.iter().any(|file| wanted.contains(&file.id()));
        self.all().into_iter().filter(holds).collect()
    }

    /// The process that holds all of some files, if one does.
    pub fn holder_of_all(&self, portions: &[Portion]) -> Option<Pin> {
        let wanted: Vec<PinnedFile> = portions
            .iter()
            .filter(|portion| !portion.ranges.is_empty())
            .map(PinnedFile::of)
            .collect::<io::Result<_>>()
            .ok()?;
        let holds = |pin: &Pin| {
            !wanted.is_empty() && wanted.iter().all(|file| pin.files.iter().any(|pinned| pinned.covers(file)))
        };
        self.all().into_iter().find(holds)
    }

    /// Whether any process holds a file, which its inode tells. For those who would remove it.
    pub fn is_pinned(&self, path: &Path) -> bool {
        let Ok(metadata) = fs::metadata(path) else { return false };
        let id = (metadata.dev(), metadata.ino());
        self.all().iter().any(|pin| pin.files.iter().any(|file| file.id() == id))
    }

    /// Writes a record.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, pin: &Pin) -> io::Result<()> {
        let text = serde_json::to_string_pretty(pin).map_err(io::Error::other)?;
        state_file::write(&self.path(pin), &text)
    }

    /// Removes a record.
    pub fn remove(&self, pin: &Pin) {
        let _ = fs::remove_file(self.path(pin));
    }

    fn path(&self, pin: &Pin) -> PathBuf {
        self.directory.join(format!("{}-{}.json", pin.pid, pin.start_ticks))
    }

    /// Ends a process that holds files, and waits until it is gone.
    ///
    /// # Errors
    /// If it may not be ended, or does not end in time.
    pub fn end(&self, pin: &Pin, deadline: Duration) -> io::Result<()> {
        let end = Instant::now() + deadline;
        let Some(pid) = i32::try_from(pin.pid).ok().and_then(rustix::process::Pid::from_raw) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no process id"));
        };
        // The descriptor stands for this process even if its number is another's in a moment; that
        // it is the right one is looked at once it is held.
        let handle = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !pin.is_alive() {
            return Ok(());
        }
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
            match rustix::process::pidfd_send_signal(&handle, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
            let half = Instant::now() + end.saturating_duration_since(Instant::now()) / 2;
            while Instant::now() < half {
                if !pin.is_alive() {
                    self.remove(pin);
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {} does not end", pin.pid)))
    }
}

impl Pin {
    /// Of `schema`.
    pub const SCHEMA: &'static str = "aictl.pin/v1";

    /// The record of this process.
    ///
    /// # Errors
    /// If /proc does not say when it began.
    pub fn of_this_process(source: &str, files: Vec<PinnedFile>, gpu: Option<u32>) -> io::Result<Pin> {
        let pid = std::process::id();
        let ranges = || files.iter().flat_map(|file| &file.ranges);
        Ok(Pin {
            schema: Pin::SCHEMA.to_owned(),
            pid,
            start_ticks: process::start_ticks(pid).ok_or_else(|| io::Error::other("cannot read /proc/self/stat"))?,
            boot_id: machine::boot_id(),
            source: source.to_owned(),
            bytes: ranges().map(|range| range.end - range.start).sum(),
            files,
            gpu,
            since: Timestamp::now(),
        })
    }

    /// Whether its process is there, and the same one.
    pub fn is_alive(&self) -> bool {
        let same_boot = self.boot_id.is_none() || self.boot_id == machine::boot_id();
        same_boot && process::start_ticks(self.pid) == Some(self.start_ticks)
    }
}

/// Bytes that two lists of ranges, each in order, have in common.
fn overlap(one: &[Range<u64>], other: &[Range<u64>]) -> u64 {
    let shared = |a: &Range<u64>, b: &Range<u64>| a.end.min(b.end).saturating_sub(a.start.max(b.start));
    one.iter().flat_map(|a| other.iter().map(move |b| shared(a, b))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(pid: u32, file: PinnedFile) -> Pin {
        Pin {
            schema: Pin::SCHEMA.to_owned(),
            pid,
            start_ticks: process::start_ticks(pid).unwrap_or(1),
            boot_id: machine::boot_id(),
            source: "x".to_owned(),
            bytes: 10,
            files: vec![file],
            gpu: None,
            since: Timestamp::UNIX_EPOCH,
        }
    }

    fn portion(path: &Path, range: Range<u64>) -> Portion {
        Portion { name: "f".to_owned(), path: path.to_owned(), length: 100, ranges: std::iter::once(range).collect() }
    }

    #[test]
    fn records_live_as_long_as_their_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, [0; 100]).unwrap();
        let pins = Pins::in_directory(directory.path().join("pins"));
        assert_eq!(pins.all(), []);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let held = pin(child.id(), PinnedFile::of(&portion(&path, 0..50)).unwrap());
        pins.write(&held).unwrap();
        fs::write(directory.path().join("pins/broken.json"), "{").unwrap();
        assert_eq!(pins.all(), std::slice::from_ref(&held));
        assert!(pins.is_pinned(&path) && !pins.is_pinned(directory.path()));
        assert_eq!(pins.pinned_bytes(&[portion(&path, 40..80)]), 10);
        assert_eq!(pins.holder_of_all(&[portion(&path, 10..50)]), Some(held.clone()));
        assert_eq!(pins.holder_of_all(&[portion(&path, 10..51)]), None);
        assert_eq!(pins.holders(&[portion(&path, 60..70)]).len(), 1);
        // Reaps it, as init would.
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        pins.end(&held, Duration::from_secs(20)).unwrap();
        reaper.join().unwrap();
        assert_eq!(pins.all(), []);
        pins.end(&held, Duration::from_secs(1)).unwrap();
        let mut other = pin(std::process::id(), held.files[0].clone());
        other.start_ticks += 1;
        pins.write(&other).unwrap();
        assert_eq!(pins.all(), [], "a later process of the same number");
        assert!(!pins.path(&other).exists());
    }

    #[test]
    fn overlaps_are_counted() {
        assert_eq!(overlap(&[0..10, 20..30], std::slice::from_ref(&(5..25))), 10);
        assert_eq!(overlap(&[0..10, 30..40], &[10..20, 20..30]), 0);
    }
}
