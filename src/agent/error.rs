//! Why processes of pods could not be captured, in words that say what to do.

use thiserror::Error;

use super::protocol::Failure;
use crate::cluster::ClusterError;

/// Why processes of pods could not be captured.
#[derive(Debug, Error)]
pub enum AgentError {
    /// What was named is none of ours.
    #[error("'{text}' is no target: {why}")]
    NoTarget {
        /// As typed.
        text: String,
        /// Why.
        why: String,
    },
    /// There is nothing of that name.
    #[error("{what} in namespace {namespace}")]
    NotThere {
        /// "no pod train-0", "no pod of job train".
        what: String,
        /// Where.
        namespace: String,
        /// Names like it.
        like: Vec<String>,
    },
    /// It is there, but not to be captured now.
    #[error("{what}")]
    NotRunning {
        /// "pod train-0 is Pending: ContainerCreating".
        what: String,
        /// What to do.
        hint: String,
    },
    /// A permission is missing.
    #[error("not permitted: {}", missing.join(", "))]
    NotPermitted {
        /// "create pods in namespace ml".
        missing: Vec<String>,
    },
    /// Pod security admission forbids the agent's pod.
    #[error("namespace {namespace} forbids the agent's pod: {message}")]
    PodSecurity {
        /// Where.
        namespace: String,
        /// The server's words.
        message: String,
    },
    /// The agent's pod did not come up.
    #[error("the agent on node {node} did not start: {why}")]
    NotStarted {
        /// Node.
        node: String,
        /// Why.
        why: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The stream ended before the capture did.
    #[error("lost the agent on node {node}: {why}")]
    Lost {
        /// Node.
        node: String,
        /// Why.
        why: String,
    },
    /// The capture failed on its node.
    #[error("on node {node}: {}", failure.text)]
    Capture {
        /// Node.
        node: String,
        /// As the agent told it.
        failure: Failure,
    },
    /// The recording can't be written.
    #[error("cannot write the recording")]
    Write(#[source] std::io::Error),
    /// The cluster could not be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl AgentError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            AgentError::NoTarget { .. } => Some(
                "targets are pod/NAME or NAME, job/, jobset/, pytorchjob/, trainjob/, rayjob/NAME, or -l LABELS; \
                 for a process of this machine: --pid PID"
                    .to_owned(),
            ),
            AgentError::NotThere { like, .. } if !like.is_empty() => Some(format!("did you mean {}?", like.join(", "))),
            AgentError::NotThere { .. } => Some("-n names another namespace; kubectl get pods lists them".to_owned()),
            AgentError::NotRunning { hint, .. } => Some(hint.clone()),
            AgentError::NotPermitted { .. } => Some(
                "ask for these verbs, or the role aictl-profile of deploy/profile; deploy/README.md says why each is \
                 needed"
                    .to_owned(),
            ),
            AgentError::PodSecurity { namespace, .. } => Some(format!(
                "the agent sees the node's processes (hostPID) and loads eBPF programs, which only the level \
                 \"privileged\" allows. Choose a namespace that has it: --agent-namespace NS; or label this one: kubectl \
                 label namespace {namespace} pod-security.kubernetes.io/enforce=privileged; or use an installed \
                 DaemonSet: --agent daemonset"
            )),
            AgentError::NotStarted { hint, .. } => hint.clone(),
            AgentError::Capture { failure, .. } => failure.hint.clone(),
            AgentError::Lost { .. } | AgentError::Write(_) => None,
            AgentError::Cluster(error) => error.hint().map(str::to_owned),
        }
    }

    /// What lies below, the outermost first.
    pub fn causes(&self) -> Vec<String> {
        match self {
            AgentError::Capture { failure, .. } => failure.causes.clone(),
            AgentError::Write(error) => vec![error.to_string()],
            AgentError::Cluster(error) => {
                let mut causes = Vec::new();
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    causes.push(error.to_string());
                    cause = error.source();
                }
                causes
            }
            _ => Vec::new(),
        }
    }
}
