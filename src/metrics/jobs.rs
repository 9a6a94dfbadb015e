//! What jobs make of the GPUs that they have, and which GPUs are idle though somebody has them.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Metric, NodeSample, PodRef};

/// A job: pods of one owner, a job of Slurm, or a user's processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JobUse {
    /// "team-a/Job/train"; "slurm/17"; "user/ada".
    pub job: String,
    /// GPUs that its pods asked for, where the cluster was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus_requested: Option<u64>,
    /// GPUs that are seen to be its.
    pub gpus: u64,
    /// Those of them that do something.
    pub gpus_busy: u64,
    /// Those of them that have been idle for longer than was asked.
    pub gpus_idle: u64,
    /// Mean load, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation_percent: Option<f64>,
    /// Memory in use, percent of what the GPUs have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<f64>,
    /// Power drawn, W.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_w: Option<f64>,
    /// What it asked for and used: mean load over all GPUs requested, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efficiency_percent: Option<f64>,
}

/// A GPU that does nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IdleGpu {
    /// Its node.
    pub node: String,
    /// NVML's index.
    pub gpu: u32,
    /// "GPU-…".
    pub uuid: String,
    /// For how long, s; at least so long where a history was asked for that time only.
    pub idle_s: f64,
    /// Who has it: pods, a job, users; empty if nobody.
    pub owner: String,
}

/// What a cluster tells of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodOwner {
    /// "Job/train", if something made it.
    pub owner: Option<String>,
    /// GPUs that it asked for.
    pub gpus: u64,
}

/// Pods by namespace and name.
pub type Owners = HashMap<(String, String), PodOwner>;

#[derive(Default)]
struct Sum {
    gpus: u64,
    busy: u64,
    idle: u64,
    load: (f64, u64),
    used: f64,
    total: f64,
    power: Option<f64>,
}

/// What each job makes of its GPUs, the least efficient first among those with most GPUs.
pub fn jobs(nodes: &[NodeSample], owners: &Owners, idle_s: f64) -> Vec<JobUse> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for gpu in nodes.iter().flat_map(|node| &node.gpus) {
        let mut of: Vec<String> = gpu.pods.iter().map(|pod| name(pod, owners)).collect();
        if of.is_empty() {
            let slurm = gpu.processes.iter().filter_map(|p| p.slurm_job).map(|job| format!("slurm/{job}"));
            of.extend(slurm);
        }
        if of.is_empty() {
            of.extend(gpu.processes.iter().filter_map(|p| p.user.as_ref()).map(|user| format!("user/{user}")));
        }
        of.sort();
        of.dedup();
        for job in of {
            let sum = sums.entry(job).or_default();
            sum.gpus += 1;
            if let Some(load) = gpu.metrics.get(Metric::Utilisation) {
                sum.busy += u64::from(load > 0.0);
                sum.load = (sum.load.0 + load, sum.load.1 + 1);
            }
            sum.idle += u64::from(gpu.metrics.get(Metric::Idle).is_some_and(|idle| idle >= idle_s && idle > 0.0));
            if let (Some(used), Some(total)) =
                (gpu.metrics.get(Metric::MemoryUsed), gpu.metrics.get(Metric::MemoryTotal))
            {
                sum.used += used;
                sum.total += total;
            }
            if let Some(power) = gpu.metrics.get(Metric::Power) {
                sum.power = Some(sum.power.unwrap_or(0.0) + power);
            }
        }
    }
    let mut requested: HashMap<String, u64> = HashMap::new();
    for ((namespace, pod), owner) in owners.iter().filter(|(_, owner)| owner.gpus > 0) {
        let pod = PodRef { namespace: namespace.clone(), pod: pod.clone(), ..PodRef::default() };
        *requested.entry(name(&pod, owners)).or_default() += owner.gpus;
    }
    let mut jobs: Vec<JobUse> = sums.into_iter().map(|(job, sum)| use_of(job, &sum, &requested)).collect();
    jobs.sort_by(|a, b| {
        let least = |job: &JobUse| job.efficiency_percent.or(job.utilisation_percent).unwrap_or(f64::INFINITY);
        b.gpus.cmp(&a.gpus).then(least(a).total_cmp(&least(b))).then_with(|| a.job.cmp(&b.job))
    });
    jobs
}

fn use_of(job: String, sum: &Sum, requested: &HashMap<String, u64>) -> JobUse {
    let gpus_requested = requested.get(&job).copied();
    let mean = (sum.load.1 > 0).then(|| sum.load.0 / sum.load.1 as f64);
    // A GPU that a job asked for and that nobody sees at work counts as doing nothing.
    let efficiency = gpus_requested.filter(|n| *n > 0).map(|n| (sum.load.0 / n.max(sum.gpus) as f64).min(100.0));
    JobUse {
        job,
        gpus_requested,
        gpus: sum.gpus,
        gpus_busy: sum.busy,
        gpus_idle: sum.idle,
        utilisation_percent: mean,
        memory_percent: (sum.total > 0.0).then(|| 100.0 * sum.used / sum.total),
        power_w: sum.power,
        efficiency_percent: mean.and(efficiency),
    }
}

fn name(pod: &PodRef, owners: &Owners) -> String {
    if pod.pod.is_empty() {
        return format!("pod/{}", pod.uid);
    }
    let owner = owners.get(&(pod.namespace.clone(), pod.pod.clone())).and_then(|owner| owner.owner.clone());
    let owner = owner.unwrap_or_else(|| format!("Pod/{}", pod.pod));
    format!("{}/{owner}", pod.namespace)
}

/// GPUs that have been idle for at least so long, the longest first.
pub fn idle(nodes: &[NodeSample], least_s: f64) -> Vec<IdleGpu> {
    let mut found: Vec<IdleGpu> = nodes
        .iter()
        .flat_map(|node| node.gpus.iter().map(move |gpu| (node, gpu)))
        .filter_map(|(node, gpu)| {
            let idle_s = gpu.metrics.get(Metric::Idle).filter(|idle| *idle >= least_s && *idle > 0.0)?;
            Some(IdleGpu {
                node: node.node.clone(),
                gpu: gpu.index,
                uuid: gpu.uuid.clone(),
                idle_s,
                owner: gpu.owner(),
            })
        })
        .collect();
    found.sort_by(|a, b| b.idle_s.total_cmp(&a.idle_s).then_with(|| (&a.node, a.gpu).cmp(&(&b.node, b.gpu))));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::testing::node;

    #[test]
    fn what_was_asked_for_is_held_against_what_is_used() {
        let nodes = [node("n", 8)];
        let mut owners = Owners::new();
        for index in (0..8).step_by(2) {
            let owner = PodOwner { owner: Some("Job/train".to_owned()), gpus: 2 };
            owners.insert(("team-a".to_owned(), format!("train-{index}")), owner);
        }
        let jobs = jobs(&nodes, &owners, 600.0);
        let train = jobs.iter().find(|job| job.job == "team-a/Job/train").unwrap();
        // GPUs 0, 2 work at 90 %, 4 and 6 do nothing; it asked for eight.
        assert_eq!((train.gpus, train.gpus_busy, train.gpus_idle, train.gpus_requested), (4, 2, 2, Some(8)));
        assert_eq!((train.utilisation_percent, train.efficiency_percent), (Some(45.0), Some(22.5)));
        assert_eq!(train.memory_percent, Some(50.0));
        let alone = jobs.iter().find(|job| job.job == "team-b/Pod/train-1").unwrap();
        assert_eq!((alone.gpus_requested, alone.efficiency_percent), (None, None));
    }

    #[test]
    fn idle_gpus_are_told_with_who_has_them() {
        let nodes = [node("n", 4)];
        let idle = idle(&nodes, 600.0);
        assert_eq!(
            idle.iter().map(|gpu| (gpu.gpu, gpu.owner.as_str())).collect::<Vec<_>>(),
            [(2, "team-a/train-2"), (3, "team-b/train-3")]
        );
        assert!(super::idle(&nodes, 1201.0).is_empty());
    }
}
