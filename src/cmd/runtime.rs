//! Waits for work that waits for the network, until it is done or a signal ends it.

use super::error::{Error, Kind};
use crate::cluster::ClusterError;

/// Runs `work` to its end on this thread; the first Ctrl-C, SIGTERM or SIGHUP drops it where it
/// waits, so whatever must be cleaned up is cleaned up on drop or by the caller.
pub fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    wait(&mut tokio::runtime::Builder::new_current_thread(), work)
}

/// As [`block_on`], with threads beside this one for what `work` spawns: for data in quantity.
pub fn block_on_threads<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    wait(tokio::runtime::Builder::new_multi_thread().worker_threads(threads), work)
}

fn wait<T>(builder: &mut tokio::runtime::Builder, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| Error::failed("cannot wait for the network", error))?;
    let done = runtime.block_on(async {
        tokio::select! {
            biased;
            signalled = signal() => Err(match signalled {
                Ok(()) => Error::new(Kind::Interrupted, "interrupted"),
                Err(error) => Error::failed("cannot catch signals", error),
            }),
            done = work => done,
        }
    });
    // Not waited for: a name lookup that hangs has a thread of its own.
    runtime.shutdown_background();
    done
}

async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate, mut hangup) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Error {
        let kind = match &error {
            ClusterError::NoConfiguration | ClusterError::Kubeconfig { .. } | ClusterError::Context { .. } => {
                Kind::Usage
            }
            ClusterError::Unknown { .. }
            | ClusterError::Forbidden { .. }
            | ClusterError::Silent { .. }
            | ClusterError::Unreachable { .. } => Kind::Blind,
            // It could not look, or had no time to: as if it were away.
            ClusterError::Refused { code: 408 | 429 | 500.., .. } => Kind::Blind,
            ClusterError::NotFound { .. } | ClusterError::Refused { .. } => Kind::Failed,
        };
        Error::told(kind, &error, error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_answer_is_as_one_that_is_away() {
        let refused = |code| {
            let error = ClusterError::Refused { what: "cannot list nodes".into(), message: "no".into(), code };
            Error::from(error).kind()
        };
        for code in [408, 429, 500, 502, 503, 504] {
            assert_eq!(refused(code), Kind::Blind, "{code}");
        }
        for code in [400, 409, 410, 422] {
            assert_eq!(refused(code), Kind::Failed, "{code}");
        }
        assert_eq!(Error::from(ClusterError::Context { context: "nope".into() }).kind(), Kind::Usage);
    }
}
