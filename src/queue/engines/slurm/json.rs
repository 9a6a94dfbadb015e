//! Reads slurmrestd's JSON, of any version of its data format.
//!
//! A number is `7`, `"7"`, or `{"set": true, "infinite": false, "number": 7}`; a state is a word or a
//! list of words; an exit code is a wait status or an object. What a version does not have keeps its
//! default. Only what is needed is kept, so that the whole of a large answer is never in memory twice.

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::loose::{Exit, Number, Words, text};
use super::record::{Node, Partition, Record};

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct RawJob {
    job_id: Number,
    array_job_id: Number,
    array_task_id: Number,
    #[serde(deserialize_with = "text")]
    array_task_string: String,
    array_max_tasks: Number,
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(deserialize_with = "text")]
    user_name: String,
    #[serde(deserialize_with = "text")]
    account: String,
    #[serde(deserialize_with = "text")]
    qos: String,
    #[serde(deserialize_with = "text")]
    partition: String,
    job_state: Words,
    #[serde(deserialize_with = "text")]
    state_reason: String,
    #[serde(deserialize_with = "text")]
    state_description: String,
    priority: Number,
    node_count: Number,
    tasks: Number,
    cpus: Number,
    memory_per_node: Number,
    #[serde(deserialize_with = "text")]
    tres_per_node: String,
    #[serde(deserialize_with = "text")]
    tres_per_job: String,
    #[serde(deserialize_with = "text")]
    tres_per_task: String,
    #[serde(deserialize_with = "text")]
    tres_alloc_str: String,
    #[serde(deserialize_with = "text")]
    tres_req_str: String,
    #[serde(deserialize_with = "text")]
    nodes: String,
    #[serde(deserialize_with = "text")]
    batch_host: String,
    #[serde(deserialize_with = "text")]
    required_nodes: String,
    #[serde(deserialize_with = "text")]
    features: String,
    #[serde(deserialize_with = "text")]
    dependency: String,
    submit_time: Number,
    eligible_time: Number,
    start_time: Number,
    end_time: Number,
    time_limit: Number,
    exit_code: Exit,
    #[serde(deserialize_with = "text")]
    comment: String,
    #[serde(deserialize_with = "text")]
    standard_output: String,
    #[serde(deserialize_with = "text")]
    current_working_directory: String,
    restart_cnt: Number,
}

impl From<RawJob> for Record {
    fn from(raw: RawJob) -> Record {
        let array = raw.array_job_id.count().filter(|id| *id != 0);
        let task = raw.array_task_id.count().filter(|_| array.is_some() && raw.array_task_string.is_empty());
        let limit = raw.array_max_tasks.count().filter(|limit| *limit > 0);
        let tasks_left = (!raw.array_task_string.is_empty()).then(|| match limit {
            Some(limit) if !raw.array_task_string.contains('%') => format!("{}%{limit}", raw.array_task_string),
            _ => raw.array_task_string.clone(),
        });
        let mut words = raw.job_state.capitals();
        Record {
            id: raw.job_id.count().unwrap_or_default(),
            array,
            task: task.map(|task| task as u32),
            tasks_left,
            name: raw.name,
            user: raw.user_name,
            account: raw.account,
            qos: raw.qos,
            partition: raw.partition,
            state: words.next().unwrap_or_default(),
            flags: words.collect(),
            reason: if raw.state_reason == "None" { String::new() } else { raw.state_reason },
            description: raw.state_description,
            priority: raw.priority.0.unwrap_or_default() as u64,
            nodes: raw.node_count.or_zero(),
            tasks: raw.tasks.or_zero(),
            cpus: raw.cpus.or_zero(),
            memory_per_node: raw.memory_per_node.count().unwrap_or_default() << 20,
            gres_per_node: raw.tres_per_node,
            gres_per_job: raw.tres_per_job,
            gres_per_task: raw.tres_per_task,
            tres: if raw.tres_alloc_str.is_empty() { raw.tres_req_str } else { raw.tres_alloc_str },
            node_list: raw.nodes,
            batch_host: raw.batch_host,
            required_nodes: raw.required_nodes,
            features: raw.features,
            dependency: raw.dependency,
            submitted: raw.submit_time.time(),
            eligible: raw.eligible_time.time(),
            started: raw.start_time.time(),
            ended: raw.end_time.time(),
            time_limit_s: raw.time_limit.count().filter(|minutes| *minutes > 0).map(|minutes| minutes * 60),
            exit: raw.exit_code.0,
            comment: raw.comment,
            output: raw.standard_output,
            workdir: raw.current_working_directory,
            restarts: raw.restart_cnt.or_zero(),
        }
    }
}

/// The jobs of an answer.
pub(super) fn jobs(body: &[u8]) -> serde_json::Result<Vec<Record>> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default, deserialize_with = "records")]
        jobs: Vec<Record>,
    }
    Ok(serde_json::from_slice::<Answer>(body)?.jobs)
}

/// Job by job, so that what is read of one is let go before the next.
fn records<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Record>, D::Error> {
    struct Reader;
    impl<'de> Visitor<'de> for Reader {
        type Value = Vec<Record>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of jobs")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Vec<Record>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Record>, A::Error> {
            let mut records = Vec::new();
            while let Some(raw) = list.next_element::<RawJob>()? {
                records.push(raw.into());
            }
            Ok(records)
        }
    }
    deserializer.deserialize_any(Reader)
}

/// The nodes of an answer.
pub(super) fn nodes(body: &[u8]) -> serde_json::Result<Vec<Node>> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Raw {
        #[serde(deserialize_with = "text")]
        name: String,
        state: Words,
        state_flags: Words,
        #[serde(deserialize_with = "text")]
        reason: String,
        partitions: Words,
        features: Words,
        cpus: Number,
        alloc_cpus: Number,
        real_memory: Number,
        alloc_memory: Number,
        #[serde(deserialize_with = "text")]
        gres: String,
        #[serde(deserialize_with = "text")]
        gres_used: String,
        #[serde(deserialize_with = "text")]
        hostname: String,
        #[serde(deserialize_with = "text")]
        address: String,
        last_busy: Number,
        boot_time: Number,
    }
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        nodes: Option<Vec<Raw>>,
    }
    let answer: Answer = serde_json::from_slice(body)?;
    let made = answer.nodes.unwrap_or_default().into_iter().map(|raw| Node {
        name: raw.name,
        states: raw
            .state
            .capitals()
            .chain(raw.state_flags.capitals())
            .flat_map(|word| super::text::states(&word))
            .collect(),
        reason: raw.reason,
        partitions: raw.partitions.0,
        features: raw.features.0,
        cpus: raw.cpus.or_zero(),
        cpus_used: raw.alloc_cpus.or_zero(),
        memory: raw.real_memory.count().unwrap_or_default() << 20,
        memory_used: raw.alloc_memory.count().unwrap_or_default() << 20,
        gres: raw.gres,
        gres_used: raw.gres_used,
        host: raw.hostname,
        address: raw.address,
        busy_at: raw.last_busy.time(),
        booted: raw.boot_time.time(),
    });
    Ok(made.collect())
}

/// The partitions of an answer.
pub(super) fn partitions(body: &[u8]) -> serde_json::Result<Vec<Partition>> {
    let answer: serde_json::Value = serde_json::from_slice(body)?;
    let number = |value: &serde_json::Value| Number::deserialize(value).unwrap_or_default().count();
    let list = answer["partitions"].as_array().cloned().unwrap_or_default();
    let made = list.iter().map(|raw| {
        let words =
            |value: &serde_json::Value| Words::deserialize(value).unwrap_or_default().capitals().collect::<Vec<_>>();
        // Up to v0.0.38 all stands side by side, after that in groups.
        let state = if raw["state"].is_null() { words(&raw["partition"]["state"]) } else { words(&raw["state"]) };
        let flags = words(&raw["flags"]);
        let nodes = raw["nodes"].as_str().or_else(|| raw["nodes"]["configured"].as_str()).unwrap_or_default();
        let minutes = number(&raw["max_time_limit"]).or_else(|| number(&raw["maximums"]["time"]));
        Partition {
            name: raw["name"].as_str().unwrap_or_default().to_owned(),
            is_default: flags.iter().any(|flag| flag == "DEFAULT"),
            up: state.iter().any(|word| word == "UP"),
            nodes: nodes.to_owned(),
            max_time_s: minutes.map(|minutes| minutes * 60),
            max_nodes: number(&raw["maximum_nodes_per_job"])
                .or_else(|| number(&raw["maximums"]["nodes"]))
                .map(|nodes| nodes as u32),
            total_nodes: number(&raw["total_nodes"]).or_else(|| number(&raw["nodes"]["total"])).unwrap_or_default()
                as u32,
        }
    });
    Ok(made.collect())
}

/// What an answer says went wrong, and with which of Slurm's error numbers.
pub(super) fn errors(body: &[u8]) -> Vec<(String, i64)> {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else { return Vec::new() };
    let list = answer["errors"].as_array().cloned().unwrap_or_default();
    let said = list.iter().filter_map(|error| {
        let text = |key: &str| error[key].as_str().filter(|text| !text.is_empty() && *text != "Unspecified error");
        let number = error["error_number"].as_i64().or_else(|| error["error_code"].as_i64()).unwrap_or_default();
        let words = match (text("error"), text("description")) {
            (Some(error), Some(description)) if error != description => format!("{error}: {description}"),
            (Some(text), _) | (_, Some(text)) => text.to_owned(),
            (None, None) => return None,
        };
        Some((words, number))
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As v0.0.38 writes a running job and a failed one.
    const OLD: &str = r#"{"errors": [], "jobs": [
      {"array_job_id": 3, "array_task_id": 0, "array_max_tasks": 2, "array_task_string": "", "job_id": 4, "name": "a",
       "user_name": "ada", "partition": "main", "job_state": "RUNNING", "state_reason": "None", "priority": 4294901758,
       "node_count": 2, "tasks": 2, "cpus": 2, "memory_per_node": null, "tres_per_node": "gres:gpu:1",
       "tres_alloc_str": "cpu=2,node=2,billing=2", "nodes": "n[1-2]", "start_time": 1795882570, "end_time": 1795968970,
       "time_limit": 1440, "exit_code": 0, "comment": "aictl:abc", "standard_output": "/o", "restart_cnt": 0},
      {"array_job_id": 0, "array_task_id": null, "job_id": 5, "job_state": "FAILED", "exit_code": 768,
       "time_limit": 4294967295, "start_time": 0}]}"#;

    /// As v0.0.43 writes the same, by its published description.
    const NEW: &str = r#"{"jobs": [
      {"array_job_id": {"set": true, "infinite": false, "number": 3}, "array_task_id": {"set": true, "infinite": false, "number": 0},
       "array_max_tasks": {"set": true, "infinite": false, "number": 2}, "array_task_string": "", "job_id": 4, "name": "a",
       "user_name": "ada", "partition": "main", "job_state": ["RUNNING"], "state_reason": "None",
       "priority": {"set": true, "infinite": false, "number": 4294901758}, "node_count": {"set": true, "infinite": false, "number": 2},
       "tasks": {"set": true, "infinite": false, "number": 2}, "cpus": {"set": true, "infinite": false, "number": 2},
       "memory_per_node": {"set": false, "infinite": false, "number": 0}, "tres_per_node": "gres/gpu:1",
       "tres_alloc_str": "cpu=2,node=2,billing=2", "nodes": "n[1-2]", "start_time": {"set": true, "infinite": false, "number": 1795882570},
       "end_time": {"set": true, "infinite": false, "number": 1795968970}, "time_limit": {"set": true, "infinite": false, "number": 1440},
       "exit_code": {"status": ["SUCCESS"], "return_code": {"set": true, "infinite": false, "number": 0}, "signal": {"id": {"set": false, "infinite": false, "number": 0}, "name": ""}},
       "comment": "aictl:abc", "standard_output": "/o", "restart_cnt": 0, "a key of tomorrow": {"deep": [1]}},
      {"array_job_id": {"set": true, "infinite": false, "number": 0}, "array_task_id": {"set": false, "infinite": false, "number": 0},
       "job_id": 5, "job_state": ["FAILED"],
       "exit_code": {"status": ["ERROR"], "return_code": {"set": true, "infinite": false, "number": 3}, "signal": {"id": {"set": false, "infinite": false, "number": 0}, "name": ""}},
       "time_limit": {"set": false, "infinite": true, "number": 0}, "start_time": {"set": false, "infinite": false, "number": 0}}],
      "last_backfill": {"set": true, "infinite": false, "number": 1}, "errors": [], "warnings": [], "meta": {}}"#;

    #[test]
    fn jobs_read_alike_in_every_version() {
        let (old, mut new) = (jobs(OLD.as_bytes()).unwrap(), jobs(NEW.as_bytes()).unwrap());
        assert_eq!((old[0].address(), old[0].gres("gpu"), old[0].exit), ("3_0".to_owned(), 2.0, Some((0, 0))));
        assert_eq!((old[1].exit, old[1].time_limit_s, old[1].started, old[1].array), (Some((3, 0)), None, None, None));
        // The one word that was renamed.
        new[0].gres_per_node = "gres:gpu:1".to_owned();
        assert_eq!(old, new);
    }

    #[test]
    fn what_is_left_of_an_array() {
        let body = r#"{"jobs": [{"array_job_id": 3, "array_task_id": null, "array_max_tasks": 2, "array_task_string": "2-3", "job_id": 3, "job_state": "PENDING"}]}"#;
        let job = &jobs(body.as_bytes()).unwrap()[0];
        assert_eq!((job.address(), job.count()), ("3_[2-3%2]".to_owned(), 2));
    }

    #[test]
    fn nodes_and_partitions_read_alike_in_every_version() {
        let old = r#"{"nodes": [{"name": "n1", "state": "idle", "state_flags": ["DRAIN"], "partitions": ["main"], "features": "a,b", "cpus": 4, "alloc_cpus": 1, "real_memory": 4000, "alloc_memory": 0, "gres": "gpu:a100:2", "gres_used": "gpu:a100:0(IDX:N/A)", "reason": "x"}]}"#;
        let new = r#"{"nodes": [{"name": "n1", "state": ["IDLE", "DRAIN"], "partitions": ["main"], "features": ["a", "b"], "cpus": 4, "alloc_cpus": 1, "real_memory": 4000, "alloc_memory": 0, "gres": "gpu:a100:2", "gres_used": "gpu:a100:0(IDX:N/A)", "reason": "x"}]}"#;
        assert_eq!(nodes(old.as_bytes()).unwrap(), nodes(new.as_bytes()).unwrap());
        let old = r#"{"partitions": [{"flags": ["default"], "maximum_nodes_per_job": -1, "max_time_limit": 1440, "name": "main", "nodes": "n[1-2]", "state": "UP", "total_nodes": 2}]}"#;
        let new = r#"{"partitions": [{"flags": ["DEFAULT"], "name": "main", "nodes": {"configured": "n[1-2]", "total": 2}, "partition": {"state": ["UP"]}, "maximums": {"nodes": {"set": false, "infinite": true, "number": 0}, "time": {"set": true, "infinite": false, "number": 1440}}}]}"#;
        assert_eq!(partitions(old.as_bytes()).unwrap(), partitions(new.as_bytes()).unwrap());
    }

    #[test]
    fn errors_in_every_version() {
        let old = br#"{"errors": [{"description": "Unknown key \"bogus\"", "source": "hsearch_r"}, {"error_code": 9001, "error": "Failure during parsing"}]}"#;
        assert_eq!(errors(old), [("Unknown key \"bogus\"".to_owned(), 0), ("Failure during parsing".to_owned(), 9001)]);
        let new = br#"{"errors": [{"description": "Unable to find JobId=99", "error_number": 2017, "error": "Invalid job id specified", "source": "slurm_load_job"}]}"#;
        assert_eq!(errors(new)[0].1, 2017);
        assert_eq!(errors(b"Authentication failure"), []);
    }
}
