//! Which key does what.

use crossterm::event::{KeyCode, KeyEvent};

use super::Effect;
use crate::tui::state::State;

/// A key in the current mode.
pub(super) fn press(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    match key.code {
        KeyCode::Char('q') => return vec![Effect::Quit],
        KeyCode::Char('w') => state.zoom(0.5),
        KeyCode::Char('s') => state.zoom(2.0),
        KeyCode::Char('a') => state.pan(-0.2),
        KeyCode::Char('d') => state.pan(0.2),
        _ => {}
    }
    Vec::new()
}
