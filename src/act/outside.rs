//! Isolation by the cluster: one GPU, a taint, or a cordon; the smallest that there is. Asks how many
//! nodes are out of service already, one asker at a time, before it takes another out.

use std::time::Duration;

use super::Eyes;
use super::change::{Change, ClusterChange, Did, words};
use super::gate::{Beginning, Gate, Held};
use super::hands::{Claimable, Hands, Lease, LeaseError, NodeView, Putting, Telling};
use super::steps::{Doing, End, done, failed, judged, skipped, wait};
use crate::cluster::ClusterError;
use crate::fault::playbook::{Isolation, Means, Reach, StepKind, StepState, too_many_nodes};

/// Held while nodes are counted and one more is isolated.
const COUNTING: &str = "aictl-isolation";
/// If its holder dies, the others go on after this.
const COUNTING_LASTS: Duration = Duration::from_secs(15);
/// Longest time for an event, without which all is well, too.
const TELLING: Duration = Duration::from_secs(2);

/// No cluster, though a step needs one.
pub const NO_CLUSTER: &str = "no cluster is connected: run with --cluster";

/// What an answer that was not had means for a step.
pub fn away(error: &ClusterError) -> Result<End, Held> {
    if error.is_passing() { wait(words(error)) } else { failed(words(error)) }
}

pub fn isolate(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    let Some(hands) = gate.hands() else { return wait(NO_CLUSTER) };
    let (incident, step) = (doing.incident, doing.step);
    let timeout = step.timeout().0;
    let view = match hands.node(&incident.node, timeout) {
        Ok(view) => view,
        Err(error) => return away(&error),
    };
    let ours = doing.past().and_then(|past| past.isolation.as_ref());
    let known = view.incidents.contains(&incident.id);
    if ours.is_some_and(|ours| ours.done && (known || ours.means == Some(Means::Gpu))) && !doing.cut_off() {
        return done("isolated already");
    }
    if !known && let Some(why) = stranger(&view, eyes) {
        return wait(why);
    }
    // What was begun goes on by the same means, by which it is taken back.
    let by = ours.and_then(|ours| ours.means).or(step.by).unwrap_or(Means::Auto);
    let chosen = match choose(doing, &hands, &view, by, timeout) {
        Ok(Ok(chosen)) => chosen,
        Ok(Err(why)) => return failed(why),
        Err(error) => return away(&error),
    };
    if by == Means::Cordon && view.unschedulable && !known && view.ours.is_empty() {
        return skipped("out of service already, and not by aictl");
    }
    let counts = chosen.device.is_none() && !known && view.ours.is_empty() && !gate.is_dry();
    let lease = match counts.then(|| count(doing, gate, &hands, eyes, timeout)).transpose() {
        Ok(lease) => lease,
        Err(End::Is(state, why)) => return Ok(End::Is(state, why)),
        Err(end) => return Ok(end),
    };
    let end = carry_out(doing, gate, eyes, &hands, &chosen, by);
    if let Some(lease) = lease {
        hands.give_back(&lease);
    }
    end
}

/// By what, and on which device.
struct Chosen {
    means: Means,
    device: Option<Claimable>,
    /// Why it is no smaller means.
    note: String,
}

fn choose(
    doing: &Doing<'_>,
    hands: &Hands,
    view: &NodeView,
    by: Means,
    timeout: Duration,
) -> Result<Result<Chosen, String>, ClusterError> {
    let whole = |means, note: String| Ok(Ok(Chosen { means, device: None, note }));
    let finding = &doing.incident.finding;
    let one_gpu = finding.device.pci.is_some() || finding.device.uuid.is_some();
    let restarts = doing.incident.steps.iter().any(|step| step.step == StepKind::Reboot);
    let why = match by {
        Means::Taint | Means::Cordon => return whole(by, String::new()),
        Means::Auto if !one_gpu || restarts || doing.reaches_peers() => return whole(Means::Taint, String::new()),
        _ if !one_gpu => "the finding names no GPU".to_owned(),
        _ if view.plugin => "the device plugin takes no word about a single GPU".to_owned(),
        _ => match hands.claimable(&doing.incident.node, &finding.device, timeout)? {
            Ok(device) => return Ok(Ok(Chosen { means: Means::Gpu, device: Some(device), note: String::new() })),
            Err(why) => why,
        },
    };
    if by == Means::Gpu { Ok(Err(why)) } else { whole(Means::Taint, format!("the whole node: {why}")) }
}

/// Whether the node of that name is another machine than this.
fn stranger(view: &NodeView, eyes: &dyn Eyes) -> Option<String> {
    let same_boot = view.boot_id.as_deref() == Some(eyes.boot_id());
    let same_machine = view.machine_id.is_some() && view.machine_id.as_deref() == eyes.machine_id();
    if eyes.reach() == Reach::Central || same_boot || same_machine {
        return None;
    }
    Some(format!("node {} of the cluster is another machine, or its kubelet has not told of this boot", eyes.node()))
}

/// Takes the right to isolate one more node, or says why not.
fn count(doing: &Doing<'_>, gate: &Gate<'_>, hands: &Hands, eyes: &dyn Eyes, timeout: Duration) -> Result<Lease, End> {
    let node = &doing.incident.node;
    let holder = if eyes.reach() == Reach::Central { "central" } else { node.as_str() };
    let lease = hands.lease(COUNTING, holder, COUNTING_LASTS, timeout).map_err(|error| match error {
        LeaseError::Cluster(error) if !error.is_passing() => End::Is(StepState::Failed, words(&error)),
        error => End::Wait(error.to_string()),
    })?;
    let counted = hands.server_time(timeout).and_then(|now| hands.fleet(now, timeout));
    let why = match counted {
        Ok(fleet) => match too_many_nodes(node, doing.history, &fleet, gate.policy()) {
            None => return Ok(lease),
            Some(refusal) => format!("{}: {}", refusal.rule, refusal.why),
        },
        Err(error) => words(&error),
    };
    hands.give_back(&lease);
    Err(End::Wait(why))
}

fn carry_out(
    doing: &Doing<'_>,
    gate: &mut Gate<'_>,
    eyes: &dyn Eyes,
    hands: &Hands,
    chosen: &Chosen,
    by: Means,
) -> Result<End, Held> {
    let (incident, step) = (doing.incident, doing.step);
    let timeout = step.timeout().0;
    let who = gate.who();
    let now = match gate.is_dry() {
        true => eyes.clock().now,
        false => match hands.server_time(timeout) {
            Ok(now) => now,
            Err(error) => return away(&error),
        },
    };
    let put = Putting {
        node: &incident.node,
        means: chosen.means,
        no_execute: step.no_execute,
        incident: &incident.id,
        fault: &incident.finding.fault,
        who: &who,
        now,
    };
    let isolation = Isolation { means: Some(chosen.means), ..Isolation::default() };
    let beginning = Beginning { isolation: Some(isolation), ..Beginning::default() };
    let pass = gate.begin(&incident.id, incident.attempt, doing.index, step.step, timeout, beginning)?;
    let fault = &incident.finding.fault;
    let change = match &chosen.device {
        Some(device) => ClusterChange::TaintDevice { device, incident: &incident.id, fault },
        None => ClusterChange::Isolate(put),
    };
    let mut did = gate.change(&pass, &Change::Cluster { change, timeout })?;
    let mut note = chosen.note.clone();
    if let (Did::Failed(why), Means::Auto, Means::Taint) = (&did, by, chosen.means) {
        note = format!("by a cordon: {why}");
        let change = ClusterChange::Isolate(Putting { means: Means::Cordon, ..put });
        did = gate.change(&pass, &Change::Cluster { change, timeout })?;
    }
    let (state, why) = match did {
        // Whether it happened is not known: the next run sees.
        Did::Later(why) => return wait(why),
        Did::Done => (StepState::Done, [by_words(chosen), note].join(if chosen.note.is_empty() { "" } else { "; " })),
        did => judged(did),
    };
    if state == StepState::Done {
        let message =
            format!("isolated for {} on {}: {why}", fault, crate::fault::playbook::DeviceKey::of(&incident.finding).0);
        tell(doing, gate, &pass, eyes, "AictlIsolated", &message)?;
    }
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}

fn by_words(chosen: &Chosen) -> String {
    match &chosen.device {
        Some(device) => format!("by a taint of device {}/{}", device.pool, device.device),
        None => format!("by {}", chosen.means.name()),
    }
}

/// Writes an event of the node; that it could not be is no reason to stop.
pub fn tell(
    doing: &Doing<'_>,
    gate: &mut Gate<'_>,
    pass: &super::gate::Pass,
    eyes: &dyn Eyes,
    reason: &'static str,
    message: &str,
) -> Result<(), Held> {
    if gate.hands().is_none() {
        return Ok(());
    }
    let incident = doing.incident;
    let id = format!("{}-{}-{}", incident.id, incident.attempt, doing.index);
    let bad = reason != "AictlRestored";
    let told = Telling { id: &id, reason, message, bad };
    let change = ClusterChange::Tell { node: &incident.node, told, now: eyes.clock().now };
    gate.change(pass, &Change::Cluster { change, timeout: TELLING })?;
    Ok(())
}

/// Takes our isolation back; what others did stays.
pub fn restore(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes, means: Means) -> Result<End, Held> {
    if gate.hands().is_none() {
        return wait(NO_CLUSTER);
    }
    let (incident, step) = (doing.incident, doing.step);
    let timeout = step.timeout().0;
    let pass = gate.begin(&incident.id, incident.attempt, doing.index, step.step, timeout, Beginning::default())?;
    let release = ClusterChange::Release { node: &incident.node, incident: &incident.id };
    let mut did = gate.change(&pass, &Change::Cluster { change: release, timeout })?;
    if means == Means::Gpu && matches!(did, Did::Done | Did::Said(_) | Did::Would(_)) {
        let change = ClusterChange::UntaintDevice { incident: &incident.id };
        did = gate.change(&pass, &Change::Cluster { change, timeout })?;
    }
    let (state, why) = match did {
        Did::Later(why) => return wait(why),
        did => judged(did),
    };
    if state == StepState::Done {
        tell(doing, gate, &pass, eyes, "AictlRestored", &format!("back in service after {}", incident.finding.fault))?;
    }
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}
