//! The pod of a job: one container that runs the command once, with the variables by which ranks
//! find each other.

use serde_json::{Map, Value, json};

use super::super::ray::{self, Told};
use super::object::{Frame, SUBMISSION_LABEL};
use crate::queue::rendezvous::{
    ARRAY_COUNT, ARRAY_INDEX, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, NNODES, NODE_RANK, NPROC_PER_NODE, PORT, RANK,
    SUBMISSION_ID, TORCHRUN, WORLD_SIZE, shell,
};
use crate::queue::{EngineKind, JobSpec, QueueError};

/// How a pod learns its rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rank {
    /// There is no other.
    Only,
    /// From a field of its own object.
    Annotation {
        /// As the downward API names it.
        field: String,
        /// Where rank 0 is.
        master: String,
    },
    /// From variables that an operator sets, by expressions of the shell.
    Shell {
        /// Its rank.
        rank: String,
        /// Where rank 0 is.
        master: String,
    },
}

impl Rank {
    /// From the index that the Job controller gives a pod; `master` is where rank 0 is.
    pub fn completion_index(master: String) -> Rank {
        Rank::Annotation { field: format!("metadata.annotations['{INDEX}']"), master }
    }

    /// From variables, by expressions of the shell.
    pub fn shell(rank: &str, master: &str) -> Rank {
        Rank::Shell { rank: rank.to_owned(), master: master.to_owned() }
    }
}

/// Annotation of the Job controller.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Room for NCCL's and PyTorch's segments: the runtime's default of 64 MB is too little for both.
const SHARED_MEMORY: &str = "dshm";

/// The words that the container runs: the command, or the shell that sets variables before it.
pub fn words(spec: &JobSpec, rank: &Rank) -> Vec<String> {
    let words = spec.words();
    let mut before = Vec::new();
    if let Rank::Shell { rank, master } = rank {
        before.push(shell(rank, &spec.nodes.to_string(), master, spec.processes_per_node()));
    }
    if let Some(array) = spec.array.as_ref().filter(|array| !array.counts_from_zero()) {
        // The Job controller counts from 0; the array has indices of its own.
        let list: Vec<String> = array.indices().iter().map(u32::to_string).collect();
        before.push(format!(
            "i=0\nfor index in {}; do\n  [ \"$i\" = \"${{JOB_COMPLETION_INDEX:-${{VC_TASK_INDEX:-0}}}}\" ] && export {ARRAY_INDEX}=$index\n  i=$((i + 1))\ndone",
            list.join(" ")
        ));
    }
    if before.is_empty() {
        return words;
    }
    before.push("exec \"$@\"".to_owned());
    let mut wrapped = vec!["/bin/sh".to_owned(), "-c".to_owned(), before.join("\n"), "aictl".to_owned()];
    wrapped.extend(words);
    wrapped
}

/// The pod's template.
///
/// # Errors
/// If the spec has no image.
pub fn template(spec: &JobSpec, frame: &Frame<'_>, rank: &Rank) -> Result<Value, QueueError> {
    let mut container = container(spec, frame)?;
    container["command"] = json!(words(spec, rank).iter().map(|word| escaped(word)).collect::<Vec<_>>());
    container["env"] = Value::Array(environment(spec, frame, rank));
    Ok(around(spec, frame, container))
}

/// A worker of MPI, which waits for the launcher to start processes in it.
pub fn sleeping(spec: &JobSpec, frame: &Frame<'_>) -> Result<Value, QueueError> {
    let mut container = container(spec, frame)?;
    container["command"] = json!(["sleep", "infinity"]);
    container["env"] = Value::Array(environment(spec, frame, &Rank::Only));
    Ok(around(spec, frame, container))
}

/// The launcher of MPI: asks the first worker for its address, then starts the command once on each.
pub fn mpi_launcher(spec: &JobSpec, frame: &Frame<'_>) -> Result<Value, QueueError> {
    let mut container = container(spec, frame)?;
    let ranks = shell("$OMPI_COMM_WORLD_RANK", &spec.nodes.to_string(), "$MASTER_ADDR", spec.processes_per_node());
    let start = format!(
        "MASTER_ADDR=$(mpirun --allow-run-as-root -np 1 hostname -i | cut -d' ' -f1)\nexport MASTER_ADDR\nexec mpirun --allow-run-as-root -np {} --map-by ppr:1:node -x MASTER_ADDR /bin/sh -c '{}\nexec \"$@\"' aictl \"$@\"",
        spec.nodes, ranks
    );
    let mut command = vec!["/bin/sh".to_owned(), "-c".to_owned(), start, "aictl".to_owned()];
    command.extend(spec.words());
    container["command"] = json!(command.iter().map(|word| escaped(word)).collect::<Vec<_>>());
    container["env"] = Value::Array(environment(spec, frame, &Rank::shell("", "")));
    if let Some(fields) = container.as_object_mut() {
        // It only starts the others; the GPUs are theirs.
        fields.remove("resources");
    }
    Ok(around(spec, frame, container))
}

/// A node of Ray.
pub fn ray_node(spec: &JobSpec, frame: &Frame<'_>) -> Result<Value, QueueError> {
    let mut container = container(spec, frame)?;
    container["name"] = json!("ray-node");
    // Which of several nodes has which rank is known when Ray has placed them: the driver tells.
    let rank = if spec.nodes > 1 { Rank::shell("", "") } else { Rank::Only };
    container["env"] = Value::Array(environment(spec, frame, &rank));
    Ok(around(spec, frame, container))
}

/// Where a RayJob's driver lies, in an annotation and in the head's file system. Between a RayJob's
/// entrypoint and its program are two shells and a third way to quote; the name of a file means the same to all.
const RAY_DRIVER: &str = "aictl.dev/ray-driver";
const RAY_DRIVER_AT: (&str, &str) = ("/etc/aictl", "driver.py");

/// What a RayJob runs on its head.
pub fn ray_entrypoint() -> String {
    let (directory, file) = RAY_DRIVER_AT;
    format!("python3 {directory}/{file}")
}

/// What Ray counts of a node: cores and GPUs.
pub fn ray_counts(spec: &JobSpec) -> (u64, u32) {
    let gpus = if spec.gpu_share.is_some() { 1 } else { spec.gpus_per_node };
    (spec.cpus.map_or(1, |cpus| cpus.cores()), gpus)
}

/// The node of Ray on which the driver runs, which starts the command on all.
pub fn ray_head(spec: &JobSpec, frame: &Frame<'_>) -> Result<Value, QueueError> {
    let mut head = ray_node(spec, frame)?;
    let (cpus, gpus) = ray_counts(spec);
    // Memory, kind of GPU, time and retries are Kubernetes' business here.
    let (memory, gpu_type, time_s, retries) = (0.0, None, 0, 0);
    let alone = spec.nodes == 1;
    let told = Told { cpus: cpus as f64, gpus: f64::from(gpus), memory, gpu_type, time_s, retries, alone };
    let variable = json!({"name": ray::SPEC, "value": ray::told(spec, &told)?});
    let (directory, file) = RAY_DRIVER_AT;
    let field = format!("metadata.annotations['{RAY_DRIVER}']");
    let volume = json!({"name": "aictl", "downwardAPI": {"items": [{"path": file, "fieldRef": {"fieldPath": field}}]}});
    head["metadata"]["annotations"][RAY_DRIVER] = json!(ray::DRIVER);
    push(&mut head["spec"]["volumes"], volume);
    let container = &mut head["spec"]["containers"][0];
    push(&mut container["volumeMounts"], json!({"name": "aictl", "mountPath": directory}));
    push(&mut container["env"], variable);
    Ok(head)
}

/// Adds to a list that may not be there yet.
fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        list => *list = json!([item]),
    }
}

fn container(spec: &JobSpec, frame: &Frame<'_>) -> Result<Value, QueueError> {
    let Some(image) = &spec.image else {
        return Err(QueueError::Invalid {
            what: format!("{} needs a container image", frame.engine),
            hint: "give --image, AICTL_IMAGE or an #AICTL --image line".to_owned(),
        });
    };
    let mut container = json!({"name": "main", "image": image});
    if let Some(directory) = &spec.workdir {
        container["workingDir"] = json!(directory);
    }
    let (mut requests, mut limits) = (Map::new(), Map::new());
    if let Some(cpus) = spec.cpus {
        requests.insert("cpu".to_owned(), json!(cpus.to_string()));
    }
    if let Some(memory) = spec.memory {
        requests.insert("memory".to_owned(), json!(memory.to_string()));
        limits.insert("memory".to_owned(), json!(memory.to_string()));
    }
    for (resource, amount) in &frame.gpu.resources {
        requests.insert(resource.clone(), json!(amount));
        limits.insert(resource.clone(), json!(amount));
    }
    let mut resources = Map::new();
    for (name, amounts) in [("requests", requests), ("limits", limits)] {
        if !amounts.is_empty() {
            resources.insert(name.to_owned(), Value::Object(amounts));
        }
    }
    if !resources.is_empty() {
        container["resources"] = Value::Object(resources);
    }
    if spec.gpus_per_node > 1 {
        container["volumeMounts"] = json!([{"name": SHARED_MEMORY, "mountPath": "/dev/shm"}]);
    }
    Ok(container)
}

fn around(spec: &JobSpec, frame: &Frame<'_>, container: Value) -> Value {
    let mut pod = json!({"restartPolicy": "Never", "containers": [container]});
    if spec.gpus_per_node > 1 {
        pod["volumes"] = json!([{"name": SHARED_MEMORY, "emptyDir": {"medium": "Memory"}}]);
    }
    if !frame.node_labels.is_empty() {
        let wanted: Vec<Value> = frame
            .node_labels
            .iter()
            .map(|(key, values)| json!({"key": key, "operator": "In", "values": values}))
            .collect();
        pod["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": wanted}]}}});
    }
    if let (Some(priority), false) = (&spec.priority, matches!(frame.engine, EngineKind::Kueue | EngineKind::Volcano)) {
        pod["priorityClassName"] = json!(priority);
    }
    let mut metadata = json!({"labels": {SUBMISSION_LABEL: spec.id}});
    if !frame.gpu.annotations.is_empty() {
        metadata["annotations"] = json!(frame.gpu.annotations);
    }
    json!({"metadata": metadata, "spec": pod})
}

/// The variables; the user's own come last and win.
fn environment(spec: &JobSpec, frame: &Frame<'_>, rank: &Rank) -> Vec<Value> {
    let mut variables = Vec::new();
    let nodes = spec.nodes.to_string();
    match rank {
        Rank::Shell { .. } => {}
        Rank::Only | Rank::Annotation { .. } => {
            let (node_rank, master) = match rank {
                Rank::Annotation { master, .. } => (None, master.as_str()),
                _ => (Some("0"), "localhost"),
            };
            if let Some(node_rank) = node_rank {
                variables.push(json!({"name": NODE_RANK, "value": node_rank}));
            } else if let Rank::Annotation { field, .. } = rank {
                variables.push(json!({"name": NODE_RANK, "valueFrom": {"fieldRef": {"fieldPath": field}}}));
            }
            let mut set = |name: &str, value: String| variables.push(json!({"name": name, "value": value}));
            set(NNODES, nodes.clone());
            set(NPROC_PER_NODE, spec.processes_per_node().to_string());
            set(MASTER_ADDR, master.to_owned());
            set(MASTER_PORT, PORT.to_string());
            set(RANK, format!("$({NODE_RANK})"));
            set(WORLD_SIZE, nodes);
            set(LOCAL_RANK, "0".to_owned());
            for (option, variable) in TORCHRUN {
                set(option, format!("$({variable})"));
            }
        }
    }
    variables.push(json!({"name": SUBMISSION_ID, "value": spec.id}));
    if let Some(array) = &spec.array {
        if array.counts_from_zero() {
            let field = match frame.engine {
                EngineKind::Volcano => "metadata.annotations['volcano.sh/task-index']".to_owned(),
                _ => format!("metadata.annotations['{INDEX}']"),
            };
            variables.push(json!({"name": ARRAY_INDEX, "valueFrom": {"fieldRef": {"fieldPath": field}}}));
        }
        variables.push(json!({"name": ARRAY_COUNT, "value": array.count().to_string()}));
    }
    variables.extend(frame.gpu.environment.iter().map(|(name, value)| json!({"name": name, "value": value})));
    variables.extend(spec.env.iter().map(|(name, value)| json!({"name": name, "value": escaped(value)})));
    variables
}

/// `$(NAME)` in a value or a word would be replaced by Kubernetes; `$$` stands for a dollar before it.
fn escaped(value: &str) -> String {
    value.replace("$(", "$$(")
}
