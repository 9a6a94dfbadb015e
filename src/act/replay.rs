//! From the records of a journal to how every incident stands.

use super::record::{Event, Record};
use crate::fault::playbook::{Began, Clock, History, Past, Sighting, Standing, StepKind, StepState};

/// How everything stands. Times count back from now: within one boot by the clock that can't be
/// set; over boots by the wall clock, but no less than this boot lasts.
pub fn history(records: &[Record], clock: &Clock, boot_id: &str) -> History {
    let mut history = History::default();
    for record in records {
        let ago_s = if record.boot_id == boot_id {
            (clock.up_s - record.up_s).max(0.0)
        } else {
            clock.ago_s(record.at).max(clock.up_s)
        };
        take(&mut history, record, ago_s);
    }
    history
}

fn take(history: &mut History, record: &Record, ago_s: f64) {
    if let Some(past) = record.event.incident().and_then(|id| position(history, id)) {
        history.incidents[past].last_ago_s = ago_s;
    }
    match &record.event {
        Event::Opened { incident, attempt, rule, finding, tasks } => {
            let before = position(history, incident).map(|i| history.incidents.remove(i));
            let mut attempts_ago_s = before.as_ref().map_or_else(Vec::new, |past| past.attempts_ago_s.clone());
            attempts_ago_s.push(ago_s);
            history.incidents.push(Past {
                id: incident.clone(),
                node: record.node.clone(),
                // That of the finding: over a restart of the machine, another than the journal's.
                boot_id: record.boot_id.clone(),
                finding: (**finding).clone(),
                rule: rule.clone(),
                attempt: *attempt,
                attempts_ago_s,
                standing: Standing::Open,
                why: String::new(),
                last_ago_s: ago_s,
                closed_ago_s: None,
                tasks: tasks.clone(),
                began: vec![None; tasks.len()],
                isolation: before.and_then(|past| past.isolation),
                moved: Vec::new(),
                before: None,
                after: None,
            });
        }
        Event::Added { incident, task } => {
            let Some(past) = past(history, incident) else { return };
            past.tasks.push((**task).clone());
            past.began.push(None);
        }
        Event::Began { incident, step, isolation, marks, moved, .. } => {
            let Some(past) = past(history, incident) else { return };
            if isolation.is_some() {
                // From here on it may have happened.
                past.isolation.clone_from(isolation);
            }
            for job in moved {
                match past.moved.iter_mut().find(|known| known.owner_uid == job.owner_uid) {
                    Some(known) => {
                        let new = job.pods.iter().filter(|pod| !known.pods.contains(pod)).cloned();
                        let new: Vec<String> = new.collect();
                        known.pods.extend(new);
                    }
                    None => past.moved.push(job.clone()),
                }
            }
            if past.before.is_none() {
                past.before.clone_from(marks);
            }
            if let Some(began) = past.began.get_mut(*step) {
                *began = Some(Began { ago_s, boot_id: record.boot_id.clone(), ended: false });
            }
        }
        Event::Ended { incident, step, kind, state, why, marks, .. } => {
            let Some(past) = past(history, incident) else { return };
            if let Some(task) = past.tasks.get_mut(*step) {
                (task.state, task.why) = (*state, why.clone());
            }
            if let Some(Some(began)) = past.began.get_mut(*step) {
                began.ended = true;
            }
            if let Some(marks) = marks {
                past.after = Some((record.boot_id.clone(), marks.clone()));
            }
            match (kind, state) {
                (StepKind::Restore, StepState::Done) => past.isolation = None,
                (StepKind::Isolate, StepState::Done) => {
                    if let Some(isolation) = &mut past.isolation {
                        isolation.done = true;
                    }
                }
                _ => {}
            }
        }
        Event::Closed { incident, standing, why, .. } => {
            let Some(past) = past(history, incident) else { return };
            past.standing = *standing;
            past.why.clone_from(why);
            past.closed_ago_s = Some(ago_s);
            if *standing == Standing::Undone {
                past.isolation = None;
            }
        }
        Event::Seen { fault, device } => {
            history.sightings.push(Sighting { fault: fault.clone(), device: device.clone(), ago_s });
        }
    }
}

fn position(history: &History, id: &str) -> Option<usize> {
    history.incidents.iter().position(|past| past.id == id)
}

fn past<'h>(history: &'h mut History, id: &str) -> Option<&'h mut Past> {
    position(history, id).map(|i| &mut history.incidents[i])
}
