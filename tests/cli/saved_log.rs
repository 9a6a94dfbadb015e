//! Saved logs, signals and closed pipes, as who uses `diagnose` and `remediate` in a script meets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::environment::TestEnvironment;

const XID: &str = "NVRM: Xid (PCI:0000:3b:00): 79, pid=7, name=a, GPU has fallen off the bus.";

/// Fails after a while.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: not after 60 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn end_of(child: &mut Child) -> Option<i32> {
    let mut code = None;
    wait_until("its end", || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    code.unwrap().code()
}

#[test]
fn a_log_in_gzip_is_read_and_what_is_no_log_is_blind() {
    let environment = TestEnvironment::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(format!("[ 1.5] {XID}\n").as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let cut = packed[..packed.len() - 6].to_vec();
    let wide: Vec<u8> = format!("\u{feff}[ 1.5] {XID}\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let noise: Vec<u8> = (0..4000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (name, log, code, word) in [
        ("kern.log.gz", packed, 3, "xid-79"),
        ("cut.gz", cut, 3, "cannot read it to its end"),
        ("wide", wide, 4, "iconv"),
        ("noise", noise, 4, "journalctl"),
        ("packed.zst", vec![0x28, 0xb5, 0x2f, 0xfd, 4, 0], 4, "zstd -dc"),
        ("empty", Vec::new(), 4, "0 lines"),
    ] {
        environment.write(name, log);
        let ran = environment.run(["diagnose", "--kernel-log", name]);
        assert_eq!(ran.status, Some(code), "{name}: {ran}");
        assert!(ran.stdout.replace("\n  ", " ").contains(word), "{name}: {ran}");
    }
}

#[test]
fn what_was_before_the_last_boot_is_history() {
    let environment = TestEnvironment::new();
    for mark in ["-- Boot 5ad5c3a0a2c44ea2a9a3f0f1d2c3b4a5 --", "-- Reboot --", "[    0.000000] Linux version 6.8.0"] {
        environment.write("log", format!("[12345.678901] {XID}\n{mark}\n[    1.500000] usb 1-1: new device\n"));
        let ran = environment.run(["diagnose", "--kernel-log", "log"]);
        assert_eq!(ran.status, Some(0), "{mark}: {ran}");
        assert!(ran.stdout.contains("1 before the last boot"), "{ran}");
    }
}

#[test]
fn a_saved_log_is_joined_with_what_is_looked_at_here() {
    let environment = TestEnvironment::new();
    environment.write("log", format!("[ 1.5] {XID}\n"));
    environment.write("checks/one.yaml", "name: one\ncommand: [\"false\"]\nfault: one-is-wrong\ndefine: {title: One, component: node, severity: error, explain: One.}\n");
    let json = |arguments: &[&str]| {
        let ran = environment.run([arguments, &["-o", "json"]].concat());
        (serde_json::from_str::<Value>(&ran.stdout).unwrap_or_else(|_| panic!("{ran}")), ran.status)
    };
    let faults = |said: &Value| {
        let all = said["findings"].as_array().unwrap().iter();
        all.map(|finding| finding["fault"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let names = |said: &Value| {
        let all = said["checks"].as_array().unwrap().iter();
        all.map(|check| check["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (said, code) = json(&["diagnose", "--kernel-log", "log", "--checks", "checks"]);
    assert_eq!((faults(&said), code), (vec!["xid-79".to_owned(), "one-is-wrong".to_owned()], Some(3)));
    assert_eq!((names(&said), &said["node"]), (vec!["kernel-log".to_owned(), "one".to_owned()], &Value::Null));
    let (said, code) = json(&[
        "diagnose",
        "--local",
        "--no-state",
        "--kernel-log",
        "log",
        "--only",
        "kernel-log,checks",
        "--checks",
        "checks",
    ]);
    assert_eq!((names(&said)[..2].to_vec(), code), (vec!["kernel-log".to_owned(), "one".to_owned()], Some(3)));
    assert!(faults(&said).contains(&"xid-79".to_owned()) && said["node"].is_string(), "{said}");
    let (said, code) =
        json(&["remediate", "--local", "--kernel-log", "log", "--checks", "checks", "--state-dir", "state"]);
    // Of a time since some boot nobody knows when it was: both are told of, and nothing is planned.
    let refused: Vec<&str> = said["refused"].as_array().unwrap().iter().filter_map(|r| r["fault"].as_str()).collect();
    assert!(refused.contains(&"xid-79") && refused.contains(&"one-is-wrong"), "{said:#}");
    assert_eq!(code, Some(3));
    // A log says nothing of whose it is.
    let ran = environment.run(["diagnose", "gpu-17", "--kernel-log", "log"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("whose it is"), "{ran}");
    // One that is not there is the same error for all.
    for command in [&["diagnose"][..], &["diagnose", "--local"], &["remediate"]] {
        let ran = environment.run([command, &["--kernel-log", "none"]].concat());
        assert!(ran.status == Some(1) && ran.stderr.contains("cannot open none"), "{ran}");
    }
}

#[test]
fn an_interrupt_leaves_nothing_of_a_sites_checks() {
    let environment = TestEnvironment::new();
    let check = "name: long\ncommand: [sh, -c, \"sleep 8331 & setsid sleep 8332 & wait\"]\nfault: long-is-wrong\ndefine: {title: Long, component: node, severity: error, explain: Long.}\n";
    environment.write("checks/long.yaml", check);
    environment.write("log", "[ 1.5] usb 1-1: new device\n");
    let marked = |number: &str| {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let directory = environment.path("checks").display().to_string();
        all.filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            line == format!("sleep\0{number}\0").into_bytes() && cwd.display().to_string() == directory
        })
        .count()
    };
    for arguments in [
        &["--local", "--no-state", "--only", "checks", "--checks", "checks"][..],
        &["--kernel-log", "log", "--checks", "checks"],
    ] {
        for signal in [Signal::INT, Signal::TERM] {
            let mut child = environment.command().arg("diagnose").args(arguments).spawn().unwrap();
            wait_until("the check runs", || marked("8331") == 1 && marked("8332") == 1);
            kill_process(Pid::from_child(&child), signal).unwrap();
            assert_eq!(end_of(&mut child), Some(130));
            wait_until("nothing is left", || marked("8331") + marked("8332") == 0);
        }
    }
}

#[test]
fn the_first_signal_ends_a_command_that_reads_stdin() {
    let environment = TestEnvironment::new();
    for arguments in [&["--findings", "-"][..], &["--kernel-log", "-"]] {
        for signal in [Signal::INT, Signal::TERM] {
            let mut command = environment.command();
            let command = command.arg("remediate").args(arguments).args(["--state-dir", "state"]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // It sleeps in its read, or the child that it has made does.
            let pid = child.id();
            let waits =
                |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|at| at.contains("pipe"));
            let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            wait_until("it reads", || waits(pid) || children().split_whitespace().any(|c| waits(c.parse().unwrap())));
            kill_process(Pid::from_child(&child), signal).unwrap();
            assert_eq!(end_of(&mut child), Some(130), "{arguments:?}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_changes_no_exit_code() {
    let environment = TestEnvironment::new();
    let log: String =
        (0..3000).map(|i| format!("[ {i}.5] NVRM: Xid (PCI:0000:{:02x}:{:02x}): 79\n", i % 256, i / 256)).collect();
    environment.write("log", log);
    for command in [["diagnose", "json"], ["diagnose", "table"], ["remediate", "json"]] {
        let mut child = environment
            .command()
            .args([command[0], "--kernel-log", "log", "-o", command[1]])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(end_of(&mut child), Some(3), "{command:?}");
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(errors, "");
    }
}

#[test]
fn a_dry_run_leaves_what_was_remembered_as_it_is() {
    let environment = TestEnvironment::new();
    environment.write("state/diagnose.json", "{}");
    let state = environment.path("state");
    let before = std::fs::metadata(state.join("diagnose.json")).unwrap().modified().unwrap();
    for arguments in [&["--dry-run", "--once"][..], &[]] {
        let ran = environment.run([&["remediate", "--state-dir", "state"], arguments].concat());
        assert!(matches!(ran.status, Some(0 | 3 | 4)), "{ran}");
        assert_eq!(std::fs::read_to_string(state.join("diagnose.json")).unwrap(), "{}");
        assert_eq!(std::fs::metadata(state.join("diagnose.json")).unwrap().modified().unwrap(), before);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
    }
}

#[test]
fn a_directory_that_may_not_be_written_is_called_so() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let environment = TestEnvironment::new();
    environment.write("program", std::fs::read(super::environment::binary()).unwrap());
    for path in [environment.path(""), environment.path("program")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    // As nobody, whom the directory does not belong to.
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(environment.path("program"))
        .args(["profile", "-w", "new.pftrace", "--", "true"])
        .current_dir(environment.path(""))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("may not write there") && !error.contains("does not exist"), "{error}");
}
