//! Where everything is on the screen; the mouse asks here, too.

use ratatui::layout::Rect;

use crate::tui::state::State;

/// The parts of the screen; a part there is no room for is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Areas {
    /// Title, state of the capture.
    pub title: Rect,
    /// The verdict.
    pub verdict: Rect,
    /// The whole recording, small.
    pub minimap: Rect,
    /// Time, then steps.
    pub ruler: Rect,
    /// Labels left of the body.
    pub labels: Rect,
    /// The rows' cells; its width is the number of columns a view is divided into.
    pub body: Rect,
    /// Details, flame or table.
    pub panel: Rect,
    /// Message, prompt, or the most useful keys.
    pub bottom: Rect,
}

/// Divides the screen.
pub fn areas(_state: &State, screen: Rect) -> Areas {
    Areas { body: screen, ..Areas::default() }
}
