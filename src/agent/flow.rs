//! Holds the stream to what a rank may send: the shortest slices are left out first.

use std::time::{Duration, Instant};

/// What a rank may send, bytes a second on the wire: 64 ranks then fill a third of 10 Gbit/s, and a
/// laptop's disk keeps up.
pub const RANK_BYTES_S: f64 = 5e6;
/// So many seconds' worth may go at once: the names of all that is seen come at the beginning.
const BURST_S: f64 = 1.0;
/// The limit moves at most so often, so that what it did shows before it moves again.
const MOVE: Duration = Duration::from_millis(100);
/// Where the limit starts and ends, ns.
const FIRST_NS: u64 = 1_000;
const LAST_NS: u64 = 1_000_000_000;

/// How much may still be sent, and which slices are long enough for it.
#[derive(Debug)]
pub struct Flow {
    bytes_s: f64,
    credit: f64,
    counted: Instant,
    moved: Instant,
    least_ns: u64,
    longest_ns: u64,
}

impl Flow {
    /// At so many bytes a second.
    pub fn new(bytes_s: f64, now: Instant) -> Flow {
        Flow { bytes_s, credit: bytes_s * BURST_S, counted: now, moved: now, least_ns: 0, longest_ns: 0 }
    }

    /// More ranks came.
    pub fn set(&mut self, bytes_s: f64) {
        self.bytes_s = bytes_s;
    }

    /// Whether a slice of this length goes out; an event without a length is one of 0.
    pub fn admits(&self, duration_ns: u64) -> bool {
        self.credit > 0.0 && duration_ns >= self.least_ns
    }

    /// The greatest length that was left out, ns; 0 if nothing was.
    pub fn longest_ns(&self) -> u64 {
        self.longest_ns
    }

    /// Bytes went out, or none did: it is to be called now and then as well, since credit grows with time.
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        let most = self.bytes_s * BURST_S;
        let grown = self.bytes_s * now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.credit = (self.credit + grown).min(most) - bytes as f64;
        if now.saturating_duration_since(self.moved) < MOVE {
            return;
        }
        self.moved = now;
        if self.credit < most * 0.5 {
            self.least_ns = (self.least_ns * 2).clamp(FIRST_NS, LAST_NS);
            self.longest_ns = self.longest_ns.max(self.least_ns);
        } else if self.credit > most * 0.9 {
            // Below the first step there is none.
            self.least_ns = if self.least_ns > FIRST_NS { self.least_ns / 2 } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices of three lengths, one after the other, for so long; gives bytes sent, and how many of each length.
    fn run(flow: &mut Flow, begin: Instant, seconds: f64, a_second: f64, size: usize) -> (f64, [u32; 3]) {
        let (mut bytes, mut went) = (0, [0; 3]);
        for number in 0..(seconds * a_second) as u64 {
            let now = begin + Duration::from_secs_f64(number as f64 / a_second);
            // Mostly short ones, as it is in life.
            let kind = match number % 100 {
                0 => 2,
                1..10 => 1,
                _ => 0,
            };
            let sent = flow.admits([2_000, 50_000, 20_000_000][kind]);
            went[kind] += u32::from(sent);
            bytes += if sent { size } else { 0 };
            flow.sent(if sent { size } else { 0 }, now);
        }
        (bytes as f64, went)
    }

    #[test]
    fn too_much_is_held_to_the_limit_and_the_long_ones_stay() {
        let begin = Instant::now();
        let mut flow = Flow::new(10_000.0, begin);
        // Twenty times as much as may go.
        let (bytes, went) = run(&mut flow, begin, 20.0, 10_000.0, 20);
        assert!(bytes <= 10_000.0 * 21.0 + 20.0, "{bytes}");
        assert!(bytes > 10_000.0 * 5.0, "what may go is made use of: {bytes}");
        // Of the long ones nearly all; of the short ones few.
        assert!(went[2] > 1_600 && went[0] < 40_000, "{went:?}");
        assert!(flow.longest_ns() >= 4_000);
    }

    #[test]
    fn what_is_within_the_limit_goes_out_whole_and_a_rush_is_forgotten() {
        let begin = Instant::now();
        let mut flow = Flow::new(10_000.0, begin);
        let (_, went) = run(&mut flow, begin, 10.0, 400.0, 20);
        assert_eq!((went.iter().sum::<u32>(), flow.longest_ns()), (4_000, 0));
        run(&mut flow, begin + Duration::from_secs(10), 5.0, 10_000.0, 20);
        assert!(!flow.admits(1_500));
        run(&mut flow, begin + Duration::from_secs(15), 10.0, 50.0, 20);
        assert!(flow.admits(0), "{flow:?}");
    }
}
