//! What goes wrong while pods are profiled; after each no agent, no eBPF program and no probe is left.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{QUICK, Scene};
use crate::support::kube::Kube;
use crate::support::node::Node;

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Processes of an agent's pod, and whether each holds eBPF programs or links. Nothing is pinned, so
/// with their last holder they are gone, and the probes with them.
fn processes(node: &Node, namespace: &str, agent: &str) -> Vec<(u32, bool)> {
    let uid = node.get(namespace, agent).metadata.uid.unwrap();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_pod = |pid: &u32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(&uid)
    };
    let holds = |pid: u32| {
        let held = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let held = held.filter_map(|entry| fs::read_link(entry.path()).ok());
        held.filter(|link| link.to_string_lossy().contains("bpf")).count() > 0
    };
    pids.filter(of_pod).map(|pid| (pid, holds(pid))).collect()
}

/// The agent of a running capture: its pod, and its processes.
fn agent(scene: &Scene, node: &Node) -> (String, Vec<u32>) {
    let agent = scene.wait_for_agent(node);
    let found = processes(node, &scene.namespace, &agent);
    assert!(found.iter().any(|(_, holds)| *holds), "no process of the agent holds a probe: {found:?}");
    (agent, found.into_iter().map(|(pid, _)| pid).collect())
}

fn wait_for_the_end_of(pids: &[u32]) {
    let begin = Instant::now();
    let lives = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while pids.iter().any(lives) {
        assert!(begin.elapsed() < Duration::from_secs(60), "processes of the agent live on: {pids:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let pinned = Path::new("/sys/fs/bpf").read_dir().into_iter().flatten().flatten();
    assert!(pinned.filter(|entry| entry.file_name().to_string_lossy().contains("aictl")).count() == 0);
}

fn nothing_is_left(scene: &Scene, node: &Node, pids: &[u32]) {
    node.wait_for_no_agent(&scene.namespace);
    wait_for_the_end_of(pids);
}

/// What the report says of the one node's end.
fn broke_off(scene: &Scene) -> String {
    let report = scene.report("run.pftrace");
    report["capture"]["nodes"][0]["broke_off"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_agent_that_somebody_deletes_says_so_and_what_came_is_kept() {
    let Some(scene) = Scene::new("deleted") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-d", "60s", "-w", "run.pftrace"], &QUICK[..]].concat());
    let (agent, pids) = agent(&scene, &node);
    scene.wait_for_seconds(0.5);
    node.delete(&scene.namespace, &agent);
    let ran = scene.end(child);
    assert!(ran.stderr.contains("lost the agent on node"), "{ran}");
    let why = broke_off(&scene);
    assert!(["told to end", "is gone", "being deleted"].iter().any(|words| why.contains(words)), "{why}: {ran}");
    assert!(scene.report("run.pftrace")["duration_s"].as_f64().unwrap() > 0.5);
    nothing_is_left(&scene, &node, &pids);
}

#[test]
fn an_api_server_that_is_restarted_costs_nothing() {
    let Some(kube) = Kube::restarting() else { return };
    let scene = Scene::at(kube, "restarted");
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-d", "10s", "-w", "run.pftrace"], &QUICK[..]].concat());
    let (_, pids) = agent(&scene, &node);
    kube.restart();
    let ran = scene.end(child);
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}\n{}", node.log("node"));
    assert!(ran.stderr.contains("taking it up again"), "{ran}");
    let report = scene.report("run.pftrace");
    assert!(report["capture"]["nodes"][0]["resumed"].as_u64().unwrap() >= 1, "{:#}", report["capture"]);
    assert_eq!(report["capture"]["lost_events"], 0, "{:#}", report["capture"]);
    assert!(report["duration_s"].as_f64().unwrap() > 9.5, "{report:#}");
    nothing_is_left(&scene, &node, &pids);
}

#[test]
fn a_laptop_that_slept_for_a_moment_goes_on_and_loses_nothing() {
    let Some(scene) = Scene::new("asleep") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-d", "14s", "-w", "run.pftrace"], &QUICK[..]].concat());
    let (_, pids) = agent(&scene, &node);
    // Longer than the silence after which it takes a connection for dead (ten seconds).
    signal(&child, Signal::STOP);
    std::thread::sleep(Duration::from_millis(10_500));
    signal(&child, Signal::CONT);
    let ran = scene.end(child);
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}\n{}", node.log("node"));
    let report = scene.report("run.pftrace");
    assert_eq!(report["capture"]["lost_events"], 0, "{:#}", report["capture"]);
    assert!(report["capture"]["nodes"][0]["broke_off"].is_null(), "{:#}", report["capture"]);
    assert!(report["duration_s"].as_f64().unwrap() > 13.5, "{report:#}");
    nothing_is_left(&scene, &node, &pids);
}

#[test]
fn a_laptop_that_slept_too_long_finds_the_agent_ended_and_keeps_what_came() {
    let Some(scene) = Scene::new("slept") else { return };
    let Some(mut node) = scene.node("n") else { return };
    // It waits for a minute in life.
    node.say("patience 3");
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-d", "60s", "-w", "run.pftrace"], &QUICK[..]].concat());
    let (_, pids) = agent(&scene, &node);
    scene.wait_for_seconds(0.5);
    signal(&child, Signal::STOP);
    // While it sleeps.
    wait_for_the_end_of(&pids);
    signal(&child, Signal::CONT);
    let ran = scene.end(child);
    assert!(ran.stderr.contains("lost the agent on node"), "{ran}");
    let why = broke_off(&scene);
    assert!(["heard nothing from here", "its pod is over"].iter().any(|words| why.contains(words)), "{why}: {ran}");
    assert!(scene.report("run.pftrace")["duration_s"].as_f64().unwrap() > 0.5);
    nothing_is_left(&scene, &node, &pids);
}

#[test]
fn a_laptop_that_died_leaves_a_record_without_an_owner_that_the_next_capture_removes() {
    let Some(scene) = Scene::new("killed") else { return };
    let Some(mut node) = scene.node("n") else { return };
    node.say("patience 3");
    scene.python(&node, "train-0", &json!({}), &[]);
    let other = scene.kube.namespace("agents");
    let arguments = [&["train-0", "-d", "60s", "--agent-namespace", &other, "-w", "run.pftrace"], &QUICK[..]].concat();
    let mut child = scene.start(&arguments);
    scene.wait_for_data(&node);
    let agent = node.agents(&other).remove(0);
    let pids: Vec<u32> = processes(&node, &other, &agent).into_iter().map(|(pid, _)| pid).collect();
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    wait_for_the_end_of(&pids);
    // It runs nothing any more, and would have been ended at the latest by its deadline; no owner takes it along.
    let begin = Instant::now();
    let record = loop {
        let pod = node.get(&other, &agent);
        match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Succeeded" | "Failed") => break pod,
            phase => assert!(begin.elapsed() < Duration::from_secs(60), "{phase:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(record.metadata.owner_references.is_none());
    assert_eq!(record.spec.unwrap().active_deadline_seconds, Some(180));
    let ran =
        scene.run(&[&["train-0", "-d", "1s", "--agent-namespace", &other, "-w", "b.pftrace"], &QUICK[..]].concat());
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}");
    node.wait_for_no_agent(&other);
}

#[test]
fn a_pod_that_another_takes_the_place_of_is_told_from_it() {
    let Some(scene) = Scene::new("replaced") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-d", "60s", "-w", "run.pftrace"], &QUICK[..]].concat());
    // The target's end takes the agent along where its owner is deleted; the next pod is no business of it.
    let (_, pids) = agent(&scene, &node);
    node.replace(&scene.namespace, "train-0");
    let ran = scene.end(child);
    assert!(ran.stderr.contains("pod train-0 was replaced while it was recorded"), "{ran}");
    assert!(scene.report("run.pftrace")["duration_s"].as_f64().unwrap() < 40.0);
    nothing_is_left(&scene, &node, &pids);
}

#[test]
fn what_a_container_calls_itself_reaches_no_terminal() {
    let Some(scene) = Scene::new("hostile") else { return };
    let Some(node) = scene.node("n") else { return };
    let share = node.share();
    let named = "import os, time\nopen('/proc/self/comm', 'w').write('\\x1b[2Jname')";
    scene.put_work(&node, &super::WORK.replace("import os, time", named));
    let words = "\u{1b}[2J$(touch /srv/ran)`touch /srv/ran`";
    node.pod(&scene.namespace, "train-0", &json!({}), &["/usr/bin/python3", "/srv/work.py", words], &[]);
    scene.wait_for_work(&node, "train-0");
    let ran = scene.run(&["train-0", "-d", "1s", "--process", "no such thing"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("touch /srv/ran"), "{ran}");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}", ran = ran.stderr);
    let ran = scene.run(&[&["train-0", "-d", "2s", "-w", "run.pftrace", "-v"], &QUICK[..]].concat());
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}");
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stdout.contains('\u{1b}'), "{:?}", (ran.stdout, ran.stderr));
    assert!(!share.join("ran").exists(), "a shell has run what a container said");
    node.wait_for_no_agent(&scene.namespace);
}
