//! What may be changed, as data: each change says what it does, so that a dry run can tell.

use std::time::Duration;

use jiff::Timestamp;

use super::Holder;
use super::command::Outcome;
use super::hands::{Asked, Claimable, Evicted, Hands, Isolated, PodView, Putting, Request, Telling};
use crate::cluster::ClusterError;
use crate::fault::playbook::Means;

/// A change to the machine or to what others see of it.
#[derive(Debug)]
pub enum Change<'c> {
    /// A command.
    Run {
        /// Program and arguments.
        words: &'c [String],
        /// What it learns of the incident.
        environment: &'c [(&'static str, String)],
        /// It is ended after this.
        timeout: Duration,
    },
    /// A signal to a process, if it still is the one.
    Signal {
        /// Which.
        holder: &'c Holder,
        /// SIGKILL instead of SIGTERM.
        kill: bool,
    },
    /// A file that says that the machine is isolated.
    Mark {
        /// Which file, in the state directory.
        name: &'c str,
        /// What it says.
        text: &'c str,
    },
    /// The end of that file.
    Unmark {
        /// Which file.
        name: &'c str,
    },
    /// Something in the cluster.
    Cluster {
        /// What.
        change: ClusterChange<'c>,
        /// How long to try.
        timeout: Duration,
    },
    /// An event for people.
    Post {
        /// To where.
        url: &'c str,
        /// With which token.
        token: Option<&'c str>,
        /// A CloudEvent.
        body: &'c str,
        /// How long to try.
        timeout: Duration,
    },
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Did {
    /// A dry run: what would have been done.
    Would(String),
    /// A command ended.
    Ran(Outcome),
    /// Done.
    Done,
    /// Done, and more is to be said.
    Said(String),
    /// Not done.
    Failed(String),
    /// Not done, or nobody knows: the cluster is away. It may be tried again.
    Later(String),
}

/// A change to what a cluster holds.
#[derive(Debug, Clone, Copy)]
pub enum ClusterChange<'c> {
    /// Takes a node out of service.
    Isolate(Putting<'c>),
    /// Puts it back, as far as an incident is concerned.
    Release {
        /// Which node.
        node: &'c str,
        /// For which incident it was taken out.
        incident: &'c str,
    },
    /// Takes one GPU out of service.
    TaintDevice {
        /// Which.
        device: &'c Claimable,
        /// For which incident.
        incident: &'c str,
        /// Which fault.
        fault: &'c str,
    },
    /// Puts it back.
    UntaintDevice {
        /// For which incident it was taken out.
        incident: &'c str,
    },
    /// Moves a pod away, within its budget.
    Evict(&'c PodView),
    /// Restarts a pod of an add-on.
    EndPod(&'c PodView),
    /// Has a pod save its work.
    Request(&'c PodView, Request<'c>),
    /// Tells of a node, for whoever describes it.
    Tell {
        /// Which node.
        node: &'c str,
        /// What.
        told: Telling<'c>,
        /// When.
        now: Timestamp,
    },
}

impl Change<'_> {
    /// What it does, for people.
    pub fn describe(&self) -> String {
        match self {
            Change::Run { words, .. } => format!("run: {}", words.join(" ")),
            Change::Signal { holder, kill } => {
                format!("{} {} ({})", if *kill { "SIGKILL to" } else { "SIGTERM to" }, holder.pid, holder.name)
            }
            Change::Mark { name, .. } => format!("write {name}"),
            Change::Unmark { name } => format!("remove {name}"),
            Change::Post { url, .. } => format!("POST to {url}"),
            Change::Cluster { change, .. } => change.describe(),
        }
    }
}

impl ClusterChange<'_> {
    fn describe(&self) -> String {
        match self {
            ClusterChange::Isolate(put) if put.means == Means::Cordon => format!("cordon node {}", put.node),
            ClusterChange::Isolate(put) => format!("taint node {} with aictl.dev/fault={}", put.node, put.fault),
            ClusterChange::Release { node, .. } => format!("put node {node} back into service"),
            ClusterChange::TaintDevice { device, .. } => format!("taint device {} of {}", device.device, device.driver),
            ClusterChange::UntaintDevice { incident } => format!("remove the taint of the device for {incident}"),
            ClusterChange::Evict(pod) => format!("evict pod {}", pod.place()),
            ClusterChange::EndPod(pod) => format!("restart pod {}", pod.place()),
            ClusterChange::Request(pod, Request::Annotation(_)) => format!("annotate pod {}", pod.place()),
            ClusterChange::Request(pod, Request::Exec { words, .. }) => {
                format!("run {} in pod {}", words.join(" "), pod.place())
            }
            ClusterChange::Request(pod, Request::Http { place, .. }) => format!("POST {place} to pod {}", pod.place()),
            ClusterChange::Tell { node, told, .. } => format!("write the event {} of node {node}", told.reason),
        }
    }

    /// Does it, and waits for its end.
    pub(super) fn perform(&self, hands: &Hands, timeout: Duration) -> Did {
        let done = match self {
            ClusterChange::Isolate(put) => hands.isolate(put, timeout).map(|isolated| match isolated {
                Isolated::Ours => Did::Done,
                Isolated::Others => Did::Failed("out of service already, and not by aictl".to_owned()),
            }),
            ClusterChange::Release { node, incident } => {
                hands.release(node, incident, timeout).map(|free| match free {
                    true => Did::Done,
                    false => Did::Said("another incident keeps it isolated".to_owned()),
                })
            }
            ClusterChange::TaintDevice { device, incident, fault } => {
                hands.taint_device(device, incident, fault, timeout).map(|()| Did::Done)
            }
            ClusterChange::UntaintDevice { incident } => hands.untaint_device(incident, timeout).map(|()| Did::Done),
            ClusterChange::Evict(pod) => hands.evict(pod, timeout).map(|evicted| match evicted {
                Evicted::Goes => Did::Done,
                Evicted::Budget(why) => Did::Later(why),
            }),
            ClusterChange::EndPod(pod) => hands.end_pod(pod, timeout).map(|()| Did::Done),
            ClusterChange::Request(pod, request) => hands.request(pod, *request, timeout).map(|asked| match asked {
                Asked::Done | Asked::Gone => Did::Done,
                Asked::Not(why) => Did::Failed(why),
            }),
            ClusterChange::Tell { node, told, now } => hands.tell(node, told, *now, timeout).map(|()| Did::Done),
        };
        done.unwrap_or_else(|error| match error.is_passing() {
            true => Did::Later(words(&error)),
            false => Did::Failed(words(&error)),
        })
    }
}

/// An error with its cause, in one line.
pub fn words(error: &ClusterError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
