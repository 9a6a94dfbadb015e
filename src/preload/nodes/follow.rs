//! Reads a pod's output while it runs, over lost connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;

use super::heard::Heard;
use crate::cluster::answer;

/// How long to wait before a lost connection is taken up again.
const AGAIN: Duration = Duration::from_secs(1);
/// Failures one after the other after which the output is given up; the Job is followed all the same.
const MOST_FAILURES: u32 = 30;

/// What is heard of a node, shared with who reads it.
pub type Ear = Arc<Mutex<Heard>>;

/// Follows a pod's output to its end. After a lost connection it is read again from its start, into a
/// fresh ear: what is heard of lines is the same every time.
pub async fn follow(pods: Api<Pod>, name: String, ear: Ear) {
    let mut failures = 0;
    while failures < MOST_FAILURES {
        // A stream that was opened after the end has all of it; another may have broken off before.
        let had_ended = has_ended(&pods, &name).await;
        let parameters = LogParams { follow: true, ..LogParams::default() };
        let what = format!("cannot read the output of {name}");
        match answer(&what, pods.log_stream(&name, &parameters)).await {
            Ok(stream) => {
                *ear.lock().unwrap_or_else(PoisonError::into_inner) = Heard::default();
                let mut lines = stream.lines();
                let mut broken = false;
                loop {
                    match lines.try_next().await {
                        Ok(Some(line)) => {
                            failures = 0;
                            ear.lock().unwrap_or_else(PoisonError::into_inner).line(&line);
                        }
                        Ok(None) => break,
                        Err(_) => {
                            broken = true;
                            break;
                        }
                    }
                }
                if had_ended && !broken {
                    return;
                }
            }
            // It will say no more; some tries for what it has said.
            Err(_) if had_ended => failures = failures.max(MOST_FAILURES - 3),
            Err(_) => {}
        }
        failures += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether a pod's program has ended, so that no more lines come.
async fn has_ended(pods: &Api<Pod>, name: &str) -> bool {
    match answer("cannot read a pod", pods.get_opt(name)).await {
        Ok(Some(pod)) => {
            let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
            matches!(phase.as_str(), "Succeeded" | "Failed")
        }
        Ok(None) => true,
        Err(error) => !error.is_passing(),
    }
}
