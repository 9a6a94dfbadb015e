//! The course of a fleet: which Jobs are made when, what becomes of each, what is tried again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;
use tokio::task::JoinHandle;

use super::super::event::{Event, Sink};
use super::follow::{self, Ear};
use super::manifest::Fleet;
use super::write;
use crate::cluster::{Cluster, ClusterError, answer};

/// Time between two looks at the Jobs.
const LOOK: Duration = Duration::from_millis(1000);
/// The last lines of a pod that has ended are here by then.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Looks one after the other that may fail while the server is away.
const MOST_BLIND: u32 = 120;
/// Reasons of a container that waits which do not go away by themselves.
const STUCK: [&str; 6] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// How it is done.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// Jobs at once.
    pub at_once: usize,
    /// How often a node that failed is tried again.
    pub retries: u32,
}

/// What will be done about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Its Job is made.
    Create,
    /// Its Job runs: it is followed.
    TakeUp,
    /// Its Job has ended: it is removed and made again.
    RunAgain,
    /// Its Job has succeeded in a run of which others failed: it is left.
    Keep,
}

impl Action {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::TakeUp => "take up",
            Action::RunAgain => "run again",
            Action::Keep => "keep",
        }
    }
}

/// A node of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Its name.
    pub node: String,
    /// Its Job's.
    pub job: String,
    /// What will be done.
    pub action: Action,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// All is there.
    Done,
    /// Content is wrong, or not all of it is in memory.
    Wrong,
    /// The source refused it, or something could not be seen.
    Blind,
    /// It failed.
    Failed,
}

impl NodeState {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Done => "done",
            NodeState::Wrong => "wrong",
            NodeState::Blind => "blind",
            NodeState::Failed => "failed",
        }
    }
}

/// One node in the end (`aictl.preload-node/v1`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeReport {
    /// Always "aictl.preload-node/v1".
    pub schema: &'static str,
    /// Its name.
    pub node: String,
    /// Its Job's.
    pub job: String,
    /// What became of it.
    pub state: NodeState,
    /// Exit code of the program there.
    pub exit_code: Option<i32>,
    /// Why it is not done.
    pub why: Option<String>,
    /// How often it was tried.
    pub tries: u32,
    /// Bytes of the sources; null if it was not heard.
    pub bytes: Option<u64>,
    /// Bytes that came from the source.
    pub fetched_bytes: u64,
    /// Bytes that came from other nodes.
    pub peer_bytes: u64,
    /// Time from its Job's start.
    pub seconds: f64,
    /// Its models (`aictl.model/v1`), as the node said.
    pub models: Option<serde_json::Value>,
}

/// How a Job stands.
enum Stand {
    Active,
    Complete,
    Failed(String),
}

fn stand(job: &Job) -> Stand {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    for condition in conditions.into_iter().flatten().filter(|condition| condition.status == "True") {
        match condition.type_.as_str() {
            "Complete" => return Stand::Complete,
            "Failed" => {
                let reason = condition.reason.clone().unwrap_or_default();
                let message = condition.message.clone().unwrap_or_default();
                return Stand::Failed(if message.is_empty() { reason } else { message });
            }
            _ => {}
        }
    }
    Stand::Active
}

fn named(jobs: Vec<Job>) -> BTreeMap<String, Job> {
    jobs.into_iter().filter_map(|job| Some((job.metadata.name.clone()?, job))).collect()
}

/// Looks what an earlier run left, and says what will be done about each node.
///
/// # Errors
/// If the Jobs can't be listed.
pub async fn plan(cluster: &Cluster, fleet: &Fleet, nodes: &[String]) -> Result<Vec<Planned>, ClusterError> {
    let jobs = named(write::jobs(cluster, fleet).await?);
    let stands: Vec<Option<Stand>> = nodes.iter().map(|node| jobs.get(&fleet.job_name(node)).map(stand)).collect();
    // A run that came to its end everywhere is over; one that did not is gone on with.
    let unfinished = stands.iter().any(|stand| matches!(stand, Some(Stand::Active | Stand::Failed(_))));
    let action = |stand: &Option<Stand>| match stand {
        None => Action::Create,
        Some(Stand::Active) => Action::TakeUp,
        Some(Stand::Failed(_)) => Action::RunAgain,
        Some(Stand::Complete) if unfinished => Action::Keep,
        Some(Stand::Complete) => Action::RunAgain,
    };
    let planned = nodes.iter().zip(&stands);
    Ok(planned
        .map(|(node, stand)| Planned { node: node.clone(), job: fleet.job_name(node), action: action(stand) })
        .collect())
}

/// A node whose Job is there.
struct Going {
    planned: Planned,
    tries: u32,
    since: Instant,
    ear: Ear,
    reader: Option<(String, JoinHandle<()>)>,
    trouble: String,
}

impl Drop for Going {
    fn drop(&mut self) {
        if let Some((_, reader)) = &self.reader {
            reader.abort();
        }
    }
}

/// Makes the Jobs and follows them to their end. What a node comes to is in its report; reports are in
/// the order of the plan.
///
/// # Errors
/// If the cluster refuses, or can't be asked for minutes. Jobs that run go on.
pub async fn run(
    cluster: &Cluster,
    fleet: &Fleet,
    planned: &[Planned],
    orders: Orders,
    sink: &dyn Sink,
) -> Result<Vec<NodeReport>, ClusterError> {
    write::shared(cluster, fleet).await?;
    let mut course =
        Course { cluster, fleet, orders, sink, nodes: planned.len(), going: Vec::new(), reports: Vec::new() };
    sink.event(Event::FleetPlanned { nodes: planned.len(), at_once: orders.at_once });
    let mut waiting: VecDeque<(Planned, u32)> = VecDeque::new();
    for one in planned {
        match one.action {
            // They run already, whatever the limit.
            Action::TakeUp | Action::Keep => course.take_up(one.clone(), 1),
            Action::Create | Action::RunAgain => waiting.push_back((one.clone(), 1)),
        }
    }
    let mut blind = 0;
    while !(waiting.is_empty() && course.going.is_empty()) {
        while course.going.len() < orders.at_once.max(1)
            && let Some((one, tries)) = waiting.pop_front()
        {
            course.start(one, tries).await?;
        }
        match course.look().await {
            Ok(again) => {
                blind = 0;
                waiting.extend(again);
            }
            Err(error) if error.is_passing() && blind < MOST_BLIND => blind += 1,
            Err(error) => return Err(error),
        }
        course.tell();
        if !(waiting.is_empty() && course.going.is_empty()) {
            tokio::time::sleep(LOOK).await;
        }
    }
    write::remove_shared(cluster, fleet).await?;
    let mut reports = std::mem::take(&mut course.reports);
    let place = |report: &NodeReport| planned.iter().position(|one| one.node == report.node);
    reports.sort_by_key(place);
    Ok(reports)
}

struct Course<'a> {
    cluster: &'a Cluster,
    fleet: &'a Fleet,
    orders: Orders,
    sink: &'a dyn Sink,
    nodes: usize,
    going: Vec<Going>,
    reports: Vec<NodeReport>,
}

impl Course<'_> {
    fn take_up(&mut self, planned: Planned, tries: u32) {
        self.sink.event(Event::NodeStarted { node: planned.node.clone(), job: planned.job.clone() });
        let (since, ear) = (Instant::now(), Ear::default());
        self.going.push(Going { planned, tries, since, ear, reader: None, trouble: String::new() });
    }

    async fn start(&mut self, one: Planned, tries: u32) -> Result<(), ClusterError> {
        if one.action == Action::RunAgain || tries > 1 {
            write::remove_job(self.cluster, self.fleet, &one.job).await?;
        }
        match write::job(self.cluster, self.fleet, &one.node).await {
            Ok(()) => self.take_up(one, tries),
            // A policy may forbid one node's; the others are not to suffer.
            Err(error @ ClusterError::Refused { .. }) if !error.is_passing() => {
                let going = Going {
                    planned: one,
                    tries,
                    since: Instant::now(),
                    ear: Ear::default(),
                    reader: None,
                    trouble: String::new(),
                };
                self.report(going, NodeState::Failed, None, Some(error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Looks at all Jobs and pods; returns what is to be tried again.
    async fn look(&mut self) -> Result<Vec<(Planned, u32)>, ClusterError> {
        let jobs = named(write::jobs(self.cluster, self.fleet).await?);
        let api: Api<Pod> = Api::namespaced(self.cluster.client(), &self.fleet.namespace);
        let list = ListParams::default().labels(&self.fleet.selector());
        let pods = answer("cannot list pods", api.list(&list)).await?.items;
        let mut again = Vec::new();
        for mut going in std::mem::take(&mut self.going) {
            let Some(job) = jobs.get(&going.planned.job) else {
                // Made a moment ago, the list may not have it yet.
                if going.since.elapsed() < LAST_WORDS {
                    self.going.push(going);
                } else {
                    self.report(going, NodeState::Failed, None, Some("its Job is gone".to_owned()));
                }
                continue;
            };
            let pod = pod_of(job, &pods);
            self.listen(&mut going, pod, &api);
            let why = match stand(job) {
                Stand::Active => {
                    self.going.push(going);
                    continue;
                }
                Stand::Complete => None,
                Stand::Failed(why) => Some(why),
            };
            if let Some((_, reader)) = &mut going.reader {
                // Its last words, not for ever.
                let _ = tokio::time::timeout(LAST_WORDS, reader).await;
            }
            let ended = pod.and_then(container).and_then(|status| status.state.as_ref()?.terminated.clone());
            let code = ended.as_ref().map(|ended| ended.exit_code);
            let Some(why) = why else {
                self.report(going, NodeState::Done, code, None);
                continue;
            };
            let said = going.ear.lock().unwrap_or_else(PoisonError::into_inner).why();
            let last = ended.and_then(|ended| ended.message).and_then(|message| {
                let mut heard = super::heard::Heard::default();
                message.lines().for_each(|line| heard.line(line));
                heard.why()
            });
            let why = said.or(last).unwrap_or(why);
            let state = match code {
                Some(3) => NodeState::Wrong,
                Some(4) => NodeState::Blind,
                _ => NodeState::Failed,
            };
            // Wrong usage and a refusal are the same the next time.
            if going.tries <= self.orders.retries && !matches!(code, Some(2..=4)) {
                self.sink.event(Event::NodeRetry { node: going.planned.node.clone(), why });
                again.push((going.planned.clone(), going.tries + 1));
            } else {
                self.report(going, state, code, Some(why));
            }
        }
        Ok(again)
    }

    /// Reads a pod's output once it has some, and says what keeps it from starting.
    fn listen(&self, going: &mut Going, pod: Option<&Pod>, api: &Api<Pod>) {
        let Some(pod) = pod else { return };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let state = container(pod).and_then(|status| status.state.as_ref());
        let begun = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        if begun && going.reader.as_ref().is_none_or(|(read, _)| *read != name) {
            if let Some((_, reader)) = going.reader.take() {
                reader.abort();
            }
            going.ear = Ear::default();
            let reader = follow::follow(api.clone(), name.clone(), Ear::clone(&going.ear));
            going.reader = Some((name, tokio::spawn(reader)));
        }
        let waits = state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| {
            let reason = waiting.reason.as_deref().filter(|reason| STUCK.contains(reason))?;
            Some(format!("{reason}: {}", waiting.message.as_deref().unwrap_or_default()))
        });
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let unplaced = conditions
            .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
            .find_map(|condition| Some(format!("not scheduled: {}", condition.message.as_deref()?)));
        if let Some(why) = waits.or(unplaced)
            && why != going.trouble
        {
            let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
            going.trouble.clone_from(&why);
            self.sink.event(Event::NodeTrouble { node: going.planned.node.clone(), why });
        }
    }

    fn report(&mut self, going: Going, state: NodeState, exit_code: Option<i32>, why: Option<String>) {
        let heard = going.ear.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let node = going.planned.node.clone();
        self.sink.event(Event::NodeDone { node: node.clone(), state: state.name(), why: why.clone() });
        self.reports.push(NodeReport {
            schema: "aictl.preload-node/v1",
            node,
            job: going.planned.job.clone(),
            state,
            exit_code,
            why,
            tries: going.tries,
            bytes: Some(heard.bytes).filter(|bytes| *bytes > 0),
            fetched_bytes: heard.fetched_bytes,
            peer_bytes: heard.peer_bytes,
            seconds: going.since.elapsed().as_secs_f64(),
            models: heard.models,
        });
    }

    /// How far all are: nodes that have not said yet how much it is count as the others.
    fn tell(&self) {
        let mut known: Vec<(u64, u64)> = Vec::new();
        for going in &self.going {
            let heard = going.ear.lock().unwrap_or_else(PoisonError::into_inner);
            if heard.bytes > 0 {
                known.push((heard.have_bytes, heard.bytes));
                let node = going.planned.node.clone();
                self.sink.event(Event::NodeProgress { node, have_bytes: heard.have_bytes, bytes: heard.bytes });
            }
        }
        known.extend(self.reports.iter().filter_map(|report| Some((report.bytes?, report.bytes?))));
        let Some(count) = std::num::NonZeroUsize::new(known.len()) else { return };
        let have_bytes = known.iter().map(|(have, _)| *have).fold(0, u64::saturating_add);
        let sum = known.iter().map(|(_, all)| u128::from(*all)).sum::<u128>();
        let bytes = u64::try_from(sum * self.nodes as u128 / count.get() as u128).unwrap_or(u64::MAX);
        let done = self.reports.len();
        self.sink.event(Event::FleetProgress { nodes: self.nodes, done, have_bytes, bytes });
    }
}

/// The newest pod of a Job.
fn pod_of<'a>(job: &Job, pods: &'a [Pod]) -> Option<&'a Pod> {
    let uid = job.metadata.uid.as_ref()?;
    let owned = pods.iter().filter(|pod| pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == *uid));
    owned.max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// How to end a fleet by hand, for who is interrupted.
pub fn forget(fleet: &Fleet) -> String {
    format!("kubectl -n {} delete jobs,services,secrets -l {}", fleet.namespace, fleet.selector())
}
