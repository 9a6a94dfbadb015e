//! Exporters behind a real API server: it is the server itself that reaches them through its proxy
//! to pods. They are real exporters, on this machine's own address.

use std::net::UdpSocket;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::machine::Machine;
use super::serve::Exporter;
use crate::support::kube::{Kube, NOBODY};
use crate::{environment::TestEnvironment, support};

/// An address of this machine that is not loopback, to which the proxy does not go.
fn own_address() -> Option<String> {
    // No packet is sent: this only asks for a route.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then(|| address.to_string())
}

fn exporter_pod(kube: &Kube, namespace: &str, name: &str, node: &str, address: &str) {
    kube.block_on(async {
        let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "aictl-top"}},
            "spec": {"nodeName": node, "containers": [{"name": "exporter", "image": "none"}]}}))
        .unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    });
}

#[test]
fn exporters_are_read_through_the_api_server() {
    let Some(kube) = Kube::shared() else { return };
    let Some(address) = own_address() else {
        support::require("an address that is not loopback", false);
        return;
    };
    let Some(machine) = Machine::new("") else { return };
    let namespace = kube.namespace("exporters");
    let place = TestEnvironment::new();
    place.write("kubeconfig", kube.kubeconfig(&namespace));
    let file = place.path("kubeconfig").display().to_string();
    let top = |arguments: &[&str]| {
        let ours = ["top", "--once", "--kubeconfig", &file, "--agent-namespace", &namespace];
        place.run([&ours[..], arguments].concat())
    };
    let ran = top(&["--fleet"]);
    assert!(ran.status == Some(4) && ran.stderr.contains("no exporter of aictl runs"), "{ran}");

    let _exporter = Exporter::start(&machine, &format!("{address}:9400"));
    exporter_pod(kube, &namespace, "top-a", "node-a", &address);
    let ran = top(&["--fleet", "-o", "json"]);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
    assert_eq!(ran.status, Some(0), "{ran}");
    // The cluster's name for the node counts, not the exporter's own.
    assert_eq!((&json["nodes"][0]["node"], &json["nodes"][0]["gpus"][0]["uuid"]), (&"node-a".into(), &"GPU-0".into()));

    // One that does not answer, and one that is not there, hide nothing.
    exporter_pod(kube, &namespace, "top-b", "node-b", "192.0.2.1");
    let ran = top(&["node-a", "node-b", "node-c", "--by", "node"]);
    assert_eq!(ran.status, Some(4), "{ran}");
    assert!(
        ran.stdout.contains("node-a") && ran.stderr.contains("node-b: ") && ran.stderr.contains("node-c: no exporter"),
        "{ran}"
    );

    place.write("kubeconfig", kube.kubeconfig_at(&kube.url(), NOBODY, &namespace));
    let ran = top(&["--fleet"]);
    assert!(ran.status == Some(4) && ran.stderr.contains("cannot list resource \"pods\""), "{ran}");
}

#[test]
fn a_shell_gets_names_of_nodes_or_nothing_but_quickly() {
    let Some(kube) = Kube::shared() else { return };
    let node = kube.unique("complete-me");
    kube.block_on(async {
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(kube.client());
        let made = serde_json::from_value(json!({"metadata": {"name": node}})).unwrap();
        nodes.create(&PostParams::default(), &made).await.unwrap();
    });
    let complete = |kubeconfig: &str, words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let place = TestEnvironment::new().set("COMPLETE", "bash").set("_CLAP_COMPLETE_INDEX", &index);
        let file = place.write("kubeconfig", kubeconfig).display().to_string();
        let words: Vec<&str> = words.iter().map(|word| if *word == "FILE" { file.as_str() } else { *word }).collect();
        let ran = place.run([&["--"], &words[..]].concat());
        assert_eq!(ran.stderr, "", "{ran}");
        ran.stdout
    };
    let config = kube.kubeconfig("default");
    for command in ["top", "diagnose"] {
        let said = complete(&config, &["aictl", command, "--kubeconfig", "FILE", "complete-me"]);
        assert!(said.lines().any(|line| line.trim() == node), "{command}: {said}");
    }
    // A server that is not there, and nonsense: silence.
    let gone = kube.kubeconfig_at("https://192.0.2.1:6443", "x", "default");
    for config in [gone.as_str(), "nonsense"] {
        let said = complete(config, &["aictl", "top", "--kubeconfig", "FILE", "complete-me"]);
        assert_eq!(said.trim(), "");
    }
}
