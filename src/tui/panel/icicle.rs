//! The flame as an icicle: callers above what they call, each as wide as its time. The row of
//! the panel that is chosen is a frame, counted as a reader goes: down first, then to the right.

use super::flame::FlameRun;
use super::words::time;
use crate::tui::state::State;
use crate::view::human;
use crate::view::text::plain;

/// A frame in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Which, an index into [`FlameRun::frames`].
    pub frame: usize,
    /// Its row, from the top of the zoomed frame.
    pub row: usize,
    /// First cell.
    pub from: usize,
    /// First cell after it.
    pub to: usize,
}

/// Frames with less than this share of what is shown can't be chosen.
const LEAST: f64 = 1.0 / 500.0;
/// Deeper frames are not gone to.
const DEEPEST: usize = 500;

impl State {
    /// The flame as far as it is, and whether it is whole.
    pub fn flame(&self) -> Option<(&FlameRun, bool)> {
        self.work.flame.best()
    }

    fn zoomed(&self, run: &FlameRun) -> Option<usize> {
        run.find(&self.work.zoom)
    }

    /// Frames that can be chosen, with their depth below the zoomed one, in the order in which
    /// [`panel_row`](State::panel_row) counts them.
    pub fn flame_order(&self) -> Vec<(usize, usize)> {
        let Some((run, _)) = self.flame() else { return Vec::new() };
        let zoomed = self.zoomed(run);
        let least = self.flame_total(run, zoomed) as f64 * LEAST;
        let mut next: Vec<(usize, usize)> = match zoomed {
            Some(frame) => vec![(frame, 0)],
            None => run.children(None).into_iter().rev().map(|frame| (frame, 0)).collect(),
        };
        let mut order = Vec::new();
        while let Some((frame, depth)) = next.pop() {
            if (run.frames[frame].total_ns as f64) < least {
                continue;
            }
            order.push((frame, depth));
            if depth < DEEPEST {
                next.extend(run.children(Some(frame)).into_iter().rev().map(|child| (child, depth + 1)));
            }
        }
        order
    }

    fn flame_total(&self, run: &FlameRun, zoomed: Option<usize>) -> u64 {
        zoomed.map_or(run.total_ns, |frame| run.frames[frame].total_ns).max(1)
    }

    /// The picture, `width` cells wide: only frames of at least one cell, row by row.
    pub fn flame_bars(&self, width: usize) -> Vec<Bar> {
        let Some((run, _)) = self.flame() else { return Vec::new() };
        let zoomed = self.zoomed(run);
        let all = self.flame_total(run, zoomed);
        let cell = |ns: u64| (u128::from(ns) * width as u128 / u128::from(all)) as usize;
        let mut bars = Vec::new();
        // Frames with their row and where they begin in time.
        let mut next: Vec<(usize, usize, u64)> = Vec::new();
        let spread = |frames: Vec<usize>, row: usize, mut at: u64, next: &mut Vec<(usize, usize, u64)>| {
            for frame in frames {
                next.push((frame, row, at));
                at += run.frames[frame].total_ns;
            }
        };
        match zoomed {
            Some(frame) => next.push((frame, 0, 0)),
            None => spread(run.children(None), 0, 0, &mut next),
        }
        while let Some((frame, row, at)) = next.pop() {
            let (from, to) = (cell(at), cell(at + run.frames[frame].total_ns).min(width));
            if to <= from || row > DEEPEST {
                continue;
            }
            bars.push(Bar { frame, row, from, to });
            spread(run.children(Some(frame)), row + 1, at, &mut next);
        }
        bars.sort_by_key(|bar| (bar.row, bar.from));
        bars
    }

    /// The chosen frame and its depth below the zoomed one.
    pub fn flame_chosen(&self) -> Option<(usize, usize)> {
        let order = self.flame_order();
        order.get(self.panel_row.min(order.len().saturating_sub(1))).copied()
    }

    /// The chosen frame in words: name, place, shares.
    pub fn flame_words(&self, frame: usize) -> String {
        let Some((run, whole)) = self.flame() else { return String::new() };
        let Some(data) = run.frames.get(frame) else { return String::new() };
        let trace = &self.scene.trace;
        let share = |ns: u64| human::percent(ns as f64 / run.total_ns.max(1) as f64);
        let mut text = plain(trace.text(data.key.name));
        let file = trace.text(data.key.file);
        let place = super::words::at_line(file, data.line);
        if !file.is_empty() && place != text {
            text += &format!(" ({place})");
        }
        text += &format!("  {} {}", share(data.total_ns), time(data.total_ns));
        if data.self_ns > 0 && data.self_ns < data.total_ns {
            text += &format!(", self {} {}", share(data.self_ns), time(data.self_ns));
        }
        if data.gil_ns > 0 {
            let part = data.gil_ns as f64 / data.total_ns.max(1) as f64;
            text += &format!(", GIL held {}", human::percent(part));
        }
        if !whole {
            text += " …";
        }
        text
    }

    /// A frame as it is written into its bar; a line with the library that ran below it.
    pub fn flame_label(&self, run: &FlameRun, frame: usize) -> String {
        let Some(data) = run.frames.get(frame) else { return String::new() };
        let trace = &self.scene.trace;
        let name = plain(trace.text(data.key.name));
        let native = trace.text(data.native);
        match native.rsplit('/').next() {
            Some(library) if !library.is_empty() => format!("{name} [{}]", plain(library)),
            _ => name,
        }
    }

    /// Zooms into the chosen frame; on the frame that fills the picture, goes to its longest slice.
    pub(super) fn flame_enter(&mut self) {
        let Some((frame, _)) = self.flame_chosen() else { return };
        let Some((run, _)) = self.flame() else { return };
        let (path, longest) = (run.path(frame), run.frames[frame].longest);
        if path == self.work.zoom {
            self.look_at(longest);
        } else {
            (self.work.zoom, self.panel_row) = (path, 0);
        }
    }

    /// Zooms out of the frame that fills the picture, to its caller.
    pub(super) fn flame_out(&mut self) -> bool {
        if self.work.zoom.is_empty() {
            return false;
        }
        let from = self.flame().and_then(|(run, _)| self.zoomed(run));
        self.work.zoom.pop();
        self.panel_row = self.flame_order().iter().position(|(frame, _)| Some(*frame) == from).unwrap_or(0);
        true
    }

    /// Chooses the frame beside the chosen one.
    pub(super) fn flame_side(&mut self, right: bool) {
        let order = self.flame_order();
        let at = self.panel_row.min(order.len().saturating_sub(1));
        let Some((_, depth)) = order.get(at) else { return };
        let same = |i: &usize| order[*i].1 == *depth;
        let found = if right { (at + 1..order.len()).find(same) } else { (0..at).rev().find(same) };
        self.panel_row = found.unwrap_or(at);
    }
}
