//! Rank → process → thread → track.

use std::collections::BTreeMap;

use crate::trace::{Layer, Parent, ProcessId, ThreadId, Trace, TrackId};

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
}

/// All nodes. A parent comes before its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// In display order.
    pub nodes: Vec<Node>,
    /// Those without a parent, in display order.
    pub roots: Vec<NodeId>,
}

impl Tree {
    /// The tree of a recording; tracks without anything on them are left out.
    pub fn of(trace: &Trace) -> Tree {
        let mut tree = Tree::default();
        let mut by_process: BTreeMap<ProcessId, Vec<TrackId>> = BTreeMap::new();
        let mut by_thread: BTreeMap<ThreadId, Vec<TrackId>> = BTreeMap::new();
        let mut global = Vec::new();
        for (i, track) in trace.tracks.iter().enumerate() {
            let empty = track.slices.is_empty() && track.counters.is_empty() && track.instants.is_empty();
            if empty || track.layer == Layer::Meta {
                continue;
            }
            let id = TrackId(i as u32);
            match track.parent {
                Parent::Global => global.push(id),
                Parent::Process(p) => by_process.entry(p).or_default().push(id),
                Parent::Thread(t) => by_thread.entry(t).or_default().push(id),
            }
        }
        for id in global {
            tree.track(trace, id, None);
        }
        for (p, process) in trace.processes.iter().enumerate() {
            let p = ProcessId(p as u32);
            let label = format!("{} {}", crate::view::text::plain(&process.name), process.pid);
            let node = tree.add(NodeKind::Process(p), None, label);
            for id in by_process.remove(&p).unwrap_or_default() {
                tree.track(trace, id, Some(node));
            }
            for (t, thread) in trace.threads.iter().enumerate().filter(|(_, t)| t.process == p) {
                let Some(tracks) = by_thread.remove(&ThreadId(t as u32)) else { continue };
                let label = format!("{} {}", crate::view::text::plain(&thread.name), thread.tid);
                let node = tree.add(NodeKind::Thread(ThreadId(t as u32)), Some(node), label);
                for id in tracks {
                    tree.track(trace, id, Some(node));
                }
            }
        }
        tree
    }

    /// The node of an id.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    fn add(&mut self, kind: NodeKind, parent: Option<NodeId>, label: String) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        let level = parent.and_then(|p| self.get(p)).map_or(0, |p| p.level + 1);
        self.nodes.push(Node { kind, parent, level, children: Vec::new(), label });
        match parent.and_then(|p| self.nodes.get_mut(p.0 as usize)) {
            Some(parent) => parent.children.push(id),
            None => self.roots.push(id),
        }
        id
    }

    fn track(&mut self, trace: &Trace, id: TrackId, parent: Option<NodeId>) {
        let name = trace.tracks.get(id.0 as usize).map_or("", |t| trace.text(t.name));
        self.add(NodeKind::Track(id), parent, crate::view::text::plain(name));
    }
}
