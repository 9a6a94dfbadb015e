//! What is needed in a cluster, asked before anything is made.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::AgentError;
use super::pod::AgentKind;
use crate::cluster::{Cluster, answer};

/// Verbs on resources that an agent's pod takes. `exec` over a websocket is a GET, and a newer API
/// server asks for `create` as well.
const FOR_PODS: [(&str, &str, Option<&str>); 5] = [
    ("create", "pods", None),
    ("get", "pods", None),
    ("delete", "pods", None),
    ("get", "pods", Some("exec")),
    ("create", "pods", Some("exec")),
];
/// The same where an installed agent is used.
const FOR_DAEMONSET: [(&str, &str, Option<&str>); 3] =
    [("list", "pods", None), ("get", "pods", Some("exec")), ("create", "pods", Some("exec"))];

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
    let asked = needed.iter().map(|(verb, resource, below)| may(cluster, namespace, verb, resource, *below));
    let missing: Vec<String> = needed
        .iter()
        .zip(join_all(asked).await)
        .filter(|(_, may)| !may)
        .map(|((verb, resource, below), _)| {
            let below = below.map_or(String::new(), |below| format!("/{below}"));
            format!("{verb} {resource}{below} in namespace {namespace}")
        })
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(AgentError::NotPermitted { missing }) }
}

async fn may(cluster: &Cluster, namespace: &str, verb: &str, resource: &str, below: Option<&str>) -> bool {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some(verb.to_owned()),
        group: Some(String::new()),
        resource: Some(resource.to_owned()),
        subresource: below.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let answered = answer("cannot ask what is permitted", reviews.create(&PostParams::default(), &review)).await;
    answered.map_or(true, |review| review.status.is_none_or(|status| status.allowed))
}
