//! One connection to an agent: over the API server's `exec`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::AgentError;
use super::pod::Agent;
use crate::cluster::{Cluster, ClusterError, in_a_line};

/// A connection is there by then.
const CONNECT: Duration = Duration::from_secs(15);
/// Once the end was asked for, a node that is away is waited for so long.
pub const LAST_AWAY: Duration = Duration::from_secs(5);
/// What waits between the connection and the reader.
const BUFFER: usize = 256 << 10;

/// How a connection ended.
pub enum Broke {
    /// All has come.
    Done,
    /// It may be gone on with.
    Off(String),
    /// It may not.
    Failed(AgentError),
}

/// Runs the pipe to the far end's socket, in the agent's container: the first time, or again.
pub async fn dial(
    cluster: &Cluster,
    agent: &Agent,
    again: bool,
    mut stop: watch::Receiver<bool>,
) -> Result<AttachedProcess, Broke> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &agent.namespace);
    let command = if again { &agent.again } else { &agent.first };
    let parameters = AttachParams {
        container: Some(agent.container.clone()),
        max_stdin_buf_size: Some(BUFFER),
        max_stdout_buf_size: Some(BUFFER),
        ..AttachParams::default()
    };
    let parameters = parameters.stdin(true).stdout(true).stderr(true);
    let connecting = timeout(CONNECT, pods.exec(&agent.pod, command, &parameters));
    let ends = async {
        drop(stop.wait_for(|stop| *stop).await);
        sleep(LAST_AWAY).await;
    };
    let connected = tokio::select! {
        connected = connecting => connected,
        () = ends => return Err(Broke::Off("no answer".to_owned())),
    };
    match connected {
        Ok(Ok(process)) => Ok(process),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            let what = format!("cannot exec into {}/{}", agent.namespace, agent.pod);
            Err(Broke::Failed(ClusterError::Forbidden { what, message: status.message.clone() }.into()))
        }
        Ok(Err(error)) => Err(Broke::Off(in_a_line(&error))),
        Err(_) => Err(Broke::Off(format!("no answer within {} s", CONNECT.as_secs()))),
    }
}
