//! What the cluster itself tells of its nodes: conditions, devices, pods turned away, add-ons; and a
//! site's checks of objects.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::scene::Scene;

const NOW: SignedDuration = SignedDuration::ZERO;

fn faults<'v>(fleet: &'v Value, node: &str) -> Vec<&'v str> {
    let nodes = fleet["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|view| view["node"] == node).unwrap_or_else(|| panic!("no {node} in {fleet:#}"));
    node["findings"].as_array().unwrap().iter().map(|finding| finding["fault"].as_str().unwrap()).collect()
}

/// A list comes in the server's binary form, one node as JSON: both say the same.
#[test]
fn a_node_is_the_same_in_both_of_the_servers_forms() {
    let Some(scene) = Scene::new("forms") else { return };
    let status = json!({"conditions": [
            {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "nothing heard",
                "lastTransitionTime": "2026-11-01T10:20:30Z", "lastHeartbeatTime": "2026-11-01T00:00:00Z"},
            {"type": "DiskPressure", "status": "True"}],
        "capacity": {"cpu": "64", "memory": "1Ti", "nvidia.com/gpu": "8", "rdma/hca": "1k"},
        "allocatable": {"nvidia.com/gpu": "7"},
        "nodeInfo": {"bootID": "a-boot", "architecture": "amd64", "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "m", "operatingSystem": "", "osImage": "", "systemUUID": "u"}});
    let name = scene.node_with("n", status);
    let other = scene.node("other");
    let config = scene.place.write("forms", scene.kube.kubeconfig("default"));
    scene.kube.block_on(async {
        let nodes: Api<Node> = Api::all(scene.kube.client());
        let more = json!({"metadata": {"annotations": {"aictl.dev/isolated-by": "x", "other": "y"}, "labels": {"a/b": "c"}},
            "spec": {"unschedulable": true, "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}, {"key": "l", "effect": "NoExecute"}]}});
        nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&more)).await.unwrap();
        let options = aictl::cluster::Options { kubeconfig: Some(config), ..Default::default() };
        let cluster = aictl::cluster::Cluster::connect(&options).await.unwrap();
        let choice = aictl::cluster::NodeChoice::Labels(format!("aictl-test={}", scene.label()));
        let listed = aictl::cluster::nodes(&cluster, &choice).await.unwrap();
        let mut single = Vec::new();
        for name in [&name, &other] {
            single.push(aictl::cluster::node(&cluster, name).await.unwrap());
        }
        assert_eq!(listed, single);
        let first = &listed[0];
        assert_eq!((first.capacity["rdma/hca"], first.taints.len(), first.unschedulable), (1000, 2, true));
        assert_eq!((first.boot_id.as_deref(), first.annotations.len()), (Some("a-boot"), 1));
        assert!(first.created.is_some() && first.conditions[0].since.is_some() && first.conditions[1].since.is_none());
    });
}

#[test]
fn conditions_devices_and_pods_turned_away_are_faults_of_their_node() {
    let Some(scene) = Scene::new("told") else { return };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "m"});
    let gone = scene.node_with("gone", json!({"conditions": [condition("Ready", "Unknown")]}));
    let full = scene.node_with(
        "full",
        json!({"conditions": [condition("Ready", "True"), condition("DiskPressure", "True"), condition("ReadonlyFilesystem", "True")]}),
    );
    let short = scene.node_with("short", json!({"allocatable": {"nvidia.com/gpu": "7"}}));
    let hole = scene.node("hole");
    let well = scene.node("well");
    for node in [&gone, &full, &short, &hole, &well] {
        scene.findings(node, NOW, &[]);
    }
    for i in 0..4 {
        let status = json!({"phase": "Failed", "reason": "UnexpectedAdmissionError", "startTime": Timestamp::now().to_string(),
            "message": "Allocate failed due to device plugin GetPreferredAllocation rpc failed, which is unexpected"});
        scene.pod(&format!("p{i}"), &hole, json!({}), status);
    }
    let fleet = scene.json(&[]);
    assert_eq!(faults(&fleet, &gone), ["node-not-ready"]);
    let mut both = faults(&fleet, &full);
    both.sort_unstable();
    assert_eq!(both, ["disk-pressure", "fs-readonly"]);
    assert_eq!(faults(&fleet, &short), ["dp-allocatable-drop"]);
    assert_eq!(faults(&fleet, &hole), ["dp-blackhole"]);
    assert!(faults(&fleet, &well).is_empty());
    let ran = scene.fleet(&[]);
    assert_eq!(ran.status, Some(3), "{ran}");
    assert!(ran.stdout.contains("7/8") && ran.stdout.contains("ok 1 node"), "{ran}");
}

#[test]
fn an_addon_that_does_not_stay_up_is_a_fault_of_its_node() {
    let Some(scene) = Scene::new("addon") else { return };
    let nodes: Vec<String> = (0..4).map(|i| scene.node(&format!("n{i}"))).collect();
    for node in &nodes {
        scene.findings(node, NOW, &[]);
    }
    let labels = json!({"app": "plugin"});
    let set: DaemonSet = serde_json::from_value(json!({
        "metadata": {"name": "nvidia-device-plugin-daemonset"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "none"}]}}},
    }))
    .unwrap();
    scene.kube.block_on(async {
        let sets: Api<DaemonSet> = Api::namespaced(scene.kube.client(), &scene.namespace);
        sets.create(&PostParams::default(), &set).await.unwrap();
        let status = json!({"status": {"desiredNumberScheduled": 4, "currentNumberScheduled": 4, "numberMisscheduled": 0, "numberReady": 3}});
        let name = "nvidia-device-plugin-daemonset";
        sets.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    });
    let owner = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "nvidia-device-plugin-daemonset", "uid": "u", "controller": true}]);
    let crashing = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "main", "image": "none", "imageID": "", "ready": false, "restartCount": 9,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    scene.pod("plugin-x", &nodes[2], json!({"labels": labels, "ownerReferences": owner}), crashing);
    let fleet = scene.json(&[]);
    assert_eq!(faults(&fleet, &nodes[2]), ["driver-pod-down"]);
    assert!(faults(&fleet, &nodes[1]).is_empty());
    let finding = &fleet["nodes"][0]["findings"][0];
    assert!(finding["because"].as_str().unwrap().contains("device plugin of this node: CrashLoopBackOff"), "{finding}");
}

fn map(scene: &Scene, name: &str, data: &[(&str, &str)]) {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.data =
        Some(data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>());
    scene.kube.block_on(async {
        let maps: Api<ConfigMap> = Api::namespaced(scene.kube.client(), &scene.namespace);
        maps.create(&PostParams::default(), &map).await.unwrap();
    });
}

#[test]
fn a_sites_checks_select_objects_and_test_a_field_or_a_condition() {
    let Some(scene) = Scene::new("objects") else { return };
    let node = scene.node("n");
    scene.findings(&node, NOW, &[]);
    map(&scene, "pool-a", &[("ready", "3"), ("wanted", "3")]);
    map(&scene, "pool-b", &[("ready", "1"), ("wanted", "3"), ("node", &node)]);
    let define = "define: {title: Pool is short, component: addon, severity: error, explain: Look at the pool.}";
    let of =
        |name: &str, kubernetes: &str, fault: &str| format!("name: {name}\nfault: {fault}\nkubernetes: {kubernetes}\n");
    let namespace = &scene.namespace;
    let pools = format!(
        "{{apiVersion: v1, kind: ConfigMap, namespace: {namespace}, field: data.ready, same_as: data.wanted, node: data.node}}"
    );
    scene.place.write("checks/pools.yaml", of("pools", &pools, "pool-short") + define);
    let nodes = format!(
        "{{apiVersion: v1, kind: Node, selector: aictl-test={namespace}, condition: {{type: Ready, status: True}}}}"
    );
    scene.place.write("checks/nodes.yaml", of("ready", &nodes, "node-not-ready"));
    scene.place.write(
        "checks/old.yaml",
        of("old", "{apiVersion: apps/v1beta9, kind: Deployment, field: a, equals: 1}", "io-error"),
    );
    scene.place.write(
        "checks/none.yaml",
        of("none", "{apiVersion: karpenter.sh/v1, kind: NodePool, field: a, equals: 1}", "io-error"),
    );
    scene
        .place
        .write("checks/kind.yaml", of("kind", "{apiVersion: v1, kind: Nodule, field: a, equals: 1}", "io-error"));
    scene.place.write("checks/raid.yaml", "name: raid\ncommand: [\"true\"]\nfault: io-error\n");
    let checks = scene.place.path("checks").display().to_string();
    let fleet = scene.json(&["--checks", &checks]);
    assert_eq!(faults(&fleet, &node), ["pool-short"], "pool-b names the node");
    let check = |name: &str| {
        let all = fleet["checks"].as_array().unwrap();
        let check = all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} in {all:#?}"));
        (check["state"].as_str().unwrap().to_owned(), check["detail"].as_str().unwrap().to_owned())
    };
    assert_eq!(check("pools"), ("fault".into(), "1 of 2 ConfigMap objects are wrong".into()));
    assert_eq!(check("ready").0, "ok");
    assert_eq!(check("raid").0, "skipped");
    for (name, words) in [
        ("old", "v1beta9 of apps is not served; v1 is"),
        ("none", "the cluster has no karpenter.sh"),
        ("kind", "v1 has no kind Nodule"),
    ] {
        let (state, detail) = check(name);
        assert!(state == "blind" && detail.contains(words), "{name}: {state}: {detail}");
    }
    let evidence = &fleet["nodes"][0]["findings"][0]["evidence"][0];
    assert_eq!(evidence, "data.ready is 1, not 3 as data.wanted");
}
