//! Requests that a Slurm could never fulfil, told before anything is submitted: sbatch itself takes
//! some of them and lets them wait forever, or cuts them down.

use super::record::{Node, Partition};
use crate::queue::{GpuShare, JobSpec, LIKE_A_QUEUE, QueueError, nearest};

/// The partition a spec goes to: the named one (the first of several), else the default.
pub(super) fn partition<'a>(
    target: &str,
    spec: &JobSpec,
    partitions: &'a [Partition],
) -> Result<Option<&'a Partition>, QueueError> {
    let Some(named) = &spec.queue else {
        return Ok(partitions.iter().find(|partition| partition.is_default).or(match partitions {
            [only] => Some(only),
            _ => None,
        }));
    };
    let mut first = None;
    for name in named.split(',') {
        let found = partitions.iter().find(|partition| partition.name == name).ok_or_else(|| {
            let known = partitions.iter().map(|partition| partition.name.as_str());
            let nearest = nearest(name, known, LIKE_A_QUEUE);
            QueueError::NoSuchQueue { target: target.to_owned(), queue: name.to_owned(), nearest }
        })?;
        first = first.or(Some(found));
    }
    Ok(first)
}

/// How much of something a node has.
type Amount<'a> = Box<dyn Fn(&Node) -> f64 + 'a>;

/// Whether the partition's nodes could ever hold it, all free. `Err` says what would fit.
pub(super) fn check(
    spec: &JobSpec,
    share: Option<&str>,
    partition: &Partition,
    nodes: &[Node],
) -> Result<(), QueueError> {
    let own: Vec<&Node> = nodes.iter().filter(|node| node.partitions.contains(&partition.name)).collect();
    let name = &partition.name;
    let impossible = |what: String, fits: String| Err(QueueError::Impossible { what, fits });
    if let (Some(limit), Some(asked)) = (partition.max_time_s, spec.time)
        && asked.0 > limit
    {
        return impossible(
            format!(
                "{} asked for; partition {name} lets a job run for {}",
                asked.slurm(),
                crate::queue::TimeLimit(limit).slurm()
            ),
            format!("--time {} fits", crate::queue::TimeLimit(limit).slurm()),
        );
    }
    // CLOUD nodes that are off are in their partition's count and shown nowhere else.
    let shown = own.len() as u32;
    let there = shown.max(partition.total_nodes);
    let most = partition.max_nodes.unwrap_or(u32::MAX).min(there);
    if spec.nodes > most {
        return impossible(
            format!("{} asked for; partition {name} has {}", count(spec.nodes, "node"), count(there, "node")),
            match most {
                0 => format!("partition {name} has no nodes at all"),
                most => format!("--nodes {most} fits"),
            },
        );
    }
    if there > shown {
        // What those have that are off is not known.
        return Ok(());
    }
    let kind = spec.gpu_type.as_deref();
    let gpus = if spec.gpu_share.is_some() { 0 } else { spec.gpus_per_node };
    let wants: [(&str, f64, Amount<'_>); 3] = [
        ("GPUs", f64::from(gpus), Box::new(move |node: &Node| node.has("gpu", kind))),
        ("cores", spec.cpus.map_or(0.0, |cpus| cpus.cores() as f64), Box::new(|node: &Node| f64::from(node.cpus))),
        (
            "MiB of memory",
            spec.memory.map_or(0.0, |memory| memory.mebibytes() as f64),
            Box::new(|node: &Node| (node.memory >> 20) as f64),
        ),
    ];
    if let Some(kind) = kind
        && gpus > 0
        && own.iter().all(|node| node.has("gpu", Some(kind)) == 0.0)
    {
        let mut kinds: Vec<String> = own.iter().flat_map(|node| node.gpu_types()).collect();
        kinds.sort();
        kinds.dedup();
        let fits = if kinds.is_empty() {
            format!("partition {name} has no GPUs with a type")
        } else {
            format!("there are {}", kinds.join(", "))
        };
        return impossible(format!("GPUs of type {kind} asked for; no node of partition {name} has them"), fits);
    }
    for (what, asked, of) in &wants {
        let enough = own.iter().filter(|node| of(node) >= *asked).count() as u32;
        if *asked > 0.0 && enough < spec.nodes {
            let largest = own.iter().map(|node| of(node)).fold(0.0, f64::max);
            let what_is_there = match enough {
                0 => format!("its largest node has {largest}"),
                enough => format!("only {} of its nodes {} so many", enough, if enough == 1 { "has" } else { "have" }),
            };
            // The largest number that enough nodes have.
            let mut sizes: Vec<f64> = own.iter().map(|node| of(node)).collect();
            sizes.sort_by(|a, b| b.total_cmp(a));
            let fitting = sizes.get(spec.nodes as usize - 1).copied().unwrap_or_default();
            return impossible(
                format!(
                    "{} with {asked} {what} asked for; partition {name}: {what_is_there}",
                    count(spec.nodes, "node")
                ),
                if fitting > 0.0 {
                    format!("{} with {fitting} {what} each would fit", count(spec.nodes, "node"))
                } else {
                    format!("nothing with {what} fits there")
                },
            );
        }
    }
    // All of it on the same nodes.
    let shares = share
        .and_then(|share| share.rsplit_once(':'))
        .and_then(|(name, count)| Some((name, count.parse::<f64>().ok()?)));
    let whole = own
        .iter()
        .filter(|node| wants.iter().all(|(_, asked, of)| of(node) >= *asked))
        .filter(|node| shares.is_none_or(|(name, count)| node.has(name, None) >= count))
        .filter(|node| feature(spec).is_none_or(|feature| node.features.iter().any(|own| own == feature)))
        .count() as u32;
    if whole < spec.nodes {
        return impossible(
            format!(
                "{} asked for; only {} of partition {name} {} all that is asked for",
                count(spec.nodes, "node"),
                count(whole, "node"),
                if whole == 1 { "has" } else { "have" }
            ),
            match whole {
                0 => "ask for less on each node; `aictl queue quota` shows what there is".to_owned(),
                whole => format!("--nodes {whole} fits"),
            },
        );
    }
    Ok(())
}

/// A constraint that is one plain feature; others are left to Slurm.
fn feature(spec: &JobSpec) -> Option<&str> {
    let text = spec.constraint.as_deref()?;
    text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')).then_some(text)
}

/// A part of a GPU in what the nodes have installed: shards, else MPS.
pub(super) fn share(spec: &JobSpec, nodes: &[Node]) -> Result<Option<String>, QueueError> {
    let Some(share) = spec.gpu_share else { return Ok(None) };
    let of = |name: &str| {
        let mut sharing = nodes.iter().filter(|node| node.has(name, None) > 0.0 && node.has("gpu", None) > 0.0);
        sharing.next().map(|node| node.has(name, None) / node.has("gpu", None))
    };
    let installed = match (of("shard"), of("mps")) {
        (Some(pieces), _) => Some(("shard", pieces)),
        (None, Some(pieces)) => Some(("mps", pieces)),
        (None, None) => None,
    };
    match (share, installed) {
        (GpuShare::Fraction(fraction), Some((name, pieces))) => {
            Ok(Some(format!("{name}:{}", (fraction * pieces - 1e-9).ceil().max(1.0))))
        }
        (GpuShare::Fraction(_), None) => Err(QueueError::Unsupported {
            engine: "this Slurm".to_owned(),
            what: "give a part of a GPU: its nodes have neither shards nor MPS".to_owned(),
            instead: "ask for whole GPUs, or have gres/shard set up".to_owned(),
        }),
        (GpuShare::Memory(_), installed) => Err(QueueError::Unsupported {
            engine: "Slurm".to_owned(),
            what: "share a GPU by its memory".to_owned(),
            instead: match installed {
                Some((name, pieces)) => format!("--gpu-fraction takes pieces of {name}, of which a GPU has {pieces}"),
                None => "its nodes share no GPUs: ask for whole ones".to_owned(),
            },
        }),
    }
}

fn count(number: u32, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
