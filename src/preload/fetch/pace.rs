//! How fast: the number of connections that pays, and a limit to the rate. Clocks come in as
//! arguments.

use std::time::{Duration, Instant};

/// Connections at the start. Where there is no latency 2 to 8 are the fastest, and more cost
/// (benches/preload_fetch.py).
const FIRST: usize = 8;
/// Twice the connections are worth it if they bring so much: at the start, from one look.
const DOUBLING: f64 = 1.2;
/// Half as many more are worth it if they bring so much: later, from several looks.
const WORTH: f64 = 1.05;
/// Looks of which the mean is taken, after the start.
const LOOKS: u32 = 2;
/// Looks between two tries to grow, once it did not pay.
const REST: u32 = 12;
/// After a step, connections have so many looks to bring their first byte.
const SETTLED_BY: u32 = 8;

/// Finds the number of connections: more as long as goodput grows, fewer when that did not pay or
/// the other side is overloaded.
#[derive(Debug, Clone)]
pub struct Pace {
    target: usize,
    most: usize,
    /// Doubling still.
    starting: bool,
    /// How many there were before the last step, and what they brought.
    before: Option<(usize, f64)>,
    /// Looks since the last step, until its connections bring something.
    settling: Option<u32>,
    /// Sum and number of the looks at this many.
    seen: (f64, u32),
    rest: u32,
}

impl Pace {
    /// Starts with a few, at most `most`.
    pub fn new(most: usize) -> Pace {
        let most = most.max(1);
        let target = FIRST.min(most);
        Pace { target, most, starting: true, before: None, settling: Some(0), seen: (0.0, 0), rest: 0 }
    }

    /// How many there should be now.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Whether it still looks for the right size, so that looks should be frequent.
    pub fn is_starting(&self) -> bool {
        self.starting
    }

    /// Takes the goodput since the last look; `busy` says whether all connections had work, without
    /// which it says nothing, and `waiting` how many of them had no byte of their answer yet.
    pub fn look(&mut self, bytes_per_second: f64, busy: bool, waiting: usize) {
        if !busy {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        if let Some(looks) = self.settling {
            // This look still saw connections being made.
            self.settling = (waiting * 4 > self.target && looks < SETTLED_BY).then_some(looks + 1);
            return;
        }
        self.seen = (self.seen.0 + bytes_per_second, self.seen.1 + 1);
        if !self.starting && self.seen.1 < LOOKS {
            return;
        }
        let rate = self.seen.0 / f64::from(self.seen.1);
        self.seen = (0.0, 0);
        let worth = if self.starting { DOUBLING } else { WORTH };
        match self.before.take() {
            // The last step did not pay: back, and a long rest.
            Some((fewer, before)) if rate < before * worth => {
                self.target = fewer;
                self.starting = false;
                self.rest = REST;
            }
            _ if self.target < self.most => {
                self.before = Some((self.target, rate));
                let step = if self.starting { self.target } else { self.target.div_ceil(2) };
                self.target = (self.target + step).min(self.most);
                self.settling = Some(0);
            }
            _ => {
                self.starting = false;
                self.rest = REST;
            }
        }
    }

    /// The other side said that it is overloaded.
    pub fn overloaded(&mut self) {
        self.target = (self.target / 2).max(1);
        self.starting = false;
        self.before = None;
        self.settling = None;
        self.seen = (0.0, 0);
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
            pace.look(goodput(pace.target()), true, 0);
        }
        // Between two tries it rests.
        while pace.before.is_some() {
            pace.look(goodput(pace.target()), true, 0);
        }
        pace.target()
    }

    #[test]
    fn it_grows_where_that_pays_only() {
        assert_eq!(settle(64, |connections| connections as f64), 64);
        assert!((32..=64).contains(&settle(64, |connections| connections.min(40) as f64)));
        assert_eq!(settle(64, |connections| 100.0 - connections as f64), FIRST);
        assert_eq!(settle(64, |_| 100.0), FIRST, "what brings nothing is given back");
        assert_eq!(settle(3, |connections| connections as f64), 3);
    }

    #[test]
    fn it_is_there_soon() {
        let mut pace = Pace::new(64);
        let looks = (1..).find(|_| {
            pace.look(pace.target() as f64, true, 0);
            pace.target() == 64
        });
        assert_eq!(looks, Some(6), "two looks a doubling");
    }

    #[test]
    fn slow_answers_are_waited_for() {
        let mut pace = Pace::new(64);
        // Connections bring nothing for four looks after each step.
        let (mut held, mut looks) = (FIRST, 0);
        for _ in 0..60 {
            if pace.target() != held {
                looks += 1;
                if looks > 4 {
                    (held, looks) = (pace.target(), 0);
                }
            }
            pace.look(held as f64, true, pace.target().saturating_sub(held));
        }
        assert_eq!(pace.target(), 64);
        // Some always wait: that is no reason to wait for ever.
        let mut pace = Pace::new(64);
        (0..60).for_each(|_| pace.look(pace.target() as f64, true, pace.target()));
        assert_eq!(pace.target(), 64);
    }

    #[test]
    fn an_overloaded_server_gets_half() {
        let mut pace = Pace::new(64);
        pace.overloaded();
        assert_eq!(pace.target(), FIRST / 2);
        (0..20).for_each(|_| pace.overloaded());
        assert_eq!(pace.target(), 1);
    }

    #[test]
    fn idle_times_say_nothing() {
        let mut pace = Pace::new(64);
        (0..50).for_each(|_| pace.look(1e9, false, 0));
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
