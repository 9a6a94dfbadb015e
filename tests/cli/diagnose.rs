//! `aictl diagnose` as its users meet it: saved logs, explanations, a site's catalogue.

use std::fs;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

const XID: &str = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.";

fn aictl(arguments: &[&str], stdin: &str) -> Output {
    Command::cargo_bin("aictl")
        .unwrap()
        .env_clear()
        .env("LANG", "C.UTF-8")
        .env("COLUMNS", "100")
        .env("TZ", "UTC")
        .arg("diagnose")
        .args(arguments)
        .write_stdin(stdin)
        .output()
        .unwrap()
}

fn json(log: &str) -> (Value, i32) {
    let output = aictl(&["--kernel-log", "-", "-o", "json"], log);
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code().unwrap())
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_log_gives_findings_as_the_contract_says() {
    let log = format!("[    1.5] systemd[1]: Started.\nNov 24 10:00:01 gpu-17 kernel: {XID}\n");
    let (found, code) = json(&log);
    assert_eq!(code, 3);
    assert_eq!(found["schema"], "aictl.findings/v1");
    assert_eq!(found["checks"][0]["state"], "fault");
    let finding = &found["findings"][0];
    for (key, value) in [
        ("fault", "xid-79"),
        ("component", "gpu"),
        ("severity", "critical"),
        ("scope", "node"),
        ("action", "RESTART_BM"),
        ("source", "kernel-log"),
    ] {
        assert_eq!(finding[key], value, "{key}");
    }
    assert_eq!((&finding["code"], &finding["count"]), (&Value::from(79), &Value::from(1)));
    assert_eq!(finding["device"]["pci"], "0000:3b:00.0");
    assert!(finding["first_seen"].as_str().unwrap().ends_with("-11-24T10:00:01Z"));
    assert_eq!(finding["evidence"][0], XID);
}

#[test]
fn a_clean_log_is_health_and_an_empty_one_is_not() {
    let (found, code) =
        json("[ 1.0] usb 1-1: new device\n[ 2.0] r8169 0000:02:00.0 eth0: RTL8125B, XID 641, IRQ 128\n");
    assert_eq!((code, found["findings"].as_array().unwrap().len()), (0, 0));
    assert_eq!(found["checks"][0]["state"], "ok");
    let (found, code) = json("");
    assert_eq!((code, &found["checks"][0]["state"]), (4, &Value::from("blind")));
}

#[test]
fn a_burst_is_one_finding_and_none_is_lost() {
    let line = |i: u32| format!("[ 100.{i:06}] NVRM: Xid (PCI:0000:3b:00): 31, pid={}, name=python3, MMU Fault\n", 7);
    let (found, _) = json(&(0..10_000).map(line).collect::<String>());
    assert_eq!(found["findings"].as_array().unwrap().len(), 1);
    assert_eq!(found["findings"][0]["count"], 10_000);
    // One process, one second: not a GPU that fails again and again.
    assert_eq!(found["findings"][0]["severity"], "warning");
}

#[test]
fn what_belongs_together_is_told_together() {
    let (found, _) = json(
        "[ 10.0] NVRM: Xid (PCI:0000:5e:00): 48, pid=4, name=a, DBE (double bit error) ECC Error\n\
         [ 11.0] NVRM: Xid (PCI:0000:5e:00): 63, pid=4, name=a, Row Remapper: New row marked for remapping\n\
         [ 12.0] NVRM: Xid (PCI:0000:5e:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)\n\
         [ 13.0] NVRM: Xid (PCI:0000:5e:00): 45, pid=4, name=a, Ch 00000008\n\
         [ 20.0] NVRM: Xid (PCI:0000:af:00): 79, GPU has fallen off the bus.\n\
         [ 20.1] NVRM: GPU 0000:af:00.0: GPU has fallen off the bus.\n",
    );
    let action = |fault: &str| {
        let all = found["findings"].as_array().unwrap();
        all.iter().find(|f| f["fault"] == fault).map(|f| f["action"].as_str().unwrap().to_owned())
    };
    assert_eq!(action("xid-48").as_deref(), Some("DRAIN_AND_RESET"));
    assert_eq!(action("xid-154").as_deref(), Some("RESTART_BM"));
    assert_eq!(action("xid-45").as_deref(), Some("IGNORE"));
    assert_eq!(action("gpu-lost-no-xid"), None, "the line is part of the Xid 79 beside it");
}

#[test]
fn times_before_the_one_asked_for_are_history() {
    let log = format!("2026-01-01T00:00:00+0000 n kernel: {XID}\n");
    let output = aictl(&["--kernel-log", "-", "--since", "2026-01-02T00:00:00Z"], &log);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("1 before"), "{}", text(&output));
    let output = aictl(&["--kernel-log", "-", "--since", "yesteryear"], &log);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_site_has_the_last_word() {
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path().join("site.yaml");
    fs::write(&site, "- fault: xid-79\n  action: REPLACE_VM\n  severity: error\n").unwrap();
    let site = site.to_str().unwrap();
    let output = aictl(&["--kernel-log", "-", "-o", "json", "--catalogue", site], &format!("{XID}\n"));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["findings"][0]["action"], &found["findings"][0]["severity"]),
        (&"REPLACE_VM".into(), &"error".into())
    );
    fs::write(site, "- fault: xid-79\n  acton: X\n").unwrap();
    let output = aictl(&["--explain", "xid-79", "--catalogue", site], "");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("acton") && error.contains("site.yaml"), "{error}");
}

#[test]
fn a_fault_is_explained_however_it_is_called() {
    for name in ["xid-79", "79", "XID 79", "xid79"] {
        let output = aictl(&["--explain", name], "");
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert!(text(&output).starts_with("xid-79: "), "{name}: {}", text(&output));
    }
    let output = aictl(&["--explain", "xid-9999"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("xid-9999"));
}

#[test]
fn a_log_that_is_not_there_is_an_error() {
    let output = aictl(&["--kernel-log", "/no/such/log"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/log"));
    assert_eq!(aictl(&[], "").status.code(), Some(2));
}

#[test]
fn nothing_in_a_log_reaches_the_terminal_raw() {
    let line = "[1.0] NVRM: Xid (PCI:0000:3b:00): 31, pid=1, name=\u{1b}[31mred\u{7}, MMU \u{1b}]0;x\u{7} Fault\n";
    let output = aictl(&["--kernel-log", "-", "--color", "never"], line);
    assert!(!text(&output).contains(['\u{1b}', '\u{7}']), "{:?}", text(&output));
}
