//! A capture of all nodes as one: the same shape as `profile::capture`, which captures this machine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::link::{FromNode, Link};
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
/// Removing what was made is given so long at the end.
const CLEAN: Duration = Duration::from_secs(15);
/// Messages of all nodes that wait to be written.
const WAITING: usize = 256;

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
    over: bool,
    note: NodeNote,
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
    for (name, pods) in by_node(&plan.pods) {
        let task = plan.runtime.spawn(node(
            plan.order_for(&pods),
            plan_of(plan, &name, &pods),
            nodes.len(),
            out.clone(),
            stopped.clone(),
        ));
        let note = NodeNote { node: name.clone(), ..NodeNote::default() };
        nodes.push(Node { name, task, settled: false, over: false, note, latest: None });
    }
    drop((out, stopped));
    let mut all = All {
        joiner: Joiner::new(sink, nodes.len()),
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

/// What a node's task needs of the plan.
struct Part {
    cluster: Cluster,
    choice: AgentChoice,
    name: String,
    owner: PodTarget,
    pods: Vec<PodTarget>,
    duration: Option<Duration>,
}

fn plan_of(plan: &Plan, name: &str, pods: &[PodTarget]) -> Option<Part> {
    Some(Part {
        cluster: plan.cluster.clone(),
        choice: plan.agent.clone(),
        name: name.to_owned(),
        owner: pods.first()?.clone(),
        pods: pods.to_vec(),
        duration: plan.order.duration_ms.map(Duration::from_millis),
    })
}

/// One node from its agent's start to its removal.
async fn node(
    order: Order,
    part: Option<Part>,
    index: usize,
    out: mpsc::Sender<(usize, FromNode)>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(part) = part else { return };
    let mut made = None;
    let result = async {
        let (notes, mut noted) = mpsc::unbounded_channel::<String>();
        let providing =
            pod::provide(&part.cluster, &part.choice, &part.name, &part.owner, part.duration, &mut made, move |text| {
                let _ = notes.send(text);
            });
        tokio::pin!(providing);
        let agent = loop {
            tokio::select! {
                agent = &mut providing => break agent?,
                Some(text) = noted.recv() => {
                    let _ = out.send((index, FromNode::Note(text))).await;
                }
                () = async { drop(stop.wait_for(|stop| *stop).await) } => return Ok(()),
            }
        };
        let _ = out.send((index, FromNode::About(NodeNote { node: part.name.clone(), ..NodeNote::default() }))).await;
        let link = Link {
            index,
            node: part.name.clone(),
            cluster: part.cluster.clone(),
            agent,
            order,
            out: out.clone(),
            stop: stop.clone(),
        };
        link.run().await
    }
    .await;
    if let Some(agent) = &made
        && let Err(error) = pod::remove(&part.cluster, agent).await
    {
        let _ = out.send((index, FromNode::Note(format!("{error}; it ends by itself")))).await;
    }
    if result.is_ok() && !*stop.borrow() {
        for target in &part.pods {
            if let Some(text) = target.replaced(&part.cluster).await {
                let _ = out.send((index, FromNode::Note(text))).await;
            }
        }
    }
    let _ = out.send((index, FromNode::Over(result))).await;
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
            FromNode::Events(bytes) => {
                if self.told.data.is_none() {
                    self.told.data = Some(plan.asked.elapsed());
                    progress(CaptureProgress::Note { text: &first_data(&self.told), warns: false });
                }
                let Some(reader) = self.readers.get_mut(index) else { return Ok(()) };
                let fed = reader.feed(&bytes, &mut self.joiner.part(index));
                match fed {
                    Ok(()) => {}
                    Err(crate::trace::RelayError::Write(error)) => return Err(AgentError::Write(error)),
                    // One agent's stream is broken; the others' are not.
                    Err(error) => {
                        let error = AgentError::Lost { node: node.name.clone(), why: error.to_string() };
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
                self.settle(begin, progress);
            }
            FromNode::News(news) => node.latest = Some(news),
            FromNode::Over(result) => return self.over(index, result, begin, progress),
        }
        Ok(())
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
            self.joiner.about(index, note);
            // If it is the only one, it is the command's own error.
            if self.nodes.len() > 1 || settled {
                let hint = error.hint().map_or(String::new(), |hint| format!(" ({hint})"));
                progress(CaptureProgress::Note { text: &format!("{error}{hint}"), warns: true });
            }
            self.failed.get_or_insert(error);
        }
        self.settle(begin, progress);
        Ok(())
    }

    /// Tells that the capture runs, once every node has said whether it does.
    fn settle(&mut self, begin: Instant, progress: &mut dyn FnMut(CaptureProgress<'_>)) {
        let runs = self.nodes.iter().any(|node| node.settled && !node.over);
        if !self.attached && runs && self.nodes.iter().all(|node| node.settled) {
            self.attached = true;
            progress(CaptureProgress::Attached { took: begin.elapsed(), layers: &one_each(&self.layers) });
        }
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

fn first_data(told: &Told) -> String {
    let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
    format!(
        "first data {:.1} s after the command; the agent was there after {:.1} s",
        seconds(told.data),
        seconds(told.agent)
    )
}
