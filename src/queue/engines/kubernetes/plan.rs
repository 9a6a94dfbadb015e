//! From a spec to what would be sent: with what the cluster serves, has and allows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kueue::{ClusterQueue, LocalQueue, most};
use super::object::{self, Frame};
use super::quota;
use super::read::{self, Node};
use super::served::Served;
use super::{Kubernetes, share};
use crate::queue::engine::{Plan, PlanForm};
use crate::queue::{EngineKind, JobSpec, LIKE_A_QUEUE, QueueError, Shape, nearest};

/// Groups whose presence means that nodes come when they are needed.
const AUTOSCALERS: [&str; 2] = ["karpenter.sh", "autoscaling.x-k8s.io"];

/// Plans a submission.
///
/// # Errors
/// If the spec can't be said in the engine's words, or could never run.
pub async fn plan(engine: &Kubernetes, spec: &JobSpec, offline: bool) -> Result<Plan, QueueError> {
    let mut notes = notes(spec);
    let asked = engine.served().await;
    let published;
    let served = match asked {
        Ok(served) => served,
        Err(error) if offline => {
            notes.push(format!(
                "the cluster could not be asked ({error}); versions are those of the projects' releases"
            ));
            published = Served::published();
            &published
        }
        Err(error) => return Err(error),
    };
    let namespace = spec.namespace.clone().unwrap_or_else(|| engine.namespace().to_owned());
    let mut nodes = None;
    if !served.is_assumed() {
        // Who may not see nodes may still submit.
        let node = kube::core::ApiResource::from_gvk_with_plural(
            &kube::core::GroupVersionKind::gvk("", "v1", "Node"),
            "nodes",
        );
        match read::list::<Node>(engine.cluster()?, &node, None, None).await {
            Ok(list) => nodes = Some(list),
            Err(error) if error.is_passing() && !offline => return Err(error.into()),
            Err(error) => notes.push(format!("nodes were not looked at: {error}")),
        }
        check_queue(engine, spec, &namespace, &mut notes).await?;
    }
    let gpu = share::request(spec, nodes.as_deref())?;
    let node_labels = node_labels(spec, nodes.as_deref())?;
    if let Some(nodes) = nodes.as_deref().filter(|nodes| !nodes.is_empty()) {
        let grows = AUTOSCALERS.iter().any(|group| served.group(group));
        check_nodes(spec, &gpu, &node_labels, nodes, grows, &mut notes)?;
    }
    let frame = Frame { engine: engine.target.kind, served, namespace: &namespace, gpu, node_labels };
    let objects = object::build(spec, &frame)?;
    Ok(Plan { name: object::name(spec), submission_id: spec.id.clone(), form: PlanForm::Manifest(objects), notes })
}

/// What of the spec a cluster has no place for.
fn notes(spec: &JobSpec) -> Vec<String> {
    let mut notes = Vec::new();
    let unused = [
        ("--output", spec.output.is_some(), "`aictl queue logs` shows the output"),
        ("--account", spec.account.is_some(), "the queue decides who pays"),
        ("--qos", spec.qos.is_some(), "--priority names a priority class"),
        ("--exclusive", spec.exclusive, "ask for all GPUs of a node"),
    ];
    if spec.shape == Shape::RayJob && spec.nodes > 1 {
        notes.push(format!(
            "a RayJob's command runs once, on the head of {} nodes; Ray spreads its work, and no ranks are set",
            spec.nodes
        ));
    }
    for (option, given, instead) in unused {
        if given {
            notes.push(format!("{option} has no meaning on Kubernetes; {instead}"));
        }
    }
    notes
}

/// Node labels that the spec asks for: a constraint, and a kind of GPU.
fn node_labels(spec: &JobSpec, nodes: Option<&[Node]>) -> Result<Vec<(String, Vec<String>)>, QueueError> {
    let mut wanted = Vec::new();
    for part in spec.constraint.iter().flat_map(|constraint| constraint.split('&')) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(QueueError::Invalid {
                what: format!("the constraint {part:?} is no node label"),
                hint: "on Kubernetes write KEY=VALUE, several joined by &".to_owned(),
            });
        };
        wanted.push((key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if let Some(kind) = &spec.gpu_type {
        const PRODUCT: &str = "nvidia.com/gpu.product";
        let seen = nodes.unwrap_or_default().iter().filter_map(|node| node.metadata.labels.get(PRODUCT));
        let mut products: Vec<String> = seen.cloned().collect();
        products.sort();
        products.dedup();
        let like = |product: &&String| product.to_lowercase().contains(&kind.to_lowercase());
        let fitting: Vec<String> = products.iter().filter(like).cloned().collect();
        if fitting.is_empty() && !products.is_empty() {
            return Err(QueueError::Impossible {
                what: format!("no node has a GPU like {kind:?}"),
                fits: format!("there are {}", products.join(", ")),
            });
        }
        wanted.push((PRODUCT.to_owned(), if fitting.is_empty() { vec![kind.clone()] } else { fitting }));
    }
    Ok(wanted)
}

/// More nodes than there are, or larger ones, can't be had, unless they come when needed.
fn check_nodes(
    spec: &JobSpec,
    gpu: &share::GpuRequest,
    labels: &[(String, Vec<String>)],
    nodes: &[Node],
    grows: bool,
    notes: &mut Vec<String>,
) -> Result<(), QueueError> {
    let mut asked: BTreeMap<&str, f64> = gpu
        .resources
        .iter()
        // HAMi's amounts are no resources of nodes.
        .filter(|(name, _)| nodes.iter().any(|node| node.amount(name) > 0.0) || name == share::NVIDIA)
        .map(|(name, amount)| (name.as_str(), read::quantity(amount)))
        .collect();
    if let Some(cpus) = spec.cpus {
        asked.insert("cpu", cpus.0 as f64 / 1000.0);
    }
    if let Some(memory) = spec.memory {
        asked.insert("memory", memory.0 as f64);
    }
    let fits = |node: &&Node| {
        asked.iter().all(|(name, amount)| node.amount(name) >= *amount)
            && labels
                .iter()
                .all(|(key, values)| node.metadata.labels.get(key).is_some_and(|value| values.contains(value)))
    };
    let fitting = nodes.iter().filter(fits).count();
    if fitting >= spec.nodes as usize {
        return Ok(());
    }
    let what = format!(
        "{} node{} with {} asked for, the cluster has {fitting} of {} that could hold that",
        spec.nodes,
        if spec.nodes == 1 { "" } else { "s" },
        described(&asked),
        nodes.len()
    );
    if grows {
        notes.push(format!("{what}; it may grow"));
        return Ok(());
    }
    let largest = |name: &str| nodes.iter().map(|node| node.amount(name)).fold(0.0, f64::max);
    let most: BTreeMap<&str, f64> = asked.keys().map(|name| (*name, largest(name))).collect();
    let fits = if fitting > 0 {
        format!("--nodes {fitting} would fit")
    } else {
        format!("the largest node has {}", described(&most))
    };
    Err(QueueError::Impossible { what, fits })
}

fn described(amounts: &BTreeMap<&str, f64>) -> String {
    if amounts.is_empty() {
        return "nothing special".to_owned();
    }
    let one = |(name, amount): (&&str, &f64)| match *name {
        "memory" => format!("{:.1} GiB of memory", amount / f64::from(1u32 << 30)),
        "cpu" => format!("{amount} cores"),
        name => format!("{amount} {name}"),
    };
    amounts.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The queue must be there, and what it can give at most must be enough.
async fn check_queue(
    engine: &Kubernetes,
    spec: &JobSpec,
    namespace: &str,
    notes: &mut Vec<String>,
) -> Result<(), QueueError> {
    let kind = engine.target.kind;
    let Some(queue) = &spec.queue else {
        if kind == EngineKind::Kueue {
            return Err(QueueError::Invalid {
                what: "Kueue needs a queue".to_owned(),
                hint: "name one with --queue; `aictl queue quota` lists them".to_owned(),
            });
        }
        return Ok(());
    };
    if kind == EngineKind::Kubernetes {
        notes.push("there is no queue in this cluster: --queue is left out".to_owned());
        return Ok(());
    }
    let known = match quota::queues(engine).await {
        Ok(known) => known,
        Err(error) if error.is_passing() => return Err(error),
        Err(error) => {
            notes.push(format!("queues were not looked at: {error}"));
            return Ok(());
        }
    };
    if kind == EngineKind::KubeQueue && known.is_empty() {
        return Ok(());
    }
    let here = |info: &&crate::queue::QueueInfo| info.namespace.as_deref().is_none_or(|own| own == namespace);
    if !known.iter().filter(here).any(|info| info.name == *queue) {
        let names: Vec<&str> = known.iter().filter(here).map(|info| info.name.as_str()).collect();
        return Err(QueueError::NoSuchQueue {
            target: match kind {
                EngineKind::Kueue => format!("namespace {namespace} of {}", engine.target.name),
                _ => engine.target.name.clone(),
            },
            queue: queue.clone(),
            nearest: nearest(queue, names, LIKE_A_QUEUE),
        });
    }
    if kind == EngineKind::Kueue {
        check_quota(engine, spec, namespace, queue, notes).await?;
    }
    Ok(())
}

async fn check_quota(
    engine: &Kubernetes,
    spec: &JobSpec,
    namespace: &str,
    queue: &str,
    notes: &mut Vec<String>,
) -> Result<(), QueueError> {
    let cluster = engine.cluster()?;
    let local = engine.resource("kueue.x-k8s.io", "LocalQueue").await?;
    let local: LocalQueue = read::get(cluster, &local, Some(namespace), queue).await?;
    if local.spec.stop_policy.as_deref().is_some_and(|policy| policy != "None") {
        notes.push(format!("the queue {queue} is stopped: the job will wait until it is opened"));
    }
    let resource = engine.resource("kueue.x-k8s.io", "ClusterQueue").await?;
    let all: Vec<ClusterQueue> = match read::list(cluster, &resource, None, None).await {
        Ok(all) => all,
        Err(error) => {
            notes.push(format!("quota was not looked at: {error}"));
            return Ok(());
        }
    };
    let Some(own) = all.iter().find(|own| own.metadata.name == local.spec.cluster_queue) else {
        notes.push(format!("the queue {queue} leads to no cluster queue: the job will wait"));
        return Ok(());
    };
    if spec.gpus_per_node == 0 {
        return Ok(());
    }
    let together = f64::from(spec.gpus_per_node) * f64::from(spec.nodes);
    let refuse = |what: String, fits: String| Err(QueueError::Impossible { what, fits });
    match most(own, &all, share::NVIDIA) {
        None => refuse(
            format!("no flavor of queue {queue} has {}", share::NVIDIA),
            "`aictl queue quota` shows which queues have GPUs".to_owned(),
        ),
        Some((most, flavor)) if together > most => refuse(
            format!(
                "{together} GPUs asked for, queue {queue} can never give more than {most} (flavor {flavor}, with all it may borrow)"
            ),
            match (most / f64::from(spec.gpus_per_node)).floor() {
                0.0 => format!("--gpus-per-node {most} would fit on one node"),
                nodes => format!("--nodes {nodes} would fit"),
            },
        ),
        Some(_) => Ok(()),
    }
}

/// A manifest of the user's own on its way to a queue: with the queue's name added, the submission
/// that makes it one, and nothing else changed.
///
/// # Errors
/// If it is no object, or the engine has no way to queue it.
pub fn pass_through(
    kind: EngineKind,
    mut object: Value,
    queue: Option<&str>,
    namespace: Option<&str>,
    id: &str,
) -> Result<Value, QueueError> {
    let invalid = |what: &str| QueueError::Invalid {
        what: what.to_owned(),
        hint: "a Kubernetes object has apiVersion, kind and metadata.name".to_owned(),
    };
    if !object.is_object() {
        return Err(invalid("the file holds no object"));
    }
    for field in ["apiVersion", "kind"] {
        if !object[field].is_string() {
            return Err(invalid(&format!("{field} is missing")));
        }
    }
    if !object["metadata"]["name"].is_string() {
        return Err(invalid("metadata.name is missing (a generated name would make a second job the second time)"));
    }
    if let Some(namespace) = namespace
        && object["metadata"]["namespace"].is_null()
    {
        object::set(&mut object, "/metadata/namespace", json!(namespace));
    }
    object["metadata"]["labels"][object::SUBMISSION_LABEL] = json!(id);
    let group = object["apiVersion"].as_str().unwrap_or_default().split('/').next().unwrap_or_default().to_owned();
    let known = super::kinds::of(&group, object["kind"].as_str().unwrap_or_default());
    let Some(queue) = queue else { return Ok(object) };
    match kind {
        EngineKind::Kueue => {
            object["metadata"]["labels"][object::KUEUE_QUEUE] = json!(queue);
            if let Some(pointer) = known.and_then(|kind| kind.suspend) {
                object::set(&mut object, pointer, json!(true));
            }
        }
        EngineKind::Volcano if group == "batch.volcano.sh" => object["spec"]["queue"] = json!(queue),
        EngineKind::Volcano => {
            object["metadata"]["annotations"]["scheduling.volcano.sh/queue-name"] = json!(queue);
        }
        EngineKind::KubeQueue => {
            object["metadata"]["annotations"][object::KUBE_QUEUE_QUEUE] = json!(queue);
            match known {
                Some(super::kinds::JOB) => object["spec"]["suspend"] = json!(true),
                _ => object["metadata"]["annotations"][object::KUBE_QUEUE_SUSPEND] = json!("true"),
            }
        }
        _ => {
            return Err(QueueError::Unsupported {
                engine: kind.to_string(),
                what: "queue a Kubernetes object".to_owned(),
                instead: "take a target with Kueue, Volcano or kube-queue".to_owned(),
            });
        }
    }
    Ok(object)
}
