//! A capture of all nodes as one: the same shape as `profile::capture`, which captures this machine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::link::FromNode;
use super::node::{Part, node};
use super::pod::{self, AgentChoice, AgentKind};
use super::protocol::{News, Order, Wanted};
use super::{AgentError, PodTarget, access};
use crate::cluster::Cluster;
use crate::profile::CaptureProgress;
use crate::trace::{CaptureMeta, Joiner, LayerStatus, NodeNote, RelayReader, Sink};

/// How often it looks whether it should end, and tells how it goes.
const TICK: Duration = Duration::from_millis(100);
/// What is written is handed on to the file at least so often.
const FLUSH: Duration = Duration::from_secs(1);
/// Once a node records, the others are waited for so long before it is said that it does.
const LATE: Duration = Duration::from_secs(5);
/// Removing what was made is given so long at the end.
const CLEAN: Duration = Duration::from_secs(15);
/// Messages of all nodes that wait to be written; one is some 200 kB.
const WAITING: usize = 64;

/// What to capture where.
#[derive(Debug)]
pub struct Plan {
    /// Runs all that waits for the network.
    pub runtime: Runtime,
    /// The cluster.
    pub cluster: Cluster,
    /// What.
    pub pods: Vec<PodTarget>,
    /// Through whom.
    pub agent: AgentChoice,
    /// How; its containers are filled in for each node.
    pub order: Order,
    /// When the user asked.
    pub asked: Instant,
}

/// When things happened, since the user asked, for those who want to know (`-v`).
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// The first node's agent was there.
    agent: Option<Duration>,
    /// The first event was there.
    data: Option<Duration>,
}

/// One node's task, and its agent for as long as it must be removed.
struct Node {
    name: String,
    task: JoinHandle<()>,
    settled: bool,
    /// When its probes were in place.
    began: Option<Instant>,
    over: bool,
    note: NodeNote,
    /// Names of its pods.
    pods: Vec<String>,
    latest: Option<News>,
}

/// Captures all pods of a plan into `sink`.
///
/// # Errors
/// If nothing could be captured at all; what only some nodes could not is told as a note.
pub fn capture(
    plan: &Plan,
    sink: &mut dyn Sink,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(CaptureProgress<'_>),
) -> Result<CaptureMeta, AgentError> {
    let begin = Instant::now();
    let namespace = plan.agent.namespace.clone();
    let own = plan.pods.first().map_or_else(String::new, |pod| pod.namespace.clone());
    let namespace = namespace.unwrap_or_else(|| match plan.agent.kind {
        AgentKind::Pod => own,
        AgentKind::Daemonset => "aictl".to_owned(),
    });
    plan.runtime.block_on(access::check(&plan.cluster, &namespace, plan.agent.kind))?;
    if plan.agent.kind == AgentKind::Pod {
        let cluster = plan.cluster.clone();
        // Beside the capture, which need not wait for it.
        plan.runtime.spawn(async move { pod::sweep(&cluster, &namespace).await });
    }
    let (out, mut inbox) = mpsc::channel(WAITING);
    let (stop_all, stopped) = watch::channel(false);
    let mut nodes: Vec<Node> = Vec::new();
    let groups = by_node(&plan.pods);
    let mut joiner = Joiner::new(sink, groups.len());
    for (name, pods) in groups {
        let part = Part::of(plan, &name, &pods, joiner.apart(nodes.len()));
        let order = plan.order_for(&pods);
        let pods = pods.into_iter().map(|pod| pod.name).collect();
        let task = plan.runtime.spawn(node(order, part, nodes.len(), out.clone(), stopped.clone()));
        let note = NodeNote { node: name.clone(), ..NodeNote::default() };
        nodes.push(Node { name, task, settled: false, began: None, over: false, note, pods, latest: None });
    }
    drop((out, stopped));
    let mut all = All {
        joiner,
        nodes,
        readers: Vec::new(),
        layers: Vec::new(),
        attached: false,
        failed: None,
        told: Told::default(),
    };
    all.readers.resize_with(all.nodes.len(), RelayReader::new);
    let mut result = Ok(());
    let mut next_tell = Instant::now();
    let mut next_flush = Instant::now() + FLUSH;
    while !all.nodes.iter().all(|node| node.over) {
        if stop.load(Ordering::Relaxed) {
            stop_all.send_replace(true);
        }
        let message = plan.runtime.block_on(async { timeout(TICK, inbox.recv()).await });
        match message {
            Ok(Some((index, message))) => {
                if let Err(error) = all.hear(plan, index, message, begin, progress) {
                    // The recording can't be written: there is nothing to go on for.
                    stop_all.send_replace(true);
                    result = Err(error);
                    break;
                }
            }
            Ok(None) => break,
            Err(_) => {}
        }
        // A recording that is cut short by `kill -9` opens up to its last second.
        if Instant::now() >= next_flush {
            next_flush = Instant::now() + FLUSH;
            if let Err(error) = all.joiner.flush() {
                stop_all.send_replace(true);
                result = Err(AgentError::Write(error));
                break;
            }
        }
        all.go_on(begin, progress);
        if all.attached && Instant::now() >= next_tell {
            next_tell = Instant::now() + 2 * TICK;
            progress(all.going());
        }
    }
    // Nobody listens any more: tasks end, and each removes what it made.
    drop(inbox);
    stop_all.send_replace(true);
    let tasks: Vec<JoinHandle<()>> =
        all.nodes.iter_mut().map(|node| std::mem::replace(&mut node.task, plan.runtime.spawn(async {}))).collect();
    plan.runtime.block_on(async {
        let _ = timeout(CLEAN, futures::future::join_all(tasks)).await;
    });
    result?;
    match all.failed.take() {
        Some(error) if !all.attached => Err(error),
        _ => all.joiner.finish().map_err(AgentError::Write),
    }
}

/// Pods by their node.
fn by_node(pods: &[PodTarget]) -> BTreeMap<String, Vec<PodTarget>> {
    let mut nodes: BTreeMap<String, Vec<PodTarget>> = BTreeMap::new();
    for pod in pods {
        nodes.entry(pod.node.clone()).or_default().push(pod.clone());
    }
    nodes
}

impl Plan {
    /// How many nodes it is about.
    pub fn nodes(&self) -> usize {
        by_node(&self.pods).len()
    }

    fn order_for(&self, pods: &[PodTarget]) -> Order {
        let containers = pods.iter().flat_map(|pod| {
            pod.containers.iter().map(|(name, id)| Wanted {
                id: id.clone(),
                pod: format!("{}/{}", pod.namespace, pod.name),
                container: name.clone(),
                rank: pod.rank,
            })
        });
        Order { containers: containers.collect(), ..self.order.clone() }
    }
}

/// The recording as it grows.
struct All<'s> {
    joiner: Joiner<'s>,
    nodes: Vec<Node>,
    readers: Vec<RelayReader>,
    layers: Vec<LayerStatus>,
    attached: bool,
    failed: Option<AgentError>,
    told: Told,
}

impl All<'_> {
    fn hear(
        &mut self,
        plan: &Plan,
        index: usize,
        message: FromNode,
        begin: Instant,
        progress: &mut dyn FnMut(CaptureProgress<'_>),
    ) -> Result<(), AgentError> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        match message {
            FromNode::Note(text) => progress(CaptureProgress::Note { text: &text, warns: true }),
            FromNode::About(note) => {
                self.told.agent.get_or_insert_with(|| plan.asked.elapsed());
                // The clock's offset is measured before the first event; then it stays.
                if note.round_trips > 0 {
                    node.note = note.clone();
                    self.joiner.about(index, note);
                }
            }
            FromNode::Written(bytes) => {
                self.first_data(plan, progress);
                self.joiner.append(&bytes).map_err(AgentError::Write)?;
            }
            FromNode::Events(bytes) => {
                self.first_data(plan, progress);
                let Some(reader) = self.readers.get_mut(index) else { return Ok(()) };
                let fed = reader.feed(&bytes, &mut self.joiner.part(index));
                match fed {
                    Ok(()) => {}
                    Err(crate::trace::RelayError::Write(error)) => return Err(AgentError::Write(error)),
                    // One agent's stream is broken; the others' are not.
                    Err(error) => {
                        let node = self.nodes.get(index).map_or_else(String::new, |node| node.name.clone());
                        let error = AgentError::Lost { node, why: error.to_string() };
                        return self.over(index, Err(error), begin, progress);
                    }
                }
            }
            FromNode::News(News::Attached { layers, .. }) => {
                for layer in layers {
                    if !self.layers.contains(&layer) {
                        self.layers.push(layer);
                    }
                }
                node.settled = true;
                node.began = Some(Instant::now());
                if self.attached {
                    let text = format!("node {} is recorded as well from here on", node.name);
                    progress(CaptureProgress::Note { text: &text, warns: true });
                }
                self.settle(begin, progress);
            }
            FromNode::News(news) => node.latest = Some(news),
            FromNode::Over(result) => return self.over(index, result, begin, progress),
        }
        Ok(())
    }

    /// Tells, once, when the first events came.
    fn first_data(&mut self, plan: &Plan, progress: &mut dyn FnMut(CaptureProgress<'_>)) {
        if self.told.data.is_none() {
            self.told.data = Some(plan.asked.elapsed());
            progress(CaptureProgress::Note { text: &told_of(&self.told), warns: false });
        }
    }

    fn over(
        &mut self,
        index: usize,
        result: Result<(), AgentError>,
        begin: Instant,
        progress: &mut dyn FnMut(CaptureProgress<'_>),
    ) -> Result<(), AgentError> {
        let Some(node) = self.nodes.get_mut(index).filter(|node| !node.over) else { return Ok(()) };
        node.over = true;
        let settled = std::mem::replace(&mut node.settled, true);
        if let Err(error) = result {
            let why = match &error {
                AgentError::Lost { why, .. } | AgentError::NotStarted { why, .. } => why.clone(),
                AgentError::Capture { failure, .. } => failure.text.clone(),
                error => error.to_string(),
            };
            node.note.broke_off = Some(why);
            let note = node.note.clone();
            let going_on = format!("; going on without {}", some_of("pod", &node.pods));
            self.joiner.about(index, note);
            // If it is the only one, it is the command's own error.
            if self.nodes.len() > 1 || settled {
                let hint = error.hint().map_or(String::new(), |hint| format!(" ({hint})"));
                let without = if self.nodes.len() > 1 { going_on } else { String::new() };
                let text = format!("{error}{hint}{without}");
                progress(CaptureProgress::Note { text: &text, warns: true });
            }
            self.failed.get_or_insert(error);
        }
        self.settle(begin, progress);
        Ok(())
    }

    /// Tells that the capture runs, once every node has said whether it does.
    fn settle(&mut self, begin: Instant, progress: &mut dyn FnMut(CaptureProgress<'_>)) {
        // One that is over by now has recorded: what came is kept, whatever became of the others.
        let runs = self.nodes.iter().any(|node| node.began.is_some());
        if !self.attached && runs && self.nodes.iter().all(|node| node.settled) {
            self.attach(begin, progress);
        }
    }

    fn attach(&mut self, begin: Instant, progress: &mut dyn FnMut(CaptureProgress<'_>)) {
        self.attached = true;
        progress(CaptureProgress::Attached { took: begin.elapsed(), layers: &one_each(&self.layers) });
    }

    /// A node that takes long holds up neither the others' recording nor the news of it.
    fn go_on(&mut self, begin: Instant, progress: &mut dyn FnMut(CaptureProgress<'_>)) {
        let first = self.nodes.iter().filter_map(|node| node.began).min();
        if self.attached || first.is_none_or(|first| first.elapsed() < LATE) {
            return;
        }
        let late: Vec<&str> = self.nodes.iter().filter(|node| !node.settled).map(|node| node.name.as_str()).collect();
        let text = format!("not recorded yet, while others are: {}", some_of("node", &late));
        progress(CaptureProgress::Note { text: &text, warns: true });
        self.attach(begin, progress);
    }

    fn going(&self) -> CaptureProgress<'static> {
        let mut sum = (0.0f64, 0, 0, 0.0f64, 0);
        for node in &self.nodes {
            if let Some(News::Recording { elapsed_s, events, lost, overhead, processes }) = &node.latest {
                sum.0 = sum.0.max(*elapsed_s);
                sum.1 += events;
                sum.2 += lost;
                sum.3 = sum.3.max(*overhead);
                sum.4 += if node.over { 0 } else { *processes };
            }
        }
        let elapsed = Duration::try_from_secs_f64(sum.0).unwrap_or_default();
        CaptureProgress::Recording { elapsed, events: sum.1, lost: sum.2, overhead: sum.3, processes: sum.4 }
    }
}

/// Of each layer one status: that of a node where it is on, if there is one.
fn one_each(layers: &[LayerStatus]) -> Vec<LayerStatus> {
    let mut each: Vec<LayerStatus> = Vec::new();
    for layer in layers {
        match each.iter_mut().find(|known| known.layer == layer.layer) {
            Some(known) if layer.state == crate::trace::LayerState::On => *known = layer.clone(),
            Some(_) => {}
            None => each.push(layer.clone()),
        }
    }
    each
}

/// "pod train-8", "pods train-8, train-9, train-10 and 6 more".
fn some_of<S: AsRef<str>>(what: &str, names: &[S]) -> String {
    let shown = if names.len() > 4 { 3 } else { names.len() };
    let list: Vec<&str> = names.iter().take(shown).map(AsRef::as_ref).collect();
    let more = names.len() - shown;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{what}{} {}{more}", if names.len() == 1 { "" } else { "s" }, list.join(", "))
}

fn told_of(told: &Told) -> String {
    let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
    format!(
        "first data {:.1} s after the command; the agent was there after {:.1} s",
        seconds(told.data),
        seconds(told.agent)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_names_stand_for_many() {
        let names: Vec<String> = (0..9).map(|n| format!("train-{n}")).collect();
        assert_eq!(some_of("pod", &names[..1]), "pod train-0");
        assert_eq!(some_of("pod", &names[..4]), "pods train-0, train-1, train-2, train-3");
        assert_eq!(some_of("pod", &names), "pods train-0, train-1, train-2 and 6 more");
    }
}
