//! Humans and aictl at work on both sides: nothing goes round in circles, and what a human did stays.

use proptest::prelude::*;

use super::mirror::{Order, Sheet, mark, mirror};
use super::sides::{KubernetesNode, SlurmNode};
use super::{CORDON, DRAIN};

/// One machine as both sides and our journal have it, changed as the real ones are.
#[derive(Debug, Clone, Default)]
struct World {
    slurm: SlurmNode,
    kubernetes: KubernetesNode,
    drained_before: bool,
}

#[derive(Debug, Clone, Copy)]
enum Human {
    Drains,
    Resumes,
    Cordons,
    Uncordons,
    /// aictl remediate isolates, by a taint.
    Taints,
    Untaints,
}

impl World {
    fn new() -> World {
        let named = |name: &str| name.to_owned();
        World {
            slurm: SlurmNode { name: named("n1"), gpus: 8.0, ..SlurmNode::default() },
            kubernetes: KubernetesNode { name: named("n1.example.org"), gpus: 8.0, ..KubernetesNode::default() },
            drained_before: false,
        }
    }

    fn look(&self) -> Sheet {
        mirror(std::slice::from_ref(&self.slurm), std::slice::from_ref(&self.kubernetes), |_| self.drained_before)
    }

    fn does(&mut self, human: Human) {
        let (slurm, kubernetes) = (&mut self.slurm, &mut self.kubernetes);
        match human {
            Human::Drains => (slurm.drained, slurm.reason) = (true, "bad fan".to_owned()),
            Human::Resumes => (slurm.drained, slurm.reason) = (false, String::new()),
            Human::Cordons => kubernetes.cordoned = true,
            Human::Uncordons => kubernetes.cordoned = false,
            Human::Taints => {
                if !kubernetes.incidents.iter().any(|id| id == "i-1") {
                    kubernetes.incidents.push("i-1".to_owned());
                }
                kubernetes.fault = Some("xid-79".to_owned());
            }
            Human::Untaints => {
                kubernetes.incidents.retain(|id| id != "i-1");
                kubernetes.fault = None;
            }
        }
    }

    /// Does what is to be done, as `act` does it; false if there was nothing.
    fn applies(&mut self) -> bool {
        let sheet = self.look();
        let row = &sheet.nodes[0];
        let cause = row.cause();
        match row.order {
            None => {
                // Its cordon is over: the journal closes what a human had taken away.
                let source =
                    (self.kubernetes.cordoned && self.kubernetes.means.is_empty()) || self.kubernetes.fault.is_some();
                self.drained_before &= source;
                return false;
            }
            Some(Order::Drain) => {
                (self.slurm.drained, self.slurm.reason, self.drained_before) = (true, mark(&cause), true);
            }
            Some(Order::Undrain) => {
                (self.slurm.drained, self.slurm.reason, self.drained_before) = (false, String::new(), false);
            }
            Some(Order::Cordon) => {
                self.kubernetes.cordoned = true;
                self.kubernetes.means = vec!["cordon".to_owned()];
                self.kubernetes.incidents.push(CORDON.to_owned());
            }
            Some(Order::Uncordon) => {
                self.kubernetes.cordoned = false;
                self.kubernetes.means.clear();
                self.kubernetes.incidents.retain(|id| id != CORDON);
            }
        }
        true
    }

    fn settles(&mut self) -> Result<(), String> {
        for _ in 0..4 {
            if !self.applies() {
                return Ok(());
            }
        }
        Err(format!("goes round in circles: {self:?}"))
    }
}

#[test]
fn a_drain_and_a_cordon_are_mirrored_and_taken_back() {
    for (sets, lifts, first, back) in [
        (Human::Drains, Human::Resumes, Order::Cordon, Order::Uncordon),
        (Human::Cordons, Human::Uncordons, Order::Drain, Order::Undrain),
        (Human::Taints, Human::Untaints, Order::Drain, Order::Undrain),
    ] {
        let mut world = World::new();
        assert!(world.look().agree());
        world.does(sets);
        let sheet = world.look();
        assert_eq!((sheet.nodes[0].order, sheet.agree()), (Some(first), false));
        world.settles().unwrap();
        assert!(world.look().agree());
        world.does(lifts);
        assert_eq!(world.look().nodes[0].order, Some(back));
        world.settles().unwrap();
        assert!(world.look().agree() && !world.slurm.drained && !world.kubernetes.cordoned);
    }
    assert!(mark("a=b\nc").starts_with("aictl queue-sync: a b c"));
    assert!(!DRAIN.is_empty());
}

#[test]
fn what_a_human_took_away_is_not_set_again() {
    let mut world = World::new();
    world.does(Human::Drains);
    world.settles().unwrap();
    world.does(Human::Uncordons);
    let sheet = world.look();
    assert_eq!((sheet.nodes[0].order, sheet.agree()), (None, false));
    assert!(sheet.nodes[0].said.contains("uncordoned it by hand"));
    let mut world = World::new();
    world.does(Human::Cordons);
    world.settles().unwrap();
    world.does(Human::Resumes);
    let sheet = world.look();
    assert_eq!(sheet.nodes[0].order, None);
    assert!(sheet.nodes[0].said.contains("resumed it in Slurm by hand"));
}

#[test]
fn gpus_handed_out_twice_and_down_nodes_are_seen() {
    let mut world = World::new();
    (world.slurm.gpus_allocated, world.kubernetes.gpus_allocated) = (6.0, 4.0);
    let sheet = world.look();
    assert_eq!(sheet.nodes[0].why, "10 GPUs are handed out by both sides together, and it has 8");
    assert!(!sheet.agree() && sheet.nodes[0].order.is_none());
    let mut world = World::new();
    (world.slurm.down, world.slurm.state) = (true, "down".to_owned());
    let sheet = world.look();
    assert!(!sheet.agree() && sheet.nodes[0].order.is_none(), "{sheet:?}");
}

#[test]
fn the_same_machine_is_found_by_label_name_and_address() {
    let slurm = |name: &str, host: &str, address: &str| SlurmNode {
        name: name.to_owned(),
        host: host.to_owned(),
        address: address.to_owned(),
        ..SlurmNode::default()
    };
    let node = |name: &str, label: Option<&str>, addresses: &[&str]| KubernetesNode {
        name: name.to_owned(),
        slurm_name: label.map(str::to_owned),
        addresses: addresses.iter().map(|text| (*text).to_owned()).collect(),
        ..KubernetesNode::default()
    };
    let left = [
        slurm("a", "a", "10.0.0.1"),
        slurm("b", "h", "127.0.0.1"),
        slurm("c", "h", "127.0.0.1"),
        slurm("d", "gpu-4", "10.0.0.4"),
        slurm("e", "x", "10.0.0.5"),
    ];
    let right = [
        node("a.example.org", None, &[]),
        node("k1", Some("b"), &["127.0.0.1"]),
        node("k4", None, &["gpu-4.example.org"]),
        node("k5", None, &["10.0.0.5"]),
        node("k6", None, &["127.0.0.1"]),
    ];
    let sheet = mirror(&left, &right, |_| false);
    let pairs: Vec<(&str, &str)> =
        sheet.nodes.iter().map(|row| (row.node.as_str(), row.kubernetes.name.as_str())).collect();
    assert_eq!(pairs, [("a", "a.example.org"), ("b", "k1"), ("d", "k4"), ("e", "k5")]);
    // Two nodes of Slurm at one address may be either.
    assert_eq!((sheet.only_slurm, sheet.only_kubernetes), (vec!["c".to_owned()], vec!["k6".to_owned()]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn nothing_goes_round_in_circles_and_what_humans_did_stays(humans in proptest::collection::vec((0u8..6, any::<bool>()), 0..12)) {
        let mut world = World::new();
        let (mut drained, mut cordoned) = (false, false);
        for (which, synced) in humans {
            let human = [Human::Drains, Human::Resumes, Human::Cordons, Human::Uncordons, Human::Taints, Human::Untaints][which as usize];
            // A second cordon leaves no trace in Kubernetes: ours is there already.
            let unseen = matches!(human, Human::Cordons) && world.kubernetes.incidents.iter().any(|id| id == CORDON);
            world.does(human);
            match human {
                Human::Drains => drained = true,
                Human::Resumes => drained = false,
                Human::Cordons if !unseen => cordoned = true,
                Human::Uncordons => cordoned = false,
                _ => {}
            }
            if synced {
                let settled = world.settles();
                prop_assert!(settled.is_ok(), "{:?}", settled);
            }
            prop_assert!(!drained || (world.slurm.drained && world.slurm.reason == "bad fan"));
            prop_assert!(!cordoned || world.kubernetes.cordoned);
        }
        for human in [Human::Resumes, Human::Uncordons, Human::Untaints] {
            world.does(human);
        }
        let settled = world.settles();
        prop_assert!(settled.is_ok(), "{:?}", settled);
        prop_assert!(!world.slurm.drained && !world.kubernetes.cordoned && world.kubernetes.incidents.is_empty(), "{:?}", world);
    }
}
