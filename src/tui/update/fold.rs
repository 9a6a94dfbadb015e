//! Folding, pinning and ordering nodes of the tree.

use crate::tui::scene::{NodeId, NodeKind};
use crate::tui::state::State;

impl State {
    /// The chosen line's node.
    pub fn chosen_node(&self) -> Option<NodeId> {
        self.lines.get(self.line).map(|line| line.node)
    }

    /// Folds or unfolds the chosen node; a track of one row folds what it hangs under.
    pub(super) fn toggle_fold(&mut self) {
        let Some(id) = self.chosen_node() else { return };
        let Some(node) = self.scene.tree.get(id) else { return };
        let flat = match node.kind {
            NodeKind::Track(track) => self.scene.index.get(track.0 as usize).is_none_or(|index| index.depths() < 2),
            _ => false,
        };
        let id = if flat { node.parent.unwrap_or(id) } else { id };
        if !self.folded.remove(&id) {
            self.folded.insert(id);
        }
        self.relist(id);
    }

    /// Folds all ranks, processes and threads.
    pub(super) fn fold_all(&mut self) {
        let nodes = self.scene.tree.nodes.iter().enumerate();
        let parents = nodes.filter(|(_, node)| !node.children.is_empty());
        self.folded = parents.map(|(i, _)| NodeId(i as u32)).collect();
        self.relist_chosen();
    }

    /// Unfolds everything.
    pub(super) fn unfold_all(&mut self) {
        self.folded.clear();
        self.relist_chosen();
    }

    /// Shows all depths of the chosen track, or of all tracks below the chosen node; or the
    /// first few again.
    pub(super) fn toggle_depths(&mut self) {
        let Some(id) = self.chosen_node() else { return };
        let tracks = self.tracks_below(id);
        let all = tracks.iter().all(|track| self.expanded.contains(track));
        for track in tracks {
            if all {
                self.expanded.remove(&track);
            } else {
                self.expanded.insert(track);
                self.folded.remove(&track);
            }
        }
        self.relist(id);
    }

    /// Pins the chosen node to the top, or unpins it.
    pub(super) fn toggle_pin(&mut self) {
        let Some(id) = self.chosen_node() else { return };
        match self.pinned.iter().position(|pinned| *pinned == id) {
            Some(at) => {
                self.pinned.remove(at);
            }
            None => self.pinned.push(id),
        }
        self.relist(id);
    }

    /// Unpins all.
    pub(super) fn unpin_all(&mut self) {
        self.pinned.clear();
        self.relist_chosen();
    }

    /// Moves the chosen node before or behind the one beside it: among the pinned where its
    /// pinned copy is chosen, else among those under the same parent.
    pub(super) fn reorder(&mut self, down: bool) {
        let Some(id) = self.chosen_node() else { return };
        if self.line < self.pinned_lines {
            let Some(top) = self.pinned_above(id) else { return };
            swap_beside(&mut self.pinned, top, down, |_| true);
            self.rebuild_lines();
            self.line = self.lines.iter().position(|line| line.node == id).unwrap_or(self.line);
            return;
        }
        let lines = &self.lines;
        let siblings = match self.scene.tree.get(id).and_then(|node| node.parent) {
            Some(parent) => self.scene.tree.nodes.get_mut(parent.0 as usize).map(|node| &mut node.children),
            None => Some(&mut self.scene.tree.roots),
        };
        if let Some(siblings) = siblings {
            swap_beside(siblings, id, down, |id| lines.iter().any(|line| line.node == *id));
        }
        self.relist(id);
    }

    /// Tracks at or below a node.
    pub(super) fn tracks_below(&self, id: NodeId) -> Vec<NodeId> {
        let (mut open, mut tracks) = (vec![id], Vec::new());
        while let Some(id) = open.pop() {
            let Some(node) = self.scene.tree.get(id) else { continue };
            if matches!(node.kind, NodeKind::Track(_)) {
                tracks.push(id);
            }
            open.extend(&node.children);
        }
        tracks
    }

    /// The pinned node that a node is shown under.
    fn pinned_above(&self, id: NodeId) -> Option<NodeId> {
        let mut node = Some(id);
        while let Some(id) = node {
            if self.pinned.contains(&id) {
                return Some(id);
            }
            node = self.scene.tree.get(id).and_then(|node| node.parent);
        }
        None
    }

    pub(super) fn relist_chosen(&mut self) {
        if let Some(id) = self.chosen_node() {
            self.relist(id);
        }
    }

    /// Makes the lines anew and chooses a node's, or the nearest above it.
    fn relist(&mut self, id: NodeId) {
        let kind = self.lines.get(self.line).map(|line| line.kind);
        self.rebuild_lines();
        let same = |line: &crate::tui::state::Line| line.node == id && Some(line.kind) == kind;
        let below = self.lines.iter().skip(self.pinned_lines).position(same);
        match below {
            Some(line) => self.line = line + self.pinned_lines,
            None => self.choose_node(id),
        }
    }
}

/// Swaps an item with the nearest before or behind it that counts.
fn swap_beside(list: &mut [NodeId], id: NodeId, down: bool, counts: impl Fn(&NodeId) -> bool) {
    let Some(at) = list.iter().position(|item| *item == id) else { return };
    let beside = if down {
        list.iter().skip(at + 1).position(counts).map(|i| at + 1 + i)
    } else {
        list.iter().take(at).rposition(counts)
    };
    if let Some(beside) = beside {
        let (low, high) = (at.min(beside), at.max(beside));
        // What is hidden between them stays where it is.
        list.swap(low, high);
    }
}
