//! What the process that holds files does: maps, locks, says so, and waits for its end.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::portion;
use super::record::{Pin, PinnedFile, Pins};
use crate::host::page_cache;

/// First argument of the program when it is the process that holds files.
pub const ARGUMENT: &str = "__pin";

/// What it is to hold: the line on its stdin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// What the model is called.
    pub source: String,
    /// The files.
    pub files: Vec<PinnedFile>,
    /// Directory of the records.
    pub directory: PathBuf,
}

/// What it answers: the line on its stdout.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// All is locked.
    Held(Box<Pin>),
    /// It could not.
    Failed(String),
}

/// What the process with [`ARGUMENT`] does: takes its order, locks, answers, lets go of the terminal
/// and waits until it is ended. Returns whether it could.
pub fn serve() -> bool {
    let _ = rustix::thread::set_name(c"aictl-pin");
    let end = End::begin();
    let mut line = String::new();
    let order = match io::stdin().lock().read_line(&mut line) {
        Ok(_) => serde_json::from_str::<Order>(&line).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let held = order.and_then(|order| hold(&order.source, &order.files, &Pins::in_directory(&order.directory)));
    let answer = match &held {
        Ok(held) => Answer::Held(Box::new(held.pin.clone())),
        Err(why) => Answer::Failed(why.clone()),
    };
    let said = serde_json::to_string(&answer).unwrap_or_default();
    let told = writeln!(io::stdout(), "{said}").and_then(|()| io::stdout().flush());
    let (Ok(held), Ok(())) = (held, told) else { return false };
    end.wait_alone();
    drop(held);
    true
}

/// The end of a process that stays behind: SIGTERM, SIGINT or SIGHUP.
pub struct End {
    signals: libc::sigset_t,
}

impl End {
    /// Gives this process a session of its own and takes the signals over. To be called before there
    /// are other threads: they must not get them.
    pub fn begin() -> End {
        // Fails only for who leads a group already, which who is started for this does not.
        let _ = rustix::process::setsid();
        let _ = std::env::set_current_dir("/");
        End { signals: block_signals() }
    }

    /// Lets go of stdin, stdout and stderr, and waits.
    pub fn wait_alone(&self) {
        close_standard_streams();
        wait_for_the_end(&self.signals);
    }
}

/// Files that are held; let go when it is dropped, and the record removed.
#[derive(Debug)]
pub struct Held {
    /// The record.
    pub pin: Pin,
    pins: Pins,
    _locks: Vec<Lock>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pins.remove(&self.pin);
    }
}

/// Locks files in this process and records it.
///
/// # Errors
/// A sentence, if a file is not the one that was meant, its pages can't be locked, or the record
/// can't be written.
pub fn hold(source: &str, files: &[PinnedFile], pins: &Pins) -> Result<Held, String> {
    let mut locks = Vec::new();
    for pinned in files {
        let name = pinned.path.display();
        let file = portion::open(&pinned.path).map_err(|error| format!("cannot open {name}: {error}"))?;
        let metadata = file.metadata().map_err(|error| format!("cannot read {name}: {error}"))?;
        if (metadata.dev(), metadata.ino()) != (pinned.device, pinned.inode) {
            return Err(format!("{name} is another file by now"));
        }
        for range in &pinned.ranges {
            if range.end > metadata.len() {
                return Err(format!("{name} has {} bytes, and {} are to be locked", metadata.len(), range.end));
            }
            locks.push(Lock::new(&file, range).map_err(|error| format!("cannot lock {name}: {error}"))?);
        }
    }
    let pin = Pin::of_this_process(source, files.to_vec(), None).map_err(|error| error.to_string())?;
    pins.write(&pin).map_err(|error| format!("cannot write into {}: {error}", pins.directory().display()))?;
    Ok(Held { pin, pins: pins.clone(), _locks: locks })
}

/// A mapping whose pages are locked. It is never read, so that a file cut short does no harm.
#[derive(Debug)]
struct Lock {
    address: *mut libc::c_void,
    size: usize,
}

impl Lock {
    fn new(file: &File, range: &Range<u64>) -> io::Result<Lock> {
        let overflow = || io::Error::from_raw_os_error(libc::EOVERFLOW);
        let start = range.start / page_cache::page_size() * page_cache::page_size();
        let size = usize::try_from(range.end - start).map_err(|_| overflow())?;
        let offset = libc::off_t::try_from(start).map_err(|_| overflow())?;
        if size == 0 {
            return Ok(Lock { address: std::ptr::null_mut(), size });
        }
        // SAFETY: a new read-only mapping of our own, which nobody touches; mlock fills and locks it.
        unsafe {
            let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
            let address = libc::mmap(std::ptr::null_mut(), size, protection, flags, file.as_raw_fd(), offset);
            if address == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let lock = Lock { address, size };
            // One entry of the page table a huge page, where the cache has such.
            libc::madvise(address, size, libc::MADV_HUGEPAGE);
            if libc::mlock(address, size) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(lock)
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.size > 0 {
            // SAFETY: the mapping made in `new`; unmapping unlocks.
            unsafe { libc::munmap(self.address, self.size) };
        }
    }
}

/// Blocks the signals that end this process, so that they can be waited for.
fn block_signals() -> libc::sigset_t {
    // SAFETY: a set of signals is plain data, made empty before use; the calls change this thread's mask.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    }
}

fn wait_for_the_end(signals: &libc::sigset_t) {
    let mut signal = 0;
    // SAFETY: waits for one of the signals in the set; the number goes where it is told to.
    while unsafe { libc::sigwait(signals, &raw mut signal) } == libc::EINTR {}
}

/// Whoever started us must not wait for the end of our output, nor a shell for its terminal.
fn close_standard_streams() {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
    for stream in 0..3 {
        // SAFETY: replaces this process's own streams by /dev/null.
        unsafe { libc::dup2(null.as_raw_fd(), stream) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cold;
    use super::super::super::portion::Portion;
    use super::*;

    #[test]
    fn what_is_held_is_locked_and_recorded() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, vec![1; 40_000]).unwrap();
        let pins = Pins::in_directory(directory.path().join("pins"));
        let portion =
            Portion { name: "f".to_owned(), path: path.clone(), length: 40_000, ranges: vec![0..4096, 20_000..40_000] };
        let pinned = PinnedFile::of(&portion).unwrap();
        let held = hold("x", std::slice::from_ref(&pinned), &pins).unwrap();
        assert_eq!((held.pin.bytes, pins.all().len()), (24_096, 1));
        let file = File::open(&path).unwrap();
        cold::drop_pages(&file, 0..40_000).unwrap();
        assert!(page_cache::cached(&file, 0..40_000).unwrap().bytes >= 24_096, "locked pages stay");
        // A file that is cut short takes its pages along, and nobody with them.
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        drop(held);
        assert_eq!(pins.all(), []);
        cold::drop_pages(&file, 0..40_000).unwrap();
        assert!(hold("x", std::slice::from_ref(&pinned), &pins).unwrap_err().contains("has 10 bytes"));
        let other = PinnedFile { inode: 1, ..pinned };
        assert!(hold("x", &[other], &pins).unwrap_err().contains("another file"));
    }
}
