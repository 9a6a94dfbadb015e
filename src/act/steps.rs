//! How each step is done. Each may be asked for again after a crash: what is done already is
//! seen, and what must not be done twice is not.

use std::time::{Duration, Instant};

use super::change::{Change, Did};
use super::command::Ending;
use super::gate::{Beginning, Gate, Held};
use super::{Eyes, Holder, event, evict, isolation, jobs, outside, verify};
use crate::fault::playbook::{Filling, History, Incident, Mark, Past, Reach, Step, StepKind, StepState};

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It ended.
    Is(StepState, String),
    /// It can't be done yet; a later run asks again.
    Wait(String),
    /// It was begun, and its end is seen by a later run: the machine restarts.
    Away(String),
}

/// A step about to be done.
#[derive(Debug)]
pub struct Doing<'d> {
    /// Which incident.
    pub incident: &'d Incident,
    /// Which of its steps.
    pub index: usize,
    /// Its settings.
    pub step: &'d Step,
    /// All that was done so far.
    pub history: &'d History,
    /// Fills commands.
    pub filling: Filling,
}

pub fn done(why: impl Into<String>) -> Result<End, Held> {
    Ok(End::Is(StepState::Done, why.into()))
}

pub fn failed(why: impl Into<String>) -> Result<End, Held> {
    Ok(End::Is(StepState::Failed, why.into()))
}

pub fn skipped(why: impl Into<String>) -> Result<End, Held> {
    Ok(End::Is(StepState::Skipped, why.into()))
}

pub fn wait(why: impl Into<String>) -> Result<End, Held> {
    Ok(End::Wait(why.into()))
}

impl<'d> Doing<'d> {
    /// What the journal knows of the incident.
    pub fn past(&self) -> Option<&'d Past> {
        self.history.incident(&self.incident.id)
    }

    /// Whether an earlier run began this step, and its end is not known.
    pub fn cut_off(&self) -> bool {
        let began = self.past().and_then(|past| past.began.get(self.index)?.as_ref());
        began.is_some_and(|began| !began.ended)
    }

    /// What commands learn of the incident.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let device = crate::fault::playbook::DeviceKey::of(&self.incident.finding).0;
        vec![
            ("AICTL_INCIDENT", self.incident.id.clone()),
            ("AICTL_ATTEMPT", self.incident.attempt.to_string()),
            ("AICTL_NODE", self.incident.node.clone()),
            ("AICTL_FAULT", self.incident.finding.fault.clone()),
            ("AICTL_DEVICE", device),
        ]
    }

    /// The GPU whose holders are in the way; none: all GPUs.
    fn pci(&self) -> Option<&'d str> {
        let restarts = self.incident.steps.iter().any(|step| step.step == StepKind::Reboot);
        self.incident.finding.device.pci.as_deref().filter(|_| !restarts && !self.reaches_peers())
    }

    /// Who holds a GPU that the step is about, be it one of several that go together.
    fn holders(&self, eyes: &dyn Eyes) -> Result<Vec<Holder>, String> {
        if self.step.gpus.is_empty() {
            return eyes.holders(self.pci());
        }
        let mut all: Vec<Holder> = Vec::new();
        for pci in &self.step.gpus {
            for holder in eyes.holders(Some(pci))? {
                if !all.contains(&holder) {
                    all.push(holder);
                }
            }
        }
        Ok(all)
    }

    /// Whether more than one GPU is hit.
    pub fn reaches_peers(&self) -> bool {
        let together = self.incident.steps.iter().any(|step| step.settings.gpus.len() > 1);
        together || !matches!(self.incident.finding.scope.as_str(), "gpu" | "process" | "none" | "device" | "job")
    }

    fn begin(&self, gate: &mut Gate<'_>, beginning: Beginning) -> Result<super::gate::Pass, Held> {
        let (incident, kind) = (self.incident, self.step.step);
        gate.begin(&incident.id, incident.attempt, self.index, kind, self.step.timeout().0, beginning)
    }

    /// Begins, runs one command, ends.
    pub fn run(&self, gate: &mut Gate<'_>, command: &[String], beginning: Beginning) -> Result<End, Held> {
        let words = match self.filling.fill(command) {
            Ok(words) => words,
            Err(error) => return failed(error),
        };
        let pass = self.begin(gate, beginning)?;
        let environment = self.environment();
        let timeout = self.step.timeout().0;
        let did = gate.change(&pass, &Change::Run { words: &words, environment: &environment, timeout })?;
        let (state, why) = judged(did);
        if self.step.step == StepKind::Reboot && state == StepState::Done {
            // Its end is another boot.
            return Ok(End::Away("asked for; waits for the machine to come back".to_owned()));
        }
        gate.end(pass, state, &why, None)?;
        Ok(End::Is(state, why))
    }
}

/// What became of a command, as a state and why.
pub fn judged(did: Did) -> (StepState, String) {
    match did {
        Did::Would(what) => (StepState::Planned, format!("would {what}")),
        Did::Done => (StepState::Done, String::new()),
        Did::Said(what) => (StepState::Done, what),
        Did::Failed(why) | Did::Later(why) => (StepState::Failed, why),
        Did::Ran(outcome) => {
            let how = match outcome.ending {
                Ending::Exit(0) => return (StepState::Done, outcome.said),
                Ending::Exit(code) => format!("exit code {code}"),
                Ending::Signal(signal) => format!("ended by signal {signal}"),
                Ending::Late => "took too long and was ended".to_owned(),
                Ending::Stuck => "took too long and hangs in the kernel".to_owned(),
            };
            let said = if outcome.said.is_empty() { String::new() } else { format!(": {}", outcome.said) };
            (StepState::Failed, how + &said)
        }
    }
}

/// Does a step.
pub fn perform(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    // A command that outlived its run could undo what comes after it, or be a reset at work.
    let patience = if doing.cut_off() { doing.step.timeout().0 } else { Duration::ZERO };
    let kind = doing.step.step;
    let commands = kind != StepKind::Reboot && eyes.reach() != Reach::Central;
    if commands && (doing.cut_off() || kind.repairs()) && !gate.wait_for_commands(patience) {
        return wait("a command of an earlier step is still at work");
    }
    if eyes.reach() == Reach::Central && kind.is_on_the_machine() {
        return wait("left to the node's own agent: aictl remediate --apply --watch there");
    }
    match doing.step.step {
        StepKind::Isolate => isolation::isolate(doing, gate, eyes),
        StepKind::Restore => isolation::restore(doing, gate, eyes),
        StepKind::Notify | StepKind::HandOver => tell(doing, gate, eyes),
        StepKind::Checkpoint => match &doing.step.save {
            Some(save) => jobs::checkpoint(doing, gate, save),
            None => doing.run(gate, &doing.step.command, Beginning::default()),
        },
        StepKind::Evict => evict::evict(doing, gate),
        StepKind::Resume => jobs::resume(doing, gate),
        StepKind::StopHolders => stop_holders(doing, gate, eyes),
        StepKind::ResetGpu | StepKind::RestartService | StepKind::RestartPod | StepKind::Script => {
            repair(doing, gate, eyes)
        }
        StepKind::Reboot => reboot(doing, gate, eyes),
        StepKind::Verify => verify::verify(doing, gate, eyes),
    }
}

fn tell(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    let kind = doing.step.step;
    let pass = doing.begin(gate, Beginning::default())?;
    let mut why = doing.incident.steps.get(doing.index).map_or(String::new(), |step| step.why.clone());
    let mut state = StepState::Done;
    if let Some(url) = &doing.step.url {
        let token = doing.step.token_file.as_ref().map(std::fs::read_to_string).transpose();
        let body = event::cloud_event(doing.incident, doing.index, kind, &why, eyes.clock().now);
        let did = match &token {
            Ok(token) => {
                let token = token.as_deref().map(str::trim);
                gate.change(&pass, &Change::Post { url, token, body: &body, timeout: doing.step.timeout().0 })?
            }
            Err(error) => Did::Failed(format!("cannot read the token: {error}")),
        };
        let (told, how) = judged(did);
        if told == StepState::Failed && kind == StepKind::HandOver {
            why = format!("{why}; nobody could be told: {how}");
        } else if told != StepState::Done {
            (state, why) = (told, how);
        }
    } else if gate.is_dry() {
        (state, why) = (StepState::Planned, "would leave it to a human".to_owned());
    }
    if kind == StepKind::HandOver && !gate.is_dry() {
        outside::tell(doing, gate, &pass, eyes, "AictlHandedOver", &format!("a human is needed: {why}"))?;
    }
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}

fn stop_holders(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    let step = doing.step;
    let seen =
        |holders: Result<Vec<Holder>, String>| holders.map_err(|error| format!("cannot see who holds it: {error}"));
    let holders = match seen(doing.holders(eyes)) {
        Ok(holders) => holders,
        Err(error) => return wait(error),
    };
    if holders.is_empty() {
        return done("nobody holds it");
    }
    if let Some(other) = holders.iter().find(|holder| !may_stop(&step.names, &holder.name)) {
        // All or none: to stop some of them would not free the device.
        return wait(format!("{} (pid {}) holds it and may not be stopped", other.name, other.pid));
    }
    let pass = doing.begin(gate, Beginning::default())?;
    let signal = |gate: &mut Gate<'_>, holders: &[Holder], kill: bool| -> Result<Vec<String>, Held> {
        let mut said = Vec::new();
        for holder in holders {
            match gate.change(&pass, &Change::Signal { holder, kill })? {
                Did::Would(what) | Did::Failed(what) => said.push(what),
                _ => {}
            }
        }
        Ok(said)
    };
    let said = signal(gate, &holders, false)?;
    if gate.is_dry() {
        return Ok(End::Is(StepState::Planned, format!("would send {}", said.join(", "))));
    }
    let since = Instant::now();
    let mut killed = false;
    let (state, why) = loop {
        let left: Vec<Holder> = match seen(doing.holders(eyes)) {
            Ok(left) => left,
            Err(error) => break (StepState::Failed, error),
        };
        let names: Vec<String> = left.iter().map(|holder| format!("{} (pid {})", holder.name, holder.pid)).collect();
        if left.is_empty() {
            let stopped: Vec<&str> = holders.iter().map(|holder| holder.name.as_str()).collect();
            break (StepState::Done, format!("stopped {}", stopped.join(", ")));
        }
        if since.elapsed() >= step.timeout().0 {
            if !step.kill || killed {
                break (StepState::Failed, format!("{} did not end", names.join(", ")));
            }
            // Only those that were asked to end, never one that came since.
            let asked: Vec<Holder> = left.into_iter().filter(|holder| holders.contains(holder)).collect();
            signal(gate, &asked, true)?;
            killed = true;
            std::thread::sleep(Duration::from_secs(1));
            continue;
        }
        gate.check(None, Duration::ZERO)?;
        std::thread::sleep(Duration::from_millis(100));
    };
    gate.end(pass, state, &why, None)?;
    Ok(End::Is(state, why))
}

/// Whether a process may be stopped, by its name as the kernel has it: its first 15 bytes.
fn may_stop(names: &[String], name: &str) -> bool {
    names.iter().any(|allowed| allowed.as_bytes().iter().take(15).eq(name.as_bytes()))
}

/// The log as it is before a repair, or the reason why there is none.
fn before(doing: &Doing<'_>, eyes: &dyn Eyes) -> Result<Result<Vec<Mark>, End>, Held> {
    let look = match eyes.look() {
        Ok(look) => look,
        Err(error) => return Ok(Err(End::Wait(format!("cannot look: {error}")))),
    };
    let finding = &doing.incident.finding;
    if let Some(why) = verify::blind(&look, &finding.source) {
        return Ok(Err(End::Wait(why)));
    }
    let marks = Mark::all(&look.findings, &eyes.clock());
    let there = look.findings.iter().any(|found| verify::same(found, finding));
    let logged = crate::fault::playbook::is_events(&finding.source);
    if !there && !logged {
        let why = "the fault is no longer seen".to_owned();
        return Ok(Err(End::Is(StepState::Skipped, why)));
    }
    Ok(Ok(marks))
}

/// A step that changes the device or the machine: at most once an attempt.
fn repair(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    let step = doing.step;
    if doing.cut_off() && !(step.step == StepKind::Script && step.repeat) {
        return done("was cut off; not done again: verify decides");
    }
    if step.step == StepKind::ResetGpu {
        match doing.holders(eyes) {
            Err(error) => return wait(format!("cannot see who holds it: {error}")),
            Ok(holders) => {
                if let Some(holder) = holders.first() {
                    return wait(format!("{} (pid {}) holds it", holder.name, holder.pid));
                }
            }
        }
    }
    if step.step == StepKind::RestartService && !step.always && gate.asks(&step.check, step.timeout().0) {
        return skipped("it runs");
    }
    if doing.past().is_some_and(crate::fault::playbook::Past::repair_began) {
        // The first repair may have helped; those after it belong to it.
        return carry_out(doing, gate, Beginning::default());
    }
    match before(doing, eyes)? {
        Err(end) => Ok(end),
        Ok(marks) => carry_out(doing, gate, Beginning { marks: Some(marks), ..Beginning::default() }),
    }
}

fn carry_out(doing: &Doing<'_>, gate: &mut Gate<'_>, beginning: Beginning) -> Result<End, Held> {
    match doing.step.step {
        StepKind::RestartPod => evict::restart_pod(doing, gate, beginning),
        _ => doing.run(gate, &doing.step.command, beginning),
    }
}

/// Restarts the machine. Its end is another boot; it is asked for once an attempt.
fn reboot(doing: &Doing<'_>, gate: &mut Gate<'_>, eyes: &dyn Eyes) -> Result<End, Held> {
    let began = doing.past().and_then(|past| past.began.get(doing.index)?.as_ref());
    if let Some(began) = began.filter(|began| !began.ended) {
        let limit = doing.step.timeout();
        if began.boot_id != eyes.boot_id() {
            return done("the machine restarted");
        }
        if began.ago_s < limit.as_secs_f64() {
            return Ok(End::Away(format!("asked for {:.0} s ago; waits for the machine to come back", began.ago_s)));
        }
        return failed(format!("asked for {:.0} s ago, and the machine did not restart", began.ago_s));
    }
    if doing.past().is_some_and(|past| past.boot_id != eyes.boot_id()) {
        return skipped("the machine restarted meanwhile");
    }
    match eyes.holders(None) {
        Err(error) => return wait(format!("cannot see who holds GPUs: {error}")),
        Ok(holders) => {
            if let Some(holder) = holders.first() {
                return wait(format!("{} (pid {}) holds a GPU", holder.name, holder.pid));
            }
        }
    }
    match before(doing, eyes)? {
        Err(end) => Ok(end),
        Ok(marks) => doing.run(gate, &doing.step.command, Beginning { marks: Some(marks), ..Beginning::default() }),
    }
}
