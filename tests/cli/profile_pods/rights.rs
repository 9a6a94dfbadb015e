//! deploy/profile/roles.yaml is enough for a capture of pods, and each verb in it is needed.

use std::time::{Duration, Instant};

use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{QUICK, Scene};
use crate::environment::Ran;
use crate::support::kube::NOBODY;

/// The rules of a role of deploy/profile.
fn rules(name: &str) -> Vec<Value> {
    let text = include_str!("../../../deploy/profile/roles.yaml");
    let roles = text.split("\n---\n").map(|part| serde_yaml::from_str::<Value>(part).unwrap());
    let role = roles.into_iter().find(|role| role["metadata"]["name"] == name).unwrap();
    // As the API server takes it, and not only as we read it.
    let _: ClusterRole = serde_json::from_value(role.clone()).unwrap();
    role["rules"].as_array().unwrap().clone()
}

/// Gives the user who may do nothing these rules in a namespace, instead of those before.
fn give(scene: &Scene, namespace: &str, rules: &[Value]) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "given"}, "rules": rules});
    let binding = json!({"metadata": {"name": "given"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "given"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}]});
    scene.kube.block_on(async {
        let roles: Api<Role> = Api::namespaced(scene.kube.client(), namespace);
        let bindings: Api<RoleBinding> = Api::namespaced(scene.kube.client(), namespace);
        roles.patch("given", &PatchParams::apply("tests").force(), &Patch::Apply(&role)).await.unwrap();
        let _ = bindings.delete("given", &DeleteParams::default()).await;
        bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    });
}

/// The server learns of new rules after a moment.
fn until(scene: &Scene, arguments: &[&str], what: &str, is: impl Fn(&Ran) -> bool) -> Ran {
    let begin = Instant::now();
    loop {
        let ran = scene.run(arguments);
        if is(&ran) {
            return ran;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: {ran}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Each pair of a verb and a resource, and the rules without it.
fn without_each(rules: &[Value]) -> Vec<(String, String, Vec<Value>)> {
    let mut all = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        for verb in rule["verbs"].as_array().unwrap() {
            let mut fewer = rules.to_vec();
            fewer[at]["verbs"].as_array_mut().unwrap().retain(|other| other != verb);
            fewer.retain(|rule| !rule["verbs"].as_array().unwrap().is_empty());
            let resource = rule["resources"][0].as_str().unwrap().to_owned();
            all.push((verb.as_str().unwrap().to_owned(), resource, fewer));
        }
    }
    all
}

/// Whether a refusal names the verb on the resource: in our words, or in the server's.
fn names(ran: &Ran, verb: &str, resource: &str) -> bool {
    let said = &ran.stderr;
    ran.status == Some(4)
        && (said.contains(&format!("{verb} {resource} in namespace"))
            || said.contains(&format!("cannot {verb} resource \"{resource}\"")))
}

#[test]
fn the_role_is_enough_and_each_of_its_verbs_is_needed() {
    let Some(scene) = Scene::new("rights") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({"app": "x"}), &[]);
    scene.place.write("kubeconfig", scene.kube.kubeconfig_at(&scene.kube.url(), NOBODY, &scene.namespace));
    let own = rules("aictl-profile");
    for (verb, resource, fewer) in without_each(&own) {
        give(&scene, &scene.namespace, &fewer);
        // By its labels, which takes a list; by its name, which takes a get.
        let target: &[&str] = if verb == "list" { &["-l", "app=x"] } else { &["train-0"] };
        let arguments = [target, &["-d", "1s", "-w", "run.pftrace"], &QUICK[..]].concat();
        until(&scene, &arguments, &format!("without {verb} {resource}"), |ran| names(ran, &verb, &resource));
        assert!(!scene.place.path("run.pftrace").exists());
    }
    give(&scene, &scene.namespace, &own);
    for target in [&["train-0"][..], &["-l", "app=x"]] {
        let arguments = [target, &["-d", "1s", "-w", "run.pftrace"], &QUICK[..]].concat();
        until(&scene, &arguments, "with the role", |ran| {
            matches!(ran.status, Some(0 | 4)) && ran.stderr.contains("recorded")
        });
        node.wait_for_no_agent(&scene.namespace);
    }

    // The installed agent, in a namespace of its own: less is needed.
    let agents = scene.kube.namespace("agents");
    node.privileged(&agents, "agent-x", &json!({"app.kubernetes.io/name": "aictl-agent"}), &["/usr/bin/sleep", "300"]);
    let see = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]});
    give(&scene, &scene.namespace, &[see]);
    give(&scene, &agents, &rules("aictl-profile-installed"));
    let arguments = ["train-0", "-d", "1s", "--agent", "daemonset", "--agent-namespace", &agents, "-w", "run.pftrace"];
    let arguments = [&arguments[..], &QUICK].concat();
    until(&scene, &arguments, "with the role", |ran| {
        matches!(ran.status, Some(0 | 4)) && ran.stderr.contains("recorded")
    });
}
