//! The rows of the body: the tree after folds, pins and filters.

use super::State;
use crate::trace::{Layer, Track, TrackId, TrackIndex};
use crate::tui::scene::{Node, NodeId, NodeKind, SliceRef, Window};

/// Depths a track shows before it is expanded.
pub const FEW_DEPTHS: usize = 4;

/// One row of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its node in the tree. A thread's line shows the thread's states, a process's its CPU use:
    /// look at the node for what the line is, and at `kind` for what is drawn in it.
    pub node: NodeId,
    /// What is drawn in it.
    pub kind: LineKind,
}

/// What a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// A rank, process or thread that has nothing of its own to draw.
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
        let was_pinned = self.line < self.pinned_lines;
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
        // Among the others rather than its copy among the pinned, unless that was chosen.
        let others = if was_pinned { 0 } else { self.pinned_lines };
        let find =
            |from: usize, what: &dyn Fn(&Line) -> bool| lines.iter().skip(from).position(what).map(|at| from + at);
        let at = find(others, &same).or_else(|| find(others, &near)).or_else(|| find(0, &near));
        self.line = at.unwrap_or(self.line).min(lines.len().saturating_sub(1));
        self.top = self.top.clamp(self.pinned_lines.min(lines.len()), lines.len().max(1) - 1);
        self.lines = lines;
    }

    /// The line that shows a slice, or the nearest depth of its track; pinned lines last, as
    /// the others can be scrolled to.
    pub fn line_of(&self, slice: SliceRef) -> Option<usize> {
        let depth = self.scene.slice(slice)?.depth;
        let pinned = |i: usize| i < self.pinned_lines;
        let on_track = |(i, line): (usize, &Line)| match line.kind {
            LineKind::Depth(track, d) if track == slice.track => Some((depth.abs_diff(d), pinned(i), i)),
            _ => None,
        };
        self.lines.iter().enumerate().filter_map(on_track).min().map(|(_, _, i)| i)
    }

    /// Whether a node holds more than its own line shows.
    pub fn has_more(&self, line: &Line) -> bool {
        let Some(node) = self.scene.tree.get(line.node) else { return false };
        node.children.iter().any(|child| !self.is_own(*child, line.kind))
    }

    /// Whether a child is what its parent's own line shows.
    fn is_own(&self, child: NodeId, kind: LineKind) -> bool {
        match (self.scene.tree.get(child).map(|node| node.kind), kind) {
            (Some(NodeKind::Track(track)), LineKind::Depth(own, _) | LineKind::Counter(own)) => track == own,
            _ => false,
        }
    }

    /// Depths of a track that are not shown; 0 for one that shows all.
    pub fn depths_left_out(&self, node: NodeId, track: TrackId) -> usize {
        let depths = self.scene.index.get(track.0 as usize).map_or(0, TrackIndex::depths);
        depths.saturating_sub(self.few(node, depths))
    }

    fn few(&self, node: NodeId, depths: usize) -> usize {
        if self.folded.contains(&node) {
            1
        } else if self.expanded.contains(&node) {
            depths
        } else {
            FEW_DEPTHS.min(depths)
        }
    }

    fn walk(&self, id: NodeId, lines: &mut Vec<Line>) {
        let Some(node) = self.scene.tree.get(id).filter(|node| self.let_through(node)) else { return };
        if let NodeKind::Track(track) = node.kind {
            return self.track(id, track, lines);
        }
        let own = self.own(id, node);
        let kind = own.unwrap_or(LineKind::Header);
        lines.push(Line { node: id, kind });
        if self.folded.contains(&id) {
            return;
        }
        for child in &node.children {
            // What the node's own line shows needs no other.
            let shown = self.is_own(*child, kind);
            if !shown {
                self.walk(*child, lines);
            }
        }
    }

    /// From the first step to the last, of the first thread that has steps.
    fn steps(&self) -> Option<Window> {
        let bounds = self.scene.steps.iter().map(|steps| &steps.boundaries_ns).find(|bounds| bounds.len() > 1)?;
        Some(Window::new(*bounds.first()?, *bounds.last()?))
    }

    fn data(&self, track: TrackId) -> Option<&Track> {
        self.scene.trace.tracks.get(track.0 as usize)
    }

    /// Whether the filter leaves a node in the picture.
    fn let_through(&self, node: &Node) -> bool {
        match node.kind {
            NodeKind::Rank(rank) => self.filter.ranks.is_empty() || self.filter.ranks.contains(&rank),
            NodeKind::Process(_) => node.parent.is_some() || self.filter.ranks.is_empty(),
            NodeKind::Track(track) => self.data(track).is_some_and(|t| !self.filter.hidden.contains(&t.layer)),
            NodeKind::Thread(_) | NodeKind::Idle(_) | NodeKind::Lanes(_) => true,
        }
    }

    /// What is drawn in the line of a rank, process or thread itself.
    fn own(&self, id: NodeId, node: &Node) -> Option<LineKind> {
        let folded = self.folded.contains(&id);
        let shown = |track: &TrackId| self.data(*track).is_some_and(|t| !self.filter.hidden.contains(&t.layer));
        let telling = || {
            let track = node.telling.filter(shown)?;
            let index = self.scene.index.get(track.0 as usize).filter(|index| index.depths() > 0)?;
            let states = matches!(self.data(track)?.layer, Layer::Sched | Layer::Io);
            let depth = if states { 0 } else { telling_depths(index, self.data(track)?, 1, self.steps()) };
            Some((LineKind::Depth(track, depth as u16), states))
        };
        match node.kind {
            // What the judge says of the thread that drives it is drawn there.
            NodeKind::Rank(_) | NodeKind::Process(_) if self.scene.driver(node).is_some() => None,
            NodeKind::Thread(_) => telling().filter(|(_, states)| *states || folded).map(|(kind, _)| kind),
            _ if folded => telling().map(|(kind, _)| kind),
            NodeKind::Rank(_) | NodeKind::Process(_) => {
                let counter = |id: &NodeId| match self.scene.tree.get(*id)?.kind {
                    NodeKind::Track(track) => {
                        let data = self.data(track)?;
                        let named = self.scene.trace.text(data.name) == "cpu";
                        (named && !data.counters.is_empty() && shown(&track)).then_some(LineKind::Counter(track))
                    }
                    _ => None,
                };
                node.children.iter().rev().find_map(counter)
            }
            NodeKind::Idle(_) | NodeKind::Lanes(_) | NodeKind::Track(_) => None,
        }
    }

    fn track(&self, id: NodeId, track: TrackId, lines: &mut Vec<Line>) {
        let Some(data) = self.data(track) else { return };
        if !data.counters.is_empty() {
            return lines.push(Line { node: id, kind: LineKind::Counter(track) });
        }
        let index = self.scene.index.get(track.0 as usize).filter(|index| index.depths() > 0);
        let Some(index) = index else {
            if !data.instants.is_empty() {
                lines.push(Line { node: id, kind: LineKind::Instants(track) });
            }
            return;
        };
        let few = self.few(id, index.depths());
        let first = telling_depths(index, data, few, self.steps());
        for depth in first..(first + few).min(index.depths()) {
            lines.push(Line { node: id, kind: LineKind::Depth(track, depth.min(usize::from(u16::MAX)) as u16) });
        }
    }
}

/// The first of `few` depths in a row that tell most: those that change often and still cover
/// much of the time. The outer frames of a program change never, its innermost are seldom there.
/// Looks at `steps` where there are some: how a program starts is not what it is about.
fn telling_depths(index: &TrackIndex, track: &Track, few: usize, steps: Option<Window>) -> usize {
    let depths = index.depths();
    let row = index.row(0);
    let edges = row
        .first()
        .zip(row.last())
        .and_then(|(a, b)| Some((track.slices.get(*a as usize)?.start_ns, track.slices.get(*b as usize)?.end_ns())));
    let Some((mut from, mut to)) = edges.filter(|_| few < depths) else { return 0 };
    if let Some(steps) = steps.filter(|steps| steps.from_ns < to && steps.to_ns > from) {
        (from, to) = (from.max(steps.from_ns), to.min(steps.to_ns));
    }
    let to = to.max(from + 1);
    let scores: Vec<f64> = (0..depths)
        .map(|depth| {
            let cell = index.cell(track, depth, from, to);
            let longest = track.slices.get(cell.longest as usize).filter(|_| cell.count > 1);
            let Some(longest) = longest else { return 0.0 };
            let inside = longest.end_ns().min(to).saturating_sub(longest.start_ns.max(from));
            let share = cell.busy_ns as f64 / (to - from) as f64;
            let even = 1.0 - inside as f64 / cell.busy_ns.max(1) as f64;
            share.powi(2) * even.max(0.0) * f64::from(cell.count).log2().min(6.0)
        })
        .collect();
    let mut best = (0, 0.0);
    for (first, scores) in scores.windows(few.max(1)).enumerate() {
        let sum: f64 = scores.iter().sum();
        if sum > best.1 * 1.000_001 {
            best = (first, sum);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::testing::{MS, Recording, two_ranks};

    fn drawn(state: &State) -> Vec<String> {
        let text = |line: &Line| {
            let label = &state.scene.tree.get(line.node).unwrap().label;
            match line.kind {
                LineKind::Header => label.clone(),
                LineKind::Depth(_, depth) => format!("{label} {depth}"),
                LineKind::Counter(_) => format!("{label} counter"),
                LineKind::Instants(_) => format!("{label} instants"),
            }
        };
        state.lines.iter().map(text).collect()
    }

    #[test]
    fn a_thread_shows_its_states_in_its_own_line() {
        let mut state = two_ranks().state(80, 24);
        let first = ["rank 0 · python3 100 counter", "main thread 0", "nccl 0", "torch 0", "torch 1", "python 0"];
        assert_eq!(drawn(&state)[..6], first);
        state.filter.hidden.insert(Layer::Sched);
        state.rebuild_lines();
        assert_eq!(drawn(&state)[1..3], ["main thread", "nccl 0"]);
        state.folded.insert(state.scene.tree.roots[0]);
        state.filter = Default::default();
        state.rebuild_lines();
        assert_eq!(drawn(&state)[..2], ["rank 0 · python3 100 0", "rank 1 · python3 101 counter"]);
        state.filter.ranks.insert(1);
        state.rebuild_lines();
        assert_eq!(drawn(&state)[0], "rank 1 · python3 101 counter");
    }

    #[test]
    fn depths_that_never_change_are_passed_over() {
        let mut recording = Recording::new().process(1, "python3", None);
        for outer in 0..6 {
            recording = recording.slice((1, 1), Layer::Python, &format!("outer {outer}"), outer, 100 * MS);
        }
        for step in 0..9 {
            recording = recording
                .slice((1, 1), Layer::Python, "step", (1 + step * 10) * MS, 9 * MS)
                .slice((1, 1), Layer::Python, "forward", (1 + step * 10) * MS, 5 * MS)
                .slice((1, 1), Layer::Python, "linear", (2 + step * 10) * MS, 2 * MS)
                .slice((1, 1), Layer::Python, "matmul", (2 + step * 10) * MS, MS)
                .slice((1, 1), Layer::Python, "inner", (2 + step * 10) * MS, 1000);
        }
        let mut state = recording.state(80, 24);
        assert_eq!(drawn(&state)[2..], ["python 6", "python 7", "python 8", "python 9"]);
        let node = state.lines[2].node;
        assert_eq!(state.depths_left_out(node, TrackId(0)), 7);
        state.expanded.insert(node);
        state.rebuild_lines();
        assert_eq!(drawn(&state).len(), 13);
        assert_eq!(state.depths_left_out(node, TrackId(0)), 0);
    }
}
