//! Kernel lines other than Xids that tell of a fault: what they hold, and where they begin.
//!
//! Every sign names words that must be in the line, so that one search over all words at once
//! passes over the rest of a log. Where a line could be a look-alike, the whole form is checked.

use super::xid::PciAddress;

/// A line that tells of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sign<'a> {
    /// The fault's name in the catalogue.
    pub fault: &'static str,
    /// The device the line names.
    pub pci: Option<PciAddress>,
    /// A name for what has no PCI address: a disk, a network interface, a link.
    pub name: Option<&'a str>,
    /// Process the line names.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<&'a str>,
}

/// Words to look for, and what a message that holds them is.
pub(super) struct Rule {
    /// Must be in the line.
    pub words: &'static str,
    /// Reads the message.
    pub read: for<'a> fn(&'a str) -> Option<Sign<'a>>,
}

/// All signs, in the order they are tried; the first that reads the message counts.
pub(super) const RULES: &[Rule] = &[
    rule("fallen off the bus", lost),
    rule("RmInitAdapter failed", |m| nvrm(m, "gpu-init-failed")),
    rule("rm_init_adapter failed", |m| nvrm(m, "gpu-init-failed")),
    rule("NVIDIA probe routine failed", |m| nvrm(m, "gpu-probe-failed")),
    rule("API mismatch: ", |m| nvrm(m, "driver-mismatch")),
    rule("Rate limiting GSP RPC error prints", |m| nvrm(m, "gsp-rate-limited")),
    rule("detected invalid context, skipping", |m| starts(m, "nvidia-peermem", "peermem-invalid")),
    rule("AER: can't recover (no error_detected callback)", |m| of_device(m, "pcie-aer-no-recovery")),
    rule("PCIe Bus Error: severity=", aer_severity),
    rule("AER: ", aer_root_port),
    rule("Memory cgroup out of memory: Kill", |m| killed(m, "Memory cgroup out of memory: Kill", "oom-memcg")),
    rule("Out of memory: Kill", |m| killed(m, "Out of memory: Kill", "oom-global")),
    rule("Out of memory (oom_kill_allocating_task): Kill", |m| {
        killed(m, "Out of memory (oom_kill_allocating_task): Kill", "oom-global")
    }),
    rule(" blocked for more than ", hung_task),
    rule("soft lockup - CPU#", soft_lockup),
    rule("Kernel panic - not syncing", |m| starts(m, "Kernel panic - not syncing", "kernel-panic")),
    rule("BUG: kernel NULL pointer dereference", |m| starts(m, "BUG: kernel NULL pointer dereference", "kernel-oops")),
    rule("BUG: unable to handle", |m| starts(m, "BUG: unable to handle", "kernel-oops")),
    rule("Unable to handle kernel ", |m| starts(m, "Unable to handle kernel ", "kernel-oops")),
    rule("Internal error: Oops", |m| starts(m, "Internal error: Oops", "kernel-oops")),
    rule("divide error: ", divide_error),
    rule("kernel BUG at ", |m| starts(m, "kernel BUG at ", "kernel-oops")),
    rule("Oops: ", |m| {
        m.split_once("Oops: ").filter(|(before, _)| before.is_empty()).and_then(|_| plain("kernel-oops"))
    }),
    rule("general protection fault", protection_fault),
    rule("Machine Check Exception: ", |m| m.contains("[Hardware Error]").then(|| plain("mce-fatal")).flatten()),
    rule("event severity: fatal", |m| m.contains("[Hardware Error]").then(|| plain("mce-fatal")).flatten()),
    rule("EDAC ", edac),
    rule("Remounting filesystem read-only", |m| filesystem(m, "fs-readonly")),
    rule("EXT4-fs error (device ", |m| starts(m, "EXT4-fs error (device ", "fs-error").map(|s| inside(s, m))),
    rule("BTRFS error (device ", |m| starts(m, "BTRFS error (device ", "fs-error").map(|s| inside(s, m))),
    rule("XFS (", xfs),
    rule("I/O error, dev ", |m| disk(m, "I/O error, dev ")),
    rule("critical medium error, dev ", |m| disk(m, "critical medium error, dev ")),
    rule("Buffer I/O error on dev ", |m| disk(m, "Buffer I/O error on dev ")),
    rule("nvme nvme", nvme),
    rule("not responding", nfs),
    rule("Will cause a leak of a command resource", |m| mlx5(m, "mlx5-cmd-timeout")),
    rule("health compromised - reached miss count", |m| mlx5(m, "mlx5-health")),
    rule("unrecoverable hardware error", |m| mlx5(m, "mlx5-unrecoverable")),
    rule("Detected insufficient power on the PCIe slot", |m| mlx5(m, "mlx5-power")),
    rule("igh temperature", mlx5_hot),
    rule("igh Temperature", mlx5_hot),
    rule("NETDEV WATCHDOG: ", watchdog),
    rule("nf_conntrack: table full", |m| starts(m, "nf_conntrack: ", "conntrack-full")),
    rule("fork rejected by pids controller", |m| starts(m, "cgroup: ", "pid-exhausted")),
    rule("VFS: file-max limit ", |m| starts(m, "VFS: file-max limit ", "fd-exhausted")),
    rule(" in libnccl.so", nccl_fault),
];

/// The faults that signs name, for the catalogue's test.
#[cfg(test)]
pub fn sign_names() -> Vec<&'static str> {
    let source = include_str!("signs.rs").split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let names = source.split('"').skip(1).step_by(2);
    let faults = ["gpu-", "oom-", "pcie-", "mlx5-", "fs-", "edac-", "kernel-"];
    names.filter(|name| faults.iter().any(|start| name.starts_with(start)) && !name.contains(' ')).collect()
}

const fn rule(words: &'static str, read: for<'a> fn(&'a str) -> Option<Sign<'a>>) -> Rule {
    Rule { words, read }
}

fn plain(fault: &'static str) -> Option<Sign<'static>> {
    Some(Sign { fault, ..Sign::default() })
}

fn starts(message: &str, start: &str, fault: &'static str) -> Option<Sign<'static>> {
    message.starts_with(start).then(|| plain(fault)).flatten()
}

/// The first PCI address with domain and function in a message.
pub(super) fn address(message: &str) -> Option<PciAddress> {
    let words = message.split(|c: char| !(c.is_ascii_hexdigit() || c == ':' || c == '.'));
    words
        .map(|word| word.trim_end_matches([':', '.']))
        .find(|word| word.len() >= 12 && word.matches(':').count() == 2 && word.contains('.'))
        .and_then(PciAddress::parse)
}

fn nvrm(message: &str, fault: &'static str) -> Option<Sign<'static>> {
    let rest = message.strip_prefix("NVRM: ")?;
    // With a number it is that Xid's line, not a sign of its own.
    let own = !rest.starts_with("Xid (");
    // "GPU at PCI:0000:01:00": no function.
    let short = || rest.split_once("PCI:").and_then(|(_, r)| PciAddress::parse(r.get(..10)?));
    own.then(|| Sign { fault, pci: address(rest).or_else(short), ..Sign::default() })
}

/// `NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.`, and the last line of the record of three.
fn lost(message: &str) -> Option<Sign<'_>> {
    let rest = message.strip_prefix("NVRM: ")?;
    let starts = ["GPU ", "The NVIDIA GPU ", "fallen off the bus"];
    starts.iter().any(|start| rest.starts_with(start)).then(|| nvrm(message, "gpu-lost-no-xid")).flatten()
}

/// `driver 0000:01:00.0: …`.
fn of_device(message: &str, fault: &'static str) -> Option<Sign<'static>> {
    let (_driver, rest) = message.split_once(' ')?;
    let (place, _) = rest.split_once(": ")?;
    Some(Sign { fault, pci: Some(PciAddress::parse(place)?), ..Sign::default() })
}

/// `nvidia 0000:01:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=…`; kernels from
/// 6.16 on say Correctable and Uncorrectable.
fn aer_severity(message: &str) -> Option<Sign<'_>> {
    let (_, rest) = message.split_once("PCIe Bus Error: severity=")?;
    let fault = match rest {
        r if r.starts_with("Correct") => "pcie-aer-corr",
        r if r.starts_with("Uncorrect") && r.contains("(Fatal)") => "pcie-aer-fatal",
        r if r.starts_with("Uncorrect") => "pcie-aer-nonfatal",
        _ => return None,
    };
    of_device(message, fault)
}

/// `pcieport 0000:00:01.0: AER: Uncorrected (Fatal) error received: 0000:01:00.0`.
fn aer_root_port(message: &str) -> Option<Sign<'_>> {
    let (head, rest) = message.split_once(": AER: ")?;
    let (_driver, port) = head.split_once(' ')?;
    PciAddress::parse(port)?;
    let rest = rest.strip_prefix("Multiple ").unwrap_or(rest);
    let (kind, from) = rest.split_once(" error")?;
    let fault = match kind {
        "Corrected" | "Correctable" => "pcie-aer-corr",
        "Uncorrected (Fatal)" | "Uncorrectable (Fatal)" => "pcie-aer-fatal",
        "Uncorrected (Non-Fatal)" | "Uncorrectable (Non-Fatal)" => "pcie-aer-nonfatal",
        _ => return None,
    };
    let (_, from) = from.split_once("received: ").or_else(|| from.split_once("received from "))?;
    // "id=00e0" on old kernels: then only the port is known.
    let pci = address(from).or_else(|| PciAddress::parse(port));
    Some(Sign { fault, pci, ..Sign::default() })
}

/// `…Killed process 1234 (python3) total-vm:…`, or `Kill process … or sacrifice child` before 5.3.
fn killed<'a>(message: &'a str, start: &str, fault: &'static str) -> Option<Sign<'a>> {
    let rest = message.strip_prefix(start)?;
    let (_, rest) = rest.split_once("process ")?;
    let (pid, rest) = rest.split_once(' ')?;
    let process = rest.strip_prefix('(').and_then(|r| r.rsplit_once(')')).map(|(name, _)| name);
    // The name ends at the first ") " that the line's own words follow.
    let process = process.and_then(|p| p.split(") ").next());
    Some(Sign { fault, pid: pid.trim_end_matches(',').parse().ok(), process, ..Sign::default() })
}

/// `INFO: task kworker/0:1:123 blocked for more than 120 seconds.`
fn hung_task(message: &str) -> Option<Sign<'_>> {
    let rest = message.strip_prefix("INFO: task ")?;
    let (task, rest) = rest.split_once(" blocked for more than ")?;
    rest.split_once(" seconds").filter(|(n, _)| n.bytes().all(|b| b.is_ascii_digit()))?;
    let (name, pid) = task.rsplit_once(':')?;
    Some(Sign { fault: "hung-task", pid: pid.parse().ok(), process: Some(name), ..Sign::default() })
}

/// `watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python3:1234]`.
fn soft_lockup(message: &str) -> Option<Sign<'_>> {
    let start = message.split_once("BUG: soft lockup - CPU#")?.0;
    if !matches!(start, "" | "watchdog: " | "NMI watchdog: ") {
        return None;
    }
    let task = message.rsplit_once('[').and_then(|(_, t)| t.strip_suffix(']')).and_then(|t| t.rsplit_once(':'));
    let (process, pid) = task.map_or((None, None), |(name, pid)| (Some(name), pid.parse().ok()));
    Some(Sign { fault: "soft-lockup", pid, process, ..Sign::default() })
}

/// The kernel's own, `general protection fault, probably for … : 0000 [#1]`; the like of a
/// program's is `traps: python3[12] general protection fault ip:…`.
fn protection_fault(message: &str) -> Option<Sign<'_>> {
    (message.starts_with("general protection fault") && message.contains("[#")).then(|| plain("kernel-oops")).flatten()
}

/// The kernel's own, `divide error: 0000 [#1] SMP`; a program's is `traps: x[12] trap divide error`.
fn divide_error(message: &str) -> Option<Sign<'_>> {
    (message.starts_with("divide error: ") && message.contains("[#")).then(|| plain("kernel-oops")).flatten()
}

/// `EDAC MC0: 1 UE memory read error on …`.
fn edac(message: &str) -> Option<Sign<'_>> {
    let (_, rest) = message.strip_prefix("EDAC ")?.split_once(": ")?;
    let (count, rest) = rest.split_once(' ')?;
    count.parse::<u32>().ok()?;
    match rest.split_once(' ')?.0 {
        "UE" => plain("edac-ue"),
        "CE" => plain("edac-ce-rate"),
        _ => None,
    }
}

/// `EXT4-fs (sda1): Remounting filesystem read-only`.
fn filesystem<'a>(message: &'a str, fault: &'static str) -> Option<Sign<'a>> {
    let kinds = ["EXT4-fs ", "EXT3-fs ", "EXT2-fs ", "F2FS-fs ", "FAT-fs ", "JBD2"];
    kinds.iter().any(|kind| message.starts_with(kind)).then(|| inside(Sign { fault, ..Sign::default() }, message))
}

/// Adds the name between the first brackets, without "device ".
fn inside<'a>(sign: Sign<'static>, message: &'a str) -> Sign<'a> {
    let name = message.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(name, _)| name);
    Sign { name: name.map(|n| n.strip_prefix("device ").unwrap_or(n)), ..sign }
}

fn xfs(message: &str) -> Option<Sign<'_>> {
    let rest = message.strip_prefix("XFS (")?;
    let (name, rest) = rest.split_once("): ")?;
    let bad = [
        "Shutting down filesystem",
        "Corruption",
        "metadata I/O error",
        "Filesystem has been shut down",
        "log I/O error",
        "xfs_do_force_shutdown",
        "User initiated shutdown",
    ];
    let told = bad.iter().any(|words| rest.contains(words)) && !rest.contains("User initiated");
    told.then(|| Sign { fault: "fs-error", name: Some(name), ..Sign::default() })
}

fn disk<'a>(message: &'a str, words: &str) -> Option<Sign<'a>> {
    let (before, rest) = message.split_once(words)?;
    // "print_req_error: ", "blk_update_request: ", "critical medium error, " or nothing.
    if before.len() > 40 || before.contains('"') {
        return None;
    }
    let name = rest.split([',', ' ']).next().filter(|name| !name.is_empty())?;
    Some(Sign { fault: "io-error", name: Some(name), ..Sign::default() })
}

fn nvme(message: &str) -> Option<Sign<'_>> {
    let rest = message.strip_prefix("nvme ")?;
    let (name, rest) = rest.split_once(": ")?;
    let dead = [
        "controller is down; will reset",
        "Device not ready; aborting",
        "Removing after probe failure",
        "Disabling device after reset failure",
        "Device shutdown incomplete",
        "failed to set APST",
    ];
    let timed_out = rest.starts_with("I/O ") && rest.contains(" timeout, ");
    let told = timed_out || dead[..5].iter().any(|words| rest.starts_with(words));
    (name.starts_with("nvme") && told).then(|| Sign { fault: "nvme-dead", name: Some(name), ..Sign::default() })
}

/// `nfs: server 10.0.0.2 not responding, still trying`.
fn nfs(message: &str) -> Option<Sign<'_>> {
    let rest = message.strip_prefix("nfs: server ").or_else(|| message.strip_prefix("nfs4: server "))?;
    let (name, rest) = rest.split_once(" not responding")?;
    rest.starts_with([',', ' ']).then(|| Sign { fault: "nfs-hang", name: Some(name), ..Sign::default() })
}

fn mlx5(message: &str, fault: &'static str) -> Option<Sign<'static>> {
    message.starts_with("mlx5_core ").then(|| Sign { fault, pci: address(message), ..Sign::default() })
}

fn mlx5_hot(message: &str) -> Option<Sign<'_>> {
    let hot = ["High temperature", "High Temperature", "high temperature"].iter().any(|words| message.contains(words));
    if hot { mlx5(message, "mlx5-temp") } else { None }
}

/// `NETDEV WATCHDOG: eth0 (mlx5_core): transmit queue 3 timed out`, since 6.5 with `CPU: 3: ` in it.
fn watchdog(message: &str) -> Option<Sign<'_>> {
    let rest = message.split_once("NETDEV WATCHDOG: ")?.1;
    let told = rest.contains("transmit queue ") && rest.contains(" timed out");
    // Since 6.5 the interface stands before the words, and the CPU after them.
    let before = message.split_once(": NETDEV WATCHDOG").map_or("", |(before, _)| before);
    let named = if rest.starts_with("CPU: ") { before.rsplit(' ').next() } else { rest.split(' ').next() };
    let name = named.filter(|name| !name.is_empty());
    told.then(|| Sign { fault: "netdev-watchdog", name, ..Sign::default() })
}

/// `python3[1234]: segfault at 0 ip … error 4 in libnccl.so.2.27.3[…]`.
fn nccl_fault(message: &str) -> Option<Sign<'_>> {
    let (task, _) = message.split_once(": segfault at ")?;
    let (process, pid) = task.strip_suffix(']')?.rsplit_once('[')?;
    Some(Sign { fault: "nccl-segfault", pid: pid.parse().ok(), process: Some(process), ..Sign::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> Option<Sign<'_>> {
        RULES.iter().filter(|rule| message.contains(rule.words)).find_map(|rule| (rule.read)(message))
    }

    #[test]
    fn lines_as_kernels_write_them() {
        for (message, fault) in [
            ("NVRM: GPU 0000:c1:00.0: RmInitAdapter failed! (0x26:0x56:1463)", "gpu-init-failed"),
            ("NVRM: The NVIDIA probe routine failed for 1 device(s).", "gpu-probe-failed"),
            ("NVRM: GPU at PCI:0000:5e:00: fallen off the bus and is not responding to commands.", "gpu-lost-no-xid"),
            ("pcieport 0000:3a:00.0: AER: Multiple Corrected error received: 0000:3b:00.0", "pcie-aer-corr"),
            (
                "nvidia 0000:3b:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)",
                "pcie-aer-nonfatal",
            ),
            (
                "nvidia 0000:3b:00.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible, (Unregistered Agent ID)",
                "pcie-aer-fatal",
            ),
            ("nvidia 0000:3b:00.0: AER: can't recover (no error_detected callback)", "pcie-aer-no-recovery"),
            (
                "Memory cgroup out of memory: Killed process 3115 (python3) total-vm:15720516kB, anon-rss:1kB",
                "oom-memcg",
            ),
            ("Out of memory: Killed process 3115 (python3) total-vm:15720516kB", "oom-global"),
            ("Out of memory: Kill process 9 (java) score 900 or sacrifice child", "oom-global"),
            ("INFO: task kworker/u8:0:123 blocked for more than 120 seconds.", "hung-task"),
            ("watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python3:1234]", "soft-lockup"),
            ("Kernel panic - not syncing: Fatal exception", "kernel-panic"),
            ("BUG: kernel NULL pointer dereference, address: 0000000000000008", "kernel-oops"),
            ("EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0 (channel:0)", "edac-ue"),
            ("EXT4-fs (nvme0n1p1): Remounting filesystem read-only", "fs-readonly"),
            (
                "EXT4-fs error (device sda1): ext4_find_entry:1463: inode #2: comm ls: reading directory lblock 0",
                "fs-error",
            ),
            ("XFS (nvme1n1): Filesystem has been shut down due to log error (0x2).", "fs-error"),
            ("blk_update_request: I/O error, dev sdb, sector 1953525040 op 0x0:(READ)", "io-error"),
            ("nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff", "nvme-dead"),
            ("nfs: server 10.1.2.3 not responding, still trying", "nfs-hang"),
            (
                "mlx5_core 0000:ca:00.0: wait_func:1151:(pid 7): 2ERR_QP(0x507) timeout. Will cause a leak of a command resource",
                "mlx5-cmd-timeout",
            ),
            (
                "mlx5_core 0000:ca:00.0: poll_health:825:(pid 0): device's health compromised - reached miss count",
                "mlx5-health",
            ),
            ("NETDEV WATCHDOG: eth0 (mlx5_core): transmit queue 3 timed out", "netdev-watchdog"),
            ("Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008", "kernel-oops"),
            ("divide error: 0000 [#1] PREEMPT SMP NOPTI", "kernel-oops"),
            ("blk_update_request: critical medium error, dev sdb, sector 12 op 0x0:(READ)", "io-error"),
            ("XFS (nvme1n1): Log I/O Error Detected. Shutting down filesystem", "fs-error"),
            ("mlx5_core 0000:ca:00.0: Port module event[error]: module 1, Cable error, High Temperature", "mlx5-temp"),
            ("nf_conntrack: nf_conntrack: table full, dropping packet", "conntrack-full"),
            ("python3[1234]: segfault at 8 ip 00007f error 4 in libnccl.so.2.18.1[7f+1]", "nccl-segfault"),
        ] {
            assert_eq!(read(message).map(|sign| sign.fault), Some(fault), "{message}");
        }
    }

    #[test]
    fn what_a_line_names_is_kept() {
        let oom = read("Memory cgroup out of memory: Killed process 3115 (my (old) job) total-vm:1kB").unwrap();
        assert_eq!((oom.pid, oom.process), (Some(3115), Some("my (old")));
        let aer = read("pcieport 0000:3a:00.0: AER: Uncorrected (Fatal) error received: 0000:3b:00.0").unwrap();
        assert_eq!(aer.pci.unwrap().as_str(), "0000:3b:00.0");
        let hung = read("mlx5_core 0000:ca:00.0 ens3: NETDEV WATCHDOG: CPU: 3: transmit queue 1 timed out 5000 ms");
        assert_eq!(hung.unwrap().name, Some("ens3"));
        assert_eq!(read("I/O error, dev nvme0n1, sector 12 op 0x1:(WRITE)").unwrap().name, Some("nvme0n1"));
    }

    #[test]
    fn look_alikes_give_nothing() {
        for message in [
            "audit: Out of memory: Killed process 3 (x)",
            "INFO: task x blocked for more than ever",
            "traps: python3[12] trap divide error ip:55 sp:7f error:0 in python3.11",
            "traps: python3[12] general protection fault ip:7f sp:7f error:0 in libc.so.6",
            "pcieport 0000:00:1c.0: AER: enabled with IRQ 122",
            "EDAC MC: Ver: 3.0.0",
            "XFS (sda1): Mounting V5 Filesystem",
            "nvme nvme0: 8/0/0 default/read/poll queues",
            "nfs: server 10.1.2.3 OK",
            "mlx5_core 0000:ca:00.0: firmware version: 28.39.1002",
            "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.15",
            "EXT4-fs (sda1): mounted filesystem with ordered data mode",
        ] {
            assert_eq!(read(message), None, "{message}");
        }
    }
}
