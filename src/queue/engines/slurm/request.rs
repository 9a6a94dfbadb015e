//! From a spec to what sbatch and slurmrestd are asked for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::script;
use crate::queue::{JobSpec, QueueError, TimeLimit, Waits};

/// Marks a job's comment with its submission id.
const MARK: &str = "aictl:";
/// Marks a comment of a job whose output has the rank before each line, as `srun --label` writes it.
const LABELLED: &str = "+ranks";
/// Marks a comment of a job that is held until a model is preloaded, which follows.
const NEEDS_MODEL: &str = "+needs-model:";
/// Marks a comment of such a job that somebody wants to release himself.
const HELD: &str = "+hold";

/// What a submission asks for, in Slurm's own terms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// Options by their long names, as sbatch has them.
    pub options: BTreeMap<&'static str, String>,
    pub environment: BTreeMap<String, String>,
    pub script: String,
    /// What the script gets as its arguments.
    pub arguments: Vec<String>,
    pub notes: Vec<String>,
}

/// What had to be looked up for a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Looked {
    /// "shard:2", for a part of a GPU.
    pub share: Option<String>,
    /// "afterok:12,afterany:13".
    pub dependency: Option<String>,
}

/// Makes the request.
pub(super) fn request(spec: &JobSpec, looked: &Looked) -> Result<Request, QueueError> {
    let native = spec.is_for_slurm();
    let own = spec.asked_of_slurm();
    let mut notes = Vec::new();
    let mut options = BTreeMap::new();
    let mut set = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            options.insert(name, value);
        }
    };
    let labelled = !native && spec.nodes > 1;
    set("job-name", Some(spec.name.clone()));
    set("comment", Some(comment(spec, labelled)?));
    set("partition", spec.queue.clone());
    set("nodes", (!native || own.is_some() || spec.nodes > 1).then(|| spec.nodes.to_string()));
    set("ntasks-per-node", (!native).then(|| "1".to_owned()));
    set("gres", gres(spec, looked));
    // Ours are for a node. Our own script is one task there; a script for Slurm may have more.
    let tasks = own.and_then(|own| own.processes_per_node).unwrap_or(1);
    set("cpus-per-task", spec.cpus.map(|cpus| cpus.cores().div_ceil(u64::from(tasks)).to_string()));
    set("mem", spec.memory.map(|memory| format!("{}M", memory.mebibytes())));
    set("time", spec.time.map(TimeLimit::slurm));
    set("priority", priority(spec)?);
    set("array", spec.array.as_ref().map(ToString::to_string));
    set("dependency", looked.dependency.clone());
    set("chdir", spec.workdir.clone());
    set("output", spec.output.clone());
    set("account", spec.account.clone());
    set("qos", spec.qos.clone());
    set("constraint", spec.constraint.clone());
    set("exclusive", spec.exclusive.then(String::new));
    set("hold", (spec.hold || spec.needs_model.is_some()).then(String::new));
    set("requeue", (spec.retries > 0).then(String::new));
    if let Some(image) = &spec.image {
        notes.push(format!("Slurm runs it on the node itself, not in the image {image}"));
    }
    if !spec.labels.is_empty() {
        notes.push("Slurm has no labels: they are left out".to_owned());
    }
    if native {
        notes.push(
            "the script has #SBATCH lines: it runs once, on the first node, as sbatch does it; MASTER_ADDR, RANK and the like are not set"
                .to_owned(),
        );
        if spec.retries > 0 && own.is_none_or(|own| own.retries != spec.retries) {
            notes.push("retries: Slurm puts it back after a node failed, not after an exit code".to_owned());
        }
        if let Some(own) = own {
            leave_the_same(&mut options, spec, own);
        }
        script::leave_what_it_says(&mut options, spec.script.as_deref().unwrap_or_default());
    }
    let environment = if native { spec.env.clone() } else { BTreeMap::new() };
    let script = if native { spec.script.clone().unwrap_or_default() } else { script::script(spec) };
    let arguments = if native { spec.command.clone() } else { Vec::new() };
    Ok(Request { options, environment, script, arguments, notes })
}

/// Takes out of the options what the script's own lines come to as well. sbatch reads them itself, and
/// knows more of them than aictl: a range of nodes, tasks over nodes, CPUs of a task.
fn leave_the_same(options: &mut BTreeMap<&'static str, String>, spec: &JobSpec, own: &JobSpec) {
    let gpus = |spec: &JobSpec| (spec.gpus_per_node, spec.gpu_type.clone(), spec.gpu_share);
    let same = [
        ("partition", spec.queue == own.queue),
        ("nodes", spec.nodes == own.nodes),
        ("gres", gpus(spec) == gpus(own)),
        ("cpus-per-task", spec.cpus == own.cpus),
        ("mem", spec.memory == own.memory),
        ("time", spec.time == own.time),
        ("priority", spec.priority == own.priority),
        ("array", spec.array == own.array),
        ("dependency", spec.after == own.after),
        ("chdir", spec.workdir == own.workdir),
        ("output", spec.output == own.output),
        ("account", spec.account == own.account),
        ("qos", spec.qos == own.qos),
        ("constraint", spec.constraint == own.constraint),
        ("exclusive", spec.exclusive == own.exclusive),
        ("requeue", spec.retries == own.retries),
    ];
    for (name, _) in same.iter().filter(|(_, same)| *same) {
        options.remove(name);
    }
}

/// A job's comment; read back by [`submission`], [`is_labelled`] and [`waits`].
fn comment(spec: &JobSpec, labelled: bool) -> Result<String, QueueError> {
    let mut words = vec![format!("{MARK}{}", spec.id)];
    if labelled {
        words.push(LABELLED.to_owned());
    }
    if let Some(model) = &spec.needs_model {
        if model.contains(char::is_whitespace) {
            return Err(QueueError::Invalid {
                what: format!("--needs-model {model:?}: Slurm keeps it in the job's comment, word by word"),
                hint: "name a source without spaces".to_owned(),
            });
        }
        words.push(format!("{NEEDS_MODEL}{model}"));
        words.extend(spec.hold.then(|| HELD.to_owned()));
    }
    Ok(words.join(" "))
}

/// What a comment says that its job is held for.
pub(super) fn waits(comment: &str) -> Option<Waits> {
    submission(comment)?;
    let model = comment.split_whitespace().find_map(|word| word.strip_prefix(NEEDS_MODEL))?;
    let hold = comment.split_whitespace().any(|word| word == HELD);
    Some(Waits { after: Vec::new(), needs_model: Some(model.to_owned()), hold })
}

/// The submission id in a comment.
pub(super) fn submission(comment: &str) -> Option<&str> {
    comment.split_whitespace().find_map(|word| word.strip_prefix(MARK))
}

/// Whether each line of its output begins with its rank.
pub(super) fn is_labelled(comment: &str) -> bool {
    submission(comment).is_some() && comment.split_whitespace().any(|word| word == LABELLED)
}

fn gres(spec: &JobSpec, looked: &Looked) -> Option<String> {
    if looked.share.is_some() {
        return looked.share.clone();
    }
    match (spec.gpus_per_node, &spec.gpu_type) {
        (0, _) => None,
        (count, Some(kind)) => Some(format!("gpu:{kind}:{count}")),
        (count, None) => Some(format!("gpu:{count}")),
    }
}

fn priority(spec: &JobSpec) -> Result<Option<String>, QueueError> {
    let Some(text) = &spec.priority else { return Ok(None) };
    match text.parse::<u32>() {
        Ok(number) if number < 4_294_967_294 => Ok(Some(number.to_string())),
        _ => Err(QueueError::Invalid {
            what: format!("priority {text:?} is no number, and Slurm has no classes of priority"),
            hint: "give a number, or a quality of service with --qos".to_owned(),
        }),
    }
}

impl Request {
    /// The command whose standard input is the script.
    pub fn command(&self) -> Vec<String> {
        let mut words = Vec::new();
        if !self.environment.is_empty() {
            words.push("env".to_owned());
            words.extend(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        }
        words.extend(["sbatch".to_owned(), "--parsable".to_owned()]);
        words.extend(self.options.iter().map(|(name, value)| match value.as_str() {
            "" => format!("--{name}"),
            value => format!("--{name}={value}"),
        }));
        if !self.arguments.is_empty() {
            // sbatch takes arguments only behind the name of a script.
            words.push("/dev/stdin".to_owned());
            words.extend(self.arguments.iter().cloned());
        }
        words
    }

    /// The body of slurmrestd's `job/submit`, in the form that its document gives each property.
    /// `directory` is where the job runs if the spec does not say.
    pub fn body(&self, properties: &Map<String, Value>, directory: &str) -> Result<Value, QueueError> {
        let mut job = Map::new();
        let kind = |name: &str| {
            let property = properties.get(name)?;
            Some(property["type"].as_str().unwrap_or("object"))
        };
        let mut put = |names: &[&str], value: &str, number: Option<u64>| -> Result<(), QueueError> {
            let Some(name) = names.iter().find(|name| properties.contains_key(**name)) else {
                return Err(QueueError::Unsupported {
                    engine: "this slurmrestd".to_owned(),
                    what: format!("be asked for {}", names.first().unwrap_or(&"")),
                    instead: "leave it out, or use Slurm's programs: a target without an address".to_owned(),
                });
            };
            let form = match (kind(name).unwrap_or_default(), number) {
                ("integer" | "number", Some(number)) => json!(number),
                ("object", Some(number)) => json!({"set": true, "infinite": false, "number": number}),
                ("boolean", _) => json!(true),
                // Up to v0.0.38 the document calls `nodes` a list and takes text as well.
                ("array", _) if *name == "nodes" => json!(value),
                ("array", _) => json!([value]),
                _ => json!(value),
            };
            job.insert((*name).to_owned(), form);
            Ok(())
        };
        for (name, value) in &self.options {
            let number = value.parse::<u64>().ok();
            match *name {
                "job-name" => put(&["name"], value, None)?,
                "ntasks-per-node" => put(&["tasks_per_node"], value, number)?,
                // Text in all versions, whatever the type of the number of nodes within.
                "nodes" => put(&["nodes"], value, None)?,
                "gres" => {
                    let name = if properties.contains_key("gres") { "gres" } else { "tres_per_node" };
                    put(&[name], &if name == "gres" { value.clone() } else { format!("gres/{value}") }, None)?;
                }
                "cpus-per-task" => put(&["cpus_per_task"], value, number)?,
                "mem" => put(&["memory_per_node"], value, value.trim_end_matches('M').parse().ok())?,
                "time" => {
                    let minutes = value.parse::<TimeLimit>().ok().map(|limit| limit.0.div_ceil(60));
                    put(&["time_limit"], value, minutes)?;
                }
                "priority" => put(&["priority"], value, number)?,
                "chdir" => put(&["current_working_directory"], value, None)?,
                "output" => put(&["standard_output"], value, None)?,
                "constraint" => put(&["constraints"], value, None)?,
                "exclusive" if kind("exclusive").is_none() => put(&["shared"], "none", None)?,
                "exclusive" => put(&["exclusive"], "exclusive", None)?,
                "requeue" => put(&["requeue"], value, None)?,
                "hold" => put(&["hold"], value, None)?,
                other => put(&[other], value, None)?,
            }
        }
        if !self.arguments.is_empty() {
            if properties.get("argv").is_none_or(|property| property["type"] == "string") {
                return Err(QueueError::Unsupported {
                    engine: "this slurmrestd".to_owned(),
                    what: "be asked for argv, the script's arguments".to_owned(),
                    instead: "write them into the script, or use Slurm's programs: a target without an address"
                        .to_owned(),
                });
            }
            // slurmd puts the script's path in the place of the first.
            let words: Vec<&str> = std::iter::once("script").chain(self.arguments.iter().map(String::as_str)).collect();
            job.insert("argv".to_owned(), json!(words));
        }
        if !job.contains_key("current_working_directory") {
            job.insert("current_working_directory".to_owned(), json!(directory));
        }
        // Without one the programs of the script are not found.
        let mut environment = BTreeMap::from([(
            "PATH".to_owned(),
            "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".to_owned(),
        )]);
        environment.extend(self.environment.clone());
        let environment = match properties.get("environment").and_then(|property| property["type"].as_str()) {
            Some("object") => json!(environment),
            _ => json!(environment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()),
        };
        job.insert("environment".to_owned(), environment);
        Ok(json!({"script": self.script, "job": job}))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
