//! How fast: the number of connections that pays, and a limit to the rate. Clocks come in as
//! arguments.

use std::time::{Duration, Instant};

/// Connections at the start.
const FIRST: usize = 16;
/// More connections are worth it if they bring more than this.
const WORTH: f64 = 1.05;
/// A loss of more than this is told from noise.
const LOSS: f64 = 0.85;
/// Looks between two tries to grow, once it did not pay.
const REST: u32 = 12;

/// Finds the number of connections: more as long as goodput grows, fewer when the other side is
/// overloaded.
#[derive(Debug, Clone)]
pub struct Pace {
    target: usize,
    most: usize,
    before: Option<(usize, f64)>,
    rest: u32,
}

impl Pace {
    /// Starts with a few, at most `most`.
    pub fn new(most: usize) -> Pace {
        let most = most.max(1);
        Pace { target: FIRST.min(most), most, before: None, rest: 1 }
    }

    /// How many there should be now.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Takes the goodput since the last look; `busy` says whether all connections had work, without
    /// which it says nothing.
    pub fn look(&mut self, bytes_per_second: f64, busy: bool) {
        if !busy {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        match self.before.take() {
            // The last step did not pay: back, and a long rest.
            Some((fewer, rate)) if bytes_per_second < rate * LOSS => {
                self.target = fewer;
                self.rest = REST;
            }
            Some((_, rate)) if bytes_per_second < rate * WORTH => self.rest = REST,
            _ if self.target < self.most => {
                self.before = Some((self.target, bytes_per_second));
                self.target = (self.target + self.target.div_ceil(2)).min(self.most);
                // The first look after a step still sees connections being made.
                self.rest = 1;
            }
            _ => self.rest = REST,
        }
    }

    /// The other side said that it is overloaded.
    pub fn overloaded(&mut self) {
        self.target = (self.target / 2).max(1);
        self.before = None;
        self.rest = REST;
    }
}

/// Lets through so many bytes a second.
#[derive(Debug)]
pub struct Limit {
    bytes_per_second: f64,
    free_at: Option<Instant>,
}

/// What may come at once after a pause.
const BURST: Duration = Duration::from_millis(50);

impl Limit {
    /// A limit.
    pub fn new(bytes_per_second: u64) -> Limit {
        Limit { bytes_per_second: bytes_per_second.max(1) as f64, free_at: None }
    }

    /// Books bytes, and says how long their receiver has to wait.
    pub fn book(&mut self, bytes: usize, now: Instant) -> Duration {
        let start = self.free_at.unwrap_or(now).max(now.checked_sub(BURST).unwrap_or(now));
        let end = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        self.free_at = Some(end);
        end.saturating_duration_since(now)
    }
}

/// The pause before a request is made again: it doubles, up to ten seconds, and is spread so that
/// many clients don't come back together. `chance` is between 0 and 1.
pub fn pause(failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let longest = Duration::from_secs(10);
    let doubled =
        Duration::from_millis(100).saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16))).min(longest);
    let spread = doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) * 0.5);
    // What the other side asks for is the least.
    asked.map_or(spread, |asked| asked + spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(most: usize, goodput: impl Fn(usize) -> f64) -> usize {
        let mut pace = Pace::new(most);
        for _ in 0..400 {
            pace.look(goodput(pace.target()), true);
        }
        // Between two tries it rests.
        while pace.before.is_some() {
            pace.look(goodput(pace.target()), true);
        }
        pace.target()
    }

    #[test]
    fn it_grows_where_that_pays_only() {
        assert_eq!(settle(64, |connections| connections as f64), 64);
        assert!((32..=64).contains(&settle(64, |connections| connections.min(40) as f64)));
        assert!(settle(64, |connections| 100.0 - connections as f64 * 1.2) <= 24);
        assert_eq!(settle(8, |connections| connections as f64), 8);
    }

    #[test]
    fn an_overloaded_server_gets_half() {
        let mut pace = Pace::new(64);
        pace.overloaded();
        assert_eq!(pace.target(), 8);
        (0..20).for_each(|_| pace.overloaded());
        assert_eq!(pace.target(), 1);
    }

    #[test]
    fn idle_times_say_nothing() {
        let mut pace = Pace::new(64);
        (0..50).for_each(|_| pace.look(1e9, false));
        assert_eq!(pace.target(), FIRST);
    }

    #[test]
    fn the_rate_is_held() {
        let start = Instant::now();
        let mut limit = Limit::new(1_000_000);
        let mut now = start;
        for _ in 0..100 {
            now += limit.book(50_000, now);
        }
        let took = (now - start).as_secs_f64();
        assert!((4.9..=5.1).contains(&took), "{took}");
        // A pause buys no more than a burst.
        now += Duration::from_secs(60);
        assert!(limit.book(1_000_000, now) >= Duration::from_millis(900));
    }

    #[test]
    fn pauses_double_and_heed_what_was_asked_for() {
        assert_eq!(pause(1, None, 1.0), Duration::from_millis(100));
        assert_eq!(pause(3, None, 1.0), Duration::from_millis(400));
        assert_eq!(pause(3, None, 0.0), Duration::from_millis(200));
        assert_eq!(pause(60, None, 1.0), Duration::from_secs(10));
        assert!(pause(1, Some(Duration::from_secs(3)), 0.0) >= Duration::from_secs(3));
    }
}
