//! By how much another machine's clock is ahead of ours, from round trips.

/// CLOCK_MONOTONIC, ns: the clock of recordings.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// What round trips have told. The shortest says most: whatever delayed the others delayed one of
/// their two ways more than the other. The answer was given somewhere within it, so half of it is
/// the most that the offset can be wrong.
#[derive(Debug, Clone, Default)]
pub struct ClockOffset {
    /// Shortest round trip and its offset, ns.
    best: Option<(u64, i64)>,
    /// The same of the newest quarter of a minute, to see the clocks drift.
    late: Option<(u64, i64)>,
    late_since_ns: u64,
    trips: u32,
}

/// Round trips older than this do not tell of now.
const LATE_NS: u64 = 15_000_000_000;

impl ClockOffset {
    /// Adds a round trip: sent and received by our clock, answered by theirs.
    pub fn add(&mut self, sent_ns: u64, answered_ns: u64, received_ns: u64) {
        let Some(trip) = received_ns.checked_sub(sent_ns) else { return };
        let offset = i128::from(answered_ns) - i128::from(sent_ns) - i128::from(trip / 2);
        let offset = i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX });
        self.trips += 1;
        if self.best.is_none_or(|(shortest, _)| trip < shortest) {
            self.best = Some((trip, offset));
        }
        if received_ns.saturating_sub(self.late_since_ns) > LATE_NS {
            self.late = None;
            self.late_since_ns = received_ns;
        }
        if self.late.is_none_or(|(shortest, _)| trip < shortest) {
            self.late = Some((trip, offset));
        }
    }

    /// What their clock shows more than ours, ns.
    pub fn offset_ns(&self) -> i64 {
        self.best.map_or(0, |(_, offset)| offset)
    }

    /// The most that this is wrong, ns.
    pub fn error_ns(&self) -> u64 {
        self.best.map_or(0, |(trip, _)| trip / 2)
    }

    /// Round trips so far.
    pub fn trips(&self) -> u32 {
        self.trips
    }

    /// By how much the offset of late differs from `offset_ns`, ns.
    pub fn drift_ns(&self, offset_ns: i64) -> i64 {
        self.late.map_or(0, |(_, late)| late.saturating_sub(offset_ns))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_offset_is_within_its_error(
            ahead in -1_000_000_000_000i64..1_000_000_000_000,
            trips in proptest::collection::vec((0u64..80_000_000, 0u64..80_000_000), 1..20),
        ) {
            let mut clock = ClockOffset::default();
            let mut now = 2_000_000_000_000u64;
            for (there, back) in trips {
                let answered = (now + there) as i64 + ahead;
                clock.add(now, answered as u64, now + there + back);
                now += there + back + 1_000;
            }
            let wrong = (clock.offset_ns() - ahead).unsigned_abs();
            prop_assert!(wrong <= clock.error_ns() + 1, "{wrong} > {}", clock.error_ns());
        }
    }

    #[test]
    fn the_shortest_trip_counts_and_drift_is_seen() {
        let mut clock = ClockOffset::default();
        clock.add(1_000, 6_000, 3_000);
        clock.add(10_000, 15_100, 10_200);
        clock.add(20_000, 99_000, 80_000);
        assert_eq!((clock.offset_ns(), clock.error_ns(), clock.trips()), (5_000, 100, 3));
        let later = 60_000_000_000;
        clock.add(later, later + 5_300, later + 400);
        assert_eq!(clock.drift_ns(5_000), 100);
        clock.add(5, 5, 4);
        assert_eq!(clock.trips(), 4);
    }
}
