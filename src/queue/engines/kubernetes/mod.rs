//! The engines that live in a Kubernetes cluster: Kueue, Volcano, kube-queue, and none at all.

mod explain;
mod find;
mod kinds;
mod kueue;
mod list;
mod logs;
mod machines;
mod object;
#[cfg(test)]
mod object_tests;
mod plan;
mod pod;
mod quota;
mod read;
mod served;
mod share;
mod state;
mod write;

use tokio::sync::OnceCell;

use self::served::Served;
use crate::cluster::{Cluster, ClusterError};
use crate::queue::engine::{
    Answer, DryRun, Engine, ExecStreams, Filter, Lines, LogOptions, Plan, QueueInfo, Submitted,
};
use crate::queue::{EngineKind, Explanation, Job, JobSpec, QueueError, QuotaRow, Target};

pub use machines::machines;
pub use plan::pass_through;

/// An engine in a Kubernetes cluster.
#[derive(Debug)]
pub struct Kubernetes {
    target: Target,
    cluster: Result<Cluster, String>,
    served: OnceCell<Served>,
}

impl Kubernetes {
    /// Reads the configuration; the server is first spoken to when something is asked of it. A cluster
    /// that is not configured is no error until then: a dry run needs none.
    pub async fn open(target: &Target) -> Kubernetes {
        let cluster = Cluster::connect(&target.kubernetes).await.map_err(|error| error.to_string());
        let mut target = target.clone();
        if let Ok(cluster) = &cluster
            && target.cluster.is_empty()
        {
            target.cluster = cluster.name().to_owned();
        }
        Kubernetes { target, cluster, served: OnceCell::new() }
    }

    /// The engines that a cluster serves, best first; all share one connection.
    ///
    /// # Errors
    /// If the cluster can't be asked.
    pub async fn discover(options: &crate::cluster::Options) -> Result<Vec<Kubernetes>, QueueError> {
        let cluster = Cluster::connect(options).await?;
        let served = Served::discover(&cluster).await?;
        let engines = [
            (EngineKind::Kueue, "kueue.x-k8s.io"),
            (EngineKind::Volcano, "batch.volcano.sh"),
            (EngineKind::KubeQueue, "scheduling.x-k8s.io"),
            (EngineKind::Kubernetes, "batch"),
        ];
        let found = engines.into_iter().filter(|(_, group)| served.group(group));
        Ok(found
            .map(|(kind, _)| {
                let mut target = Target::found(kind, cluster.name());
                target.kubernetes = options.clone();
                let served = OnceCell::new_with(Some(served.clone()));
                Kubernetes { target, cluster: Ok(cluster.clone()), served }
            })
            .collect())
    }

    /// The same engine under a name and kind of its own.
    #[must_use]
    pub fn named(mut self, name: &str) -> Kubernetes {
        self.target.name = name.to_owned();
        self
    }

    fn cluster(&self) -> Result<&Cluster, QueueError> {
        self.cluster.as_ref().map_err(|message| QueueError::Unreachable {
            what: format!("{} can't be asked", self.target.name),
            message: message.clone(),
            passing: false,
        })
    }

    async fn served(&self) -> Result<&Served, QueueError> {
        let cluster = self.cluster()?;
        Ok(self.served.get_or_try_init(|| Served::discover(cluster)).await?)
    }

    /// A kind that must be served.
    async fn resource(&self, group: &str, kind: &str) -> Result<kube::core::ApiResource, QueueError> {
        let found = self.served().await?.kind(group, kind).cloned();
        found.ok_or_else(|| QueueError::Unsupported {
            engine: self.target.cluster.clone(),
            what: format!("show {kind}: it does not serve {group}"),
            instead: "is the engine installed there?".to_owned(),
        })
    }

    fn namespace(&self) -> &str {
        self.cluster.as_ref().map_or("default", Cluster::namespace)
    }
}

impl Engine for Kubernetes {
    fn target(&self) -> &Target {
        &self.target
    }

    fn plan<'a>(&'a self, spec: &'a JobSpec, offline: bool) -> Answer<'a, Plan> {
        Box::pin(plan::plan(self, spec, offline))
    }

    fn submit<'a>(&'a self, plan: &'a Plan, dry_run: DryRun) -> Answer<'a, Submitted> {
        Box::pin(write::submit(self, plan, dry_run))
    }

    fn list<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Vec<Job>> {
        Box::pin(list::list(self, filter))
    }

    fn get<'a>(&'a self, id: &'a str) -> Answer<'a, Job> {
        Box::pin(find::get(self, id))
    }

    fn explain<'a>(&'a self, id: &'a str) -> Answer<'a, Explanation> {
        Box::pin(explain::explain(self, id))
    }

    fn logs<'a>(&'a self, id: &'a str, options: &'a LogOptions) -> Answer<'a, Lines<'a>> {
        Box::pin(logs::logs(self, id, options))
    }

    fn exec<'a>(&'a self, id: &'a str, rank: u32, command: &'a [String], streams: ExecStreams) -> Answer<'a, i32> {
        Box::pin(logs::exec(self, id, rank, command, streams))
    }

    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(write::cancel(self, id))
    }

    fn hold<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(write::hold(self, id))
    }

    fn release<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(write::release(self, id))
    }

    fn priority<'a>(&'a self, id: &'a str, priority: &'a str) -> Answer<'a, ()> {
        Box::pin(write::priority(self, id, priority))
    }

    fn requeue<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(write::requeue(self, id))
    }

    fn quota<'a>(&'a self, queue: Option<&'a str>) -> Answer<'a, Vec<QuotaRow>> {
        Box::pin(quota::quota(self, queue))
    }

    fn queues(&self) -> Answer<'_, Vec<QueueInfo>> {
        Box::pin(quota::queues(self))
    }

    fn user(&self) -> Answer<'_, String> {
        Box::pin(write::user(self))
    }

    fn home(&self) -> Option<&str> {
        Some(self.namespace())
    }
}

/// The error for a job that is not there.
fn no_such_job(engine: &Kubernetes, id: &str) -> QueueError {
    QueueError::NoSuchJob { job: id.to_owned(), looked: engine.target.name.clone(), nearest: Vec::new() }
}

/// A missing object is a missing job.
fn missing(engine: &Kubernetes, id: &str, error: ClusterError) -> QueueError {
    if error.is_not_found() { no_such_job(engine, id) } else { QueueError::Cluster(error) }
}
