//! The judge in the background: the viewer opens before the verdict is there.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::analyze::{self, Report, StepTimes};
use crate::trace::Trace;
use crate::tui::{Msg, Outcome};

/// A verdict on its way.
#[derive(Debug)]
pub struct Judge {
    thread: Option<JoinHandle<(Report, Vec<StepTimes>)>>,
}

impl Judge {
    /// Starts to judge. Keeps the recording until it is done.
    pub fn start(trace: Arc<Trace>) -> Judge {
        Judge::of(move || analyze::judge_steps(&trace))
    }

    /// Starts to judge what `work` makes.
    pub fn of(work: impl FnOnce() -> (Report, Vec<StepTimes>) + Send + 'static) -> Judge {
        // Without a thread there is no verdict, and everything else works.
        Judge { thread: std::thread::Builder::new().name("judge".to_owned()).spawn(work).ok() }
    }

    /// One that has nothing to say.
    pub fn silent() -> Judge {
        Judge { thread: None }
    }

    /// Whether it is still at it.
    pub fn is_busy(&self) -> bool {
        self.thread.is_some()
    }

    /// The verdict, once it is there.
    pub fn poll(&mut self) -> Option<Msg> {
        self.thread.as_ref().filter(|thread| thread.is_finished())?;
        Some(match self.thread.take()?.join() {
            Ok((report, steps)) => Msg::Judged(Box::new(report), steps),
            Err(_) => Msg::Done(Outcome::Failed(
                "no verdict: the judge failed on this recording, which is a bug of aictl".to_owned(),
            )),
        })
    }
}
