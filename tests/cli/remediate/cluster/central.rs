//! `aictl remediate NODE…` from anywhere, with its journal and its lease in the cluster.

use serde_json::{Value, json};

use super::super::every_mark;
use super::super::site::{GPU, fault, plan, steps};
use super::town::Town;
use crate::support::kube::ADMIN;

const FAR: &str = "
  - {step: isolate, timeout: 20s}
  - {step: notify, timeout: 5s}
  - {step: checkpoint, namespaces: [NS], save: {annotate: true}, timeout: 20s}
  - {step: evict, namespaces: [NS], timeout: 30s}
  - {step: verify, attempts: 2}
  - {step: restore, timeout: 20s}
  - {step: resume, timeout: 30s}
";

/// A town that is looked at from afar. The node is sick as long as its pod runs there.
fn far(steps: &str) -> Option<Town> {
    let mut town = Town::new(steps)?;
    let look = |node: &str, findings: &[Value]| {
        let state = if findings.is_empty() { "ok" } else { "fault" };
        let checks = [json!({"name": "nvml", "state": state, "detail": ""})];
        json!({"schema": "aictl.findings/v1", "node": node, "boot_id": "boot-1", "checks": checks, "findings": findings})
    };
    let fleet = |findings: &[Value]| {
        let nodes = [look(&town.node, findings), look(&town.bystander, &[])];
        json!({"schema": "aictl.fleet/v1", "cluster": "test", "nodes": nodes, "checks": [], "findings": []})
    };
    town.site.write("sick.json", &fleet(&[fault("xid-95", "nvml", GPU)]).to_string());
    town.site.write("well.json", &fleet(&[]).to_string());
    let url = format!("{}/api/v1/namespaces/{}/pods/worker-0", town.kube.url(), town.namespace);
    let header = format!("Authorization: Bearer {ADMIN}");
    let script =
        format!("if curl -skf -H '{header}' {url} > /dev/null; then cat @/sick.json; else cat @/well.json; fi");
    town.site.write("diagnose", &town.site.here(&format!("#!/bin/sh\n{script}\n")));
    town.site.also = [&town.node, &town.bystander, "--pretend", "lease=1", "--wait", "10s"].map(str::to_owned).to_vec();
    Some(town)
}

#[test]
fn a_node_is_repaired_from_afar() {
    let Some(town) = far(FAR) else { return };
    town.job(1);
    town.keepers(1);
    let bystander = town.get_node(&town.bystander).metadata.resource_version;
    let before = town.versions();
    let output = town.site.run(&["-o", "json"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(town.versions(), before, "a dry run writes nothing");
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!(output.status.code(), Some(0), "{said:#}");
    assert_eq!(steps(&said).iter().filter(|step| step.ends_with(" done")).count(), 6, "{said:#}");
    assert!(town.is_clean());
    assert_eq!(town.where_pods_are(), [("again-1".to_owned(), town.bystander.clone())]);
    assert_eq!(town.get_node(&town.bystander).metadata.resource_version, bystander);
    // Who did what, when and why.
    let output = town.site.aictl(&["remediate", "history", "--cluster", "-o", "json"]);
    let history: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(history["incidents"][0]["state"], "restored", "{history:#}");
}

#[test]
fn what_only_the_machine_can_do_is_left_to_its_agent() {
    let steps_of = "
  - {step: isolate, timeout: 20s}
  - {step: reset-gpu}
  - {step: verify}
  - {step: restore}
";
    let Some(town) = far(steps_of) else { return };
    town.job(1);
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!(output.status.code(), Some(3), "{said:#}");
    assert!(said.to_string().contains("node's own agent"), "{said:#}");
    assert_eq!(town.site.count("reset"), 0);
    assert!(!town.is_clean());
    let undone = town.site.run(&["undo", "--cluster"]);
    assert_eq!(undone.status.code(), Some(0), "{}", String::from_utf8_lossy(&undone.stderr));
    assert!(town.is_clean());
}

#[test]
fn an_empty_selector_is_refused() {
    let Some(mut town) = far(FAR) else { return };
    for empty in [vec!["-l", ""], vec!["--selector", " "], vec![""]] {
        town.site.also = empty.into_iter().map(str::to_owned).collect();
        let output = town.site.apply();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn two_central_runs_are_one() {
    let Some(mut town) = far(FAR) else { return };
    // A second would be over on a busy machine before the first run renews its lease.
    let lasts = town.site.also.iter_mut().find(|word| *word == "lease=1").unwrap();
    *lasts = "lease=60".to_owned();
    town.job(1);
    town.mute.store(true, std::sync::atomic::Ordering::Relaxed);
    town.keepers(1);
    let first = town.site.start(None);
    town.until("isolated", |town| !town.is_clean());
    let waits = town.site.also.iter().position(|word| word == "--wait").unwrap();
    town.site.also.truncate(waits);
    let output = town.site.apply();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another run is at work"));
    town.mute.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(first.wait_with_output().unwrap().status.code(), Some(0));
    assert!(town.is_clean());
}

#[test]
fn a_central_run_killed_at_any_mark_leaves_no_node_isolated() {
    let walk = |mark| {
        let town = far(FAR)?;
        town.job(1);
        town.keepers(1);
        let bystander = town.get_node(&town.bystander).metadata.resource_version;
        let through = town.site.start(Some(mark)).wait().unwrap().code().is_some();
        let code = town.site.settle();
        let tell = || format!("mark {mark}: exit code {code}, {:?}", town.marks());
        assert_eq!(code, 0, "{}", tell());
        assert!(town.is_clean(), "{}", tell());
        assert!(town.where_pods_are().iter().all(|(_, node)| *node == town.bystander), "{}", tell());
        assert_eq!(town.get_node(&town.bystander).metadata.resource_version, bystander, "{}", tell());
        Some(through)
    };
    let Some(mark) = every_mark(1, walk) else { return };
    assert!(mark > 30, "only {mark} marks");
}
