//! Carries out what was decided, node by node, through the gate.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{Journals, clock};
use crate::act::{Author, Errand, Eyes, Gate, Hands, Held, Holder, Journal, Lock, LockError, Look, Way};
use crate::cluster;
use crate::cmd::error::{Error, Kind};
use crate::cmd::interrupt::Interrupt;
use crate::cmd::remediate::{NAMESPACE, journal_trouble, who};
use crate::fault::playbook::{Clock, History, Policy, StepState, too_many_nodes};
use crate::queue::Target;
use crate::queue::sync::{CORDON, DRAIN, Order, Row, Sheet, mark};

/// How long a cluster that is away is waited for.
const ASKING: Duration = Duration::from_secs(30);
/// In the journal: on whose behalf.
const RULE: &str = "queue-sync";
/// The incident of a CLOUD node that was started.
pub const RESUME: &str = "queue-elastic-resume";
/// The incident of one that was stopped.
pub const SUSPEND: &str = "queue-elastic-suspend";

/// All that carrying out needs.
pub struct Doing<'d> {
    slurm: &'d Target,
    policy: &'d Policy,
    directory: &'d Path,
    stop: &'d AtomicBool,
    hands: Option<Rc<Hands>>,
    _lock: Lock,
}

/// What an errand sees of its node: the clocks. It looks for no faults.
struct Glance {
    node: String,
    boot_id: String,
}

impl Eyes for Glance {
    fn node(&self) -> &str {
        &self.node
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn clock(&self) -> Clock {
        clock()
    }

    fn look(&self) -> Result<Look, String> {
        Err("this command does not look for faults".to_owned())
    }

    fn holders(&self, _pci: Option<&str>) -> Result<Vec<Holder>, String> {
        Err("only the node itself sees who holds a GPU".to_owned())
    }
}

/// One change.
struct Change<'c> {
    node: &'c str,
    id: &'c str,
    why: &'c str,
    way: Way<'c>,
    how: How<'c>,
}

enum How<'c> {
    /// Out of service; these words take it back.
    Out(&'c [String]),
    /// What was taken out.
    Back,
    /// Something without an end of its own.
    Once,
}

impl<'d> Doing<'d> {
    /// Takes the lock. `namespace` is aictl's own in the cluster, where the kill switch is.
    pub fn new(
        slurm: &'d Target,
        options: &cluster::Options,
        namespace: Option<&str>,
        policy: &'d Policy,
        directory: &'d Path,
        interrupt: &'d Interrupt,
    ) -> Result<Doing<'d>, Error> {
        let hands = Hands::connect(options, namespace.unwrap_or(NAMESPACE), interrupt.shared())?;
        Ok(Doing { hands: Some(Rc::new(hands)), ..Doing::without_cluster(slurm, policy, directory, interrupt)? })
    }

    /// The same where no cluster takes part.
    pub fn without_cluster(
        slurm: &'d Target,
        policy: &'d Policy,
        directory: &'d Path,
        interrupt: &'d Interrupt,
    ) -> Result<Doing<'d>, Error> {
        let lock = Lock::take(directory, Duration::ZERO, || interrupt.is_set()).map_err(|error| match error {
            LockError::Held(_) => Error::new(Kind::Failed, error.to_string()).hint("wait for its end"),
            LockError::Io { path, source } => {
                Error::failed(format!("cannot lock {path}"), source).hint("choose another place with --state-dir")
            }
        })?;
        Ok(Doing { slurm, policy, directory, stop: interrupt.flag(), hands: None, _lock: lock })
    }

    /// Mirrors what a sheet says is to be mirrored, and writes into it what became of it.
    pub fn mirror(&mut self, sheet: &mut Sheet) -> Result<(), Error> {
        let journals = Journals { directory: self.directory };
        // What goes back into service makes room for what goes out.
        let (mut back, mut out): (Vec<&mut Row>, Vec<&mut Row>) =
            sheet.nodes.iter_mut().partition(|row| !row.order.is_some_and(Order::takes_out));
        for row in back.iter_mut().chain(out.iter_mut()) {
            if is_stale(row, &journals) {
                self.forget(&row.node)?;
            }
            let Some(order) = row.order else { continue };
            let (state, said) = match self.refusal(row, order, &journals)? {
                Some(why) => ("refused", why),
                None => self.order(row, order)?,
            };
            (row.state, row.said) = (Some(state), said);
        }
        Ok(())
    }

    /// The rules of safety that are about more than this node.
    fn refusal(&self, row: &Row, order: Order, journals: &Journals<'_>) -> Result<Option<String>, Error> {
        let in_slurm = matches!(order, Order::Drain | Order::Undrain);
        if in_slurm && self.slurm.address.is_some() {
            let why = "slurmrestd drains no nodes: take a target without an address, which uses scontrol";
            return Ok(Some(why.to_owned()));
        }
        let Some(hands) = self.hands.as_ref().filter(|_| order.takes_out()) else { return Ok(None) };
        let history: History = journals.all()?;
        let fleet = hands.fleet(clock().now, ASKING)?;
        let refusal = too_many_nodes(&row.kubernetes.name, &history, &fleet, self.policy);
        Ok(refusal.map(|refusal| format!("{}: {}", refusal.rule, refusal.why)))
    }

    fn order(&self, row: &Row, order: Order) -> Result<(&'static str, String), Error> {
        let why = row.cause();
        let drain = self.scontrol(&row.node, &["state=drain", &format!("reason={}", mark(&why))]);
        // Not `resume`, which would put a node that is down back into service as well.
        let undrain = self.scontrol(&row.node, &["state=undrain"]);
        let node = row.kubernetes.name.as_str();
        let (id, way, how) = match order {
            Order::Drain => (DRAIN, Way::Run(&drain), How::Out(&undrain)),
            Order::Undrain => (DRAIN, Way::Run(&undrain), How::Back),
            Order::Cordon => (CORDON, Way::Cordon(node), How::Out(&[])),
            Order::Uncordon => (CORDON, Way::Uncordon(node), How::Back),
        };
        self.change(&Change { node: &row.node, id, why: &why, way, how })
    }

    /// Starts or stops a CLOUD node of Slurm.
    pub fn power(&self, node: &str, on: bool, why: &str) -> Result<(&'static str, String), Error> {
        if self.slurm.address.is_some() {
            let why = "slurmrestd switches no nodes: take a target without an address, which uses scontrol";
            return Ok(("refused", why.to_owned()));
        }
        let words = self.scontrol(node, &[if on { "state=power_up" } else { "state=power_down" }]);
        let id = if on { RESUME } else { SUSPEND };
        let (state, said) = self.change(&Change { node, id, why, way: Way::Run(&words), how: How::Once })?;
        match said.contains("Invalid node state") {
            true => Ok((state, format!("{said}: is power saving off (SuspendTime, ResumeProgram)?"))),
            false => Ok((state, said)),
        }
    }

    fn scontrol(&self, node: &str, words: &[&str]) -> Vec<String> {
        let program = match &self.slurm.programs {
            Some(directory) => directory.join("scontrol").display().to_string(),
            None => "scontrol".to_owned(),
        };
        let mut command = vec![program, "update".to_owned(), format!("nodename={node}")];
        command.extend(words.iter().map(|word| (*word).to_owned()));
        command
    }

    fn with_gate<T>(
        &self,
        node: &str,
        work: impl FnOnce(&mut Gate<'_>) -> Result<T, Held>,
    ) -> Result<Result<T, Held>, Error> {
        let boot_id = crate::host::machine::boot_id().unwrap_or_default();
        let eyes = Glance { node: node.to_owned(), boot_id };
        let journals = Journals { directory: self.directory };
        let directory = journals.of(node).ok_or_else(|| Error::usage(format!("{node:?} is no name of a node")))?;
        let author = Author { node: node.to_owned(), boot_id: eyes.boot_id.clone(), who: who() };
        let journal = Journal::open(&directory, author).map_err(|error| Error::from(journal_trouble(error)))?;
        let gate = Gate::open(journal, &directory, self.policy, &eyes, self.stop, None);
        Ok(work(&mut gate.in_cluster(self.hands.clone())))
    }

    fn change(&self, change: &Change<'_>) -> Result<(&'static str, String), Error> {
        let Change { node, id, why, way, how } = change;
        let errand = Errand { id, node, rule: RULE, why };
        let now = clock().now;
        let done = self.with_gate(node, |gate| match how {
            How::Out(undo) => errand.take_out(gate, *way, undo, now),
            How::Back => errand.put_back(gate, *way, now),
            How::Once => errand.once(gate, *way, now),
        })?;
        Ok(match done {
            Ok((StepState::Done, said)) => ("done", said),
            Ok((_, said)) => ("failed", said),
            Err(Held::Journal(error)) => return Err(Error::from(journal_trouble(error))),
            Err(held) => ("refused", held.why()),
        })
    }

    /// A drain of ours that a human took away is over when its cause is.
    fn forget(&self, node: &str) -> Result<(), Error> {
        let errand = Errand { id: DRAIN, node, rule: RULE, why: "a human had taken it back, and its cause is over" };
        match self.with_gate(node, |gate| errand.forget(gate))? {
            Err(Held::Journal(error)) => Err(Error::from(journal_trouble(error))),
            _ => Ok(()),
        }
    }
}

/// Whether the journal holds a drain of ours that is neither there nor wanted any more.
pub fn is_stale(row: &Row, journals: &Journals<'_>) -> bool {
    row.order.is_none()
        && !row.slurm.drained
        && row.kubernetes.takes_work()
        && journals.holds(&row.node, DRAIN).unwrap_or(false)
}

/// Keeps in a later look what was done before it.
pub fn remember(after: &mut Sheet, before: &Sheet) {
    for row in &mut after.nodes {
        let done = before.nodes.iter().find(|old| old.node == row.node).filter(|old| old.state.is_some());
        if let Some(old) = done {
            (row.order, row.state) = (old.order, old.state);
            row.said.clone_from(&old.said);
        }
    }
}
