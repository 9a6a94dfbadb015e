//! Typing a line: edits, what was typed before, completion, and what Enter does with it.

use super::Effect;
use super::action::Action;
use super::command;
use crate::tui::state::{Mode, Prompt, PromptKind, State};

impl State {
    /// A character typed into the line.
    pub(super) fn type_character(&mut self, character: char) {
        self.message = None;
        self.with_prompt(|prompt| {
            prompt.insert(character);
            prompt.recalled = 0;
        });
    }

    /// An edit of the line.
    pub(super) fn edit(&mut self, action: Action) {
        let empty = matches!(&self.mode, Mode::Prompt(prompt) if prompt.text.is_empty());
        if empty && action == Action::Erase {
            return self.cancel();
        }
        self.with_prompt(|prompt| match action {
            Action::CursorLeft => prompt.left(),
            Action::CursorRight => prompt.right(),
            Action::CursorHome => prompt.at = 0,
            Action::CursorEnd => prompt.at = prompt.text.len(),
            Action::Erase => prompt.erase(),
            Action::EraseNext => prompt.erase_next(),
            Action::EraseWord => prompt.erase_word(),
            Action::EraseLine => prompt.erase_line(),
            _ => {}
        });
    }

    /// Leaves the line without doing anything.
    pub(super) fn cancel(&mut self) {
        self.mode = Mode::Browse;
        self.finder.clear();
    }

    /// Up and down: lines typed before, or the finder's choice.
    pub(super) fn recall(&mut self, up: bool) {
        let last = self.finder.hits.len().saturating_sub(1);
        let Mode::Prompt(prompt) = &mut self.mode else { return };
        if prompt.kind == PromptKind::Finder {
            prompt.choice = prompt.choice.saturating_add_signed(if up { -1 } else { 1 }).min(last);
            return;
        }
        let lines = self.typed.lines(prompt.kind);
        let to = if up { (prompt.recalled + 1).min(lines.len()) } else { prompt.recalled.saturating_sub(1) };
        if prompt.recalled == 0 {
            prompt.draft = prompt.text.clone();
        }
        let text = match to {
            0 => prompt.draft.clone(),
            back => lines.get(lines.len() - back).cloned().unwrap_or_default(),
        };
        prompt.recalled = to;
        prompt.set(text);
    }

    /// Completes a command.
    pub(super) fn complete(&mut self) {
        let Mode::Prompt(Prompt { kind: PromptKind::Command, text, at, .. }) = &self.mode else { return };
        let (before, after) = text.split_at(*at);
        let from = before
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + before[space..].chars().next().map_or(0, char::len_utf8));
        let (head, word) = before.split_at(from);
        let mut fitting = command::completions(self, head.trim(), word);
        fitting.sort();
        fitting.dedup();
        let Some(first) = fitting.first() else { return };
        let common = fitting.iter().skip(1).fold(first.as_str(), |common, other| common_start(common, other));
        let space = if fitting.len() == 1 && after.is_empty() { " " } else { "" };
        let (line, cursor) = (format!("{head}{common}{space}{after}"), head.len() + common.len() + space.len());
        if fitting.len() > 1 {
            self.say(fitting.join("  "));
        }
        self.with_prompt(|prompt| {
            prompt.set(line);
            prompt.at = cursor;
        });
    }

    /// Does what the line says; one that can't be done stays open, with a message.
    pub(super) fn accept(&mut self) -> Vec<Effect> {
        let Mode::Prompt(Prompt { kind, text, choice, .. }) = &self.mode else { return Vec::new() };
        let (kind, text, choice) = (*kind, text.clone(), *choice);
        let line = text.trim();
        let done = match kind {
            PromptKind::Finder => {
                self.go_to_found(choice);
                Ok(Vec::new())
            }
            PromptKind::Search if text.is_empty() => {
                self.drop_search();
                Ok(Vec::new())
            }
            PromptKind::Search => self.search_for(&text).map(|()| Vec::new()),
            PromptKind::Command if line.is_empty() => Ok(Vec::new()),
            PromptKind::Command => {
                // A command may open the page of keys: the line is left before it is done.
                let mode = std::mem::take(&mut self.mode);
                let done = command::perform(self, line);
                if done.is_err() {
                    self.mode = mode;
                }
                done
            }
        };
        match done {
            Ok(effects) => {
                if !text.is_empty() {
                    self.typed.keep(kind, if kind == PromptKind::Search { &text } else { line });
                }
                if matches!(self.mode, Mode::Prompt(_)) {
                    self.cancel();
                }
                effects
            }
            Err(why) => {
                self.complain(why);
                Vec::new()
            }
        }
    }

    fn with_prompt(&mut self, change: impl FnOnce(&mut Prompt)) {
        let Mode::Prompt(prompt) = &mut self.mode else { return };
        let before = prompt.text.clone();
        change(prompt);
        if prompt.kind == PromptKind::Finder && prompt.text != before {
            prompt.choice = 0;
            self.look_for_nodes();
        }
    }
}

/// What two texts start with.
fn common_start<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
    let end = same.map_or(one.len().min(other.len()), |((at, _), _)| at);
    one.get(..end).unwrap_or(one)
}
