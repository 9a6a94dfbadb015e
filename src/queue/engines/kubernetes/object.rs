//! A spec as Kubernetes objects: the pod first, then the object of the wanted shape around it.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::kinds::{self, JobKind};
use super::pod::{self, Rank};
use super::served::Served;
use super::share::GpuRequest;
use crate::queue::{EngineKind, JobSpec, QueueError, Shape};

/// Label: the submission that an object is of.
pub const SUBMISSION_LABEL: &str = "aictl.dev/submission-id";
/// Label: the queue that a held job goes to when it is released.
pub const HELD_QUEUE_LABEL: &str = "aictl.dev/held-queue";
/// Annotation: who submitted it.
pub const OWNER: &str = "aictl.dev/owner";
/// Annotation: jobs that must have ended first.
pub const AFTER: &str = "aictl.dev/after";
/// Annotation: a model that must be preloaded first.
pub const NEEDS_MODEL: &str = "aictl.dev/needs-model";
/// Annotation: its time limit in seconds, whatever the kind calls it.
pub const TIME_LIMIT: &str = "aictl.dev/time-limit-s";
/// Annotation: that it was submitted held, where nothing else shows it.
pub const HELD: &str = "aictl.dev/held";
/// Label of Kueue: the queue.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Label of Kueue: the priority class.
pub const KUEUE_PRIORITY: &str = "kueue.x-k8s.io/priority-class";
/// Label of Kueue: the longest that it may run once admitted.
pub const KUEUE_TIME: &str = "kueue.x-k8s.io/max-exec-time-seconds";
/// Annotation of kube-queue: keeps a job of a kind without a suspend field waiting.
pub const KUBE_QUEUE_SUSPEND: &str = "scheduling.x-k8s.io/suspend";
/// Annotation of kube-queue and of its successor Koordinator: the queue, where the namespace does not
/// lead to one (docs of its ElasticQuota plugin: "explicit queue annotation").
pub const KUBE_QUEUE_QUEUE: &str = "kube-queue/queue-name";

/// What turns a spec into objects, beside the spec.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// The engine that will queue it.
    pub engine: EngineKind,
    /// What the cluster serves.
    pub served: &'a Served,
    /// Where the objects go.
    pub namespace: &'a str,
    /// What a part of a GPU is asked for by.
    pub gpu: GpuRequest,
    /// Node labels that the pods ask for: key, and the values that do.
    pub node_labels: Vec<(String, Vec<String>)>,
}

/// The object's name: the job's own and eight hexadecimal digits of its submission, so that the same
/// submission always makes the same object.
pub fn name(spec: &JobSpec) -> String {
    let digest = Sha256::digest(spec.id.as_bytes());
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digits}", spec.name)
}

/// The shape that `auto` comes to.
pub fn shape(spec: &JobSpec, frame: &Frame<'_>) -> Result<JobKind, QueueError> {
    let served = |kind: JobKind| frame.served.kind(kind.group, kind.kind).is_some();
    let several = spec.nodes > 1;
    let asked = match spec.shape {
        Shape::Auto => None,
        Shape::Job if frame.engine == EngineKind::Volcano => Some(kinds::VCJOB),
        Shape::Job => Some(kinds::JOB),
        Shape::JobSet => Some(kinds::JOBSET),
        Shape::PyTorchJob => Some(kinds::PYTORCHJOB),
        Shape::TrainJob => Some(kinds::TRAINJOB),
        Shape::MpiJob => Some(kinds::MPIJOB),
        Shape::RayJob => Some(kinds::RAYJOB),
    };
    let kind = match (asked, frame.engine) {
        (Some(kind), _) => kind,
        (None, EngineKind::Volcano) => kinds::VCJOB,
        // kube-queue knows Jobs and Kubeflow's kinds, no JobSets.
        (None, EngineKind::KubeQueue) if several && spec.array.is_none() && served(kinds::PYTORCHJOB) => {
            kinds::PYTORCHJOB
        }
        (None, EngineKind::KubeQueue) => kinds::JOB,
        (None, _) if several && spec.array.is_none() && served(kinds::JOBSET) => kinds::JOBSET,
        (None, _) => kinds::JOB,
    };
    if !served(kind) {
        let others: Vec<&str> = Shape::ALL
            .iter()
            .filter(|shape| kinds::by_short(shape.name()).is_some_and(served))
            .map(|shape| shape.name())
            .collect();
        return Err(QueueError::Unsupported {
            engine: "the cluster".to_owned(),
            what: format!("run a {}: it does not serve {}", kind.short, kind.group),
            instead: format!("shapes that it serves: {}", others.join(", ")),
        });
    }
    if frame.engine == EngineKind::KubeQueue && kind == kinds::JOBSET {
        return Err(QueueError::Unsupported {
            engine: "kube-queue".to_owned(),
            what: "queue a JobSet".to_owned(),
            instead: "take --shape job, pytorchjob or mpijob".to_owned(),
        });
    }
    if spec.array.is_some() && (several || !matches!(kind, kinds::JOB)) && kind != kinds::VCJOB {
        return Err(QueueError::Unsupported {
            engine: format!("a {}", kind.kind),
            what: "be an array of jobs of several nodes".to_owned(),
            instead: "submit one job for each index, or arrays of --nodes 1 with --shape job".to_owned(),
        });
    }
    if spec.array.is_some() && several {
        return Err(QueueError::Unsupported {
            engine: "Volcano".to_owned(),
            what: "hold an array of gangs in one job".to_owned(),
            instead: "submit one job for each index".to_owned(),
        });
    }
    Ok(kind)
}

/// The objects; the first owns the rest.
///
/// # Errors
/// If the cluster or the engine has no such shape, or a pod can't be made of the spec.
pub fn build(spec: &JobSpec, frame: &Frame<'_>) -> Result<Vec<Value>, QueueError> {
    let kind = shape(spec, frame)?;
    let name = name(spec);
    let mut body = match kind {
        kinds::JOB => job(spec, frame, &name)?,
        kinds::JOBSET => jobset(spec, frame, &name)?,
        kinds::PYTORCHJOB => pytorchjob(spec, frame)?,
        kinds::MPIJOB => mpijob(spec, frame, &name)?,
        kinds::TRAINJOB => trainjob(spec, frame)?,
        kinds::RAYJOB => rayjob(spec, frame)?,
        _ => vcjob(spec, frame, &name)?,
    };
    let suspended = spec.hold || !spec.after.is_empty() || spec.needs_model.is_some();
    if suspended && frame.engine == EngineKind::KubeQueue {
        return Err(QueueError::Unsupported {
            engine: "kube-queue".to_owned(),
            what: "hold a job: it queues whatever is suspended".to_owned(),
            instead: "submit it when it may start: `aictl queue wait JOB --exit-code && aictl submit …`".to_owned(),
        });
    }
    let queued = matches!(frame.engine, EngineKind::Kueue | EngineKind::KubeQueue);
    if let (true, Some(pointer)) = (suspended || queued, kind.suspend) {
        set(&mut body, pointer.trim_start_matches("/spec"), json!(true));
    }
    let version = frame.served.kind(kind.group, kind.kind).map(|resource| resource.api_version.clone());
    let object = json!({
        "apiVersion": version.unwrap_or_default(),
        "kind": kind.kind,
        "metadata": metadata(spec, frame, kind, &name, suspended),
        "spec": body,
    });
    let mut objects = vec![object];
    if kind == kinds::JOB && spec.nodes > 1 {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": frame.namespace, "labels": {SUBMISSION_LABEL: spec.id}},
            "spec": {
                "clusterIP": "None",
                // Ranks look for each other before all of them are ready.
                "publishNotReadyAddresses": true,
                "selector": {kinds::JOB.name_label: name},
            },
        }));
    }
    Ok(objects)
}

fn metadata(spec: &JobSpec, frame: &Frame<'_>, kind: JobKind, name: &str, suspended: bool) -> Value {
    let mut labels: Map<String, Value> = spec.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    labels.insert(SUBMISSION_LABEL.to_owned(), json!(spec.id));
    labels.insert("app.kubernetes.io/managed-by".to_owned(), json!("aictl"));
    let mut annotations = Map::new();
    if let Some(queue) = &spec.queue {
        match frame.engine {
            // Without the label Kueue leaves a suspended job alone: that is the hold.
            EngineKind::Kueue if suspended => labels.insert(HELD_QUEUE_LABEL.to_owned(), json!(queue)),
            EngineKind::Kueue => labels.insert(KUEUE_QUEUE.to_owned(), json!(queue)),
            EngineKind::KubeQueue => annotations.insert(KUBE_QUEUE_QUEUE.to_owned(), json!(queue)),
            _ => None,
        };
    }
    if frame.engine == EngineKind::Kueue {
        if let Some(priority) = &spec.priority {
            labels.insert(KUEUE_PRIORITY.to_owned(), json!(priority));
        }
        if let Some(time) = spec.time {
            labels.insert(KUEUE_TIME.to_owned(), json!(time.0.to_string()));
        }
    }
    if frame.engine == EngineKind::KubeQueue && kind != kinds::JOB {
        annotations.insert(KUBE_QUEUE_SUSPEND.to_owned(), json!("true"));
    }
    if let Some(time) = spec.time {
        annotations.insert(TIME_LIMIT.to_owned(), json!(time.0.to_string()));
    }
    if !spec.after.is_empty() {
        let after: Vec<String> = spec.after.iter().map(ToString::to_string).collect();
        annotations.insert(AFTER.to_owned(), json!(after.join(",")));
    }
    if spec.hold {
        annotations.insert(HELD.to_owned(), json!("true"));
    }
    if let Some(model) = &spec.needs_model {
        annotations.insert(NEEDS_MODEL.to_owned(), json!(model));
    }
    let mut metadata = json!({"name": name, "namespace": frame.namespace, "labels": labels});
    if !annotations.is_empty() {
        metadata["annotations"] = Value::Object(annotations);
    }
    metadata
}

/// Sets a value by its path, making what is missing on the way.
pub fn set(value: &mut Value, pointer: &str, to: Value) {
    let mut place = value;
    for key in pointer.split('/').filter(|key| !key.is_empty()) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = to;
}

/// `batch/v1` Job: one pod, an array, or a gang behind a headless service.
fn job(spec: &JobSpec, frame: &Frame<'_>, name: &str) -> Result<Value, QueueError> {
    let mut template = match (&spec.array, spec.nodes) {
        (Some(_), _) => pod::template(spec, frame, &Rank::Only)?,
        (None, 1) => pod::template(spec, frame, &Rank::Only)?,
        (None, _) => pod::template(spec, frame, &Rank::completion_index(format!("{name}-0.{name}")))?,
    };
    let mut body = json!({"backoffLimit": spec.retries});
    if spec.nodes > 1 {
        set(&mut template, "/spec/subdomain", json!(name));
        body["parallelism"] = json!(spec.nodes);
        body["completions"] = json!(spec.nodes);
        body["completionMode"] = json!("Indexed");
    }
    if let Some(array) = &spec.array {
        body["completions"] = json!(array.count());
        body["parallelism"] = json!(array.at_once().unwrap_or(array.count()).min(array.count()));
        body["completionMode"] = json!("Indexed");
        // Each index may fail by itself; the others go on, as in Slurm.
        body["backoffLimitPerIndex"] = json!(spec.retries);
        if let Some(fields) = body.as_object_mut() {
            fields.remove("backoffLimit");
        }
    }
    if let Some(time) = spec.time {
        body["activeDeadlineSeconds"] = json!(time.0);
    }
    body["template"] = template;
    Ok(body)
}

fn jobset(spec: &JobSpec, frame: &Frame<'_>, name: &str) -> Result<Value, QueueError> {
    let rank = match spec.nodes {
        1 => Rank::Only,
        _ => Rank::completion_index(format!("{name}-node-0-0.{name}")),
    };
    let mut job = json!({
        "parallelism": spec.nodes,
        "completions": spec.nodes,
        "completionMode": "Indexed",
        // The set starts all ranks anew together; a rank alone would wait for the others for ever.
        "backoffLimit": 0,
        "template": pod::template(spec, frame, &rank)?,
    });
    if let Some(time) = spec.time {
        job["activeDeadlineSeconds"] = json!(time.0);
    }
    Ok(json!({
        "network": {"enableDNSHostnames": true, "publishNotReadyAddresses": true},
        "failurePolicy": {"maxRestarts": spec.retries},
        "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}],
    }))
}

/// Time limit and retries where Kubeflow's operator has them.
fn run_policy(spec: &JobSpec) -> Value {
    let mut policy = json!({"backoffLimit": spec.retries, "cleanPodPolicy": "None"});
    if let Some(time) = spec.time {
        policy["activeDeadlineSeconds"] = json!(time.0);
    }
    policy
}

fn pytorchjob(spec: &JobSpec, frame: &Frame<'_>) -> Result<Value, QueueError> {
    // The operator sets RANK and MASTER_ADDR; the wrapper takes the rest from them.
    let template = pod::template(spec, frame, &Rank::shell("${RANK:-0}", "${MASTER_ADDR:-localhost}"))?;
    let replica = |count: u32| json!({"replicas": count, "restartPolicy": "Never", "template": template});
    let mut replicas = json!({"Master": replica(1)});
    if spec.nodes > 1 {
        replicas["Worker"] = replica(spec.nodes - 1);
    }
    Ok(json!({
        "nprocPerNode": spec.processes_per_node().to_string(),
        "pytorchReplicaSpecs": replicas,
        "runPolicy": run_policy(spec),
    }))
}

fn mpijob(spec: &JobSpec, frame: &Frame<'_>, name: &str) -> Result<Value, QueueError> {
    let worker = pod::sleeping(spec, frame)?;
    let launcher = pod::mpi_launcher(spec, frame)?;
    let _ = name;
    Ok(json!({
        "slotsPerWorker": spec.processes_per_node(),
        "mpiReplicaSpecs": {
            "Launcher": {"replicas": 1, "restartPolicy": "Never", "template": launcher},
            "Worker": {"replicas": spec.nodes, "restartPolicy": "Never", "template": worker},
        },
        "runPolicy": run_policy(spec),
    }))
}

/// The runtime that Kubeflow's trainer ships for any program; its own torchrun is not used, since
/// the command is started as it is.
const RUNTIME: &str = "torch-distributed";

fn trainjob(spec: &JobSpec, frame: &Frame<'_>) -> Result<Value, QueueError> {
    let rank = Rank::shell("${PET_NODE_RANK:-${JOB_COMPLETION_INDEX:-0}}", "${PET_MASTER_ADDR:-localhost}");
    let template = pod::template(spec, frame, &rank)?;
    let container = &template["spec"]["containers"][0];
    let mut trainer = json!({
        "numNodes": spec.nodes,
        "numProcPerNode": spec.processes_per_node(),
        "command": container["command"],
    });
    if container["resources"].is_object() {
        trainer["resourcesPerNode"] = container["resources"].clone();
    }
    for field in ["image", "env", "args"] {
        // What the operator sets itself can't be given: its admission refuses PET_ variables.
        let value = match (field, &container[field]) {
            ("env", Value::Array(items)) => {
                let own = |item: &&Value| !item["name"].as_str().is_some_and(|name| name.starts_with("PET_"));
                Value::Array(items.iter().filter(own).cloned().collect())
            }
            (_, value) => value.clone(),
        };
        if !value.is_null() {
            trainer[field] = value;
        }
    }
    let mut body = json!({"runtimeRef": {"name": RUNTIME}, "trainer": trainer});
    if let Some(time) = spec.time {
        body["activeDeadlineSeconds"] = json!(time.0);
    }
    Ok(body)
}

fn rayjob(spec: &JobSpec, frame: &Frame<'_>) -> Result<Value, QueueError> {
    let mut body = json!({
        "entrypoint": pod::ray_entrypoint(),
        "backoffLimit": spec.retries,
        "shutdownAfterJobFinishes": true,
        "rayClusterSpec": {"headGroupSpec": {"rayStartParams": {}, "template": pod::ray_head(spec, frame)?}},
    });
    if spec.nodes > 1 {
        let (workers, (cpus, gpus)) = (spec.nodes - 1, pod::ray_counts(spec));
        // What the driver takes of each node is what Ray counts there, whatever it would count by itself.
        let starts = json!({"num-cpus": cpus.to_string(), "num-gpus": gpus.to_string()});
        body["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] = starts.clone();
        body["rayClusterSpec"]["workerGroupSpecs"] = json!([{
            "groupName": "workers",
            "replicas": workers,
            "minReplicas": workers,
            "maxReplicas": workers,
            "rayStartParams": starts,
            "template": pod::ray_node(spec, frame)?,
        }]);
    }
    if let Some(time) = spec.time {
        body["activeDeadlineSeconds"] = json!(time.0);
    }
    Ok(body)
}

fn vcjob(spec: &JobSpec, frame: &Frame<'_>, name: &str) -> Result<Value, QueueError> {
    let count = spec.array.as_ref().map_or(spec.nodes, |array| array.count());
    let rank = match (&spec.array, spec.nodes) {
        (Some(_), _) => Rank::Only,
        (None, 1) => Rank::Only,
        (None, _) => Rank::Annotation {
            field: format!("metadata.annotations['{}']", kinds::VCJOB.rank_label),
            master: format!("{name}-node-0.{name}"),
        },
    };
    let mut template = pod::template(spec, frame, &rank)?;
    if let Some(time) = spec.time {
        set(&mut template, "/spec/activeDeadlineSeconds", json!(time.0));
    }
    let gang = spec.array.is_none();
    let failed = if spec.retries > 0 { "RestartJob" } else { "AbortJob" };
    let mut policies = vec![json!({"event": "PodEvicted", "action": "RestartJob"})];
    if gang {
        policies.push(json!({"event": "PodFailed", "action": failed}));
    }
    let mut body = json!({
        "schedulerName": "volcano",
        // All of a gang or none; of an array each by itself.
        "minAvailable": if gang { count } else { 1 },
        "maxRetry": spec.retries.max(1),
        "policies": policies,
        "plugins": {"svc": [], "env": []},
        "tasks": [{"name": "node", "replicas": count, "template": template}],
    });
    if let Some(queue) = &spec.queue {
        body["queue"] = json!(queue);
    }
    if let Some(priority) = &spec.priority {
        body["priorityClassName"] = json!(priority);
    }
    Ok(body)
}
