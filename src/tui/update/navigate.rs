//! Moving and zooming; every view stays inside the recording.

use crate::tui::scene::Window;
use crate::tui::state::State;

impl State {
    /// Shows another window, as much of it as lies in the recording, and remembers the old one.
    pub fn show(&mut self, window: Window) {
        let view = self.inside(window);
        if view != self.view {
            self.history.leave(self.view);
            self.view = view;
        }
    }

    /// Makes what is shown `factor` times as long, with the cursor where it is on the screen.
    pub fn zoom(&mut self, factor: f64) {
        let old = self.view;
        let length = ((old.len_ns() as f64 * factor) as u64).clamp(1, self.bounds().len_ns());
        let cursor = self.cursor_ns.clamp(old.from_ns, old.to_ns - 1);
        let left = (cursor - old.from_ns) as f64 / old.len_ns() as f64;
        let from = cursor.saturating_sub((length as f64 * left) as u64);
        self.view = self.inside(Window::new(from, from.saturating_add(length)));
    }

    /// Moves by a share of what is shown.
    pub fn pan(&mut self, share: f64) {
        let by = (self.view.len_ns() as f64 * share) as i64;
        let by = if by == 0 { share.signum() as i64 } else { by };
        let (from, to) = (self.view.from_ns, self.view.to_ns);
        self.view = self.inside(Window::new(from.saturating_add_signed(by), to.saturating_add_signed(by)));
    }

    /// The window moved into the recording; cut only where it is longer.
    fn inside(&self, window: Window) -> Window {
        let bounds = self.bounds();
        let length = window.len_ns().min(bounds.len_ns());
        let from = window.from_ns.clamp(bounds.from_ns, bounds.to_ns - length);
        Window::new(from, from + length)
    }
}
