//! Whether a node's agent can be believed: it has spoken, of this boot, not long ago.

use jiff::{SignedDuration, Timestamp};

use super::facts::{NodeFacts, Report};

/// Name of the check.
pub(super) const CHECK: &str = "agent";

/// What a report is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Word<'r> {
    /// It tells of now.
    Fresh(&'r Report),
    /// It told of another time.
    Stale(&'r Report, Why),
    /// There is none.
    None,
}

/// Why a report does not tell of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The agent has been silent for so many seconds.
    Silent(i64),
    /// It looked in an earlier boot.
    Boot,
    /// It has looked in a time to come: so many seconds ahead.
    Ahead(i64),
    /// It does not say when it looked.
    Undated,
}

/// Weighs a node's report. `longest` is how long an agent may be silent, unless it promised less
/// often to speak.
pub(super) fn weigh<'r>(
    node: &NodeFacts,
    report: Option<&'r Report>,
    now: Timestamp,
    longest: SignedDuration,
) -> Word<'r> {
    let Some(report) = report else { return Word::None };
    let Some(looked) = report.looked_at else { return Word::Stale(report, Why::Undated) };
    let age = now.duration_since(looked);
    // Two publications may be late.
    let promised = SignedDuration::from_secs(i64::try_from(report.refresh_s.min(86_400)).unwrap_or(0) * 5 / 2);
    if age > longest.max(promised) {
        return Word::Stale(report, Why::Silent(age.as_secs()));
    }
    if age < -longest {
        return Word::Stale(report, Why::Ahead(-age.as_secs()));
    }
    match (&node.boot_id, &report.boot_id) {
        (Some(now), Some(then)) if now != then => Word::Stale(report, Why::Boot),
        _ => Word::Fresh(report),
    }
}

/// In words, for a check.
pub(super) fn words(word: Word<'_>) -> String {
    match word {
        Word::Fresh(report) => format!("looked at {}", report.looked_at.map_or(String::new(), |at| at.to_string())),
        Word::None => "no agent has reported from this node".to_owned(),
        Word::Stale(report, why) => {
            let why = match why {
                Why::Silent(seconds) => format!("the agent has been silent for {}", length(seconds)),
                Why::Boot => "the agent's report is of an earlier boot".to_owned(),
                Why::Ahead(seconds) => {
                    format!("the agent's report is {} ahead of our clock: one of the two is wrong", length(seconds))
                }
                Why::Undated => "the agent's report has no time".to_owned(),
            };
            match report.findings.first() {
                Some(worst) => format!("{why}; it last told of {} ({})", worst.fault, worst.severity.name()),
                None => why,
            }
        }
    }
}

fn length(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::at;
    use super::*;

    const FIVE: SignedDuration = SignedDuration::from_mins(5);

    fn report(ago: i64) -> Report {
        Report { looked_at: Some(at(-ago)), refresh_s: 60, boot_id: Some("b".into()), ..Report::default() }
    }

    fn why(report: &Report, boot: &str) -> Option<Why> {
        let node = NodeFacts { boot_id: Some(boot.to_owned()), ..NodeFacts::default() };
        match weigh(&node, Some(report), at(0), FIVE) {
            Word::Stale(_, why) => Some(why),
            _ => None,
        }
    }

    #[test]
    fn a_report_counts_while_it_is_young_and_of_this_boot() {
        assert_eq!(why(&report(200), "b"), None);
        assert_eq!(why(&report(301), "b"), Some(Why::Silent(301)));
        assert_eq!(why(&Report { refresh_s: 600, ..report(1400) }, "b"), None, "it promised no more");
        assert_eq!(why(&report(-400), "b"), Some(Why::Ahead(400)));
        assert_eq!(why(&report(-100), "b"), None);
        assert_eq!(why(&report(10), "another"), Some(Why::Boot));
        assert_eq!(why(&Report { looked_at: None, ..report(0) }, "b"), Some(Why::Undated));
        assert_eq!(weigh(&NodeFacts::default(), None, at(0), FIVE), Word::None);
    }
}
