//! Which key does what: one table, from which keys are dispatched and the page of keys is made.

use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::Effect;
use super::action::Action;
use crate::tui::state::{Mode, State};

/// A key with its modifiers. Shift counts for keys that are no characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

/// When a binding holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Moving about.
    Browse,
    /// The panel has the arrow keys; what it does not bind is as in [`When::Browse`].
    Panel,
    /// A line is being typed; other characters go into it.
    Prompt,
    /// The page of keys is shown.
    Help,
}

/// Chapters of the page of keys, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Zoom, pan, past views.
    View,
    /// Rows and slices.
    Select,
    /// Steps, outliers, partners.
    Jump,
    /// Search and finder.
    Find,
    /// Folds, pins, order.
    Rows,
    /// Panels.
    Panel,
    /// Everything else.
    Program,
    /// While a line is typed.
    Typing,
    /// While the page of keys is shown.
    Page,
}

impl Group {
    /// All, in order.
    pub const ALL: [Group; 9] = [
        Group::View,
        Group::Select,
        Group::Jump,
        Group::Find,
        Group::Rows,
        Group::Panel,
        Group::Program,
        Group::Typing,
        Group::Page,
    ];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Group::View => "zoom and move",
            Group::Select => "rows and slices",
            Group::Jump => "jump",
            Group::Find => "find",
            Group::Rows => "fold, pin, order",
            Group::Panel => "panel",
            Group::Program => "program",
            Group::Typing => "while typing",
            Group::Page => "on this page",
        }
    }
}

/// Keys that do the same.
#[derive(Debug)]
pub struct Binding {
    /// When it holds.
    pub when: When,
    /// The chapter of the page of keys.
    pub group: Group,
    /// Any of these.
    pub keys: &'static [Key],
    /// What they do.
    pub action: Action,
    /// What they do, for people.
    pub help: &'static str,
}

const fn c(character: char) -> Key {
    Key { code: KeyCode::Char(character), modifiers: KeyModifiers::NONE }
}

const fn ctrl(character: char) -> Key {
    Key { code: KeyCode::Char(character), modifiers: KeyModifiers::CONTROL }
}

const fn k(code: KeyCode) -> Key {
    Key { code, modifiers: KeyModifiers::NONE }
}

const fn shift(code: KeyCode) -> Key {
    Key { code, modifiers: KeyModifiers::SHIFT }
}

macro_rules! bindings {
    ($($when:ident $group:ident [$($key:expr),+] $action:ident $help:literal;)+) => {
        &[$(Binding {
            when: When::$when,
            group: Group::$group,
            keys: &[$($key),+],
            action: Action::$action,
            help: $help,
        }),+]
    };
}

/// Every key there is.
#[rustfmt::skip]
pub static BINDINGS: &[Binding] = bindings! {
    Browse View [c('w'), c('+'), c('=')] ZoomIn "zoom in at the cursor";
    Browse View [c('s'), c('-')] ZoomOut "zoom out";
    Browse View [c('a'), shift(KeyCode::Left)] PanLeft "earlier";
    Browse View [c('d'), shift(KeyCode::Right)] PanRight "later";
    Browse View [c('f')] Fit "centre the selection, then fit it";
    Browse View [k(KeyCode::Enter)] Enter "zoom to the selection; fold a header";
    Browse View [c('0'), k(KeyCode::Home)] Whole "whole recording";
    Browse View [c('g')] Start "start of the recording";
    Browse View [c('G'), k(KeyCode::End)] End "its end; live: follow the edge";
    Browse View [k(KeyCode::Backspace), c('('), ctrl('o')] Back "the view before";
    Browse View [c(')')] Forward "and forward again";

    Browse Select [k(KeyCode::Up), c('k')] Up "row above, with what is under the cursor";
    Browse Select [k(KeyCode::Down), c('j')] Down "row below";
    Browse Select [k(KeyCode::Left), c('h'), c(',')] Previous "previous slice on the row";
    Browse Select [k(KeyCode::Right), c('l'), c('.')] Next "next slice on the row";
    Browse Select [k(KeyCode::PageUp), ctrl('b')] PageUp "a screen of rows up";
    Browse Select [k(KeyCode::PageDown), ctrl('f')] PageDown "a screen of rows down";
    Browse Select [c('r')] Range "selection, else the view, as range; again: none";
    Browse Select [c('v')] Mark "start marking a range, then end it";
    Browse Select [k(KeyCode::Esc)] Escape "drop marking, selection, range, search: one at a time";

    Browse Jump [c(']')] NextStep "next step";
    Browse Jump [c('[')] PreviousStep "previous step";
    Browse Jump [c('!')] NextOutlier "next outlier";
    Browse Jump [c('@')] PreviousOutlier "previous outlier";
    Browse Jump [c('x')] Partner "partner: launch and kernel, wait and waker, rank to rank";
    Browse Jump [c('*')] NextSame "next slice of the same name";
    Browse Jump [c('#')] PreviousSame "previous slice of the same name";

    Browse Find [c('/')] Search "search names and arguments (regex)";
    Browse Find [c('n')] NextHit "next hit";
    Browse Find [c('N')] PreviousHit "previous hit";
    Browse Find [ctrl('p')] Finder "find a track by some of its letters";

    Browse Rows [c(' ')] Space "fold or unfold; live: freeze or go on";
    Browse Rows [c('c')] FoldAll "fold everything";
    Browse Rows [c('C')] UnfoldAll "unfold everything";
    Browse Rows [c('e')] Depths "all depths of a track, or the first few";
    Browse Rows [c('p')] Pin "pin to the top, or unpin";
    Browse Rows [c('P')] UnpinAll "unpin all";
    Browse Rows [c('J'), shift(KeyCode::Down)] Lower "move a track or group down";
    Browse Rows [c('K'), shift(KeyCode::Up)] Raise "move it up";

    Browse Panel [c('i')] Details "details of the selection or the range";
    Browse Panel [c('t')] Table "table: the heaviest names";
    Browse Panel [c('F')] Flame "flame: where Python's time went";
    Browse Panel [c('V')] Verdict "verdict and its evidence";
    Browse Panel [c('o')] Cycle "next panel, or none";
    Browse Panel [k(KeyCode::Tab)] Focus "arrow keys to the panel";
    Browse Panel [c('<')] SortLeft "table: sort by the column to the left";
    Browse Panel [c('>')] SortRight "by the column to the right";
    Panel Panel [k(KeyCode::Tab)] Unfocus "arrow keys back to the rows";
    Panel Panel [k(KeyCode::Esc), k(KeyCode::Backspace)] PanelBack "flame: out of the frame; else back to the rows";
    Panel Panel [k(KeyCode::Up), c('k')] PanelUp "row above in the panel";
    Panel Panel [k(KeyCode::Down), c('j')] PanelDown "row below in the panel";
    Panel Panel [k(KeyCode::Left), c('h')] PanelLeft "flame: the frame to the left";
    Panel Panel [k(KeyCode::Right), c('l')] PanelRight "flame: the frame to the right";
    Panel Panel [k(KeyCode::PageUp)] PanelPageUp "ten rows up in the panel";
    Panel Panel [k(KeyCode::PageDown)] PanelPageDown "ten rows down in the panel";
    Panel Panel [k(KeyCode::Enter)] PanelEnter "go to what the row is about; flame: into it";

    Browse Program [c(':')] Command "command";
    Browse Program [c('L')] Follow "live: follow the edge again";
    Browse Program [c('?')] Help "this page";
    Browse Program [ctrl('l')] Redraw "draw the screen afresh";
    Browse Program [ctrl('z')] Suspend "stop the viewer for now; fg goes on";
    Browse Program [c('q'), ctrl('c')] Quit "quit; live: the recording is kept";
    Help Page [k(KeyCode::Esc), c('?'), c('q'), k(KeyCode::Enter)] CloseHelp "leave this page";
    Help Page [k(KeyCode::Up), c('k')] HelpUp "scroll up";
    Help Page [k(KeyCode::Down), c('j')] HelpDown "scroll down";
    Help Page [k(KeyCode::PageUp), ctrl('b')] HelpPageUp "a page up";
    Help Page [k(KeyCode::PageDown), c(' '), ctrl('f')] HelpPageDown "a page down";
    Help Page [ctrl('c')] Quit "quit";

    Prompt Typing [k(KeyCode::Enter)] Accept "do it";
    Prompt Typing [k(KeyCode::Esc), ctrl('c'), ctrl('g')] Cancel "leave it";
    Prompt Typing [k(KeyCode::Tab)] Complete "complete a command";
    Prompt Typing [k(KeyCode::Up), ctrl('p')] PromptUp "what was typed before; the track above";
    Prompt Typing [k(KeyCode::Down), ctrl('n')] PromptDown "what was typed after; the track below";
    Prompt Typing [k(KeyCode::Left), ctrl('b')] CursorLeft "a character left";
    Prompt Typing [k(KeyCode::Right), ctrl('f')] CursorRight "a character right";
    Prompt Typing [k(KeyCode::Home), ctrl('a')] CursorHome "to the line's start";
    Prompt Typing [k(KeyCode::End), ctrl('e')] CursorEnd "to its end";
    Prompt Typing [k(KeyCode::Backspace), ctrl('h')] Erase "erase the character before; leave an empty line";
    Prompt Typing [k(KeyCode::Delete), ctrl('d')] EraseNext "erase the character under the cursor";
    Prompt Typing [ctrl('w')] EraseWord "erase the word before";
    Prompt Typing [ctrl('u')] EraseLine "erase all before";
};

impl Key {
    fn matches(self, event: &KeyEvent) -> bool {
        let mut modifiers = event.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT);
        let mut code = event.code;
        if let KeyCode::Char(character) = code {
            modifiers -= KeyModifiers::SHIFT;
            if modifiers.contains(KeyModifiers::CONTROL) {
                code = KeyCode::Char(character.to_ascii_lowercase());
            }
        }
        self.code == code && self.modifiers == modifiers
    }

    /// The event of the key being pressed.
    #[cfg(test)]
    pub fn event(self) -> KeyEvent {
        KeyEvent::new(self.code, self.modifiers)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.modifiers.contains(KeyModifiers::SHIFT) {
            f.write_str("Shift-")?;
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("Space"),
            KeyCode::Char(character) if self.modifiers.contains(KeyModifiers::CONTROL) => {
                write!(f, "Ctrl-{}", character.to_ascii_uppercase())
            }
            KeyCode::Char(character) => write!(f, "{character}"),
            KeyCode::PageUp => f.write_str("PgUp"),
            KeyCode::PageDown => f.write_str("PgDn"),
            KeyCode::Delete => f.write_str("Del"),
            code => write!(f, "{code:?}"),
        }
    }
}

/// The first key of an action, for hints.
pub fn first_key(action: Action) -> String {
    let binding = BINDINGS.iter().find(|binding| binding.action == action);
    binding.and_then(|binding| binding.keys.first()).map_or_else(String::new, Key::to_string)
}

/// A key in the current mode.
pub(super) fn press(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    if key.kind == KeyEventKind::Release {
        return Vec::new();
    }
    let when = match state.mode {
        Mode::Prompt(_) => When::Prompt,
        Mode::Help(_) => When::Help,
        Mode::Browse if state.panel_focus => When::Panel,
        Mode::Browse => When::Browse,
    };
    let bound = find(when, &key).or_else(|| find(When::Browse, &key).filter(|_| when == When::Panel));
    match (bound, key.code) {
        (Some(binding), _) => {
            state.mouse.clicked = None;
            state.act(binding.action)
        }
        (None, KeyCode::Char(character))
            if when == When::Prompt && !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) =>
        {
            state.type_character(character);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn find(when: When, key: &KeyEvent) -> Option<&'static Binding> {
    BINDINGS.iter().find(|binding| binding.when == when && binding.keys.iter().any(|bound| bound.matches(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_bound_twice() {
        for (i, one) in BINDINGS.iter().enumerate() {
            for other in BINDINGS.iter().skip(i + 1).filter(|other| other.when == one.when) {
                for key in one.keys {
                    assert!(!other.keys.contains(key), "{key}: {} and {}", one.help, other.help);
                }
            }
            for key in one.keys {
                assert_eq!(find(one.when, &key.event()).map(|b| b.action), Some(one.action), "{key}");
            }
        }
    }

    #[test]
    fn keys_read_as_people_write_them() {
        let shown: Vec<String> =
            [c('w'), c(' '), ctrl('p'), k(KeyCode::PageUp), shift(KeyCode::Left)].iter().map(Key::to_string).collect();
        assert_eq!(shown, ["w", "Space", "Ctrl-P", "PgUp", "Shift-Left"]);
    }

    #[test]
    fn shift_is_part_of_a_character() {
        let event = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(find(When::Browse, &event).map(|b| b.action), Some(Action::End));
        let alt = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT);
        assert!(find(When::Browse, &alt).is_none());
    }
}
