//! Rank → process → thread → track, the busiest first.

mod planting;

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use planting::Planting;

use crate::trace::{ProcessId, ThreadId, Trace, TrackId};

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

/// So many ranks, or processes without one, are unfolded at first.
const UNFOLDED: usize = 2;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{CaptureMeta, Layer};
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
          main thread
            nccl
            torch
            python
            cpu
          cpu
        rank 1 · python3 101
          main thread
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
          main thread
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
          main thread
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

    #[test]
    fn what_was_recorded_comes_before_its_busier_children() {
        let mut recording = Recording::new().process(8, "worker", None).process(7, "train", None);
        for i in 0..9 {
            recording = recording.slice((8, 8), Layer::Python, "load", i * MS, MS);
        }
        recording = recording.slice((7, 7), Layer::Python, "main", 0, 9 * MS);
        recording = recording.meta(&CaptureMeta { targets: vec![7], ..CaptureMeta::default() });
        let tree = Tree::of(&recording.trace());
        let roots: Vec<&str> = tree.roots.iter().map(|id| tree.nodes[id.0 as usize].label.as_str()).collect();
        assert_eq!(roots, ["train 7", "worker 8"]);
    }
}
