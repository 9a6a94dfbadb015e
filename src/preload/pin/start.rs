//! Starts the process that holds files.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::memory_error::MemoryError;
use super::super::portion::Portion;
use super::super::room::{self, Room, Terms};
use super::hold::{ARGUMENT, Answer, Order};
use super::record::{Pin, PinnedFile, Pins};
use crate::host::page_cache::{CAP_IPC_LOCK, has_capability};
use crate::host::tree::Tree;

/// Looks whether so many bytes may be locked, and whether others keep enough: what is locked can't
/// be taken back when memory runs short, so what is resident already counts as well.
///
/// # Errors
/// If they may not be locked, or do not fit.
pub fn affordable(bytes: u64, resident_bytes: u64, terms: &Terms, tree: &Tree) -> Result<Room, MemoryError> {
    let limit_bytes = lock_limit();
    if limit_bytes.is_some_and(|limit| limit < bytes) {
        return Err(MemoryError::LockLimit { limit_bytes: limit_bytes.unwrap_or(0), needed_bytes: bytes });
    }
    let room = room::look(tree, terms, resident_bytes)?;
    let needed_bytes = bytes.saturating_sub(resident_bytes);
    if needed_bytes > room.bytes {
        return Err(MemoryError::TooLarge { needed_bytes, room });
    }
    Ok(room)
}

/// The most that may be locked; `None` for any amount. The soft limit is raised to the hard one.
fn lock_limit() -> Option<u64> {
    if has_capability(CAP_IPC_LOCK) {
        return None;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    match rustix::process::setrlimit(rustix::process::Resource::Memlock, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Starts `program ARGUMENT` to hold some files, and waits until it does. It has a session of its
/// own and outlives this process.
///
/// # Errors
/// If it can't be started, or can't lock.
pub fn start(program: &Path, source: &str, portions: &[Portion], pins: &Pins) -> Result<Pin, MemoryError> {
    let mut files = Vec::new();
    for portion in portions.iter().filter(|portion| !portion.ranges.is_empty()) {
        files.push(PinnedFile::of(portion).map_err(|error| MemoryError::file("open", &portion.path, error))?);
    }
    let order = Order { source: source.to_owned(), files, directory: pins.directory().to_owned() };
    let failed = |what: &str, error: std::io::Error| MemoryError::Holder(format!("{what}: {error}"));
    let mut command = Command::new(program);
    command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed("cannot start", error))?;
    let order = serde_json::to_string(&order).unwrap_or_default();
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended early says why below.
        let _ = writeln!(stdin, "{order}");
    }
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(|error| failed("cannot hear it", error))?;
    }
    match serde_json::from_str(&line) {
        Ok(Answer::Held(pin)) => Ok(*pin),
        Ok(Answer::Failed(why)) => {
            let _ = child.wait();
            Err(MemoryError::Holder(why))
        }
        Err(_) => {
            let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(MemoryError::Holder(format!("it ended early: {how}")))
        }
    }
}
