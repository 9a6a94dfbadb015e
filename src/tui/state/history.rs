//! Past views, to go back and forward through.

use super::Window;

/// Views before and after the one shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    past: Vec<Window>,
    future: Vec<Window>,
}

/// So many past views are kept.
const KEPT: usize = 200;

impl History {
    /// Remembers the view that is being left for a new one.
    pub fn leave(&mut self, view: Window) {
        if self.past.last() != Some(&view) {
            self.past.push(view);
            let extra = self.past.len().saturating_sub(KEPT);
            self.past.drain(..extra);
        }
        self.future.clear();
    }

    /// The view before `now`.
    pub fn back(&mut self, now: Window) -> Option<Window> {
        let view = self.past.pop()?;
        self.future.push(now);
        Some(view)
    }

    /// The view that was left by going back.
    pub fn forward(&mut self, now: Window) -> Option<Window> {
        let view = self.future.pop()?;
        self.past.push(now);
        Some(view)
    }
}
