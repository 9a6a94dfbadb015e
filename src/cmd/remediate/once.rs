//! One look, one plan, and in earnest what follows from it.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::super::error::Kind;
use super::super::recording;
use super::sight::{self, Sight};
use super::{BLIND, DONE, Done, Error, FOUND, Given, OutputFormat, Settings, render, who};
use crate::act::{self, Eyes, Gate, Hands, Held, Journal, Lock, LockError, Look, Run};
use crate::fault::playbook::{Facts, Fleet, History, PLAN_SCHEMA, Plan, Playbook, Standing, plan};
use crate::fault::{Catalogue, Severity, State};

/// All that a run needs.
#[derive(Debug)]
pub struct Once<'o> {
    pub playbook: &'o Playbook,
    pub catalogue: &'o Catalogue,
    pub sight: &'o Sight,
    pub directory: &'o Path,
    pub findings: Option<&'o Given>,
    pub kernel_log: Option<&'o Path>,
    /// The saved log stands in for this machine's: all else is looked at here.
    pub local: bool,
    pub deadline: Duration,
    pub wait: Duration,
    pub stop: &'o AtomicBool,
    /// The cluster, where one was asked for.
    pub hands: Option<Rc<Hands>>,
}

/// How long a cluster that is away is waited for before anything is planned.
const ASKING: Duration = Duration::from_secs(5);

/// What a run said.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The plan and what became of it.
    plan: Plan,
    /// Incidents for which something was done or tried.
    touched: Vec<String>,
    /// Why it stopped early.
    held: Option<String>,
    code: u8,
}

/// An error, and whether trying again makes sense.
#[derive(Debug)]
pub struct Trouble {
    pub error: Error,
    for_good: bool,
}

impl Trouble {
    pub fn is_for_good(&self) -> bool {
        self.for_good
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble { error, for_good: false }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Error {
        trouble.error
    }
}

/// The journal can't be used: nothing is done without it.
pub fn journal_trouble(error: act::JournalError) -> Trouble {
    let hint = match &error {
        act::JournalError::Damaged { .. } => {
            "look at what was done by hand, then move the file away; aictl begins a new one"
        }
        act::JournalError::Io { .. } => "without a journal nothing is done; choose another place with --state-dir",
    };
    let error = match error {
        act::JournalError::Io { what, path, source } => Error::failed(format!("cannot {what} {path}"), source),
        damaged => Error::new(Kind::Failed, damaged.to_string()),
    };
    Trouble { error: error.hint(hint), for_good: true }
}

pub fn lock_trouble(error: LockError) -> Trouble {
    let error = match error {
        LockError::Io { path, source } => Error::failed(format!("cannot lock {path}"), source),
        held => Error::new(Kind::Failed, held.to_string()).hint("wait for it with --wait 10m"),
    };
    error.into()
}

fn claim_trouble(error: act::ClaimError) -> Trouble {
    let error = match error {
        act::ClaimError::Io { path, source } => Error::failed(format!("cannot write {path}"), source),
        elsewhere => Error::new(Kind::Failed, elsewhere.to_string())
            .hint("use that directory; if nobody does any more, move it away first"),
    };
    error.into()
}

impl Once<'_> {
    /// Says what would be done.
    pub fn dry_run(&self) -> Result<Report, Trouble> {
        let look = self.look()?;
        let records = Journal::read(self.directory).map_err(journal_trouble)?;
        let history = act::history(&records, &self.sight.clock(), self.sight.boot_id());
        let mut plan = self.plan(&look, &history);
        let gate = Gate::dry(self.directory, &self.playbook.policy, self.sight, self.stop);
        let mut run = Run::new(gate.in_cluster(self.hands.clone()), &self.playbook.policy, self.sight);
        let held = run.carry_out(&mut plan);
        report(&look, plan, &history, Vec::new(), held)
    }

    /// Does it.
    pub fn apply(&self) -> Result<Report, Trouble> {
        self.apply_to(|| self.look())
    }

    /// Does it for what the kernel's log has just told of.
    pub fn apply_at_once(&self) -> Result<Report, Trouble> {
        let blind = |error: String| Error::new(Kind::Blind, format!("cannot look at the kernel's log: {error}"));
        self.apply_to(|| self.sight.glance().map_err(blind))
    }

    fn apply_to(&self, look: impl Fn() -> Result<Look, Error>) -> Result<Report, Trouble> {
        let until = Instant::now() + self.deadline;
        let stop = || self.stop.load(std::sync::atomic::Ordering::Relaxed);
        let _lock = Lock::take(self.directory, self.wait, stop).map_err(lock_trouble)?;
        act::claim(self.sight.root(), self.directory).map_err(claim_trouble)?;
        let author =
            act::Author { node: self.sight.node().to_owned(), boot_id: self.sight.boot_id().to_owned(), who: who() };
        let journal = Journal::open(self.directory, author).map_err(journal_trouble)?;
        let look = look()?;
        let history = act::history(journal.records(), &self.sight.clock(), self.sight.boot_id());
        let mut plan = self.plan(&look, &history);
        let policy = &self.playbook.policy;
        let gate = Gate::open(journal, self.directory, policy, self.sight, self.stop, Some(until));
        let mut run = Run::new(gate.in_cluster(self.hands.clone()), policy, self.sight);
        let held = run.carry_out(&mut plan);
        let (touched, history) = (run.touched().to_vec(), run.history());
        report(&look, plan, &history, touched, held)
    }

    fn look(&self) -> Result<Look, Error> {
        let blind = |error: String| Error::new(Kind::Blind, format!("cannot look for faults: {error}"));
        if let Some(log) = self.kernel_log {
            // One that is not there is the same error as for `aictl diagnose`.
            if log != Path::new("-") {
                recording::open(log)?;
            }
            let mut look = self.sight.look_at_log(log, self.local).map_err(blind)?;
            // What if it were here and now? Nothing is done about a log.
            look.node = Some(self.sight.node().to_owned());
            look.boot_id = Some(self.sight.boot_id().to_owned());
            return Ok(look);
        }
        let Some(given) = self.findings else { return self.sight.look().map_err(blind) };
        sight::parse(&given.text()?).map_err(|error| given.wrong(&error))
    }

    /// The other nodes and whether the kill switch is thrown, if anything may be done at all. What
    /// can't be seen here is asked again by the gate, which then waits.
    fn fleet(&self, look: &Look, history: &History) -> (Option<Fleet>, bool) {
        let found = look.findings.iter().any(|finding| finding.severity > Severity::Info);
        let Some(hands) = self.hands.as_ref().filter(|_| found || history.open().next().is_some()) else {
            return (None, false);
        };
        let fleet = hands.server_time(ASKING).and_then(|now| hands.fleet(now, ASKING));
        (fleet.ok(), hands.is_stopped(true, ASKING).unwrap_or(false))
    }

    fn plan(&self, look: &Look, history: &History) -> Plan {
        let (fleet, stopped) = self.fleet(look, history);
        plan(&Facts {
            catalogue: self.catalogue,
            playbook: self.playbook,
            node: self.sight.node(),
            boot_id: self.sight.boot_id(),
            found_on: (look.node.as_deref(), look.boot_id.as_deref()),
            findings: &look.findings,
            checks: &look.checks,
            history,
            clock: &self.sight.clock(),
            stopped: stopped || Path::new(&self.playbook.policy.kill_switch).exists(),
            gpus: &self.sight.gpus(look),
            reach: self.sight.reach(),
            fleet: fleet.as_ref(),
        })
    }
}

/// What a run says.
pub fn report(
    look: &Look,
    plan: Plan,
    history: &History,
    touched: Vec<String>,
    held: Option<Held>,
) -> Result<Report, Trouble> {
    let held = match held {
        Some(Held::Journal(error)) => return Err(journal_trouble(error)),
        held => held.map(|held| held.why()),
    };
    let stopped = plan.refused.iter().any(|refused| refused.rule == "kill_switch");
    let found = look.findings.iter().any(|finding| finding.severity > Severity::Info);
    let open = history.incidents.iter().any(|past| match past.standing {
        Standing::Open | Standing::Failed => true,
        Standing::HandedOver => past.isolation.is_some(),
        _ => false,
    });
    let left = plan.incidents.iter().any(|incident| incident.state != Standing::Restored);
    let refused = plan.refused.iter().any(|refused| refused.fault.is_some());
    let blind = look.checks.iter().any(|check| check.state == State::Blind);
    let code = match (left || refused || open || (stopped && found), blind) {
        (true, _) => FOUND,
        (false, true) => BLIND,
        (false, false) => DONE,
    };
    Ok(Report { plan, touched, held, code })
}

impl Report {
    /// Of no node yet.
    pub fn nothing() -> Report {
        let plan = Plan { schema: PLAN_SCHEMA, incidents: Vec::new(), refused: Vec::new() };
        Report { plan, touched: Vec::new(), held: None, code: DONE }
    }

    /// Why it stopped early.
    pub fn hold(&mut self, why: &str) {
        self.held = Some(why.to_owned());
        self.code = FOUND;
    }

    /// A node that was looked at, and on which nothing is to be done.
    pub fn saw(&mut self, look: &Look) {
        if self.code == DONE && look.checks.iter().any(|check| check.state == State::Blind) {
            self.code = BLIND;
        }
    }

    /// Adds what a run said of one node.
    pub fn merge(&mut self, node: &str, of_node: Report) {
        let Report { plan, touched, held, code } = of_node;
        self.plan.incidents.extend(plan.incidents);
        for mut refused in plan.refused {
            // The kill switch stops all; once is enough.
            if refused.fault.is_some() {
                refused.why = format!("{node}: {}", refused.why);
            }
            if !self.plan.refused.contains(&refused) {
                self.plan.refused.push(refused);
            }
        }
        self.touched.extend(touched);
        self.held = self.held.take().or(held);
        self.code = match (self.code, code) {
            (FOUND, _) | (_, FOUND) => FOUND,
            (BLIND, _) | (_, BLIND) => BLIND,
            _ => DONE,
        };
    }

    /// Whether anything was done or tried.
    pub fn did_something(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Prints it. In earnest, with nothing done, nothing is said.
    pub fn show(&self, apply: bool, settings: &Settings) -> Done {
        let ui = &settings.ui;
        let quiet = apply && !self.did_something() && ui.verbose() == 0;
        let said = match settings.output {
            OutputFormat::Json => ui.json(&self.plan),
            OutputFormat::Yaml => ui.yaml(&self.plan),
            _ if quiet => Ok(()),
            OutputFormat::Name if self.plan.incidents.is_empty() => Ok(()),
            OutputFormat::Name => {
                let ids: Vec<&str> = self.plan.incidents.iter().map(|incident| incident.id.as_str()).collect();
                ui.print(&ids.join("\n"))
            }
            OutputFormat::Table | OutputFormat::Wide => ui.print(&render::plan(&self.plan, apply, settings)),
        }
        .map_err(Error::output);
        let code = Error::unless_closed(said, self.code)?;
        if let Some(held) = self.held.as_ref().filter(|_| !quiet) {
            ui.warn(held);
        }
        Ok(code)
    }
}
