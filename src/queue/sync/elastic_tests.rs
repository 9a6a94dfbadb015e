use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn limits() -> Limits {
    Limits { min: 0, max: 8, step: 4, idle_s: 600.0 }
}

const WHOLE: Size = Size { gpus: 8.0, cpus: 64.0, memory: 1e12 };

fn off(name: &str) -> SlurmNode {
    SlurmNode {
        name: name.to_owned(),
        cloud: true,
        asleep: true,
        size: Some(WHOLE),
        partitions: vec!["main".to_owned()],
        ..SlurmNode::default()
    }
}

fn idle(name: &str, seconds: i64) -> SlurmNode {
    SlurmNode { asleep: false, free: WHOLE, idle_since: Timestamp::from_second(1_000_000 - seconds).ok(), ..off(name) }
}

fn job(name: &str, nodes: u32, gpus: f64) -> Demand {
    Demand {
        job: name.to_owned(),
        nodes,
        each: Size { gpus, cpus: 1.0, memory: 0.0 },
        partitions: vec!["main".to_owned()],
        ..Demand::default()
    }
}

fn decided(nodes: Vec<SlurmNode>, demand: Vec<Demand>, limits: &Limits) -> (Vec<String>, Vec<String>, Decision) {
    let decision = decide(&Machines { nodes, demand, blocked: 0 }, limits, now());
    let names = |chosen: &[Chosen]| chosen.iter().map(|one| one.node.clone()).collect();
    (names(&decision.resume), names(&decision.suspend), decision)
}

#[test]
fn nodes_are_started_for_whole_jobs() {
    let nodes = || vec![off("a"), off("b"), off("c")];
    let (resume, ..) = decided(nodes(), vec![job("train", 2, 8.0)], &limits());
    assert_eq!(resume, ["a", "b"]);
    // Small jobs share a node.
    let (resume, ..) = decided(nodes(), vec![job("x", 1, 4.0), job("y", 1, 4.0), job("z", 1, 4.0)], &limits());
    assert_eq!(resume, ["a", "b"]);
    // Half of a gang is worth nothing; a later job that fits is served.
    let few = Limits { max: 2, ..limits() };
    let (resume, _, decision) = decided(nodes(), vec![job("big", 3, 8.0), job("small", 1, 8.0)], &few);
    assert_eq!(resume, ["a"]);
    assert_eq!(decision.unmet[0].job, "big");
    assert_eq!(decision.unmet[0].why, "needs 3 nodes more; --max 2 and what others get leave 2");
    let (resume, _, decision) = decided(vec![off("a")], vec![job("big", 2, 8.0)], &limits());
    assert!(resume.is_empty());
    assert_eq!(decision.unmet[0].why, "needs 2 nodes more, and only 1 of those that are off would do");
    // What waits fits on a node that is on.
    let (resume, suspend, decision) = decided(vec![off("a"), idle("b", 9999)], vec![job("x", 1, 8.0)], &limits());
    assert!(resume.is_empty() && suspend.is_empty(), "{decision:?}");
    assert_eq!(decision.why, "1 job waits for room, and nodes that are on or starting have it");
}

#[test]
fn other_partitions_kinds_and_broken_nodes_do_not_help() {
    let elsewhere = SlurmNode { partitions: vec!["other".to_owned()], ..off("a") };
    let other_kind = SlurmNode { gpu_types: vec!["a100".to_owned()], ..off("b") };
    let drained = SlurmNode { drained: true, gpu_types: vec!["h100".to_owned()], ..off("c") };
    let wanted = Demand { gpu_type: Some("h100".to_owned()), ..job("x", 1, 1.0) };
    let (resume, _, decision) = decided(vec![elsewhere, other_kind, drained], vec![wanted], &limits());
    assert!(resume.is_empty());
    assert_eq!(decision.unmet[0].why, "needs 1 node more, and none of those that are off would do");
}

#[test]
fn idle_nodes_are_stopped_late_and_one_step_at_a_time() {
    let nodes = || vec![idle("a", 700), idle("b", 5000), idle("c", 100), SlurmNode { busy: true, ..idle("d", 9000) }];
    assert_eq!(decided(nodes(), vec![], &limits()).1, ["b", "a"]);
    assert_eq!(decided(nodes(), vec![], &Limits { step: 1, ..limits() }).1, ["b"]);
    assert_eq!(decided(nodes(), vec![], &Limits { min: 3, ..limits() }).1, ["b"]);
    assert!(decided(nodes(), vec![], &Limits { min: 4, ..limits() }).1.is_empty());
    // Slurm that does not say since when is not guessed about.
    assert!(decided(vec![SlurmNode { idle_since: None, ..idle("a", 0) }], vec![], &limits()).1.is_empty());
    let (_, _, decision) = decided(vec![off("a")], vec![], &Limits { min: 1, ..limits() });
    assert_eq!(decision.resume[0].why, "1 stay on, whatever waits");
}

fn any_node() -> impl Strategy<Value = SlurmNode> {
    (0u8..6, 0i64..2000, 0u8..9, any::<bool>(), any::<bool>()).prop_map(|(state, seconds, used, known, cloud)| {
        let mut node = if state == 0 { off("n") } else { idle("n", seconds) };
        node.cloud = cloud;
        node.asleep &= cloud;
        match state {
            2 => (node.busy, node.free.gpus) = (true, f64::from(8 - used.min(8))),
            3 => node.drained = true,
            4 => (node.starting, node.idle_since) = (true, None),
            5 => (node.asleep, node.stopping) = (cloud, cloud),
            _ => {}
        }
        if !known && node.asleep {
            node.size = None;
        }
        node
    })
}

prop_compose! {
    fn worlds()(
        nodes in proptest::collection::vec(any_node(), 0..12), jobs in proptest::collection::vec((1u32..5, 0u8..9), 0..6),
        min in 0u32..4, max in 0u32..10, step in 0u32..5, idle_s in 0u32..1500,
    ) -> (Machines, Limits) {
        let named = nodes.into_iter().enumerate().map(|(at, node)| SlurmNode { name: format!("n{at}"), ..node });
        let demand = jobs.into_iter().enumerate().map(|(at, (nodes, gpus))| job(&format!("j{at}"), nodes, f64::from(gpus)));
        let limits = Limits { min, max, step, idle_s: f64::from(idle_s) };
        (Machines { nodes: named.collect(), demand: demand.collect(), blocked: 0 }, limits)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn limits_hold_whatever_waits((machines, limits) in worlds()) {
        let decision = decide(&machines, &limits, now());
        let of = |name: &str| machines.nodes.iter().find(|node| node.name == name).unwrap();
        let (start, stop) = (decision.resume.len() as u32, decision.suspend.len() as u32);
        prop_assert!(start <= limits.step && stop <= limits.step);
        prop_assert!(start == 0 || stop == 0);
        prop_assert!(start == 0 || decision.on + start <= limits.max);
        prop_assert!(stop == 0 || decision.on - stop >= limits.min);
        for chosen in &decision.resume {
            let node = of(&chosen.node);
            prop_assert!(node.cloud && node.asleep && !node.stopping && !node.drained && !chosen.why.is_empty());
        }
        for chosen in &decision.suspend {
            let node = of(&chosen.node);
            let idle = now().duration_since(node.idle_since.unwrap()).as_secs_f64();
            prop_assert!(node.cloud && !node.asleep && !node.busy && !node.starting && !node.drained && idle >= limits.idle_s);
        }
        prop_assert!(!decision.why.is_empty());
    }

    #[test]
    fn what_was_started_is_not_started_twice_nor_stopped_at_once((machines, limits) in worlds()) {
        let first = decide(&machines, &limits, now());
        let mut after = machines.clone();
        for node in &mut after.nodes {
            if first.resume.iter().any(|chosen| chosen.node == node.name) {
                (node.asleep, node.starting) = (false, true);
            }
        }
        let second = decide(&after, &limits, now());
        let again = |chosen: &Chosen| first.resume.iter().any(|old| old.node == chosen.node);
        prop_assert!(!second.resume.iter().any(again) && !second.suspend.iter().any(again));
        // Where the step was not what held it back and all is seen, nothing more is asked for.
        let seen = machines.nodes.iter().all(|node| node.size.is_some());
        if seen && (first.resume.len() as u32) < limits.step && first.unmet.is_empty() && first.on + (first.resume.len() as u32) >= limits.min {
            prop_assert_eq!(second.resume, vec![]);
        }
    }
}
