//! Pods: of a node, of an add-on, of a job, or turned away; and their logs.

use std::collections::BTreeMap;
use std::io::Read;

use futures::AsyncReadExt;
use hyper::header::{ACCEPT_ENCODING, HeaderValue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as FullPod;
use kube::Api;
use kube::api::LogParams;
use serde::Deserialize;

use super::list::{self, Choice};
use super::metadata::{Metadata, whole};
use super::{Cluster, ClusterError, answer};
use crate::fault::cluster::{PodFacts, Rejection, gpu_resource};

/// Reads pods of a namespace, or of all.
///
/// # Errors
/// If they can't be read.
pub async fn pods(cluster: &Cluster, namespace: Option<&str>, choice: &Choice) -> Result<Vec<PodFacts>, ClusterError> {
    let (path, place) = match namespace {
        Some(namespace) => (format!("/api/v1/namespaces/{namespace}/pods"), format!("namespace {namespace}")),
        None => ("/api/v1/pods".to_owned(), "all namespaces".to_owned()),
    };
    let what = format!("cannot list the pods of {place}");
    list::list(cluster, &what, &path, choice, |pod: Pod| Some(pod.facts())).await
}

/// Reads which pods nodes turned away: pods that failed before they began, and kubelets' events
/// about pods that are gone.
///
/// # Errors
/// If they can't be read.
pub async fn rejections(cluster: &Cluster, node: Option<&str>) -> Result<Vec<Rejection>, ClusterError> {
    let mut fields = "status.phase=Failed".to_owned();
    if let Some(node) = node {
        fields.push_str(&format!(",spec.nodeName={node}"));
    }
    let what = "cannot list the pods of all namespaces";
    let keep = |pod: Pod| pod.rejection();
    let mut found = list::list(cluster, what, "/api/v1/pods", &Choice::fields(fields), keep).await?;
    let what = "cannot list the events of all namespaces";
    let choice = Choice::fields("involvedObject.kind=Pod,reason=UnexpectedAdmissionError");
    let told = list::list(cluster, what, "/api/v1/events", &choice, Event::rejection).await?;
    found.extend(told.into_iter().filter(|rejection| node.is_none_or(|node| node == rejection.node)));
    Ok(found)
}

/// Reads the end of a container's log, each line with the server's time before it.
///
/// # Errors
/// If it can't be read; of a container that has not begun, too.
pub async fn log(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    container: Option<&str>,
    lines: u32,
    bytes: u64,
) -> Result<String, ClusterError> {
    let pods: Api<FullPod> = Api::namespaced(cluster.client(), namespace);
    let parameters = LogParams {
        container: container.map(str::to_owned),
        tail_lines: Some(i64::from(lines)),
        limit_bytes: i64::try_from(bytes).ok(),
        timestamps: true,
        ..LogParams::default()
    };
    answer(&format!("cannot read the log of {namespace}/{pod}"), pods.logs(pod, &parameters)).await
}

/// More than any page has; a pod that says more is not believed.
const LONGEST_PAGE: u64 = 16 << 20;
/// What packed bytes begin with (RFC 1952), and no text does.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads a page that a pod serves, through the API server; packed on its way if the pod does that.
///
/// # Errors
/// If the server can't reach the pod, or the page can't be had.
pub async fn page(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    port: u16,
    path: &str,
) -> Result<String, ClusterError> {
    let what = format!("cannot read /{path} of pod {namespace}/{pod}");
    let pods = kube::core::Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
    let mut request = pods
        .get_subresource(&format!("proxy/{path}"), &format!("{pod}:{port}"))
        .map_err(|error| ClusterError::of(what.clone(), kube::Error::BuildRequest(error)))?;
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let read = async {
        let mut bytes = Vec::new();
        let body = cluster.client().request_stream(request).await?;
        let broken = |error| kube::Error::Service(Box::new(error));
        body.take(LONGEST_PAGE).read_to_end(&mut bytes).await.map_err(broken)?;
        unpack(bytes).map_err(broken)
    };
    answer(&what, read).await
}

/// The text of a page, packed or not.
fn unpack(bytes: Vec<u8>) -> std::io::Result<String> {
    let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    if !bytes.starts_with(&GZIP) {
        return String::from_utf8(bytes).map_err(invalid);
    }
    let mut text = String::new();
    Read::take(flate2::read::GzDecoder::new(bytes.as_slice()), LONGEST_PAGE).read_to_string(&mut text)?;
    Ok(text)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    resources: Resources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    limits: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: String,
    reason: String,
    message: String,
    start_time: Option<Timestamp>,
    conditions: Vec<PodCondition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    restart_count: u64,
    state: ContainerState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
}

impl Pod {
    fn facts(mut self) -> PodFacts {
        let ready = self.status.conditions.iter().find(|condition| condition.kind == "Ready");
        let statuses = || self.status.init_container_statuses.iter().chain(&self.status.container_statuses);
        let waits = statuses().filter_map(|status| status.state.waiting.as_ref()).map(|waiting| waiting.reason.clone());
        // What comes back again and again says more than what only begins.
        let waiting = waits.max_by_key(|reason| reason.contains("BackOff") || reason.starts_with("Err"));
        let limits = self.spec.containers.iter().flat_map(|container| &container.resources.limits);
        let gpus = limits.filter(|(name, _)| gpu_resource(name)).filter_map(|(_, quantity)| whole(quantity)).sum();
        PodFacts {
            node: self.spec.node_name,
            created: self.metadata.creation_timestamp,
            started: self.status.start_time,
            ready: ready.is_some_and(|ready| ready.status == "True"),
            ready_since: ready.and_then(|ready| ready.last_transition_time),
            deleting: self.metadata.deletion_timestamp.is_some(),
            restarts: statuses().map(|status| status.restart_count).sum(),
            waiting: waiting.filter(|reason| !reason.is_empty()),
            owner: self.metadata.owner(),
            annotations: self.metadata.own_annotations(),
            labels: self.metadata.labels,
            gpus,
            containers: self.spec.containers.into_iter().map(|container| container.name).collect(),
            phase: self.status.phase,
            reason: self.status.reason,
            message: self.status.message,
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            uid: self.metadata.uid,
        }
    }

    /// Kubelet gives a pod that it turns away a reason, and starts no container of it.
    fn rejection(self) -> Option<Rejection> {
        let begun = !self.status.container_statuses.is_empty() || !self.status.init_container_statuses.is_empty();
        if self.status.reason.is_empty() || self.spec.node_name.is_empty() || begun {
            return None;
        }
        Some(Rejection {
            pod_uid: self.metadata.uid,
            pod: format!("{}/{}", self.metadata.namespace, self.metadata.name),
            node: self.spec.node_name,
            reason: self.status.reason,
            message: self.status.message,
            at: self.status.start_time.or(self.metadata.creation_timestamp),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Event {
    involved_object: Involved,
    reason: String,
    message: String,
    source: Source,
    reporting_instance: String,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    first_timestamp: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Involved {
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    host: String,
}

impl Event {
    fn rejection(self) -> Option<Rejection> {
        let node = if self.source.host.is_empty() { self.reporting_instance } else { self.source.host };
        (!node.is_empty()).then(|| Rejection {
            pod_uid: self.involved_object.uid,
            pod: format!("{}/{}", self.involved_object.namespace, self.involved_object.name),
            node,
            reason: self.reason,
            message: self.message,
            at: self.last_timestamp.or(self.event_time).or(self.first_timestamp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_unpacked_and_bombs_are_not() {
        let pack = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, text).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpack(b"{}".to_vec()).unwrap(), "{}");
        assert_eq!(unpack(pack(b"{\"node\": 1}")).unwrap(), "{\"node\": 1}");
        let bomb = pack(&vec![b' '; 40 << 20]);
        assert_eq!(unpack(bomb).unwrap().len() as u64, LONGEST_PAGE);
        assert!(unpack(pack(b"{}")[..12].to_vec()).is_err());
        assert!(unpack(vec![0xff, 0xfe]).is_err());
    }

    #[test]
    fn a_pod_that_never_began_was_turned_away() {
        let json = |statuses: &str| {
            format!(
                r#"{{"metadata": {{"name": "p", "namespace": "n", "uid": "u"}}, "spec": {{"nodeName": "gpu-1"}},
                "status": {{"phase": "Failed", "reason": "UnexpectedAdmissionError", "containerStatuses": {statuses}}}}}"#
            )
        };
        let read = |text: String| serde_json::from_str::<Pod>(&text).unwrap().rejection();
        let turned_away = read(json("[]")).unwrap();
        assert_eq!((turned_away.node.as_str(), turned_away.pod.as_str()), ("gpu-1", "n/p"));
        assert!(read(json(r#"[{"restartCount": 0}]"#)).is_none());
    }

    #[test]
    fn of_a_pod_the_reason_that_comes_back_is_kept() {
        let json = r#"{"metadata": {"name": "p", "ownerReferences": [{"kind": "DaemonSet", "name": "d", "controller": true}]},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "1"}}}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [
                {"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                {"restartCount": 1, "state": {"waiting": {"reason": "PodInitializing"}}}]}}"#;
        let facts = serde_json::from_str::<Pod>(json).unwrap().facts();
        assert_eq!((facts.waiting.as_deref(), facts.restarts, facts.gpus), (Some("CrashLoopBackOff"), 5, 2));
        assert_eq!(facts.owner.unwrap().1, "d");
        assert!(!facts.ready);
    }
}
