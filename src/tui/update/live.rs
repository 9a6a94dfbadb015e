//! A capture that goes on: the view follows its edge until the user looks elsewhere.

use crate::tui::scene::Window;
use crate::tui::state::{Live, State};

/// A view that was never zoomed shows at most so much of the newest, in ns.
const NEWEST_NS: u64 = 10_000_000_000;

impl State {
    /// Follows the edge from now on.
    pub(super) fn follow(&mut self) {
        match &mut self.live {
            Some(live) if !live.ended => {
                live.follows = true;
                self.selected = None;
                self.follow_edge(self.view.len_ns());
                self.say("following; Space freezes the view");
            }
            Some(_) => self.say("the capture is over; G goes to the recording's end"),
            None => self.say("nothing to follow: this is a recording; G goes to its end"),
        }
    }

    /// News of the capture; whether the view follows is the viewer's own affair.
    pub(super) fn hear(&mut self, news: Live) {
        let follows = self.live.as_ref().map_or(news.follows || !news.ended, |old| old.follows);
        let ended_now = news.ended && self.live.as_ref().is_some_and(|old| !old.ended);
        let forgot = news.forgot || self.live.as_ref().is_some_and(|old| old.forgot);
        self.live = Some(Live { follows: follows && !news.ended, forgot, ..news });
        if ended_now && self.message.as_ref().is_none_or(|message| !message.bad) {
            self.say("the capture is over; the recording is whole");
        }
    }

    /// Keeps the view right after the recording grew from `old` bounds (none before).
    pub(super) fn grown(&mut self, old: Option<Window>) {
        let new = self.bounds();
        if old == self.scene.bounds {
            return;
        }
        if self.live.as_ref().is_none_or(|live| live.follows) {
            // A view of everything goes on to be one, until that is long.
            let whole = old.is_none_or(|old| self.view == old);
            let longest = NEWEST_NS.max(self.view.len_ns());
            let length = if whole { new.len_ns().min(longest) } else { self.view.len_ns() };
            self.follow_edge(length);
        } else {
            self.view = self.inside(self.view);
            self.set_cursor(self.cursor_ns);
        }
        if let Some(range) = self.range.filter(|range| !new.holds(range.from_ns)) {
            // What the range was about is no longer there.
            let to = range.to_ns;
            self.range = (to > new.from_ns).then(|| Window::new(new.from_ns, to));
        }
    }

    /// Shows the newest of a length. No view of its own in the history: the picture runs on, by
    /// whole columns, so that what is drawn moves and does not flicker.
    pub(super) fn follow_edge(&mut self, length: u64) {
        let bounds = self.bounds();
        let columns = u64::from(super::areas(self).body.width).max(1);
        let column = length / columns;
        let from = bounds.to_ns.saturating_sub(length.max(1));
        self.view = match column {
            0 => self.inside(Window::new(from, bounds.to_ns)),
            _ if from <= bounds.from_ns => self.inside(Window::new(from, bounds.to_ns)),
            _ => {
                let from = from - from % column;
                self.inside(Window::new(from, from + column * columns))
            }
        };
        self.cursor_ns = self.view.to_ns - 1;
    }
}
