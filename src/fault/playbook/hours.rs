//! Hours of the week: quiet hours and maintenance windows.

use jiff::civil::{DateTime, Time, Weekday};
use serde::{Deserialize, Serialize};

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// From a time of the day to another, past midnight if the second is the earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The days on which they begin; none given: all.
    #[serde(default)]
    pub days: Vec<Day>,
    /// "22:00".
    pub from: Time,
    /// "06:00"; itself no longer part of it. The same as `from`: the whole day.
    pub to: Time,
}

impl Hours {
    /// Whether a moment, in local time, lies within.
    pub fn contain(&self, now: DateTime) -> bool {
        let on = |day: Weekday| self.days.is_empty() || self.days.contains(&name(day));
        let today = now.date().weekday();
        let time = now.time();
        if self.from < self.to {
            return on(today) && self.from <= time && time < self.to;
        }
        // Past midnight: the part of today, or what is left of yesterday's.
        on(today) && time >= self.from || on(today.previous()) && time < self.to
    }
}

fn name(day: Weekday) -> Day {
    match day {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(yaml: &str) -> Hours {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn at(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    #[test]
    fn hours_end_where_they_say() {
        let day = hours("{from: '09:00', to: '17:30'}");
        // A Tuesday.
        for (time, within) in [("08:59:59", false), ("09:00", true), ("17:29:59", true), ("17:30", false)] {
            assert_eq!(day.contain(at(&format!("2026-11-24T{time}"))), within, "{time}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = hours("{days: [fri], from: '22:00', to: '06:00'}");
        for (time, within) in [
            ("2026-11-27T21:59", false),
            ("2026-11-27T22:00", true),
            ("2026-11-28T05:59", true),
            ("2026-11-28T06:00", false),
            ("2026-11-28T23:00", false),
            ("2026-11-27T03:00", false),
        ] {
            assert_eq!(night.contain(at(time)), within, "{time}");
        }
        let whole = hours("{days: [sun], from: '00:00', to: '00:00'}");
        assert!(whole.contain(at("2026-11-29T13:00")));
        assert!(!whole.contain(at("2026-11-30T13:00")));
    }
}
