//! Processes and threads as /proc shows them.

use std::fs;
use std::time::Duration;

use rustc_hash::FxHashSet;

/// What a thread does at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadNow {
    /// On a CPU, or ready for one.
    pub running: bool,
    /// In uninterruptible sleep.
    pub uninterruptible: bool,
    /// The system call it sleeps in.
    pub syscall: Option<u32>,
    /// When it began, ns since boot; to a clock tick (10 ms).
    pub started_ns: u64,
}

/// Whether a process is there and not a zombie.
pub fn is_alive(pid: u32) -> bool {
    stat_of(&format!("/proc/{pid}/stat")).is_some_and(|s| !matches!(s.state, 'Z' | 'X'))
}

/// When a process began, in clock ticks since boot; tells it from a later one of the same number.
/// `None` if it is gone, or ended and not yet collected.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = stat_of(&format!("/proc/{pid}/stat")).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
    Some(stat.start_ticks)
}

/// Processes that have a file mapped, as far as their maps may be read.
pub fn mapping(path: &std::path::Path) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let Ok((path, metadata)) = fs::canonicalize(path).and_then(|path| Ok((path.clone(), fs::metadata(path)?))) else {
        return Vec::new();
    };
    // "7f00-7f01 r--s 00000000 fe:00 1234    /path": the device is not compared, since some file
    // systems show another there than stat does.
    let inode = metadata.ino().to_string();
    let name = path.to_string_lossy();
    let is_it = |line: &str| {
        line.split_ascii_whitespace().nth(4) == Some(&*inode) && line.trim_end_matches(" (deleted)").ends_with(&*name)
    };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let maps = |pid: &u32| {
        let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().any(is_it)
    };
    let mut found: Vec<u32> = pids.filter(maps).collect();
    found.sort_unstable();
    found
}

/// The threads of a process; none if it is gone.
pub fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// What a thread does now; `None` if it is gone.
pub fn thread_now(pid: u32, tid: u32) -> Option<ThreadNow> {
    let stat = stat_of(&format!("/proc/{pid}/task/{tid}/stat"))?;
    let syscall = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
    Some(ThreadNow {
        running: stat.state == 'R',
        uninterruptible: stat.state == 'D',
        syscall: syscall.split_whitespace().next().and_then(|word| word.parse().ok()),
        started_ns: stat.start_ticks.saturating_mul(TICK_NS),
    })
}

/// CPU time used so far by all threads of a process, dead ones included.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = stat_of(&format!("/proc/{pid}/stat"))?;
    Some(Duration::from_nanos(stat.cpu_ticks.saturating_mul(TICK_NS)))
}

/// Children of a process, theirs, and so on.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut seen = FxHashSet::from_iter([pid]);
    let mut queue = vec![pid];
    while let Some(parent) = queue.pop() {
        for tid in threads(parent) {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{tid}/children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
                if seen.insert(child) {
                    found.push(child);
                    queue.push(child);
                }
            }
        }
    }
    found
}

/// Whether a process not `ours` has a file (its name, and its device and inode as in
/// [`Mapping::file`](super::maps::Mapping::file)) mapped as code.
pub fn maps_elsewhere(name: &str, file: (u64, u64), ours: impl Fn(u32) -> bool) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| !ours(*pid)).any(|pid| {
        // The text first: parsing the maps of every process of a machine would take long.
        let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(name)
            && super::maps::of(pid).is_ok_and(|maps| maps.iter().any(|m| m.executable && m.file == file))
    })
}

/// USER_HZ is 100 on every Linux of our kind; /proc counts in it.
const TICK_NS: u64 = 10_000_000;

struct Stat {
    state: char,
    cpu_ticks: u64,
    start_ticks: u64,
}

/// Reads a stat file (proc(5)); its second field may hold anything, so fields count from its last ')'.
fn stat_of(path: &str) -> Option<Stat> {
    let text = fs::read(path).ok()?;
    parse_stat(&String::from_utf8_lossy(&text))
}

fn parse_stat(text: &str) -> Option<Stat> {
    let rest = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok());
    Some(Stat {
        state: fields.first()?.chars().next()?,
        cpu_ticks: number(11)?.saturating_add(number(12)?),
        start_ticks: number(19)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_seen() {
        let pid = std::process::id();
        assert!(is_alive(pid));
        assert!(threads(pid).contains(&pid));
        assert!(cpu_time(pid).is_some());
        assert!(thread_now(pid, pid).is_some());
    }

    #[test]
    fn a_child_is_a_descendant() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
        assert!(threads(child.id()).is_empty());
    }

    #[test]
    fn a_library_is_found_in_others() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let maps = crate::host::maps::of(std::process::id()).unwrap();
        let libc = maps.iter().find(|m| m.executable && m.path.to_string_lossy().contains("libc.so")).unwrap();
        let name = libc.path.file_name().unwrap().to_string_lossy();
        assert!(maps_elsewhere(&name, libc.file, |pid| pid == std::process::id()));
        assert!(!maps_elsewhere(&name, libc.file, |_| true));
        assert!(!maps_elsewhere(&name, (1, 2), |_| false));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_name_full_of_brackets_does_not_confuse() {
        let line = "7 (a) b) R) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 0 0 20 0 1 0 99 1 1";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.cpu_ticks, stat.start_ticks), ('S', 11, 99));
        assert!(parse_stat("nonsense").is_none());
        assert!(parse_stat("7 (x) S 1").is_none());
    }
}
