//! Which way a log runs, and so what of it is before a boot: journalctl -r and tac turn one around.

use std::cmp::Ordering;

use super::envelope::{Clock, Stamp, open};

/// What is known of a boot's lines so far.
#[derive(Debug, Default)]
pub(super) struct Edge {
    first: Option<Stamp>,
    last: Stamp,
    host: Option<String>,
    /// The line before, not read yet.
    line: Vec<u8>,
}

/// Which way a log runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forwards,
    Backwards,
}

impl Edge {
    /// Of records whose first and last times are known.
    pub fn of(first: Stamp, last: Stamp) -> Edge {
        Edge { first: Some(first), last, ..Edge::default() }
    }

    /// Whether the first line was read.
    pub fn has_begun(&self) -> bool {
        self.first.is_some()
    }

    /// The first line's time; later ones change nothing.
    pub fn begin(&mut self, stamp: Stamp) {
        self.first.get_or_insert(stamp);
    }

    /// Keeps a line, to be read if the next one tells of a boot.
    pub fn keep(&mut self, line: &[u8]) {
        self.line.clear();
        self.line.extend_from_slice(line);
    }

    /// Reads the line that was kept.
    pub fn read(&mut self, clock: &Clock) {
        if !self.line.is_empty() {
            let text = String::from_utf8_lossy(&self.line);
            let message = open(&text, clock);
            (self.last, self.host) = (message.stamp, message.host.map(str::to_owned));
        }
    }

    /// Passes a record whose time is known.
    pub fn pass(&mut self, stamp: Stamp, host: &str) {
        self.begin(stamp);
        (self.last, self.host) = (stamp, Some(host.to_owned()));
    }

    /// Host of the line before.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

/// Two times of one clock.
fn compare(a: Stamp, b: Stamp) -> Option<Ordering> {
    match (a, b) {
        (Stamp::Wall(a), Stamp::Wall(b)) => Some(a.cmp(&b)),
        (Stamp::SinceBoot(a), Stamp::SinceBoot(b)) => Some(a.cmp(&b)),
        _ => None,
    }
}

/// Which way a log runs, by the lines before a boot, else by the one after it; times since boot say
/// nothing across it. Clocks step at a boot, so where one time speaks against the other it is not
/// known, and nothing is history.
pub(super) fn direction(edge: &Edge, next: Stamp) -> Option<Direction> {
    let across = match (edge.last, next) {
        (Stamp::Wall(last), Stamp::Wall(next)) => last.cmp(&next),
        _ => Ordering::Equal,
    };
    match (inside(edge), across) {
        (Some(Ordering::Less), _) => Some(Direction::Forwards),
        (Some(_), Ordering::Less) => None,
        (Some(_), _) => Some(Direction::Backwards),
        (None, Ordering::Greater) => None,
        (None, _) => Some(Direction::Forwards),
    }
}

/// The first time of a boot's lines against the last.
fn inside(edge: &Edge) -> Option<Ordering> {
    edge.first.and_then(|first| compare(first, edge.last)).filter(|order| order.is_ne())
}

/// What the kernel's first line at this time says: a boot, if time began anew or went on. In a log
/// that runs backwards it is a boot's end. `None` if it is the same boot's.
pub(super) fn of_banner(edge: &Edge, banner: Stamp) -> Option<Direction> {
    let direction = direction(edge, banner)?;
    match compare(edge.last, banner) {
        _ if direction == Direction::Backwards => Some(direction),
        // In the same second, and nothing shows which way time goes: no reason to leave anything out.
        Some(Ordering::Equal) if inside(edge).is_none() => None,
        Some(order) if matches!(banner, Stamp::SinceBoot(_)) => order.is_gt().then_some(direction),
        _ => Some(direction),
    }
}
