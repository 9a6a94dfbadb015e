//! The node's agent: what it publishes, what it doesn't say twice, and what it does while the
//! server is away.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::scene::{Scene, Way, until};
use crate::diagnose_gpu::{H100, can_build, library};
use crate::support::kube::{ADMIN, NOBODY};

const XID: &str =
    "3,100,1000000,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python3, GPU has fallen off the bus.\n";
const QUIET: &str = "6,1,1,-;Linux version 6.8\n";

/// A machine that is nothing but a kernel's log.
fn machine(scene: &Scene, log: &str) -> PathBuf {
    scene.place.write("machine/dev/kmsg", log);
    scene.place.path("machine")
}

fn publish(scene: &Scene, node: &str, more: &[&str]) -> crate::environment::Ran {
    let root = scene.place.path("machine").display().to_string();
    let common = ["--local", "--only", "kernel-log", "--no-state", "--root", &root, "--publish", "--node", node];
    scene.run(&[&common[..], more].concat())
}

#[test]
fn what_a_node_finds_is_published_and_shown_by_the_fleet() {
    let Some(scene) = Scene::new("agent") else { return };
    let node = scene.node("gpu");
    machine(&scene, &format!("{QUIET}{XID}"));
    let ran = publish(&scene, &node, &[]);
    assert_eq!(ran.status, Some(3), "{ran}");
    let object = scene.object(&node).expect("a findings object");
    assert_eq!((object.state.as_str(), object.worst.as_deref()), ("fault", Some("xid-79")));
    assert_eq!(object.report.node.as_deref(), Some(node.as_str()));
    let there = scene.get(&node);
    let conditions = there.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|condition| condition.type_ == "Ready"), "kubelet's own stay");
    let ours = conditions.into_iter().find(|condition| condition.type_ == "AictlFault").expect("our condition");
    assert_eq!((ours.status.as_str(), ours.reason.as_deref()), ("True", Some("Xid79")));
    assert!(ours.message.unwrap().contains("xid-79 on 0000:3b:00.0"));
    assert_eq!(scene.events(&node), ["Xid79"]);

    // The same again, by an agent that knows of nothing: no second event.
    let ran = publish(&scene, &node, &["-o", "name"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(3), "xid-79\n"), "{ran}");
    assert_eq!(scene.events(&node), ["Xid79"]);

    let ran = scene.fleet(&[]);
    assert_eq!(ran.status, Some(3), "{ran}");
    let row = ran.stdout.lines().nth(1).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert!(words.contains(&"fault") && words.contains(&"xid-79") && words.contains(&"RESTART_BM"), "{ran}");
    let ran = scene.fleet(&["-o", "name"]);
    assert_eq!(ran.stdout, format!("node/{node}\n"), "{ran}");
    let ran = scene.run(&[&node, "-o", "json"]);
    let findings: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&findings["schema"], &findings["node"]), (&"aictl.findings/v1".into(), &node.as_str().into()));
    assert_eq!(findings["findings"][0]["fault"], "xid-79");

    // Repaired: the condition goes, and an event says so.
    machine(&scene, QUIET);
    let ran = publish(&scene, &node, &[]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let conditions = scene.get(&node).status.unwrap().conditions.unwrap();
    let ours = conditions.into_iter().find(|condition| condition.type_ == "AictlFault").unwrap();
    assert_eq!((ours.status.as_str(), ours.reason.as_deref()), ("False", Some("NoFault")));
    assert_eq!(scene.events(&node), ["Xid79", "Xid79Gone"]);
    assert_eq!(scene.fleet(&[]).status, Some(0));
}

#[test]
fn the_findings_object_belongs_to_the_node() {
    let Some(scene) = Scene::new("owner") else { return };
    let node = scene.node("gpu");
    machine(&scene, QUIET);
    let ran = publish(&scene, &node, &[]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let object = scene.kube.block_on(async {
        let objects: kube::Api<aictl::cluster::NodeFindings> = kube::Api::all(scene.kube.client());
        objects.get(&node).await.unwrap()
    });
    let owner = &object.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), &owner.uid), ("Node", &scene.get(&node).metadata.uid.unwrap()));
    let fields = object.metadata.managed_fields.unwrap();
    assert!(fields.iter().all(|entry| entry.manager.as_deref() == Some("aictl")), "{fields:?}");
}

#[test]
fn what_can_not_be_published_is_said_after_what_was_found() {
    let Some(scene) = Scene::new("unpublished") else { return };
    machine(&scene, &format!("{QUIET}{XID}"));
    let ran = publish(&scene, "no-such-node", &["-o", "name"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), "xid-79\n"), "{ran}");
    assert!(ran.stderr.contains("no node is called no-such-node") && ran.stderr.contains("--node"), "{ran}");
    scene.place.write("kubeconfig", scene.kube.kubeconfig_at(&scene.kube.url(), NOBODY, "default"));
    let ran = publish(&scene, "any", &["-o", "name"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(4), "xid-79\n"), "{ran}");
    assert!(ran.stderr.contains("cannot get resource \"nodes\""), "{ran}");
}

struct Agent(Child);

impl Agent {
    fn start(scene: &Scene, node: &str) -> Agent {
        Agent::start_with(scene, node, "kernel-log", |_| {})
    }

    fn start_with(scene: &Scene, node: &str, only: &str, also: impl FnOnce(&mut Command)) -> Agent {
        let root = scene.place.path("machine").display().to_string();
        let arguments = scene.arguments(&[
            "--local",
            "--only",
            only,
            "--no-state",
            "--root",
            &root,
            "--publish",
            "--watch",
            "--interval",
            "1h",
            "--node",
            node,
        ]);
        let log = std::fs::File::create(scene.place.path("agent.log")).unwrap();
        let mut command = scene.place.command();
        also(&mut command);
        Agent(command.args(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

fn append(scene: &Scene, line: &str) {
    let mut log = OpenOptions::new().append(true).open(scene.place.path("machine/dev/kmsg")).unwrap();
    log.write_all(line.as_bytes()).unwrap();
}

fn said(scene: &Scene) -> String {
    let mut text = String::new();
    std::fs::File::open(scene.place.path("agent.log")).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// The agent looks once an hour here, so whatever it finds sooner it was woken for.
#[test]
fn a_record_of_the_kernel_wakes_the_agent_and_an_outage_loses_nothing() {
    let Some(scene) = Scene::new("outage") else { return };
    let node = scene.node("gpu");
    let way = Way::to(&scene.kube.url());
    scene.place.write("kubeconfig", scene.kube.kubeconfig_at(&way.url(), ADMIN, "default"));
    machine(&scene, QUIET);
    let mut agent = Agent::start(&scene, &node);
    until("the first look is published", || scene.object(&node));
    append(&scene, XID);
    until("an Xid is published", || scene.object(&node).filter(|object| object.worst.as_deref() == Some("xid-79")));

    way.set_open(false);
    append(&scene, &XID.replace(": 79,", ": 48,").replace("3,100,1000000", "3,101,2000000"));
    until("the outage is noticed", || said(&scene).contains("looking on").then_some(()));
    assert!(agent.0.try_wait().unwrap().is_none(), "an outage ends nothing: {}", said(&scene));
    append(&scene, &XID.replace(": 79,", ": 119,").replace("3,100,1000000", "3,102,3000000"));
    way.set_open(true);
    let object = until("all is published when the server is back", || {
        scene.object(&node).filter(|object| object.report.findings.len() >= 3)
    });
    let faults: Vec<&str> = object.report.findings.iter().map(|finding| finding.fault.as_str()).collect();
    for fault in ["xid-79", "xid-48", "xid-119"] {
        assert!(faults.contains(&fault), "{fault} is not in {faults:?}");
    }
    until("its events are sent", || (scene.events(&node).len() == 3).then_some(()));
    assert!(said(&scene).contains("the cluster is back"), "{}", said(&scene));
}

/// NVML tells of Xids as well: through a library of the test's own, with a log that says nothing.
#[test]
fn an_xid_that_nvml_tells_of_is_published_and_one_that_the_log_tells_too_is_one() {
    if !can_build() {
        return;
    }
    let Some(scene) = Scene::new("xids") else { return };
    let node = scene.node("gpu");
    machine(&scene, QUIET);
    let device = "machine/sys/bus/pci/devices/0000:3b:00.0";
    for (name, text) in [("vendor", "0x10de\n"), ("class", "0x030200\n")] {
        scene.place.write(&format!("{device}/{name}"), text);
    }
    scene.place.write("machine/dev/nvidia0", "");
    scene.place.write(
        "machine/proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Sat\n",
    );
    std::os::unix::fs::symlink("../../../bus/pci/drivers/nvidia", scene.place.path(&format!("{device}/driver")))
        .unwrap();
    scene.place.write("facts", format!("{H100}\ncount 1\n0.uuid GPU-0\n0.pci 00000000:3B:00.0\n"));
    scene.place.write("events", "");
    let agent = Agent::start_with(&scene, &node, "kernel-log,gpu", |command| {
        command
            .env("LD_LIBRARY_PATH", library(false))
            .env("AICTL_TEST_NVML", scene.place.path("facts"))
            .env("AICTL_TEST_NVML_EVENTS", scene.place.path("events"));
    });
    until("the first look is published", || scene.object(&node));
    let tell = |line: &str| {
        let mut events = OpenOptions::new().append(true).open(scene.place.path("events")).unwrap();
        events.write_all(line.as_bytes()).unwrap();
    };
    tell("0 79\n");
    let object =
        until("the Xid is published", || scene.object(&node).filter(|object| !object.report.findings.is_empty()));
    let finding = &object.report.findings[0];
    assert_eq!((finding.fault.as_str(), finding.source.as_str()), ("xid-79", "nvml-events"));
    assert_eq!(finding.device.pci.as_deref(), Some("0000:3b:00.0"));
    let check = object.report.checks.iter().find(|check| check.name == "nvml-events").unwrap();
    assert!(check.detail.contains("listening to 1 GPU"), "{}", check.detail);
    // The kernel's own word for the same comes later.
    append(&scene, XID);
    let object = until("the line is seen", || {
        scene.object(&node).filter(|object| object.report.findings.iter().any(|found| found.source == "kernel-log"))
    });
    let faults: Vec<&str> = object.report.findings.iter().map(|finding| finding.fault.as_str()).collect();
    assert_eq!(faults, ["xid-79"], "{}", said(&scene));
    assert!(object.report.findings[0].evidence.iter().any(|line| line.contains("NVML told of Xid 79 once")));
    drop(agent);
}
