//! From a spec to the request for Ray's job server.

use base64::Engine as _;
use serde_json::{Value, json};

use super::api::{Cluster, Resources, key};
use crate::queue::{GpuShare, JobSpec, QueueError};

/// Starts the command on the nodes; see its own opening words.
pub(in crate::queue::engines) const DRIVER: &str = include_str!("driver.py");
/// The variable that tells it what to run.
pub(in crate::queue::engines) const SPEC: &str = "AICTL_RAY_SPEC";
/// Whatever Python the cluster's Ray runs in. Its environment variables may be long; the kernel
/// gives each 128 KiB.
const ENTRYPOINT: &str = r#"exec "$(command -v python || command -v python3)" -c "$AICTL_RAY_DRIVER""#;
/// Linux's MAX_ARG_STRLEN, less some room for the variable's name.
const LONGEST: usize = (128 << 10) - 64;

/// As Ray knows the job: the name, then the submission's id.
pub(super) fn submission_id(spec: &JobSpec) -> String {
    let plain = |text: &str| text.replace(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)), "-");
    format!("{}-{}", plain(&spec.name), plain(&spec.id))
}

/// What one node of it takes.
pub(super) fn bundle(spec: &JobSpec) -> Result<Resources, QueueError> {
    let gpus = match spec.gpu_share {
        Some(GpuShare::Fraction(share)) => share,
        Some(GpuShare::Memory(_)) => {
            return Err(QueueError::Unsupported {
                engine: "Ray".to_owned(),
                what: "share a GPU by its memory".to_owned(),
                instead: "--gpu-fraction 0.5 is Ray's own way".to_owned(),
            });
        }
        None => f64::from(spec.gpus_per_node),
    };
    // A bundle of nothing is placed nowhere.
    let cpus = spec.cpus.map_or(1.0, |cpus| cpus.cores() as f64);
    let mut bundle = Resources::from([("CPU".to_owned(), cpus)]);
    if gpus > 0.0 {
        bundle.insert("GPU".to_owned(), gpus);
    }
    if let Some(memory) = spec.memory {
        bundle.insert("memory".to_owned(), memory.0 as f64);
    }
    if let Some(kind) = &spec.gpu_type {
        // Ray's way to ask for a kind: a crumb of a resource that its nodes have one of.
        bundle.insert(format!("accelerator_type:{kind}"), 0.001);
    }
    Ok(bundle)
}

/// What Ray has no way to do is an error; what does not change what runs is a note.
pub(super) fn notes(spec: &JobSpec) -> Result<Vec<String>, QueueError> {
    let cannot = |what: &str, instead: &str| {
        Err(QueueError::Unsupported { engine: "Ray".to_owned(), what: what.to_owned(), instead: instead.to_owned() })
    };
    if spec.array.is_some() {
        return cannot("run arrays of jobs", "submit one job for each index");
    }
    if !spec.after.is_empty() {
        return cannot("let a job wait for another", "`aictl queue wait JOB --exit-code && aictl submit …` does");
    }
    if spec.hold {
        return cannot("hold a job", "submit it when it may start");
    }
    if spec.needs_model.is_some() {
        return cannot("hold a job until a model is there", "`aictl preload SOURCE && aictl submit …` does");
    }
    if spec.exclusive {
        return cannot("keep other jobs from its nodes", "ask for all their GPUs or cores");
    }
    let mut notes = Vec::new();
    let mut leave = |what: Option<&String>, name: &str| {
        if let Some(value) = what {
            notes.push(format!("Ray has no {name}: {value} is left out"));
        }
    };
    leave(spec.queue.as_ref(), "queues");
    leave(spec.priority.as_ref(), "priorities");
    leave(spec.account.as_ref(), "accounts");
    leave(spec.qos.as_ref(), "qualities of service");
    leave(spec.constraint.as_ref(), "constraints");
    leave(spec.output.as_ref(), "files for output");
    leave(spec.image.as_ref(), "image for each job");
    if !spec.labels.is_empty() {
        notes.push("Ray has no labels: they are left out".to_owned());
    }
    Ok(notes)
}

/// What the driver is told beside the command.
pub(in crate::queue::engines) struct Told<'s> {
    /// Cores of a node, as Ray counts them.
    pub cpus: f64,
    /// GPUs of a node, as Ray counts them.
    pub gpus: f64,
    /// Bytes of a node, as Ray counts them; 0 where it need not.
    pub memory: f64,
    /// The kind of GPU that Ray is to look for.
    pub gpu_type: Option<&'s str>,
    /// The time limit that the driver keeps, in seconds; 0 where something else does.
    pub time_s: u64,
    /// How often the driver starts it anew.
    pub retries: u32,
    /// The command takes the driver's place: it is the only one, on the only node.
    pub alone: bool,
}

/// The value of [`SPEC`].
///
/// # Errors
/// If it is too long for a variable.
pub(in crate::queue::engines) fn told(spec: &JobSpec, told: &Told<'_>) -> Result<String, QueueError> {
    let run = json!({
        "id": submission_id(spec),
        "nodes": spec.nodes,
        "cpus": told.cpus,
        "gpus": told.gpus,
        "memory": told.memory,
        "gpu_type": told.gpu_type.unwrap_or_default(),
        "time_s": told.time_s,
        "retries": told.retries,
        "processes": spec.processes_per_node(),
        "words": spec.words(),
        "env": spec.env,
        "workdir": spec.workdir,
        "alone": told.alone,
    });
    // In base64, since Ray fills in what looks like ${VARIABLES} in an environment, and Kubernetes $(VARIABLES).
    let run = base64::engine::general_purpose::STANDARD.encode(run.to_string());
    if run.len() > LONGEST {
        return Err(QueueError::Invalid {
            what: format!(
                "the script and its environment are {} KiB long, too long for Ray's environment variables",
                run.len() >> 10
            ),
            hint: "keep the script on a file system of the cluster and submit its path".to_owned(),
        });
    }
    Ok(run)
}

/// The body of `POST /api/jobs/`.
pub(super) fn body(spec: &JobSpec, user: &str) -> Result<Value, QueueError> {
    let bundle = bundle(spec)?;
    let amount = |name: &str| bundle.get(name).copied().unwrap_or_default();
    let run = told(
        spec,
        &Told {
            cpus: amount("CPU"),
            gpus: amount("GPU"),
            memory: amount("memory"),
            gpu_type: spec.gpu_type.as_deref(),
            time_s: spec.time.map_or(0, |time| time.0),
            retries: spec.retries,
            alone: false,
        },
    )?;
    let mut metadata = json!({
        "job_name": spec.name,
        key::ID: spec.id,
        key::NAME: spec.name,
        key::USER: user,
        key::NODES: spec.nodes.to_string(),
        key::GPUS: amount("GPU").to_string(),
        key::CPUS: amount("CPU").to_string(),
    });
    if let Some(time) = spec.time {
        metadata[key::TIME] = json!(time.0.to_string());
    }
    Ok(json!({
        "entrypoint": ENTRYPOINT,
        "submission_id": submission_id(spec),
        "metadata": metadata,
        "runtime_env": {"env_vars": {"AICTL_RAY_DRIVER": DRIVER, SPEC: run}},
    }))
}

/// Whether the cluster's nodes could ever hold it, all free. One with an autoscaler may grow.
pub(super) fn check(spec: &JobSpec, cluster: &Cluster) -> Result<(), QueueError> {
    let bundle = bundle(spec)?;
    let fitting = cluster.fitting(&bundle);
    if cluster.grows || fitting >= spec.nodes || cluster.nodes.is_empty() {
        return Ok(());
    }
    let short = bundle.iter().find(|(name, amount)| cluster.largest(name) + 1e-6 < **amount);
    let fits = match (short, fitting) {
        (Some((name, _)), _) => format!("the largest node has {} of {name}", cluster.largest(name)),
        (None, 0) => "no node has all of it at once".to_owned(),
        (None, fitting) => format!("--nodes {fitting} fits"),
    };
    Err(QueueError::Impossible {
        what: format!(
            "{} asked for; the Ray cluster has {} of {} nodes with that",
            words(spec.nodes, &bundle),
            fitting,
            cluster.nodes.len()
        ),
        fits,
    })
}

/// "2 nodes with 4 GPU, 1 CPU each".
pub(super) fn words(nodes: u32, bundle: &Resources) -> String {
    let mut parts: Vec<String> = bundle
        .iter()
        .filter(|(name, _)| !name.starts_with("accelerator_type:"))
        .map(|(name, amount)| match name.as_str() {
            "memory" => format!("{:.1} GiB of memory", amount / f64::from(1 << 30)),
            name => format!("{amount} {name}"),
        })
        .collect();
    parts.extend(
        bundle
            .keys()
            .filter_map(|name| name.strip_prefix("accelerator_type:"))
            .map(|kind| format!("GPUs of type {kind}")),
    );
    let parts = parts.join(", ");
    if nodes == 1 { format!("1 node with {parts}") } else { format!("{nodes} nodes with {parts} each") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::queue::{Bytes, Cpus, Draft, TimeLimit};

    proptest! {
        #[test]
        fn a_request_keeps_what_a_spec_means(
            nodes in 1u32..64, gpus in 0u32..9, cores in proptest::option::of(1u64..256), memory in proptest::option::of(1u64..(1 << 40)),
            time in proptest::option::of(1u64..10_000_000), kind in proptest::option::of("[A-Z][A-Z0-9]{0,6}"),
            command in proptest::collection::vec("[ -~]{1,12}", 1..5), retries in 0u32..4, processes in proptest::option::of(1u32..9),
            env in proptest::collection::btree_map("[A-Z]{1,6}", "[ -~]{0,12}", 0..4), workdir in proptest::option::of("/[a-z]{1,8}"),
        ) {
            let draft = Draft {
                nodes: Some(nodes), gpus_per_node: Some(gpus), cpus: cores.map(|cores| Cpus(cores * 1000)), memory: memory.map(Bytes),
                time: time.map(TimeLimit), gpu_type: kind.clone(), command: command.clone(), retries: Some(retries),
                processes_per_node: processes, env: env.clone(), workdir: workdir.clone(), ..Draft::default()
            };
            let spec = draft.settle("job").unwrap();
            let body = body(&spec, "ada").unwrap();
            let run = body["runtime_env"]["env_vars"]["AICTL_RAY_SPEC"].as_str().unwrap();
            let run = base64::engine::general_purpose::STANDARD.decode(run).unwrap();
            let run: Value = serde_json::from_slice(&run).unwrap();
            prop_assert_eq!(&run["nodes"], &json!(nodes));
            prop_assert_eq!(run["gpus"].as_f64(), Some(f64::from(gpus)));
            prop_assert_eq!(run["cpus"].as_f64(), Some(cores.unwrap_or(1) as f64));
            prop_assert_eq!(run["memory"].as_f64(), Some(memory.unwrap_or(0) as f64));
            prop_assert_eq!(&run["time_s"], &json!(time.unwrap_or(0)));
            prop_assert_eq!(&run["gpu_type"], &json!(kind.unwrap_or_default()));
            prop_assert_eq!(&run["words"], &json!(command));
            prop_assert_eq!(&run["retries"], &json!(retries));
            prop_assert_eq!(&run["processes"], &json!(spec.processes_per_node()));
            prop_assert_eq!(serde_json::from_value::<BTreeMap<String, String>>(run["env"].clone()).unwrap(), env);
            prop_assert_eq!(&run["workdir"], &json!(workdir));
            // The list reads the same back from what Ray keeps.
            prop_assert_eq!(&body["metadata"][key::NODES], &json!(nodes.to_string()));
        }
    }
}
