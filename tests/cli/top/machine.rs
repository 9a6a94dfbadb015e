//! This machine: one look.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::diagnose_gpu::{H100, library};
use crate::environment::{Ran, TestEnvironment};
use crate::support;

pub const UID: &str = "0f3c9a1e-52d4-4c77-9e0b-8d2f6a7b1c3d";

/// What a busy H100 says beside what one at rest does; GPU 1 does not support most of it.
const BUSY: &str = "\
0.load 93
0.load.memory 41
0.load.encoder 0
0.load.decoder 0
0.load.jpeg 0
0.load.ofa 0
0.memory.used 42949672960
0.memory.reserved 524288000
0.memory.temperature 58
0.bar1.total 137438953472
0.bar1.used 3145728
0.video 1545
0.power.limit.set 700000
0.energy 7200000123
0.violation.power 1500000000
0.violation.thermal 0
0.pcie.tx 2500
0.pcie.rx 120000
0.compute 0
0.links.tx.kib 1024
0.links.rx.kib 2048
0.link.tx.kib 64
0.link.rx.kib 128
0.pages.corrected 0
0.pages.uncorrected 0
0.pages.pending 0
0.reasons 0x4
";

/// A machine with two GPUs, of which a pod has the first.
pub struct Machine {
    pub place: TestEnvironment,
    library: PathBuf,
}

impl Machine {
    /// `None`, having said so, where the stand-in can't be built.
    pub fn new(changes: &str) -> Option<Machine> {
        support::require("a C compiler", support::program("cc").is_some()).then_some(())?;
        let place = TestEnvironment::new();
        let mut facts = H100.replace("count 8", "count 2");
        for gpu in 0..2 {
            facts.push_str(&format!("{gpu}.uuid GPU-{gpu}\n{gpu}.pci 00000000:{:02X}:00.0\n", 0x1b + gpu * 0x10));
        }
        facts.push_str(&format!("{BUSY}0.process 7 41875931136 88\n{changes}\n"));
        place.write("facts", facts);
        let cgroup = format!("0::/kubepods/burstable/pod{UID}/{}\n", "ab".repeat(32));
        for (file, text) in [
            ("proc/7/comm", "python\n"),
            ("proc/7/cgroup", cgroup.as_str()),
            ("proc/7/statm", "2000 1000 1 1 0 1 0\n"),
            ("proc/stat", "cpu 100 0 50 1000 0 0 0 0 0 0\ncpu0 100 0 50 1000 0 0 0 0 0 0\n"),
            ("proc/loadavg", "1.50 1.25 1.00 2/300 77\n"),
            ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 400 kB\n"),
            ("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
            ("sys/bus/pci/devices/0000:1b:00.0/vendor", "0x10de\n"),
            ("sys/bus/pci/devices/0000:1b:00.0/class", "0x030200\n"),
            ("dev/kmsg", "3,900,5000000,-;NVRM: Xid (PCI:0000:1b:00): 13, pid=7, name=python, Graphics Exception\n"),
        ] {
            place.write(&format!("root/{file}"), text);
        }
        fs::create_dir_all(place.path(&format!("root/var/log/pods/team-a_train-0_{UID}"))).unwrap();
        Some(Machine { place, library: library(false) })
    }

    /// The older library.
    pub fn old(mut self) -> Machine {
        self.library = library(true);
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command();
        command.env("LD_LIBRARY_PATH", &self.library).env("AICTL_TEST_NVML", self.place.path("facts"));
        command.args(["top", "--node", "gpu-1", "--root"]).arg(self.place.path("root")).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.place.ran(self.command(arguments).output().unwrap())
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"))
    }

    /// Environment and arguments as one line of a shell.
    pub fn line(&self, arguments: &str) -> String {
        format!(
            "LD_LIBRARY_PATH={} AICTL_TEST_NVML={} {} top --node gpu-1 --root {} {arguments}",
            self.library.display(),
            self.place.path("facts").display(),
            crate::environment::binary().display(),
            self.place.path("root").display(),
        )
    }
}

#[test]
fn values_have_units_and_what_is_not_supported_is_absent() {
    let Some(machine) = Machine::new("") else { return };
    let json = machine.json(&["--once"]);
    assert_eq!(json["schema"], "aictl.top/v1");
    let node = &json["nodes"][0];
    assert_eq!((node["node"].as_str(), node["driver"].as_str()), (Some("gpu-1"), Some("570.86.15")), "{json:#}");
    let gpu = &node["gpus"][0];
    let metrics = &gpu["metrics"];
    for (key, wanted) in [
        ("utilisation_percent", 93.0),
        ("memory_used_bytes", 42_949_672_960.0),
        ("memory_reserved_bytes", 524_288_000.0),
        ("memory_temperature_c", 58.0),
        ("power_w", 70.123),
        ("energy_j", 7_200_000.123),
        ("power_violation_s", 1.5),
        ("pcie_rx_bytes_per_s", 120_000_000.0),
        ("nvlink_tx_bytes", 1_048_576.0),
        ("nvlink_tx_bytes_per_s", 0.0),
        ("nvlinks_active", 18.0),
        ("video_clock_mhz", 1545.0),
        ("bar1_used_bytes", 3_145_728.0),
        ("throttle_reasons", 4.0),
        ("ecc_corrected_life", 3.0),
        ("xid_last", 13.0),
    ] {
        assert_eq!(metrics[key].as_f64(), Some(wanted), "{key} in {metrics:#}");
    }
    assert!(metrics.as_object().unwrap().len() >= 40, "{metrics:#}");
    assert_eq!(gpu["nvlinks"][17]["tx_bytes"], 65_536);
    let process = &gpu["processes"][0];
    assert_eq!((process["pid"].as_u64(), process["sm_percent"].as_u64()), (Some(7), Some(88)), "{process:#}");
    assert_eq!((process["name"].as_str(), process["user"].as_str()), (Some("python"), Some("root")));
    assert_eq!((&process["pod"]["namespace"], &process["pod"]["pod"]), (&"team-a".into(), &"train-0".into()));
    assert_eq!((&gpu["pods"][0]["uid"], gpu["pods"].as_array().unwrap().len()), (&UID.into(), 1));
    // The other one: absent is absent, and 0 is 0.
    let other = &node["gpus"][1]["metrics"];
    assert!(other.get("encoder_utilisation_percent").is_none() && other.get("energy_j").is_none(), "{other:#}");
    assert_eq!((&other["utilisation_percent"], &other["xid_last"]), (&0.into(), &0.into()));
    assert_eq!((&node["machine"]["cpus"], &node["machine"]["load_1m"]), (&1.into(), &1.5.into()));
    assert_eq!(json["jobs"][0]["job"], "team-a/Pod/train-0");
}

#[test]
fn older_drivers_and_gpus_that_are_lost_are_told_apart_from_zero() {
    let Some(machine) = Machine::new("1.open !15") else { return };
    let machine = machine.old();
    let ran = machine.run(&["--once", "-o", "json"]);
    assert_eq!(ran.status, Some(4), "{ran}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let gpus = &json["nodes"][0]["gpus"];
    assert!(gpus[0]["metrics"].get("remapped_rows_correctable").is_none() && gpus[0].get("blind").is_none());
    assert!(gpus[1]["blind"].as_str().unwrap().contains("NVML"), "{gpus:#}");
    assert!(ran.stderr.contains("GPU 1"), "{ran}");
}

#[test]
fn a_driver_that_hangs_keeps_nobody_waiting_and_hides_no_other_gpu() {
    let Some(machine) = Machine::new("1.name hang") else { return };
    let ran = machine.run(&["--once", "--deadline", "2s", "-o", "json"]);
    assert_eq!(ran.status, Some(4), "{ran}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let node = &json["nodes"][0];
    assert_eq!(node["gpus"][0]["metrics"]["utilisation_percent"], 93, "{node:#}");
    assert!(node["gpus"][1]["blind"].as_str().unwrap().contains("did not answer in time"), "{node:#}");
}

#[test]
fn without_nvml_the_machine_is_shown_all_the_same() {
    let environment = TestEnvironment::new().set("LD_LIBRARY_PATH", "/nonexistent");
    for arguments in [&["top", "--once"][..], &["top", "--once", "-o", "json"], &["top", "-o", "prometheus"]] {
        let ran = environment.run(arguments);
        if ran.status == Some(0) {
            // A machine with GPUs: nothing to see here.
            return;
        }
        assert_eq!(ran.status, Some(4), "{ran}");
        assert!(ran.stderr.contains("NVML") && ran.stderr.contains("hint: aictl doctor"), "{ran}");
        assert!(ran.stdout.contains("load"), "{ran}");
    }
    let ran = environment.run(["top", "-o", "prometheus"]);
    assert!(ran.stdout.contains("aictl_nvml_up{Hostname=") && ran.stdout.contains("aictl_node_load1{"), "{ran}");
}

#[test]
fn tables_by_gpu_process_job_and_node() {
    let Some(machine) = Machine::new("") else { return };
    let table = |arguments: &[&str]| {
        let ran = machine.run(&[&["--once"], arguments].concat());
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran}");
        ran.stdout
    };
    insta::assert_snapshot!(table(&[]).split_once("\n\n").unwrap().1, @r"
    GPU   UTIL   LOAD            MEMORY     POWER   TEMP   FLAGS              OWNER
      0    93%   ███████▌   42.9/85.5GB   70/700W    31C   xid-13,power-cap   team-a/train-0
      1     0%   ·           0.0/85.5GB   70/700W    31C   -                  <none>
    ");
    let (processes, jobs) = (table(&["--by", "process"]), table(&["--by", "job"]));
    for words in ["PID", "88%", "41.9GB", "root", "python", "team-a/train-0"] {
        assert!(processes.contains(words), "{words}: {processes}");
    }
    let job = jobs.lines().find(|line| line.contains("team-a/Pod/train-0")).unwrap();
    assert!(job.contains("93%") && job.contains("70W") && job.contains("<none>"), "{jobs}");
    assert_eq!(table(&["--sort", "utilisation", "--filter", "h100", "-o", "name"]), "GPU-0\nGPU-1\n");
    assert_eq!(table(&["--sort", "owner", "-o", "name"]), "GPU-1\nGPU-0\n");
    assert_eq!(table(&["--filter", "TEAM-A", "--filter", "python", "-o", "name"]), "GPU-0\n");
    let wide = table(&["-o", "wide"]);
    assert!(wide.contains("NVLINK-TX") && wide.contains("NVIDIA-H"), "{wide}");
    assert!(table(&["--by", "node"]).contains("gpu-1"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let environment = TestEnvironment::new();
    for (arguments, words) in [
        (&["top", "--once", "--idle", "10m"][..], "needs a history"),
        (&["top", "--listen", "nonsense"], "not an address"),
        (&["top", "--interval", "1ms", "--once"], "half a second"),
        (&["top", "--prometheus", "ftp://x", "--once"], "not the address of a Prometheus"),
        (&["top", "--fleet", "--listen", ":0"], "cannot be used with"),
        (&["report", "x", "-o", "prometheus"], "aictl top alone"),
    ] {
        let ran = environment.run(arguments);
        assert_eq!(ran.status, Some(2), "{ran}");
        assert!(ran.stderr.contains(words), "{ran}");
    }
}

/// Every metric is told of in docs/top.md, by both names.
#[test]
fn the_page_lists_every_metric() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/top.md")).unwrap();
    use aictl::metrics::{Metric, Scope};
    for scope in [Scope::Gpu, Scope::Link, Scope::Instance, Scope::Process, Scope::Node] {
        for metric in Metric::of(scope) {
            let row = format!("| `{}` | `{}` |", metric.key(), metric.name());
            assert!(page.contains(&row), "docs/top.md lacks {row}");
        }
    }
}
