//! Which pods are moved, and which are not.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::super::site::{plan, steps};
use super::town::Town;

const MOVE: &str = "
  - {step: isolate, timeout: 20s}
  - {step: evict, namespaces: [NS], timeout: 3s, required: true}
  - {step: reset-gpu, timeout: 10s}
  - {step: verify}
  - {step: restore, timeout: 20s}
";

fn budget(town: &Town, allowed: i32) {
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "train"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "train"}}},
    }))
    .unwrap();
    // Its controller's part.
    let status = json!({"status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
        "expectedPods": 1, "observedGeneration": 1}});
    town.kube.block_on(async {
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(town.kube.client(), &town.namespace);
        if budgets.get_opt("train").await.unwrap().is_none() {
            budgets.create(&PostParams::default(), &budget).await.unwrap();
        }
        budgets.patch_status("train", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    });
}

#[test]
fn a_budget_is_kept_and_waited_for() {
    let Some(town) = Town::new(MOVE) else { return };
    town.job(1);
    town.keepers(1);
    budget(&town, 0);
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!(output.status.code(), Some(3));
    assert!(steps(&said).contains(&"evict failed".to_owned()) && said.to_string().contains("budget"), "{said:#}");
    // Neither moved nor ended, and nothing was done to the GPU that it uses.
    assert_eq!(town.where_pods_are(), [("worker-0".to_owned(), town.node.clone())]);
    assert_eq!(town.site.count("reset"), 0);
    budget(&town, 1);
    assert_eq!((town.site.settle(), town.site.count("reset")), (0, 1));
    assert!(town.is_clean());
    assert_eq!(town.where_pods_are(), [("again-1".to_owned(), town.bystander.clone())]);
}

#[test]
fn pods_of_the_node_of_other_namespaces_and_without_gpus_stay() {
    let Some(town) = Town::new(MOVE) else { return };
    town.job(1);
    town.keepers(0);
    let uid = "5f0c0000-0000-0000-0000-000000000002";
    town.make_pod("plugin", &town.node, &json!({"kind": "DaemonSet", "name": "plugin", "uid": uid}));
    town.make_pod("cpu-only", &town.node, &json!({"kind": "Job", "uid": uid, "cpu": true}));
    town.make_pod("elsewhere", &town.bystander, &json!({"kind": "Job", "uid": uid}));
    let other = town.kube.namespace("other");
    let pods = || -> Api<k8s_openapi::api::core::v1::Pod> { Api::namespaced(town.kube.client(), &other) };
    let owner = json!({"kind": "Job", "uid": uid});
    town.kube.block_on(async { super::town::make_pod(&pods(), "not-ours", &town.node, &owner).await });
    let output = town.site.apply();
    assert_eq!(output.status.code(), Some(0), "{:#}", plan(&output));
    let mut left: Vec<String> = town.where_pods_are().into_iter().map(|(name, _)| name).collect();
    left.sort();
    assert_eq!(left, ["cpu-only", "elsewhere", "plugin"]);
    let theirs = town.kube.block_on(async { pods().get("not-ours").await.unwrap() });
    assert!(theirs.metadata.deletion_timestamp.is_none());
}

#[test]
fn a_pod_that_would_not_come_back_is_not_moved_unless_told() {
    let Some(town) = Town::new(MOVE) else { return };
    town.make_pod("bare", &town.node, &json!({}));
    town.keepers(0);
    let output = town.site.apply();
    assert_eq!(output.status.code(), Some(3));
    assert!(plan(&output).to_string().contains("has no controller"), "{:#}", plan(&output));
    assert_eq!((town.where_pods_are().len(), town.site.count("reset")), (1, 0));
    town.site.edit("playbook.yaml", "timeout: 3s, required: true", "timeout: 3s, required: true, bare: true");
    // What was begun goes on as it was meant; a new attempt takes the new words.
    assert_eq!(town.site.run(&["undo"]).status.code(), Some(0));
    assert!(town.is_clean());
}

#[test]
fn a_playbook_that_could_move_anything_is_refused() {
    let Some(town) = Town::new(MOVE) else { return };
    let before = town.versions();
    for (from, to) in [
        (format!("namespaces: [{}]", town.namespace), "namespaces: []"),
        (format!("namespaces: [{}]", town.namespace), "namespaces: ['*']"),
        (format!("namespaces: [{}]", town.namespace), "namespaces: ['']"),
        (format!("namespaces: [{}]", town.namespace), "namespaces: [x], selector: ''"),
        ("- {step: isolate, timeout: 20s}".to_owned(), "- {step: notify}"),
    ] {
        town.playbook("{}", MOVE);
        town.site.edit("playbook.yaml", &from, to);
        let output = town.site.apply();
        assert_eq!(output.status.code(), Some(2), "{to}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(town.versions(), before);
}
