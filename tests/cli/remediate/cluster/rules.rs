//! One rule of safety after the other.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::super::site::{plan, steps};
use super::proxy::Proxy;
use super::town::{ALL, Town, marks};
use crate::support::kube::ADMIN;

/// Isolation and its end, without jobs.
const SHORT: &str = "
  - {step: isolate, timeout: 20s}
  - {step: reset-gpu, timeout: 10s}
  - {step: verify}
  - {step: restore, timeout: 20s}
";

/// The same without a way back.
const STAYS: &str = "
  - {step: isolate, timeout: 5s}
  - {step: hand-over}
";

fn why(plan: &Value, step: &str) -> String {
    let steps = plan["incidents"][0]["steps"].as_array().cloned().unwrap_or_default();
    let found = steps.into_iter().find(|found| found["step"] == step);
    found.map(|found| found["why"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[test]
fn a_node_is_isolated_its_job_moved_and_the_node_put_back() {
    let Some(town) = Town::new(ALL) else { return };
    town.job(2);
    town.keepers(2);
    let before = town.get_node(&town.bystander).metadata.resource_version;
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!(output.status.code(), Some(0), "{said:#}");
    assert_eq!(said["incidents"][0]["state"], "restored");
    let done: Vec<String> = steps(&said).into_iter().filter(|step| step.ends_with(" done")).collect();
    assert_eq!(done.len(), 7, "{said:#}");
    // While the GPU was reset, the node was out of service and its pods were gone.
    let text = std::fs::read_to_string(town.site.path("node-at-reset.json")).unwrap();
    let (cordoned, taints, annotations) = marks(&serde_json::from_str(&text).unwrap());
    assert_eq!((cordoned, taints), (false, vec!["aictl.dev/fault=xid-95:NoSchedule".to_owned()]));
    assert_eq!(annotations.len(), 4, "{annotations:?}");
    assert!(town.is_clean());
    assert_eq!(town.where_pods_are().len(), 2);
    assert!(town.where_pods_are().iter().all(|(_, node)| *node == town.bystander), "{:?}", town.where_pods_are());
    assert!(why(&said, "checkpoint").contains("2 saved") && why(&said, "resume").contains("Job/train"), "{said:#}");
    let events = town.events();
    assert!(events.contains(&"AictlIsolated".to_owned()) && events.contains(&"AictlRestored".to_owned()), "{events:?}");
    assert_eq!(town.get_node(&town.bystander).metadata.resource_version, before, "a healthy node is never touched");
    assert_eq!(town.site.count("reset"), 1);
    // Nothing is wrong any more: not a word, and not a write.
    let versions = town.versions();
    let output = town.site.run(&["--apply", "--once"]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(town.versions(), versions);
}

#[test]
fn a_dry_run_writes_nothing() {
    for by in ["{}", "{by: cordon}", "{by: taint, no_execute: true}"] {
        let Some(town) = Town::new(ALL) else { return };
        town.playbook(by, ALL);
        town.job(1);
        let before = town.versions();
        let output = town.site.run(&["-o", "json"]);
        let said = plan(&output);
        assert_eq!(output.status.code(), Some(3));
        assert!(why(&said, "isolate").contains("would"), "{said:#}");
        assert!(why(&said, "evict").contains("worker-0"), "{said:#}");
        assert_eq!(town.versions(), before);
        assert!(!town.site.path("state").exists());
    }
}

#[test]
fn without_the_flag_no_cluster_is_spoken_to() {
    let Some(mut town) = Town::new(ALL) else { return };
    town.site.also.clear();
    let before = town.versions();
    let output = town.site.apply();
    assert_eq!(town.versions(), before);
    let said = plan(&output);
    assert!(why(&said, "evict").contains("--cluster"), "{said:#}");
}

#[test]
fn what_a_human_cordoned_stays_so() {
    for by in ["{by: taint}", "{by: cordon}", "{}"] {
        let Some(town) = Town::new(SHORT) else { return };
        town.playbook(by, SHORT);
        town.patch_node(
            &town.node,
            &json!({"spec": {"unschedulable": true}, "metadata": {"annotations": {"who": "ada"}}}),
        );
        let output = town.site.apply();
        assert_eq!(output.status.code(), Some(0), "{by}: {:#}", plan(&output));
        assert!(town.is_clean());
        assert!(town.marks().0, "{by}: the human's cordon is gone");
        assert_eq!(town.get_node(&town.node).metadata.annotations.unwrap()["who"], "ada");
    }
    // Ours is told from it.
    let Some(town) = Town::new(SHORT) else { return };
    town.playbook("{by: cordon}", SHORT);
    assert_eq!(town.site.apply().status.code(), Some(0));
    assert!(town.is_clean() && !town.marks().0);
    let text = std::fs::read_to_string(town.site.path("node-at-reset.json")).unwrap();
    assert!(marks(&serde_json::from_str(&text).unwrap()).0, "it was not cordoned while the GPU was reset");
}

#[test]
fn one_object_stops_everything_even_in_the_middle() {
    let Some(town) = Town::new(ALL) else { return };
    town.job(1);
    town.keepers(1);
    town.stop_object(true);
    let before = town.versions();
    let output = town.site.apply();
    assert_eq!(plan(&output)["refused"][0]["rule"], "kill_switch");
    assert_eq!((output.status.code(), town.versions()), (Some(3), before));
    town.stop_object(false);
    // It is thrown while the job saves its work.
    town.mute.store(true, Ordering::Relaxed);
    let run = town.site.start(None);
    town.until("asked to save", |town| {
        let pods = town.kube.block_on(async { town.pods().get("worker-0").await.unwrap() });
        pods.metadata.annotations.is_some_and(|all| all.contains_key("aictl.dev/checkpoint-requested"))
    });
    town.stop_object(true);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(town.where_pods_are(), [("worker-0".to_owned(), town.node.clone())]);
    assert_eq!(town.site.count("reset"), 0);
    town.stop_object(false);
    town.mute.store(false, Ordering::Relaxed);
    assert_eq!((town.site.settle(), town.site.count("reset")), (0, 1));
    assert!(town.is_clean());
}

#[test]
fn too_many_nodes_at_once_stop_everything() {
    let Some(town) = Town::new(SHORT) else { return };
    let policy = |rule: &str| format!("{{kill_switch: '@/stop', cool_down: 0s, {rule}}}");
    let breaker = policy("breaker: {nodes: 1, share: 0, window: 1h}, out_of_service: {nodes: 100000}");
    let out = policy("breaker: {nodes: 100000}, out_of_service: {nodes: 1, share: 0}");
    let isolated = |minutes: i64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
        let annotations = json!({"aictl.dev/isolated-at": at.to_string(), "aictl.dev/isolated-incident": "i-1"});
        json!({"metadata": {"labels": {"aictl.dev/isolated": "true"}, "annotations": annotations}})
    };
    town.patch_node(&town.bystander, &isolated(5));
    for (policy, rule) in [(breaker, "breaker"), (out, "out_of_service")] {
        town.playbook_with("{}", &policy, SHORT);
        let before = town.versions();
        let output = town.site.apply();
        assert_eq!(plan(&output)["refused"][0]["rule"], rule, "{:#}", plan(&output));
        assert_eq!((output.status.code(), town.versions()), (Some(3), before));
    }
}

#[test]
fn of_two_agents_at_once_one_isolates_where_one_may() {
    let Some(first) = Town::new(STAYS) else { return };
    let Some(mut second) = Town::new(STAYS) else { return };
    // One namespace: one count. Of the nodes they see their own two, whatever other tests do to theirs.
    second.site.connection.clone_from(&first.site.connection);
    let label = first.namespace.clone();
    for node in [&first.node, &second.node] {
        first.patch_node(node, &json!({"metadata": {"labels": {"aictl-test": label}}}));
    }
    let proxy = Proxy::turning(&first.kube.url(), move |path| match path.strip_prefix("/api/v1/nodes?") {
        Some(rest) => format!("/api/v1/nodes?labelSelector=aictl-test%3D{label}&{rest}"),
        None => path.to_owned(),
    });
    first.site.write("kubeconfig", &first.kube.kubeconfig_at(&proxy.url, ADMIN, &first.namespace));
    let policy = "{kill_switch: '@/stop', cool_down: 0s, breaker: {nodes: 1, share: 0, window: 1h}}";
    for town in [&first, &second] {
        town.playbook_with("{}", policy, STAYS);
    }
    let runs = [&first, &second].map(|town| {
        let mut command = town.site.command(&["--apply", "--once", "-o", "json"]);
        command.stdout(Stdio::piped()).spawn().unwrap()
    });
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let isolated = [&first, &second].iter().filter(|town| !town.is_clean()).count();
    assert_eq!(isolated, 1, "one may, and one only");
}

#[test]
fn a_node_of_the_same_name_that_is_another_machine_is_left_alone() {
    let Some(town) = Town::new(SHORT) else { return };
    let status = json!({"status": {"nodeInfo": {"bootID": "another"}}});
    town.kube.block_on(async {
        let patch = kube::api::Patch::Merge(&status);
        town.nodes().patch_status(&town.node, &kube::api::PatchParams::default(), &patch).await.unwrap();
    });
    let before = town.versions();
    let output = town.site.apply();
    assert_eq!(output.status.code(), Some(3));
    assert!(why(&plan(&output), "isolate").contains("another machine"), "{:#}", plan(&output));
    assert_eq!((town.versions(), town.site.count("reset")), (before, 0));
}

#[test]
fn a_node_that_is_not_there_is_not_isolated_and_nothing_reset() {
    let Some(mut town) = Town::new(SHORT) else { return };
    town.site.also = ["--cluster", "--node", "no-such-node"].map(str::to_owned).to_vec();
    let output = town.site.apply();
    assert_eq!(output.status.code(), Some(3));
    assert!(why(&plan(&output), "isolate").contains("no-such-node"), "{:#}", plan(&output));
    assert_eq!(town.site.count("reset"), 0);
}

#[test]
fn others_may_write_to_the_node_all_the_while() {
    let Some(town) = Town::new(SHORT) else { return };
    let busy = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut i = 0;
            while busy.load(Ordering::Relaxed) {
                i += 1;
                town.patch_node(&town.node, &json!({"metadata": {"annotations": {"beat": i.to_string()}}}));
            }
        });
        let output = town.site.apply();
        busy.store(false, Ordering::Relaxed);
        assert_eq!(output.status.code(), Some(0), "{:#}", plan(&output));
    });
    assert!(town.is_clean());
    assert_eq!(town.site.count("reset"), 1);
}

#[test]
fn a_human_takes_our_isolation_back() {
    let Some(town) = Town::new(STAYS) else { return };
    assert_eq!(town.site.apply().status.code(), Some(3));
    assert!(!town.is_clean());
    let output = town.site.run(&["undo"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(town.is_clean());
    assert_eq!(town.site.apply().status.code(), Some(3));
    assert!(town.is_clean(), "what a human took back is a human's");
}

#[test]
fn who_may_not_write_is_told_so_and_nothing_is_done() {
    let Some(town) = Town::new(SHORT) else { return };
    let config = town.kube.kubeconfig_at(&town.kube.url(), crate::support::kube::NOBODY, &town.namespace);
    town.site.write("kubeconfig", &config);
    let output = town.site.apply();
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(town.site.count("reset"), 0);
    assert!(town.is_clean());
}
