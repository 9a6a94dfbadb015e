//! The fleet: nodes of a cluster with what their agents found and what the cluster tells of them.

mod logs;
mod objects;
mod render;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::error::{BLIND, DONE, Error, FOUND, Kind};
use super::super::runtime::block_on;
use super::super::settings::{OutputFormat, Settings};
use super::Done;
use super::ask;
use super::checks::Checks;
use crate::cluster::{self, Cluster, ClusterError, NodeChoice, in_a_line};
use crate::fault::cluster::{Blind, ClusterFacts, Fleet, NodeState, Reading, judge};
use crate::fault::{Catalogue, Severity, State};

/// An agent that says no more for this long is blind.
pub const SILENCE: Duration = Duration::from_secs(300);

/// What to look at.
pub struct Scope<'s> {
    /// Nodes by name; all if empty.
    pub nodes: &'s [String],
    /// Nodes by label.
    pub selector: Option<&'s str>,
    /// Read the logs of pods with GPUs.
    pub logs: bool,
    /// Read the logs of these jobs.
    pub jobs: &'s [String],
    /// How long an agent may be silent.
    pub silence: Duration,
    /// A site's checks.
    pub site: &'s Checks,
    /// Who is asked, too.
    pub asker: Option<&'s ask::Asker>,
}

/// Looks at a cluster, then says.
pub fn run(scope: &Scope<'_>, catalogue: &Catalogue, settings: &Settings) -> Done {
    let fleet = block_on(gather(scope, catalogue, settings))?;
    // One node that is named is told of as that node tells of itself.
    if let ([_], [node]) = (scope.nodes, fleet.nodes.as_slice()) {
        let mut findings = node.findings.clone();
        let beside = fleet.checks.iter().filter(|check| scope.site.has(&check.name) || check.name == logs::CHECK);
        findings.checks.extend(beside.cloned());
        let beside = fleet.findings.iter().filter(|f| scope.site.has(&f.source) || f.source == logs::CHECK);
        findings.findings.extend(beside.cloned());
        crate::fault::sort(&mut findings.findings);
        return super::show(&findings, catalogue, scope.asker, settings);
    }
    show(&fleet, catalogue, scope.asker, settings)
}

async fn gather(scope: &Scope<'_>, catalogue: &Catalogue, settings: &Settings) -> Result<Fleet, Error> {
    let cluster = Cluster::connect(&settings.cluster).await.map_err(with_hint)?;
    let progress = settings.ui.progress();
    progress.set(&format!("reading the nodes of {}", cluster.name()));
    let choice = match (scope.nodes, scope.selector) {
        ([], None) => NodeChoice::All,
        ([], Some(selector)) => NodeChoice::Labels(selector.to_owned()),
        (names, _) => NodeChoice::Named(names.to_vec()),
    };
    let names: Vec<&str> = scope.nodes.iter().map(String::as_str).collect();
    let one = match names.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    let named = Some(names.as_slice()).filter(|names| !names.is_empty());
    let (nodes, reports, addons, rejections) = futures::join!(
        cluster::nodes(&cluster, &choice),
        cluster::reports(&cluster, named),
        cluster::addons(&cluster, one),
        cluster::rejections(&cluster, one),
    );
    let nodes = nodes?;
    if nodes.is_empty() {
        let (what, hint) = match scope.selector {
            Some(selector) => {
                (format!("no node of {} has the labels {selector}", cluster.name()), "kubectl get nodes --show-labels")
            }
            None => (format!("{} has no nodes", cluster.name()), "which cluster is meant? kubectl config get-contexts"),
        };
        return Err(Error::new(Kind::Blind, what).hint(hint));
    }
    let reports = match reports {
        Ok(Some(reports)) => Ok(reports),
        Ok(None) => {
            Err(Blind("no agents: the cluster has no nodefindings.aictl.dev (deploy/ installs them)".to_owned()))
        }
        Err(error) => Err(blind(&error)),
    };
    let (addons, addon_pods) = match read(addons) {
        Ok((addons, pods)) => (Ok(addons), Ok(pods)),
        Err(why) => (Err(why.clone()), Err(why)),
    };
    let facts = ClusterFacts { nodes, reports, addons, addon_pods, rejections: read(rejections) };
    let now = Timestamp::now();
    let longest = SignedDuration::try_from(scope.silence).unwrap_or(SignedDuration::MAX);
    let mut fleet = judge(cluster.name(), facts, catalogue, now, longest);
    if scope.logs || !scope.jobs.is_empty() {
        progress.set("reading the logs of jobs");
        let (check, found) = logs::look(&cluster, scope, &fleet, catalogue, now).await;
        fleet.checks.push(check);
        fleet.findings.extend(found);
    }
    objects::run(&cluster, scope.site, &mut fleet, catalogue, now, |what| progress.set(what)).await;
    fleet.sort();
    Ok(fleet)
}

fn read<T>(read: Result<T, ClusterError>) -> Reading<T> {
    read.map_err(|error| blind(&error))
}

/// An error in one line, for a check.
fn blind(error: &ClusterError) -> Blind {
    Blind(in_a_line(error))
}

fn with_hint(error: ClusterError) -> Error {
    let none = matches!(error, ClusterError::NoConfiguration);
    let error = Error::from(error);
    if none { error.hint("this machine alone: aictl diagnose --local; a saved log: --kernel-log FILE") } else { error }
}

fn show(fleet: &Fleet, catalogue: &Catalogue, asker: Option<&ask::Asker>, settings: &Settings) -> Done {
    let question = || ask::of_fleet(fleet, catalogue);
    let said = ask::say(fleet, asker, question, settings, |ui| match settings.output {
        OutputFormat::Name => {
            let faulty = fleet.nodes.iter().filter(|node| node.state == NodeState::Fault);
            let names: Vec<String> =
                faulty.map(|node| format!("node/{}", crate::view::text::plain(node.name()))).collect();
            if names.is_empty() { Ok(()) } else { ui.print(&names.join("\n")) }
        }
        _ => ui.print(&render::render(fleet, catalogue, settings)),
    });
    Error::unless_closed(said, code(fleet))
}

fn code(fleet: &Fleet) -> u8 {
    let wrong = fleet.findings.iter().any(|finding| finding.severity > Severity::Info);
    let states = || fleet.nodes.iter().map(|node| node.state);
    if wrong || states().any(|state| state == NodeState::Fault) {
        FOUND
    } else if states().any(|state| state == NodeState::Blind) || fleet.checks.iter().any(|c| c.state == State::Blind) {
        BLIND
    } else {
        DONE
    }
}
