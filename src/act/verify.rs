//! Looks again: passes only if the check that found the fault looked and no longer finds it.

use std::time::{Duration, Instant};

use super::gate::{Beginning, Gate, Held};
use super::steps::{Doing, End, done, failed, judged};
use super::{Eyes, Look};
use crate::fault::playbook::{DeviceKey, Mark, StepKind, StepState, Task, is_events, is_new};
use crate::fault::{Finding, Severity, State};

/// Looks, unless the playbook says how often.
const LOOKS: u32 = 3;

/// Whether two findings are of the same fault of the same device.
pub fn same(a: &Finding, b: &Finding) -> bool {
    a.fault == b.fault && DeviceKey::of(a) == DeviceKey::of(b)
}

/// Why a check's word can't be taken, if it can't.
pub fn blind(look: &Look, check: &str) -> Option<String> {
    match look.checks.iter().find(|seen| seen.name == check).map(|seen| seen.state) {
        Some(State::Ok | State::Fault) => None,
        Some(State::Blind) => Some(format!("the check {check} is blind")),
        Some(State::Skipped) | None => Some(format!("the check {check} was not made")),
    }
}

pub fn verify(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    let step = doing.step;
    if gate.is_dry() {
        return Ok(End::Is(StepState::Planned, format!("would look again with {}", doing.incident.finding.source)));
    }
    if let Some(why) = unproven(doing, eyes.boot_id()) {
        return Ok(End::Wait(why));
    }
    let settle = step.settle.map_or(Duration::ZERO, |settle| settle.0);
    let looks = step.attempts.unwrap_or(LOOKS).max(1);
    let mut last = End::Wait("not looked".to_owned());
    for _ in 0..looks {
        pause(gate, settle, step.timeout().0)?;
        match eyes.look() {
            Err(error) => last = End::Wait(format!("cannot look: {error}")),
            Ok(look) => match wrong(doing, &look, eyes) {
                None => return burn_in(doing, gate, Mark::all(&look.findings, &eyes.clock())),
                Some(end) => last = end,
            },
        }
    }
    Ok(last)
}

/// Why no look could show that an event's cause is gone, if none could: the log stays quiet about a
/// broken GPU that nobody uses, and an isolated one is used by nobody.
fn unproven(doing: &Doing<'_>, boot_id: &str) -> Option<String> {
    let past = doing.past()?;
    if !is_events(&past.finding.source) || past.boot_id != boot_id || !doing.step.command.is_empty() {
        return None;
    }
    // Where the program is what must be restarted, its end is the repair.
    let program = past.finding.action == "RESTART_APP";
    let repairs = |kind: StepKind| kind.repairs() || program && matches!(kind, StepKind::StopHolders | StepKind::Evict);
    let repaired = |task: &Task| repairs(task.step.step) && task.state == StepState::Done;
    (!past.tasks.iter().any(repaired)).then(|| {
        "nothing was repaired, and a quiet log is no proof: waits for a reboot; a burn-in command of verify would do"
            .to_owned()
    })
}

/// What is still wrong.
fn wrong(doing: &Doing<'_>, look: &Look, eyes: &dyn Eyes) -> Option<End> {
    let finding = &doing.incident.finding;
    if look.node.as_deref() != Some(eyes.node()) || look.boot_id.as_deref() != Some(eyes.boot_id()) {
        return Some(End::Wait("the look was at another machine or boot".to_owned()));
    }
    if let Some(why) = blind(look, &finding.source) {
        return Some(End::Wait(why));
    }
    let clock = eyes.clock();
    let marks = marks(doing, eyes.boot_id());
    let device = DeviceKey::of(finding);
    let grave = |found: &&Finding| same(found, finding) || found.severity >= Severity::Error;
    let new = |found: &&Finding| !is_events(&found.source) || is_new(found, &marks, &clock);
    let on_it = look.findings.iter().filter(|found| DeviceKey::of(found) == device);
    let left = on_it.filter(grave).find(new)?;
    let again = if same(left, finding) { "still there" } else { "found on the same device" };
    Some(End::Is(StepState::Failed, format!("{} is {again}", left.fault)))
}

/// What a log held before the repair; nothing of it counts as new. Another boot's log is all new.
fn marks(doing: &Doing<'_>, boot_id: &str) -> Vec<Mark> {
    let Some(past) = doing.past() else { return Vec::new() };
    let repairs = past.tasks.iter().zip(&past.began).filter(|(task, _)| task.step.step.repairs());
    let mut began = repairs.filter_map(|(_, began)| began.as_ref());
    match (&past.before, began.next()) {
        (Some(before), Some(began)) if began.boot_id == boot_id => before.clone(),
        // Nothing was repaired: the event that began it all may stand in the log.
        (None, _) if past.boot_id == boot_id => vec![Mark {
            fault: past.finding.fault.clone(),
            device: past.device(),
            count: past.finding.count,
            last_up_s: None,
        }],
        _ => Vec::new(),
    }
}

fn burn_in(doing: &Doing<'_>, gate: &mut Gate<'_>, marks: Vec<Mark>) -> Result<End, Held> {
    let (incident, step) = (doing.incident, doing.step);
    let timeout = step.timeout().0;
    let words = match doing.filling.fill(&step.command) {
        Ok(words) => words,
        Err(error) => return failed(error),
    };
    let pass = gate.begin(&incident.id, incident.attempt, doing.index, step.step, timeout, Beginning::default())?;
    if !words.is_empty() {
        let environment = doing.environment();
        let change = super::change::Change::Run { words: &words, environment: &environment, timeout };
        let (state, why) = judged(gate.change(&pass, &change)?);
        if state != StepState::Done {
            gate.end(pass, state, &why, None)?;
            return Ok(End::Is(state, format!("burn-in: {why}")));
        }
    }
    gate.end(pass, StepState::Done, "no longer seen", Some(marks))?;
    done("no longer seen")
}

/// Waits, and ends early if nothing more may be done.
fn pause(gate: &Gate<'_>, length: Duration, timeout: Duration) -> Result<(), Held> {
    let since = Instant::now();
    loop {
        gate.check(None, timeout)?;
        let left = length.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}
