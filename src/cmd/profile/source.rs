//! What is captured: processes of this machine, or of pods.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::error::{Error, Kind};
use super::progress::pids;
use crate::agent::{self, AgentError, Plan};
use crate::cluster::ClusterError;
use crate::profile::{self, CaptureOptions, CaptureProgress};
use crate::trace::{CaptureMeta, Sink};
use crate::view::{human, text};

/// Where events come from.
#[derive(Debug)]
pub enum Source {
    /// Processes of this machine.
    Here(CaptureOptions),
    /// Processes of pods, on their nodes.
    Pods(Box<Plan>),
}

impl Source {
    /// Captures into `sink` until it is over or `stop` is set.
    pub fn capture(
        &self,
        sink: &mut dyn Sink,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(CaptureProgress<'_>),
    ) -> Result<CaptureMeta, Error> {
        match self {
            Source::Here(options) => Ok(profile::capture(options, sink, stop, progress)?),
            Source::Pods(plan) => Ok(agent::capture(plan, sink, stop, progress)?),
        }
    }

    /// How long it takes, if that is settled.
    pub fn duration(&self) -> Option<Duration> {
        match self {
            Source::Here(options) => options.duration,
            Source::Pods(plan) => plan.order.duration_ms.map(Duration::from_millis),
        }
    }

    /// "process 7", "3 pods on 2 nodes".
    pub fn words(&self) -> String {
        match self {
            Source::Here(options) => pids(&options.pids),
            Source::Pods(plan) => match plan.pods.as_slice() {
                [pod] => format!("pod {} on {}", pod.name, pod.node),
                pods => format!(
                    "{} on {}",
                    human::plural(pods.len() as u64, "pod", "pods"),
                    human::plural(plan.nodes() as u64, "node", "nodes")
                ),
            },
        }
    }

    /// The same for the top of a screen.
    pub fn title(&self) -> String {
        match self {
            Source::Here(options) => {
                let pids: Vec<String> = options.pids.iter().map(u32::to_string).collect();
                format!("pid {}", pids.join(", "))
            }
            Source::Pods(_) => self.words(),
        }
    }
}

impl From<AgentError> for Error {
    fn from(error: AgentError) -> Error {
        let kind = match &error {
            AgentError::NoTarget { .. } => Kind::Usage,
            AgentError::NotPermitted { .. } | AgentError::PodSecurity { .. } => Kind::Blind,
            AgentError::Capture { failure, .. } if failure.blind => Kind::Blind,
            AgentError::Cluster(
                ClusterError::NoConfiguration | ClusterError::Kubeconfig { .. } | ClusterError::Context { .. },
            ) => Kind::Usage,
            AgentError::Cluster(
                ClusterError::Unknown { .. }
                | ClusterError::Forbidden { .. }
                | ClusterError::Silent { .. }
                | ClusterError::Unreachable { .. },
            ) => Kind::Blind,
            _ => Kind::Failed,
        };
        // Words of a cluster and of its pods: not to be interpreted by a terminal.
        let mut shown = Error::new(kind, text::plain(&error.to_string()));
        let causes = error.causes();
        if !causes.is_empty() {
            shown = shown.because(text::plain(&causes.join(": ")));
        }
        match error.hint().filter(|hint| !hint.is_empty()) {
            Some(hint) => shown.hint(text::plain(&hint)),
            None => shown,
        }
    }
}
