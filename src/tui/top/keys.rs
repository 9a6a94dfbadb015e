//! Keys: one table, from which they are dispatched and the page of keys is made.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Down,
    Up,
    PageDown,
    PageUp,
    First,
    Last,
    Into,
    Back,
    AllGpus,
    Sort,
    Filter,
    Pause,
    Look,
    Profile,
    Diagnose,
    Log,
    Help,
    Redraw,
    Suspend,
    Quit,
}

/// Keys as they are shown, what they do, and in words.
pub(super) const KEYS: &[(&str, Action, &str)] = &[
    ("j ↓", Action::Down, "next row"),
    ("k ↑", Action::Up, "row before"),
    ("PgDn", Action::PageDown, "a screen down"),
    ("PgUp", Action::PageUp, "a screen up"),
    ("g Home", Action::First, "first row"),
    ("G End", Action::Last, "last row"),
    ("Enter →", Action::Into, "into a node, a GPU"),
    ("Esc ←", Action::Back, "back out; without the filter, if there is one"),
    ("a", Action::AllGpus, "all GPUs of all nodes, or nodes again"),
    ("s", Action::Sort, "order by the next: name, load, memory, power, temperature, idle, owner"),
    ("/", Action::Filter, "show only what has these words"),
    ("Space", Action::Pause, "hold the screen still, or go on"),
    ("r", Action::Look, "look now"),
    ("p", Action::Profile, "profile the chosen process, or the GPU's largest"),
    ("d", Action::Diagnose, "find faults of the chosen node"),
    ("l", Action::Log, "what the job of the chosen GPU or process prints"),
    ("?", Action::Help, "this page"),
    ("Ctrl-L", Action::Redraw, "draw anew"),
    ("Ctrl-Z", Action::Suspend, "stop, as in a shell"),
    ("q", Action::Quit, "leave"),
];

/// What a key means while one moves about.
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('d' | 'f') => Some(Action::PageDown),
            KeyCode::Char('u' | 'b') => Some(Action::PageUp),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Enter | KeyCode::Right => Action::Into,
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => Action::Back,
        KeyCode::Char('a') => Action::AllGpus,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('r') => Action::Look,
        KeyCode::Char('p') => Action::Profile,
        KeyCode::Char('d') => Action::Diagnose,
        KeyCode::Char('l') => Action::Log,
        KeyCode::Char('?') | KeyCode::F(1) => Action::Help,
        KeyCode::Char('q') => Action::Quit,
        _ => return None,
    })
}
