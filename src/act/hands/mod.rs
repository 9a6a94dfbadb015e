//! Hands of the gate in a cluster: each change is one call that waits for its end, may be repeated,
//! and knows its own earlier success again when the answer to it was lost.

mod fleet;
mod gpu;
mod journal;
mod lease;
mod node;
mod pods;
mod save;

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event as NodeEvent, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ListParams, PostParams};
use kube::client::Body;
use kube::{Client, ResourceExt};
use tokio::runtime::Runtime;

use crate::cluster::{Cluster, ClusterError, Options};

pub use gpu::Claimable;
pub use journal::Sheet;
pub use lease::{Held as LeaseHeld, Lease, LeaseError};
pub use node::{Isolated, NodeView, Putting};
pub use pods::{Evicted, PodChoice, PodView, jobs};
pub use save::{Asked, Request};

/// The object that stops everything while it is there, in aictl's namespace.
pub const STOP: &str = "aictl-stop";
/// Who writes, for the server's books.
const MANAGER: &str = "aictl";
/// Longest time for one request; a server that is silent for longer is asked again.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two tries, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How old the last sight of the kill switch may be while a step waits.
const STOP_AGE: Duration = Duration::from_secs(1);

/// A connection for acting. Everything waits here: callers are plain code.
pub struct Hands {
    runtime: Runtime,
    cluster: Cluster,
    client: Client,
    /// aictl's own namespace.
    namespace: String,
    /// Ends every wait.
    stop: Arc<AtomicBool>,
    /// When the kill switch was last seen not to be thrown.
    free: Cell<Option<Instant>>,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Hands {
    /// Reads the configuration; nothing is asked of the server yet. `namespace` is aictl's own.
    ///
    /// # Errors
    /// If there is no such cluster.
    pub fn connect(options: &Options, namespace: &str, stop: Arc<AtomicBool>) -> Result<Hands, ClusterError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ClusterError::Refused {
            what: "cannot wait for the network".to_owned(),
            message: error.to_string(),
            code: 0,
        })?;
        // The client has a task of its own, which lives in this runtime.
        let cluster = runtime.block_on(Cluster::connect_impatiently(options))?;
        let client = cluster.client();
        Ok(Hands { runtime, cluster, client, namespace: namespace.to_owned(), stop, free: Cell::new(None) })
    }

    /// What the context calls the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// aictl's own namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Waits for work that asks the cluster.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Asks until there is an answer, or `within` is over. A request that may be answered otherwise a
    /// moment later is made anew each time, so that it sees what an earlier one did.
    fn ask<T, F>(&self, what: &str, within: Duration, mut request: impl FnMut() -> F) -> Result<T, ClusterError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let until = Instant::now() + within;
        let mut pause = PAUSES.0;
        loop {
            let limit = until.saturating_duration_since(Instant::now()).clamp(Duration::from_secs(1), ANSWER);
            let answered = self.runtime.block_on(async { tokio::time::timeout(limit, request()).await });
            let error = match answered {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => ClusterError::of(what, error),
                Err(_) => ClusterError::Silent { what: what.to_owned(), after: limit },
            };
            if !error.is_passing() || Instant::now() + pause >= until || !self.sleep(pause) {
                return Err(error);
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Waits; false if a signal came meanwhile.
    fn sleep(&self, length: Duration) -> bool {
        let since = Instant::now();
        while since.elapsed() < length {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep((length - since.elapsed().min(length)).min(Duration::from_millis(50)));
        }
        !self.stop.load(Ordering::Relaxed)
    }

    /// Whether the kill switch is thrown: the object is there, unless it says `stop: "false"`.
    /// `now`: sees itself; else what was seen a moment ago will do.
    ///
    /// # Errors
    /// If that can't be seen within the time.
    pub fn is_stopped(&self, now: bool, within: Duration) -> Result<bool, ClusterError> {
        if !now && self.free.get().is_some_and(|seen| seen.elapsed() < STOP_AGE) {
            return Ok(false);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let what = format!("cannot see whether {}/{STOP} is there", self.namespace);
        let found = self.ask(&what, within, || api.get_opt(STOP))?;
        let says = found.map(|map| map.data.and_then(|data| data.get("stop").cloned()));
        let stopped = says.is_some_and(|says| says.as_deref() != Some("false"));
        self.free.set((!stopped).then(Instant::now));
        Ok(stopped)
    }

    /// The server's clock. Runs on many machines agree on it, and none of theirs is right for sure.
    ///
    /// # Errors
    /// If the server does not answer, or with no time.
    pub fn server_time(&self, within: Duration) -> Result<Timestamp, ClusterError> {
        let what = "cannot read the API server's clock";
        let date = self.ask(what, within, || async {
            let request = kube::core::Request::new("/version").list(&ListParams::default());
            let request = request.map_err(kube::Error::BuildRequest)?.map(Body::from);
            let answer = self.client.send(request).await?;
            let status = answer.status().as_u16();
            if status >= 400 {
                let refused = kube::core::Status::failure("it does not answer for now", "").with_code(status);
                return Err(kube::Error::Api(refused.boxed()));
            }
            let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
            Ok(date)
        })?;
        let read = date.and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
        let wrong = || ClusterError::Refused {
            what: what.to_owned(),
            message: "its answers bear no date".to_owned(),
            code: 200,
        };
        read.map(|zoned| zoned.timestamp()).ok_or_else(wrong)
    }

    /// Tells of a node as an Event of it. The name makes it the same event when it is told again.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn tell(&self, node: &str, told: &Telling<'_>, now: Timestamp, within: Duration) -> Result<(), ClusterError> {
        let api: Api<NodeEvent> = Api::namespaced(self.client.clone(), "default");
        let mut event = NodeEvent::default();
        event.metadata.name = Some(format!("{node}.aictl-{}", told.id));
        event.metadata.namespace = Some("default".to_owned());
        event.involved_object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            // As the kubelet does: describe finds the events of a node by its name as the identifier.
            uid: Some(node.to_owned()),
            ..ObjectReference::default()
        };
        event.reason = Some(told.reason.to_owned());
        event.message = Some(told.message.chars().take(1000).collect());
        event.type_ = Some(if told.bad { "Warning" } else { "Normal" }.to_owned());
        event.source = Some(k8s_openapi::api::core::v1::EventSource {
            component: Some(MANAGER.to_owned()),
            host: Some(node.to_owned()),
        });
        event.reporting_component = Some(MANAGER.to_owned());
        event.reporting_instance = Some(node.to_owned());
        (event.first_timestamp, event.last_timestamp, event.count) = (Some(Time(now)), Some(Time(now)), Some(1));
        let what = format!("cannot write an event of node {node}");
        let parameters = post();
        self.ask(&what, within, || made(api.create(&parameters, &event)))
    }
}

/// What is told of a node.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'t> {
    /// Makes the event the same when it is told again: "i-0123-1-0".
    pub id: &'t str,
    /// "AictlIsolated".
    pub reason: &'static str,
    /// For people.
    pub message: &'t str,
    /// Something is wrong.
    pub bad: bool,
}

/// What is there already was made by an earlier try.
async fn made<T>(creating: impl Future<Output = kube::Result<T>>) -> kube::Result<()> {
    match creating.await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error),
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// The name of a kind's object, or nothing.
fn name_of<K: ResourceExt>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}
