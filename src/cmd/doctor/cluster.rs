//! The cluster: the way to it, what we may do there, engines of queues.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::super::settings::Settings;
use super::super::targets::Targets;
use super::needs::{Command, NEEDS, Need, Place};
use super::{Check, State};
use crate::cluster::{Access, Cluster, ClusterError, may};

const AREA: &str = "cluster";
/// Questions at a time.
const AT_ONCE: usize = 16;
/// Where aictl's own pods are.
const AICTL: &str = "aictl";

const ALL: &[Command] = &[Command::Submit, Command::Queue];

/// What there is.
pub async fn checks(settings: &Settings, asked: &[Command], deadline: Duration) -> Vec<Check> {
    let check = Check::new(AREA, "kubeconfig", ALL);
    let connected = tokio::time::timeout(deadline, Cluster::connect(&settings.cluster)).await;
    let cluster = match connected {
        Ok(Ok(cluster)) => cluster,
        Ok(Err(error)) => {
            let state = if matches!(error, ClusterError::NoConfiguration) { State::Absent } else { State::Broken };
            let said = check.is(state, words(&error), error.hint().unwrap_or("kubectl config view"));
            return [vec![said], engines(settings, deadline).await].concat();
        }
        Err(_) => {
            let said =
                check.is(State::Unknown, "its credentials could not be had in time", "kubectl get --raw /readyz");
            return vec![said];
        }
    };
    let context = if cluster.name().is_empty() { "the current context" } else { cluster.name() };
    let mut checks = vec![check.ok(format!("{context}, namespace {}", cluster.namespace()))];
    let api = Check::new(AREA, "api-server", ALL);
    match tokio::time::timeout(deadline, cluster.client().apiserver_version()).await {
        Ok(Ok(version)) => checks.push(api.ok(format!("Kubernetes {}", version.git_version))),
        Ok(Err(error)) => {
            let error = ClusterError::of("it does not answer", error);
            checks.push(api.is(State::Broken, words(&error), error.hint().unwrap_or("kubectl get --raw /readyz")));
            return checks;
        }
        Err(_) => {
            checks.push(api.is(
                State::Unknown,
                "no answer in time",
                "kubectl get --raw /readyz; --deadline waits longer",
            ));
            return checks;
        }
    }
    checks.extend(permissions(&cluster, asked, deadline).await);
    checks.extend(engines(settings, deadline).await);
    checks
}

fn words(error: &ClusterError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// One check a subcommand: all that it needs is there, or which verb on which resource is not.
async fn permissions(cluster: &Cluster, asked: &[Command], deadline: Duration) -> Vec<Check> {
    let wanted = NEEDS.iter().filter(|need| asked.is_empty() || asked.contains(&need.command));
    let answers = stream::iter(wanted)
        .map(|need| async move {
            let namespace = match need.place {
                Place::Cluster => None,
                Place::Namespace => Some(cluster.namespace()),
                Place::Aictl => Some(AICTL),
            };
            let access = Access { verb: need.verb, group: need.group, resource: need.resource, namespace };
            let answer = tokio::time::timeout(deadline, may(cluster, access)).await;
            (
                need,
                namespace,
                answer.unwrap_or_else(|_| {
                    Err(ClusterError::Silent { what: "cannot ask what we may do".to_owned(), after: deadline })
                }),
            )
        })
        .buffered(AT_ONCE);
    let answers: Vec<_> = answers.collect().await;
    let mut by_command: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for answer in answers {
        by_command.entry(format!("{:?}", answer.0.command).to_lowercase()).or_default().push(answer);
    }
    let mut checks = Vec::new();
    for (name, answers) in by_command {
        let Some((first, ..)) = answers.first() else { continue };
        let check = Check::new(AREA, format!("may-{name}"), &[first.command]);
        if let Some((_, _, Err(error))) = answers.iter().find(|(.., answer)| answer.is_err()) {
            checks.push(check.is(State::Unknown, words(error), error.hint().unwrap_or("kubectl auth can-i --list")));
            continue;
        }
        let refused = |optional: bool| {
            let refused = answers.iter().filter(|(need, _, may)| need.optional == optional && matches!(may, Ok(false)));
            refused.map(|(need, namespace, _)| shown(need, *namespace)).collect::<Vec<_>>()
        };
        let (lacks, less) = (refused(false), refused(true));
        let role = "ask for it: deploy/README.md lists each verb with its reason, and has roles to bind";
        checks.push(match (lacks.as_slice(), less.as_slice()) {
            ([], []) => check.ok(format!("all {} verbs that it needs", answers.len())),
            ([], less) => check.ok(format!("all that must be; with less to show for want of {}", less.join(", "))),
            (lacks, _) => check.is(State::Absent, format!("may not {}", lacks.join(", ")), role),
        });
    }
    checks
}

fn shown(need: &Need, namespace: Option<&str>) -> String {
    let dot = if need.group.is_empty() { "" } else { "." };
    let place = namespace.map_or(String::new(), |namespace| format!(" in {namespace}"));
    format!("{} {}{dot}{}{place}", need.verb, need.resource, need.group)
}

/// Engines of queues, in the cluster and on this machine.
async fn engines(settings: &Settings, deadline: Duration) -> Vec<Check> {
    let check = Check::new(AREA, "engines", ALL);
    let Ok(targets) = tokio::time::timeout(deadline, Targets::all(settings)).await else {
        return vec![check.is(State::Unknown, "they did not answer in time", "--deadline waits longer")];
    };
    let names: Vec<String> = targets.engines.iter().map(|engine| engine.target().name.clone()).collect();
    let mut checks = vec![if names.is_empty() {
        check.is(
            State::Absent,
            "no Kueue, Volcano, kube-queue, Kubernetes, Slurm or Ray was found",
            "name a kubeconfig, run where Slurm or Ray is, or configure targets (docs/queue.md)",
        )
    } else {
        check.ok(names.join(", "))
    }];
    // One that is configured or found, and can't be asked, hides nothing else.
    checks.extend(targets.unreached.into_iter().map(|(name, error)| {
        let check = Check::new(AREA, format!("engine-{name}"), ALL);
        check.is(State::Broken, error.to_string(), format!("aictl queue list --on {name} -v"))
    }));
    checks
}
