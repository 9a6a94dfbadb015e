//! Names of nodes and pods for a shell that completes: quickly, or not at all.

use std::path::PathBuf;
use std::time::Duration;

use clap_complete::CompletionCandidate;

use super::config::Config;
use super::env;
use crate::cluster::{self, Choice, Cluster, ClusterError, NodeChoice, Options};

/// The user waits with a finger on the key.
const PATIENCE: Duration = Duration::from_secs(1);

/// Nodes of the cluster.
pub fn nodes() -> Vec<CompletionCandidate> {
    ask(async |cluster: Cluster| {
        let found = cluster::nodes(&cluster, &NodeChoice::All).await?;
        Ok(found.into_iter().map(|node| node.name).collect())
    })
}

/// Pods of the namespace, as `pod/NAME`.
pub fn pods() -> Vec<CompletionCandidate> {
    ask(async |cluster: Cluster| {
        let found = cluster::pods(&cluster, Some(cluster.namespace()), &Choice::default()).await?;
        Ok(found.into_iter().map(|pod| format!("pod/{}", pod.name)).collect())
    })
}

fn ask(what: impl AsyncFnOnce(Cluster) -> Result<Vec<String>, ClusterError>) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let options = options();
    let found = runtime.block_on(async {
        let asked = async { what(Cluster::connect(&options).await?).await };
        tokio::time::timeout(PATIENCE, asked).await
    });
    runtime.shutdown_background();
    // A name that a shell would take for something else is offered to nobody.
    let sound =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/:".contains(&b));
    found
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
        .into_iter()
        .filter(sound)
        .map(CompletionCandidate::new)
        .collect()
}

/// Which cluster the line that is typed is about.
fn options() -> Options {
    let words: Vec<String> = std::env::args().collect();
    let config = Config::read(None).unwrap_or_default();
    let flag = |names: &[&str], variable: &str| {
        let typed = words.iter().enumerate().rev().find_map(|(at, word)| {
            let joined = names.iter().filter(|name| name.starts_with("--"));
            joined
                .filter_map(|name| word.strip_prefix(name)?.strip_prefix('='))
                .next()
                .map(str::to_owned)
                .or_else(|| names.contains(&word.as_str()).then(|| words.get(at + 1).cloned()).flatten())
        });
        typed.or_else(|| std::env::var(variable).ok()).filter(|value| !value.is_empty())
    };
    Options {
        kubeconfig: flag(&["--kubeconfig"], env::KUBECONFIG).map(PathBuf::from).or(config.kubeconfig),
        context: flag(&["--context"], env::CONTEXT).or(config.context),
        namespace: flag(&["-n", "--namespace"], env::NAMESPACE).or(config.namespace),
    }
}
