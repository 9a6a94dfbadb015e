//! This machine: kernel, capabilities, places, terminal.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::super::settings::Settings;
use super::needs::Command;
use super::{Check, State};
use crate::host::state_file;
use crate::preload::Store;

const AREA: &str = "machine";

/// Capabilities by number (linux/capability.h), what needs them, and why.
const CAPABILITIES: [(u32, &str, &[Command], &str); 4] = [
    (39, "CAP_BPF", &[Command::Profile], "loads eBPF programs"),
    (38, "CAP_PERFMON", &[Command::Profile], "attaches them to probes and samples"),
    (19, "CAP_SYS_PTRACE", &[Command::Profile, Command::Top], "reads other users' processes"),
    (34, "CAP_SYSLOG", &[Command::Diagnose, Command::Remediate], "reads the kernel's log"),
];

/// Everything but the terminal.
pub fn checks() -> Vec<Check> {
    let mut checks = vec![kernel(), btf()];
    checks.extend(capabilities());
    checks.extend([paranoid(), lockdown(), tracefs(), kernel_log(), cgroups(), state(), store()]);
    checks
}

fn word(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel() -> Check {
    let check = Check::new(AREA, "kernel", &[Command::Profile]);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // As README.md says; uprobe links to many places at once came with 6.6.
    if version >= (6, 6) {
        check.ok(release)
    } else {
        check.is(
            State::Absent,
            format!("{release}; eBPF as aictl uses it came with 6.6"),
            "use a kernel of 6.6 or later",
        )
    }
}

fn btf() -> Check {
    let check = Check::new(AREA, "btf", &[Command::Profile]);
    match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(_) => check.ok("/sys/kernel/btf/vmlinux"),
        Err(_) => check.is(
            State::Absent,
            "the kernel does not describe its types",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y; those of current distributions have it",
        ),
    }
}

fn capabilities() -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let one = |(bit, name, needed, why): (u32, &str, &[Command], &str)| {
        let check = Check::new(AREA, name, needed);
        match mask {
            None => check.is(State::Unknown, "/proc/self/status can't be read", "is /proc mounted?"),
            // CAP_SYS_ADMIN was all of BPF and PERFMON before 5.8, and is still taken for them.
            Some(mask) if mask >> bit & 1 == 1 || (bit >= 38 && mask >> 21 & 1 == 1) => check.ok(why),
            Some(_) => check.is(
                State::Absent,
                format!("not held; it {why}"),
                format!("run aictl with sudo, or: sudo setcap {}+ep $(command -v aictl)", name.to_lowercase()),
            ),
        }
    };
    CAPABILITIES.into_iter().map(one).collect()
}

fn paranoid() -> Check {
    let check = Check::new(AREA, "perf_event_paranoid", &[Command::Profile]);
    let Some(level) = word("/proc/sys/kernel/perf_event_paranoid") else {
        return check.is(State::Absent, "the kernel has no perf events", "use a kernel with CONFIG_PERF_EVENTS=y");
    };
    // Whoever has CAP_PERFMON is not bound by it (Documentation/admin-guide/perf-security.rst).
    check.ok(format!("{level}; does not bind who has CAP_PERFMON"))
}

fn lockdown() -> Check {
    let check = Check::new(AREA, "lockdown", &[Command::Profile]);
    let Some(text) = word("/sys/kernel/security/lockdown") else { return check.ok("none") };
    let mode = text.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("none").to_owned();
    if mode == "confidentiality" {
        check.is(
            State::Broken,
            "confidentiality: the kernel lets nobody read memory through eBPF",
            "boot with lockdown=integrity, or without Secure Boot's lockdown",
        )
    } else {
        check.ok(mode)
    }
}

fn tracefs() -> Check {
    let check = Check::new(AREA, "tracefs", &[Command::Profile]);
    let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    if let Some(place) = places.iter().find(|place| Path::new(place).join("events/sched").exists()) {
        return check.ok(*place);
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(2) == Some("tracefs")) {
        check.is(State::Absent, "mounted, and not ours to read", "run aictl with sudo")
    } else {
        check.is(State::Absent, "not mounted", "mount -t tracefs tracefs /sys/kernel/tracing")
    }
}

fn kernel_log() -> Check {
    let check = Check::new(AREA, "kernel-log", &[Command::Diagnose, Command::Remediate]);
    match fs::File::open("/dev/kmsg") {
        Ok(_) => check.ok("/dev/kmsg"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            check.is(State::Absent, "no /dev/kmsg here", "in a container: mount the machine's /dev/kmsg")
        }
        Err(error) => check.is(
            State::Absent,
            format!("/dev/kmsg: {error}"),
            "run aictl with sudo; a saved log can be read as anybody: aictl diagnose --kernel-log FILE",
        ),
    }
}

fn cgroups() -> Check {
    let check = Check::new(AREA, "cgroups", &[Command::Top]);
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        check.ok("version 2")
    } else if Path::new("/sys/fs/cgroup").exists() {
        check.ok("version 1")
    } else {
        check.is(State::Absent, "none: processes can't be joined to pods", "mount cgroup2 at /sys/fs/cgroup")
    }
}

fn state() -> Check {
    let check = Check::new(AREA, "state", &[Command::Diagnose, Command::Remediate]);
    match state_file::usual_place("") {
        Some(place) => match writable(&place) {
            Ok(()) => check.ok(place.display().to_string()),
            Err(why) => check.is(State::Absent, why, "make the directory writable, or name a file: --state FILE"),
        },
        None => check.is(State::Absent, "HOME is not set", "set HOME, or name a file: --state FILE"),
    }
}

fn store() -> Check {
    let check = Check::new(AREA, "store", &[Command::Preload]);
    let given = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let place = match Store::usual(given) {
        Some(store) => store.hub().to_owned(),
        None => return check.is(State::Absent, "HOME is not set", "name a directory: aictl preload --to DIR"),
    };
    match writable(&place) {
        Ok(()) => {
            let free = rustix::fs::statvfs(existing(&place)).ok().map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
            let free = free.map_or(String::new(), |bytes| format!(", {} free", crate::view::human::bytes(bytes)));
            check.ok(format!("{}{free}", place.display()))
        }
        Err(why) => check.is(State::Absent, why, "name another directory: aictl preload --to DIR"),
    }
}

/// The nearest directory that is there.
fn existing(place: &Path) -> &Path {
    place.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"))
}

/// Whether files can be made there, or the directory itself.
fn writable(place: &Path) -> Result<(), String> {
    let there = existing(place);
    let access = rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    access.map_err(|error| format!("{} can't be written: {error}", there.display()))
}

/// The terminal, as the viewers need it.
pub fn terminal(settings: &Settings) -> Check {
    let check = Check::new("terminal", "terminal", &[Command::Timeline, Command::Top]);
    let term = std::env::var("TERM").unwrap_or_default();
    if !std::io::stdout().is_terminal() {
        return check.is(State::Absent, "stdout is no terminal", "the viewers need one: run aictl in a terminal");
    }
    if term.is_empty() || term == "dumb" {
        return check.is(
            State::Absent,
            format!("TERM={term}: it can't place its cursor"),
            "set TERM to what it is, such as xterm-256color",
        );
    }
    let signs = if settings.ui.unicode() { "Unicode" } else { "ASCII (the locale is not UTF-8)" };
    let colours = if settings.ui.colours_stdout() { "colours" } else { "no colours" };
    check.ok(format!("{term}, {signs}, {colours}"))
}
