//! Statistics in portions: so much a frame, shown while they grow, started afresh when what they
//! are about changes.

use super::flame::{FlameRun, Scope};
use super::lines::{Block, PanelLine};
use super::names::NameRun;
use super::range::RangeRun;
use super::table::Sort;
use crate::trace::{StrId, Trace};
use crate::tui::scene::{Partner, Scene, SliceRef, Window};
use crate::tui::state::{Line, Panel, State};

/// A piece of work on one question.
pub(super) trait Run: Sized {
    /// What the question is about; another one makes the old answer worthless.
    type About: Clone + PartialEq;
    /// What the answer also depends on; in a running capture an answer may be a little old.
    type Stamp: Clone + PartialEq;

    /// Begins.
    fn start(scene: &Scene, about: &Self::About, stamp: &Self::Stamp) -> Self;

    /// Goes on for about `left` slices, and takes off what it used; true once it is whole.
    fn advance(&mut self, scene: &Scene, left: &mut usize) -> bool;
}

/// One question, what is known so far and what was known before.
#[derive(Debug, Clone)]
pub(super) struct Job<R: Run> {
    about: Option<(R::About, R::Stamp)>,
    running: Option<R>,
    whole: Option<R>,
    /// Frames that the run has taken, and frames to rest before the next.
    frames: u32,
    rest: u32,
}

impl<R: Run> Default for Job<R> {
    fn default() -> Self {
        Job { about: None, running: None, whole: None, frames: 0, rest: 0 }
    }
}

/// In a running capture, a question is asked again after so many frames at the soonest: half a second.
const LIVE_REST: u32 = 15;

impl<R: Run> Job<R> {
    /// Goes on; true if there was nothing to do. In a running capture (`grows`) an answer stands
    /// for a while, so that statistics take a small part of the time.
    fn drive(&mut self, scene: &Scene, about: R::About, stamp: R::Stamp, grows: bool, left: &mut usize) -> bool {
        let same = self.about.as_ref().is_some_and(|(old, _)| *old == about);
        let fresh = same && self.about.as_ref().is_some_and(|(_, old)| *old == stamp);
        if !same || (!fresh && !grows) {
            *self = Job::default();
        }
        if self.running.is_none() {
            if fresh && self.whole.is_some() {
                return true;
            }
            if self.rest > 0 {
                self.rest -= 1;
                return true;
            }
            self.running = Some(R::start(scene, &about, &stamp));
            self.about = Some((about, stamp));
            self.frames = 0;
        }
        self.frames += 1;
        if self.running.as_mut().is_some_and(|run| run.advance(scene, left)) {
            self.whole = self.running.take();
            self.rest = (self.frames * 4).max(LIVE_REST);
        }
        false
    }

    /// Whether the answer is to this question, even if the recording has grown since.
    pub fn is_about(&self, about: &R::About) -> bool {
        self.about.as_ref().is_some_and(|(old, _)| old == about)
    }

    /// The best there is, and whether it is whole.
    pub fn best(&self) -> Option<(&R, bool)> {
        let whole = self.whole.as_ref().map(|run| (run, true));
        whole.or_else(|| self.running.as_ref().map(|run| (run, false)))
    }
}

/// Statistics being worked out; starts afresh when what they are about changes.
#[derive(Debug, Clone, Default)]
pub struct Work {
    pub(super) names: Job<NameRun>,
    pub(super) range: Job<RangeRun>,
    pub(super) flame: Job<FlameRun>,
    /// Partners of the selected slice; looked up once, as the recording was.
    pub(super) partners: Option<(SliceRef, u64, Vec<Partner>)>,
    /// Details and verdict as they were last made up, and on what they rest.
    pub(super) details: Option<(Rests, Vec<Block>)>,
    pub(super) verdict: Option<(Rests, Vec<PanelLine>)>,
    /// Tracks of the flame, and on what they rest.
    pub(super) scope: Option<((Option<Line>, u64), Scope)>,
    /// What the table is sorted by.
    pub(super) sort: Sort,
    /// Path of the frame that the flame is zoomed into: names and files.
    pub(super) zoom: Vec<(StrId, StrId)>,
}

/// What made-up lines rest on, beside the statistics.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rests {
    selected: Option<SliceRef>,
    range: Option<Window>,
    view: Option<Window>,
    judgements: u32,
    stamp: u64,
    compared: usize,
}

impl State {
    /// What the panel's lines rest on now; the view only where nothing else is chosen.
    pub(super) fn rests(&self) -> Rests {
        let chosen = self.selected.is_some() || self.range.is_some();
        Rests {
            selected: self.selected,
            range: self.range,
            view: (self.panel == Panel::Details && !chosen).then_some(self.view),
            judgements: self.scene.judgements(),
            stamp: stamp(&self.scene),
            compared: self.compared.len(),
        }
    }
}

/// Changes whenever a trace has grown.
pub(super) fn stamp(scene: &Scene) -> u64 {
    let trace: &Trace = &scene.trace;
    scene.bounds.map_or(0, |b| b.to_ns) ^ ((trace.args.len() as u64) << 20) ^ trace.strings.len() as u64
}

impl State {
    /// Goes on with the panel's statistics for about `slices` slices; true if there was nothing
    /// left to do, so that nothing on the screen changed.
    pub fn advance_panel(&mut self, slices: usize) -> bool {
        let mut work = std::mem::take(&mut self.work);
        let grows = self.live.as_ref().is_some_and(|live| !live.ended);
        let mut left = slices.max(1);
        let stamp = stamp(&self.scene);
        let idle = match (self.panel, self.selected) {
            (Panel::Hidden | Panel::Verdict, _) => true,
            (Panel::Details, Some(at)) => {
                let known = work.partners.as_ref().is_some_and(|(of, _, _)| *of == at);
                if !known {
                    work.partners = Some((at, stamp, self.scene.partners(at)));
                }
                work.names.drive(&self.scene, at, stamp, grows, &mut left) && known
            }
            (Panel::Details | Panel::Table, _) => {
                // Adding up a slice by name takes some 60 ns, thrice what a portion is meant to take.
                left = (left / 3).max(1);
                let (about, stamp) = self.range_key(stamp);
                work.range.drive(&self.scene, about, stamp, grows, &mut left)
            }
            (Panel::Flame, _) => {
                let line = self.lines.get(self.line).copied();
                let known = work.scope.take().filter(|(rests, _)| *rests == (line, stamp));
                let scope = known.map_or_else(|| self.flame_scope(), |(_, scope)| scope);
                work.scope = Some(((line, stamp), scope.clone()));
                left = (left / 2).max(1);
                let (about, stamp) = (scope, (self.focus(), stamp));
                work.flame.drive(&self.scene, about, stamp, grows, &mut left)
            }
        };
        self.work = work;
        self.make_up(idle);
        idle
    }

    /// Makes up the lines of the panel where they or the statistics changed, so that a frame
    /// need not.
    fn make_up(&mut self, idle: bool) {
        let rests = self.rests();
        let old = |of: Option<&Rests>| !idle || of != Some(&rests);
        match self.panel {
            Panel::Details if old(self.work.details.as_ref().map(|(r, _)| r)) => {
                let blocks = self.made_up_details();
                self.work.details = Some((rests, blocks));
            }
            Panel::Verdict if old(self.work.verdict.as_ref().map(|(r, _)| r)) => {
                let lines = self.made_up_verdict();
                self.work.verdict = Some((rests, lines));
            }
            _ => {}
        }
    }
}
