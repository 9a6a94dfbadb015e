//! `aictl diagnose --local` on machines with GPUs: a fixture of /sys, /proc and /dev, and a
//! libnvidia-ml.so.1 of our own that the real loader loads (tests/support/nvml).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command as System;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

use crate::support;

/// Eight healthy H100s, at rest.
pub const H100: &str = include_str!("../support/nvml/h100.txt");

/// A machine.
struct Machine {
    directory: TempDir,
    library: Option<PathBuf>,
    facts: String,
}

/// Address of a GPU.
fn pci(gpu: u32) -> String {
    format!("0000:{:02x}:00.0", 0x1b + gpu * 0x10)
}

/// Whether the stand-in can be built here.
pub fn can_build() -> bool {
    support::require("a C compiler", support::program("cc").is_some())
}

/// The stand-in, built once; the old one lacks calls of newer drivers.
pub fn library(old: bool) -> PathBuf {
    static BUILT: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/nvml/nvml.c");
        [("nvml-new", "-DNEW"), ("nvml-old", "-DOLD")].map(|(name, variant)| {
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            fs::create_dir_all(&directory).unwrap();
            let beside = directory.join(format!("new.{}", std::process::id()));
            let mut cc = System::new("cc");
            cc.args(["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Werror", variant]);
            let output = cc.arg("-o").arg(&beside).arg(&source).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            fs::rename(&beside, directory.join("libnvidia-ml.so.1")).unwrap();
            directory
        })
    });
    built[usize::from(old)].clone()
}

impl Machine {
    /// Eight H100s, with lines of facts changed.
    fn with(changes: &str) -> Machine {
        let machine =
            Machine { directory: tempfile::tempdir().unwrap(), library: Some(library(false)), facts: String::new() };
        for gpu in 0..8 {
            machine.add(&pci(gpu), "nvidia");
            machine.write(&format!("dev/nvidia{gpu}"), "");
        }
        machine.write("dev/kmsg", "6,1,1,-;a kernel that boots\n");
        machine.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Sat\n");
        machine.facts(changes)
    }

    /// Changes what NVML says.
    fn facts(mut self, changes: &str) -> Machine {
        self.facts = H100.to_owned();
        for gpu in 0..8 {
            self.facts.push_str(&format!("{gpu}.uuid GPU-{gpu}\n{gpu}.pci 0000{}\n", pci(gpu).to_uppercase()));
        }
        self.facts.push_str(changes);
        self.facts.push('\n');
        self
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Puts a GPU on PCI.
    fn add(&self, address: &str, driver: &str) {
        let device = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{device}/vendor"), "0x10de\n");
        self.write(&format!("{device}/class"), "0x030200\n");
        symlink(format!("../../../bus/pci/drivers/{driver}"), self.root().join(device).join("driver")).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let facts = self.directory.path().join("facts");
        fs::write(&facts, &self.facts).unwrap();
        let library = self.library.clone().unwrap_or_else(|| {
            // A file that is no library keeps the loader from a real one of this machine.
            let directory = self.directory.path().join("broken");
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("libnvidia-ml.so.1"), "x".repeat(4096)).unwrap();
            directory
        });
        let mut command = Command::cargo_bin("aictl").unwrap();
        command
            .env_clear()
            .env("LANG", "C.UTF-8")
            .env("COLUMNS", "100")
            .env("LD_LIBRARY_PATH", library)
            .env("AICTL_TEST_NVML", facts)
            .args(["diagnose", "--local", "--only", "kernel-log,gpu", "--root"])
            .arg(self.root())
            .arg("--state")
            .arg(self.directory.path().join("history.json"))
            .args(arguments);
        command
    }

    fn look(&self, arguments: &[&str]) -> Found {
        let begin = Instant::now();
        let output = self.command(arguments).args(["-o", "json"]).output().unwrap();
        let took = begin.elapsed();
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        Found { json, code: output.status.code().unwrap(), took }
    }
}

/// What was found.
struct Found {
    json: Value,
    code: i32,
    took: Duration,
}

impl Found {
    fn state(&self, check: &str) -> &str {
        let checks = self.json["checks"].as_array().unwrap();
        let check = checks.iter().find(|c| c["name"] == check).unwrap_or_else(|| panic!("no check {check}"));
        check["state"].as_str().unwrap()
    }

    fn detail(&self, check: &str) -> &str {
        let checks = self.json["checks"].as_array().unwrap();
        checks.iter().find(|c| c["name"] == check).unwrap()["detail"].as_str().unwrap()
    }

    fn faults(&self) -> Vec<&str> {
        self.json["findings"].as_array().unwrap().iter().map(|f| f["fault"].as_str().unwrap()).collect()
    }

    fn finding(&self, fault: &str) -> &Value {
        let findings = self.json["findings"].as_array().unwrap();
        findings.iter().find(|f| f["fault"] == fault).unwrap_or_else(|| panic!("no {fault} in {:#}", self.json))
    }
}

const GPU_CHECKS: [&str; 11] = [
    "nvml",
    "driver",
    "gpu-count",
    "gpu-recovery",
    "gpu-ecc",
    "gpu-rows",
    "gpu-pcie",
    "gpu-nvlink",
    "gpu-fabric",
    "gpu-clocks",
    "gpu-temperature",
];

#[test]
fn a_healthy_machine_is_told_so() {
    if !can_build() {
        return;
    }
    let found = Machine::with("").look(&[]);
    assert_eq!((found.code, found.faults()), (0, vec![]), "{:#}", found.json);
    for check in GPU_CHECKS {
        assert_eq!(found.state(check), "ok", "{check}: {}", found.detail(check));
    }
    assert!(found.detail("nvml").starts_with("8 GPUs read"), "{}", found.detail("nvml"));
    assert_eq!(found.detail("driver"), "driver 570.86.15, CUDA up to 12.8");
    assert_eq!(found.detail("gpu-count"), "8 on PCI, 8 in NVML, 8 in /dev");
}

#[test]
fn each_fault_is_found_on_its_gpu_with_numbers() {
    if !can_build() {
        return;
    }
    let busy = "*.load 99\n*.sm 1900\n*.pcie.gen 5\n*.reasons 0";
    for (changes, fault, check, evidence) in [
        ("3.recovery 1", "gpu-recovery-reset", "gpu-recovery", "action is 1"),
        ("3.recovery 2", "gpu-recovery-reboot", "gpu-recovery", "action is 2"),
        ("3.recovery 3", "gpu-recovery-drain-p2p", "gpu-recovery", "action is 3"),
        ("3.recovery 4", "gpu-recovery-drain-reset", "gpu-recovery", "action is 4"),
        ("3.open !16", "gpu-recovery-reset", "gpu-recovery", "needs a reset"),
        ("3.open !15", "gpu-lost", "nvml", "lost"),
        ("3.temperature !15", "gpu-lost", "nvml", "lost"),
        ("3.ecc.uncorrected 2", "ecc-dbe-volatile", "gpu-ecc", "2 uncorrected"),
        ("3.ecc 0", "ecc-disabled", "gpu-ecc", "on by default"),
        ("3.ecc.sram 1", "ecc-sram-threshold", "gpu-ecc", "SRAM"),
        ("3.inforom !14", "inforom-corrupt", "gpu-ecc", "checksum"),
        ("3.rows.pending 1\n3.rows.corrected 1", "row-remap-pending", "gpu-rows", "1 after correctable"),
        ("3.rows.failure 1", "row-remap-failure", "gpu-rows", "failed"),
        ("3.rows.uncorrected 2", "row-remap-uncorr", "gpu-rows", "2 rows"),
        ("3.rows.uncorrected 512", "row-remap-uncorr-limit", "gpu-rows", "512 rows"),
        ("3.banks.none 1", "row-remap-uncorr-limit", "gpu-rows", "1 banks have no spare"),
        ("3.pages.pending 1", "page-retire-pending", "gpu-rows", "wait"),
        ("3.reasons 0x48", "thermal-slowdown", "gpu-temperature", "31 °C"),
        ("3.temperature 88", "thermal-slowdown", "gpu-temperature", "88 °C, slows down from 87"),
        ("3.reasons 0x88", "power-brake", "gpu-clocks", "71 W of 700 W"),
        ("3.pcie.width 8", "pcie-link-width", "gpu-pcie", "PCIe width x8, card and slot can x16"),
        (&format!("{busy}\n3.pcie.gen 3"), "pcie-link-gen", "gpu-pcie", "generation 3 at 99 % load"),
        (&format!("{busy}\n3.sm 600"), "clock-low", "gpu-clocks", "600 MHz of 1980 MHz"),
        ("3.link5.up 0\n3.link7.up 0", "nvlink-down", "gpu-nvlink", "of 18 NVLinks down: 5, 7; up on 7 of 7"),
        ("3.fabric.status 999", "fabric-state", "gpu-fabric", "code 999"),
        ("3.fabric.health 0x9a", "fabric-state", "gpu-fabric", "routes"),
    ] {
        let found = Machine::with(changes).look(&[]);
        assert_eq!(found.faults(), [fault], "{changes}: {:#}", found.json);
        assert_eq!((found.code, found.state(check)), (3, "fault"), "{changes}");
        let finding = found.finding(fault);
        assert_eq!((&finding["device"]["pci"], &finding["device"]["index"]), (&pci(3).into(), &3.into()), "{changes}");
        assert_eq!(finding["source"], check);
        let said = finding["evidence"][0].as_str().unwrap();
        assert!(said.contains(evidence), "{changes}: {said}");
        let others = GPU_CHECKS.iter().filter(|other| **other != check);
        for other in others {
            assert_eq!(found.state(other), "ok", "{changes}: {other}: {}", found.detail(other));
        }
    }
}

#[test]
fn what_may_be_a_setting_or_idle_is_no_fault() {
    if !can_build() {
        return;
    }
    for changes in [
        // All links of one kind of board, and of a board without any.
        "*.link9.up 0",
        "*.links 0\n*.fabric.state 0",
        "*.link.up 0\n*.fabric.state 1",
        "*.mig 1\n3.link.up 0\n*.mig.devices 2",
        // Locked for all; a power limit; heat that the driver handles.
        "*.load 99\n*.pcie.gen 5\n*.reasons 0\n*.sm 600",
        "*.reasons 0x20",
        // ECC is off as it left the factory.
        "*.ecc 0\n*.ecc.default 0",
        // A card without most of it.
        "*.ecc !3\n*.rows.corrected !3\n*.recovery !2\n*.inforom !3\n*.pcie.replays !3\n*.links 0\n*.fabric.state !13",
    ] {
        let found = Machine::with(changes).look(&[]);
        assert_eq!((found.code, found.faults()), (0, vec![]), "{changes}: {:#}", found.json);
    }
    let found = Machine::with("*.reasons 4\n3.persistence 0").look(&[]);
    assert_eq!(found.code, 0, "notes do not count");
    assert_eq!(found.finding("power-throttle")["severity"], "info");
    assert_eq!(found.finding("persistence-off")["device"]["index"], 3);
}

#[test]
fn an_old_driver_says_less_and_is_no_fault() {
    if !can_build() {
        return;
    }
    let mut machine = Machine::with("driver 450.80.02");
    machine.library = Some(library(true));
    let found = machine.look(&[]);
    assert_eq!((found.code, found.faults()), (0, vec![]), "{:#}", found.json);
    assert_eq!(found.state("gpu-recovery"), "skipped");
    assert_eq!(found.state("gpu-fabric"), "skipped");
    assert_eq!(found.state("gpu-ecc"), "ok");
    // Before Ampere pages were retired.
    let mut machine = Machine::with("3.pages.corrected 60\n3.pages.uncorrected 4\n");
    machine.library = Some(library(true));
    let found = machine.look(&[]);
    assert!(found.faults().is_empty() || found.faults() == ["page-retire-limit"], "{:#}", found.json);
}

#[test]
fn a_driver_that_hangs_does_not_hang_aictl() {
    if !can_build() {
        return;
    }
    for (changes, place) in [("init hang", "NVML's start"), ("5.temperature hang", "NVML at GPU 5")] {
        let found = Machine::with(changes).look(&["--deadline", "2s"]);
        assert!(found.took < Duration::from_secs(60), "{:?}", found.took);
        assert_eq!((found.code, found.state("nvml")), (3, "fault"));
        assert_eq!(found.faults(), ["nvidia-smi-hang"]);
        let evidence = found.finding("nvidia-smi-hang")["evidence"][0].as_str().unwrap();
        assert!(evidence.contains(place), "{evidence}");
        assert_eq!(found.state("gpu-ecc"), "blind");
    }
    // What was read before it hung counts.
    let found = Machine::with("5.temperature hang\n3.rows.pending 1").look(&["--deadline", "700ms"]);
    assert_eq!(found.finding("row-remap-pending")["device"]["index"], 3);
}

#[test]
fn blind_is_no_fault() {
    if !can_build() {
        return;
    }
    // The module is not loaded: nobody can tell.
    let mut machine = Machine::with("");
    fs::remove_file(machine.root().join("proc/driver/nvidia/version")).unwrap();
    machine.library = None;
    let found = machine.look(&[]);
    assert_eq!((found.code, found.faults()), (4, vec![]), "{:#}", found.json);
    assert_eq!((found.state("nvml"), found.state("driver"), found.state("gpu-count")), ("blind", "blind", "blind"));
    // It is: then the library should be there, but in a container, which may have been given none.
    let mut machine = Machine::with("");
    machine.library = None;
    let found = machine.look(&[]);
    assert_eq!((found.code, found.faults()), (3, vec!["driver-lib-missing"]));
    assert_eq!(found.state("nvml"), "blind");
    machine.write("run/.containerenv", "");
    let found = machine.look(&[]);
    assert_eq!((found.code, found.faults()), (4, vec![]));
    // Readings that fail.
    let found = Machine::with("3.temperature !999\n5.rows.corrected !4").look(&[]);
    assert_eq!((found.code, found.faults()), (4, vec![]));
    assert!(
        found.detail("gpu-temperature").contains("GPU 3: temperature: an internal"),
        "{}",
        found.detail("gpu-temperature")
    );
    assert!(found.detail("gpu-rows").contains("GPU 5: rows: "), "{}", found.detail("gpu-rows"));
    // An action that is newer than this program is never acted on.
    let found = Machine::with("3.recovery 9").look(&[]);
    assert_eq!((found.code, found.state("gpu-recovery")), (4, "blind"));
}

#[test]
fn a_machine_without_gpus_skips_them() {
    if !can_build() {
        return;
    }
    let mut machine = Machine::with("");
    machine.library = None;
    fs::remove_dir_all(machine.root().join("sys")).unwrap();
    fs::remove_dir_all(machine.root().join("proc")).unwrap();
    fs::remove_dir_all(machine.root().join("dev")).unwrap();
    machine.write("dev/kmsg", "6,1,1,-;a kernel that boots\n");
    let found = machine.look(&[]);
    assert_eq!(found.code, 0, "{:#}", found.json);
    for check in GPU_CHECKS {
        assert_eq!(found.state(check), "skipped");
    }
    machine.add(&pci(0), "vfio-pci");
    let found = machine.look(&[]);
    assert_eq!((found.code, found.state("nvml")), (0, "skipped"));
    assert!(found.detail("nvml").contains("virtual machines"));
}

#[test]
fn drivers_that_do_not_fit_are_told() {
    if !can_build() {
        return;
    }
    let found = Machine::with("init !18").look(&[]);
    assert_eq!((found.code, found.faults()), (3, vec!["driver-mismatch"]));
    assert!(found.finding("driver-mismatch")["evidence"][0].as_str().unwrap().contains("570.86.15"));
    let machine = Machine::with("init !9");
    fs::remove_file(machine.root().join("proc/driver/nvidia/version")).unwrap();
    let link = machine.root().join("sys/bus/pci/devices").join(pci(0)).join("driver");
    fs::remove_file(&link).unwrap();
    symlink("../../../bus/pci/drivers/nouveau", link).unwrap();
    let found = machine.look(&[]);
    assert_eq!((found.code, found.faults()), (3, vec!["nouveau-loaded"]), "{:#}", found.json);
    assert_eq!(found.finding("nouveau-loaded")["device"]["pci"], pci(0).as_str());
}

#[test]
fn a_missing_gpu_is_missed_and_named() {
    if !can_build() {
        return;
    }
    // NVML has seven: the eighth is on PCI and in /dev.
    let found = Machine::with("count 7").look(&[]);
    assert_eq!((found.code, found.faults()), (3, vec!["gpu-count-mismatch"]));
    let finding = found.finding("gpu-count-mismatch");
    assert_eq!(finding["device"]["pci"], pci(7).as_str());
    assert_eq!(finding["evidence"][0], "8 on PCI, 7 in NVML, 8 in /dev");
    // A container that was given four of the eight sees all on PCI.
    let machine = Machine::with("count 4");
    for gpu in 4..8 {
        fs::remove_file(machine.root().join(format!("dev/nvidia{gpu}"))).unwrap();
    }
    assert_eq!(machine.look(&[]).faults(), ["gpu-count-mismatch"]);
    machine.write("run/.containerenv", "");
    assert_eq!(machine.look(&[]).faults(), Vec::<&str>::new());
}

#[test]
fn rates_and_changes_need_an_earlier_look() {
    if !can_build() {
        return;
    }
    let mut machine = Machine::with("*.ecc.corrected 1000\n*.link.crc 5\n3.rows.uncorrected 1");
    let found = machine.look(&[]);
    assert_eq!(found.faults(), ["row-remap-uncorr"]);
    assert!(found.detail("gpu-ecc").contains("rates from the next look on"), "{}", found.detail("gpu-ecc"));
    // The same again: no rate, and the row is no news.
    let found = machine.look(&[]);
    assert_eq!(found.code, 0, "{:#}", found.json);
    assert_eq!(found.finding("row-remap-uncorr")["severity"], "info");
    // Worse.
    machine = machine.facts("*.ecc.corrected 1000\n3.ecc.corrected 1500\n3.link2.crc 100000\n3.rows.uncorrected 2");
    let found = machine.look(&[]);
    let mut faults = found.faults();
    faults.sort_unstable();
    assert_eq!(faults, ["ecc-sbe-rate", "nvlink-crc-rate", "row-remap-uncorr"]);
    assert!(found.finding("nvlink-crc-rate")["evidence"][0].as_str().unwrap().contains("link 2"));
    assert_eq!(found.finding("row-remap-uncorr")["severity"], "warning");
}

#[test]
fn a_link_that_was_up_is_missed_even_without_peers() {
    if !can_build() {
        return;
    }
    let one = "count 1\n";
    let machine = Machine::with(one);
    for gpu in 1..8 {
        fs::remove_file(machine.root().join(format!("dev/nvidia{gpu}"))).unwrap();
        fs::remove_dir_all(machine.root().join("sys/bus/pci/devices").join(pci(gpu))).unwrap();
    }
    assert_eq!(machine.look(&[]).faults(), Vec::<&str>::new());
    let machine = machine.facts("count 1\n0.link4.up 0");
    let found = machine.look(&[]);
    assert_eq!(found.faults(), ["nvlink-down"], "{:#}", found.json);
    assert!(found.finding("nvlink-down")["evidence"][0].as_str().unwrap().contains("up earlier"));
}

#[test]
fn a_line_of_the_kernel_gets_the_gpus_name() {
    if !can_build() {
        return;
    }
    let machine = Machine::with("");
    machine.write("dev/kmsg", "4,9,9,-;NVRM: Xid (PCI:0000:4b:00): 79, GPU has fallen off the bus.\n");
    let found = machine.look(&[]);
    let device = &found.finding("xid-79")["device"];
    assert_eq!((&device["uuid"], &device["index"]), (&"GPU-3".into(), &3.into()), "{device}");
}

#[test]
fn a_look_is_quick() {
    if !can_build() {
        return;
    }
    let found = Machine::with("").look(&[]);
    // Eight GPUs; a debug build on a machine that may be very busy.
    assert!(found.took < Duration::from_secs(30), "{:?}", found.took);
}

#[test]
fn a_site_says_where_soft_faults_begin() {
    if !can_build() {
        return;
    }
    let machine = Machine::with("3.temperature 71");
    let checks = machine.directory.path().join("checks");
    fs::create_dir_all(&checks).unwrap();
    let limits = |text: &str| fs::write(checks.join("limits.yaml"), text).unwrap();
    let site = ["--checks", checks.to_str().unwrap()];
    assert_eq!(machine.look(&[]).code, 0);
    limits("# ours\n");
    assert_eq!(machine.look(&site).code, 0);
    limits("gpu: {hottest_c: 70}\nrdma: {flaps: 5}\n");
    let found = machine.look(&site);
    assert_eq!((found.code, found.faults()), (3, vec!["gpu-hot"]));
    assert_eq!(found.finding("gpu-hot")["device"]["index"], 3);
    for (wrong, told) in
        [("gpu: {hottest: 70}", "hottest"), ("gpu: {hottest_c: 7}", "gpu.hottest_c"), ("- a", "limits.yaml")]
    {
        limits(wrong);
        let output = machine.command(&site).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && said.contains(told) && said.contains("limits.yaml"),
            "{wrong}: {said}"
        );
    }
}

#[test]
fn gpus_that_must_be_reset_together_are_told() {
    if !can_build() {
        return;
    }
    // A pair of V100s that NVLink joins, and six that only have links to a processor.
    let place = |gpu: u32| format!("0000{}", pci(gpu).to_uppercase());
    let changes = format!(
        "*.architecture 5\n*.links 1\n*.link.end 1\n0.link0.end 0\n1.link0.end 0\n0.link0.pci {}\n1.link0.pci {}",
        place(1),
        place(0)
    );
    let found = Machine::with(&changes).look(&[]);
    let gpus = found.json["reset_groups"].as_array().unwrap();
    let peers: Vec<&Value> = gpus.iter().map(|gpu| &gpu["peers"]).collect();
    assert_eq!(gpus.len(), 8);
    assert_eq!((peers[0], peers[1]), (&Value::from(vec![pci(1)]), &Value::from(vec![pci(0)])), "{gpus:#?}");
    assert!(peers[2..].iter().all(|peers| peers.as_array().is_some_and(Vec::is_empty)), "{gpus:#?}");
    // From Ampere on each goes alone.
    let found = Machine::with("*.link.end 2").look(&[]);
    assert!(
        found.json["reset_groups"]
            .as_array()
            .unwrap()
            .iter()
            .all(|gpu| gpu["peers"].as_array().is_some_and(Vec::is_empty))
    );
}
