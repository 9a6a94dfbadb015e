//! What Slurm says of jobs, nodes and partitions, as plain data: the same whether it was read from
//! its programs or from slurmrestd, of whatever version.

use jiff::Timestamp;

/// One job, or what is left to start of an array.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Record {
    /// Slurm's number.
    pub id: u64,
    /// The number of the array's first job, where it is of an array.
    pub array: Option<u64>,
    /// Its index there; `None` for what is left to start.
    pub task: Option<u32>,
    /// The indices left to start, with their limit: "0-3,7%2".
    pub tasks_left: Option<String>,
    pub name: String,
    pub user: String,
    pub account: String,
    pub qos: String,
    /// Partitions it may go to, joined by commas.
    pub partition: String,
    /// In capitals, the base state alone: "PENDING".
    pub state: String,
    /// In capitals: "COMPLETING", "REQUEUED".
    pub flags: Vec<String>,
    /// Slurm's code: "Resources"; empty for none.
    pub reason: String,
    /// More words of the scheduler's, if any.
    pub description: String,
    pub priority: u64,
    pub nodes: u32,
    pub tasks: u32,
    pub cpus: u32,
    /// Bytes on each node; 0 where it asks for none.
    pub memory_per_node: u64,
    /// What is asked for on each node, or for the whole job, in Slurm's words: "gres:gpu:a100:2".
    pub gres_per_node: String,
    pub gres_per_job: String,
    pub gres_per_task: String,
    /// All that it has or asks for: "cpu=2,mem=8G,node=2,gres/gpu=4".
    pub tres: String,
    /// Nodes it has: "n[1-2]".
    pub node_list: String,
    /// Where its script runs.
    pub batch_host: String,
    pub required_nodes: String,
    pub features: String,
    pub dependency: String,
    pub submitted: Option<Timestamp>,
    pub eligible: Option<Timestamp>,
    /// When it started, or is expected to.
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Seconds it may run; `None` without a limit.
    pub time_limit_s: Option<u64>,
    /// Exit status and the signal that ended it.
    pub exit: Option<(i32, i32)>,
    pub comment: String,
    /// Path of its output; may hold Slurm's patterns.
    pub output: String,
    pub workdir: String,
    pub restarts: u32,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Node {
    pub name: String,
    /// In capitals, the base state first: ["IDLE", "CLOUD", "POWERED_DOWN"].
    pub states: Vec<String>,
    pub reason: String,
    pub partitions: Vec<String>,
    pub features: Vec<String>,
    pub cpus: u32,
    pub cpus_used: u32,
    /// Bytes.
    pub memory: u64,
    pub memory_used: u64,
    /// "gpu:a100:2,shard:8".
    pub gres: String,
    /// "gpu:a100:1(IDX:0)"; empty where it is not said.
    pub gres_used: String,
    /// What its machine calls itself (NodeHostName).
    pub host: String,
    /// Where it is reached (NodeAddr).
    pub address: String,
    /// When it last had work, where that is said.
    pub busy_at: Option<Timestamp>,
    /// When it started, where that is said.
    pub booted: Option<Timestamp>,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Partition {
    pub name: String,
    pub is_default: bool,
    /// Whether it takes jobs and starts them.
    pub up: bool,
    /// "n[1-2]".
    pub nodes: String,
    /// Seconds a job may run; `None` without a limit.
    pub max_time_s: Option<u64>,
    /// Nodes a job may have; `None` without a limit.
    pub max_nodes: Option<u32>,
    pub total_nodes: u32,
}

impl Record {
    /// As `scancel` and `scontrol` take it: `12`, `12_3`, `12_[0-3%2]`.
    pub fn address(&self) -> String {
        match (self.array, self.task, &self.tasks_left) {
            (Some(array), Some(task), _) => format!("{array}_{task}"),
            (Some(array), None, Some(left)) => format!("{array}_[{left}]"),
            _ => self.id.to_string(),
        }
    }

    /// Jobs that this record stands for: more than one for what is left of an array.
    pub fn count(&self) -> u32 {
        let left = self.tasks_left.as_deref().filter(|_| self.task.is_none());
        left.and_then(|left| left.parse::<crate::queue::Array>().ok()).map_or(1, |array| array.count())
    }

    /// Whether its program might still run or start.
    pub fn is_over(&self) -> bool {
        matches!(
            self.state.as_str(),
            "COMPLETED"
                | "FAILED"
                | "TIMEOUT"
                | "CANCELLED"
                | "NODE_FAIL"
                | "OUT_OF_MEMORY"
                | "BOOT_FAIL"
                | "DEADLINE"
                | "PREEMPTED"
                | "LAUNCH_FAILED"
                | "RECONFIG_FAIL"
                | "REVOKED"
        ) && !self.flags.iter().any(|flag| matches!(flag.as_str(), "COMPLETING" | "REQUEUED"))
    }

    /// Pieces of a generic resource that one of its jobs asks for, over all its nodes.
    pub fn gres(&self, name: &str) -> f64 {
        let nodes = f64::from(self.nodes.max(1));
        let per_node = sum_gres(&self.gres_per_node, name) * nodes;
        let per_job = sum_gres(&self.gres_per_job, name);
        let per_task = sum_gres(&self.gres_per_task, name) * f64::from(self.tasks.max(1));
        let asked = per_node.max(per_job).max(per_task);
        if asked > 0.0 {
            return asked;
        }
        tres(&self.tres, &format!("gres/{name}"))
    }

    /// The kind of GPU it asks for by name, if any.
    pub fn gpu_type(&self) -> Option<String> {
        let all = [&self.gres_per_node, &self.gres_per_job, &self.gres_per_task];
        all.into_iter().flat_map(|text| gres_items(text)).find(|item| item.name == "gpu").and_then(|item| item.kind)
    }

    /// Whether it may run in a partition.
    pub fn goes_to(&self, partition: &str) -> bool {
        self.partition.split(',').any(|name| name == partition)
    }
}

impl Node {
    /// Whether a state or flag is among its states.
    pub fn is(&self, state: &str) -> bool {
        self.states.iter().any(|own| own == state)
    }

    /// Whether it can't be given work now, whatever is free on it.
    pub fn is_unavailable(&self) -> bool {
        const BAD: [&str; 9] =
            ["DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "NOT_RESPONDING", "UNKNOWN", "INVALID_REG", "MAINTENANCE"];
        BAD.iter().any(|state| self.is(state))
    }

    /// Pieces of a generic resource that it has.
    pub fn has(&self, name: &str, kind: Option<&str>) -> f64 {
        let items = gres_items(&self.gres).into_iter().filter(|item| item.name == name);
        items.filter(|item| kind.is_none_or(|kind| item.kind.as_deref() == Some(kind))).map(|item| item.count).sum()
    }

    /// Pieces of it that jobs have.
    pub fn uses(&self, name: &str, kind: Option<&str>) -> f64 {
        let items = gres_items(&self.gres_used).into_iter().filter(|item| item.name == name);
        items.filter(|item| kind.is_none_or(|kind| item.kind.as_deref() == Some(kind))).map(|item| item.count).sum()
    }

    /// The kinds of GPU it has.
    pub fn gpu_types(&self) -> Vec<String> {
        gres_items(&self.gres).into_iter().filter(|item| item.name == "gpu").filter_map(|item| item.kind).collect()
    }
}

/// One generic resource: `gpu:a100:2(IDX:0-1)`, `gres:gpu:2`, `gres/gpu:a100=2`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GresItem {
    pub name: String,
    pub kind: Option<String>,
    pub count: f64,
}

/// Reads a list of generic resources; what is not understood is left out.
pub(super) fn gres_items(text: &str) -> Vec<GresItem> {
    let mut items = Vec::new();
    let mut depth = 0usize;
    // Commas stand in parentheses too: "(IDX:0,2)".
    let parts = text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    for part in parts {
        let part = part.split('(').next().unwrap_or_default().trim();
        let part = part.strip_prefix("gres:").or_else(|| part.strip_prefix("gres/")).unwrap_or(part);
        let words: Vec<&str> = part.split([':', '=']).collect();
        let number = |text: &str| match text.strip_suffix(['K', 'k']) {
            Some(thousands) => thousands.parse::<f64>().ok().map(|count| count * 1024.0),
            None => text.parse::<f64>().ok(),
        };
        let item = match words[..] {
            [name] if !name.is_empty() && name != "N/A" => Some((name, None, Some(1.0))),
            [name, count] if number(count).is_some() => Some((name, None, number(count))),
            [name, kind] => Some((name, Some(kind), Some(1.0))),
            [name, kind, count] => Some((name, Some(kind), number(count))),
            _ => None,
        };
        if let Some((name, kind, Some(count))) = item
            && name != "(null)"
        {
            items.push(GresItem { name: name.to_owned(), kind: kind.map(str::to_owned), count });
        }
    }
    items
}

fn sum_gres(text: &str, name: &str) -> f64 {
    gres_items(text).into_iter().filter(|item| item.name == name).map(|item| item.count).sum()
}

/// One entry of "cpu=2,mem=8G,gres/gpu=4"; 0 where it is not there.
pub(super) fn tres(text: &str, name: &str) -> f64 {
    let found = text.split(',').filter_map(|entry| entry.split_once('=')).find(|(key, _)| *key == name);
    found.map_or(0.0, |(_, value)| {
        let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match value[digits.len()..].chars().next() {
            Some('K') => 1024f64,
            Some('M') => 1024f64.powi(2),
            Some('G') => 1024f64.powi(3),
            Some('T') => 1024f64.powi(4),
            Some('P') => 1024f64.powi(5),
            _ => 1.0,
        };
        digits.parse::<f64>().unwrap_or_default() * unit
    })
}

/// The names in a list of nodes: `n[1-3,07],m,rack[1-2]n[1-2]`. What is not understood is a name as it is.
pub(super) fn host_list(text: &str) -> Vec<String> {
    let mut depth = 0usize;
    let parts = text.split(|c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.is_empty() && *part != "(null)").flat_map(expand).collect()
}

/// A list longer than any cluster: a damaged text must not fill the memory.
const MOST_HOSTS: usize = 1 << 20;

fn expand(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('[') else { return vec![text.to_owned()] };
    let Some((ranges, after)) = rest.split_once(']') else { return vec![text.to_owned()] };
    let tails = expand(after);
    let mut names = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) else { return vec![text.to_owned()] };
        for number in from..=to {
            for tail in &tails {
                if names.len() >= MOST_HOSTS {
                    return names;
                }
                names.push(format!("{before}{number:0width$}{tail}", width = first.len()));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_of_hosts() {
        assert_eq!(host_list("n[1-2]"), ["n1", "n2"]);
        assert_eq!(host_list("n[08-10],m"), ["n08", "n09", "n10", "m"]);
        assert_eq!(host_list("r[1-2]n[1,3]"), ["r1n1", "r1n3", "r2n1", "r2n3"]);
        assert_eq!(host_list(""), Vec::<String>::new());
        assert_eq!(host_list("(null)"), Vec::<String>::new());
        assert_eq!(host_list("n[1-"), ["n[1-"]);
        assert_eq!(host_list("n[0-99999999999]").len(), MOST_HOSTS);
    }

    #[test]
    fn generic_resources_of_several_versions() {
        let of = |text: &str| {
            gres_items(text).into_iter().map(|item| (item.name, item.kind, item.count)).collect::<Vec<_>>()
        };
        let gpu = |kind: Option<&str>, count: f64| ("gpu".to_owned(), kind.map(str::to_owned), count);
        assert_eq!(of("gpu:a100:2(IDX:0-1),shard:a100:0(IDX:N/A)")[0], gpu(Some("a100"), 2.0));
        assert_eq!(of("gpu:a100:2(IDX:0,2),shard:3").len(), 2);
        assert_eq!(of("gres:gpu:2"), [gpu(None, 2.0)]);
        assert_eq!(of("gres/gpu:h100=8"), [gpu(Some("h100"), 8.0)]);
        assert_eq!(of("gres/gpu=8"), [gpu(None, 8.0)]);
        assert_eq!(of("gpu"), [gpu(None, 1.0)]);
        assert_eq!(of("gpu:tesla:4(S:0-1)"), [gpu(Some("tesla"), 4.0)]);
        assert_eq!(of("(null)"), []);
        assert_eq!(of("N/A"), []);
    }

    #[test]
    fn gpus_of_a_job() {
        let mut record = Record { nodes: 2, gres_per_node: "gres:gpu:a100:4".to_owned(), ..Record::default() };
        assert_eq!((record.gres("gpu"), record.gpu_type().as_deref()), (8.0, Some("a100")));
        record.gres_per_node.clear();
        record.tres = "cpu=2,mem=8000M,node=2,billing=2,gres/gpu=3".to_owned();
        assert_eq!(record.gres("gpu"), 3.0);
        assert_eq!(tres(&record.tres, "mem"), 8000.0 * 1024.0 * 1024.0);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_fall_over(text in "[a-z0-9:,()\\[\\]=/%-]{0,24}") {
            let _ = (host_list(&text), gres_items(&text), tres(&text, "cpu"));
        }
    }
}
