//! What is needed in a cluster, asked before anything is made.

use futures::future::join_all;

use super::AgentError;
use super::pod::AgentKind;
use crate::cluster::{self, Access, Cluster};

/// Verbs on resources that an agent's pod takes. `exec` over a websocket is a GET, and a newer API
/// server asks for `create` as well.
const FOR_PODS: [(&str, &str); 5] =
    [("create", "pods"), ("get", "pods"), ("delete", "pods"), ("get", "pods/exec"), ("create", "pods/exec")];
/// The same where an installed agent is used.
const FOR_DAEMONSET: [(&str, &str); 3] = [("list", "pods"), ("get", "pods/exec"), ("create", "pods/exec")];

/// Asks whether all that is needed in a namespace is permitted. A server that does not answer that
/// question is believed to permit it: it says no later.
///
/// # Errors
/// Names everything that is missing.
pub async fn check(cluster: &Cluster, namespace: &str, kind: AgentKind) -> Result<(), AgentError> {
    let needed: &[_] = match kind {
        AgentKind::Pod => &FOR_PODS,
        AgentKind::Daemonset => &FOR_DAEMONSET,
    };
    let asked = needed.iter().map(|&(verb, resource)| {
        cluster::may(cluster, Access { verb, group: "", resource, namespace: Some(namespace) })
    });
    let missing: Vec<String> = needed
        .iter()
        .zip(join_all(asked).await)
        .filter(|(_, may)| !may.as_ref().unwrap_or(&true))
        .map(|((verb, resource), _)| format!("{verb} {resource} in namespace {namespace}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(AgentError::NotPermitted { missing }) }
}
