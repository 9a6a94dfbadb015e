//! Choosing lines and slices.

use crate::tui::scene::{NodeId, NodeKind, SliceRef, Window};
use crate::tui::state::{LineKind, State};

impl State {
    /// The stretch of a slice, at least a nanosecond.
    pub fn slice_window(&self, at: SliceRef) -> Option<Window> {
        self.scene.slice(at).map(|slice| Window::new(slice.start_ns, slice.end_ns()))
    }

    /// Jumps to a slice: unfolds to its line, selects it and brings it into view.
    pub fn go_to(&mut self, at: SliceRef) {
        let Some(slice) = self.scene.slice(at).copied() else {
            return self.complain("this slice is not in view any more: the oldest were let go to save memory");
        };
        let stretch = Window::new(slice.start_ns, slice.end_ns());
        self.choose_depth(at, slice.depth);
        self.selected = Some(at);
        self.panel_row = 0;
        self.reveal(stretch);
        self.cursor_into(stretch);
    }

    /// Selects a slice of the chosen line and puts the cursor into it.
    pub(super) fn select(&mut self, at: SliceRef) {
        let Some(stretch) = self.slice_window(at) else { return };
        self.stop_following();
        self.selected = Some(at);
        self.panel_row = 0;
        if let Some(view) = self.revealing(stretch) {
            self.nudge(view);
        }
        self.cursor_into(stretch);
    }

    /// Goes up or down by lines; the slice under the cursor is selected there.
    pub(super) fn move_line(&mut self, by: isize) {
        let last = self.lines.len().saturating_sub(1);
        let line = self.line.saturating_add_signed(by).min(last);
        if line != self.line {
            self.line = line;
            self.select_under_cursor();
        }
    }

    /// Selects what is under the cursor on the chosen line, or nothing.
    pub(super) fn select_under_cursor(&mut self) {
        let columns = usize::from(super::areas(self).body.width).max(1);
        let column = self.column_window(self.column_of(self.cursor_ns, columns), columns);
        self.selected = self.slice_at(self.line, self.cursor_ns).or_else(|| self.longest_in(self.line, column));
        self.panel_row = 0;
    }

    /// The slice of a line that covers a moment.
    pub(super) fn slice_at(&self, line: usize, ts_ns: u64) -> Option<SliceRef> {
        let LineKind::Depth(track, depth) = self.lines.get(line)?.kind else { return None };
        let (at, data) = (track.0 as usize, self.scene.trace.tracks.get(track.0 as usize)?);
        let index = self.scene.index.get(at)?.at(data, usize::from(depth), ts_ns)?;
        Some(SliceRef { track, index })
    }

    /// The longest slice of a line that touches a stretch.
    pub(super) fn longest_in(&self, line: usize, stretch: Window) -> Option<SliceRef> {
        let LineKind::Depth(track, depth) = self.lines.get(line)?.kind else { return None };
        let data = self.scene.trace.tracks.get(track.0 as usize)?;
        let mut cells = Vec::with_capacity(1);
        let index = self.scene.index.get(track.0 as usize)?;
        index.cells(data, usize::from(depth), stretch.from_ns, stretch.to_ns, 1, &mut cells);
        let cell = cells.first().filter(|cell| cell.count > 0)?;
        Some(SliceRef { track, index: cell.longest })
    }

    /// Goes to the next or the previous slice, point or value of the chosen line; on a line
    /// without any, the cursor moves by a column.
    pub(super) fn step_along(&mut self, later: bool) {
        let Some(line) = self.lines.get(self.line) else { return };
        let cursor = self.cursor_ns;
        let (track, depth) = match line.kind {
            LineKind::Depth(track, depth) => (track, depth),
            LineKind::Instants(track) => {
                let points = self.scene.trace.tracks.get(track.0 as usize).map_or(&[][..], |t| &t.instants);
                let next = beside(points, |point| point.ts_ns, cursor, later);
                return self.step_to_moment(next, later);
            }
            LineKind::Counter(track) => {
                let values = self.scene.trace.tracks.get(track.0 as usize).map_or(&[][..], |t| &t.counters);
                let next = beside(values, |value| value.ts_ns, cursor, later);
                return self.step_to_moment(next, later);
            }
            LineKind::Header => {
                let columns = u64::from(super::areas(self).body.width).max(1);
                let by = (self.view.len_ns() / columns).max(1);
                let bounds = self.bounds();
                let to = if later { cursor.saturating_add(by) } else { cursor.saturating_sub(by) };
                return self.step_to_moment(Some(to.clamp(bounds.from_ns, bounds.to_ns - 1)), later);
            }
        };
        let (Some(index), Some(data)) =
            (self.scene.index.get(track.0 as usize), self.scene.trace.tracks.get(track.0 as usize))
        else {
            return;
        };
        let row = index.row(usize::from(depth));
        let start = |i: &u32| data.slices.get(*i as usize).map_or(0, |s| s.start_ns);
        let here = self.selected.filter(|at| at.track == track).and_then(|at| row.binary_search(&at.index).ok());
        let next = match (here, later) {
            (Some(i), true) => i.checked_add(1),
            (Some(i), false) => i.checked_sub(1),
            (None, true) => Some(row.partition_point(|i| start(i) < cursor)),
            (None, false) => row.partition_point(|i| start(i) <= cursor).checked_sub(1),
        };
        match next.and_then(|next| row.get(next)) {
            Some(&index) => self.select(SliceRef { track, index }),
            None => self.say(if later { "no later slice on this row" } else { "no earlier slice on this row" }),
        }
    }

    /// Centres the selected slice, or else the range; once it is centred, fits it to the screen.
    pub(super) fn fit(&mut self) {
        let Some(stretch) = self.selected.and_then(|at| self.slice_window(at)).or(self.range) else {
            return self.say("nothing to fit: select a slice with the arrow keys or the mouse, or mark a range with v");
        };
        let middle = stretch.from_ns + stretch.len_ns() / 2;
        let length = self.view.len_ns();
        let from = middle.saturating_sub(length / 2);
        let centred = self.inside(Window::new(from, from.saturating_add(length)));
        if centred != self.view {
            self.show(centred);
            self.cursor_into(stretch);
        } else {
            self.fit_to(stretch);
        }
    }

    /// Zooms so that a stretch fills most of the screen.
    pub(super) fn fit_to(&mut self, stretch: Window) {
        self.stop_following();
        let margin = (stretch.len_ns() / 10).max(super::navigate::LEAST_NS.saturating_sub(stretch.len_ns()) / 2);
        self.show(Window::new(stretch.from_ns.saturating_sub(margin), stretch.to_ns.saturating_add(margin)));
        self.cursor_into(stretch);
    }

    /// Chooses the line of a node, or of the nearest node above it that has one.
    pub(super) fn choose_node(&mut self, node: NodeId) {
        let mut node = Some(node);
        while let Some(id) = node {
            // The line among the others, rather than its copy among the pinned.
            let below = self.lines.iter().skip(self.pinned_lines).position(|line| line.node == id);
            let line = below.map(|i| i + self.pinned_lines);
            if let Some(line) = line.or_else(|| self.lines.iter().position(|line| line.node == id)) {
                self.line = line;
                return;
            }
            node = self.scene.tree.get(id).and_then(|node| node.parent);
        }
    }

    /// Opens what is folded over a node.
    pub(super) fn unfold_to(&mut self, node: NodeId) {
        let mut above = self.scene.tree.get(node).and_then(|node| node.parent);
        let mut changed = false;
        while let Some(id) = above {
            changed |= self.folded.remove(&id);
            above = self.scene.tree.get(id).and_then(|node| node.parent);
        }
        if changed {
            self.rebuild_lines();
        }
    }

    fn choose_depth(&mut self, at: SliceRef, depth: u16) {
        let wanted = LineKind::Depth(at.track, depth);
        let find = |state: &State| state.lines.iter().position(|line| line.kind == wanted);
        let line = find(self).or_else(|| {
            let kind = NodeKind::Track(at.track);
            let node = self.scene.tree.nodes.iter().position(|node| node.kind == kind)?;
            let node = NodeId(node as u32);
            if self.unhide(at.track) {
                self.say("the filter hid this slice: it now shows its layer and rank");
            }
            self.unfold_to(node);
            self.rebuild_lines();
            find(self).or_else(|| {
                self.folded.remove(&node);
                self.expanded.insert(node);
                self.rebuild_lines();
                find(self)
            })
        });
        if let Some(line) = line {
            self.line = line;
        }
    }

    fn step_to_moment(&mut self, to: Option<u64>, later: bool) {
        let Some(to) = to else {
            return self.say(if later { "nothing later on this row" } else { "nothing earlier on this row" });
        };
        self.stop_following();
        if let Some(view) = self.revealing(Window::new(to, to.saturating_add(1))) {
            self.nudge(view);
        }
        self.set_cursor(to);
    }

    /// Puts the cursor into the middle of what is seen of a stretch, unless it is in it.
    fn cursor_into(&mut self, stretch: Window) {
        let (from, to) = (stretch.from_ns.max(self.view.from_ns), stretch.to_ns.min(self.view.to_ns));
        self.set_cursor(from + to.saturating_sub(from) / 2);
    }

    /// The view stays where it is: the user looks at something.
    pub(in crate::tui) fn stop_following(&mut self) {
        if let Some(live) = &mut self.live {
            live.follows = false;
        }
    }
}

/// The moment of the next or the previous of a list in time.
fn beside<T>(list: &[T], ts: impl Fn(&T) -> u64, cursor: u64, later: bool) -> Option<u64> {
    let at = if later {
        list.partition_point(|item| ts(item) <= cursor)
    } else {
        list.partition_point(|item| ts(item) < cursor).checked_sub(1)?
    };
    list.get(at).map(ts)
}
