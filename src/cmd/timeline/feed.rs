//! What a viewer of finished recordings gets from outside: the judge's word, signals, effects.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::interrupt::{Interrupt, Stops, asked};
use super::super::settings::Settings;
use super::jobs::{self, Jobs};
use super::judge::Judge;
use crate::trace::Trace;
use crate::tui::scene::Window;
use crate::tui::state::State;
use crate::tui::{Asked, Effect, Feed, Look, Msg, Outcome, Pace};

/// Feeds a viewer of recordings that no longer change.
pub struct RecordingFeed<'s> {
    /// The verdict to come.
    pub judge: Judge,
    /// Effects under way.
    pub jobs: Jobs,
    outside: Outside<'s>,
}

/// What every viewer's effects and signals need.
pub struct Outside<'s> {
    /// Settled settings.
    pub settings: &'s Settings,
    /// Files shown, which are not to be written over.
    pub shown: Vec<PathBuf>,
    /// Signals that end.
    pub interrupt: &'s Interrupt,
    /// Signals that stop.
    pub stops: Stops,
}

impl<'s> RecordingFeed<'s> {
    /// One that waits for the judge.
    pub fn new(judge: Judge, outside: Outside<'s>) -> RecordingFeed<'s> {
        RecordingFeed { judge, jobs: Jobs::default(), outside }
    }
}

impl Outside<'_> {
    /// What signals have asked for.
    pub fn asked(&mut self) -> Asked {
        asked(self.interrupt, &self.stops)
    }

    /// Writes a stretch at once, while nobody else holds the recording.
    pub fn write_now(&self, trace: &Trace, window: Window, path: &Path) -> Outcome {
        jobs::write(trace, window, path, &self.shown).unwrap_or_else(|error| Outcome::Failed(error.line()))
    }

    /// Performs an effect; what takes long goes on among the jobs.
    pub fn perform(&self, effect: Effect, state: &State, look: Look, jobs: &mut Jobs) -> Vec<Msg> {
        let started = match effect {
            Effect::Write { path, window } => {
                let (trace, shown) = (Arc::clone(&state.scene.trace), self.shown.clone());
                jobs.start(move || jobs::write(&trace, window, &path, &shown))
            }
            Effect::Diff { path } => jobs.start(jobs::compare(&state.scene.trace, &path, self.settings)),
            Effect::Export { path } => {
                let done = jobs::export(state, look, &path);
                Some(Msg::Done(done.unwrap_or_else(|error| Outcome::Failed(error.line()))))
            }
            // The loop's own.
            Effect::Quit
            | Effect::Suspend
            | Effect::Redraw
            | Effect::Again
            | Effect::Background(_)
            | Effect::Marks(_) => None,
        };
        started.into_iter().collect()
    }
}

impl Feed for RecordingFeed<'_> {
    fn poll(&mut self, _state: &State) -> Vec<Msg> {
        let mut news = self.jobs.poll();
        news.extend(self.judge.poll());
        news
    }

    fn pace(&self) -> Pace {
        if self.judge.is_busy() || self.jobs.are_busy() { Pace::Soon } else { Pace::Idle }
    }

    fn perform(&mut self, effect: Effect, state: &State, look: Look) -> Vec<Msg> {
        self.outside.perform(effect, state, look, &mut self.jobs)
    }

    fn asked(&mut self) -> Asked {
        self.outside.asked()
    }

    fn suspend(&mut self) -> Result<(), String> {
        self.outside.stops.stop_here()
    }
}
