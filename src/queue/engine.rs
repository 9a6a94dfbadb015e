//! What every engine can be asked, whatever it is.

use std::path::PathBuf;
use std::pin::Pin;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::QueueError;
use super::explain::{Explanation, QuotaRow};
use super::job::{Job, State};
use super::spec::JobSpec;
use super::target::Target;

/// What comes of asking an engine.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, QueueError>>;
/// Lines of a job's output as they come.
pub type Lines<'a> = BoxStream<'a, Result<LogLine, QueueError>>;

/// One engine in one place: a Kueue in a cluster, a Slurm, a Ray.
pub trait Engine: Send + Sync {
    /// Where it is and what it is called.
    fn target(&self) -> &Target;

    /// What a submission would send, without sending it. Fails for what the engine could never run
    /// ([`QueueError::Impossible`]), for a queue that is not there and for what it has no word for.
    /// With `offline` nothing is asked of the engine.
    fn plan<'a>(&'a self, spec: &'a JobSpec, offline: bool) -> Answer<'a, Plan>;

    /// Sends a plan. The same plan sent twice makes one job; [`Submitted::existed`] tells.
    fn submit<'a>(&'a self, plan: &'a Plan, dry_run: DryRun) -> Answer<'a, Submitted>;

    /// Its jobs.
    fn list<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Vec<Job>>;

    /// One job by its [`Job::id`], as it is now. [`QueueError::NoSuchJob`] if it is gone.
    fn get<'a>(&'a self, id: &'a str) -> Answer<'a, Job>;

    /// Why it is where it is.
    fn explain<'a>(&'a self, id: &'a str) -> Answer<'a, Explanation>;

    /// Its output. Without `follow` what there is; with it until the job is over, over lost
    /// connections, each line once.
    fn logs<'a>(&'a self, id: &'a str, options: &'a LogOptions) -> Answer<'a, Lines<'a>>;

    /// Runs a command beside a rank of it and returns the command's exit code.
    fn exec<'a>(&'a self, id: &'a str, rank: u32, command: &'a [String], streams: ExecStreams) -> Answer<'a, i32>;

    /// Orders its end. The caller reads the state again: an order taken is not an order followed.
    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Keeps it from starting; what runs already is stopped only where the engine has no other way.
    fn hold<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Ends a hold.
    fn release<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Changes its priority: a class or a number, as the engine has it.
    fn priority<'a>(&'a self, id: &'a str, priority: &'a str) -> Answer<'a, ()>;

    /// Puts it back into its queue, from the start.
    fn requeue<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Its queues' quota; of all queues or of one.
    fn quota<'a>(&'a self, queue: Option<&'a str>) -> Answer<'a, Vec<QuotaRow>>;

    /// Its queues: for suggestions and completion.
    fn queues(&self) -> Answer<'_, Vec<QueueInfo>>;

    /// Who the engine takes us for, to compare with [`Job::owner`].
    fn user(&self) -> Answer<'_, String>;

    /// The namespace that is meant where none is named; `None` where the engine has none.
    fn home(&self) -> Option<&str> {
        None
    }
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInfo {
    /// As `--queue` takes it.
    pub name: String,
    /// Kubernetes namespace, if it has one.
    pub namespace: Option<String>,
    /// Whether it takes jobs.
    pub open: bool,
}

/// What a submission sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The job's name there.
    pub name: String,
    /// As [`JobSpec::id`].
    pub submission_id: String,
    /// What is sent.
    pub form: PlanForm,
    /// What whoever submits should know: "retries are the queue's business here".
    pub notes: Vec<String>,
}

/// What a submission sends, in the engine's own form.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanForm {
    /// Kubernetes objects; the first owns the rest.
    Manifest(Vec<Value>),
    /// A script, and the command that takes it on standard input.
    Script {
        /// Program and arguments.
        command: Vec<String>,
        /// The script, with its directives.
        script: String,
    },
    /// An HTTP request.
    Request {
        /// "POST".
        method: String,
        /// The whole address.
        url: String,
        /// Its body.
        body: Value,
    },
}

/// How much of a submission to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DryRun {
    /// All of it.
    #[default]
    No,
    /// Let the engine check it without keeping it.
    Server,
}

/// What came of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// As [`Job::id`].
    pub id: String,
    /// Whether it was there already, from an earlier submission of the same.
    pub existed: bool,
    /// The engine's warnings.
    pub warnings: Vec<String>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One Kubernetes namespace; `None` for all. Other engines have none.
    pub namespace: Option<String>,
    /// One owner.
    pub owner: Option<String>,
    /// These states; none for all.
    pub states: Vec<State>,
    /// One queue.
    pub queue: Option<String>,
    /// Kubernetes label selector.
    pub selector: Option<String>,
}

impl Filter {
    /// Whether a job passes; engines may have left out others before.
    pub fn passes(&self, job: &Job) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| job.namespace.as_ref().is_none_or(|namespace| namespace == wanted))
            && self.owner.as_ref().is_none_or(|owner| job.owner == *owner)
            && (self.states.is_empty() || self.states.contains(&job.state))
            && self.queue.as_ref().is_none_or(|queue| job.queue == *queue)
    }
}

/// Which ranks' output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ranks {
    /// All.
    #[default]
    All,
    /// One.
    One(u32),
}

impl Ranks {
    /// Whether a rank is among them.
    pub fn include(self, rank: u32) -> bool {
        match self {
            Ranks::All => true,
            Ranks::One(one) => one == rank,
        }
    }
}

/// What of a job's output to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Whether to go on until the job is over.
    pub follow: bool,
    /// Whose.
    pub ranks: Ranks,
    /// Only this many last lines of each rank.
    pub tail: Option<u64>,
    /// Nothing older.
    pub since: Option<Timestamp>,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Of which rank (node), from 0.
    pub rank: u32,
    /// When, where the engine tells.
    pub at: Option<Timestamp>,
    /// Without its line end.
    pub text: String,
}

/// What a command beside a job reads and writes.
pub struct ExecStreams {
    /// What it reads.
    pub stdin: Pin<Box<dyn AsyncRead + Send>>,
    /// Where its output goes.
    pub stdout: Pin<Box<dyn AsyncWrite + Send>>,
    /// Where its errors go.
    pub stderr: Pin<Box<dyn AsyncWrite + Send>>,
    /// Whether it is at a terminal.
    pub terminal: bool,
}

impl std::fmt::Debug for ExecStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecStreams").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

/// Where a program on the PATH is.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
