//! `aictl diagnose --local`: this machine apart from its GPUs, trees of machines with faults, and a
//! site's own checks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;

use crate::support;

fn aictl(arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("aictl").unwrap();
    command.env_clear().env("LANG", "C.UTF-8").env("COLUMNS", "100").env("TZ", "UTC");
    command.arg("diagnose").arg("--local").args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = aictl(&[arguments, &["-o", "json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn check<'v>(found: &'v Value, name: &str) -> &'v Value {
    let checks = found["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} is not in {checks:?}"))
}

fn faults(found: &Value) -> Vec<&str> {
    found["findings"].as_array().unwrap().iter().map(|finding| finding["fault"].as_str().unwrap()).collect()
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const NIC: &str = "sys/devices/pci0000:00/0000:00:01.0/0000:17:00.0";

/// A machine with a port, an adapter in a slot, a process and its limits; nothing is wrong with it.
fn machine(root: &Path) {
    for (at, width) in [("sys/devices/pci0000:00/0000:00:01.0", "16"), (NIC, "16")] {
        for (file, text) in [("vendor", "0x15b3"), ("device", "0x1021"), ("class", "0x020700"), ("power_state", "D0")] {
            put(root, &format!("{at}/{file}"), text);
        }
        put(root, &format!("{at}/current_link_speed"), "32.0 GT/s PCIe\n");
        put(root, &format!("{at}/max_link_speed"), "32.0 GT/s PCIe\n");
        put(root, &format!("{at}/current_link_width"), width);
        put(root, &format!("{at}/max_link_width"), "16\n");
        for (kind, total) in [("correctable", "COR"), ("nonfatal", "NONFATAL"), ("fatal", "FATAL")] {
            put(root, &format!("{at}/aer_dev_{kind}"), &format!("RxErr 0\nTOTAL_ERR_{total} 0\n"));
        }
    }
    fs::create_dir_all(root.join("sys/bus/pci/devices")).unwrap();
    symlink("../../../devices/pci0000:00/0000:00:01.0/0000:17:00.0", root.join("sys/bus/pci/devices/0000:17:00.0"))
        .unwrap();
    let port = "sys/class/infiniband/mlx5_0/ports/1";
    symlink_device(root);
    for (file, text) in [
        ("state", "4: ACTIVE\n"),
        ("phys_state", "5: LinkUp\n"),
        ("rate", "400 Gb/sec (4X NDR)\n"),
        ("link_layer", "InfiniBand\n"),
        ("counters/link_downed", "3\n"),
        ("counters/symbol_error", "0\n"),
        ("hw_counters/local_ack_timeout_err", "0\n"),
    ] {
        put(root, &format!("{port}/{file}"), text);
    }
    put(root, "proc/1/stat", "1 (init) S 0 1 1 0 -1 0 1 2 3 4 5 6 0 0 20 0 1 0 777 1 1\n");
    put(root, "proc/1/task/1/stat", "1 (init) S 0 1 1 0 -1 0 1 2 3 4 5 6 0 0 20 0 1 0 777 1 1\n");
    put(root, "proc/self/mountinfo", "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n");
    put(root, "proc/loadavg", "0.1 0.2 0.3 2/345 678\n");
    put(root, "proc/sys/kernel/pid_max", "32768\n");
    put(root, "proc/sys/kernel/threads-max", "100000\n");
    put(root, "proc/sys/fs/file-nr", "1000\t0\t100000\n");
    put(root, "sys/devices/system/edac/mc/mc0/ce_count", "7\n");
    put(root, "sys/devices/system/edac/mc/mc0/ue_count", "0\n");
    put(root, "dev/kmsg", "6,1,1,-;nothing\n");
}

fn symlink_device(root: &Path) {
    fs::create_dir_all(root.join("sys/class/infiniband/mlx5_0")).unwrap();
    symlink("../../../devices/pci0000:00/0000:00:01.0/0000:17:00.0", root.join("sys/class/infiniband/mlx5_0/device"))
        .unwrap();
}

fn look(root: &Path) -> Value {
    let (root_text, state) = (root.to_str().unwrap(), root.join("state.json"));
    json(&["--only", "node", "--root", root_text, "--state", state.to_str().unwrap()])
}

#[test]
fn this_machine_is_seen_quickly() {
    let begin = Instant::now();
    let found = json(&["--no-state"]);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    for name in ["pci", "disks", "tasks", "limits"] {
        let check = check(&found, name);
        assert_ne!(check["state"], "blind", "{check}");
        assert!(!check["detail"].as_str().unwrap().is_empty(), "{check}");
    }
    assert_eq!(check(&found, "history")["state"], "skipped");
}

#[test]
fn a_machine_without_faults_has_none_and_one_with_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    machine(root);
    let found = look(root);
    let wrong = |found: &Value| -> Vec<String> {
        // This clock, and this disk's room, are of the machine that runs the test.
        faults(found)
            .into_iter()
            .filter(|f| !matches!(*f, "clock-unsync" | "disk-pressure"))
            .map(str::to_owned)
            .collect()
    };
    assert!(wrong(&found).is_empty(), "{found}");
    for (name, state) in [("pci", "ok"), ("infiniband", "ok"), ("edac", "ok"), ("tasks", "ok")] {
        assert_eq!(check(&found, name)["state"], state, "{}", check(&found, name));
    }

    put(root, &format!("{NIC}/current_link_width"), "8\n");
    put(root, &format!("{NIC}/aer_dev_fatal"), "TOTAL_ERR_FATAL 1\n");
    put(root, "sys/class/infiniband/mlx5_0/ports/1/counters/link_downed", "4\n");
    put(root, "sys/class/infiniband/mlx5_0/ports/1/state", "1: DOWN\n");
    put(root, "sys/class/infiniband/mlx5_0/ports/1/phys_state", "2: Polling\n");
    put(root, "proc/self/mountinfo", "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 ro,errors=remount-ro\n");
    put(root, "proc/sys/fs/file-nr", "99000\t0\t100000\n");
    put(root, "sys/devices/system/edac/mc/mc0/ue_count", "1\n");
    let found = look(root);
    let mut names = wrong(&found);
    names.sort();
    let all = [
        "edac-ue",
        "fd-exhausted",
        "fs-readonly",
        "ib-link-downed",
        "ib-port-down",
        "pcie-aer-fatal",
        "pcie-link-width",
    ];
    assert_eq!(names, all, "{found}");
    let port = found["findings"].as_array().unwrap().iter().find(|finding| finding["fault"] == "ib-port-down").unwrap();
    assert_eq!(port["device"]["name"], "mlx5_0/1");
    assert_eq!(port["device"]["pci"], "0000:17:00.0");
    assert_eq!((&port["component"], &port["source"]), (&"nic".into(), &"infiniband".into()));
    assert_eq!(check(&found, "history")["state"], "ok");
}

#[test]
fn a_state_file_that_is_broken_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    machine(root);
    fs::write(root.join("state.json"), "{\"readings\": 7").unwrap();
    assert!(check(&look(root), "history")["detail"].as_str().unwrap().contains("begins anew"));
    assert!(check(&look(root), "history")["detail"].as_str().unwrap().contains("since"));
}

/// Runs the checks that `files` describe, and nothing else.
fn site(files: &[(&str, &str)], arguments: &[&str]) -> (Output, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        match name.ends_with(".sh") {
            true => support::write_program(&directory.path().join(name), text),
            false => put(directory.path(), name, text),
        }
    }
    let path = directory.path().to_str().unwrap().to_owned();
    let all = [&["--only", "checks", "--no-state", "--checks", path.as_str()], arguments].concat();
    (aictl(&all), directory)
}

const OWN: &str = "fault: rack-door\ndefine: {title: Door is open, component: node, severity: error, action: RECORD}\n";

#[test]
fn a_check_says_ok_fault_or_that_it_cannot_tell() {
    let (output, _kept) = site(
        &[
            ("1.yaml", "name: well\ncommand: [sh, -c, 'echo fine; exit 0']\nfault: io-error\n"),
            ("2.yaml", &format!("name: door\nscript: door.sh\n{OWN}")),
            ("door.sh", "#!/bin/sh\necho \"door $AICTL_CHECK is open on device=/dev/door\"\nexit 1\n"),
            ("3.yaml", "name: unsure\ncommand: [sh, -c, 'exit 2']\nfault: io-error\n"),
            ("4.yaml", "name: absent\nscript: no-such.sh\nfault: io-error\n"),
            ("5.yaml", "name: closed\nscript: plain.txt\nfault: io-error\n"),
            ("plain.txt", "echo\n"),
            ("notes.md", "not a check"),
        ],
        &["-o", "json"],
    );
    assert_eq!(output.status.code(), Some(3));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (name, state, words) in [
        ("well", "ok", "fine"),
        ("door", "fault", "door door is open"),
        ("unsure", "blind", "exit code 2"),
        ("absent", "blind", "is not there"),
        ("closed", "blind", "chmod"),
    ] {
        let check = check(&found, name);
        assert_eq!(check["state"], state, "{check}");
        assert!(check["detail"].as_str().unwrap().contains(words), "{check}");
    }
    let finding = &found["findings"][0];
    assert_eq!((&finding["fault"], &finding["severity"]), (&"rack-door".into(), &"error".into()));
    assert_eq!((&finding["source"], &finding["device"]["name"]), (&"door".into(), &"/dev/door".into()));
    assert_eq!(faults(&found), ["rack-door"]);
}

#[test]
fn a_late_check_is_killed_with_all_it_started() {
    let begin = Instant::now();
    // Processes of this test alone.
    let seconds = format!("954.{}", std::process::id());
    let script = format!("#!/bin/sh\nsleep {seconds} &\nsetsid sleep {seconds} &\necho started\nwait\n");
    let (output, _kept) = site(
        &[("a.yaml", &format!("name: slow\nscript: slow.sh\ntimeout: 1s\n{OWN}")), ("slow.sh", &script)],
        &["-o", "json"],
    );
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(4));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let slow = check(&found, "slow");
    assert_eq!(slow["state"], "blind");
    assert!(slow["detail"].as_str().unwrap().contains("killed"), "{slow}");
    let words = format!("sleep\0{seconds}\0");
    let lives = || {
        let mut processes = fs::read_dir("/proc").unwrap().flatten();
        processes.any(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == words.as_bytes()))
    };
    // Who was killed is gone a moment later.
    let begin = Instant::now();
    while lives() {
        assert!(begin.elapsed() < Duration::from_secs(60), "a grandchild lives on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_flood_of_output_is_bounded_and_plain() {
    let (output, _kept) = site(
        &[(
            "a.yaml",
            &format!(
                "name: loud\ncommand: [sh, -c, 'printf \"\\033[31mred\\n\"; head -c 9000000 /dev/zero | tr \"\\\\0\" x; exit 1']\n{OWN}"
            ),
        )],
        &["--color", "never"],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("64 KiB") && text.len() < 100_000, "{}", text.len());
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_broken_file_stops_all_before_anything_runs() {
    let ran = tempfile::tempdir().unwrap();
    let mark = ran.path().join("ran");
    let first = format!("name: a\ncommand: [touch, {}]\nfault: io-error\n", mark.display());
    let (output, _kept) = site(&[("a.yaml", &first), ("b.yaml", "name: b\nscript: x\nfualt: io-error\n")], &[]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("b.yaml") && error.contains("line 3"), "{error}");
    assert!(!mark.exists(), "a check has run");
}

#[test]
fn plugins_of_node_problem_detector_run_unchanged() {
    let config = r#"{"plugin": "custom", "source": "npd", "pluginConfig": {"timeout": "5s", "max_output_length": 10},
        "rules": [
          {"type": "permanent", "condition": "DoorProblem", "reason": "DoorIsOpen", "path": "./plugin/x.sh", "args": ["1"]},
          {"type": "permanent", "reason": "Fine", "path": "./plugin/x.sh", "args": ["0"]},
          {"type": "temporary", "reason": "Unknown", "path": "./plugin/x.sh", "args": ["2"]}]}"#;
    let script = "#!/bin/sh\necho \"the door of the rack stands open\"\nexit $1\n";
    let (output, _kept) = site(&[("npd.json", config), ("plugin/x.sh", script)], &["-o", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(faults(&found), ["door-is-open"]);
    let states = [("npd/DoorIsOpen", "fault"), ("npd/Fine", "ok"), ("npd/Unknown", "blind")];
    for (name, state) in states {
        assert_eq!(check(&found, name)["state"], state);
    }
    assert_eq!(check(&found, "npd/DoorIsOpen")["detail"], "the door o");
}

#[test]
fn the_examples_are_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/checks");
    let found = json(&["--only", "checks", "--no-state", "--checks", path.to_str().unwrap()]);
    for name in ["node-pools", "raid", "scratch", "smart", "time-service/TimeServiceIsDown"] {
        check(&found, name);
    }
}
