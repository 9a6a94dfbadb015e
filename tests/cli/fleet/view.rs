//! The fleet as it is shown: blind agents, many nodes, hostile words, missing rights.

use jiff::SignedDuration;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::scene::{Scene, findings, node};
use crate::support::kube::NOBODY;

const NOW: SignedDuration = SignedDuration::ZERO;

#[test]
fn an_agent_that_is_silent_is_blind_and_never_health() {
    let Some(scene) = Scene::new("stale") else { return };
    let (stale, fresh, mute) = (scene.node("stale"), scene.node("fresh"), scene.node("mute"));
    scene.findings(&stale, SignedDuration::from_hours(1), &["xid-79"]);
    scene.findings(&fresh, NOW, &[]);
    let ran = scene.fleet(&["-o", "wide"]);
    assert_eq!(ran.status, Some(4), "blind is no fault, and no health: {ran}");
    let fleet = scene.json(&[]);
    let rows: Vec<(&str, &str)> = fleet["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| (n["node"].as_str().unwrap(), n["state"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [(mute.as_str(), "blind"), (stale.as_str(), "blind"), (fresh.as_str(), "ok")]);
    assert!(fleet["nodes"][1]["findings"].as_array().unwrap().is_empty());
    let words = fleet["nodes"][1]["checks"][0]["detail"].as_str().unwrap();
    assert!(words.contains("silent for") && words.contains("xid-79"), "{words}");
    assert_eq!(scene.fleet(&["--stale-after", "2h"]).status, Some(3), "it may be waited for longer");
    assert_eq!(scene.run(&[&fresh]).status, Some(0));
}

#[test]
fn a_report_of_an_earlier_boot_is_blind() {
    let Some(scene) = Scene::new("boot") else { return };
    let info = json!({"nodeInfo": {"bootID": "now", "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "",
        "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}});
    let name = scene.node_with("n", info);
    let mut object = findings(&name, NOW, &["xid-79"]);
    object.spec.report.boot_id = Some("before".to_owned());
    scene.kube.block_on(async {
        Api::all(scene.kube.client()).create(&PostParams::default(), &object).await.unwrap();
    });
    let ran = scene.fleet(&[]);
    assert!(ran.status == Some(4) && ran.stdout.contains("earlier boot"), "{ran}");
}

/// Three pages of nodes, and of findings.
#[test]
fn a_thousand_nodes_come_in_pages_and_the_well_are_summed() {
    let Some(scene) = Scene::new("thousand") else { return };
    scene.kube.block_on(async {
        use futures::{StreamExt, stream};
        let client = scene.kube.client();
        let nodes: Api<Node> = Api::all(client.clone());
        let objects: Api<aictl::cluster::NodeFindings> = Api::all(client);
        stream::iter(0..1100)
            .for_each_concurrent(32, |i| {
                let (nodes, objects) = (nodes.clone(), objects.clone());
                let name = scene.name(&format!("n{i:04}"));
                let label = scene.label.clone();
                async move {
                    nodes.create(&PostParams::default(), &node(&name, &label, json!({}))).await.unwrap();
                    let faults: &[&str] = if i % 100 == 7 { &["xid-79"] } else { &[] };
                    objects.create(&PostParams::default(), &findings(&name, NOW, faults)).await.unwrap();
                }
            })
            .await;
    });
    // By names, which are made to last the test: findings of five minutes ago would be stale.
    let ran = scene.fleet(&["--stale-after", "1h"]);
    assert_eq!(ran.status, Some(3), "{ran}");
    assert!(ran.stdout.contains("ok 1,089 nodes"), "{ran}");
    assert_eq!(
        ran.stdout.lines().filter(|line| line.contains("xid-79") && line.contains("fault")).count(),
        11,
        "{ran}"
    );
    let fleet = scene.json(&["--stale-after", "1h"]);
    assert_eq!(fleet["nodes"].as_array().unwrap().len(), 1100);
}

#[test]
fn words_of_the_cluster_never_reach_the_terminal_as_orders() {
    let Some(scene) = Scene::new("hostile") else { return };
    let hostile = "\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}evil";
    let name = scene.node_with(
        "n",
        json!({"conditions": [
            {"type": "Ready", "status": "False", "reason": "R", "message": hostile},
            {"type": "EvilProblem", "status": "True", "reason": "R", "message": hostile},
        ]}),
    );
    let mut object = findings(&name, NOW, &["xid-79"]);
    let finding = &mut object.spec.report.findings[0];
    finding.fault = format!("xid-79{hostile}");
    finding.action = hostile.to_owned();
    finding.evidence = vec![hostile.to_owned()];
    finding.device.pci = Some(hostile.to_owned());
    finding.because = Some(hostile.to_owned());
    object.spec.report.checks[0].detail = hostile.to_owned();
    object.spec.report.checks[0].name = hostile.to_owned();
    object.spec.agent = hostile.to_owned();
    scene.kube.block_on(async {
        Api::all(scene.kube.client()).create(&PostParams::default(), &object).await.unwrap();
    });
    let status = json!({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": hostile});
    scene.pod("p", &name, json!({}), status);
    let views: [&[&str]; 6] =
        [&[], &["-o", "wide"], &["-o", "name"], &["-o", "json"], &["-o", "yaml"], &["--color", "never", "-v"]];
    for arguments in views {
        for ran in [scene.fleet(arguments), scene.run(&[&[name.as_str()], arguments].concat())] {
            assert_eq!(ran.status, Some(3), "{ran}");
            for text in [&ran.stdout, &ran.stderr] {
                assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{arguments:?}: {text:?}");
            }
        }
    }
    let ran = scene.fleet(&[]);
    assert!(!ran.stdout.contains('\u{202e}'), "{ran}");
}

#[test]
fn what_is_not_permitted_names_the_verb_and_the_resource() {
    let Some(scene) = Scene::new("rights") else { return };
    let name = scene.node("n");
    scene.findings(&name, NOW, &[]);
    let arguments = scene.arguments(&[]);
    let nobody = scene.place.write("nobody", scene.kube.kubeconfig_at(&scene.kube.url(), NOBODY, "default"));
    let ran = scene.place.run(["diagnose", "--kubeconfig", nobody.to_str().unwrap()]);
    assert_eq!(ran.status, Some(4), "{ran} {arguments:?}");
    assert!(ran.stderr.contains("cannot list resource \"nodes\"") && ran.stderr.contains("hint:"), "{ran}");

    // One who may read nodes alone sees them, and what could not be seen.
    let account = scene.name("looker");
    let token = scene.kube.block_on(async {
        let client = scene.kube.client();
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &scene.namespace);
        let made: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": account}})).unwrap();
        accounts.create(&PostParams::default(), &made).await.unwrap();
        let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": account},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}]}))
        .unwrap();
        Api::<ClusterRole>::all(client.clone()).create(&PostParams::default(), &role).await.unwrap();
        let binding: ClusterRoleBinding = serde_json::from_value(json!({"metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": scene.namespace}]}))
        .unwrap();
        Api::<ClusterRoleBinding>::all(client).create(&PostParams::default(), &binding).await.unwrap();
        let asked = TokenRequest::default();
        let token = accounts.create_token_request(&account, &PostParams::default(), &asked).await.unwrap();
        token.status.unwrap().token.unwrap()
    });
    scene.place.write("kubeconfig", scene.kube.kubeconfig_at(&scene.kube.url(), &token, "default"));
    // The server may know neither the token (401) nor its role (403) in the first moments.
    let ran = super::scene::until("the role is known to the server", || {
        Some(scene.fleet(&[])).filter(|ran| ran.stdout.contains(&name))
    });
    assert_eq!(ran.status, Some(4), "{ran}");
    for words in [
        "cannot list resource \"nodefindings\"",
        "cannot list resource \"pods\"",
        "cannot list resource \"daemonsets\"",
    ] {
        assert!(ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{words}: {ran}");
    }
}

#[test]
fn wrong_usage_is_said_before_anything_is_asked() {
    let Some(scene) = Scene::new("usage") else { return };
    for (arguments, words) in [
        (&["--local", "gpu-1"][..], "cannot be used with"),
        (&["gpu-1", "-l", "a=b"], "cannot be used with"),
        (&["--watch", "--local"], "--publish"),
        (&["--publish"], "--local"),
        (&["--since", "2h"], "--since is for a kernel log"),
        (&["--local", "--publish", "--watch", "--interval", "0.1"], "shorter than a second"),
    ] {
        let ran = scene.run(arguments);
        assert_eq!(ran.status, Some(2), "{arguments:?}: {ran}");
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran}");
    }
    let ran = scene.fleet(&["--stale-after", "5m"]);
    assert!(ran.status == Some(4) && ran.stderr.contains("no node of test has the labels"), "{ran}");
    let ran = scene.run(&["no-such-node"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no node is called no-such-node"), "{ran}");
}
