//! Platforms that bring models near by themselves where they are installed: Fluid's distributed cache,
//! KServe's local model cache. We make their objects and follow what their controllers say of them.
//! Objects are ours by their names; what is there already is taken as it is, if it is of the same
//! source. Only `objects.rs` changes anything.

mod fluid;
mod kserve;
mod objects;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::event::{Event, Sink};
use super::source::Source;
use crate::cluster::{Cluster, ClusterError};
pub use fluid::{Cache, Fluid};
pub use kserve::LocalModel;
use objects::Kinds;

/// Time between two looks at an object.
const LOOK: Duration = Duration::from_secs(1);

/// Why a platform does not do it.
#[derive(Debug, Error)]
pub enum PlatformError {
    /// It is not there.
    #[error("{what} is not installed in {cluster}: it serves no {group}")]
    NotInstalled {
        /// "Fluid".
        what: &'static str,
        /// The cluster.
        cluster: String,
        /// The API group, or the kind in it.
        group: String,
    },
    /// It has no way to do what is asked for.
    #[error("{what}")]
    Unfit {
        /// What.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// It took longer than it may.
    #[error("{what} is {phase} after {after_s} s")]
    Late {
        /// The object.
        what: String,
        /// How far it is.
        phase: String,
        /// How long was waited.
        after_s: u64,
    },
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl PlatformError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            PlatformError::NotInstalled { what: "Fluid", .. } => {
                Some("install it (fluid-cloudnative.github.io), or let Jobs do it: --nodes -l LABELS".to_owned())
            }
            PlatformError::NotInstalled { .. } => Some("let Jobs do it: --nodes -l LABELS".to_owned()),
            PlatformError::Unfit { hint, .. } => Some(hint.clone()).filter(|hint| !hint.is_empty()),
            PlatformError::Late { .. } => Some("it goes on by itself; the same command follows it again".to_owned()),
            PlatformError::Cluster(error) => error.hint().map(str::to_owned),
        }
    }
}

/// What will be done about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// It is made.
    Create,
    /// It is there, and taken as it is.
    Reuse,
    /// It has failed: it is removed and made again.
    RunAgain,
}

impl Intent {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Intent::Create => "create",
            Intent::Reuse => "reuse",
            Intent::RunAgain => "run again",
        }
    }
}

/// One object of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    /// What will be done.
    pub action: Intent,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// It as a whole.
    pub manifest: Value,
}

/// One object in the end (`aictl.preload-step/v1`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Always "aictl.preload-step/v1".
    pub schema: &'static str,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What was done.
    pub action: Intent,
    /// As its controller says: "Bound", "Complete", "Failed".
    pub phase: String,
    /// What its controller adds: how much is cached, how long it took, why it failed.
    pub detail: Option<String>,
    /// Whether it is as it should be.
    pub done: bool,
}

/// How an object stands, by its status.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    phase: String,
    detail: Option<String>,
    /// `None` while it is under way.
    done: Option<bool>,
}

/// Makes the objects of a plan that are not there, then follows those that have an end, one after the
/// other, to it.
///
/// # Errors
/// If the cluster refuses or can't be asked, or `deadline` is over.
pub async fn run(
    cluster: &Cluster,
    planned: &[Planned],
    deadline: Duration,
    sink: &dyn Sink,
) -> Result<Vec<Step>, PlatformError> {
    let kinds = Kinds::of(cluster, planned).await?;
    for one in planned {
        if one.action == Intent::RunAgain {
            kinds.remove(cluster, one).await?;
        }
        if one.action != Intent::Reuse {
            kinds.make(cluster, one).await?;
        }
    }
    let since = tokio::time::Instant::now();
    let mut steps = Vec::new();
    let mut failed = false;
    for one in planned {
        let mut told = String::new();
        let standing = loop {
            let object = match kinds.get(cluster, one).await {
                Err(error) if error.is_passing() && since.elapsed() < deadline => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                other => other?,
            };
            let standing = standing(&one.kind, &object);
            let said = format!("{} {}", standing.phase, standing.detail.as_deref().unwrap_or_default());
            if said != told {
                let (kind, name) = (one.kind.clone(), one.name.clone());
                sink.event(Event::Step { kind, name, phase: standing.phase.clone(), detail: standing.detail.clone() });
                told = said;
            }
            // Behind a step that failed the others wait for ever.
            if standing.done.is_some() || failed {
                break standing;
            }
            if since.elapsed() >= deadline {
                let (what, phase) = (format!("{} {}", one.kind, one.name), standing.phase);
                return Err(PlatformError::Late { what, phase, after_s: deadline.as_secs() });
            }
            tokio::time::sleep(LOOK).await;
        };
        failed |= standing.done == Some(false);
        steps.push(Step {
            schema: "aictl.preload-step/v1",
            kind: one.kind.clone(),
            name: one.name.clone(),
            action: one.action,
            phase: standing.phase,
            detail: standing.detail,
            done: standing.done == Some(true),
        });
    }
    Ok(steps)
}

fn standing(kind: &str, object: &Value) -> Standing {
    match kind {
        "LocalModelCache" => kserve::standing(object),
        _ => fluid::standing(kind, object),
    }
}

/// A name of Kubernetes made of a source's last words.
pub fn name_of(source: &Source) -> String {
    let text = source.to_string();
    let path = text.split_once("://").map_or(text.as_str(), |(_, path)| path);
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let last = words[words.len().saturating_sub(2)..].join("-").to_lowercase();
    let clean: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let short: String = clean.trim_matches('-').chars().take(40).collect();
    let short = short.trim_matches('-');
    // A name begins with a letter.
    if short.starts_with(|c: char| c.is_ascii_lowercase()) {
        short.to_owned()
    } else {
        format!("model-{short}").trim_matches('-').to_owned()
    }
}

/// A text of an object that may be hostile, for people.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        let name = |text: &str| name_of(&text.parse().unwrap());
        assert_eq!(name("s3://models/Llama_3.1/70B"), "llama-3-1-70b");
        assert_eq!(name("oss://bucket"), "bucket");
        assert_eq!(name("pvc://claim/7b"), "claim-7b");
        assert_eq!(name("https://host/1/2"), "model-1-2");
    }
}
