//! What is printed, as one value.

use jiff::Timestamp;
use serde::Serialize;

use super::source::Shot;
use super::{Args, By, IDLE, Sort};
use crate::metrics::jobs::{self, IdleGpu, JobUse};
use crate::metrics::{GpuSample, Metric, NodeSample};
use crate::view::text;

/// Schema of the report.
const SCHEMA: &str = "aictl.top/v1";

/// The report.
#[derive(Serialize)]
pub struct Report {
    schema: &'static str,
    /// When it was made.
    pub at: Timestamp,
    /// Nodes with the GPUs that were asked for.
    pub nodes: Vec<NodeSample>,
    /// What jobs make of their GPUs.
    pub jobs: Vec<JobUse>,
    /// GPUs that are idle for longer than was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Vec<IdleGpu>>,
    #[serde(skip)]
    sort: Option<Sort>,
}

impl Report {
    /// Filters and orders what was seen.
    pub fn new(shot: Shot, args: &Args) -> Report {
        let mut nodes = shot.nodes;
        let idle_s = args.idle.map(|length| length.0.as_secs_f64());
        let words: Vec<String> = args.filter.iter().map(|word| word.to_lowercase()).collect();
        for node in &mut nodes {
            let name = node.node.clone();
            node.gpus.retain(|gpu| words.iter().all(|word| matches(&name, gpu, word)));
            if let Some(least) = idle_s {
                node.gpus.retain(|gpu| gpu.metrics.get(Metric::Idle).is_some_and(|idle| idle >= least && idle > 0.0));
            }
            if let Some(sort) = args.sort {
                node.gpus.sort_by(|a, b| order(sort, a, b));
            }
        }
        if !words.is_empty() || idle_s.is_some() {
            nodes.retain(|node| !node.gpus.is_empty() || node.blind.is_some());
        }
        let jobs = jobs::jobs(&nodes, &shot.owners, idle_s.unwrap_or(IDLE.as_secs_f64()));
        let idle = idle_s.map(|least| jobs::idle(&nodes, least));
        Report { schema: SCHEMA, at: Timestamp::now(), nodes, jobs, idle, sort: args.sort }
    }

    /// GPUs in the order of the rows.
    pub fn gpus(&self) -> Vec<(&NodeSample, &GpuSample)> {
        let mut all: Vec<_> = self.nodes.iter().flat_map(|node| node.gpus.iter().map(move |gpu| (node, gpu))).collect();
        if let Some(sort) = self.sort {
            all.sort_by(|a, b| order(sort, a.1, b.1));
        }
        all
    }

    /// For `-o name`.
    pub fn names(&self, by: By) -> String {
        let gpus = self.gpus();
        let names: Vec<String> = match by {
            By::Gpu => gpus.iter().map(|(_, gpu)| gpu.uuid.clone()).collect(),
            By::Process => gpus.iter().flat_map(|(_, gpu)| &gpu.processes).map(|p| p.pid.to_string()).collect(),
            By::Job => self.jobs.iter().map(|job| job.job.clone()).collect(),
            By::Node => self.nodes.iter().map(|node| node.node.clone()).collect(),
        };
        names.iter().map(|name| text::plain(name)).collect::<Vec<_>>().join("\n")
    }

    /// What could not be read, a line each; of many nodes the first few.
    pub fn blindness(&self) -> Vec<String> {
        const MOST: usize = 5;
        let nodes = self.nodes.iter().filter_map(|node| Some(format!("{}: {}", node.node, node.blind.as_ref()?)));
        let gpus = self.nodes.iter().flat_map(|node| {
            node.gpus
                .iter()
                .filter_map(|gpu| Some(format!("{}, GPU {}: {}", node.node, gpu.index, gpu.blind.as_ref()?)))
        });
        let mut all: Vec<String> = nodes.chain(gpus).collect();
        let more = all.len().saturating_sub(MOST);
        all.truncate(MOST);
        if more > 0 {
            all.push(format!("and {more} more"));
        }
        all
    }

    /// What to do next, where something could not be read.
    pub fn hint(&self) -> Option<&'static str> {
        let said = self.nodes.iter().filter_map(|node| node.blind.as_deref());
        said.into_iter().find_map(|why| {
            if why.contains("NVML") || why.contains("driver") || why.contains("kernel module") {
                Some("aictl doctor says what is missing here; for another machine: aictl top NODE, --fleet or --prometheus URL")
            } else if why.contains("not permitted") {
                Some("ask for `get` on `pods/proxy` in the exporters' namespace; deploy/README.md has the role")
            } else {
                None
            }
        })
    }
}

fn matches(node: &str, gpu: &GpuSample, word: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(word);
    has(node)
        || has(&gpu.name)
        || has(&gpu.uuid)
        || gpu.pods.iter().any(|pod| has(&pod.shown()))
        || gpu.processes.iter().any(|process| {
            [&process.name, &process.user].into_iter().flatten().any(|text| has(text))
                || process.slurm_job.is_some_and(|job| has(&format!("slurm/{job}")))
        })
}

fn order(sort: Sort, a: &GpuSample, b: &GpuSample) -> std::cmp::Ordering {
    let metric = match sort {
        Sort::Utilisation => Metric::Utilisation,
        Sort::Memory => Metric::MemoryUsed,
        Sort::Power => Metric::Power,
        Sort::Temperature => Metric::Temperature,
        Sort::Idle => Metric::Idle,
        Sort::Owner => return a.owner().cmp(&b.owner()),
    };
    let value = |gpu: &GpuSample| gpu.metrics.get(metric).unwrap_or(f64::NEG_INFINITY);
    value(b).total_cmp(&value(a))
}
