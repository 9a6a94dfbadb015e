//! Listens to a fetch: bars at a terminal, JSON lines for programs, or nothing.
//!
//! With `-o json` stdout has the models alone, as one document; what happens goes to stderr, one
//! JSON object a line (`aictl.preload-event/v1`), unless stderr is a terminal or `-q` is given.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::super::settings::{OutputFormat, Settings};
use crate::preload::event::Silent;
use crate::preload::{Event, Sink};
use crate::view::Bars;

/// A sink that ends.
pub trait Listener: Sync + Send {
    /// For the fetch.
    fn sink(&self) -> &dyn Sink;
    /// Takes what it shows away.
    fn close(&self) {}
}

/// The listener that suits where the output goes.
pub fn listener(settings: &Settings) -> Box<dyn Listener> {
    let terminal = std::io::stderr().is_terminal();
    if matches!(settings.output, OutputFormat::Json) && !terminal && !settings.ui.is_quiet() {
        return Box::new(Lines);
    }
    match settings.ui.bars() {
        Some(bars) => Box::new(Shown { state: Mutex::new(State { files: HashMap::new(), have: 0, all: 0 }), bars }),
        None => silent(),
    }
}

/// One that hears nothing.
pub fn silent() -> Box<dyn Listener> {
    Box::new(Silent)
}

impl Listener for Silent {
    fn sink(&self) -> &dyn Sink {
        self
    }
}

/// A JSON object a line.
#[derive(Debug)]
struct Lines;

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    at: jiff::Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

impl Listener for Lines {
    fn sink(&self) -> &dyn Sink {
        self
    }
}

impl Sink for Lines {
    fn event(&self, event: Event) {
        let line = Line { schema: "aictl.preload-event/v1", at: jiff::Timestamp::now(), event: &event };
        if let Ok(mut text) = serde_json::to_string(&line) {
            text.push('\n');
            // Nobody can be told that stderr is gone.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
    }
}

/// Bars.
#[derive(Debug)]
struct Shown {
    bars: Bars,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files: HashMap<String, u64>,
    have: u64,
    all: u64,
}

impl Listener for Shown {
    fn sink(&self) -> &dyn Sink {
        self
    }

    fn close(&self) {
        self.bars.clear();
    }
}

impl State {
    /// A file is so far; returns how far all is.
    fn reached(&mut self, name: &str, bytes: u64) -> u64 {
        let before = self.files.insert(name.to_owned(), bytes).unwrap_or(bytes);
        self.have = (self.have + bytes).saturating_sub(before).min(self.all);
        self.have
    }
}

/// How the bar of an archive is called that becomes files.
fn unpacking(name: &str) -> String {
    format!("unpacking {name}")
}

impl Sink for Shown {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { source, bytes, have_bytes, .. } => {
                *state = State { files: HashMap::new(), have: have_bytes, all: bytes };
                self.bars.start(&source, bytes, have_bytes);
            }
            Event::FileStarted { name, bytes, have_bytes } => {
                state.files.insert(name.clone(), 0);
                let have = state.reached(&name, have_bytes);
                self.bars.total(have);
                self.bars.file(&name, bytes, have_bytes);
            }
            Event::Progress { name, have_bytes, bytes } => {
                let have = state.reached(&name, have_bytes);
                self.bars.total(have);
                self.bars.file(&name, bytes, have_bytes);
            }
            Event::FileDone { name, bytes, .. } => {
                let have = state.reached(&name, bytes);
                self.bars.total(have);
                self.bars.done(&name);
            }
            Event::PartDone { name, have_bytes, .. } => {
                let have = state.reached(&name, have_bytes);
                self.bars.total(have);
                self.bars.done(&name);
            }
            Event::PeerBanned { peer, name } => {
                self.bars.say(&format!("{peer} gave bytes that are not {name}'s: it is not asked any more"));
            }
            Event::Changed { name } => {
                state.reached(&name, 0);
                self.bars.done(&name);
                self.bars.say(&format!("{name} changed at its source: it is read again"));
            }
            Event::Quarantined { name, path } => {
                self.bars.done(&name);
                self.bars.say(&format!("{name} is not what it should be: it is kept apart as {path}"));
            }
            Event::Unpacking { name, bytes } => {
                self.bars.done(&name);
                self.bars.file(&unpacking(&name), bytes, 0);
            }
            Event::UnpackProgress { name, read_bytes, bytes } => self.bars.file(&unpacking(&name), bytes, read_bytes),
            Event::Unpacked { name, .. } => self.bars.done(&unpacking(&name)),
            Event::Retry { name, why, .. } => self.bars.trouble(&format!("{name}: {why}; once more")),
            Event::Finished { .. } => self.bars.clear(),
            Event::WarmStarted { source, bytes, resident_bytes } => {
                *state = State { files: HashMap::new(), have: resident_bytes, all: bytes };
                self.bars.start(&format!("{source} into memory"), bytes, resident_bytes);
            }
            Event::WarmProgress { resident_bytes, .. } => self.bars.total(resident_bytes),
            Event::WarmDone { .. } => self.bars.clear(),
            Event::FleetPlanned { nodes, .. } => self.bars.start(&format!("{nodes} nodes"), 0, 0),
            Event::NodeProgress { node, have_bytes, bytes } => self.bars.file(&node, bytes, have_bytes),
            Event::FleetProgress { have_bytes, bytes, .. } => {
                self.bars.extend(bytes);
                self.bars.total(have_bytes);
            }
            Event::NodeTrouble { node, why } => self.bars.say(&format!("{node}: {why}")),
            Event::NodeRetry { node, why } => {
                self.bars.done(&node);
                self.bars.say(&format!("{node} failed and is tried again: {why}"));
            }
            Event::NodeDone { node, state, why } => {
                self.bars.done(&node);
                if let Some(why) = why {
                    self.bars.say(&format!("{node} {state}: {why}"));
                }
            }
            Event::Step { kind, name, phase, detail } => {
                let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
                self.bars.say(&format!("{kind} {name}: {phase}{detail}"));
            }
            Event::NodeStarted { .. } | Event::Connections { .. } => {}
        }
    }
}
