//! Records as the jobs of all engines, and the answer to why one waits.

use std::collections::HashMap;

use jiff::Timestamp;

use super::order::{self, Past};
use super::record::{Node, Partition, Record};
use super::{quota, request, state};
use crate::queue::{Ahead, EXPLAIN_SCHEMA, EngineKind, Explanation, JOB_SCHEMA, Job, Place, State, Target};

/// As many other jobs are named one by one; the rest are counted.
const NAMED: usize = 20;

/// One record as a job.
pub(super) fn job(record: &Record, target: &Target, shards_per_gpu: f64) -> Job {
    let count = f64::from(record.count());
    let gpus = match record.gres("gpu") {
        gpus if gpus > 0.0 => gpus,
        _ => (record.gres("shard") / shards_per_gpu).max(record.gres("mps") / 100.0),
    };
    let state = state::state(record);
    let started = record.started.filter(|_| !state.is_waiting());
    Job {
        schema: JOB_SCHEMA,
        id: record.address(),
        name: record.name.clone(),
        backend: EngineKind::Slurm,
        cluster: target.cluster.clone(),
        target: target.name.clone(),
        namespace: None,
        queue: record.partition.clone(),
        owner: record.user.clone(),
        state,
        position: None,
        ahead: None,
        eta: None,
        reason: state::reason(record),
        priority: Some(record.priority as i64),
        nodes: record.nodes.max(1) * record.count(),
        gpus: gpus * count,
        submitted_at: record.submitted,
        started_at: started,
        finished_at: record.ended.filter(|_| state.is_over()),
        time_limit_s: record.time_limit_s,
        exit_code: state::exit_code(record),
        submission_id: request::submission(&record.comment).map(str::to_owned),
        waits_for: request::waits(&record.comment).filter(|_| state == crate::queue::State::Held),
    }
}

/// All records as jobs, those that wait with their places.
pub(super) fn jobs(records: &[Record], target: &Target, shards_per_gpu: f64, now: Timestamp) -> Vec<Job> {
    let mut places: HashMap<(u64, Option<u32>), u32> = HashMap::new();
    let mut pasts: HashMap<&str, Option<Past>> = HashMap::new();
    let mut waiting: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in records.iter().filter(|record| state::state(record) == State::Pending) {
        for partition in record.partition.split(',') {
            waiting.entry(partition).or_default().push(record);
        }
    }
    for (partition, mut line) in waiting {
        line.sort_by_key(|record| (std::cmp::Reverse(record.priority), record.id));
        pasts.insert(partition, order::past(records, partition));
        for (place, record) in (1..).zip(line) {
            // A job that may go to several partitions has its best place.
            let best = places.entry((record.id, record.task)).or_insert(place);
            *best = place.min(*best);
        }
    }
    let made = records.iter().map(|record| {
        let mut job = job(record, target, shards_per_gpu);
        if job.state == State::Pending {
            job.position = places.get(&(record.id, record.task)).copied();
            job.ahead = job.position.map(|position| position - 1);
            let first = record.partition.split(',').next().unwrap_or_default();
            job.eta = order::backfill(record, pasts.get(first).copied().flatten(), now);
        }
        job
    });
    made.collect()
}

/// Several records of one array as one job, under the array's own number.
pub(super) fn whole(id: &str, records: &[Record], target: &Target, shards_per_gpu: f64, now: Timestamp) -> Option<Job> {
    let mut jobs = records.iter().map(|record| job(record, target, shards_per_gpu)).collect::<Vec<_>>();
    if let [record] = records {
        let mut job = jobs.pop()?;
        id.clone_into(&mut job.id);
        job.eta = order::backfill(record, None, now);
        return Some(job);
    }
    // What goes on decides; if nothing does, the worst that happened.
    let order = [
        State::Running,
        State::Admitted,
        State::Pending,
        State::Held,
        State::Failed,
        State::Cancelled,
        State::Succeeded,
    ];
    let state = order.into_iter().find(|state| jobs.iter().any(|job| job.state == *state))?;
    let of_state = jobs.iter().find(|job| job.state == state)?;
    let codes: Vec<i32> = jobs.iter().filter_map(|job| job.exit_code).collect();
    let over = state.is_over();
    Some(Job {
        id: id.to_owned(),
        state,
        nodes: jobs.iter().map(|job| job.nodes).sum(),
        gpus: jobs.iter().map(|job| job.gpus).sum(),
        submitted_at: jobs.iter().filter_map(|job| job.submitted_at).min(),
        started_at: jobs.iter().filter_map(|job| job.started_at).min(),
        finished_at: if over { jobs.iter().filter_map(|job| job.finished_at).max() } else { None },
        exit_code: if over { codes.iter().copied().find(|code| *code != 0).or(codes.first().copied()) } else { None },
        ..of_state.clone()
    })
}

/// All that is known of a Slurm at one moment.
pub(super) struct Seen<'a> {
    pub records: &'a [Record],
    pub nodes: &'a [Node],
    pub partitions: &'a [Partition],
    pub blind: Vec<String>,
}

/// Why a job is where it is.
pub(super) fn explain(own: &Record, seen: Seen<'_>, target: &Target, now: Timestamp) -> Explanation {
    let shards = shards_per_gpu(seen.nodes);
    let mut this = job(own, target, shards);
    let partition = own.partition.split(',').next().unwrap_or_default();
    let mut rows = quota::rows(&target.name, seen.partitions, seen.nodes, seen.records);
    rows.retain(|row| row.queue == partition);
    let running: Vec<&Record> = seen
        .records
        .iter()
        .filter(|record| record.goes_to(partition) && matches!(state::state(record), State::Running | State::Admitted))
        .collect();
    let (mut place, mut ahead, mut holders, mut eta) = (None, Vec::new(), Vec::new(), None);
    if this.state == State::Pending {
        let line = order::waiting(seen.records, partition);
        let before: Vec<&Record> =
            line.iter().copied().take_while(|record| (record.id, record.task) != (own.id, own.task)).collect();
        place = Some(Place {
            position: before.len() as u32 + 1,
            of: line.len() as u32,
            ahead: before.len() as u32,
            ahead_blocked: before.iter().filter(|record| order::is_blocked(record)).count() as u32,
            estimated: true,
        });
        let named = |record: &&Record| Ahead::of(&job(record, target, shards), now);
        ahead = before.iter().take(NAMED).map(named).collect();
        holders = running.iter().map(named).collect();
        // Whoever ends first stands first: who has no limit ends last.
        holders.sort_by(|a: &Ahead, b| {
            a.ends_within_s.unwrap_or(f64::INFINITY).total_cmp(&b.ends_within_s.unwrap_or(f64::INFINITY))
        });
        holders.truncate(NAMED);
        let past = order::past(seen.records, partition);
        let own_nodes: Vec<&Node> =
            seen.nodes.iter().filter(|node| node.partitions.iter().any(|name| name == partition)).collect();
        eta = order::backfill(own, past, now);
        if eta.is_none() && !order::is_blocked(own) {
            eta = order::by_limits(own, &before, &running, &own_nodes, past, now);
        }
        this.position = place.as_ref().map(|place| place.position);
        this.ahead = place.as_ref().map(|place| place.ahead);
        this.eta = eta.clone();
    }
    let unblock =
        this.reason.as_ref().filter(|_| !this.state.is_over()).and_then(|reason| state::unblock(own, reason.kind));
    Explanation {
        schema: EXPLAIN_SCHEMA,
        job: this,
        place,
        ahead,
        holders,
        quota: rows,
        unblock,
        eta,
        blind: seen.blind,
    }
}

/// Shards of one GPU, as the first node that has some has it; 1 where none has.
pub(super) fn shards_per_gpu(nodes: &[Node]) -> f64 {
    let sharing = nodes.iter().find(|node| node.has("shard", None) > 0.0 && node.has("gpu", None) > 0.0);
    sharing.map_or(1.0, |node| node.has("shard", None) / node.has("gpu", None))
}
