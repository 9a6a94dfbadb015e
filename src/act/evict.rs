//! Moves pods off a node within their budgets, and restarts the pod of an add-on on it.

use std::time::{Duration, Instant};

use super::change::{Change, ClusterChange, Did, words};
use super::gate::{Beginning, Gate, Held};
use super::hands::{Hands, PodChoice, PodView, jobs};
use super::outside::{NO_CLUSTER, away};
use super::steps::{Doing, End, done, failed, wait};
use crate::cluster::ClusterError;
use crate::fault::playbook::{Means, StepState};

/// Between two rounds of asking.
const ROUND: Duration = Duration::from_millis(500);
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(30);

/// The pods that a step is about: those of the node itself left out.
pub fn chosen(doing: &Doing<'_>, hands: &Hands, within: Duration) -> Result<Vec<PodView>, ClusterError> {
    let mut pods = hands.pods_of(&choice(doing), within)?;
    pods.retain(|pod| !pod.of_the_node);
    let gpu = doing.past().and_then(|past| past.isolation.as_ref()?.means) == Some(Means::Gpu);
    if gpu && !doing.step.all {
        // One GPU alone is out of service: jobs on the others go on.
        let device = &doing.incident.finding.device;
        if let Ok(device) = hands.claimable(&doing.incident.node, device, within)? {
            let users = hands.users(&device, &doing.step.namespaces, within)?;
            pods.retain(|pod| users.contains(&pod.uid));
        }
    }
    Ok(pods)
}

fn choice<'d>(doing: &Doing<'d>) -> PodChoice<'d> {
    let step = doing.step;
    PodChoice {
        node: &doing.incident.node,
        namespaces: &step.namespaces,
        selector: step.selector.as_deref(),
        all: step.all,
    }
}

pub fn evict(doing: &Doing<'_>, gate: &mut Gate<'_>) -> Result<End, Held> {
    let Some(hands) = gate.hands() else { return wait(NO_CLUSTER) };
    let (incident, step) = (doing.incident, doing.step);
    let timeout = step.timeout().0;
    let pods = match chosen(doing, &hands, timeout) {
        Ok(pods) => pods,
        Err(error) => return away(&error),
    };
    if pods.is_empty() {
        return done("no pods to move");
    }
    if let Some(bare) = pods.iter().find(|pod| pod.owner.is_none() && !step.bare) {
        let why = format!("pod {} has no controller and would not come back; `bare: true` moves it", bare.place());
        return wait(why);
    }
    if !gate.is_dry() {
        let ours = doing.past().and_then(|past| past.isolation.as_ref()).is_some_and(|isolation| isolation.done);
        match hands.node(&incident.node, timeout) {
            Ok(node) if ours || node.unschedulable || !node.ours.is_empty() => {}
            Ok(_) => return wait("the node is not isolated: pods would come back"),
            Err(error) => return away(&error),
        }
    }
    let beginning = Beginning { moved: jobs(&pods), ..Beginning::default() };
    let pass = gate.begin(&incident.id, incident.attempt, doing.index, step.step, timeout, beginning)?;
    let since = Instant::now();
    let (state, why) = loop {
        let mut left = match chosen(doing, &hands, timeout.saturating_sub(since.elapsed()).max(REQUEST)) {
            Ok(left) => left,
            Err(error) => break (StepState::Failed, words(&error)),
        };
        if gate.is_dry() {
            let would: Vec<String> = left.iter().map(PodView::place).collect();
            break (StepState::Planned, format!("would evict {}", would.join(", ")));
        }
        // One that came since has not been judged.
        left.retain(|pod| pods.iter().any(|known| known.uid == pod.uid));
        if left.is_empty() {
            break (StepState::Done, format!("moved {}", counted(pods.len())));
        }
        let mut blocked = None;
        for pod in left.iter().filter(|pod| !pod.ending) {
            let request = timeout.saturating_sub(since.elapsed()).clamp(Duration::from_secs(1), REQUEST);
            match gate.change(&pass, &Change::Cluster { change: ClusterChange::Evict(pod), timeout: request })? {
                Did::Later(why) | Did::Failed(why) => blocked = Some(format!("pod {}: {why}", pod.place())),
                _ => {}
            }
        }
        if since.elapsed() >= timeout {
            let ending = || format!("pod {} has not ended", left.first().map(PodView::place).unwrap_or_default());
            let moved = pods.len() - left.len();
            break (StepState::Failed, format!("moved {moved} of {}; {}", pods.len(), blocked.unwrap_or_else(ending)));
        }
        gate.check(None, Duration::ZERO)?;
        std::thread::sleep(ROUND);
    };
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}

fn counted(pods: usize) -> String {
    if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") }
}

/// Restarts the pod of an add-on on the node: a DaemonSet's, which is made again at once. The caller
/// has seen to it that this is done once an attempt.
pub fn restart_pod(doing: &Doing<'_>, gate: &mut Gate<'_>, beginning: Beginning) -> Result<End, Held> {
    let Some(hands) = gate.hands() else { return wait(NO_CLUSTER) };
    let (incident, step) = (doing.incident, doing.step);
    let timeout = step.timeout().0;
    let choice = PodChoice { all: true, ..choice(doing) };
    let pods = match hands.pods_of(&choice, timeout) {
        Ok(pods) => pods,
        Err(error) => return away(&error),
    };
    let Some(first) = pods.first() else { return failed("no such pod on the node") };
    if let Some(other) = pods.iter().find(|pod| !pod.of_the_node || pod.owner.is_none()) {
        return failed(format!("pod {} is no DaemonSet's: it would not be made again here", other.place()));
    }
    let pass = gate.begin(&incident.id, incident.attempt, doing.index, step.step, timeout, beginning)?;
    let since = Instant::now();
    for pod in &pods {
        let change = ClusterChange::EndPod(pod);
        match gate.change(&pass, &Change::Cluster { change, timeout })? {
            Did::Later(why) | Did::Failed(why) => {
                gate.end(pass, StepState::Failed, &why, None)?;
                return failed(why);
            }
            Did::Would(what) => return Ok(End::Is(StepState::Planned, format!("would {what}"))),
            _ => {}
        }
    }
    let (state, why) = loop {
        let now = hands.pods_of(&choice, REQUEST).unwrap_or_default();
        let new = |pod: &&PodView| pod.ready && !pods.iter().any(|old| old.uid == pod.uid);
        if now.iter().filter(new).count() >= pods.len() {
            break (
                StepState::Done,
                format!("{} was made again and is ready", first.owner.as_ref().map_or("", |o| &o.0)),
            );
        }
        if since.elapsed() >= timeout {
            break (StepState::Failed, "no new pod is ready".to_owned());
        }
        gate.check(None, Duration::ZERO)?;
        std::thread::sleep(ROUND);
    };
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}
