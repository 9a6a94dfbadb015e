//! Nodes that vanish while pods are profiled: their power fails, and connections to them hang.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{QUICK, Scene};

#[test]
fn a_node_that_vanishes_is_told_and_the_others_go_on() {
    let Some(scene) = Scene::new("vanished") else { return };
    let (Some(one), Some(mut two)) = (scene.node("one"), scene.node("two")) else { return };
    two.say("patience 3");
    for (rank, node) in [(0, &one), (1, &two)] {
        let (name, who) = (format!("train-{rank}"), rank.to_string());
        scene.python(node, &name, &json!({"app": "x"}), &[("RANK", &who)]);
    }
    let child = scene.start(&[&["-l", "app=x", "-d", "14s", "-w", "run.pftrace"], &QUICK[..]].concat());
    scene.wait_for_report("both ranks", |report| {
        let has = |rank: u64| report["processes"].as_array().is_some_and(|all| all.iter().any(|p| p["rank"] == rank));
        has(0) && has(1)
    });
    two.say("vanish");
    // A controller of the cluster sees it, and later takes its object away.
    two.agents(&scene.namespace).iter().for_each(|agent| two.mark(&scene.namespace, agent));
    two.forget();
    let ran = scene.end(child);
    // Data are missing.
    assert_eq!(ran.status, Some(4), "{ran}\n{}", one.log("node"));
    let lost = format!("lost the agent on node {0}: node {0} is not ready; nothing heard of it for ", two.name);
    let said = ran.stderr.replace('\n', " ");
    assert!(said.contains(&lost) && said.contains("going on without pod train-1"), "{ran}");
    let report = scene.report("run.pftrace");
    let nodes = report["capture"]["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    assert!(nodes[0]["broke_off"].is_null(), "{nodes:?}");
    assert!(nodes[1]["broke_off"].as_str().unwrap().contains("is not ready"), "{nodes:?}");
    // The rank that is there is whole, and of the other is what came.
    assert!(report["duration_s"].as_f64().unwrap() > 13.0, "{report:#}");
    let processes = report["processes"].as_array().unwrap();
    let mut ranks: Vec<u64> = processes.iter().filter_map(|process| process["rank"].as_u64()).collect();
    ranks.sort_unstable();
    ranks.dedup();
    assert_eq!(ranks, [0, 1], "{report:#}");
    // The object of the agent on the lost node as well, though no kubelet says that it has ended.
    one.wait_for_no_agent(&scene.namespace);
}

#[test]
fn a_node_that_never_begins_costs_the_others_nothing() {
    let Some(scene) = Scene::new("never") else { return };
    let (Some(one), Some(mut two)) = (scene.node("one"), scene.node("two")) else { return };
    for (rank, node) in [(0, &one), (1, &two)] {
        scene.python(node, &format!("train-{rank}"), &json!({"app": "x"}), &[]);
    }
    // Gone before the agent's pod comes to it: nobody begins with that.
    two.say("vanish");
    let child = scene.start(&[&["-l", "app=x", "-d", "2s", "-w", "run.pftrace"], &QUICK[..]].concat());
    scene.wait_for_data(&one);
    // Said five seconds after the other began, whose recording is over by then.
    scene.wait_for_words(&child, &format!("not recorded yet, while others are: node {}", two.name));
    let agents = two.agents(&scene.namespace);
    let of_two = |name: &&String| {
        two.get(&scene.namespace, name).spec.and_then(|spec| spec.node_name).as_deref() == Some(two.name.as_str())
    };
    two.fail(&scene.namespace, agents.iter().find(of_two).unwrap());
    let ran = scene.end(child);
    assert!(ran.status == Some(4) && ran.stderr.contains("recorded run.pftrace"), "{ran}\n{}", one.log("node"));
    let said = ran.stderr.replace('\n', " ");
    assert!(said.contains(&format!("not recorded yet, while others are: node {}", two.name)), "{ran}");
    assert!(said.contains("did not start: NodeLost") && said.contains("going on without pod train-1"), "{ran}");
    let report = scene.report("run.pftrace");
    assert!(report["duration_s"].as_f64().unwrap() > 1.5, "{report:#}");
    let lost: Vec<bool> =
        report["capture"]["nodes"].as_array().unwrap().iter().map(|node| node["broke_off"].is_string()).collect();
    assert_eq!(lost, [false, true], "{:#}", report["capture"]);
    one.wait_for_no_agent(&scene.namespace);
}

#[test]
fn a_node_that_hangs_does_not_hold_ctrl_c() {
    let Some(scene) = Scene::new("hangs") else { return };
    let Some(mut node) = scene.node("n") else { return };
    node.say("patience 3");
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-w", "run.pftrace"], &QUICK[..]].concat());
    scene.wait_for_seconds(0.5);
    node.say("vanish");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = scene.end(child);
    assert!(ran.status == Some(4) && ran.stderr.contains("recorded run.pftrace"), "{ran}");
    assert!(ran.stderr.contains("lost the agent on node"), "{ran}");
    assert!(scene.report("run.pftrace")["duration_s"].as_f64().unwrap() > 0.3);
    node.wait_for_no_agent(&scene.namespace);
}
