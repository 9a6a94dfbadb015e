//! The gate: the one way by which anything is changed.
//!
//! A step begins with [`Gate::begin`], which asks the rules again at that moment and has the
//! journal know of it; it gives a [`Pass`]. Without a pass there is no [`Gate::change`]. In a
//! dry run a pass changes nothing: each change only says what it would do.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, Signal};

use super::change::{Change, Did, words};
use super::command;
use super::hands::{Hands, Lease, LeaseHeld};
use super::journal::{Journal, JournalError};
use super::record::Event;
use super::{Eyes, Holder, post};
use crate::fault::playbook::{
    History, Isolation, Mark, Moved, Policy, Standing, StepKind, StepState, Task, hours_refuse,
};

/// How long the kill switch of a cluster that is away is waited for.
const STOP_PATIENCE: Duration = Duration::from_secs(75);

/// Why a step is not begun now. What was begun goes on with the next run.
#[derive(Debug)]
pub enum Held {
    /// The kill switch is thrown.
    Stopped(String),
    /// A signal asked for the end.
    Interrupted,
    /// The run's time is over.
    Late,
    /// No work may be disturbed at this hour.
    Hours(String),
    /// The journal can't be written: nothing more is done.
    Journal(JournalError),
    /// The cluster can't be asked whether anything may be done.
    Blind(String),
    /// Another run has taken over.
    Lost(String),
}

impl Held {
    /// For people.
    pub fn why(&self) -> String {
        match self {
            Held::Stopped(why) | Held::Hours(why) | Held::Blind(why) | Held::Lost(why) => why.clone(),
            Held::Interrupted => "interrupted; the next run goes on".to_owned(),
            Held::Late => "this run's time is over; the next one goes on".to_owned(),
            Held::Journal(error) => error.to_string(),
        }
    }
}

/// The right to change something for one step. Only [`Gate::begin`] gives it.
#[derive(Debug)]
pub struct Pass {
    incident: String,
    attempt: u32,
    step: usize,
    kind: StepKind,
    /// There is nothing to write an end to: a dry run.
    dry: bool,
}

/// What is to be begun.
#[derive(Debug, Clone, Default)]
pub struct Beginning {
    /// It isolates; this takes it back.
    pub isolation: Option<Isolation>,
    /// The log before a repair.
    pub marks: Option<Vec<Mark>>,
    /// Jobs whose pods are moved.
    pub moved: Vec<Moved>,
}

/// The gate. See the head of this file.
pub struct Gate<'g> {
    /// None: a dry run.
    journal: Option<Journal>,
    directory: PathBuf,
    policy: &'g Policy,
    eyes: &'g dyn Eyes,
    stop: &'g AtomicBool,
    until: Option<Instant>,
    /// The cluster, where there is one.
    hands: Option<Rc<Hands>>,
    /// What must be held meanwhile.
    lease: Option<&'g Lease>,
}

impl std::fmt::Debug for Gate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("journal", &self.journal).finish_non_exhaustive()
    }
}

impl<'g> Gate<'g> {
    /// A gate that lets nothing pass, and says what would.
    pub fn dry(directory: &Path, policy: &'g Policy, eyes: &'g dyn Eyes, stop: &'g AtomicBool) -> Gate<'g> {
        Gate {
            journal: None,
            directory: directory.to_owned(),
            policy,
            eyes,
            stop,
            until: None,
            hands: None,
            lease: None,
        }
    }

    /// A gate that lets pass what the rules allow, until a moment.
    pub fn open(
        journal: Journal,
        directory: &Path,
        policy: &'g Policy,
        eyes: &'g dyn Eyes,
        stop: &'g AtomicBool,
        until: Option<Instant>,
    ) -> Gate<'g> {
        let directory = directory.to_owned();
        Gate { journal: Some(journal), directory, policy, eyes, stop, until, hands: None, lease: None }
    }

    /// The same, with hands in a cluster.
    pub fn in_cluster(mut self, hands: Option<Rc<Hands>>) -> Gate<'g> {
        self.hands = hands;
        self
    }

    /// The same, for as long as a lease is held.
    pub fn under(mut self, lease: Option<&'g Lease>) -> Gate<'g> {
        self.lease = lease;
        self
    }

    /// The hands in a cluster, for looking.
    pub fn hands(&self) -> Option<Rc<Hands>> {
        self.hands.clone()
    }

    /// The rules.
    pub fn policy(&self) -> &'g Policy {
        self.policy
    }

    /// Who acts, for others to see.
    pub fn who(&self) -> String {
        self.journal.as_ref().map_or_else(|| "aictl".to_owned(), |journal| journal.author().who.clone())
    }

    /// Whether nothing is changed.
    pub fn is_dry(&self) -> bool {
        self.journal.is_none()
    }

    /// How everything stands by the journal.
    pub fn history(&self) -> History {
        let records = self.journal.as_ref().map_or(&[][..], Journal::records);
        super::history(records, &self.eyes.clock(), self.eyes.boot_id())
    }

    /// Whether anything may be done at this moment.
    ///
    /// # Errors
    /// If not: why.
    pub fn check(&self, kind: Option<StepKind>, timeout: Duration) -> Result<(), Held> {
        self.check_with(kind, timeout, false)
    }

    fn check_with(&self, kind: Option<StepKind>, timeout: Duration, now: bool) -> Result<(), Held> {
        if Path::new(&self.policy.kill_switch).exists() {
            return Err(Held::Stopped(format!("{} is there", self.policy.kill_switch)));
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Held::Interrupted);
        }
        // A step that could not end in time is not begun: a reset is not cut off for a timetable.
        if self.until.is_some_and(|until| Instant::now() + timeout > until) {
            return Err(Held::Late);
        }
        if kind.is_some_and(StepKind::disrupts)
            && let Some(refusal) = hours_refuse(self.policy, &self.eyes.clock())
        {
            return Err(Held::Hours(refusal.why));
        }
        // Last, since it may wait for a server that is away: a dry run does not.
        let Some(hands) = self.hands.as_ref().filter(|_| !self.is_dry()) else { return Ok(()) };
        match hands.is_stopped(now, STOP_PATIENCE) {
            Ok(false) => {}
            Ok(true) => {
                return Err(Held::Stopped(format!("{}/{} is there", hands.namespace(), super::hands::STOP)));
            }
            // Who can't see whether he may, may not.
            Err(error) => return Err(Held::Blind(words(&error))),
        }
        match self.lease.map(|lease| hands.keep(lease)) {
            Some(LeaseHeld::Lost(why)) => Err(Held::Lost(why)),
            _ => Ok(()),
        }
    }

    /// Begins a step: asks the rules, then has the journal know.
    ///
    /// # Errors
    /// If it may not begin now, or the journal can't be written.
    pub fn begin(
        &mut self,
        incident: &str,
        attempt: u32,
        step: usize,
        kind: StepKind,
        timeout: Duration,
        beginning: Beginning,
    ) -> Result<Pass, Held> {
        self.check_with(Some(kind), timeout, true)?;
        let Beginning { isolation, marks, moved } = beginning;
        self.write(Event::Began { incident: incident.to_owned(), attempt, step, kind, isolation, marks, moved })?;
        Ok(Pass { incident: incident.to_owned(), attempt, step, kind, dry: self.is_dry() })
    }

    /// Ends a step that was begun.
    ///
    /// # Errors
    /// If the journal can't be written.
    pub fn end(&mut self, pass: Pass, state: StepState, why: &str, marks: Option<Vec<Mark>>) -> Result<(), Held> {
        let Pass { incident, attempt, step, kind, dry } = pass;
        if dry {
            return Ok(());
        }
        self.write(Event::Ended { incident, attempt, step, kind, state, why: why.to_owned(), marks })
    }

    /// Ends a step for which nothing was to be changed.
    ///
    /// # Errors
    /// If the journal can't be written.
    pub fn settle(
        &mut self,
        place: (&str, u32, usize),
        kind: StepKind,
        state: StepState,
        why: &str,
    ) -> Result<(), Held> {
        let (incident, attempt, step) = (place.0.to_owned(), place.1, place.2);
        self.write(Event::Ended { incident, attempt, step, kind, state, why: why.to_owned(), marks: None })
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// If nothing may be begun now, or the journal can't be written.
    pub fn opened(&mut self, incident: &crate::fault::playbook::Incident) -> Result<(), Held> {
        self.check(None, Duration::ZERO)?;
        self.write(Event::Opened {
            incident: incident.id.clone(),
            attempt: incident.attempt,
            rule: incident.rule.clone(),
            finding: Box::new(incident.finding.clone()),
            tasks: incident.steps.iter().map(Task::from).collect(),
        })
    }

    /// Adds a step to an attempt.
    ///
    /// # Errors
    /// If the journal can't be written.
    pub fn added(&mut self, incident: &str, task: Task) -> Result<(), Held> {
        self.write(Event::Added { incident: incident.to_owned(), task: Box::new(task) })
    }

    /// Ends an attempt.
    ///
    /// # Errors
    /// If the journal can't be written.
    pub fn closed(&mut self, incident: &str, attempt: u32, standing: Standing, why: &str) -> Result<(), Held> {
        self.write(Event::Closed { incident: incident.to_owned(), attempt, standing, why: why.to_owned() })
    }

    /// Remembers the first signal of a soft fault.
    ///
    /// # Errors
    /// If the journal can't be written.
    pub fn seen(&mut self, fault: &str, device: crate::fault::playbook::DeviceKey) -> Result<(), Held> {
        self.write(Event::Seen { fault: fault.to_owned(), device })
    }

    fn write(&mut self, event: Event) -> Result<(), Held> {
        let clock = self.eyes.clock();
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.append(event, &clock).map_err(Held::Journal)
    }

    /// Waits for a command of an earlier run that is still at work; false if it outlasts `timeout`.
    pub fn wait_for_commands(&self, timeout: Duration) -> bool {
        if self.is_dry() {
            return true;
        }
        let Ok(file) = self.command_lock() else { return false };
        let since = Instant::now();
        loop {
            if file.try_lock().is_ok() {
                return true;
            }
            if since.elapsed() >= timeout || self.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks a command that changes nothing; false, too, where it can't be asked, and in a dry run.
    pub fn asks(&self, words: &[String], timeout: Duration) -> bool {
        if words.is_empty() || self.is_dry() {
            return false;
        }
        let null = File::open("/dev/null").map_err(|error| error.to_string());
        null.and_then(|null| command::run(words, &[], timeout, null)).is_ok_and(|outcome| outcome.fine())
    }

    /// Open in every command as its stdin, and locked as long as one of them runs.
    fn command_lock(&self) -> std::io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).open(self.directory.join("command.lock"))
    }

    /// Changes something, or in a dry run says what it would change.
    ///
    /// # Errors
    /// If the kill switch was thrown since the step began, or a signal came.
    pub fn change(&mut self, pass: &Pass, change: &Change<'_>) -> Result<Did, Held> {
        if pass.dry || self.is_dry() {
            return Ok(Did::Would(change.describe()));
        }
        self.check_with(None, Duration::ZERO, true)?;
        Ok(self.perform(change))
    }

    fn perform(&self, change: &Change<'_>) -> Did {
        match change {
            Change::Run { words, environment, timeout } => {
                let lock = self.command_lock().inspect(|file| {
                    // A command that was given up on may have it still; steps ask before they begin.
                    let _ = file.try_lock();
                });
                match lock
                    .map_err(|error| error.to_string())
                    .and_then(|held| command::run(words, environment, *timeout, held))
                {
                    Ok(outcome) => Did::Ran(outcome),
                    Err(error) => Did::Failed(error),
                }
            }
            Change::Signal { holder, kill } => match self.signal(holder, *kill) {
                Ok(()) => Did::Done,
                Err(error) => Did::Failed(error),
            },
            Change::Mark { name, text } => {
                let path = self.directory.join(name);
                let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
                match parent.and_then(|()| fs::write(&path, text)) {
                    Ok(()) => Did::Done,
                    Err(error) => Did::Failed(format!("cannot write {}: {error}", path.display())),
                }
            }
            Change::Unmark { name } => match fs::remove_file(self.directory.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Did::Failed(error.to_string()),
                _ => Did::Done,
            },
            Change::Cluster { change, timeout } => match &self.hands {
                Some(hands) => change.perform(hands, *timeout),
                None => Did::Later("no cluster is connected: run with --cluster".to_owned()),
            },
            Change::Post { url, token, body, timeout } => match post::post(url, *token, body, *timeout) {
                Ok(()) => Did::Done,
                Err(error) => Did::Failed(error),
            },
        }
    }

    /// Signals through a handle of the process, after it was seen once more to be the same.
    fn signal(&self, holder: &Holder, kill: bool) -> Result<(), String> {
        let pid = i32::try_from(holder.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("no process {}", holder.pid))?;
        let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(format!("pid {}: {error}", holder.pid)),
        };
        if !self.eyes.holders(None)?.contains(holder) {
            return Ok(());
        }
        let signal = if kill { Signal::KILL } else { Signal::TERM };
        match rustix::process::pidfd_send_signal(handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(format!("pid {}: {error}", holder.pid)),
        }
    }
}
