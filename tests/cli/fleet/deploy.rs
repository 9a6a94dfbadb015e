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
    apply(&scene, "agent/namespace.yaml", false);
    for place in ["agent", "top", "profile", "remediate"] {
        let resources = resources(place);
        for file in &resources {
            apply(&scene, &format!("{place}/{file}"), true);
        }
        all_are_listed(place, &resources);
    }
    for (place, base) in [(".", "agent"), ("nvidia-runtime", "../agent")] {
        // kustomize takes no base from above the place where it stands.
        assert_eq!(resources(place), [base]);
    }
    // The playbook is one that aictl takes.
    let map = documents("remediate/playbook.yaml").remove(0);
    let playbook = scene.place.write("playbook.yaml", map["data"]["playbook.yaml"].as_str().unwrap());
    scene.place.write("log", "[ 1.0] usb 1-1: new device\n");
    let ran = scene.place.run(["remediate", "--kernel-log", "log", "--playbook", playbook.to_str().unwrap()]);
    assert_eq!(ran.status, Some(0), "{ran}");
}

fn resources(place: &str) -> Vec<String> {
    let listed = documents(&format!("{place}/kustomization.yaml")).remove(0);
    let resources = listed["resources"].as_array().unwrap().iter();
    resources.map(|resource| resource.as_str().unwrap().to_owned()).collect()
}

/// Whatever lies in a directory of manifests is listed.
fn all_are_listed(place: &str, resources: &[String]) {
    for entry in fs::read_dir(directory().join(place)).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".yaml") && name != "kustomization.yaml" {
            assert!(resources.contains(&name), "deploy/{place}/kustomization.yaml does not list {name}");
        }
    }
}

fn publish(scene: &Scene, node: &str) -> Ran {
    let root = scene.place.path("machine").display().to_string();
    scene.run(&["--local", "--only", "kernel-log", "--no-state", "--root", &root, "--publish", "--node", node])
}

/// A token of an account in aictl's namespace, as a pod on a node has it.
fn token(scene: &Scene, account: &str, pod: &str, node: &str) -> String {
    scene.kube.block_on(async {
        let client = scene.kube.client();
        let pods: Api<Pod> = Api::namespaced(client.clone(), "aictl");
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": pod}, "spec": {"nodeName": node,
            "serviceAccountName": account, "containers": [{"name": "agent", "image": "none"}]}}))
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
        let made = accounts.create_token_request(account, &PostParams::default(), &asked).await.unwrap();
        made.status.unwrap().token.unwrap()
    })
}

const REPAIR: &str = "
policy: {kill_switch: /nonexistent/stop, cool_down: 0s, breaker: {nodes: 100000}, out_of_service: {nodes: 100000}}
rules:
- name: from-afar
  match: {faults: [xid-79]}
  steps:
  - {step: isolate, timeout: 30s}
  - {step: verify, attempts: 20, settle: 500ms, timeout: 60s}
  - {step: restore, timeout: 30s}
";

/// From what an agent published to a node that is put back: nothing between them is made up, and the
/// account has no more rights than deploy/remediate gives it.
#[test]
fn a_central_run_goes_by_what_agents_published_with_the_rights_it_is_given() {
    let Some(scene) = Scene::new("central") else { return };
    for file in ["agent/namespace.yaml", "agent/roles.yaml", "remediate/roles.yaml"] {
        apply(&scene, file, false);
    }
    let (sick, well) = (scene.node("sick"), scene.node("well"));
    let quiet = "6,1,1,-;quiet\n";
    // With a time: without one nobody knows whether it is news.
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S+0000");
    let sick_log =
        format!("{now} n kernel: NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=a, GPU has fallen off the bus.\n");
    scene.place.write("machine/dev/kmsg", quiet);
    assert_eq!(publish(&scene, &well).status, Some(0));
    scene.place.write("machine/dev/kmsg", &sick_log);
    assert_eq!(publish(&scene, &sick).status, Some(3));
    let version = |node: &str| scene.get(node).metadata.resource_version;
    let before = version(&well);
    let token = token(&scene, "aictl-remediate", &scene.name("central"), &well);
    let config = scene.place.write("central", scene.kube.kubeconfig_at(&scene.kube.url(), &token, "aictl"));
    let playbook = scene.place.write("repair.yaml", REPAIR);
    let run = |more: &[&str]| {
        let common =
            ["remediate", &sick, &well, "-o", "json", "--wait", "60s", "--kubeconfig", config.to_str().unwrap()];
        let playbook = ["--playbook", playbook.to_str().unwrap()];
        let mut command = scene.place.command();
        command.args([&common[..], &playbook, more].concat());
        command
    };
    let dry = until("the role is known to the server", || {
        Some(scene.place.ran(run(&[]).output().unwrap())).filter(|ran| ran.status == Some(3))
    });
    let plan: Value = serde_json::from_str(&dry.stdout).unwrap();
    assert_eq!(
        (&plan["incidents"][0]["node"], &plan["incidents"][0]["finding"]["fault"]),
        (&json!(sick), &json!("xid-79"))
    );
    let tainted = |node: &str| {
        let taints = scene.get(node).spec.and_then(|spec| spec.taints).unwrap_or_default();
        taints.iter().any(|taint| taint.key == "aictl.dev/fault")
    };
    assert!(!tainted(&sick), "a dry run");
    // Nobody has repaired anything, and a log that falls silent is no proof.
    let ran = scene.place.ran(run(&["--apply", "--once"]).output().unwrap());
    assert_eq!(ran.status, Some(3), "{ran}");
    scene.place.write("machine/dev/kmsg", quiet);
    publish(&scene, &sick);
    let ran = scene.place.ran(run(&["--apply", "--once"]).output().unwrap());
    assert!(ran.status == Some(3) && ran.stdout.contains("a quiet log is no proof"), "{ran}");
    assert!(tainted(&sick));
    // The node restarts, and its agent finds nothing.
    scene.kube.block_on(async {
        let objects: Api<aictl::cluster::NodeFindings> = Api::all(scene.kube.client());
        let boot = Patch::Merge(json!({"spec": {"report": {"boot_id": "another"}}}));
        objects.patch(&sick, &PatchParams::default(), &boot).await.unwrap();
    });
    let ran = scene.place.ran(run(&["--apply", "--once"]).output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran}");
    let done: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(done["incidents"][0]["state"], "restored", "{done:#}");
    assert!(!tainted(&sick));
    let steps = done["incidents"][0]["steps"].as_array().unwrap();
    assert!(steps.len() == 3 && steps.iter().all(|step| step["state"] == "done"), "{done:#}");
    assert_eq!(version(&well), before, "a healthy node is never touched");
}

#[test]
fn the_agents_account_may_write_of_its_own_node_and_do_nothing_else() {
    let Some(scene) = Scene::new("account") else { return };
    for file in ["agent/namespace.yaml", "agent/roles.yaml", "agent/own-node.yaml"] {
        apply(&scene, file, false);
    }
    let (own, other) = (scene.node("own"), scene.node("other"));
    scene.place.write("machine/dev/kmsg", "6,1,1,-;quiet\n");
    let pod_name = scene.name("agent");
    let token = token(&scene, "aictl-agent", &pod_name, &own);
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
