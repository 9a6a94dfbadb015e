//! The rows of the body: the tree after folds, pins and filters.

use super::State;
use crate::trace::TrackId;
use crate::tui::scene::{NodeId, NodeKind};

/// Depths a track shows before it is expanded.
pub const FEW_DEPTHS: usize = 4;

/// One row of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its node in the tree.
    pub node: NodeId,
    /// What is drawn in it.
    pub kind: LineKind,
}

/// What a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// A rank, process or thread: its label, and a summary of what is below it.
    Header,
    /// One depth of a track of slices.
    Depth(TrackId, u16),
    /// A counter.
    Counter(TrackId),
    /// Points in time, on a track that has nothing else.
    Instants(TrackId),
}

impl State {
    /// Makes `lines` anew after the tree, a fold, a pin or a filter changed. The chosen line
    /// stays with its node where that is still there.
    pub fn rebuild_lines(&mut self) {
        let chosen = self.lines.get(self.line).copied();
        let mut lines = Vec::new();
        for node in self.pinned.clone() {
            self.walk(node, &mut lines);
        }
        self.pinned_lines = lines.len();
        for node in self.scene.tree.roots.clone() {
            self.walk(node, &mut lines);
        }
        let same = |line: &Line| Some(line) == chosen.as_ref();
        let near = |line: &Line| chosen.is_some_and(|c| c.node == line.node);
        let at = lines.iter().position(same).or_else(|| lines.iter().position(near));
        self.line = at.unwrap_or(self.line).min(lines.len().saturating_sub(1));
        self.top = self.top.clamp(self.pinned_lines.min(lines.len()), lines.len().max(1) - 1);
        self.lines = lines;
    }

    fn walk(&self, id: NodeId, lines: &mut Vec<Line>) {
        let Some(node) = self.scene.tree.get(id) else { return };
        let NodeKind::Track(track) = node.kind else {
            lines.push(Line { node: id, kind: LineKind::Header });
            if !self.folded.contains(&id) {
                for child in &node.children {
                    self.walk(*child, lines);
                }
            }
            return;
        };
        let Some(data) = self.scene.trace.tracks.get(track.0 as usize) else { return };
        if self.filter.hidden.contains(&data.layer) {
            return;
        }
        if !data.counters.is_empty() {
            return lines.push(Line { node: id, kind: LineKind::Counter(track) });
        }
        let depths = self.scene.index.get(track.0 as usize).map_or(0, |index| index.depths());
        if depths == 0 {
            return lines.push(Line { node: id, kind: LineKind::Instants(track) });
        }
        let few = if self.folded.contains(&id) {
            1
        } else if self.expanded.contains(&id) {
            depths
        } else {
            FEW_DEPTHS
        };
        for depth in 0..depths.min(few) {
            lines.push(Line { node: id, kind: LineKind::Depth(track, depth as u16) });
        }
    }
}
