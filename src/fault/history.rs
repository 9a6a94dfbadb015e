//! What earlier looks at the same machine saw: counters, for rates; and states, for what was once
//! well. Plain data that the caller keeps in a file between runs.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Name and version of the file's format.
const SCHEMA: &str = "aictl.history/v1";
/// Readings reach back this far: the longest window of a rate rule, and a little.
const REACH: SignedDuration = SignedDuration::from_mins(65);
/// Of readings older than [`NEAR`] only one in this time is kept.
const APART: SignedDuration = SignedDuration::from_mins(5);
/// Within this all readings are kept that are [`CLOSEST`] apart.
const NEAR: SignedDuration = SignedDuration::from_mins(6);
/// Readings closer than this replace each other.
const CLOSEST: SignedDuration = SignedDuration::from_secs(30);
/// A state that was not confirmed for so long is forgotten.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(90 * 24);

/// All that is remembered of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    schema: String,
    /// The boot that the readings are of: counters start again with every boot.
    boot_id: Option<String>,
    readings: Vec<Reading>,
    /// States by name, over boots.
    known: BTreeMap<String, Known>,
    #[serde(skip)]
    current: Reading,
}

/// Counters at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    at: Timestamp,
    counters: BTreeMap<String, u64>,
}

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Such as "active".
    pub value: String,
    /// Since when it is so, as far as is known.
    pub since: Timestamp,
    /// When it was last seen so.
    pub last: Timestamp,
}

/// How much a counter grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// By so much.
    pub by: u64,
    /// In so long.
    pub over: SignedDuration,
}

impl Growth {
    /// Growth a second.
    pub fn per_second(self) -> f64 {
        self.by as f64 / self.over.as_secs_f64().max(1.0)
    }

    /// Growth an hour. A time shorter than an hour counts as an hour: a burst is no rate.
    pub fn per_hour(self) -> f64 {
        self.by as f64 / (self.over.as_secs_f64() / 3600.0).max(1.0)
    }
}

impl Default for Reading {
    fn default() -> Reading {
        Reading { at: Timestamp::UNIX_EPOCH, counters: BTreeMap::new() }
    }
}

impl Default for History {
    fn default() -> History {
        History {
            schema: SCHEMA.to_owned(),
            boot_id: None,
            readings: Vec::new(),
            known: BTreeMap::new(),
            current: Reading::default(),
        }
    }
}

impl History {
    /// Goes on from what was remembered: readings of another boot, of a time to come (the clock
    /// was set back) and of long ago no longer count.
    #[must_use]
    pub fn resume(mut self, boot_id: Option<&str>, now: Timestamp) -> History {
        if self.schema != SCHEMA {
            self = History::default();
        }
        if boot_id.is_none() || self.boot_id.as_deref() != boot_id {
            self.readings.clear();
        }
        self.boot_id = boot_id.map(str::to_owned);
        self.readings.retain(|reading| reading.at < now);
        self.readings.sort_by_key(|reading| reading.at);
        self.known.retain(|_, known| known.last <= now && now.duration_since(known.last) < FORGOTTEN);
        self.current = Reading { at: now, counters: BTreeMap::new() };
        self
    }

    /// The time of this look.
    pub fn now(&self) -> Timestamp {
        self.current.at
    }

    /// When this boot was looked at last.
    pub fn last_look(&self) -> Option<Timestamp> {
        self.readings.last().map(|reading| reading.at)
    }

    /// Takes what a counter says now.
    pub fn count(&mut self, key: impl Into<String>, value: u64) {
        self.current.counters.insert(key.into(), value);
    }

    /// How much a counter grew within a time up to now. Where no reading is that near, the last
    /// one before counts. A counter that went back started again: its lost part is not counted.
    pub fn grown(&self, key: &str, within: SignedDuration) -> Option<Growth> {
        let now = self.current.at;
        let value = *self.current.counters.get(key)?;
        let seen: Vec<(Timestamp, u64)> =
            self.readings.iter().filter_map(|reading| Some((reading.at, *reading.counters.get(key)?))).collect();
        let first = seen.iter().position(|(at, _)| now.duration_since(*at) <= within).unwrap_or(seen.len());
        let first = if first == seen.len() { first.checked_sub(1)? } else { first };
        let values = seen.iter().skip(first).map(|(_, value)| *value).chain([value]);
        let pairs = values.clone().zip(values.skip(1));
        let by = pairs.map(|(before, after)| after.saturating_sub(before)).sum();
        Some(Growth { by, over: now.duration_since(seen.get(first)?.0) })
    }

    /// How much a counter grew since the last look.
    pub fn grown_lately(&self, key: &str) -> Option<Growth> {
        self.grown(key, SignedDuration::ZERO)
    }

    /// What is known of a state, from earlier looks and from this one.
    pub fn recall(&self, key: &str) -> Option<&Known> {
        self.known.get(key)
    }

    /// Notes a state; its time begins anew when it changes. One whose key begins with `~` is of
    /// something that comes and goes: a look that does not note it forgets it.
    pub fn note(&mut self, key: impl Into<String>, value: &str) {
        let now = self.current.at;
        let known =
            self.known.entry(key.into()).or_insert_with(|| Known { value: value.to_owned(), since: now, last: now });
        if known.value != value {
            *known = Known { value: value.to_owned(), since: now, last: now };
        }
        known.last = now;
    }

    /// Takes a state out, as one that is over.
    pub fn forget(&mut self, key: &str) {
        self.known.remove(key);
    }

    /// Adds this look to the readings, and drops those that no rule asks for any more.
    pub fn close(&mut self) {
        let now = self.current.at;
        self.known.retain(|key, known| known.last == now || !key.starts_with('~'));
        let current = std::mem::take(&mut self.current);
        self.current.at = now;
        let mut kept: Vec<Reading> = Vec::new();
        for reading in std::mem::take(&mut self.readings) {
            let age = now.duration_since(reading.at);
            let apart = if age > NEAR { APART } else { CLOSEST };
            let near = kept.last().is_some_and(|last| reading.at.duration_since(last.at) < apart);
            if age <= REACH && !near {
                kept.push(reading);
            }
        }
        kept.push(current);
        self.readings = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn look(history: History, seconds: i64, value: u64) -> History {
        let mut history = history.resume(Some("boot"), at(seconds));
        history.count("k", value);
        history.close();
        let text = serde_json::to_string(&history).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn now(history: History, seconds: i64, value: u64) -> History {
        let mut history = history.resume(Some("boot"), at(seconds));
        history.count("k", value);
        history
    }

    #[test]
    fn growth_is_over_the_window_or_since_the_last_look() {
        let hour = SignedDuration::from_hours(1);
        assert_eq!(now(History::default(), 0, 5).grown("k", hour), None);
        let mut history = look(History::default(), 0, 5);
        for minute in 1..=30 {
            history = look(history, minute * 60, 5 + u64::try_from(minute).unwrap());
        }
        let history = now(history, 1860, 36);
        assert_eq!(history.grown("k", hour).unwrap().by, 31);
        assert_eq!(history.grown_lately("k").unwrap(), Growth { by: 1, over: SignedDuration::from_mins(1) });
        assert_eq!(history.grown("other", hour), None);
    }

    #[test]
    fn a_counter_that_starts_again_has_not_shrunk() {
        let history = now(look(look(History::default(), 0, 1000), 60, 3), 120, 8);
        assert_eq!(history.grown("k", SignedDuration::from_hours(1)).unwrap().by, 5);
    }

    #[test]
    fn another_boot_and_a_clock_set_back_are_no_base() {
        let hour = SignedDuration::from_hours(1);
        let mut other = look(History::default(), 0, 5).resume(Some("other"), at(60));
        other.count("k", 9);
        assert_eq!(other.grown("k", hour), None);
        let back = now(look(History::default(), 600, 5), 0, 9);
        assert_eq!(back.grown("k", hour), None);
        let unknown = look(History::default(), 0, 5).resume(None, at(60));
        assert_eq!(unknown.last_look(), None);
    }

    #[test]
    fn the_file_stays_small() {
        let mut history = History::default();
        for second in 0..20_000 {
            history = look(history, second * 3, 1);
        }
        assert!(history.readings.len() < 40, "{}", history.readings.len());
        let first = history.readings.first().unwrap().at;
        assert!(at(60_000).duration_since(first) > SignedDuration::from_mins(58), "the hour is covered");
    }

    #[test]
    fn states_live_over_boots_and_know_since_when() {
        let mut history = look(History::default(), 0, 1).resume(Some("boot"), at(0));
        history.note("port", "active");
        let mut history = history.resume(Some("other"), at(100));
        assert_eq!(history.recall("port").unwrap().value, "active");
        history.note("port", "down");
        history = history.resume(Some("other"), at(200));
        history.note("port", "down");
        let known = history.recall("port").unwrap();
        assert_eq!((known.since, known.last), (at(100), at(200)));
        let later = history.resume(Some("other"), at(100 * 24 * 3600));
        assert_eq!(later.recall("port"), None);
    }

    #[test]
    fn a_rate_needs_its_time() {
        let growth = Growth { by: 130, over: SignedDuration::from_mins(2) };
        assert!(growth.per_hour() > 120.0 && growth.per_second() > 1.0);
        assert!(Growth { by: 100, ..growth }.per_hour() <= 120.0);
    }
}
