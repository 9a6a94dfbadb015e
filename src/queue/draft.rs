//! A job's request while it is being read: what each source says, and what it comes to.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::after::After;
use super::array::Array;
use super::error::QueueError;
use super::quantity::{Bytes, Cpus, TimeLimit};
use super::spec::{GpuShare, JobSpec, Shape};

/// What one source (flags, environment, directives, a file) says of a job. In a file the keys are
/// those of [`JobSpec`], written as Kubernetes writes them: `gpusPerNode`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Draft {
    /// See [`JobSpec::name`].
    pub name: Option<String>,
    /// See [`JobSpec::id`].
    pub id: Option<String>,
    /// See [`JobSpec::queue`].
    pub queue: Option<String>,
    /// See [`JobSpec::namespace`].
    pub namespace: Option<String>,
    /// See [`JobSpec::nodes`].
    pub nodes: Option<u32>,
    /// See [`JobSpec::gpus_per_node`].
    pub gpus_per_node: Option<u32>,
    /// GPUs in all, which Slurm's `--gpus` counts; spread evenly over the nodes.
    pub gpus: Option<u32>,
    /// See [`JobSpec::gpu_type`].
    pub gpu_type: Option<String>,
    /// A share of one GPU.
    pub gpu_fraction: Option<f64>,
    /// An amount of memory of one GPU.
    pub gpu_memory: Option<Bytes>,
    /// See [`JobSpec::cpus`].
    pub cpus: Option<Cpus>,
    /// See [`JobSpec::memory`].
    pub memory: Option<Bytes>,
    /// See [`JobSpec::time`].
    pub time: Option<TimeLimit>,
    /// See [`JobSpec::image`].
    pub image: Option<String>,
    /// See [`JobSpec::priority`].
    pub priority: Option<String>,
    /// See [`JobSpec::env`]; merged by name.
    pub env: BTreeMap<String, String>,
    /// See [`JobSpec::array`].
    pub array: Option<Array>,
    /// See [`JobSpec::after`].
    pub after: Vec<After>,
    /// See [`JobSpec::workdir`].
    pub workdir: Option<String>,
    /// See [`JobSpec::output`].
    pub output: Option<String>,
    /// See [`JobSpec::command`].
    pub command: Vec<String>,
    /// See [`JobSpec::script`].
    pub script: Option<String>,
    /// See [`JobSpec::shape`].
    pub shape: Option<Shape>,
    /// See [`JobSpec::processes_per_node`].
    pub processes_per_node: Option<u32>,
    /// See [`JobSpec::needs_model`].
    pub needs_model: Option<String>,
    /// See [`JobSpec::hold`].
    pub hold: Option<bool>,
    /// See [`JobSpec::retries`].
    pub retries: Option<u32>,
    /// See [`JobSpec::labels`]; merged by name.
    pub labels: BTreeMap<String, String>,
    /// See [`JobSpec::account`].
    pub account: Option<String>,
    /// See [`JobSpec::qos`].
    pub qos: Option<String>,
    /// See [`JobSpec::constraint`].
    pub constraint: Option<String>,
    /// See [`JobSpec::exclusive`].
    pub exclusive: Option<bool>,
}

/// Characters of a job's name: what a Kubernetes object's name (63) leaves after the suffixes that
/// controllers add for replicas and indices.
const LONGEST_NAME: usize = 40;

impl Draft {
    /// The valid name that is nearest to any text.
    pub fn fitting_name(text: &str) -> String {
        made_name(text)
    }

    /// This source over a weaker one: what it leaves open, the other says.
    #[must_use]
    pub fn over(mut self, weaker: Draft) -> Draft {
        macro_rules! take {
            ($($field:ident)*) => {$( self.$field = self.$field.or(weaker.$field); )*};
        }
        // Ways to say the same thing go together: a flag for one overrules a directive for the other.
        let counts_gpus = self.gpus.is_some() || self.gpus_per_node.is_some();
        let shares_gpu = self.gpu_fraction.is_some() || self.gpu_memory.is_some();
        if !counts_gpus && !shares_gpu {
            take!(gpus gpus_per_node gpu_fraction gpu_memory);
        }
        let runs_something = !self.command.is_empty() || self.script.is_some();
        if !runs_something {
            self.command = weaker.command;
            self.script = weaker.script;
        }
        if self.after.is_empty() {
            self.after = weaker.after;
        }
        for (name, value) in weaker.env {
            self.env.entry(name).or_insert(value);
        }
        for (name, value) in weaker.labels {
            self.labels.entry(name).or_insert(value);
        }
        take!(name id queue namespace nodes gpu_type cpus memory time image priority array workdir output shape
            processes_per_node needs_model hold retries account qos constraint exclusive);
        self
    }

    /// What it comes to. `fallback` names a job that has no name: its script's or program's.
    ///
    /// # Errors
    /// If it contradicts itself or holds what no engine could take.
    pub fn settle(self, fallback: &str) -> Result<JobSpec, QueueError> {
        let nodes = self.nodes.unwrap_or(1);
        if nodes == 0 {
            return Err(invalid("a job of 0 nodes", "--nodes takes 1 or more"));
        }
        let gpus_per_node = match (self.gpus_per_node, self.gpus) {
            (Some(each), Some(all)) if each.checked_mul(nodes) != Some(all) => {
                return Err(invalid(
                    format!("{all} GPUs in all are not {each} on each of {nodes} nodes"),
                    "give one of the two",
                ));
            }
            (Some(each), _) => each,
            (None, Some(all)) if all % nodes != 0 => {
                return Err(invalid(
                    format!("{all} GPUs can't be spread evenly over {nodes} nodes"),
                    "write --gpus-per-node",
                ));
            }
            (None, Some(all)) => all / nodes,
            (None, None) => 0,
        };
        let gpu_share = match (self.gpu_fraction, self.gpu_memory) {
            (Some(_), Some(_)) => {
                return Err(invalid("a part of a GPU was asked for twice", "give --gpu-fraction or --gpu-memory"));
            }
            (Some(share), None) if !(share > 0.0 && share < 1.0) => {
                return Err(invalid(
                    format!("{share} is no part of a GPU"),
                    "--gpu-fraction takes a number between 0 and 1; whole GPUs are --gpus-per-node",
                ));
            }
            (share, memory) => share.map(GpuShare::Fraction).or(memory.map(GpuShare::Memory)),
        };
        if gpu_share.is_some() && gpus_per_node > 1 {
            return Err(invalid(
                format!("{gpus_per_node} GPUs and a part of one were asked for"),
                "a part of a GPU is for one GPU on a node; leave --gpus-per-node out",
            ));
        }
        if self.command.is_empty() && self.script.is_none() {
            return Err(invalid("nothing to run", "give a command after --, a script, or a YAML file"));
        }
        if let Some(name) = self.env.keys().find(|name| !is_variable(name)) {
            return Err(invalid(
                format!("{name:?} is no name of a variable"),
                "letters, digits and _ make one, and no digit comes first",
            ));
        }
        if self.processes_per_node == Some(0) {
            return Err(invalid("0 processes on each node", "--processes-per-node takes 1 or more"));
        }
        let name = match &self.name {
            Some(name) => checked_name(name)?,
            None => made_name(fallback),
        };
        if let Some(id) = &self.id {
            checked_id(id)?;
        }
        let mut spec = JobSpec {
            name,
            id: String::new(),
            queue: self.queue,
            namespace: self.namespace,
            nodes,
            gpus_per_node: if gpu_share.is_some() { 0 } else { gpus_per_node },
            gpu_type: self.gpu_type,
            gpu_share,
            cpus: self.cpus,
            memory: self.memory,
            time: self.time,
            image: self.image,
            priority: self.priority,
            env: self.env,
            array: self.array,
            after: self.after,
            workdir: self.workdir,
            output: self.output,
            command: self.command,
            script: self.script,
            shape: self.shape.unwrap_or_default(),
            processes_per_node: self.processes_per_node,
            needs_model: self.needs_model,
            hold: self.hold.unwrap_or(false),
            retries: self.retries.unwrap_or(0),
            labels: self.labels,
            account: self.account,
            qos: self.qos,
            constraint: self.constraint,
            exclusive: self.exclusive.unwrap_or(false),
            script_asks: None,
        };
        spec.id = self.id.unwrap_or_else(|| spec.hash());
        Ok(spec)
    }
}

fn invalid(what: impl Into<String>, hint: impl Into<String>) -> QueueError {
    QueueError::Invalid { what: what.into(), hint: hint.into() }
}

/// Whether a text may name an environment variable everywhere.
fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A name that was given: taken as it is, or refused with one that would do.
fn checked_name(name: &str) -> Result<String, QueueError> {
    if name.len() > LONGEST_NAME {
        return Err(invalid(
            format!("the name {name:?} has {} characters, at most {LONGEST_NAME} fit", name.len()),
            format!("for example {:?}; Kubernetes and its controllers need the rest", made_name(name)),
        ));
    }
    if made_name(name) == name {
        return Ok(name.to_owned());
    }
    Err(invalid(
        format!("{name:?} is no name for a job"),
        format!("lower-case letters, digits and - make one, a letter first; for example {:?}", made_name(name)),
    ))
}

/// The nearest valid name: lower case, with `-` for what is not allowed, a letter first.
fn made_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let letters = name.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
    let name = if letters.is_empty() { format!("job-{name}") } else { letters.to_owned() };
    name.chars().take(LONGEST_NAME).collect::<String>().trim_end_matches('-').to_owned()
}

/// An id becomes a label's value.
fn checked_id(id: &str) -> Result<(), QueueError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: char| c.is_ascii_alphanumeric();
    if id.len() <= 63 && id.starts_with(ends) && id.ends_with(ends) && id.chars().all(inner) {
        return Ok(());
    }
    Err(invalid(
        format!("{id:?} is no submission id"),
        "letters, digits, -, _ and . make one, at most 63, a letter or digit first and last",
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draft() -> Draft {
        Draft { command: vec!["true".to_owned()], ..Draft::default() }
    }

    #[test]
    fn the_stronger_source_wins_and_maps_are_merged() {
        let env = |value: &str| BTreeMap::from([("A".to_owned(), value.to_owned())]);
        let flags = Draft { nodes: Some(2), gpus_per_node: Some(8), env: env("flag"), ..Draft::default() };
        let mut file =
            Draft { nodes: Some(4), gpus: Some(1), queue: Some("q".to_owned()), env: env("file"), ..draft() };
        file.env.insert("B".to_owned(), "2".to_owned());
        let spec = flags.over(file).settle("train.py").unwrap();
        assert_eq!((spec.nodes, spec.gpus_per_node, spec.queue.as_deref()), (2, 8, Some("q")));
        assert_eq!((spec.env["A"].as_str(), spec.env["B"].as_str(), spec.name.as_str()), ("flag", "2", "train-py"));
    }

    #[test]
    fn contradictions_are_refused() {
        let wrong = [
            Draft { nodes: Some(0), ..draft() },
            Draft { gpus: Some(7), nodes: Some(2), ..draft() },
            Draft { gpus: Some(8), gpus_per_node: Some(8), nodes: Some(2), ..draft() },
            Draft { gpu_fraction: Some(1.0), ..draft() },
            Draft { gpu_fraction: Some(f64::NAN), ..draft() },
            Draft { gpu_fraction: Some(0.5), gpu_memory: Some(Bytes(1)), ..draft() },
            Draft { gpu_fraction: Some(0.5), gpus_per_node: Some(2), ..draft() },
            Draft { name: Some("x".repeat(64)), ..draft() },
            Draft { name: Some("Train_1".to_owned()), ..draft() },
            Draft { id: Some("a b".to_owned()), ..draft() },
            Draft { env: BTreeMap::from([("1A".to_owned(), String::new())]), ..draft() },
            Draft::default(),
        ];
        for draft in wrong {
            assert!(draft.clone().settle("x").is_err(), "{draft:?}");
        }
    }

    #[test]
    fn the_same_request_has_the_same_id_and_another_one_another() {
        let spec = |nodes| Draft { nodes: Some(nodes), ..draft() }.settle("x").unwrap();
        assert_eq!(spec(1).id, spec(1).id);
        assert_ne!(spec(1).id, spec(2).id);
        assert_eq!(spec(1).id.len(), 12);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_valid_name(text in "\\PC{0,80}") {
            let name = made_name(&text);
            prop_assert!(name.len() <= LONGEST_NAME && name.starts_with(|c: char| c.is_ascii_lowercase()), "{}", name);
            prop_assert!(!name.ends_with('-') && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert_eq!(made_name(&name), name);
        }
    }
}
