//! The loop: events in, messages through, frames out.
//!
//! A frame is drawn only after something changed, at most 30 times a second, and all input that
//! is there goes into it: a burst of the wheel is one frame, and a slow terminal skips frames.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate};
use crossterm::{queue, style};
use ratatui::layout::Rect;

use super::input::{Input, Parser};
use super::palette::{Colors, Look};
use super::state::{Mode, State};
use super::term::{Screen, TerminalGuard};
use super::update::{Effect, Msg, update};
use super::view;

/// What the loop asks of the world outside the viewer.
pub trait Feed {
    /// What came since the last call: growth of the capture, its news, the judge's report.
    fn poll(&mut self, state: &State) -> Vec<Msg>;
    /// How soon there may be more: a running capture has some for every frame.
    fn pace(&self) -> Pace;
    /// Performs an effect other than those of the loop itself: [`Effect::Quit`], `Suspend`,
    /// `Redraw`, `Again`, `Background`, `Marks`.
    fn perform(&mut self, effect: Effect, state: &State, look: Look) -> Vec<Msg>;
    /// What signals have asked for since the last call.
    fn asked(&mut self) -> Asked;
    /// Stops the program, the terminal being back as it was; returns when it goes on. Else why not.
    fn suspend(&mut self) -> Result<(), String>;
}

/// How soon a [`Feed`] may have something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Every frame.
    Frame,
    /// Within a moment.
    Soon,
    /// Perhaps never.
    Idle,
}

/// What signals have asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// To end.
    Leave,
    /// To stop until further notice.
    Suspend,
    /// The program was stopped without asking and goes on: the terminal is someone else's by now.
    Resume,
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The user left.
    Quit,
    /// A signal asked for it.
    Signal,
}

/// 30 frames a second.
const FRAME: Duration = Duration::from_millis(33);
/// The rest of an escape sequence comes within this, or it was the key.
const REST: Duration = Duration::from_millis(25);
/// Input that is taken in before a frame is drawn nevertheless.
const BURST: usize = 64 << 10;

/// Runs the viewer until the user leaves it.
pub fn run(state: &mut State, look: Look, guard: &TerminalGuard, feed: &mut dyn Feed) -> io::Result<Left> {
    // Whether to colour was settled before: crossterm's own look at NO_COLOR would undo --color.
    style::force_color_output(look.colors != Colors::None);
    let screen = guard.screen(guard.size())?;
    let mut viewer = Viewer { guard, screen, look, parser: Parser::default(), working: false };
    viewer.fit(state)?;
    let mut dirty = true;
    let mut drawn = Instant::now() - FRAME;
    loop {
        if dirty && drawn.elapsed() >= FRAME {
            drawn = Instant::now();
            viewer.draw(state)?;
            dirty = false;
        }
        let wait = match feed.pace() {
            _ if dirty || viewer.working => FRAME.saturating_sub(drawn.elapsed()),
            // Nothing to draw yet: look again soon, but not without a pause.
            Pace::Frame => FRAME.saturating_sub(drawn.elapsed()).max(FRAME / 4),
            Pace::Soon => 2 * FRAME,
            Pace::Idle => Duration::from_millis(250),
        };
        let input = viewer.input(wait)?;
        match feed.asked() {
            Asked::Nothing => {}
            Asked::Leave => return Ok(Left::Signal),
            Asked::Suspend => {
                viewer.suspend(state, feed)?;
                dirty = true;
            }
            Asked::Resume => {
                guard.enter()?;
                viewer.screen.clear()?;
                dirty = true;
            }
        }
        dirty |= viewer.fit(state)?;
        let mut messages: Vec<Msg> = input.into_iter().flat_map(|input| messages_of(input, state)).collect();
        messages.extend(feed.poll(state));
        let was_working = viewer.working;
        dirty |= !messages.is_empty() || was_working;
        if !messages.is_empty() || was_working {
            messages.push(Msg::Tick);
            viewer.working = false;
        }
        match viewer.pass(messages, state, feed)? {
            Some(left) => return Ok(left),
            None => dirty |= viewer.working,
        }
    }
}

struct Viewer<'g> {
    guard: &'g TerminalGuard,
    screen: Screen,
    look: Look,
    parser: Parser,
    /// The last tick left work to do.
    working: bool,
}

impl Viewer<'_> {
    /// One frame, shown at once by terminals that can.
    fn draw(&mut self, state: &State) -> io::Result<()> {
        let look = self.look;
        queue!(self.screen.backend_mut(), BeginSynchronizedUpdate)?;
        self.screen.draw(|frame| view::draw(state, look, frame))?;
        queue!(self.screen.backend_mut(), EndSynchronizedUpdate)?;
        Write::flush(self.screen.backend_mut())
    }

    /// Brings screen and state to the terminal's size; whether it has changed.
    fn fit(&mut self, state: &mut State) -> io::Result<bool> {
        let size = self.guard.size();
        let area = Rect::new(0, 0, size.columns, size.rows);
        if state.size == size && self.screen.get_frame().area() == area {
            return Ok(false);
        }
        self.screen.resize(area)?;
        update(state, Msg::Resize(size));
        Ok(true)
    }

    /// Everything that is typed by now; waits for the first of it.
    fn input(&mut self, wait: Duration) -> io::Result<Vec<Input>> {
        let mut out = Vec::new();
        let mut buffer = [0; 4096];
        let mut taken = 0;
        let mut wait = wait;
        while taken < BURST {
            let wait_ms = wait.as_micros().div_ceil(1000) as u64;
            if self.guard.wait(wait_ms)? {
                let count = self.guard.read(&mut buffer)?;
                self.parser.feed(&buffer[..count], &mut out);
                taken += count.max(1);
                wait = if self.parser.waits() { REST } else { Duration::ZERO };
            } else {
                if wait == REST && self.parser.waits() {
                    self.parser.settle(&mut out);
                }
                break;
            }
        }
        Ok(out)
    }

    /// Passes messages through, and the answers to their effects.
    fn pass(&mut self, messages: Vec<Msg>, state: &mut State, feed: &mut dyn Feed) -> io::Result<Option<Left>> {
        let mut next = messages;
        while !next.is_empty() {
            let mut answers = Vec::new();
            for message in next {
                for effect in update(state, message) {
                    match effect {
                        Effect::Quit => return Ok(Some(Left::Quit)),
                        Effect::Suspend => answers.extend(self.suspend(state, feed)?),
                        Effect::Redraw => self.screen.clear()?,
                        Effect::Again => self.working = true,
                        Effect::Background(background) => self.look.background = background,
                        Effect::Marks(marks) => self.look.marks = marks,
                        effect => answers.extend(feed.perform(effect, state, self.look)),
                    }
                }
            }
            next = answers;
        }
        Ok(None)
    }

    fn suspend(&mut self, state: &mut State, feed: &mut dyn Feed) -> io::Result<Option<Msg>> {
        self.guard.leave();
        let done = feed.suspend();
        self.guard.enter()?;
        self.fit(state)?;
        self.screen.clear()?;
        Ok(done.err().map(|why| Msg::Done(super::Outcome::Failed(why))))
    }
}

/// Pasted text is typed where text is typed, and is no command elsewhere.
fn messages_of(input: Input, state: &State) -> Vec<Msg> {
    match input {
        Input::Key(key) => vec![Msg::Key(key)],
        Input::Mouse(mouse) => vec![Msg::Mouse(mouse)],
        Input::Paste(text) if matches!(state.mode, Mode::Prompt(_)) => text
            .chars()
            .filter(|c| !c.is_control())
            .map(|c| Msg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)))
            .collect(),
        Input::Paste(_) => Vec::new(),
    }
}
