//! The loop: events in, messages through, frames out; a frame is drawn only after something changed.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate};
use crossterm::{queue, style};
use ratatui::layout::Rect;

use super::state::{Mode, TopState};
use super::update::{TopEffect, TopMsg};
use super::view;
use crate::tui::input::{Input, Parser};
use crate::tui::palette::{Colors, Look};
use crate::tui::run::{Asked, Left};
use crate::tui::term::{Screen, TerminalGuard};

/// What the loop asks of the world outside.
pub trait TopFeed {
    /// What came since the last call.
    fn poll(&mut self) -> Vec<TopMsg>;
    /// Looks now.
    fn look(&mut self);
    /// Runs aictl with arguments on the terminal, which is back as it was; returns when it has ended.
    fn run(&mut self, arguments: &[String]) -> Result<(), String>;
    /// What signals have asked for since the last call.
    fn asked(&mut self) -> Asked;
    /// Stops the program, the terminal being back as it was; returns when it goes on. Else why not.
    fn suspend(&mut self) -> Result<(), String>;
}

/// 20 frames a second.
const FRAME: Duration = Duration::from_millis(50);
/// The rest of an escape sequence comes within this, or it was the key.
const REST: Duration = Duration::from_millis(25);
/// News is looked for so often.
const NEWS: Duration = Duration::from_millis(150);

struct Loop<'g> {
    guard: &'g TerminalGuard,
    screen: Screen,
    look: Look,
    parser: Parser,
}

/// Runs the screen until the user leaves it.
///
/// # Errors
/// If the terminal is gone, or fails.
pub fn run_top(state: &mut TopState, look: Look, guard: &TerminalGuard, feed: &mut dyn TopFeed) -> io::Result<Left> {
    style::force_color_output(look.colors != Colors::None);
    let screen = guard.screen(guard.size())?;
    let mut this = Loop { guard, screen, look, parser: Parser::default() };
    this.fit(state)?;
    let mut dirty = true;
    let mut drawn = Instant::now() - FRAME;
    loop {
        if dirty && drawn.elapsed() >= FRAME {
            drawn = Instant::now();
            this.draw(state)?;
            dirty = false;
        }
        let wait = if dirty { FRAME.saturating_sub(drawn.elapsed()) } else { NEWS };
        let mut messages = this.input(wait, state)?;
        match feed.asked() {
            Asked::Nothing => {}
            Asked::Leave => return Ok(Left::Signal),
            Asked::Suspend => {
                this.aside(state, |_| feed.suspend())?;
                dirty = true;
            }
            Asked::Resume => {
                guard.enter()?;
                this.screen.clear()?;
                dirty = true;
            }
        }
        dirty |= this.fit(state)?;
        messages.extend(feed.poll());
        for message in messages {
            dirty = true;
            for effect in state.update(message) {
                match effect {
                    TopEffect::Quit => return Ok(Left::Quit),
                    TopEffect::Suspend => this.aside(state, |_| feed.suspend())?,
                    TopEffect::Redraw => this.screen.clear()?,
                    TopEffect::Look => feed.look(),
                    TopEffect::Run(arguments) => this.aside(state, |_| feed.run(&arguments))?,
                }
            }
        }
    }
}

impl Loop<'_> {
    fn draw(&mut self, state: &TopState) -> io::Result<()> {
        let look = self.look;
        queue!(self.screen.backend_mut(), BeginSynchronizedUpdate)?;
        self.screen.draw(|frame| view::draw(state, look, frame))?;
        queue!(self.screen.backend_mut(), EndSynchronizedUpdate)?;
        Write::flush(self.screen.backend_mut())
    }

    fn fit(&mut self, state: &mut TopState) -> io::Result<bool> {
        let size = self.guard.size();
        let area = Rect::new(0, 0, size.columns, size.rows);
        if state.size == size && self.screen.get_frame().area() == area {
            return Ok(false);
        }
        self.screen.resize(area)?;
        state.update(TopMsg::Resize(size));
        Ok(true)
    }

    /// Gives the terminal to somebody else for a while.
    fn aside(
        &mut self,
        state: &mut TopState,
        mut what: impl FnMut(&mut TopState) -> Result<(), String>,
    ) -> io::Result<()> {
        self.guard.leave();
        let done = what(state);
        self.guard.enter()?;
        self.fit(state)?;
        self.screen.clear()?;
        if let Err(why) = done {
            state.update(TopMsg::Failed(why));
        }
        Ok(())
    }

    /// Everything that is typed by now; waits for the first of it.
    fn input(&mut self, wait: Duration, state: &TopState) -> io::Result<Vec<TopMsg>> {
        let mut inputs = Vec::new();
        let mut buffer = [0; 4096];
        let mut wait = wait;
        // Pasted text of any length is taken in pieces, frames between them.
        for _ in 0..16 {
            let wait_ms = wait.as_micros().div_ceil(1000) as u64;
            if self.guard.wait(wait_ms)? {
                let count = self.guard.read(&mut buffer)?;
                self.parser.feed(&buffer[..count], &mut inputs);
                wait = if self.parser.waits() { REST } else { Duration::ZERO };
            } else {
                if wait == REST && self.parser.waits() {
                    self.parser.settle(&mut inputs);
                }
                break;
            }
        }
        Ok(inputs
            .into_iter()
            .flat_map(|input| match input {
                Input::Key(key) => vec![TopMsg::Key(key)],
                Input::Mouse(mouse) => vec![TopMsg::Mouse(mouse)],
                Input::Paste(text) if matches!(state.mode, Mode::Filter(_)) => {
                    text.chars().filter(|c| !c.is_control()).map(typed).collect()
                }
                Input::Paste(_) => Vec::new(),
            })
            .collect())
    }
}

fn typed(c: char) -> TopMsg {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    TopMsg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE))
}
