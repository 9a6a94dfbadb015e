//! Past views, to go back and forward through.

use super::Window;

/// Views before and after the one shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    past: Vec<Window>,
    future: Vec<Window>,
    /// The last views came from small moves in a row, which count as one.
    nudging: bool,
}

/// So many past views are kept.
const KEPT: usize = 200;

impl History {
    /// Remembers the view that is being left for a new one.
    pub fn leave(&mut self, view: Window) {
        self.nudging = false;
        self.remember(view);
    }

    /// Remembers the view that is being left by a small move, unless another led to it.
    pub fn nudge(&mut self, view: Window) {
        if self.nudging {
            self.future.clear();
        } else {
            self.remember(view);
            self.nudging = true;
        }
    }

    /// Small moves end: the next begins a new run.
    pub fn settle(&mut self) {
        self.nudging = false;
    }

    /// The view before `now`.
    pub fn back(&mut self, now: Window) -> Option<Window> {
        self.nudging = false;
        let view = take_other(&mut self.past, now)?;
        self.future.push(now);
        Some(view)
    }

    /// The view that was left by going back.
    pub fn forward(&mut self, now: Window) -> Option<Window> {
        self.nudging = false;
        let view = take_other(&mut self.future, now)?;
        self.past.push(now);
        Some(view)
    }

    fn remember(&mut self, view: Window) {
        if self.past.last() != Some(&view) {
            self.past.push(view);
            let extra = self.past.len().saturating_sub(KEPT);
            self.past.drain(..extra);
        }
        self.future.clear();
    }
}

/// The last view that differs from the one shown.
fn take_other(views: &mut Vec<Window>, now: Window) -> Option<Window> {
    while let Some(view) = views.pop() {
        if view != now {
            return Some(view);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn w(from_ns: u64) -> Window {
        Window::new(from_ns, from_ns + 10)
    }

    #[test]
    fn views_come_back_in_order() {
        let mut history = History::default();
        history.leave(w(1));
        history.leave(w(2));
        assert_eq!(history.back(w(3)), Some(w(2)));
        assert_eq!(history.back(w(2)), Some(w(1)));
        assert_eq!(history.back(w(1)), None);
        assert_eq!(history.forward(w(1)), Some(w(2)));
        history.leave(w(2));
        assert_eq!(history.forward(w(9)), None, "a new view ends the way forward");
    }

    #[test]
    fn small_moves_in_a_row_are_one() {
        let mut history = History::default();
        for from in 1..50 {
            history.nudge(w(from));
        }
        history.settle();
        history.nudge(w(50));
        assert_eq!(history.back(w(51)), Some(w(50)));
        assert_eq!(history.back(w(50)), Some(w(1)));
        assert_eq!(history.back(w(1)), None);
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut history = History::default();
        for from in 0..1000 {
            history.leave(w(from));
        }
        let mut count = 0;
        while history.back(w(5000)).is_some() {
            count += 1;
        }
        assert_eq!(count, KEPT);
    }
}
