//! Effects that take longer than a frame, each on a thread of its own: write, export, compare.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::super::error::Error;
use super::super::recording::{self, Format};
use super::super::report;
use super::super::settings::Settings;
use crate::analyze;
use crate::trace::{Trace, cut};
use crate::tui::scene::Window;
use crate::tui::state::State;
use crate::tui::{Look, Msg, Outcome, snapshot};
use crate::view::human;

/// What is under way.
#[derive(Debug, Default)]
pub struct Jobs {
    running: Vec<JoinHandle<Outcome>>,
}

impl Jobs {
    /// Starts one; its outcome comes with a later [`Jobs::poll`].
    pub fn start(&mut self, work: impl FnOnce() -> Result<Outcome, Error> + Send + 'static) -> Option<Msg> {
        let told = move || work().unwrap_or_else(|error| Outcome::Failed(error.line()));
        match std::thread::Builder::new().name("effect".to_owned()).spawn(told) {
            Ok(thread) => {
                self.running.push(thread);
                None
            }
            Err(error) => Some(Msg::Done(Outcome::Failed(format!("cannot start a thread: {error}")))),
        }
    }

    /// Whether something is under way.
    pub fn are_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Outcomes of what has ended.
    pub fn poll(&mut self) -> Vec<Msg> {
        let (done, running) = std::mem::take(&mut self.running).into_iter().partition(JoinHandle::is_finished);
        self.running = running;
        let done: Vec<JoinHandle<Outcome>> = done;
        done.into_iter().map(|thread| Msg::Done(outcome(thread))).collect()
    }

    /// Waits for the rest, so that no file stays half written; what went wrong meanwhile.
    pub fn finish(self) -> Vec<Outcome> {
        self.running.into_iter().map(outcome).collect()
    }
}

fn outcome(thread: JoinHandle<Outcome>) -> Outcome {
    thread.join().unwrap_or_else(|_| Outcome::Failed("that failed inside, which is a bug of aictl".to_owned()))
}

/// Writes a stretch of a recording to a file of its own.
pub fn write(trace: &Trace, window: Window, path: &Path, shown: &[PathBuf]) -> Result<Outcome, Error> {
    let same = |other: &PathBuf| matches!((fs::canonicalize(other), fs::canonicalize(path)), (Ok(a), Ok(b)) if a == b);
    if shown.iter().any(same) {
        return Err(Error::usage(format!("{} is the recording shown; choose another file", path.display())));
    }
    let mut slices = 0;
    let size = recording::save(path, |out| {
        let mut sink = recording::sink(Format::of(path), out, trace.clock.unwrap_or_default())?;
        slices = cut(trace, window.from_ns, window.to_ns, sink.as_mut())?;
        sink.finish()
    })?;
    let length = human::seconds(window.len_ns() as f64 / 1e9);
    Ok(Outcome::Said(format!(
        "wrote {} ({length}, {}, {})",
        path.display(),
        human::plural(slices, "slice", "slices"),
        human::bytes(size)
    )))
}

/// Writes the screen as it is: a picture for .svg, else text.
pub fn export(state: &State, look: Look, path: &Path) -> Result<Outcome, Error> {
    let frame = snapshot(state, look);
    let picture = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
    let content = if picture { frame.svg() } else { frame.text() };
    let write = || File::create_new(path)?.write_all(content.as_bytes());
    write().map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::usage(format!("{} exists; choose another name", path.display())),
        _ => Error::failed(format!("cannot write {}", path.display()), error),
    })?;
    Ok(Outcome::Said(format!("wrote {}", path.display())))
}

/// Compares the recording shown with another: the other is what was before.
pub fn compare(
    trace: &Arc<Trace>,
    path: &Path,
    settings: &Settings,
) -> impl FnOnce() -> Result<Outcome, Error> + Send + use<> {
    let (trace, path) = (Arc::clone(trace), path.to_owned());
    let (width, unicode) = (settings.ui.width(), settings.ui.unicode());
    move || {
        let other = recording::read_quietly(&path)?;
        let comparison = analyze::compare(&analyze::judge(&other), &analyze::judge(&trace));
        drop(other);
        Ok(Outcome::Compared(report::compared(&comparison, width, unicode)))
    }
}
