//! Why a cluster could not be asked, in words that say what to do.

use std::time::Duration;

use kube::config::KubeconfigError;
use thiserror::Error;

/// An error and what lies below it, in a line. Some errors repeat their source in their own text.
pub fn in_a_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// Why something asked of a cluster was not had.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Nothing says which cluster.
    #[error("no cluster is configured: there is no kubeconfig, and this is not a pod")]
    NoConfiguration,
    /// The kubeconfig can't be used.
    #[error("the kubeconfig can't be used")]
    Kubeconfig {
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// It has no such context.
    #[error("the kubeconfig has no context {context:?}, or not its cluster and user")]
    Context {
        /// Which was asked for.
        context: String,
    },
    /// The server does not take our credentials.
    #[error("{what}: the server does not know us (401)")]
    Unknown {
        /// What was tried.
        what: String,
    },
    /// The server knows us and says no.
    #[error("{what}: not permitted: {message}")]
    Forbidden {
        /// What was tried.
        what: String,
        /// The server's words, which name verb, resource and namespace.
        message: String,
    },
    /// There is none.
    #[error("{what}: not found: {message}")]
    NotFound {
        /// What was tried.
        what: String,
        /// The server's words.
        message: String,
    },
    /// The server said no for another reason.
    #[error("{what}: {message} ({code})")]
    Refused {
        /// What was tried.
        what: String,
        /// The server's words.
        message: String,
        /// HTTP status.
        code: u16,
    },
    /// The server did not answer in time.
    #[error("{what}: no answer within {after:?}")]
    Silent {
        /// What was tried.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// The server could not be asked.
    #[error("{what}")]
    Unreachable {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ClusterError {
    /// From what kube says; `what` is what was tried, as "cannot list the nodes of prod".
    pub fn of(what: impl Into<String>, error: kube::Error) -> ClusterError {
        let what = what.into();
        match error {
            kube::Error::Api(status) => {
                let message = status.message.clone();
                match status.code {
                    401 => ClusterError::Unknown { what },
                    403 => ClusterError::Forbidden { what, message },
                    404 => ClusterError::NotFound { what, message },
                    code => ClusterError::Refused { what, message, code },
                }
            }
            source => ClusterError::Unreachable { what, source: Box::new(source) },
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            ClusterError::NoConfiguration => "name one with --kubeconfig FILE, or set KUBECONFIG",
            ClusterError::Kubeconfig { .. } => "kubectl config view shows what it holds",
            ClusterError::Context { .. } => "kubectl config get-contexts lists them",
            ClusterError::Unknown { .. } => "log in again: the token or certificate may have expired",
            ClusterError::Forbidden { .. } => {
                "ask for that verb on that resource; deploy/README.md lists what each command needs"
            }
            ClusterError::Silent { .. } | ClusterError::Unreachable { .. } => {
                "does `kubectl get --raw /readyz` answer with the same kubeconfig?"
            }
            ClusterError::NotFound { .. } | ClusterError::Refused { .. } => return None,
        })
    }

    /// Whether the same request may be answered a moment later: the server is away, busy, or
    /// somebody else changed the object in between.
    pub fn is_passing(&self) -> bool {
        match self {
            ClusterError::Silent { .. } | ClusterError::Unreachable { .. } => true,
            ClusterError::Refused { code, .. } => matches!(code, 408 | 409 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClusterError::NotFound { .. })
    }
}
