//! What the user may do: the API server is asked, nothing is tried.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::{Cluster, ClusterError, answer};

/// A verb on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// "list".
    pub verb: &'a str,
    /// "apps"; empty for the core group.
    pub group: &'a str,
    /// "pods", or "pods/log".
    pub resource: &'a str,
    /// In which namespace; `None` for all, and for resources that are in none.
    pub namespace: Option<&'a str>,
}

/// Whether it is allowed.
///
/// # Errors
/// If the server can't be asked.
pub async fn may(cluster: &Cluster, access: Access<'_>) -> Result<bool, ClusterError> {
    let (resource, subresource) = match access.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (access.resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(access.verb.to_owned()),
                group: Some(access.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                namespace: access.namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let what = "cannot ask what we may do";
    let answered = answer(what, reviews.create(&PostParams::default(), &review)).await?;
    Ok(answered.status.is_some_and(|status| status.allowed))
}
