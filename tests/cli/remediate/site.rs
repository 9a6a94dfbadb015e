//! A machine that is made up: a look at it, a playbook, commands that log what they were asked for.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

pub const GPU: &str = "0000:3b:00.0";
pub const OTHER_GPU: &str = "0000:5e:00.0";

/// All steps that a node can take without a cluster, but for the restart of the machine.
pub const RESET: &str = "
  - {step: isolate}
  - {step: notify, timeout: 5s}
  - {step: checkpoint}
  - {step: stop-holders, names: [sleep], timeout: 10s}
  - {step: reset-gpu, timeout: 10s}
  - {step: restart-service, service: persistence, command: ['@/service'], check: ['@/running'], timeout: 10s}
  - {step: script, command: ['@/script'], timeout: 10s}
  - {step: verify, attempts: 2}
  - {step: restore}
";

pub const REBOOT: &str = "
  - {step: isolate}
  - {step: notify, timeout: 5s}
  - {step: reboot, timeout: 1500ms}
  - {step: verify, attempts: 2}
  - {step: restore}
";

pub struct Site {
    directory: tempfile::TempDir,
    /// Said with every run that acts or plans.
    pub also: Vec<String>,
    /// Said with every command.
    pub connection: Vec<String>,
    /// Where the journal is.
    pub state: &'static str,
    /// Ids of the events that the webhook took.
    pub events: Arc<Mutex<Vec<String>>>,
}

impl Site {
    pub fn new(steps: &str) -> Site {
        let directory = tempfile::tempdir().unwrap();
        let events = Arc::default();
        let site = Site { directory, also: Vec::new(), connection: Vec::new(), state: "state", events };
        let url = site.webhook();
        site.script("cordon", "touch @/cordoned");
        site.script("uncordon", "rm -f @/cordoned");
        site.script("checkpoint", "");
        site.script("reset", "rm -f @/fault");
        site.script("service", "touch @/service-runs");
        site.script("script", "");
        site.script("burnin", "");
        // The machine goes down, and with it whoever asked.
        site.script("reboot", "echo $(cat @/boot)x > @/boot; rm -f @/fault; kill -9 $PPID");
        site.plain_script("running", "test -e @/service-runs");
        site.plain_script("diagnose", "test -e @/slow && sleep 0.2; boot=$(cat @/boot); if test -e @/fault; then cat @/sick.json; else cat @/well.json; fi | sed \"s/@BOOT/$boot/\"");
        site.write("boot", "boot-1");
        site.write("fault", "");
        site.sees(&[fault("xid-95", "nvml", GPU)]);
        site.write(
            "playbook.yaml",
            &site.here(&format!(
                "commands:\n  isolate: ['@/cordon', '{{node}}']\n  restore: ['@/uncordon', '{{node}}']\n  \
                 checkpoint: ['@/checkpoint']\n  reset_gpu: ['@/reset', '{{pci}}']\n  reboot: ['@/reboot']\n  \
                 burn_in: ['@/burnin', '{{pci}}']\nnotify: {{url: '{url}'}}\n\
                 policy: {{kill_switch: '@/stop', cool_down: 0s}}\n\
                 rules:\n- name: ours\n  match: {{faults: [xid-95]}}\n  steps:{}",
                steps.replace('\n', "\n  ")
            )),
        );
        site
    }

    /// What a look finds while the fault is there.
    pub fn sees(&self, findings: &[Value]) {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let look = |state: &str, findings: &[Value]| {
            let check = |name: &str| json!({"name": name, "state": state, "detail": ""});
            let checks = [check("nvml"), check("kernel-log")];
            json!({"schema": "aictl.findings/v1", "node": node, "boot_id": "@BOOT", "checks": checks, "findings": findings})
        };
        self.write("sick.json", &look("fault", findings).to_string());
        self.write("well.json", &look("ok", &[]).to_string());
        self.write("blind.json", &look("blind", &[]).to_string());
    }

    pub fn script(&self, name: &str, body: &str) {
        // It can be told to kill aictl before or after its own work; once.
        let text = format!(
            "case $(cat @/kill-{name} 2>/dev/null) in before) rm @/kill-{name}; kill -9 $PPID; sleep 0.3;; \
             after) rm @/kill-{name}; trap 'kill -9 $PPID' EXIT;; esac\n\
             echo {name} $* >> @/log\n{body}\ntest ! -e @/fails-{name}"
        );
        self.plain_script(name, &text);
    }

    /// A program NAME whose text is in NAME.sh. What is run is a file that nobody writes: one that this process has
    /// open for writing is open in children of other tests, too, and can't be run meanwhile ("text file busy").
    fn plain_script(&self, name: &str, body: &str) {
        fs::write(self.path(&format!("{name}.sh")), self.here(&format!("#!/bin/sh\n{body}\n"))).unwrap();
        if !self.path(name).exists() {
            symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/beside.sh"), self.path(name)).unwrap();
        }
    }

    pub fn here(&self, text: &str) -> String {
        text.replace("@/", &format!("{}/", self.directory.path().display()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, or a program's text.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.text_of(name), text).unwrap();
    }

    fn text_of(&self, name: &str) -> PathBuf {
        let script = self.path(&format!("{name}.sh"));
        if script.exists() { script } else { self.path(name) }
    }

    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.text_of(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        self.write(name, &text.replace(from, &self.here(to)));
    }

    /// What the commands were asked for, in order.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    pub fn count(&self, command: &str) -> usize {
        self.log().iter().filter(|line| line.split(' ').next() == Some(command)).count()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let boot = fs::read_to_string(self.path("boot")).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("aictl"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .args(["remediate"])
            .args(arguments)
            .args(["--pretend", &format!("diagnose={}", self.path("diagnose").display())])
            .args(["--pretend", &format!("root={}", self.directory.path().display())])
            .args(["--pretend", &format!("boot={}", boot.trim())])
            .arg("--state-dir")
            .arg(self.path(self.state))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.args(&self.connection);
        if !arguments.contains(&"undo") || arguments.contains(&"--playbook") {
            command.args(&self.also);
            command.arg("--playbook").arg(self.path("playbook.yaml"));
        }
        command
    }

    /// aictl with the connection alone.
    pub fn aictl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("aictl"));
        command.env_clear().args(arguments).args(&self.connection).stdin(Stdio::null()).output().unwrap()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn apply(&self) -> Output {
        self.run(&["--apply", "--once", "-o", "json"])
    }

    pub fn start(&self, die_at: Option<u64>) -> Child {
        let mut command = self.command(&["--apply", "--once"]);
        if let Some(mark) = die_at {
            command.env("AICTL_TEST_DIE_AT", mark.to_string());
        }
        command.spawn().unwrap()
    }

    /// Runs until nothing is left to do, as cron would.
    pub fn settle(&self) -> i32 {
        let mut code = -1;
        for _ in 0..20 {
            let output = self.apply();
            code = output.status.code().unwrap_or(-9);
            let said: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            let open = |incident: &Value| !matches!(incident["state"].as_str(), Some("restored" | "handed_over"));
            let open = said["incidents"].as_array().is_none_or(|all| all.iter().any(open));
            if code != -9 && !open {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        code
    }

    pub fn history(&self) -> Value {
        let output = Command::new(assert_cmd::cargo::cargo_bin!("aictl"))
            .env_clear()
            .args(["remediate", "history", "-o", "json", "--state-dir"])
            .arg(self.path("state"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn is_isolated(&self) -> bool {
        let marked = fs::read_dir(self.path("state/isolated")).is_ok_and(|mut all| all.next().is_some());
        self.path("cordoned").exists() || marked
    }

    fn webhook(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let events = Arc::clone(&self.events);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut text = Vec::new();
                let mut chunk = [0; 4096];
                let body = loop {
                    let Ok(size) = stream.read(&mut chunk) else { break None };
                    text.extend(&chunk[..size]);
                    let all = String::from_utf8_lossy(&text).into_owned();
                    let body = all.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
                    if size == 0 || body.is_some() {
                        break body;
                    }
                };
                let body: Option<Value> = body;
                if let Some(body) = body {
                    events.lock().unwrap().push(body["id"].as_str().unwrap_or_default().to_owned());
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        url
    }
}

/// A finding, critical, seen now.
pub fn fault(name: &str, source: &str, pci: &str) -> Value {
    json!({
        "fault": name, "title": "t", "component": "gpu", "device": {"pci": pci}, "severity": "critical",
        "scope": "gpu", "action": "RESET_GPU", "count": 1, "first_seen": null,
        "last_seen": jiff::Timestamp::now().to_string(), "evidence": ["NVRM: line"], "source": source
    })
}

pub fn plan(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no plan: {}", String::from_utf8_lossy(&output.stderr)))
}

/// "isolate done", for each step of the first incident.
pub fn steps(plan: &Value) -> Vec<String> {
    let steps = plan["incidents"][0]["steps"].as_array().cloned().unwrap_or_default();
    let words = |step: &Value| format!("{} {}", step["step"].as_str().unwrap(), step["state"].as_str().unwrap());
    steps.iter().map(words).collect()
}

pub fn has(path: &Path) -> bool {
    path.exists()
}
