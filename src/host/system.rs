//! The machine's clock, limits, memory controllers and what a crash left behind.

use std::path::Path;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;

use super::machine;
use super::tree::Tree;
use crate::fault::facts::{ClockSync, CrashRecord, Limits, MemoryController, Share};

/// Whether the kernel's clock is kept in step, by adjtimex(2), which anybody may ask.
///
/// # Errors
/// A sentence, if the kernel does not say.
pub fn clock() -> Result<ClockSync, String> {
    // SAFETY: all bytes zero is a timex that changes nothing; the call fills it in.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if state < 0 {
        return Err(format!("adjtimex: {}", std::io::Error::last_os_error()));
    }
    let unsynchronised = timex.status & libc::STA_UNSYNC != 0;
    Ok(ClockSync {
        synchronised: state != libc::TIME_ERROR && !unsynchronised,
        largest_error_us: timex.maxerror,
        uptime_s: machine::uptime().as_secs(),
    })
}

/// Limits of the whole machine and how near they are.
///
/// # Errors
/// A sentence, if none of them can be read.
pub fn limits(tree: &Tree) -> Result<Limits, String> {
    let number = |path: &str| tree.number::<u64>(path);
    let netfilter = "/proc/sys/net/netfilter/nf_conntrack";
    let connections = number(&format!("{netfilter}_count")).zip(number(&format!("{netfilter}_max")));
    // "0.1 0.2 0.3 2/345 678": 345 threads there are.
    let loads = tree.read("/proc/loadavg");
    let tasks = loads.as_ref().ok().and_then(|text| text.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok());
    let most = [number("/proc/sys/kernel/pid_max"), number("/proc/sys/kernel/threads-max")];
    let files = tree.word("/proc/sys/fs/file-nr").and_then(|text| {
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [allocated, unused, limit] = numbers[..] else { return None };
        Some(Share { used: allocated.saturating_sub(unused), limit })
    });
    let limits = Limits {
        connections: connections.map(|(used, limit)| Share { used, limit }),
        tasks: tasks.zip(most.into_iter().flatten().min()).map(|(used, limit)| Share { used, limit }),
        files,
    };
    match (limits, loads) {
        (Limits { connections: None, tasks: None, files: None }, Err(error)) => Err(error),
        (limits, _) => Ok(limits),
    }
}

/// Memory controllers; none where the kernel has no driver for them.
///
/// # Errors
/// A sentence, if the list can't be read.
pub fn memory_controllers(tree: &Tree) -> Result<Vec<MemoryController>, String> {
    let base = Path::new("/sys/devices/system/edac/mc");
    let names = tree.names(base)?.into_iter().filter(|name| numbered(name, "mc"));
    Ok(names
        .filter_map(|name| {
            let at = base.join(&name);
            let count = |file: &str| tree.number::<u64>(at.join(file));
            let modules = tree.names(&at).unwrap_or_default().into_iter().filter(|module| numbered(module, "dimm"));
            Some(MemoryController {
                corrected: count("ce_count")?,
                uncorrected: count("ue_count")?,
                modules: modules
                    .map(|module| {
                        let count = |file: &str| tree.number(at.join(&module).join(file)).unwrap_or(0);
                        let label = tree.word(at.join(&module).join("dimm_label")).filter(|label| !label.is_empty());
                        (label.unwrap_or_else(|| module.clone()), count("dimm_ce_count"), count("dimm_ue_count"))
                    })
                    .collect(),
                name,
            })
        })
        .collect())
}

fn numbered(name: &str, word: &str) -> bool {
    name.strip_prefix(word).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Records that a crash left in the machine's own store, or that systemd-pstore took out of it.
///
/// # Errors
/// A sentence, if a store is there and can't be read.
pub fn crash_records(tree: &Tree) -> Result<Vec<CrashRecord>, String> {
    let mut records = Vec::new();
    for store in ["/sys/fs/pstore", "/var/lib/systemd/pstore"] {
        let mut places = vec![Path::new(store).to_owned()];
        while let Some(place) = places.pop() {
            for name in tree.names(&place)? {
                let path = place.join(&name);
                if records.len() >= 64 {
                    break;
                }
                if tree.path(&path).is_dir() {
                    // systemd has a directory for each crash, or one below that.
                    if places.len() < 256 && path.components().count() < 8 {
                        places.push(path);
                    }
                } else if name.starts_with("dmesg") {
                    records.push(crash_record(tree, &path, name)?);
                }
            }
        }
    }
    Ok(records)
}

fn crash_record(tree: &Tree, path: &Path, name: String) -> Result<CrashRecord, String> {
    let text = tree.read(path)?;
    let modified = std::fs::metadata(tree.path(path)).and_then(|data| data.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let telling = ["Kernel panic", "BUG:", "Oops", "Call Trace", "Hardware Error", "RIP:"];
    let lines = text.lines().filter(|line| telling.iter().any(|word| line.contains(word)));
    Ok(CrashRecord {
        panic: text.starts_with("Panic") || text.contains("Kernel panic - not syncing"),
        at: since.and_then(|since| Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()),
        lines: lines.take(4).map(|line| line.trim().to_owned()).collect(),
        name,
    })
}
