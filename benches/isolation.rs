//! From an event in the kernel's log to a node that is seen isolated: a real API server, the real
//! program as `remediate --apply --watch --cluster`, lines written to /dev/kmsg in its test mode.
//!
//! `cargo bench --bench isolation [-- ROUNDS]`; needs root, etcd and kube-apiserver.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking and prints its result")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use support::kube::Kube;

const PLAYBOOK: &str = "
policy:
  kill_switch: /nonexistent/stop
  cool_down: 0s
  attempts_per_node: 1000000
  concurrent: 1000000
  breaker: {nodes: 1000000}
  out_of_service: {nodes: 1000000}
rules:
- name: bench
  match: {faults: [xid-79]}
  steps:
  - {step: isolate}
  - {step: script, command: ['true']}
  - {step: verify}
  - {step: restore}
";

fn main() {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(100);
    if !support::is_root() {
        println!("not run: writes to /dev/kmsg, which needs root");
        return;
    }
    let Some(kube) = Kube::shared() else { return };
    let namespace = kube.namespace("bench");
    let node = kube.unique("bench");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("playbook.yaml"), PLAYBOOK).unwrap();
    std::fs::write(at("kubeconfig"), kube.kubeconfig(&namespace)).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    make_node(kube, &node, boot.trim());
    let seen = watch(kube, &node);
    let daemon = Daemon::start(|command| {
        command
            .args(["remediate", "--apply", "--watch", "--interval", "1h", "--cluster", "--node", &node])
            .args(["-n", &namespace, "--pretend", "trust=1"])
            // A machine of its own: this one's journal is elsewhere.
            .args(["--pretend", &format!("root={}", directory.path().display())])
            .arg("--kubeconfig")
            .arg(at("kubeconfig"))
            .arg("--playbook")
            .arg(at("playbook.yaml"))
            .arg("--state-dir")
            .arg(at("state"))
    });
    let mut log = OpenOptions::new().write(true).open("/dev/kmsg").unwrap();
    let mut times = Vec::new();
    // The first is not counted: until the daemon has looked at the whole machine once, it hears
    // nothing, and other programs may have written faults into this machine's log.
    for round in 0..=rounds {
        // Another device each time, of a domain that no machine has: another incident.
        let line = format!(
            "NVRM: Xid (PCI:fe{:02x}:{:02x}:00): 79, GPU has fallen off the bus.\n",
            round / 255,
            round % 255 + 1
        );
        let begin = Instant::now();
        log.write_all(line.as_bytes()).unwrap();
        wait_for(&seen, true);
        if round > 0 {
            times.push(begin.elapsed());
        }
        wait_for(&seen, false);
        // A fault does not come in step with the daemon's own work on the one before.
        std::thread::sleep(Duration::from_millis(300 + (round as u64 * 137) % 400));
    }
    daemon.end();
    kube.block_on(async {
        let nodes: Api<Node> = Api::all(kube.client());
        let _ = nodes.delete(&node, &DeleteParams::default()).await;
    });
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1000.0;
    println!(
        "event to isolation, {rounds} rounds: P50 {:.0} ms, P90 {:.0} ms, P99 {:.0} ms, longest {:.0} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// The program at work; it ends with the benchmark, however that ends.
struct Daemon(Child);

impl Daemon {
    fn start(arguments: impl FnOnce(&mut Command) -> &mut Command) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aictl"));
        arguments(&mut command);
        Daemon(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap())
    }

    /// Asks it to end, and waits until it has.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(seen: &mpsc::Receiver<bool>, wanted: bool) {
    while seen.recv_timeout(Duration::from_secs(60)).expect("the node did not change within a minute") != wanted {}
}

fn make_node(kube: &Kube, name: &str, boot: &str) {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let status = json!({"status": {"nodeInfo": {"bootID": boot}}});
    kube.block_on(async {
        let nodes: Api<Node> = Api::all(kube.client());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    });
}

/// Says at each change of the node whether our taint is on it. The server ends a watch when it likes:
/// another goes on from what is there now.
fn watch(kube: &'static Kube, name: &str) -> mpsc::Receiver<bool> {
    let (send, receive) = mpsc::channel();
    let fields = WatchParams::default().fields(&format!("metadata.name={name}"));
    let name = name.to_owned();
    std::thread::spawn(move || {
        kube.block_on(async {
            let nodes: Api<Node> = Api::all(kube.client());
            // From a version that a list gives: with an etcd before 3.4.25 the server knows no watch
            // that begins with what is there.
            let of_node = ListParams::default().fields(&format!("metadata.name={name}"));
            loop {
                let begun = async {
                    let listed = nodes.list(&of_node).await?;
                    let version = listed.metadata.resource_version.unwrap_or_default();
                    let stream = nodes.watch(&fields, &version).await?.boxed();
                    Ok::<_, kube::Error>((listed.items, stream))
                };
                let (there, mut stream) = match begun.await {
                    Ok(begun) => begun,
                    Err(error) => {
                        println!("cannot watch the node: {error}; trying again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                };
                if there.iter().any(|node| send.send(is_isolated(node)).is_err()) {
                    return;
                }
                while let Some(event) = stream.next().await {
                    match event {
                        Ok(WatchEvent::Added(node) | WatchEvent::Modified(node)) => {
                            if send.send(is_isolated(&node)).is_err() {
                                return;
                            }
                        }
                        Ok(WatchEvent::Deleted(_)) => return,
                        Ok(WatchEvent::Bookmark(_)) => {}
                        Ok(WatchEvent::Error(status)) => {
                            println!("the watch ends: {status}");
                            break;
                        }
                        Err(error) => {
                            println!("the watch ends: {error}");
                            break;
                        }
                    }
                }
            }
        });
    });
    receive
}

fn is_isolated(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == "aictl.dev/fault"))
}
