//! deploy/: what is there is taken by a real API server, and the agent's role is enough for the
//! agent and for nothing else.

use std::fs;
use std::path::Path;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt, discovery};
use serde_json::{Value, json};

use super::scene::{Scene, until};
use crate::environment::Ran;

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"))
}

fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(directory().join(file)).unwrap();
    let whole = text.split("\n---\n").filter(|part| part.contains("kind:"));
    whole.map(|part| aictl::view::yaml::from_str(part).unwrap_or_else(|error| panic!("{file}: {error}"))).collect()
}

/// Applies what a file has; with `dry_run` only asks whether it would be taken.
fn apply(scene: &Scene, file: &str, dry_run: bool) {
    for document in documents(file) {
        let object: DynamicObject = serde_json::from_value(document).unwrap_or_else(|error| panic!("{file}: {error}"));
        let types = object.types.clone().unwrap();
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let kind = GroupVersionKind::gvk(group, version, &types.kind);
        scene.kube.block_on(async {
            let client = scene.kube.client();
            let (resource, _) = discovery::pinned_kind(&client, &kind).await.unwrap();
            let objects: Api<DynamicObject> = match object.namespace() {
                Some(namespace) => Api::namespaced_with(client, &namespace, &resource),
                None => Api::all_with(client, &resource),
            };
            let mut asked = PatchParams::apply("test").force().validation_strict();
            asked.dry_run = dry_run;
            let name = object.name_any();
            let applied = objects.patch(&name, &asked, &Patch::Apply(&object)).await;
            applied.unwrap_or_else(|error| panic!("{file}: {} {name}: {error}", types.kind));
        });
    }
}

#[test]
fn every_manifest_is_taken_by_the_server() {
    let Some(scene) = Scene::new("manifests") else { return };
    apply(&scene, "namespace.yaml", false);
    let listed = documents("kustomization.yaml").remove(0);
    let resources: Vec<&str> = listed["resources"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for file in &resources {
        apply(&scene, file, true);
    }
    for file in ["top/exporter.yaml", "top/roles.yaml"] {
        apply(&scene, file, true);
    }
    // Whatever lies beside is listed, too.
    for entry in fs::read_dir(directory()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".yaml") && name != "kustomization.yaml" {
            assert!(resources.contains(&name.as_str()), "deploy/kustomization.yaml does not list {name}");
        }
    }
}

fn publish(scene: &Scene, node: &str) -> Ran {
    let root = scene.place.path("machine").display().to_string();
    scene.run(&["--local", "--only", "kernel-log", "--no-state", "--root", &root, "--publish", "--node", node])
}

#[test]
fn the_agents_account_may_write_of_its_own_node_and_do_nothing_else() {
    let Some(scene) = Scene::new("account") else { return };
    for file in ["namespace.yaml", "roles.yaml", "own-node.yaml"] {
        apply(&scene, file, false);
    }
    let (own, other) = (scene.node("own"), scene.node("other"));
    scene.place.write("machine/dev/kmsg", "6,1,1,-;quiet\n");
    let pod_name = scene.name("agent");
    let token = scene.kube.block_on(async {
        let client = scene.kube.client();
        let pods: Api<Pod> = Api::namespaced(client.clone(), "aictl");
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": pod_name}, "spec": {"nodeName": own,
            "serviceAccountName": "aictl-agent", "containers": [{"name": "agent", "image": "none"}]}}))
        .unwrap();
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name,
            uid: pod.metadata.uid,
        };
        let spec = TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() };
        let asked = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "aictl");
        let made = accounts.create_token_request("aictl-agent", &PostParams::default(), &asked).await.unwrap();
        made.status.unwrap().token.unwrap()
    });
    scene.place.write("kubeconfig", scene.kube.kubeconfig_at(&scene.kube.url(), &token, "aictl"));
    let ran =
        until("the role is known to the server", || Some(publish(&scene, &own)).filter(|ran| ran.status == Some(0)));
    assert!(ran.stderr.is_empty(), "{ran}");
    assert_eq!(scene.object(&own).unwrap().state, "ok");
    let ran = until("the policy is known to the server", || {
        Some(publish(&scene, &other)).filter(|ran| ran.stderr.contains("may write of its own node only"))
    });
    assert_ne!(ran.status, Some(0), "{ran}");
    // The agent's own node still, with the policy in force; and no fleet for it.
    assert_eq!(publish(&scene, &own).status, Some(0));
    let ran = scene.run(&[]);
    assert!(ran.status == Some(4) && ran.stderr.contains("cannot list resource \"nodes\""), "{ran}");
}
