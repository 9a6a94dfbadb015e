//! A rank that stopped making progress, as far as logs show it: it wrote steadily and has fallen
//! silent while its peers go on. Who never writes shows nothing either way.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::super::catalogue::Catalogue;
use super::super::finding::{Device, Finding};
use super::{CHECK, PodLog};

/// Gaps between lines that are kept.
const GAPS: usize = 512;
/// Lines with a time that make a writer steady.
const STEADY: usize = 20;
/// Silence is shorter than this in any job: an evaluation, a checkpoint.
const SHORTEST_S: f64 = 600.0;
/// Silence is so many times the longest usual gap.
const TIMES: f64 = 10.0;

/// How steadily a log was written to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pace {
    /// Lines with a time.
    pub lines: usize,
    /// Time of the last.
    pub last: Option<Timestamp>,
    gaps_s: VecDeque<f64>,
}

impl Pace {
    /// Counts a line.
    pub fn note(&mut self, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        if let Some(last) = self.last {
            let gap = at.duration_since(last).as_secs_f64();
            if self.gaps_s.len() == GAPS {
                self.gaps_s.pop_front();
            }
            self.gaps_s.push_back(gap.max(0.0));
        }
        self.lines += 1;
        self.last = self.last.max(Some(at));
    }

    /// Of twenty gaps between lines all but one are shorter, seconds; `None` if it is no steady
    /// writer.
    fn usual_gap_s(&self) -> Option<f64> {
        if self.lines < STEADY {
            return None;
        }
        let mut gaps: Vec<f64> = self.gaps_s.iter().copied().collect();
        gaps.sort_by(f64::total_cmp);
        gaps.get(gaps.len() * 19 / 20).copied()
    }
}

/// Pods of a job that have fallen silent while most of their peers go on.
pub(super) fn stalled(job: &str, logs: &[&PodLog], catalogue: &Catalogue, now: Timestamp) -> Vec<Finding> {
    let steady: Vec<(&PodLog, f64, Timestamp)> = logs
        .iter()
        .filter(|log| log.running)
        .filter_map(|log| Some((*log, log.digest.pace.usual_gap_s()?, log.digest.pace.last?)))
        .collect();
    // The newest line of all is now, whatever our clock says.
    let Some(newest) = steady.iter().map(|(.., last)| *last).max() else { return Vec::new() };
    let silence = |last: Timestamp| newest.duration_since(last).as_secs_f64();
    let limit = |usual: f64| SHORTEST_S.max(TIMES * usual);
    let (silent, going): (Vec<_>, Vec<_>) = steady.iter().partition(|(_, usual, last)| silence(*last) > limit(*usual));
    // Where most are silent the job waits as a whole; whose fault that is, logs don't show.
    if silent.is_empty() || silent.len() >= going.len() {
        return Vec::new();
    }
    let of = |(log, usual, last): &&(&PodLog, f64, Timestamp)| {
        let device = Device { name: Some(log.pod.clone()), ..Device::default() };
        let words = format!(
            "its last line is {:.0} min older than its peers' newest; it used to write every {:.0} s or oftener",
            silence(*last) / 60.0,
            usual.max(1.0)
        );
        let mut finding = Finding::read(catalogue, "rank-stalled", device, vec![words], CHECK, now);
        finding.first_seen = Some(*last);
        finding.because = Some(format!(
            "pod {} of {job} on {} is silent while {} of its {} peers go on",
            log.pod,
            log.node,
            going.len(),
            steady.len() - 1
        ));
        finding
    };
    silent.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::digest;
    use super::*;

    /// A log with a line each `every` seconds, the last `ago` seconds before the hour.
    fn log(name: &str, lines: i64, every: i64, ago: i64) -> PodLog {
        let end = "2026-11-24T10:00:00Z".parse::<Timestamp>().unwrap().as_second() - ago;
        let line = |i: i64| format!("{} step\n", Timestamp::from_second(end - every * (lines - 1 - i)).unwrap());
        let text: String = (0..lines).map(line).collect();
        PodLog {
            job: "ml/j".into(),
            pod: format!("ml/{name}"),
            node: format!("node-of-{name}"),
            running: true,
            digest: digest(&text),
        }
    }

    fn judged(logs: &[PodLog]) -> Vec<Finding> {
        let all: Vec<&PodLog> = logs.iter().collect();
        let now = "2026-11-25T10:00:00Z".parse().unwrap();
        stalled("ml/j", &all, &Catalogue::embedded().unwrap(), now)
    }

    #[test]
    fn one_that_falls_silent_while_others_go_on_is_found() {
        let found = judged(&[log("a", 100, 5, 0), log("b", 100, 5, 1), log("c", 100, 5, 1200)]);
        assert_eq!((found.len(), found[0].fault.as_str()), (1, "rank-stalled"));
        assert_eq!(found[0].device.name.as_deref(), Some("ml/c"));
        let because = found[0].because.as_ref().unwrap();
        assert!(because.contains("on node-of-c") && because.contains("2 of its 2 peers"), "{because}");
    }

    #[test]
    fn who_says_little_waits_with_all_or_is_slow_is_none() {
        assert!(judged(&[log("a", 100, 5, 0), log("b", 3, 5, 1200)]).is_empty(), "too few lines to know its habits");
        assert!(judged(&[log("a", 100, 5, 0), log("b", 100, 5, 300)]).is_empty(), "a checkpoint");
        assert!(judged(&[log("a", 100, 5, 0), log("b", 100, 200, 1900)]).is_empty(), "a slow writer");
        assert!(judged(&[log("a", 100, 5, 0), log("b", 100, 5, 1200)]).is_empty(), "one against one says nothing");
        let ended = PodLog { running: false, ..log("c", 100, 5, 1200) };
        assert!(judged(&[log("a", 100, 5, 0), log("b", 100, 5, 0), ended]).is_empty());
        assert!(judged(&[]).is_empty());
    }
}
