//! The agent's pod: made, waited for, removed. The only file of the room that changes a cluster.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use super::{AgentError, PodTarget};
use crate::cluster::{Cluster, ClusterError, answer};

/// What an agent's pod is labelled with.
const NAME: &str = "aictl-profile";
/// Label of the pods of the installed DaemonSet (deploy/agent/daemonset.yaml).
const INSTALLED: &str = "app.kubernetes.io/name=aictl-agent";
/// A node's kubelet has begun with the pod by then, or something is wrong; an image may take longer.
const BEGIN: Duration = Duration::from_secs(30);
/// An image that is being pulled is waited for so long.
const PULL: Duration = Duration::from_secs(300);
/// Between two looks, first and later.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_LATER: Duration = Duration::from_millis(500);
/// Seconds an agent may live without a limit by the user, and beyond the user's: attaching, sending.
const LIFE_S: u64 = 4 * 3600;
const SPARE_S: u64 = 120;
/// Where the far end's socket is: an empty volume in memory, or the installed agent's own directory.
const SOCKET: &str = "/run/aictl/agent.sock";
const INSTALLED_DIRECTORY: &str = "/var/lib/aictl";

/// Whose agent is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentKind {
    /// A pod made for this capture, and removed after it.
    #[default]
    Pod,
    /// The DaemonSet of deploy/.
    Daemonset,
}

/// When a node pulls the agent's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// If it has not got it.
    #[default]
    IfNotPresent,
    /// Every time.
    Always,
    /// Never: it must be there.
    Never,
}

impl PullPolicy {
    /// As Kubernetes has it.
    pub fn name(self) -> &'static str {
        match self {
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Always => "Always",
            PullPolicy::Never => "Never",
        }
    }
}

/// Which agent.
#[derive(Debug, Clone)]
pub struct AgentChoice {
    /// Whose.
    pub kind: AgentKind,
    /// Its image; of a pod made for this.
    pub image: String,
    /// When nodes pull it.
    pub pull: PullPolicy,
    /// Its namespace; else the targets', or the DaemonSet's own.
    pub namespace: Option<String>,
}

/// An agent that can be spoken to.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its container.
    pub container: String,
    /// What to run in it to speak to the far end, the first time and again.
    pub first: Vec<String>,
    /// See `first`.
    pub again: Vec<String>,
    /// It was made for this capture, and is to be removed.
    pub ours: bool,
}

/// Makes an agent for a node, or finds the installed one. `told` hears what takes long.
///
/// # Errors
/// If it can't be made, or does not come up.
pub async fn provide(
    cluster: &Cluster,
    choice: &AgentChoice,
    node: &str,
    owner: &PodTarget,
    duration: Option<Duration>,
    made: &mut Option<Agent>,
    mut told: impl FnMut(String),
) -> Result<Agent, AgentError> {
    let life = duration.map_or(LIFE_S, |duration| duration.as_secs().saturating_add(SPARE_S));
    if choice.kind == AgentKind::Daemonset {
        return installed(cluster, choice, node, life).await;
    }
    let namespace = choice.namespace.clone().unwrap_or_else(|| owner.namespace.clone());
    let manifest = manifest(choice, &namespace, node, owner, life);
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &namespace);
    let what = format!("cannot create the agent's pod in namespace {namespace}");
    let created = answer(&what, pods.create(&PostParams::default(), &manifest)).await;
    let created = created.map_err(|error| refused(&namespace, error))?;
    let name = created.metadata.name.unwrap_or_default();
    let connect =
        vec!["aictl".to_owned(), "agent".to_owned(), "connect".to_owned(), "--socket".to_owned(), SOCKET.to_owned()];
    let agent = Agent {
        namespace,
        pod: name,
        container: "agent".to_owned(),
        first: connect.clone(),
        again: connect,
        ours: true,
    };
    *made = Some(agent.clone());
    wait(&pods, &agent, node, &mut told).await?;
    Ok(agent)
}

fn refused(namespace: &str, error: ClusterError) -> AgentError {
    match error {
        ClusterError::Forbidden { message, .. } if message.contains("violates PodSecurity") => {
            let message = message.split_once("violates PodSecurity").map_or("", |(_, rest)| rest);
            AgentError::PodSecurity {
                namespace: namespace.to_owned(),
                message: format!("it violates PodSecurity{message}"),
            }
        }
        error => error.into(),
    }
}

/// The pod. docs/profile-pods.md says why each line of it is there.
fn manifest(choice: &AgentChoice, namespace: &str, node: &str, owner: &PodTarget, life_s: u64) -> Pod {
    // With the target goes the agent. An owner must be in the same namespace, or in none.
    let owners = (namespace == owner.namespace)
        .then(|| json!([{"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid}]));
    let unique: String = std::iter::repeat_with(fastrand::lowercase).take(8).collect();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{NAME}-{unique}"),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": "aictl"},
            "ownerReferences": owners,
        },
        "spec": {
            "nodeName": node,
            "hostPID": true,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": life_s,
            "terminationGracePeriodSeconds": 10,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "agent",
                "image": choice.image,
                "imagePullPolicy": choice.pull.name(),
                "command": ["aictl", "agent", "serve", "--socket", SOCKET, "--deadline", life_s.to_string()],
                "resources": {
                    "requests": {"cpu": "50m", "memory": "128Mi"},
                    "limits": {"cpu": "2", "memory": "512Mi"},
                },
                "securityContext": {
                    "privileged": false,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "runAsUser": 0,
                    "runAsNonRoot": false,
                    "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON", "SYS_PTRACE"]},
                },
                "volumeMounts": [{"name": "run", "mountPath": "/run/aictl"}],
            }],
            "volumes": [{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        },
    });
    // Constant but for texts and numbers in their places.
    serde_json::from_value(pod).unwrap_or_default()
}

/// Waits until the agent runs.
async fn wait(pods: &Api<Pod>, agent: &Agent, node: &str, told: &mut impl FnMut(String)) -> Result<(), AgentError> {
    let begin = Instant::now();
    let mut pulls = false;
    loop {
        let what = format!("cannot read the agent's pod {}/{}", agent.namespace, agent.pod);
        match answer(&what, pods.get_opt(&agent.pod)).await {
            Ok(Some(pod)) => match state(&pod) {
                State::Runs => return Ok(()),
                State::Over(why) => return Err(not_started(node, why, None)),
                State::NoImage(why) => {
                    let hint = "name an image that the node can pull with --agent-image IMAGE (AICTL_AGENT_IMAGE), or \
                                put it on the node and use --node-image-pull-policy never; deploy/Dockerfile makes it";
                    return Err(not_started(node, why, Some(hint)));
                }
                State::Waits if !pulls && begin.elapsed() > Duration::from_secs(2) => {
                    pulls = true;
                    told(format!("node {node} is getting the agent ready; the first time it pulls the image"));
                }
                State::Waits | State::Unseen => {
                    let limit = if matches!(state(&pod), State::Unseen) { BEGIN } else { PULL };
                    if begin.elapsed() > limit {
                        let why = if limit == BEGIN {
                            let seconds = BEGIN.as_secs();
                            format!("its kubelet has not begun with pod {} within {seconds} s", agent.pod)
                        } else {
                            format!("pod {} is not ready within {} s", agent.pod, PULL.as_secs())
                        };
                        let hint = format!("kubectl get node {node} says whether it is there");
                        return Err(not_started(node, why, Some(&hint)));
                    }
                }
            },
            Ok(None) => return Err(not_started(node, "somebody has deleted its pod".to_owned(), None)),
            Err(error) if error.is_passing() && begin.elapsed() < BEGIN => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(if begin.elapsed() < Duration::from_secs(5) { LOOK } else { LOOK_LATER }).await;
    }
}

fn not_started(node: &str, why: String, hint: Option<&str>) -> AgentError {
    AgentError::NotStarted { node: node.to_owned(), why, hint: hint.map(str::to_owned) }
}

enum State {
    Runs,
    Waits,
    /// No kubelet has said anything about it.
    Unseen,
    NoImage(String),
    Over(String),
}

fn state(pod: &Pod) -> State {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().into_iter().next();
    let state = container.and_then(|container| container.state).unwrap_or_default();
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        // ErrImagePull, ImagePullBackOff, ErrImageNeverPull, InvalidImageName, RegistryUnavailable …
        if reason.contains("Image") || reason == "RegistryUnavailable" {
            let message = waiting.message.map_or(String::new(), |message| format!(": {message}"));
            return State::NoImage(format!("{reason}{message}"));
        }
        if reason.starts_with("Create") || reason == "RunContainerError" || reason.ends_with("BackOff") {
            return State::Over(format!("{reason}: {}", waiting.message.unwrap_or_default()));
        }
        return State::Waits;
    }
    if matches!(phase.as_str(), "Failed" | "Succeeded") {
        return State::Over(over(pod));
    }
    match (phase.as_str(), state.running.is_some()) {
        ("Running", true) => State::Runs,
        _ if status.start_time.is_some() => State::Waits,
        _ => State::Unseen,
    }
}

/// Why a pod is over: "Evicted: The node was low on resource: memory".
fn over(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let ended = status.container_statuses.unwrap_or_default().into_iter().next();
    let ended = ended.and_then(|container| container.state).and_then(|state| state.terminated);
    let reason = status.reason.or_else(|| ended.as_ref()?.reason.clone()).unwrap_or_else(|| "it ended".to_owned());
    let message = status.message.or_else(|| ended.as_ref()?.message.clone()).filter(|message| !message.is_empty());
    let code = ended.filter(|_| message.is_none()).map(|ended| format!("exit code {}", ended.exit_code));
    message.or(code).map_or(reason.clone(), |more| format!("{reason}: {more}"))
}

/// Whether an agent can still be spoken to; else why not.
pub async fn lost(cluster: &Cluster, agent: &Agent, node: &str) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &agent.namespace);
    let pod = match answer("cannot read the agent's pod", pods.get_opt(&agent.pod)).await {
        Ok(pod) => pod,
        // The server is away: nothing is known.
        Err(_) => return None,
    };
    let Some(pod) = pod else { return Some(format!("its pod {} is gone", agent.pod)) };
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    if matches!(phase.as_str(), "Failed" | "Succeeded") {
        return Some(format!("its pod is over: {}", over(&pod)));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("its pod is being deleted".to_owned());
    }
    is_marked(&pod).then(|| format!("node {node} is not ready"))
}

/// Whether the cluster has marked a pod that runs because its node is silent: kube-controller-manager's
/// node lifecycle controller turns its condition Ready to False and gives no reason (MarkPodsNotReady); a
/// kubelet that does so always gives one. Older clusters write NodeLost.
fn is_marked(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut conditions = status.conditions.iter().flatten();
    status.reason.as_deref() == Some("NodeLost")
        || conditions
            .any(|c| c.type_ == "Ready" && c.status == "False" && c.reason.as_deref().is_none_or(str::is_empty))
}

/// Removes an agent that was made for a capture. Of one that was `lost` the record goes at once: its node
/// may never say that it has ended, and its process ends by itself wherever it still runs.
pub async fn remove(cluster: &Cluster, agent: &Agent, lost: bool) -> Result<(), ClusterError> {
    if !agent.ours {
        return Ok(());
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &agent.namespace);
    let what = format!("cannot delete the agent's pod {}/{}", agent.namespace, agent.pod);
    // It has ended, or ends by itself within moments.
    let parameters = DeleteParams { grace_period_seconds: Some(u32::from(!lost)), ..DeleteParams::default() };
    match answer(&what, pods.delete(&agent.pod, &parameters)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes agents that are over and that nobody has removed, such as those of a laptop that died.
/// A courtesy: who may not, does not.
pub async fn sweep(cluster: &Cluster, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let labels = format!("app.kubernetes.io/name={NAME},app.kubernetes.io/managed-by=aictl");
    let Ok(found) = answer("cannot list agents", pods.list(&ListParams::default().labels(&labels))).await else {
        return;
    };
    for pod in found {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if let (Some(name), "Failed" | "Succeeded") = (&pod.metadata.name, phase) {
            let _ = answer("cannot delete an agent", pods.delete(name, &DeleteParams::default())).await;
        }
    }
}

async fn installed(cluster: &Cluster, choice: &AgentChoice, node: &str, life_s: u64) -> Result<Agent, AgentError> {
    let namespace = choice.namespace.clone().unwrap_or_else(|| "aictl".to_owned());
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &namespace);
    let parameters = ListParams::default().labels(INSTALLED).fields(&format!("spec.nodeName={node}"));
    let what = format!("cannot list the agents of namespace {namespace}");
    let found = answer(&what, pods.list(&parameters)).await?.items;
    let Some(pod) = found.into_iter().find(|pod| matches!(state(pod), State::Runs)) else {
        let why = format!("no pod of the DaemonSet runs there (namespace {namespace}, {INSTALLED})");
        return Err(not_started(node, why, Some("kubectl apply -k deploy/ installs it; --agent pod does without")));
    };
    let unique: String = std::iter::repeat_with(fastrand::lowercase).take(8).collect();
    let socket = format!("{INSTALLED_DIRECTORY}/profile-{unique}.sock");
    let connect = ["aictl", "agent", "connect", "--socket", &socket].map(str::to_owned).to_vec();
    let mut first = connect.clone();
    first.extend(["--start".to_owned(), life_s.to_string()]);
    let container = pod.spec.and_then(|spec| spec.containers.into_iter().next()).map_or(String::new(), |c| c.name);
    Ok(Agent { namespace, pod: pod.metadata.name.unwrap_or_default(), container, first, again: connect, ours: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_is_told_from_a_pod_that_is_not_ready() {
        let pod = |status| serde_json::from_value::<Pod>(json!({"status": status})).unwrap();
        let ready = |state: &str, reason| {
            pod(json!({"phase": "Running", "conditions": [
            {"type": "PodScheduled", "status": "False"}, {"type": "Ready", "status": state, "reason": reason}]}))
        };
        assert!(is_marked(&ready("False", json!(null))));
        assert!(is_marked(&ready("False", json!(""))));
        assert!(!is_marked(&ready("True", json!(null))));
        assert!(!is_marked(&ready("False", json!("ContainersNotReady"))));
        assert!(is_marked(&pod(json!({"phase": "Running", "reason": "NodeLost"}))));
        assert!(!is_marked(&pod(json!({"phase": "Running"}))) && !is_marked(&Pod::default()));
    }
}
