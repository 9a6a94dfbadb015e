//! Reads what `scontrol --oneliner show` prints: `Key=Value` words whose values may hold spaces.
//!
//! This text has kept its keys over all of Slurm's versions, where the JSON of its programs changes
//! with each, and it costs slurmctld and us a quarter of the time.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::record::{Node, Partition, Record};

/// One line as its keys and values.
pub(super) struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    /// Splits a line. A value goes on until the next word that looks like a key; a job's own words
    /// (its name) stand at known places, so that what is in them is no key.
    pub fn of(line: &'a str) -> Fields<'a> {
        let mut fields = Vec::new();
        let mut rest = line.trim();
        while let Some((key, after)) = rest.split_once('=') {
            let end = match key {
                "JobName" => after.find(" UserId=").unwrap_or(after.len()),
                _ => next_key(after),
            };
            fields.push((key, after[..end].trim_end()));
            rest = after[end..].trim_start();
        }
        Fields(fields)
    }

    /// The value of a key; "" for `(null)`, `N/A` and where it is not there.
    pub fn get(&self, key: &str) -> &'a str {
        let value = self.0.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value);
        if matches!(value, "(null)" | "N/A" | "n/a" | "None assigned") { "" } else { value }
    }

    fn number<T: std::str::FromStr + Default>(&self, key: &str) -> T {
        let value = self.get(key);
        let digits = value.split('-').next().unwrap_or_default();
        digits.parse().unwrap_or_default()
    }
}

/// Where the next ` Key=` begins in a text.
fn next_key(text: &str) -> usize {
    for (at, _) in text.match_indices(' ') {
        let word = text[at..].trim_start();
        let key = word.split(['=', ' ']).next().unwrap_or_default();
        let is_key = word[key.len()..].starts_with('=')
            && key.starts_with(|c: char| c.is_ascii_uppercase())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | ':' | '*' | '.'));
        if is_key {
            return at;
        }
    }
    text.len()
}

/// Jobs, one a line.
pub(super) fn jobs(text: &str) -> Vec<Record> {
    text.lines().filter(|line| line.starts_with("JobId=")).map(|line| job(&Fields::of(line))).collect()
}

fn job(fields: &Fields<'_>) -> Record {
    let array: Option<u64> = fields.get("ArrayJobId").parse().ok();
    let task_text = fields.get("ArrayTaskId");
    let task: Option<u32> = task_text.parse().ok();
    let tasks_left = (task.is_none() && !task_text.is_empty()).then(|| match fields.get("ArrayTaskThrottle") {
        "" => task_text.to_owned(),
        _ if task_text.contains('%') => task_text.to_owned(),
        limit => format!("{task_text}%{limit}"),
    });
    let states = fields.get("JobState").to_ascii_uppercase();
    let mut words = states.split(['+', ',', ' ']).map(str::to_owned);
    let nodes = fields.number::<u32>("NumNodes");
    let first = |keys: &[&str]| keys.iter().map(|key| fields.get(key)).find(|value| !value.is_empty()).unwrap_or("");
    Record {
        id: fields.number("JobId"),
        array,
        task,
        tasks_left,
        name: fields.get("JobName").to_owned(),
        user: before_parenthesis(fields.get("UserId")),
        account: fields.get("Account").to_owned(),
        qos: fields.get("QOS").to_owned(),
        partition: fields.get("Partition").to_owned(),
        state: words.next().unwrap_or_default(),
        flags: words.collect(),
        reason: fields
            .get("Reason")
            .trim_matches('(')
            .split(' ')
            .next()
            .filter(|word| *word != "None")
            .unwrap_or("")
            .to_owned(),
        description: String::new(),
        priority: fields.number("Priority"),
        nodes,
        tasks: fields.number("NumTasks"),
        cpus: fields.number("NumCPUs"),
        memory_per_node: match fields.get("MinMemoryNode") {
            "" => 0,
            text => crate::queue::Bytes::slurm(text).map_or(0, |bytes| bytes.0),
        },
        gres_per_node: first(&["TresPerNode", "Gres"]).to_owned(),
        gres_per_job: fields.get("TresPerJob").to_owned(),
        gres_per_task: fields.get("TresPerTask").to_owned(),
        tres: first(&["AllocTRES", "TRES", "ReqTRES"]).to_owned(),
        node_list: fields.get("NodeList").to_owned(),
        batch_host: fields.get("BatchHost").to_owned(),
        required_nodes: fields.get("ReqNodeList").to_owned(),
        features: fields.get("Features").to_owned(),
        dependency: fields.get("Dependency").to_owned(),
        submitted: time(fields.get("SubmitTime")),
        eligible: time(fields.get("EligibleTime")),
        started: time(fields.get("StartTime")),
        ended: time(fields.get("EndTime")),
        time_limit_s: span(fields.get("TimeLimit")),
        exit: fields
            .get("ExitCode")
            .split_once(':')
            .and_then(|(status, signal)| Some((status.parse().ok()?, signal.parse().ok()?))),
        comment: fields.get("Comment").to_owned(),
        output: fields.get("StdOut").to_owned(),
        workdir: fields.get("WorkDir").to_owned(),
        restarts: fields.number("Restarts"),
    }
}

/// Nodes, one a line.
pub(super) fn nodes(text: &str) -> Vec<Node> {
    text.lines().filter(|line| line.starts_with("NodeName=")).map(|line| node(&Fields::of(line))).collect()
}

fn node(fields: &Fields<'_>) -> Node {
    let list = |key: &str| fields.get(key).split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let mebibytes = |key: &str| fields.number::<u64>(key) << 20;
    Node {
        name: fields.get("NodeName").to_owned(),
        states: states(fields.get("State")),
        reason: fields.get("Reason").to_owned(),
        partitions: list("Partitions"),
        features: list("AvailableFeatures"),
        cpus: fields.number("CPUTot"),
        cpus_used: fields.number("CPUAlloc"),
        memory: mebibytes("RealMemory"),
        memory_used: mebibytes("AllocMem"),
        gres: fields.get("Gres").to_owned(),
        gres_used: fields.get("GresUsed").to_owned(),
        host: fields.get("NodeHostName").to_owned(),
        address: fields.get("NodeAddr").to_owned(),
        busy_at: time(fields.get("LastBusyTime")),
        booted: time(fields.get("BootTime")),
    }
}

/// A node's states: `IDLE+CLOUD`, `DOWN*+DRAIN`; `*` is a node that doesn't answer.
pub(super) fn states(text: &str) -> Vec<String> {
    let mut states = Vec::new();
    for word in text.split('+') {
        let plain = word.trim_end_matches(['*', '~', '#', '!', '%', '$', '@', '^', '-']);
        states.push(plain.to_ascii_uppercase());
        if word.ends_with('*') {
            states.push("NOT_RESPONDING".to_owned());
        }
    }
    states
}

/// Partitions, one a line.
pub(super) fn partitions(text: &str) -> Vec<Partition> {
    let lines = text.lines().filter(|line| line.starts_with("PartitionName="));
    lines
        .map(|line| {
            let fields = Fields::of(line);
            Partition {
                name: fields.get("PartitionName").to_owned(),
                is_default: fields.get("Default") == "YES",
                up: fields.get("State") == "UP",
                nodes: fields.get("Nodes").to_owned(),
                max_time_s: span(fields.get("MaxTime")),
                max_nodes: fields.get("MaxNodes").parse().ok(),
                total_nodes: fields.number("TotalNodes"),
            }
        })
        .collect()
}

fn before_parenthesis(text: &str) -> String {
    text.split('(').next().unwrap_or_default().to_owned()
}

/// A time of the programs, which were told to speak UTC; `None` for "Unknown".
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let local: DateTime = text.parse().ok()?;
    TimeZone::UTC.to_timestamp(local).ok()
}

/// Seconds of `1-00:00:00`, `30:00`; `None` for UNLIMITED and the like.
pub(super) fn span(text: &str) -> Option<u64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (days.parse::<u64>().ok()?, rest),
        None => (0, text),
    };
    let mut seconds = 0u64;
    let parts: Vec<u64> = rest.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    if parts.len() > 3 {
        return None;
    }
    for part in parts {
        seconds = seconds.checked_mul(60)?.checked_add(part)?;
    }
    days.checked_mul(86_400)?.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As 22.05 prints it, with what is of no interest left out.
    const PENDING: &str = "JobId=3 ArrayJobId=3 ArrayTaskId=0-3%2 ArrayTaskThrottle=2 JobName=my job UserId=ada(1000) GroupId=ada(1000) MCS_label=N/A Priority=4294901757 Nice=0 Account=(null) QOS=(null) JobState=PENDING Reason=Resources Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:00 TimeLimit=00:05:00 TimeMin=N/A SubmitTime=2026-11-28T16:16:10 EligibleTime=2026-11-28T16:16:11 StartTime=2026-11-29T16:16:10 EndTime=Unknown Partition=main AllocNode:Sid=127.0.0.1:19123 ReqNodeList=(null) ExcNodeList=(null) NodeList= NumNodes=2-2 NumCPUs=2 NumTasks=2 CPUs/Task=1 ReqB:S:C:T=0:0:*:* TRES=cpu=2,mem=8000M,node=2,billing=2 MinMemoryNode=4000M Features=(null) OverSubscribe=OK Command=/home/ada/a b.sh WorkDir=/home/ada Comment=aictl:abc two words StdErr=/home/ada/slurm-3_4294967294.out StdIn=/dev/null StdOut=/home/ada/slurm-3_4294967294.out Power= TresPerNode=gres:gpu:2";

    #[test]
    fn a_job_in_text() {
        let job = &jobs(PENDING)[0];
        assert_eq!((job.id, job.array, job.task, job.address()), (3, Some(3), None, "3_[0-3%2]".to_owned()));
        assert_eq!((job.name.as_str(), job.user.as_str(), job.count()), ("my job", "ada", 4));
        assert_eq!((job.state.as_str(), job.reason.as_str()), ("PENDING", "Resources"));
        assert_eq!((job.nodes, job.gres("gpu"), job.time_limit_s), (2, 4.0, Some(300)));
        assert_eq!(job.comment, "aictl:abc two words");
        assert_eq!(job.memory_per_node, 4000 << 20);
        assert_eq!(job.submitted.unwrap().to_string(), "2026-11-28T16:16:10Z");
        assert_eq!(job.ended, None);
        assert_eq!(job.account, "");
    }

    #[test]
    fn nodes_and_partitions_in_text() {
        let line = "NodeName=n1 Arch=x86_64 CoresPerSocket=1 CPUAlloc=1 CPUEfctv=4 CPUTot=4 CPULoad=1.57 AvailableFeatures=a,b ActiveFeatures=a Gres=gpu:a100:2,shard:a100:8 GresDrain=N/A GresUsed=gpu:a100:1(IDX:0),shard:a100:0(IDX:N/A) NodeAddr=127.0.0.1 OS=Linux 6.18 #1 SMP RealMemory=4000 AllocMem=10 State=DOWN*+DRAIN+INVALID_REG Partitions=main,other Reason=Low socket*core*thread count, Low CPUs [root@2026-11-28T16:15:31]";
        let node = &nodes(line)[0];
        assert_eq!(node.states, ["DOWN", "NOT_RESPONDING", "DRAIN", "INVALID_REG"]);
        assert_eq!(
            (node.has("gpu", None), node.uses("gpu", Some("a100")), node.has("gpu", Some("h100"))),
            (2.0, 1.0, 0.0)
        );
        assert_eq!((node.cpus, node.cpus_used, node.memory), (4, 1, 4000 << 20));
        assert!(node.reason.starts_with("Low socket*core*thread count, Low CPUs"));
        assert!(node.is_unavailable());
        let line = "PartitionName=main AllowGroups=ALL Default=YES QoS=N/A MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 Nodes=n[1-2] State=UP TotalCPUs=8 TotalNodes=2";
        let partition = &partitions(line)[0];
        assert!(partition.is_default && partition.up);
        assert_eq!((partition.max_time_s, partition.max_nodes, partition.total_nodes), (Some(86_400), None, 2));
    }

    #[test]
    fn spans() {
        assert_eq!(span("1-02:03:04"), Some(93_784));
        assert_eq!(span("30:00"), Some(1800));
        for text in ["UNLIMITED", "Partition_Limit", "", "1:2:3:4", "99999999999999999999-0:0"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_no_field(name in "[ -~]{0,30}", comment in "[a-z0-9 :+]{0,20}") {
            prop_assume!(!name.contains(" UserId="));
            let line = format!("JobId=7 JobName={name} UserId=ada(1) JobState=RUNNING Partition=main NumNodes=1 Comment={comment} StdOut=/o");
            let job = &jobs(&line)[0];
            prop_assert_eq!((job.id, job.state.as_str(), job.output.as_str()), (7, "RUNNING", "/o"));
            prop_assert_eq!(job.user.as_str(), "ada");
            prop_assert_eq!(job.comment.as_str(), comment.trim_end());
        }

        #[test]
        fn no_text_makes_the_reader_fall_over(text in "(JobId=|NodeName=|PartitionName=)[ -~]{0,60}") {
            let _ = (jobs(&text), nodes(&text), partitions(&text), states(&text), span(&text), time(&text));
        }
    }
}
