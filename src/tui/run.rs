//! The loop: events in, messages through, frames out.

use std::io;
use std::time::Duration;

use crossterm::event::{self, Event};
use ratatui::Terminal;
use ratatui::backend::Backend;

use super::palette::Look;
use super::state::{Size, State};
use super::update::{Effect, Msg, update};
use super::view;

/// What the loop asks of the world outside the viewer.
pub trait Feed {
    /// What came since the last call: growth of the capture, its news, the judge's report. An
    /// [`Effect::Quit`] of a signal comes as an error of kind `Interrupted`.
    fn poll(&mut self) -> io::Result<Vec<Msg>>;
    /// Performs an effect other than [`Effect::Quit`].
    fn perform(&mut self, effect: Effect, state: &State) -> Vec<Msg>;
}

/// Waits this long for a key before it looks at the feed again: 20 to 30 frames a second.
const FRAME: Duration = Duration::from_millis(33);

/// Runs the viewer until the user leaves it.
pub fn run<B: Backend<Error = io::Error>>(
    state: &mut State,
    mut look: Look,
    terminal: &mut Terminal<B>,
    feed: &mut dyn Feed,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| view::draw(state, look, frame))?;
        let mut messages = feed.poll()?;
        messages.push(Msg::Tick);
        if event::poll(FRAME)? {
            match event::read()? {
                Event::Key(key) => messages.push(Msg::Key(key)),
                Event::Mouse(mouse) => messages.push(Msg::Mouse(mouse)),
                Event::Resize(columns, rows) => messages.push(Msg::Resize(Size { columns, rows })),
                _ => {}
            }
        }
        let mut next = messages;
        while !next.is_empty() {
            let mut answers = Vec::new();
            for message in next {
                for effect in update(state, message) {
                    match effect {
                        Effect::Quit => return Ok(()),
                        Effect::Redraw => terminal.clear()?,
                        Effect::Background(background) => look.background = background,
                        Effect::Marks(marks) => look.marks = marks,
                        _ => {}
                    }
                    answers.extend(feed.perform(effect, state));
                }
            }
            next = answers;
        }
    }
}
