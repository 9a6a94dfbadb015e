//! What the viewer of a running capture gets: growth, news, a verdict now and then.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::super::super::timeline::{Jobs, Judge, Outside};
use super::{Ends, News};
use crate::analyze;
use crate::trace::{LayerState, LayerStatus, LiveFeed, excerpt, slices_within};
use crate::tui::state::{Live, State};
use crate::tui::{Asked, Effect, Feed, Look, Msg, Outcome, Pace};
use crate::view::{human, text};

/// A verdict in between is about so much of the newest, in ns.
const WINDOW_NS: u64 = 10_000_000_000;
/// And about so many slices at most: taking them out holds up a frame.
const WINDOW_SLICES: usize = 200_000;
/// How soon after the last verdict the next may come.
const SOONEST: Duration = Duration::from_secs(3);
/// Share of a core that verdicts in between may cost.
const SHARE: f64 = 0.05;

/// Feeds the viewer of a capture.
pub struct CaptureFeed<'s, 'e> {
    outside: Outside<'s>,
    inbox: LiveFeed,
    news: Receiver<News>,
    is_over: &'e dyn Fn() -> bool,
    jobs: Jobs,
    judge: Judge,
    /// What the layers not captured are, told once.
    missing: Option<String>,
    /// What happened that people should know.
    said: Vec<String>,
    last: Live,
    /// When the capture's end was seen.
    ended: bool,
    /// The verdict on the whole was asked for.
    judged: bool,
    next_verdict: Instant,
    /// When the verdict under way was asked for, and what taking its slices out has cost.
    asked: (Instant, Duration),
}

impl<'s, 'e> CaptureFeed<'s, 'e> {
    /// One whose capture has just begun.
    pub fn new(outside: Outside<'s>, layers: Vec<LayerStatus>, (inbox, news, is_over): Ends<'e>) -> Self {
        let now = Instant::now();
        CaptureFeed {
            outside,
            inbox,
            news,
            is_over,
            jobs: Jobs::default(),
            judge: Judge::silent(),
            missing: missing(&layers),
            said: Vec::new(),
            last: Live { follows: true, ..Live::default() },
            ended: false,
            judged: false,
            next_verdict: now + SOONEST,
            asked: (now, Duration::ZERO),
        }
    }

    /// Waits for effects under way.
    pub fn finish(self) {
        for outcome in self.jobs.finish() {
            if let Outcome::Failed(text) | Outcome::Said(text) = outcome {
                self.outside.settings.ui.note(&text);
            }
        }
    }

    fn hear(&mut self, state: &State) -> Option<Msg> {
        let mut heard = false;
        while let Ok(news) = self.news.try_recv() {
            if let News::Note { text: said, warns: true } = &news {
                self.said.push(text::plain(said));
            }
            if let News::Recording { elapsed, events, lost, overhead } = news {
                self.last = Live {
                    elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
                    events,
                    lost,
                    overhead,
                    ..std::mem::take(&mut self.last)
                };
                heard = true;
            }
        }
        if !self.ended && (self.is_over)() {
            self.ended = true;
            heard = true;
        }
        if !heard {
            return None;
        }
        self.last.ended = self.ended;
        self.last.forgot = state.live.as_ref().is_some_and(|live| live.forgot);
        let thinned = state.scene.trace.meta.iter().flat_map(|meta| &meta.thinned);
        self.last.thinned = thinned.map(|t| text::plain(&format!("{}: {}", t.probe, t.action))).collect();
        Some(Msg::Live(self.last.clone()))
    }

    /// The verdict on everything.
    fn judge_all(&mut self, state: &State) {
        if !self.judged && !self.judge.is_busy() {
            self.judged = true;
            self.judge = Judge::start(Arc::clone(&state.scene.trace));
        }
    }

    /// A verdict on the newest while the capture runs, seldom enough to cost little.
    fn judge_newest(&mut self, state: &State) {
        if self.judge.is_busy() {
            return;
        }
        let Some(bounds) = state.scene.bounds.filter(|_| Instant::now() >= self.next_verdict) else { return };
        let began = Instant::now();
        let trace = &state.scene.trace;
        let mut length = WINDOW_NS.min(bounds.len_ns());
        let slices = slices_within(trace, bounds.to_ns - length, bounds.to_ns);
        if slices > WINDOW_SLICES {
            length = (length as f64 * WINDOW_SLICES as f64 / slices as f64) as u64;
        }
        // A part of its own: the viewer's recording must stay the viewer's alone, to grow in place.
        let part = excerpt(trace, bounds.to_ns - length, bounds.to_ns);
        self.asked = (Instant::now(), began.elapsed());
        self.judge = Judge::of(move || analyze::judge_steps(&part));
    }

    fn verdict(&mut self) -> Option<Msg> {
        let verdict = self.judge.poll()?;
        let cost = self.asked.0.elapsed() + self.asked.1;
        self.next_verdict = Instant::now() + SOONEST.max(cost.div_f64(SHARE));
        Some(verdict)
    }
}

impl Feed for CaptureFeed<'_, '_> {
    fn poll(&mut self, state: &State) -> Vec<Msg> {
        let mut messages: Vec<Msg> = self.jobs.poll();
        // The end first: what is in the inbox after it is the last.
        messages.extend(self.hear(state));
        match self.inbox.take() {
            Some(batch) => messages.push(Msg::Grow(Box::new(batch))),
            // All of it has come by now, and has been added.
            None if self.ended => self.judge_all(state),
            None => {}
        }
        if !self.ended {
            self.judge_newest(state);
        }
        messages.extend(self.verdict());
        messages.extend(self.said.drain(..).map(|said| Msg::Done(Outcome::Said(said))));
        if let Some(missing) = self.missing.take() {
            messages.push(Msg::Done(Outcome::Said(missing)));
        }
        messages
    }

    fn pace(&self) -> Pace {
        if !self.ended || !self.judged {
            Pace::Frame
        } else if self.judge.is_busy() || self.jobs.are_busy() {
            Pace::Soon
        } else {
            Pace::Idle
        }
    }

    fn perform(&mut self, effect: Effect, state: &State, look: Look) -> Vec<Msg> {
        match effect {
            // What reads the viewer's recording on another thread would keep it from growing.
            Effect::Write { path, window } if !self.ended => {
                vec![Msg::Done(self.outside.write_now(&state.scene.trace, window, &path))]
            }
            Effect::Diff { .. } if !self.ended => vec![Msg::Done(Outcome::Failed(
                "a capture can be compared once it is over; Space only freezes the view".to_owned(),
            ))],
            effect => self.outside.perform(effect, state, look, &mut self.jobs),
        }
    }

    fn asked(&mut self) -> Asked {
        self.outside.asked()
    }

    fn suspend(&mut self) -> Result<(), String> {
        if self.ended {
            return self.outside.stops.stop_here();
        }
        Err("not while the capture runs, which would stop with aictl; Space freezes the view, q ends both".to_owned())
    }
}

/// "not recorded: cuda (no libcudart mapped)", where something was asked for in vain.
fn missing(layers: &[LayerStatus]) -> Option<String> {
    let failed: Vec<String> = layers
        .iter()
        .filter(|layer| matches!(layer.state, LayerState::Failed | LayerState::Dropped))
        .map(|layer| format!("{} ({})", layer.layer, layer.detail))
        .collect();
    let count = human::plural(failed.len() as u64, "layer is", "layers are");
    (!failed.is_empty()).then(|| text::plain(&format!("{count} not recorded: {}", failed.join(", "))))
}
