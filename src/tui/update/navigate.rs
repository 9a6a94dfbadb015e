//! Moving and zooming; every view stays inside the recording.
//!
//! Arithmetic is in whole nanoseconds: a fraction of 64 bits can't tell two of them apart in the
//! times of a clock that counts from 1970.

use crate::tui::scene::Window;
use crate::tui::state::State;

/// Zooming in ends here: a slice of one nanosecond is still seen with what is around it.
pub(super) const LEAST_NS: u64 = 10;

impl State {
    /// Shows another window, as much of it as lies in the recording, and remembers the old one.
    pub fn show(&mut self, window: Window) {
        let view = self.inside(window);
        if view != self.view {
            self.history.leave(self.view);
            self.set_view(view);
        }
    }

    /// Shows a window near the one shown; many such moves in a row are one in the history.
    pub fn nudge(&mut self, window: Window) {
        let view = self.inside(window);
        if view != self.view {
            self.history.nudge(self.view);
            self.set_view(view);
        }
    }

    /// Makes what is shown `times / parts` as long, with the moment `anchor_ns` where it is on
    /// the screen; a moment off the screen is taken as its middle.
    pub fn zoom(&mut self, times: u64, parts: u64, anchor_ns: u64) {
        let old = self.view;
        let anchor_ns = if old.holds(anchor_ns) { anchor_ns } else { old.from_ns + old.len_ns() / 2 };
        let most = self.bounds().len_ns();
        let least = LEAST_NS.min(most).min(old.len_ns());
        let length = scale(old.len_ns(), times, parts).clamp(least, most);
        let length = if times > parts { length.max((old.len_ns() + 1).min(most)) } else { length };
        if self.following() {
            // The edge stays in view, so that zooming does not stop following it.
            self.history.nudge(old);
            return self.follow_edge(length);
        }
        let left = scale(anchor_ns - old.from_ns, length, old.len_ns());
        let from = anchor_ns.saturating_sub(left);
        self.nudge(Window::new(from, from.saturating_add(length)));
    }

    /// Moves by a share of what is shown, later in time when `later`.
    pub fn pan(&mut self, times: u64, parts: u64, later: bool) {
        let by = scale(self.view.len_ns(), times, parts).max(1);
        let bounds = self.bounds();
        let by = if later {
            by.min(bounds.to_ns.saturating_sub(self.view.to_ns))
        } else {
            by.min(self.view.from_ns.saturating_sub(bounds.from_ns))
        };
        let (from, to) = (self.view.from_ns, self.view.to_ns);
        self.nudge(if later { Window::new(from + by, to + by) } else { Window::new(from - by, to - by) });
    }

    /// Shows the whole recording.
    pub fn show_whole(&mut self) {
        self.show(self.bounds());
    }

    /// Goes to the recording's first nanosecond.
    pub fn go_to_start(&mut self) {
        let from = self.bounds().from_ns;
        self.show(Window::new(from, from.saturating_add(self.view.len_ns())));
        self.set_cursor(from);
    }

    /// Goes to the recording's last nanosecond; in a capture, follows it from now on.
    pub fn go_to_end(&mut self) {
        let to = self.bounds().to_ns;
        self.show(Window::new(to - self.view.len_ns().min(to), to));
        self.set_cursor(to - 1);
        if let Some(live) = self.live.as_mut().filter(|live| !live.ended) {
            live.follows = true;
        }
    }

    /// Goes back to the view before this one.
    pub fn go_back(&mut self) -> bool {
        let view = self.history.back(self.view);
        view.map(|view| self.set_view(self.inside(view))).is_some()
    }

    /// Goes forward again after going back.
    pub fn go_forward(&mut self) -> bool {
        let view = self.history.forward(self.view);
        view.map(|view| self.set_view(self.inside(view))).is_some()
    }

    /// Moves the view, without zooming, so that a stretch is seen, if it isn't.
    pub fn reveal(&mut self, stretch: Window) {
        if let Some(view) = self.revealing(stretch) {
            self.show(view);
        }
    }

    /// Puts the cursor on a moment, as near as what is shown allows.
    pub fn set_cursor(&mut self, ts_ns: u64) {
        self.cursor_ns = ts_ns.clamp(self.view.from_ns, self.view.to_ns - 1);
    }

    /// The column of a moment, where the view is `columns` wide.
    pub fn column_of(&self, ts_ns: u64, columns: usize) -> usize {
        let ts = ts_ns.clamp(self.view.from_ns, self.view.to_ns - 1) - self.view.from_ns;
        // Columns are cut at `length * column / columns`, rounded down: the inverse rounds up.
        let (columns, length) = (columns.max(1) as u128, u128::from(self.view.len_ns()));
        let column = ((u128::from(ts) + 1) * columns).div_ceil(length) - 1;
        (column.min(columns - 1)) as usize
    }

    /// The stretch that a column shows, where the view is `columns` wide.
    pub fn column_window(&self, column: usize, columns: usize) -> Window {
        let edge = |column: usize| {
            let share = u128::from(self.view.len_ns()) * column as u128 / columns.max(1) as u128;
            self.view.from_ns.saturating_add(share as u64)
        };
        Window::new(edge(column), edge(column + 1))
    }

    /// A view as long as this one in which a stretch is seen; `None` where it is seen already.
    pub(super) fn revealing(&self, stretch: Window) -> Option<Window> {
        let (view, length) = (self.view, self.view.len_ns());
        let whole = view.from_ns <= stretch.from_ns && stretch.to_ns <= view.to_ns;
        let inside_it = stretch.from_ns <= view.from_ns && view.to_ns <= stretch.to_ns;
        if whole || inside_it {
            return None;
        }
        let from = if stretch.len_ns() <= length {
            stretch.from_ns.saturating_sub((length - stretch.len_ns()) / 2)
        } else {
            stretch.from_ns.saturating_sub(length / 10)
        };
        Some(self.inside(Window::new(from, from.saturating_add(length))))
    }

    /// The window moved into the recording; cut only where it is longer.
    pub(super) fn inside(&self, window: Window) -> Window {
        let bounds = self.bounds();
        let length = window.len_ns().min(bounds.len_ns());
        let from = window.from_ns.clamp(bounds.from_ns, bounds.to_ns - length);
        Window::new(from, from + length)
    }

    /// Whether the view sticks to the newest events of a capture.
    pub(super) fn following(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.follows && !live.ended)
    }

    fn set_view(&mut self, view: Window) {
        self.view = view;
        self.set_cursor(self.cursor_ns);
        let edge = self.bounds().to_ns;
        if let Some(live) = self.live.as_mut().filter(|_| view.to_ns < edge) {
            live.follows = false;
        }
    }
}

/// `value * times / parts`, without overflow on the way.
pub(super) fn scale(value: u64, times: u64, parts: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(times) / u128::from(parts.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
