//! Who is before whom, and when a job may start.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::record::{Node, Record};
use super::state;
use crate::queue::{Eta, State};

/// What of their time limit jobs really took, of those that ended in a partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Past {
    /// Median share of the limit, 0 to 1.
    pub share: f64,
    /// Of how many jobs.
    pub jobs: usize,
}

/// Fewer ended jobs say nothing.
const ENOUGH: usize = 3;

/// The jobs that wait for their turn in a partition, first to start first: by priority as Slurm
/// counts it, then by number.
pub(super) fn waiting<'a>(records: &'a [Record], partition: &str) -> Vec<&'a Record> {
    let mut waiting: Vec<&Record> =
        records.iter().filter(|record| record.goes_to(partition) && state::state(record) == State::Pending).collect();
    waiting.sort_by_key(|record| (Reverse(record.priority), record.id));
    waiting
}

/// Whether a pending job can't start however much is free.
pub(super) fn is_blocked(record: &Record) -> bool {
    !matches!(record.reason.as_str(), "" | "Priority" | "Resources" | "None")
}

/// What ended jobs of a partition took of their limits.
pub(super) fn past(records: &[Record], partition: &str) -> Option<Past> {
    let mut shares: Vec<f64> = records
        .iter()
        .filter(|record| {
            record.goes_to(partition) && matches!(record.state.as_str(), "COMPLETED" | "FAILED" | "TIMEOUT")
        })
        .filter_map(|record| {
            let (limit, started, ended) = (record.time_limit_s?, record.started?, record.ended?);
            (limit > 0).then(|| (ended.duration_since(started).as_secs_f64() / limit as f64).clamp(0.0, 1.0))
        })
        .collect();
    if shares.len() < ENOUGH {
        return None;
    }
    shares.sort_by(f64::total_cmp);
    Some(Past { share: shares[shares.len() / 2], jobs: shares.len() })
}

/// When a pending job may start: Slurm's own estimate, which takes each job to use its whole time
/// limit, so it is the late end of the band; how much of it jobs took so far gives the middle.
pub(super) fn backfill(record: &Record, past: Option<Past>, now: Timestamp) -> Option<Eta> {
    if state::state(record) != State::Pending {
        return None;
    }
    let starts = record.started?.duration_since(now).as_secs_f64();
    (starts > 0.0).then(|| band(starts, past, "Slurm's backfill"))
}

fn band(latest: f64, past: Option<Past>, basis: &str) -> Eta {
    match past {
        Some(past) => Eta {
            p50_s: latest * past.share,
            p90_s: latest,
            basis: format!(
                "{basis}; {} ended jobs took {:.0} % of their time limits (median)",
                past.jobs,
                past.share * 100.0
            ),
        },
        None => Eta { p50_s: latest, p90_s: latest, basis: basis.to_owned() },
    }
}

/// When a pending job may start if all jobs take their time limits and start in order: for clusters
/// whose backfill says nothing. `None` where a limit is missing that it hangs on, or it never fits.
pub(super) fn by_limits(
    own: &Record,
    ahead: &[&Record],
    running: &[&Record],
    nodes: &[&Node],
    past: Option<Past>,
    now: Timestamp,
) -> Option<Eta> {
    let gpus = own.gres("gpu") > 0.0;
    // One kind of piece is counted: GPUs if it asks for some, else cores.
    let size = |record: &Record| {
        let each = if gpus { record.gres("gpu") } else { f64::from(record.cpus.max(1)) };
        each * f64::from(record.count())
    };
    let usable = nodes.iter().filter(|node| !node.is_unavailable());
    let total: f64 = usable.map(|node| if gpus { node.has("gpu", None) } else { f64::from(node.cpus) }).sum();
    if size(own) > total {
        return None;
    }
    // (seconds from now, pieces) that come free.
    let mut ends: Vec<(f64, f64)> = Vec::new();
    let mut used = 0.0;
    for record in running {
        let left = match (record.started, record.time_limit_s) {
            (Some(started), Some(limit)) => Some((limit as f64 - now.duration_since(started).as_secs_f64()).max(0.0)),
            _ => None,
        };
        used += size(record);
        ends.push((left.unwrap_or(f64::INFINITY), size(record)));
    }
    let mut free = total - used;
    let mut clock = 0.0;
    for record in ahead.iter().copied().filter(|record| !is_blocked(record)).chain([own]) {
        let asked = size(record).min(total);
        while free + 1e-9 < asked {
            ends.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (end, pieces) = ends.pop()?;
            if end.is_infinite() {
                return None;
            }
            clock = f64::max(clock, end);
            free += pieces;
        }
        free -= asked;
        ends.push((record.time_limit_s.map_or(f64::INFINITY, |limit| clock + limit as f64), asked));
    }
    let basis = format!("time limits of {} running and {} pending jobs", running.len(), ahead.len());
    Some(band(clock, past, &basis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn pending(id: u64, priority: u64, gpus: u32) -> Record {
        Record {
            id,
            priority,
            partition: "main".to_owned(),
            state: "PENDING".to_owned(),
            reason: "Priority".to_owned(),
            nodes: 1,
            cpus: 1,
            gres_per_node: format!("gpu:{gpus}"),
            time_limit_s: Some(100),
            ..Record::default()
        }
    }

    fn running(id: u64, gpus: u32, began_ago: i64) -> Record {
        Record {
            state: "RUNNING".to_owned(),
            started: Some(Timestamp::from_second(1_000_000 - began_ago).unwrap()),
            ..pending(id, 1, gpus)
        }
    }

    fn node(gpus: u32) -> Node {
        Node { gres: format!("gpu:{gpus}"), cpus: 8, states: vec!["IDLE".to_owned()], ..Node::default() }
    }

    #[test]
    fn priority_then_number() {
        let held = Record { priority: 0, ..pending(9, 0, 1) };
        let elsewhere = Record { partition: "other".to_owned(), ..pending(8, 99, 1) };
        let records = [pending(3, 5, 1), pending(2, 5, 1), pending(4, 9, 1), running(1, 1, 5), held, elsewhere];
        assert_eq!(waiting(&records, "main").iter().map(|record| record.id).collect::<Vec<_>>(), [4, 2, 3]);
    }

    #[test]
    fn limits_give_an_estimate() {
        let (own, first, holder, other) = (pending(5, 1, 2), pending(4, 2, 2), running(1, 2, 40), running(2, 2, 10));
        let node = node(4);
        // The first of the queue starts after 60 s, where the holder ends; ours after 90 s.
        let eta = by_limits(&own, &[&first], &[&holder, &other], &[&node], None, now()).unwrap();
        assert_eq!((eta.p50_s, eta.p90_s), (90.0, 90.0));
        let eta = by_limits(&own, &[&first], &[&holder, &other], &[&node], Some(Past { share: 0.5, jobs: 4 }), now())
            .unwrap();
        assert_eq!((eta.p50_s, eta.p90_s), (45.0, 90.0));
        let endless = Record { time_limit_s: None, ..running(1, 4, 40) };
        assert_eq!(by_limits(&own, &[], &[&endless], &[&node], None, now()), None);
        assert_eq!(by_limits(&pending(5, 1, 9), &[], &[], &[&node], None, now()), None);
    }

    #[test]
    fn slurms_own_estimate_is_the_late_end() {
        let own = Record { started: Some(Timestamp::from_second(1_000_200).unwrap()), ..pending(5, 1, 2) };
        assert_eq!(backfill(&own, None, now()).unwrap().p90_s, 200.0);
        assert_eq!(backfill(&own, Some(Past { share: 0.25, jobs: 3 }), now()).unwrap().p50_s, 50.0);
        assert_eq!(backfill(&pending(5, 1, 2), None, now()), None);
        let ended = |took: i64| Record {
            state: "COMPLETED".to_owned(),
            started: Some(now()),
            ended: Some(Timestamp::from_second(1_000_000 + took).unwrap()),
            ..pending(7, 1, 1)
        };
        assert_eq!(past(&[ended(20), ended(50)], "main"), None);
        assert_eq!(past(&[ended(20), ended(50), ended(90)], "main"), Some(Past { share: 0.5, jobs: 3 }));
    }
}
