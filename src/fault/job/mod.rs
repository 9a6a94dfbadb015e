//! What the logs of a job's pods tell: a collective that timed out, and a rank that fell silent.

mod nccl;
mod progress;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::catalogue::Catalogue;
use super::finding::{Device, Finding};

pub use nccl::{Said, Sign, sign};
pub use progress::Pace;

/// Name of the check.
pub const CHECK: &str = "job-logs";
/// Signs that are kept of one log: a job that ends says the same from each of its ranks.
const MOST_SIGNS: usize = 256;

/// What is kept of one log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Digest {
    /// What the watchdog said, with the time and the line.
    pub signs: Vec<(Option<Timestamp>, Sign, String)>,
    /// How steadily it was written to.
    pub pace: Pace,
}

/// A log of one pod of a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodLog {
    /// "namespace/name" of the job.
    pub job: String,
    /// "namespace/name".
    pub pod: String,
    /// Where it runs.
    pub node: String,
    /// It runs now.
    pub running: bool,
    /// What its log says.
    pub digest: Digest,
}

/// Reads a log; each line may begin with the time at which it was written, as the API server gives
/// it.
pub fn digest(text: &str) -> Digest {
    let mut digest = Digest::default();
    // Whose stack trace begins with the next line.
    let mut trace = None;
    for line in text.lines() {
        let (at, words) = stamped(line);
        digest.pace.note(at);
        if digest.signs.len() >= MOST_SIGNS {
            continue;
        }
        let frame = trace.take().and_then(|rank| nccl::frame(rank, words));
        trace = nccl::trace(words);
        if let Some(sign) = frame.or_else(|| sign(words)) {
            digest.signs.push((at, sign, words.chars().take(400).collect()));
        }
    }
    digest
}

fn stamped(line: &str) -> (Option<Timestamp>, &str) {
    match line.split_once(' ') {
        Some((first, rest)) if first.len() >= 20 => match first.parse() {
            Ok(at) => (Some(at), rest),
            Err(_) => (None, line),
        },
        _ => (None, line),
    }
}

/// Judges all logs that were read.
pub fn judge(logs: &[PodLog], catalogue: &Catalogue, now: Timestamp) -> Vec<Finding> {
    let mut jobs: BTreeMap<&str, Vec<&PodLog>> = BTreeMap::new();
    for log in logs {
        jobs.entry(&log.job).or_default().push(log);
    }
    let mut findings = Vec::new();
    for (job, logs) in jobs {
        findings.extend(hang(job, &logs, catalogue, now));
        findings.extend(progress::stalled(job, &logs, catalogue, now));
    }
    findings
}

/// A collective in which ranks waited in vain.
fn hang(job: &str, logs: &[&PodLog], catalogue: &Catalogue, now: Timestamp) -> Option<Finding> {
    let said =
        || logs.iter().flat_map(|log| log.digest.signs.iter().map(move |(at, sign, line)| (*log, *at, sign, line)));
    let timeouts = || {
        said().filter_map(|(log, at, sign, line)| match &sign.said {
            Said::Timeout { sequence, operation, waited_ms } => {
                Some((log, at, sign, line, *sequence, operation, *waited_ms))
            }
            _ => None,
        })
    };
    // The first collective that failed; those after it fail for its sake.
    let sequence = timeouts().map(|(.., sequence, _, _)| sequence).min();
    let stuck = said().filter(|(_, _, sign, _)| matches!(sign.said, Said::Stuck { .. }));
    let lines: Vec<(Option<Timestamp>, &String)> = match sequence {
        Some(sequence) => timeouts().filter(|hit| hit.4 == sequence).map(|(_, at, _, line, ..)| (at, line)).collect(),
        None => stuck.map(|(_, at, _, line)| (at, line)).collect(),
    };
    let first_line = lines.first()?;
    let waiting: BTreeSet<u32> =
        timeouts().filter(|hit| Some(hit.4) == sequence).filter_map(|(_, _, sign, ..)| sign.rank).collect();
    let operations: BTreeSet<&String> =
        timeouts().filter(|hit| Some(hit.4) == sequence).map(|(.., operation, _)| operation).collect();
    let waited_s = timeouts().filter(|hit| Some(hit.4) == sequence).map(|hit| hit.6).max().unwrap_or(0) / 1000;
    // How far each rank had come, as the watchdogs say.
    let mut reached: BTreeMap<u32, (u64, &PodLog)> = BTreeMap::new();
    for (log, _, sign, _) in said() {
        if let (Some(rank), Said::Status { enqueued, .. }) = (sign.rank, &sign.said) {
            let known = reached.entry(rank).or_insert((*enqueued, log));
            known.0 = known.0.max(*enqueued);
        }
    }
    let late: Vec<(u32, u64, &PodLog)> = reached
        .iter()
        .filter(|(_, (enqueued, _))| sequence.is_some_and(|sequence| *enqueued < sequence))
        .map(|(rank, (enqueued, log))| (*rank, *enqueued, *log))
        .collect();
    let quiet: Vec<&PodLog> = logs.iter().filter(|log| log.digest.signs.is_empty()).copied().collect();
    let mut because = match sequence {
        Some(sequence) => {
            let names: Vec<&str> = operations.iter().map(|operation| operation.as_str()).collect();
            format!("{} waited {waited_s} s in collective {sequence} ({})", ranks(&waiting), names.join(", "))
        }
        None => "the watchdog itself got stuck, which a hung driver or a stopped process does".to_owned(),
    };
    if operations.len() > 1 {
        because.push_str("; the ranks called different collectives: the program takes different ways on them");
    } else if !late.is_empty() {
        let who = late.iter().take(4).map(|(rank, enqueued, log)| {
            format!("rank {rank} ({} on {}) had come to {enqueued} only", log.pod, log.node)
        });
        because.push_str(&format!("; {}", who.collect::<Vec<_>>().join(", ")));
    } else if !quiet.is_empty() && quiet.len() < logs.len() {
        let who: Vec<String> = quiet.iter().take(4).map(|log| format!("{} on {}", log.pod, log.node)).collect();
        because.push_str(&format!("; nothing of it is said by {}: look there first", who.join(", ")));
    }
    let device = Device { name: Some(job.to_owned()), ..Device::default() };
    let last_line = lines.last().filter(|_| lines.len() > 1);
    let mut evidence: Vec<String> =
        std::iter::once(first_line).chain(last_line).map(|(_, line)| (*line).clone()).collect();
    let called_from = said().find_map(|(_, _, sign, _)| match &sign.said {
        Said::CalledFrom(frame) => Some(format!("called from {frame}")),
        _ => None,
    });
    evidence.extend(called_from);
    let mut finding = Finding::read(catalogue, "nccl-hang", device, evidence, CHECK, now);
    finding.count = waiting.len().max(1) as u64;
    finding.first_seen = lines.iter().filter_map(|(at, _)| *at).min();
    finding.last_seen = lines.iter().filter_map(|(at, _)| *at).max().or(Some(now));
    finding.because = Some(because);
    Some(finding)
}

/// "rank 3", "ranks 0-6, 8", "a rank" where none is known.
fn ranks(ranks: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &rank in ranks {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == rank => *end = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let shown: Vec<String> =
        runs.iter().take(8).map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    match ranks.len() {
        0 => "a rank".to_owned(),
        1 => format!("rank {}", shown.join(", ")),
        _ => format!("ranks {}{}", shown.join(", "), if runs.len() > 8 { ", …" } else { "" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(pod: &str, node: &str, text: &str) -> PodLog {
        PodLog { job: "ml/llama".into(), pod: pod.into(), node: node.into(), running: true, digest: digest(text) }
    }

    fn timeout(rank: u32, operation: &str) -> String {
        format!(
            "2026-11-24T10:10:00.123456789Z [rank{rank}]:[E1124 10:10:00.123 ProcessGroupNCCL.cpp:632] [Rank {rank}] \
             Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1234, OpType={operation}, NumelIn=1, \
             NumelOut=1, Timeout(ms)=600000) ran for 600029 milliseconds before timing out.\n"
        )
    }

    fn judged(logs: &[PodLog]) -> Vec<Finding> {
        judge(logs, &Catalogue::embedded().unwrap(), "2026-11-24T10:11:00Z".parse().unwrap())
    }

    #[test]
    fn the_rank_that_never_came_is_named() {
        let status = "2026-11-24T10:10:01Z [rank3]:[E] [PG ID 0 PG GUID 0(default_pg) Rank 3]  failure detected by \
                      watchdog at work sequence id: 1233 PG status: last enqueued work: 1233, last completed work: 1233\n";
        let mut logs: Vec<PodLog> =
            (0..3).map(|i| log(&format!("ml/w-{i}"), &format!("gpu-{i}"), &timeout(i, "ALLREDUCE"))).collect();
        logs.push(log("ml/w-3", "gpu-3", status));
        let found = judged(&logs);
        assert_eq!((found.len(), found[0].fault.as_str(), found[0].count), (1, "nccl-hang", 3));
        assert_eq!(
            found[0].because.as_deref(),
            Some(
                "ranks 0-2 waited 600 s in collective 1234 (ALLREDUCE); rank 3 (ml/w-3 on gpu-3) had come to 1233 only"
            )
        );
        assert_eq!(found[0].device.name.as_deref(), Some("ml/llama"));
        assert_eq!(found[0].last_seen.unwrap().to_string(), "2026-11-24T10:10:00.123456789Z");
    }

    #[test]
    fn who_is_quiet_and_who_goes_another_way_is_said() {
        let quiet = [log("ml/w-0", "gpu-0", &timeout(0, "ALLREDUCE")), log("ml/w-1", "gpu-1", "loss 1.0\n")];
        assert!(judged(&quiet)[0].because.as_ref().unwrap().contains("said by ml/w-1 on gpu-1: look there first"));
        let apart = [log("a", "n", &timeout(0, "ALLREDUCE")), log("b", "m", &timeout(1, "BROADCAST"))];
        assert!(judged(&apart)[0].because.as_ref().unwrap().contains("different collectives"));
        assert!(judged(&[log("a", "n", "training\nloss 2\n")]).is_empty());
    }

    #[test]
    fn the_flight_recorder_says_where_it_was_called() {
        let trace = "[rank0]:[E] [PG ID 0 PG GUID 0(default_pg) Rank 0] Stack trace of the failed collective: \n\
                     #0 all_reduce from /opt/train.py:31\n#1 step from /opt/train.py:90\n";
        let found = judged(&[log("a", "n", &(timeout(0, "ALLREDUCE") + trace))]);
        assert_eq!(found[0].evidence.last().unwrap(), "called from #0 all_reduce from /opt/train.py:31");
    }

    #[test]
    fn ranks_read_well() {
        let of = |numbers: &[u32]| ranks(&numbers.iter().copied().collect());
        assert_eq!([of(&[]), of(&[3]), of(&[0, 1, 2, 5])], ["a rank", "rank 3", "ranks 0-2, 5"]);
    }
}
