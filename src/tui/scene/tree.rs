//! Rank → process → thread → track, the busiest first.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::trace::{Layer, Parent, ProcessId, ThreadId, Trace, TrackId};
use crate::view::text::plain;

/// Index into [`Tree::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A rank of the job.
    Rank(u32),
    /// A process.
    Process(ProcessId),
    /// A thread.
    Thread(ThreadId),
    /// The threads of a process that hardly ever ran.
    Idle(ProcessId),
    /// Tracks of a process that are one thing side by side: requests to a disk.
    Lanes(ProcessId),
    /// A track of slices, or of a counter.
    Track(TrackId),
}

/// A line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it stands for.
    pub kind: NodeKind,
    /// What it hangs under.
    pub parent: Option<NodeId>,
    /// 0 at the top.
    pub level: u8,
    /// What hangs under it, in display order.
    pub children: Vec<NodeId>,
    /// Its label, free of control characters: "rank 3", "python3 812", "torch".
    pub label: String,
    /// The track that says most of what is below, shown while the node is folded: whether the
    /// busiest thread runs or waits.
    pub telling: Option<TrackId>,
}

/// All nodes. A parent comes before its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// In display order.
    pub nodes: Vec<Node>,
    /// Those without a parent, in display order.
    pub roots: Vec<NodeId>,
}

/// Idle threads are gathered from so many on.
const GATHERED: usize = 3;
/// So many ranks, or processes without one, are unfolded at first.
const UNFOLDED: usize = 2;

/// A thread's tracks and what they weigh.
#[derive(Default)]
struct Weighed {
    tracks: Vec<TrackId>,
    /// Slices of all of them.
    slices: usize,
    /// It holds more than its states on and off the CPU.
    tells: bool,
}

impl Tree {
    /// The tree of a recording; tracks without anything on them, and counters that never count,
    /// are left out.
    pub fn of(trace: &Trace) -> Tree {
        Planting::new(trace).plant()
    }

    /// The node of an id.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    /// The node that stands for something.
    pub fn find(&self, kind: NodeKind) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.kind == kind).map(|i| NodeId(i as u32))
    }

    /// The same nodes in a newer tree of the same recording.
    pub fn moved(&self, newer: &Tree, nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let mut nodes = nodes.filter_map(|id| self.get(id)).map(|node| node.kind).peekable();
        if nodes.peek().is_none() {
            return Vec::new();
        }
        let places: FxHashMap<NodeKind, NodeId> =
            newer.nodes.iter().enumerate().map(|(i, node)| (node.kind, NodeId(i as u32))).collect();
        nodes.filter_map(|kind| places.get(&kind).copied()).collect()
    }

    /// What is folded when a recording is opened: processes after the first few, threads that do
    /// nothing but run and wait, idle threads.
    pub fn folded_at_first(&self) -> BTreeSet<NodeId> {
        let mut folded = BTreeSet::new();
        let mut unfolded = 0;
        for (i, node) in self.nodes.iter().enumerate() {
            let id = NodeId(i as u32);
            match node.kind {
                NodeKind::Idle(_) | NodeKind::Lanes(_) => drop(folded.insert(id)),
                NodeKind::Process(_) | NodeKind::Rank(_) if node.parent.is_some() || unfolded >= UNFOLDED => {
                    folded.insert(id);
                }
                NodeKind::Process(_) | NodeKind::Rank(_) => unfolded += 1,
                _ => {}
            }
        }
        folded
    }

    fn add(&mut self, kind: NodeKind, parent: Option<NodeId>, label: String, telling: Option<TrackId>) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        let level = parent.and_then(|p| self.get(p)).map_or(0, |p| p.level + 1);
        self.nodes.push(Node { kind, parent, level, children: Vec::new(), label, telling });
        match parent.and_then(|p| self.nodes.get_mut(p.0 as usize)) {
            Some(parent) => parent.children.push(id),
            None => self.roots.push(id),
        }
        id
    }
}

/// A tree being made.
struct Planting<'t> {
    trace: &'t Trace,
    tree: Tree,
    global: Vec<TrackId>,
    of_process: Vec<Vec<TrackId>>,
    of_thread: Vec<Weighed>,
    threads: Vec<Vec<ThreadId>>,
}

impl<'t> Planting<'t> {
    fn new(trace: &'t Trace) -> Planting<'t> {
        let mut planting = Planting {
            trace,
            tree: Tree::default(),
            global: Vec::new(),
            of_process: vec![Vec::new(); trace.processes.len()],
            of_thread: Vec::new(),
            threads: vec![Vec::new(); trace.processes.len()],
        };
        planting.of_thread.resize_with(trace.threads.len(), Weighed::default);
        for (i, track) in trace.tracks.iter().enumerate() {
            let counts = track.counters.iter().any(|sample| sample.value != 0.0);
            let empty = track.slices.is_empty() && track.instants.is_empty() && !counts;
            if empty || track.layer == Layer::Meta {
                continue;
            }
            let id = TrackId(i as u32);
            match track.parent {
                Parent::Global => planting.global.push(id),
                Parent::Process(p) => match planting.of_process.get_mut(p.0 as usize) {
                    Some(tracks) => tracks.push(id),
                    None => planting.global.push(id),
                },
                Parent::Thread(t) => match planting.of_thread.get_mut(t.0 as usize) {
                    Some(thread) => {
                        thread.tracks.push(id);
                        thread.slices += track.slices.len();
                        thread.tells |= !matches!(track.layer, Layer::Sched | Layer::Syscall | Layer::Io);
                    }
                    None => planting.global.push(id),
                },
            }
        }
        for (t, thread) in trace.threads.iter().enumerate() {
            if !planting.of_thread[t].tracks.is_empty()
                && let Some(threads) = planting.threads.get_mut(thread.process.0 as usize)
            {
                threads.push(ThreadId(t as u32));
            }
        }
        planting
    }

    fn plant(mut self) -> Tree {
        for id in std::mem::take(&mut self.global) {
            self.track(id, None);
        }
        let mut order: Vec<(Option<u32>, Reverse<usize>, usize)> = (0..self.trace.processes.len())
            .filter(|&p| !self.of_process[p].is_empty() || !self.threads[p].is_empty())
            .map(|p| (self.trace.processes[p].rank, Reverse(self.weight(p)), p))
            .collect();
        // Ranks ascending, then what has none; within one, the busiest first.
        order.sort_unstable_by_key(|&(rank, weight, p)| (rank.is_none(), rank, weight, p));
        for group in order.chunk_by(|a, b| a.0.is_some() && a.0 == b.0) {
            let Some((rank, _, first)) = group.first().map(|&(rank, weight, p)| (rank, weight, p)) else { continue };
            let Some(rank) = rank else {
                self.process(first, None);
                continue;
            };
            let telling = self.telling(first);
            // A rank is its main process: no line is spent on both.
            let process = &self.trace.processes[first];
            let label = format!("rank {rank} · {}", named(&process.name, process.pid));
            let node = self.tree.add(NodeKind::Rank(rank), None, label, telling);
            self.inside(first, node);
            for &(_, _, p) in &group[1..] {
                self.process(p, Some(node));
            }
        }
        self.tree
    }

    fn weight(&self, process: usize) -> usize {
        let slices = |id: &TrackId| self.trace.tracks[id.0 as usize].slices.len();
        let own: usize = self.of_process[process].iter().map(slices).sum();
        own + self.threads[process].iter().map(|t| self.of_thread[t.0 as usize].slices).sum::<usize>()
    }

    /// The states of the thread that says most.
    fn telling(&self, process: usize) -> Option<TrackId> {
        let threads = self.threads[process].iter().map(|t| &self.of_thread[t.0 as usize]);
        let thread = threads.max_by_key(|thread| (thread.tells, thread.slices))?;
        self.telling_of(&thread.tracks)
    }

    fn telling_of(&self, tracks: &[TrackId]) -> Option<TrackId> {
        let holds = |id: &&TrackId| !self.trace.tracks[id.0 as usize].slices.is_empty();
        let states = |id: &&TrackId| self.trace.tracks[id.0 as usize].layer == Layer::Sched;
        let with_slices = || tracks.iter().filter(holds);
        with_slices().find(states).or_else(|| with_slices().min_by_key(|id| self.place(**id))).copied()
    }

    fn process(&mut self, p: usize, parent: Option<NodeId>) {
        let process = &self.trace.processes[p];
        let label = named(&process.name, process.pid);
        let node = self.tree.add(NodeKind::Process(ProcessId(p as u32)), parent, label, self.telling(p));
        self.inside(p, node);
    }

    /// What hangs under a process.
    fn inside(&mut self, p: usize, node: NodeId) {
        let mut own = std::mem::take(&mut self.of_process[p]);
        own.sort_by_key(|id| self.place(*id));
        let layer = |id: &TrackId| self.trace.tracks[id.0 as usize].layer;
        let (counters, own): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|id| !self.trace.tracks[id.0 as usize].counters.is_empty());
        // Disks come after the threads, which say what they are used for.
        let (disks, own): (Vec<_>, Vec<_>) = own.into_iter().partition(|id| layer(id) == Layer::Io);
        for id in own {
            self.track(id, Some(node));
        }
        let pid = self.trace.processes[p].pid;
        let mut threads = std::mem::take(&mut self.threads[p]);
        threads.sort_by_key(|t| {
            let thread = &self.of_thread[t.0 as usize];
            let main = self.trace.threads[t.0 as usize].tid == pid;
            (!thread.tells, !main, Reverse(thread.slices), t.0)
        });
        let most = threads.iter().map(|t| self.of_thread[t.0 as usize].slices).max().unwrap_or(0);
        let idle = |t: &ThreadId| {
            let thread = &self.of_thread[t.0 as usize];
            !thread.tells && thread.slices <= (most / 20).max(8)
        };
        let (idle, busy): (Vec<_>, Vec<_>) = threads.into_iter().partition(idle);
        for t in busy {
            self.thread(t, node);
        }
        if idle.len() >= GATHERED {
            let label = format!("{} idle threads", idle.len());
            let gathered = self.tree.add(NodeKind::Idle(ProcessId(p as u32)), Some(node), label, None);
            for t in idle {
                self.thread(t, gathered);
            }
        } else {
            for t in idle {
                self.thread(t, node);
            }
        }
        let disks_under = match disks.first() {
            Some(&first) if disks.len() >= GATHERED => {
                let name = plain(self.trace.text(self.trace.tracks[first.0 as usize].name));
                let label = format!("{name} and {} more", disks.len() - 1);
                self.tree.add(NodeKind::Lanes(ProcessId(p as u32)), Some(node), label, Some(first))
            }
            _ => node,
        };
        for id in disks {
            self.track(id, Some(disks_under));
        }
        for id in counters {
            self.track(id, Some(node));
        }
    }

    fn thread(&mut self, t: ThreadId, parent: NodeId) {
        let thread = &self.trace.threads[t.0 as usize];
        let mut tracks = std::mem::take(&mut self.of_thread[t.0 as usize].tracks);
        tracks.sort_by_key(|id| self.place(*id));
        let label = named(&thread.name, thread.tid);
        let node = self.tree.add(NodeKind::Thread(t), Some(parent), label, self.telling_of(&tracks));
        for id in tracks {
            self.track(id, Some(node));
        }
    }

    fn track(&mut self, id: TrackId, parent: Option<NodeId>) {
        let track = &self.trace.tracks[id.0 as usize];
        let name = self.trace.text(track.name);
        let label = plain(if name.is_empty() { track.layer.name() } else { name });
        let telling = (!track.slices.is_empty()).then_some(id);
        self.tree.add(NodeKind::Track(id), parent, label, telling);
    }

    /// Place of a track among its siblings.
    fn place(&self, id: TrackId) -> (usize, u32) {
        let layer = self.trace.tracks[id.0 as usize].layer;
        (Layer::ALL.iter().position(|l| *l == layer).unwrap_or(usize::MAX), id.0)
    }
}

fn named(name: &str, id: u32) -> String {
    if name.trim().is_empty() { format!("[{id}]") } else { format!("{} {id}", plain(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::testing::{MS, Recording, two_ranks};

    fn drawn(tree: &Tree) -> String {
        let line = |node: &Node| format!("{}{}\n", "  ".repeat(usize::from(node.level)), node.label);
        tree.nodes.iter().map(line).collect()
    }

    #[test]
    fn ranks_hold_processes_threads_and_layers() {
        let tree = Tree::of(&two_ranks().trace());
        insta::assert_snapshot!(drawn(&tree), @r"
        rank 0 · python3 100
          python3 100
            nccl
            torch
            python
            cpu
          cpu
        rank 1 · python3 101
          python3 101
            nccl
            torch
            python
            cpu
          cpu
        ");
    }

    #[test]
    fn idle_threads_are_gathered_and_the_busy_come_first() {
        let mut recording = Recording::new().process(1, "helper", None).process(7, "train", None);
        recording = recording.slice((1, 1), Layer::Sched, "sleep", 0, 10 * MS);
        for tid in 8..12 {
            recording = recording.thread(7, tid, "pool\u{1b}[31m");
            recording = recording.slice((7, tid), Layer::Sched, "futex", 0, 10 * MS);
        }
        recording = recording.slice((7, 7), Layer::Sched, "running", 0, 5 * MS);
        recording = recording.slice((7, 7), Layer::Python, "main", 0, 10 * MS);
        let tree = Tree::of(&recording.trace());
        insta::assert_snapshot!(drawn(&tree), @r"
        train 7
          [7]
            python
            cpu
          4 idle threads
            pool?[31m 8
              cpu
            pool?[31m 9
              cpu
            pool?[31m 10
              cpu
            pool?[31m 11
              cpu
        helper 1
          [1]
            cpu
        ");
        let folded: Vec<_> = tree.folded_at_first().iter().map(|id| tree.nodes[id.0 as usize].label.clone()).collect();
        assert_eq!(folded, ["4 idle threads"]);
    }

    #[test]
    fn nodes_are_found_again_in_a_newer_tree() {
        let old = Tree::of(&two_ranks().trace());
        let newer =
            Tree::of(&two_ranks().process(1, "first", None).slice((1, 1), Layer::Sched, "running", 0, MS).trace());
        let ranks = [old.find(NodeKind::Rank(0)).unwrap(), old.find(NodeKind::Rank(1)).unwrap()];
        let moved = old.moved(&newer, ranks.into_iter());
        assert_eq!(moved, [newer.find(NodeKind::Rank(0)).unwrap(), newer.find(NodeKind::Rank(1)).unwrap()]);
    }
}
