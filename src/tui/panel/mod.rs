//! What the lower part of the screen says: the selected slice, a range's statistics, the flame,
//! the table of names, the verdict's evidence. Content only; `view::panel` draws it.
//!
//! Statistics over a long range take longer than a frame, so they are worked out in portions:
//! [`Work::advance`] is called once a frame and the panel shows what there is so far.

use super::state::State;

/// Statistics being worked out; starts afresh when what they are about changes.
#[derive(Debug, Clone, Default)]
pub struct Work {}

impl State {
    /// Goes on with the panel's statistics for about `slices` slices; true once they are whole.
    pub fn advance_panel(&mut self, slices: usize) -> bool {
        let _ = slices;
        true
    }

    /// Rows of the panel that can be chosen with the arrow keys.
    pub fn panel_rows(&self) -> usize {
        0
    }

    /// Goes where the panel's chosen row points to.
    pub fn panel_enter(&mut self) {}
}
