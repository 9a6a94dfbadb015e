//! From anywhere, for the nodes of a cluster: what its API can do is done for each node on which
//! something was found; what only the machine itself can do is left to the node's own agent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::error::Kind;
use super::once::{Report, journal_trouble, report};
use super::sight::{self, Pretend};
use super::{Done, Error, Given, Settings, who};
use crate::act::{self, Author, Eyes, Gate, Hands, Holder, Journal, Lease, LeaseError, Look, Run, Sheet};
use crate::fault::playbook::{Clock, Facts, History, Plan, Playbook, Reach, plan};
use crate::fault::{Catalogue, Severity};

/// One central run at a time.
const LEASE: &str = "aictl-remediate";
/// A run that was killed keeps others out for so long.
const LASTS: Duration = Duration::from_secs(60);
/// How long the server is waited for at the start.
const ASKING: Duration = Duration::from_secs(30);

/// All that a central run needs.
pub struct Central<'c> {
    pub playbook: &'c Playbook,
    pub catalogue: &'c Catalogue,
    pub hands: Rc<Hands>,
    /// How `aictl diagnose` is told which nodes of which cluster.
    pub chosen: Vec<OsString>,
    pub connection: Vec<OsString>,
    pub findings: Option<&'c Given>,
    pub pretend: &'c Pretend,
    pub zone: TimeZone,
    pub deadline: Duration,
    pub wait: Duration,
    pub stop: &'c AtomicBool,
}

/// What is seen of a node from afar.
struct FarSight<'c> {
    central: &'c Central<'c>,
    node: String,
    boot_id: String,
    /// The API server's time when this run began, and when that was.
    began: (Timestamp, Instant),
}

impl Eyes for FarSight<'_> {
    fn node(&self) -> &str {
        &self.node
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn reach(&self) -> Reach {
        Reach::Central
    }

    /// The server's clock, also for what counts from a boot: runs follow each other on different
    /// machines, which have none in common but that.
    fn clock(&self) -> Clock {
        let gone = SignedDuration::try_from(self.began.1.elapsed()).unwrap_or_default();
        let now = self.began.0.checked_add(gone).unwrap_or(self.began.0);
        let up_s = now.as_millisecond() as f64 / 1000.0;
        Clock { now, local: now.to_zoned(self.central.zone.clone()).datetime(), up_s }
    }

    fn look(&self) -> Result<Look, String> {
        let looks = self.central.look(&[OsString::from(&self.node)])?;
        let found = looks.into_iter().find(|look| look.node.as_deref() == Some(&self.node));
        found.ok_or_else(|| format!("nothing is known of node {}", self.node))
    }

    fn holders(&self, _pci: Option<&str>) -> Result<Vec<Holder>, String> {
        Err("only the node itself sees who holds a GPU".to_owned())
    }
}

impl Central<'_> {
    fn look(&self, chosen: &[OsString]) -> Result<Vec<Look>, String> {
        let mut arguments = chosen.to_vec();
        arguments.extend(self.connection.iter().cloned());
        sight::fleet(&sight::ask(self.pretend, &arguments)?)
    }

    fn first_look(&self) -> Result<Vec<Look>, Error> {
        let Some(given) = self.findings else {
            let blind = |error: String| Error::new(Kind::Blind, format!("cannot look for faults: {error}"));
            return self.look(&self.chosen).map_err(blind);
        };
        sight::fleet(&given.text()?).map_err(|error| given.wrong(&error))
    }

    /// Plans, and in earnest does it.
    pub fn run(&self, apply: bool, settings: &Settings) -> Done {
        let began = (self.hands.server_time(ASKING)?, Instant::now());
        let lease = match apply {
            true => Some(self.lease()?),
            false => None,
        };
        let said = self.under(lease.as_ref(), began);
        if let Some(lease) = &lease {
            self.hands.give_back(lease);
        }
        said?.show(apply, settings)
    }

    fn lease(&self) -> Result<Lease, Error> {
        // Another run by the same user on the same machine is another run.
        let holder = format!("{} on {}", who(), crate::host::machine::node_name());
        let lasts = self.pretend.lease_s.map_or(LASTS, Duration::from_secs);
        self.hands.lease(LEASE, &holder, lasts, self.wait).map_err(|error| match error {
            LeaseError::Cluster(error) => error.into(),
            held => {
                let what = format!("another run is at work: {held}");
                Error::new(Kind::Failed, what).hint("wait for it with --wait 10m")
            }
        })
    }

    fn under(&self, lease: Option<&Lease>, began: (Timestamp, Instant)) -> Result<Report, Error> {
        let looks = self.first_look()?;
        let journals: BTreeMap<String, String> = Sheet::all(&self.hands)?.into_iter().collect();
        let mut said = Report::nothing();
        for look in looks {
            if self.stop.load(Ordering::Relaxed) || began.1.elapsed() >= self.deadline {
                said.hold("interrupted, or this run's time is over; the next one goes on");
                break;
            }
            let Some(node) = look.node.clone() else { continue };
            let found = look.findings.iter().any(|finding| finding.severity > Severity::Info);
            if found || journals.contains_key(&node) {
                said.merge(&node, self.one(&look, &node, lease, began)?);
            } else {
                said.saw(&look);
            }
        }
        Ok(said)
    }

    fn one(
        &self,
        look: &Look,
        node: &str,
        lease: Option<&Lease>,
        began: (Timestamp, Instant),
    ) -> Result<Report, Error> {
        let policy = &self.playbook.policy;
        let eyes =
            FarSight { central: self, node: node.to_owned(), boot_id: look.boot_id.clone().unwrap_or_default(), began };
        let sheet = Sheet::open(Rc::clone(&self.hands), node)?;
        let author = Author { node: node.to_owned(), boot_id: eyes.boot_id.clone(), who: who() };
        let journal = Journal::on(sheet, author).map_err(|error| Error::from(journal_trouble(error)))?;
        let history = act::history(journal.records(), &eyes.clock(), &eyes.boot_id);
        let mut plan = self.plan(look, &eyes, &history)?;
        let nowhere = Path::new("/nonexistent");
        let gate = match lease {
            Some(_) => Gate::open(journal, nowhere, policy, &eyes, self.stop, Some(began.1 + self.deadline)),
            None => Gate::dry(nowhere, policy, &eyes, self.stop),
        };
        let mut run = Run::new(gate.in_cluster(Some(Rc::clone(&self.hands))).under(lease), policy, &eyes);
        let held = run.carry_out(&mut plan);
        let touched = run.touched().to_vec();
        let history = if lease.is_some() { run.history() } else { history };
        report(look, plan, &history, touched, held).map_err(Error::from)
    }

    /// Takes back what a central run did for an incident.
    pub fn undo(&self, wanted: Option<&str>, dry: bool, settings: &Settings) -> Done {
        let began = (self.hands.server_time(ASKING)?, Instant::now());
        let lease = if dry { None } else { Some(self.lease()?) };
        let done = self.undo_under(wanted, lease.as_ref(), began, settings);
        if let Some(lease) = &lease {
            self.hands.give_back(lease);
        }
        done
    }

    fn undo_under(
        &self,
        wanted: Option<&str>,
        lease: Option<&Lease>,
        began: (Timestamp, Instant),
        settings: &Settings,
    ) -> Done {
        let mut eyes = FarSight { central: self, node: String::new(), boot_id: String::new(), began };
        let records = records(&self.hands)?;
        let history = act::history(&records, &eyes.clock(), "");
        let Some(past) = super::undo::choose(&history.incidents, wanted)? else {
            settings.ui.note("nothing to undo");
            return Ok(super::DONE);
        };
        eyes.node.clone_from(&past.node);
        eyes.boot_id.clone_from(&past.boot_id);
        let policy = &self.playbook.policy;
        let nowhere = Path::new("/nonexistent");
        let gate = match lease {
            None => Gate::dry(nowhere, policy, &eyes, self.stop),
            Some(_) => {
                let sheet = Sheet::open(Rc::clone(&self.hands), &past.node)?;
                let author = Author { node: past.node.clone(), boot_id: past.boot_id.clone(), who: who() };
                let journal = Journal::on(sheet, author).map_err(|error| Error::from(journal_trouble(error)))?;
                Gate::open(journal, nowhere, policy, &eyes, self.stop, None)
            }
        };
        let run = Run::new(gate.in_cluster(Some(Rc::clone(&self.hands))).under(lease), policy, &eyes);
        super::undo::say(run, past, lease.is_none(), settings)
    }

    fn plan(&self, look: &Look, eyes: &FarSight<'_>, history: &History) -> Result<Plan, Error> {
        // Asked for each node anew: this run itself takes nodes out of service.
        let fleet = self.hands.fleet(eyes.clock().now, ASKING)?;
        let stopped = self.hands.is_stopped(true, ASKING)?;
        Ok(plan(&Facts {
            catalogue: self.catalogue,
            playbook: self.playbook,
            node: &eyes.node,
            boot_id: &eyes.boot_id,
            found_on: (look.node.as_deref(), look.boot_id.as_deref()),
            findings: &look.findings,
            checks: &look.checks,
            history,
            clock: &eyes.clock(),
            stopped: stopped || Path::new(&self.playbook.policy.kill_switch).exists(),
            gpus: &[],
            reach: Reach::Central,
            fleet: Some(&fleet),
        }))
    }
}

/// All records of all journals in a cluster, by time.
pub fn records(hands: &Hands) -> Result<Vec<act::Record>, Error> {
    let mut records = Vec::new();
    for (node, text) in Sheet::all(hands)? {
        let of_node = Journal::of_text(&text, &format!("the journal of node {node}"));
        records.extend(of_node.map_err(|error| Error::from(journal_trouble(error)))?);
    }
    records.sort_by_key(|record| record.at);
    Ok(records)
}
