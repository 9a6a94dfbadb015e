use super::super::facts::Condition;
use super::super::testing::{at, catalogue, names};
use super::*;
use crate::fault::Device;

const FIVE: SignedDuration = SignedDuration::from_mins(5);

fn node(name: &str) -> NodeFacts {
    let ready =
        Condition { kind: "Ready".into(), status: "True".into(), since: Some(at(-9000)), ..Condition::default() };
    NodeFacts { name: name.to_owned(), created: Some(at(-10_000)), conditions: vec![ready], ..NodeFacts::default() }
}

fn report(name: &str, ago: i64, faults: &[&str]) -> Report {
    let catalogue = catalogue();
    let finding = |fault: &&str| {
        Finding::read(&catalogue, fault, Device::default(), vec!["line".to_owned()], "kernel-log", at(-ago))
    };
    Report {
        node: name.to_owned(),
        looked_at: Some(at(-ago)),
        refresh_s: 120,
        agent: "0.1.0".to_owned(),
        checks: vec![check_of("kernel-log", State::Ok, String::new())],
        findings: faults.iter().map(finding).collect(),
        ..Report::default()
    }
}

fn facts(nodes: Vec<NodeFacts>, reports: Vec<Report>) -> ClusterFacts {
    ClusterFacts {
        nodes,
        reports: Ok(reports),
        addons: Ok(Vec::new()),
        addon_pods: Ok(Vec::new()),
        rejections: Ok(Vec::new()),
    }
}

fn judged(facts: ClusterFacts) -> Fleet {
    judge("prod", facts, &catalogue(), at(0), FIVE)
}

#[test]
fn the_worst_is_first_and_the_well_are_last() {
    let nodes = ["a", "b", "c", "d"].map(node).to_vec();
    let reports =
        vec![report("a", 10, &[]), report("b", 10, &["disk-pressure"]), report("c", 10, &["xid-79", "oom-memcg"])];
    let fleet = judged(facts(nodes, reports));
    let rows: Vec<(&str, NodeState)> = fleet.nodes.iter().map(|node| (node.name(), node.state)).collect();
    let wanted = [("c", NodeState::Fault), ("b", NodeState::Fault), ("d", NodeState::Blind), ("a", NodeState::Ok)];
    assert_eq!(rows, wanted);
    assert_eq!((fleet.nodes[0].worst().unwrap().fault.as_str(), fleet.nodes[0].faults()), ("xid-79", 1));
    assert_eq!(fleet.nodes[2].blind().unwrap().detail, "no agent has reported from this node");
    assert_eq!((fleet.checks[0].name.as_str(), fleet.checks[0].state), ("nodes", State::Fault));
}

#[test]
fn a_stale_report_is_blind_and_neither_health_nor_fault() {
    for faults in [&[][..], &["xid-79"]] {
        let fleet = judged(facts(vec![node("a")], vec![report("a", 3000, faults)]));
        let view = &fleet.nodes[0];
        assert_eq!((view.state, view.findings.findings.len()), (NodeState::Blind, 0));
        let words = &view.blind().unwrap().detail;
        assert!(words.contains("silent for 50 min") && words.contains("xid-79") != faults.is_empty(), "{words}");
        assert!(view.findings.checks.iter().all(|check| check.name != "kernel-log"), "its checks are of another time");
        assert_eq!(view.looked_at, Some(at(-3000)));
    }
}

#[test]
fn what_could_not_be_read_makes_blind() {
    let mut unread = facts(vec![node("a")], vec![report("a", 10, &[])]);
    unread.rejections = Err(Blind("cannot list pods".to_owned()));
    let fleet = judged(unread);
    assert_eq!(fleet.nodes[0].state, NodeState::Blind);
    assert!(fleet.checks.iter().any(|check| check.name == "rejected-pods" && check.state == State::Blind));
    let mut no_agents = facts(vec![node("a")], Vec::new());
    no_agents.reports = Err(Blind("not installed".to_owned()));
    assert_eq!(judged(no_agents).nodes[0].blind().unwrap().detail, "not installed");
    let mut serverless = node("virtual");
    serverless.labels.insert("type".to_owned(), "virtual-kubelet".to_owned());
    assert_eq!(judged(facts(vec![serverless], Vec::new())).nodes[0].state, NodeState::Ok);
}

#[test]
fn pods_of_addons_and_rejections_come_to_their_node() {
    let mut all = facts(vec![node("a"), node("b")], vec![report("a", 10, &[]), report("b", 10, &[])]);
    let name = "nvidia-device-plugin".to_owned();
    all.addons = Ok(vec![AddonFacts {
        kind: "DaemonSet".into(),
        namespace: "gpu".into(),
        name: name.clone(),
        role: "device plugin",
        wanted: 2,
        ready: 1,
    }]);
    all.addon_pods = Ok(vec![PodFacts {
        namespace: "gpu".into(),
        name: "plugin-x".into(),
        node: "b".into(),
        owner: Some(("DaemonSet".into(), name)),
        created: Some(at(-9000)),
        phase: "Running".into(),
        waiting: Some("CrashLoopBackOff".into()),
        ..PodFacts::default()
    }]);
    let rejection = |i: usize| Rejection {
        pod_uid: i.to_string(),
        node: "a".into(),
        reason: "UnexpectedAdmissionError".into(),
        at: Some(at(-5)),
        ..Rejection::default()
    };
    all.rejections = Ok((0..40).map(rejection).collect());
    let fleet = judged(all);
    assert_eq!((fleet.nodes[0].name(), names(&fleet.nodes[0].findings.findings)), ("a", vec!["dp-blackhole"]));
    assert_eq!((fleet.nodes[1].name(), names(&fleet.nodes[1].findings.findings)), ("b", vec!["driver-pod-down"]));
}

#[test]
fn the_contract_has_each_node_as_findings() {
    let fleet = judged(facts(vec![node("a")], vec![report("a", 10, &["xid-79"])]));
    let json = serde_json::to_value(&fleet).unwrap();
    assert_eq!((json["schema"].as_str(), json["cluster"].as_str()), (Some("aictl.fleet/v1"), Some("prod")));
    let node = &json["nodes"][0];
    assert_eq!((node["schema"].as_str(), node["node"].as_str()), (Some("aictl.findings/v1"), Some("a")));
    assert_eq!((node["state"].as_str(), node["findings"][0]["fault"].as_str()), (Some("fault"), Some("xid-79")));
}
