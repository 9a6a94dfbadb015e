//! Messages into changes of the state, and effects for `cmd` to perform.

mod keys;
mod navigate;

use std::path::PathBuf;

use crossterm::event::{KeyEvent, MouseEvent};

use super::palette::{Background, Marks};
use super::scene::Window;
use super::state::{Live, Message, Size, State};
use crate::analyze::{Report, StepTimes};
use crate::trace::Batch;

/// What happens to the viewer.
#[derive(Debug)]
pub enum Msg {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse moved, clicked or turned its wheel.
    Mouse(MouseEvent),
    /// The terminal has a new size.
    Resize(Size),
    /// The capture went on.
    Grow(Box<Batch>),
    /// News of the capture.
    Live(Live),
    /// The judge has spoken.
    Judged(Box<Report>, Vec<StepTimes>),
    /// A frame has passed: work that takes longer than one goes on.
    Tick,
    /// An effect was performed.
    Done(Outcome),
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Leave the viewer.
    Quit,
    /// Write a stretch of the recording to a new file, in the format of its name.
    Write {
        /// File to make; never one that is there and no recording.
        path: PathBuf,
        /// The stretch.
        window: Window,
    },
    /// Write the screen as it is (SVG, else text) to a file.
    Export {
        /// File to make.
        path: PathBuf,
    },
    /// Read another recording, and compare it with this one.
    Diff {
        /// File to read.
        path: PathBuf,
    },
    /// Stop this program, as Ctrl-Z does.
    Suspend,
    /// Draw the whole screen afresh, as Ctrl-L does: something else wrote on it.
    Redraw,
    /// Answer to a [`Msg::Tick`]: work went on that is not done, so draw and tick again.
    Again,
    /// The background is not what was thought; the loop changes its look, and then tells.
    Background(Background),
    /// Draw with other signs; the loop changes its look, and then tells.
    Marks(Marks),
}

/// How an effect went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; a line for people.
    Said(String),
    /// Failed; a line for people: what, on what, why, what next.
    Failed(String),
    /// Lines of a comparison, for the panel.
    Compared(Vec<String>),
}

/// Slices looked at per frame by work that takes longer than one.
const PORTION: usize = 200_000;

/// Changes the state by a message.
pub fn update(state: &mut State, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Key(key) => return keys::press(state, key),
        Msg::Mouse(_) => {}
        Msg::Resize(size) => state.size = size,
        Msg::Grow(_) => {}
        Msg::Live(live) => {
            let follows = state.live.as_ref().is_none_or(|old| old.follows);
            state.live = Some(Live { follows, ..live });
        }
        Msg::Judged(report, steps) => {
            state.scene.judged(*report, steps);
        }
        Msg::Tick => {
            if !state.advance_panel(PORTION) {
                return vec![Effect::Again];
            }
        }
        Msg::Done(Outcome::Said(text)) => state.message = Some(Message { text, bad: false }),
        Msg::Done(Outcome::Failed(text)) => state.message = Some(Message { text, bad: true }),
        Msg::Done(Outcome::Compared(lines)) => {
            state.message = lines.into_iter().next().map(|text| Message { text, bad: false });
        }
    }
    Vec::new()
}
