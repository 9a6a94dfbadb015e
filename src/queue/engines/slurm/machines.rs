//! Slurm's nodes and what waits for them, for those who start and stop nodes and compare them with
//! another scheduler's.

use std::collections::BTreeSet;

use super::order;
use super::record::{self, Node, Partition, Record};
use super::state;
use crate::queue::sync::{Demand, Machines, Size, SlurmNode};
use crate::queue::{QueueError, Target};

/// Reads them.
///
/// # Errors
/// If Slurm can't be asked.
pub(in crate::queue::engines) async fn machines(target: &Target) -> Result<Machines, QueueError> {
    let source = super::open(target)?.source;
    let (nodes, partitions, records) =
        futures::try_join!(source.nodes(), source.partitions(), async { source.jobs().await })?;
    Ok(of(&nodes, &partitions, &records))
}

fn of(nodes: &[Node], partitions: &[Partition], records: &[Record]) -> Machines {
    let mut all: Vec<SlurmNode> = nodes.iter().map(node).collect();
    all.extend(hidden(nodes, partitions));
    let mut pending: Vec<&Record> = Vec::new();
    for partition in partitions.iter().filter(|partition| partition.up) {
        pending.extend(order::waiting(records, &partition.name));
    }
    let mut seen = BTreeSet::new();
    pending.retain(|record| seen.insert(record.address()));
    let (mut demand, mut blocked) = (Vec::new(), 0);
    for record in pending {
        if crate::queue::sync::wants_nodes(state::reason(record).as_ref()) {
            // What is left of an array may start one by one; more than a few are not looked at singly.
            const MOST: u32 = 64;
            let each = wish(record);
            demand.extend(std::iter::repeat_n(each, record.count().clamp(1, MOST) as usize));
        } else {
            blocked += 1;
        }
    }
    Machines { nodes: all, demand, blocked }
}

fn node(node: &Node) -> SlurmNode {
    let is = |states: &[&str]| states.iter().any(|state| node.is(state));
    let stopping = is(&["POWERING_DOWN", "POWER_DOWN"]);
    let starting = is(&["POWERING_UP", "POWER_UP"]);
    let size = Size { gpus: node.has("gpu", None), cpus: f64::from(node.cpus), memory: node.memory as f64 };
    let used = Size { gpus: node.uses("gpu", None), cpus: f64::from(node.cpus_used), memory: node.memory_used as f64 };
    let asleep = is(&["POWERED_DOWN"]) || stopping;
    // A node that is off does not answer, and is no worse for it.
    let down = is(&["DOWN", "FAIL", "FAILING", "UNKNOWN", "INVALID_REG", "MAINTENANCE", "MAINT"])
        || (node.is("NOT_RESPONDING") && !asleep && !starting);
    SlurmNode {
        name: node.name.clone(),
        state: node.states.join("+").to_lowercase(),
        drained: is(&["DRAIN", "DRAINED", "DRAINING"]),
        down,
        asleep,
        // "bad fan [root@2026-11-28T16:15:31]" in the programs' text.
        reason: node.reason.split(" [").next().unwrap_or_default().to_owned(),
        gpus: size.gpus,
        gpus_allocated: used.gpus,
        host: node.host.clone(),
        address: node.address.clone(),
        cloud: node.is("CLOUD"),
        starting,
        stopping,
        busy: is(&["ALLOCATED", "MIXED", "COMPLETING"]) || used.cpus > 0.0,
        idle_since: node.busy_at.max(node.booted),
        size: Some(size),
        free: size.without(&used),
        partitions: node.partitions.clone(),
        features: node.features.clone(),
        gpu_types: node.gpu_types(),
    }
}

/// CLOUD nodes that are off: Slurm names them in their partitions and shows them nowhere else, unless
/// it has PrivateData=cloud.
fn hidden(nodes: &[Node], partitions: &[Partition]) -> Vec<SlurmNode> {
    let known: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let mut found: Vec<SlurmNode> = Vec::new();
    for partition in partitions {
        for name in record::host_list(&partition.nodes) {
            if known.contains(name.as_str()) {
                continue;
            }
            match found.iter_mut().find(|node| node.name == name) {
                Some(node) => node.partitions.push(partition.name.clone()),
                None => found.push(SlurmNode {
                    name,
                    state: "powered_down".to_owned(),
                    asleep: true,
                    cloud: true,
                    partitions: vec![partition.name.clone()],
                    ..SlurmNode::default()
                }),
            }
        }
    }
    found
}

fn wish(record: &Record) -> Demand {
    let nodes = record.nodes.max(1);
    let each = Size {
        gpus: record.gres("gpu") / f64::from(nodes),
        cpus: (f64::from(record.cpus) / f64::from(nodes)).ceil(),
        memory: record.memory_per_node as f64,
    };
    // Alternatives (`|`) and counts are the scheduler's to judge.
    let features = match record.features.contains(['|', '*', '[', '(']) {
        true => Vec::new(),
        false => record.features.split(['&', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect(),
    };
    Demand {
        job: format!("job {}", record.address()),
        nodes,
        each,
        gpu_type: record.gpu_type(),
        features,
        partitions: record.partition.split(',').map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_in_the_words_of_both_sides() {
        let of = |states: &[&str]| {
            let states = states.iter().map(|state| (*state).to_owned()).collect();
            node(&Node { name: "n".to_owned(), states, cpus: 8, gres: "gpu:a100:4".to_owned(), ..Node::default() })
        };
        let drained = of(&["IDLE", "DRAIN"]);
        assert!(drained.drained && !drained.down && !drained.asleep && drained.state == "idle+drain");
        assert!(of(&["DOWN", "NOT_RESPONDING"]).down);
        let off = of(&["IDLE", "CLOUD", "POWERED_DOWN"]);
        assert!(off.cloud && off.asleep && !off.down && !off.stopping);
        let stopping = of(&["IDLE", "CLOUD", "POWERING_DOWN", "NOT_RESPONDING"]);
        assert!(stopping.stopping && stopping.asleep && !stopping.down);
        let starting = of(&["MIXED", "CLOUD", "NOT_RESPONDING", "POWERING_UP"]);
        assert!(starting.starting && !starting.down && starting.busy);
        assert_eq!(drained.size.map(|size| size.gpus), Some(4.0));
    }

    #[test]
    fn what_waits_and_what_is_hidden() {
        let partition = |name: &str, nodes: &str| Partition {
            name: name.to_owned(),
            nodes: nodes.to_owned(),
            up: true,
            total_nodes: 3,
            ..Partition::default()
        };
        let known = Node { name: "c1".to_owned(), states: vec!["IDLE".to_owned()], ..Node::default() };
        let pending = |id: u64, reason: &str| Record {
            id,
            priority: 10,
            partition: "cloud,other".to_owned(),
            state: "PENDING".to_owned(),
            reason: reason.to_owned(),
            nodes: 2,
            cpus: 3,
            gres_per_node: "gres:gpu:a100:4".to_owned(),
            features: "fast&big".to_owned(),
            ..Record::default()
        };
        let array = Record { array: Some(9), tasks_left: Some("0-2".to_owned()), ..pending(9, "Resources") };
        let records = [pending(1, "Resources"), pending(2, "Dependency"), pending(3, "BeginTime"), array];
        let machines = of(&[known], &[partition("cloud", "c[1-3]"), partition("other", "c[2-3]")], &records);
        assert_eq!(machines.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["c1", "c2", "c3"]);
        assert!(machines.nodes[1].size.is_none() && machines.nodes[1].cloud);
        assert_eq!(machines.nodes[1].partitions, ["cloud", "other"]);
        assert_eq!((machines.demand.len(), machines.blocked), (4, 2));
        let first = &machines.demand[0];
        assert_eq!((first.nodes, first.each.gpus, first.each.cpus), (2, 4.0, 2.0));
        assert_eq!(first.features, ["fast", "big"]);
    }
}
