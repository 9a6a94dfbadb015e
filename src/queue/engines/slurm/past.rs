//! Jobs that slurmctld has forgotten, as `sacct` prints them.

use super::record::Record;
use super::text::{span, time};

/// Between fields; no name has it.
pub(super) const DELIMITER: char = '\u{1f}';
/// As `sacct --format` takes them, in the order of [`jobs`].
pub(super) const FIELDS: [&str; 17] = [
    "JobID",
    "JobIDRaw",
    "JobName",
    "User",
    "Account",
    "QOS",
    "Partition",
    "State",
    "ExitCode",
    "Submit",
    "Start",
    "End",
    "Timelimit",
    "NNodes",
    "AllocTRES",
    "NodeList",
    "Comment",
];

/// Jobs, one a line; lines that are none are left out.
pub(super) fn jobs(text: &str) -> Vec<Record> {
    text.lines().filter_map(job).collect()
}

fn job(line: &str) -> Option<Record> {
    let fields: Vec<&str> = line.split(DELIMITER).collect();
    let [
        id,
        raw,
        name,
        user,
        account,
        qos,
        partition,
        state,
        exit,
        submit,
        start,
        end,
        limit,
        nodes,
        tres,
        list,
        comment,
    ] = fields[..]
    else {
        return None;
    };
    let (array, task) = match id.split_once('_') {
        Some((array, task)) => (array.parse().ok(), task.parse().ok()),
        None => (None, None),
    };
    Some(Record {
        id: raw.parse().ok().or_else(|| id.parse().ok())?,
        array,
        task,
        name: name.to_owned(),
        user: user.to_owned(),
        account: account.to_owned(),
        qos: qos.to_owned(),
        partition: partition.to_owned(),
        // "CANCELLED by 1000".
        state: state.split(' ').next().unwrap_or_default().to_ascii_uppercase(),
        exit: exit.split_once(':').and_then(|(status, signal)| Some((status.parse().ok()?, signal.parse().ok()?))),
        submitted: time(submit),
        started: time(start),
        ended: time(end),
        time_limit_s: span(limit),
        nodes: nodes.parse().unwrap_or_default(),
        tres: tres.to_owned(),
        node_list: list.to_owned(),
        comment: comment.to_owned(),
        priority: 1,
        ..Record::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_accounting() {
        let line = "7_2|9|train|ada|lab|normal|main|CANCELLED by 1000|0:15|2026-11-28T16:16:10|2026-11-28T16:16:11|2026-11-28T16:17:11|00:05:00|2|cpu=2,gres/gpu=4,node=2|n[1-2]|aictl:abc"
            .replace('|', &DELIMITER.to_string());
        let job = &jobs(&line)[0];
        assert_eq!(
            (job.id, job.address(), job.state.as_str(), job.exit),
            (9, "7_2".to_owned(), "CANCELLED", Some((0, 15)))
        );
        assert_eq!((job.gres("gpu"), job.time_limit_s, job.comment.as_str()), (4.0, Some(300), "aictl:abc"));
        assert_eq!(jobs("a line of tomorrow\n"), []);
    }
}
