//! What an agent may do, as the API server has it, and which processes it looks at.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{QUICK, Scene};
use crate::environment::binary;
use crate::tmux::{self, Terminal};

/// All of an object below some keys, for comparison with what it must be.
fn part(pod: &Pod, path: &str) -> Value {
    serde_json::to_value(pod).unwrap().pointer(path).cloned().unwrap_or(Value::Null)
}

#[test]
fn an_agent_has_the_least_that_it_needs_and_sees_only_what_is_asked_for() {
    let Some(scene) = Scene::new("least") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.put_work(&node, super::WORK);
    // Its first process is of no interest.
    let both = "/usr/bin/python3 /srv/work.py & exec /usr/bin/sleep 300";
    let target = node.pod(&scene.namespace, "train-0", &json!({}), &["/usr/bin/sh", "-c", both], &[]);
    scene.wait_for_work(&node, "train-0");
    let arguments = ["train-0", "-d", "8s", "-w", "run.pftrace", "--process", "python.*work", "-c", "main"];
    let more = ["--node-image-pull-policy", "never", "--agent-image", "registry.example/aictl:7"];
    let child = scene.start(&[&arguments[..], &more, &QUICK].concat());
    let name = scene.wait_for_agent(&node);
    let agent = node.get(&scene.namespace, &name);
    let ran = scene.end(child);
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}\n{}", node.log("node"));

    // The whole of it, so that what is added is seen here.
    assert_eq!(
        part(&agent, "/spec/containers/0/securityContext"),
        json!({
            "privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsUser": 0,
            "runAsNonRoot": false, "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON", "SYS_PTRACE"]}
        })
    );
    assert_eq!(part(&agent, "/spec/securityContext"), json!({"seccompProfile": {"type": "RuntimeDefault"}}));
    assert_eq!(part(&agent, "/spec/containers/1"), Value::Null);
    assert_eq!(part(&agent, "/spec/containers/0/image"), "registry.example/aictl:7");
    assert_eq!(part(&agent, "/spec/containers/0/imagePullPolicy"), "Never");
    assert_eq!(part(&agent, "/spec/hostPID"), true);
    for none in ["hostNetwork", "hostIPC"] {
        assert!(!matches!(part(&agent, &format!("/spec/{none}")), Value::Bool(true)), "{none}");
    }
    assert_eq!(part(&agent, "/spec/automountServiceAccountToken"), false);
    // Eight seconds, and two minutes to come and go.
    assert_eq!(part(&agent, "/spec/activeDeadlineSeconds"), 128);
    let limits = part(&agent, "/spec/containers/0/resources/limits");
    assert!(limits["memory"].is_string() && limits["cpu"].is_string(), "{limits}");
    let volumes = part(&agent, "/spec/volumes");
    assert_eq!(volumes, json!([{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]));
    let owner = part(&agent, "/metadata/ownerReferences/0");
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("Pod"), &json!("train-0")));
    assert_eq!(owner["uid"].as_str(), target.metadata.uid.as_deref());

    let report = scene.report("run.pftrace");
    let processes = report["processes"].as_array().unwrap();
    let names: Vec<&str> = processes.iter().filter_map(|process| process["name"].as_str()).collect();
    assert!(names.contains(&"python3") && !names.contains(&"sleep"), "{names:?}");
    node.wait_for_no_agent(&scene.namespace);
}

#[test]
fn pods_are_watched_while_they_are_recorded() {
    if !tmux::there_is_one() {
        return;
    }
    let Some(scene) = Scene::new("live") else { return };
    let (Some(one), Some(two)) = (scene.node("one"), scene.node("two")) else { return };
    for (rank, node) in [(0, &one), (1, &two)] {
        let who = rank.to_string();
        scene.python(node, &format!("train-{rank}"), &json!({"app": "x"}), &[("RANK", &who)]);
    }
    let terminal = Terminal::start(&scene.place, 120, 40);
    terminal.run(&format!(
        "{} profile --kubeconfig kubeconfig -l app=x --live -w run.pftrace --layers sched,python",
        binary().display()
    ));
    // Both ranks, of one node each, in one view.
    let screen = terminal.wait_until("both ranks", |screen| screen.contains("rank 0") && screen.contains("rank 1"));
    assert!(screen.contains("2 pods on 2 nodes"), "{screen}");
    terminal.wait_until("functions", |screen| screen.contains("step"));
    terminal.keys(&["q"]);
    let (code, screen) = terminal.ended();
    assert!(matches!(code, 0 | 4), "{code}: {screen}");
    let report = scene.report("run.pftrace");
    assert_eq!(report["capture"]["nodes"].as_array().unwrap().len(), 2, "{:#}", report["capture"]);
    assert_eq!(report["capture"]["lost_events"], 0, "{:#}", report["capture"]);
    for node in [&one, &two] {
        node.wait_for_no_agent(&scene.namespace);
    }
}
