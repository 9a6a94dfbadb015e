//! What the user sees stays where it is while the recording grows: the selected slice, what is
//! folded and pinned, the chosen line.

use crate::trace::Batch;
use crate::tui::scene::{NodeId, SliceRef, Tree};
use crate::tui::state::{Finder, State};

impl State {
    /// Adds what a capture has seen.
    pub(super) fn grow(&mut self, batch: Batch) {
        let old_bounds = self.scene.bounds;
        let selected = self.selected.and_then(|at| Some((at, *self.scene.slice(at)?)));
        let dropped = batch.dropped() > 0;
        let grown = self.scene.grow(batch);
        let changes = &grown.changes;
        let moved = |at: SliceRef| Some(SliceRef { index: changes.moved(at.track, at.index)?, ..at });
        self.selected = selected.and_then(|(at, slice)| {
            let same = |at: &SliceRef| {
                self.scene.slice(*at).is_some_and(|now| (now.start_ns, now.name) == (slice.start_ns, slice.name))
            };
            moved(at).filter(same).or_else(|| self.scene.find_slice(at.track, slice.start_ns, slice.name))
        });
        if let Some(search) = &mut self.search {
            search.grown(changes);
        }
        if let Some(live) = &mut self.live {
            live.forgot |= changes.forgot || dropped;
        }
        if let Some(old) = &grown.old_tree {
            self.move_nodes(old);
        }
        if grown.old_tree.is_some() || grown.depths {
            self.rebuild_lines();
        }
        self.grown(old_bounds);
    }

    /// Nodes have other numbers in a new tree.
    fn move_nodes(&mut self, old: &Tree) {
        let new = &self.scene.tree;
        self.folded = old.moved(new, self.folded.iter().copied()).into_iter().collect();
        self.expanded = old.moved(new, self.expanded.iter().copied()).into_iter().collect();
        self.pinned = old.moved(new, self.pinned.iter().copied());
        // What is new is folded as it would be in a recording just opened.
        let known: std::collections::BTreeSet<NodeId> =
            old.moved(new, (0..old.nodes.len()).map(|i| NodeId(i as u32))).into_iter().collect();
        self.folded.extend(new.folded_at_first().difference(&known));
        if !self.finder.hits.is_empty() || self.finder.next.is_some() {
            self.finder = Finder { hits: Vec::new(), next: Some(0) };
        }
        if let Some(line) = self.lines.get_mut(self.line)
            && let Some(&node) = old.moved(new, std::iter::once(line.node)).first()
        {
            line.node = node;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Event, Layer, LiveFeed, LiveSink, Sink, SliceEvent, TrackDef, TrackRef, live};
    use crate::tui::scene::{NodeKind, Scene};
    use crate::tui::state::{Live, Size};
    use crate::tui::{Msg, update};

    const MS: u64 = 1_000_000;

    fn start() -> (State, LiveSink, LiveFeed) {
        let mut state = State::new(Scene::default(), "live", Size { columns: 80, rows: 24 });
        state.live = Some(Live { follows: true, ..Live::default() });
        let (sink, feed) = live(100_000);
        (state, sink, feed)
    }

    fn take(state: &mut State, feed: &LiveFeed) {
        if let Some(batch) = feed.take() {
            update(state, Msg::Grow(Box::new(batch)));
        }
        // All that is kept up to date is as it would be made afresh.
        let fresh = Scene::new(state.scene.trace.clone());
        assert_eq!(fresh.tree, state.scene.tree);
        assert_eq!(fresh.classes, state.scene.classes);
        let bounds = state.bounds();
        assert!(bounds.from_ns <= state.view.from_ns && state.view.to_ns <= bounds.to_ns);
        let shown: Vec<_> = state.lines.clone();
        state.rebuild_lines();
        assert_eq!(shown, state.lines);
    }

    fn track(sink: &mut LiveSink, pid: u32, layer: Layer) -> TrackRef {
        sink.process(pid, "python3", None, Some(pid)).unwrap();
        let def = TrackDef { pid: Some(pid), tid: Some(pid), name: layer.name(), layer, counter_unit: None };
        sink.track(def).unwrap()
    }

    fn slice(sink: &mut LiveSink, track: TrackRef, name: &str, from: u64, to: u64) {
        let slice =
            SliceEvent { start_ns: from * MS, dur_ns: (to - from) * MS, name, args: &[], flow: 0, estimate: false };
        sink.slice(track, &slice).unwrap();
    }

    #[test]
    fn the_selected_slice_stays_when_its_parent_comes_late() {
        let (mut state, mut sink, feed) = start();
        let torch = track(&mut sink, 1, Layer::Torch);
        slice(&mut sink, torch, "aten::t", 1, 2);
        slice(&mut sink, torch, "aten::mm", 3, 4);
        take(&mut state, &feed);
        let at = state.scene.find_slice(
            crate::trace::TrackId(0),
            3 * MS,
            state.scene.trace.strings.find("aten::mm").unwrap(),
        );
        state.selected = at;
        slice(&mut sink, torch, "aten::linear", 0, 5);
        take(&mut state, &feed);
        let selected = state.selected.unwrap();
        assert_eq!((state.scene.name(selected), selected.index), ("aten::mm", 2));
        assert_eq!(state.scene.slice(selected).unwrap().depth, 1);
    }

    #[test]
    fn folds_and_pins_stay_with_their_nodes_when_others_appear() {
        let (mut state, mut sink, feed) = start();
        let second = track(&mut sink, 2, Layer::Torch);
        slice(&mut sink, second, "aten::mm", 1, 2);
        take(&mut state, &feed);
        let of = |state: &State, rank| state.scene.tree.find(NodeKind::Rank(rank)).unwrap();
        let node = of(&state, 2);
        state.folded = [node].into();
        state.pinned = vec![node];
        state.rebuild_lines();
        // A rank that comes before it.
        let first = track(&mut sink, 1, Layer::Torch);
        slice(&mut sink, first, "aten::mm", 2, 3);
        take(&mut state, &feed);
        assert_ne!(of(&state, 2), node);
        assert_eq!(state.pinned, [of(&state, 2)]);
        assert!(state.folded.contains(&of(&state, 2)) && !state.folded.contains(&of(&state, 1)));
    }

    #[test]
    fn the_picture_moves_by_whole_columns() {
        let (mut state, mut sink, feed) = start();
        let python = track(&mut sink, 1, Layer::Python);
        sink.begin(python, &Event { ts_ns: 0, name: "main", args: &[] }).unwrap();
        for n in 0..400 {
            slice(&mut sink, python, "step", n * 100, n * 100 + 73);
            take(&mut state, &feed);
        }
        // Ten seconds of the forty.
        let columns = u64::from(super::super::areas(&state).body.width);
        let view = state.view;
        assert_eq!(view.len_ns() % columns, 0);
        assert_eq!(view.from_ns % (view.len_ns() / columns), 0);
        assert!(state.bounds().to_ns - view.to_ns <= view.len_ns() / columns);
        // Frozen, it stays.
        state.live.as_mut().unwrap().follows = false;
        slice(&mut sink, python, "step", 50_000, 50_001);
        take(&mut state, &feed);
        assert_eq!(state.view, view);
    }
}
