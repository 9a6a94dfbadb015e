//! Has pods save their work: by annotation, a command, a signal or HTTP; and sees that they did.

use std::time::Duration;

use kube::api::{AttachParams, Patch};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::pods::{PodView, patching, view};
use super::{ANSWER, Hands};
use crate::act::post;
use crate::cluster::ClusterError;

/// The request, for the job to see.
pub(super) const REQUESTED: &str = "aictl.dev/checkpoint-requested";
/// The job's answer: the request's value.
pub(super) const DONE: &str = "aictl.dev/checkpoint-done";
/// How much of what a command says is kept.
const SAID: u64 = 4096;

/// What a pod is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Request<'r> {
    /// An annotation with this value.
    Annotation(&'r str),
    /// A command in a container.
    Exec {
        /// Program and arguments.
        words: &'r [String],
        /// Where.
        container: Option<&'r str>,
    },
    /// POST to the pod's own address.
    Http {
        /// ":8080/checkpoint".
        place: &'r str,
        /// What is sent.
        body: &'r str,
    },
}

/// What a pod answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It did.
    Done,
    /// It did not, and why.
    Not(String),
    /// The pod is gone.
    Gone,
}

impl Hands {
    /// Asks one pod, and no other that took its name.
    ///
    /// # Errors
    /// If it can't be asked within the time.
    pub fn request(&self, pod: &PodView, request: Request<'_>, within: Duration) -> Result<Asked, ClusterError> {
        match request {
            Request::Annotation(value) => self.annotate(pod, value, within),
            Request::Exec { words, container } => self.exec(pod, words, container, within),
            Request::Http { place, body } => {
                let Some(ip) = &pod.ip else { return Ok(Asked::Not("the pod has no address".to_owned())) };
                let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
                Ok(match post::post(&format!("http://{ip}{place}"), None, body, within) {
                    Ok(()) => Asked::Done,
                    Err(error) => Asked::Not(error),
                })
            }
        }
    }

    fn annotate(&self, pod: &PodView, value: &str, within: Duration) -> Result<Asked, ClusterError> {
        let api = self.pods(&pod.namespace);
        let patch = json!({"metadata": {"uid": pod.uid, "annotations": {REQUESTED: value}}});
        self.ask(&format!("cannot annotate pod {}", pod.place()), within, || async {
            match api.patch(&pod.name, &patching(), &Patch::Merge(&patch)).await {
                Ok(_) => Ok(Asked::Done),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Asked::Gone),
                // Another pod has the name by now.
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 422 => {
                    let now = api.get_opt(&pod.name).await?;
                    let same = now.is_some_and(|now| now.metadata.uid.as_deref() == Some(&pod.uid));
                    if same { Err(kube::Error::Api(status)) } else { Ok(Asked::Gone) }
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Whether a pod has answered the annotation.
    ///
    /// # Errors
    /// If it can't be read within the time.
    pub fn has_answered(&self, pod: &PodView, value: &str, within: Duration) -> Result<Asked, ClusterError> {
        let api = self.pods(&pod.namespace);
        let now = self.ask(&format!("cannot get pod {}", pod.place()), within, || api.get_opt(&pod.name))?;
        Ok(match now.as_ref().map(view).filter(|now| now.uid == pod.uid) {
            None => Asked::Gone,
            Some(now) if now.asked.1.as_deref() == Some(value) => Asked::Done,
            Some(_) => Asked::Not(format!("{DONE} is not {value} yet")),
        })
    }

    fn exec(
        &self,
        pod: &PodView,
        words: &[String],
        container: Option<&str>,
        within: Duration,
    ) -> Result<Asked, ClusterError> {
        let api = self.pods(&pod.namespace);
        let what = format!("cannot run {} in pod {}", words.first().map_or("", String::as_str), pod.place());
        // Never tried again here: whether it ran is not known when the answer is lost.
        let run = async {
            let parameters = AttachParams { container: container.map(str::to_owned), ..AttachParams::default() };
            let parameters = parameters.stdin(false).stdout(false).stderr(true);
            let mut process = api.exec(&pod.name, words.iter().map(String::as_str), &parameters).await?;
            let status = process.take_status();
            let mut said = Vec::new();
            if let Some(mut stderr) = process.stderr() {
                let _ = (&mut stderr).take(SAID).read_to_end(&mut said).await;
                // The rest, too: what nobody reads would hold up the answer.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            let status = match status {
                Some(status) => status.await,
                None => None,
            };
            Ok::<_, kube::Error>((status, said))
        };
        let ended = self.block_on(async { tokio::time::timeout(within.max(Duration::from_secs(1)), run).await });
        let (status, said) = match ended {
            Err(_) => return Err(ClusterError::Silent { what, after: within.min(ANSWER) }),
            Ok(Err(error)) => return Err(ClusterError::of(what, error)),
            Ok(Ok(ended)) => ended,
        };
        let status = status.unwrap_or_default();
        if status.status.as_deref() == Some("Success") {
            return Ok(Asked::Done);
        }
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let why = status.message.unwrap_or_else(|| "it did not say how it ended".to_owned());
        Ok(Asked::Not(format!("{why}: {line}").trim_end_matches(": ").chars().take(200).collect()))
    }
}
