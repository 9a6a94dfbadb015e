//! Messages into changes of the state, and effects for `cmd` to perform.

mod action;
mod command;
mod filter;
mod finder;
mod fold;
mod grow;
#[cfg(test)]
mod guide;
mod keys;
mod live;
mod mouse;
mod navigate;
mod prompt;
mod search;
mod select;
mod step;
mod words;

use std::path::PathBuf;

use crossterm::event::{KeyEvent, MouseEvent};
use ratatui::layout::Rect;

use super::palette::{Background, Marks};
use super::scene::Window;
use super::state::{Live, Mouse, Panel, Size, State};
use super::view;
use crate::analyze::{Report, StepTimes};
use crate::trace::Batch;
pub use action::Action;
pub use command::{COMMANDS, command_named};
pub use keys::{BINDINGS, Group, first_key};
pub use words::length as length_words;

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
    let effects = match msg {
        Msg::Key(key) => keys::press(state, key),
        Msg::Mouse(mouse) => {
            state.mouse_event(mouse);
            Vec::new()
        }
        Msg::Resize(size) => {
            state.size = size;
            state.mouse = Mouse::default();
            state.scroll_help(0);
            Vec::new()
        }
        Msg::Grow(batch) => {
            state.grow(*batch);
            Vec::new()
        }
        Msg::Live(news) => {
            state.hear(news);
            Vec::new()
        }
        Msg::Judged(report, steps) => {
            state.scene.judged(*report, steps);
            // The lines of processes that drive steps show what the judge says of them.
            state.rebuild_lines();
            Vec::new()
        }
        // Nothing was touched: what is on the screen stays where it is.
        Msg::Tick => return tick(state),
        Msg::Done(Outcome::Said(text)) => {
            state.say(text);
            Vec::new()
        }
        Msg::Done(Outcome::Failed(text)) => {
            state.complain(text);
            Vec::new()
        }
        Msg::Done(Outcome::Compared(lines)) => {
            state.compared = lines;
            (state.panel, state.panel_row, state.panel_focus) = (Panel::Verdict, 0, true);
            Vec::new()
        }
    };
    state.extend_mark();
    state.keep_line_visible(areas(state).body.height.into());
    effects
}

/// Goes on with work that takes longer than a frame.
fn tick(state: &mut State) -> Vec<Effect> {
    let searched = state.advance_search(search::PORTION);
    let found = state.advance_finder(finder::PORTION);
    let counted = state.advance_panel(PORTION);
    if searched && found && counted { Vec::new() } else { vec![Effect::Again] }
}

/// Where everything is on the screen.
fn areas(state: &State) -> view::Areas {
    view::areas(state, Rect::new(0, 0, state.size.columns, state.size.rows))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
