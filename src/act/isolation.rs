//! Takes a node out of service, and puts it back. Only what was taken out by us is put back, and
//! only when no other incident needs it out.

use super::change::Change;
use super::gate::{Beginning, Gate, Held};
use super::steps::{Doing, End, done, failed, judged, skipped};
use super::{Eyes, outside};
use crate::fault::playbook::{History, Incident, Isolation, Means, StepKind, StepState};

/// The marker file of an incident, in the state directory.
pub fn marker(incident: &str) -> String {
    format!("isolated/{incident}")
}

pub fn isolate(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    if doing.step.by.is_some_and(Means::is_of_the_cluster) {
        return outside::isolate(doing, gate, eyes);
    }
    let (incident, step) = (doing.incident, doing.step);
    let ours = doing.past().and_then(|past| past.isolation.as_ref());
    if ours.is_some_and(|isolation| isolation.done) && !doing.cut_off() {
        return done("isolated already");
    }
    let filled = doing
        .filling
        .fill(&step.command)
        .and_then(|command| Ok((command, doing.filling.fill(&step.undo)?, doing.filling.fill(&step.check)?)));
    let (command, undo, check) = match filled {
        Ok(filled) => filled,
        Err(error) => return failed(error),
    };
    let shared = shared(doing.history, incident, &undo);
    if ours.is_none() && !shared && gate.asks(&check, step.timeout().0) {
        return skipped("out of service already, and not by aictl");
    }
    let timeout = step.timeout().0;
    let beginning = Beginning { isolation: Some(Isolation { undo, ..Isolation::default() }), ..Beginning::default() };
    let pass = gate.begin(&incident.id, incident.attempt, doing.index, step.step, timeout, beginning)?;
    let (mut state, mut why) = (StepState::Done, String::new());
    if !command.is_empty() && !shared {
        let environment = doing.environment();
        let did = gate.change(&pass, &Change::Run { words: &command, environment: &environment, timeout })?;
        (state, why) = judged(did);
    }
    if state != StepState::Failed {
        let text = format!("{} on {}\n", incident.finding.fault, incident.node);
        let marked = judged(gate.change(&pass, &Change::Mark { name: &marker(&incident.id), text: &text })?);
        state = marked.0;
        why = [why, marked.1].into_iter().filter(|why| !why.is_empty()).collect::<Vec<_>>().join(", ");
    }
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}

pub fn restore(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    let incident = doing.incident;
    let means = match doing.past() {
        Some(past) => past.isolation.as_ref().and_then(|isolation| isolation.means),
        None => {
            let isolates = incident.steps.iter().find(|step| step.step == StepKind::Isolate);
            isolates.and_then(|step| step.settings.by).filter(|by| by.is_of_the_cluster())
        }
    };
    if let Some(means) = means {
        return outside::restore(doing, gate, eyes, means);
    }
    let undo = match doing.past().map(|past| &past.isolation) {
        Some(Some(isolation)) => isolation.undo.clone(),
        Some(None) => return skipped("not isolated by aictl"),
        // A dry run: what would be taken back is what would have been done.
        None => {
            let isolate = incident.steps.iter().find(|step| !step.settings.undo.is_empty());
            let undo = isolate.map_or(&[][..], |isolate| &isolate.settings.undo);
            doing.filling.fill(undo).unwrap_or_default()
        }
    };
    let timeout = doing.step.timeout().0;
    let pass =
        gate.begin(&incident.id, incident.attempt, doing.index, doing.step.step, timeout, Beginning::default())?;
    let (mut state, mut why) = (StepState::Done, String::new());
    if shared(doing.history, incident, &undo) {
        why = "another incident keeps it isolated".to_owned();
    } else if !undo.is_empty() {
        let environment = doing.environment();
        (state, why) = judged(gate.change(&pass, &Change::Run { words: &undo, environment: &environment, timeout })?);
    }
    if state != StepState::Failed {
        let unmarked = judged(gate.change(&pass, &Change::Unmark { name: &marker(&incident.id) })?);
        state = unmarked.0;
        why = [why, unmarked.1].into_iter().filter(|why| !why.is_empty()).collect::<Vec<_>>().join(", ");
    }
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}

/// Whether another incident holds the machine isolated by the same means.
fn shared(history: &History, incident: &Incident, undo: &[String]) -> bool {
    let others = history.incidents.iter().filter(|past| past.id != incident.id && past.node == incident.node);
    others.filter_map(|past| past.isolation.as_ref()).any(|isolation| isolation.undo == undo)
}
