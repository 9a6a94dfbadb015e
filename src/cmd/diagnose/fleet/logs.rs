//! The check `job-logs`: the ends of the logs of pods with GPUs, or of the jobs that are named.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::Scope;
use crate::cluster::{self, Choice, Cluster};
use crate::fault::cluster::{Fleet, PodFacts};
use crate::fault::job::{self, PodLog};
use crate::fault::{Catalogue, Check, Finding, Severity, State};

/// Name of the check.
pub const CHECK: &str = job::CHECK;
/// Lines of each log.
const LINES: u32 = 2000;
/// Bytes of each log.
const BYTES: u64 = 1 << 20;
/// Logs that are read.
const MOST: usize = 1024;
/// Logs that are read at a time.
const AT_ONCE: usize = 16;

/// Labels that name the job a pod belongs to, what is widest first.
const JOBS: [&str; 8] = [
    "jobset.sigs.k8s.io/jobset-name",
    "leaderworkerset.sigs.k8s.io/name",
    "training.kubeflow.org/job-name",
    "volcano.sh/job-name",
    "ray.io/cluster",
    "batch.kubernetes.io/job-name",
    "job-name",
    "app",
];

/// Reads and judges.
pub async fn look(
    cluster: &Cluster,
    scope: &Scope<'_>,
    fleet: &Fleet,
    catalogue: &Catalogue,
    now: Timestamp,
) -> (Check, Vec<Finding>) {
    let blind = |detail: String| (Check { name: CHECK.to_owned(), state: State::Blind, detail }, Vec::new());
    let namespace = (cluster.namespace_was_chosen() || !scope.jobs.is_empty()).then(|| cluster.namespace());
    let pods = match cluster::pods(cluster, namespace, &Choice::default()).await {
        Ok(pods) => pods,
        Err(error) => return blind(super::blind(&error).0),
    };
    let nodes: BTreeSet<&str> = fleet.nodes.iter().map(|node| node.name()).collect();
    let mut chosen: Vec<(String, PodFacts)> = pods
        .into_iter()
        .filter(|pod| nodes.contains(pod.node.as_str()) && matches!(pod.phase.as_str(), "Running" | "Failed"))
        .map(|pod| (name_of_job(&pod), pod))
        .filter(
            |(job, pod)| if scope.jobs.is_empty() { pod.gpus > 0 } else { scope.jobs.iter().any(|name| name == job) },
        )
        .collect();
    if let Some(missing) = scope.jobs.iter().find(|name| chosen.iter().all(|(job, _)| job != *name)) {
        let place = namespace.unwrap_or_default();
        return blind(format!("no pod of a job {missing} runs in namespace {place} on these nodes"));
    }
    chosen.sort_by(|a, b| (&a.1.namespace, &a.0, &a.1.name).cmp(&(&b.1.namespace, &b.0, &b.1.name)));
    let left_out = chosen.len().saturating_sub(MOST);
    chosen.truncate(MOST);
    let read: Vec<Result<PodLog, String>> = stream::iter(chosen)
        .map(|(job, pod)| async move {
            let container = pod.containers.first().map(String::as_str);
            match cluster::log(cluster, &pod.namespace, &pod.name, container, LINES, BYTES).await {
                Ok(text) => Ok(PodLog {
                    job: format!("{}/{job}", pod.namespace),
                    pod: format!("{}/{}", pod.namespace, pod.name),
                    node: pod.node,
                    running: pod.phase == "Running",
                    digest: job::digest(&text),
                }),
                Err(error) => Err(super::blind(&error).0),
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let (mut logs, mut failed) = (Vec::new(), Vec::new());
    for read in read {
        match read {
            Ok(log) => logs.push(log),
            Err(error) => failed.push(error),
        }
    }
    logs.sort_by(|a: &PodLog, b| a.pod.cmp(&b.pod));
    let findings = job::judge(&logs, catalogue, now);
    let jobs: BTreeMap<&str, ()> = logs.iter().map(|log| (log.job.as_str(), ())).collect();
    let mut detail = format!("the ends of {} logs of {} jobs", logs.len(), jobs.len());
    if left_out > 0 {
        detail.push_str(&format!("; {left_out} were left out: name jobs with --job"));
    }
    if let Some(first) = failed.first() {
        detail.push_str(&format!("; {} could not be read: {first}", failed.len()));
    }
    let state = match (findings.iter().any(|finding| finding.severity > Severity::Info), failed.len() + left_out) {
        (true, _) => State::Fault,
        (false, 0) => State::Ok,
        (false, _) => State::Blind,
    };
    (Check { name: CHECK.to_owned(), state, detail }, findings)
}

/// The job's name: of a label, else of the owner, else the pod's own.
fn name_of_job(pod: &PodFacts) -> String {
    let labelled = JOBS.iter().find_map(|label| pod.labels.get(*label)).cloned();
    labelled.or_else(|| pod.owner.as_ref().map(|(_, name)| name.clone())).unwrap_or_else(|| pod.name.clone())
}
