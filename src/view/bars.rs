//! Bars that move on stderr: one for the whole, and one for each file that moves.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text;

/// Bars of files shown at once; the rest count in the whole alone.
const MOST_FILES: usize = 8;
/// Draws a second at most.
const DRAWS_HZ: u8 = 10;

/// The bars of one piece of work.
#[derive(Debug)]
pub struct Bars {
    lines: MultiProgress,
    state: Mutex<State>,
    width: usize,
    unicode: bool,
    colour: bool,
}

#[derive(Debug, Default)]
struct State {
    whole: Option<ProgressBar>,
    files: HashMap<String, ProgressBar>,
}

impl Bars {
    pub(super) fn new(width: usize, unicode: bool, colour: bool) -> Bars {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS_HZ));
        Bars { lines, state: Mutex::default(), width, unicode, colour }
    }

    fn style(&self, template: &str) -> ProgressStyle {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        style.progress_chars(if self.unicode { "█▉▊▋▌▍▎▏ " } else { "#> " })
    }

    /// Starts the whole: so many bytes, so many of them there.
    pub fn start(&self, title: &str, bytes: u64, have: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = if self.colour { "{bar:20.cyan}" } else { "{bar:20}" };
        let template = format!(
            "{{msg}} {bar} {{percent:>3}}% {{decimal_bytes}}/{{decimal_total_bytes}} {{decimal_bytes_per_sec}} {{eta}} left"
        );
        let whole = self.lines.add(ProgressBar::new(bytes).with_style(self.style(&template)).with_position(have));
        whole.set_message(text::shorten(title, self.width.saturating_sub(64).max(16), self.unicode));
        // The rate counts what comes, not what was there.
        whole.reset_eta();
        whole.enable_steady_tick(Duration::from_millis(250));
        state.whole = Some(whole);
    }

    /// How far the whole is.
    pub fn total(&self, have: u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = &state.whole {
            whole.set_position(have);
        }
    }

    /// How much the whole is, where that becomes known on the way.
    pub fn extend(&self, bytes: u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = &state.whole {
            whole.set_length(bytes);
        }
    }

    /// How far a file is.
    pub fn file(&self, name: &str, bytes: u64, have: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = state.files.get(name) {
            bar.set_position(have);
        } else if state.files.len() < MOST_FILES {
            let room = self.width.saturating_sub(56).clamp(12, 48);
            let template = format!("  {{msg:{room}}} {{bar:16}} {{percent:>3}}% {{decimal_total_bytes:>10}}");
            let bar = ProgressBar::new(bytes).with_style(self.style(&template)).with_position(have);
            let bar = match &state.whole {
                Some(whole) => self.lines.insert_before(whole, bar),
                None => self.lines.add(bar),
            };
            bar.set_message(text::shorten(&text::plain(name), room, self.unicode));
            state.files.insert(name.to_owned(), bar);
        }
    }

    /// A file is done.
    pub fn done(&self, name: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = state.files.remove(name) {
            bar.finish_and_clear();
            self.lines.remove(&bar);
        }
    }

    /// Says something that stays, above the bars.
    pub fn say(&self, text: &str) {
        let _: io::Result<()> = self.lines.println(text::shorten(&text::plain(text), self.width, self.unicode));
    }

    /// Says something in passing: it stands with the whole until that moves on.
    pub fn trouble(&self, text: &str) {
        self.say(text);
    }

    /// Takes all away.
    pub fn clear(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, bar) in state.files.drain() {
            bar.finish_and_clear();
        }
        if let Some(whole) = state.whole.take() {
            whole.finish_and_clear();
        }
        let _: io::Result<()> = self.lines.clear();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}
