//! What partitions have, what of it is in use and what is waited for.

use std::collections::BTreeSet;

use super::record::{Node, Partition, Record};
use super::state;
use crate::queue::{QUOTA_SCHEMA, QuotaRow, State};

/// A row for each partition and resource: GPUs by type, cores, memory, nodes.
pub(super) fn rows(target: &str, partitions: &[Partition], nodes: &[Node], records: &[Record]) -> Vec<QuotaRow> {
    let mut rows = Vec::new();
    for partition in partitions {
        let own: Vec<&Node> = nodes.iter().filter(|node| node.partitions.contains(&partition.name)).collect();
        let pending: Vec<&Record> = records
            .iter()
            .filter(|record| record.goes_to(&partition.name) && state::state(record) == State::Pending)
            .collect();
        let mut row = |flavor: &str, resource: &str, nominal: f64, used: f64, waited: f64| {
            rows.push(QuotaRow {
                schema: QUOTA_SCHEMA,
                target: target.to_owned(),
                queue: partition.name.clone(),
                flavor: flavor.to_owned(),
                resource: resource.to_owned(),
                // A sum over nothing is -0.
                nominal: Some(nominal + 0.0),
                borrowing_limit: None,
                borrowed: 0.0,
                used: used + 0.0,
                pending: waited + 0.0,
            });
        };
        let kinds: BTreeSet<Option<String>> = own
            .iter()
            .filter(|node| node.has("gpu", None) > 0.0)
            .flat_map(|node| {
                let kinds = node.gpu_types();
                if kinds.is_empty() { vec![None] } else { kinds.into_iter().map(Some).collect() }
            })
            .collect();
        for kind in &kinds {
            let name = kind.as_deref();
            // Jobs that name no type are counted where there is but one.
            let waited = |record: &&&Record| kinds.len() == 1 || record.gpu_type().as_deref() == name;
            let waited: f64 =
                pending.iter().filter(waited).map(|record| record.gres("gpu") * f64::from(record.count())).sum();
            let (has, uses) = (
                own.iter().map(|node| node.has("gpu", name)).sum(),
                own.iter().map(|node| node.uses("gpu", name)).sum(),
            );
            row(name.unwrap_or_default(), "nvidia.com/gpu", has, uses, waited);
        }
        let shards: f64 = own.iter().map(|node| node.has("shard", None)).sum();
        if shards > 0.0 {
            let waited = pending.iter().map(|record| record.gres("shard") * f64::from(record.count())).sum();
            row("", "shard", shards, own.iter().map(|node| node.uses("shard", None)).sum(), waited);
        }
        let cores = pending.iter().map(|record| f64::from(record.cpus) * f64::from(record.count())).sum();
        row(
            "",
            "cpu",
            own.iter().map(|node| f64::from(node.cpus)).sum(),
            own.iter().map(|node| f64::from(node.cpus_used)).sum(),
            cores,
        );
        let memory = pending
            .iter()
            .map(|record| record.memory_per_node as f64 * f64::from(record.nodes.max(1)) * f64::from(record.count()))
            .sum();
        row(
            "",
            "memory",
            own.iter().map(|node| node.memory as f64).sum(),
            own.iter().map(|node| node.memory_used as f64).sum(),
            memory,
        );
        let busy = own.iter().filter(|node| node.is("ALLOCATED") || node.is("MIXED")).count() as f64;
        let waited = pending.iter().map(|record| f64::from(record.nodes.max(1)) * f64::from(record.count())).sum();
        row("", "nodes", own.len() as f64, busy, waited);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partitions_rows() {
        let node = |name: &str, used: u32| Node {
            name: name.to_owned(),
            states: vec![if used > 0 { "MIXED" } else { "IDLE" }.to_owned()],
            partitions: vec!["main".to_owned()],
            cpus: 8,
            cpus_used: used,
            gres: "gpu:a100:4,shard:8".to_owned(),
            gres_used: format!("gpu:a100:{used}(IDX:0),shard:0"),
            ..Node::default()
        };
        let pending = Record {
            partition: "main".to_owned(),
            state: "PENDING".to_owned(),
            priority: 1,
            nodes: 2,
            gres_per_node: "gres:gpu:2".to_owned(),
            ..Record::default()
        };
        let partition = Partition { name: "main".to_owned(), ..Partition::default() };
        let rows = rows("slurm", &[partition], &[node("a", 3), node("b", 0)], &[pending]);
        let of = |resource: &str| rows.iter().find(|row| row.resource == resource).unwrap();
        let gpu = of("nvidia.com/gpu");
        assert_eq!(
            (gpu.flavor.as_str(), gpu.nominal, gpu.used, gpu.pending, gpu.free()),
            ("a100", Some(8.0), 3.0, 4.0, Some(5.0))
        );
        assert_eq!((of("nodes").used, of("nodes").pending, of("shard").nominal), (1.0, 2.0, Some(16.0)));
        let rows = super::rows("slurm", &[Partition { name: "empty".to_owned(), ..Partition::default() }], &[], &[]);
        let signs = rows.iter().flat_map(|row| [row.nominal.unwrap(), row.used, row.pending]);
        assert!(!rows.is_empty() && signs.clone().all(|amount| amount == 0.0 && amount.is_sign_positive()), "{rows:?}");
    }
}
