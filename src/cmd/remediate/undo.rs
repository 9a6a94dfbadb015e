//! `aictl remediate undo`: takes our own isolation back and closes an incident.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueHint;

use super::super::error::Kind;
use super::super::interrupt::Interrupt;
use super::central::Central;
use super::once::{journal_trouble, lock_trouble};
use super::sight::{Pretend, Sight};
use super::{DONE, Done, Error, Settings, playbook, state_directory, who};
use crate::act::{self, Author, Eyes, Gate, Held, Journal, Lock, Run};
use crate::fault::playbook::{Past, Playbook, Standing};

/// Take our own isolation back, and close an incident that a human has dealt with
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which; needed if there are several
    #[arg(value_name = "INCIDENT")]
    incident: Option<String>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// An incident of a central run, whose journal is in the cluster
    #[arg(long)]
    cluster: bool,
    /// Playbook, for the place of its kill switch
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    playbook: Option<PathBuf>,
    /// Where the journal is [default: /var/lib/aictl as root, else $XDG_STATE_HOME/aictl]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    state_dir: Option<PathBuf>,
    /// Make something up (for tests)
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    pretend: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  sudo aictl remediate undo --dry-run                 what would be taken back?
  sudo aictl remediate undo                           take our isolation back
  sudo aictl remediate undo i-4f2a09c1b7de            that of one incident of several
  aictl remediate undo --cluster i-4f2a09c1b7de       that of a central run";

/// Undoes.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let directory = state_directory(args.state_dir.as_deref());
    let playbook = playbook(args.playbook.as_deref())?;
    if args.cluster {
        return in_cluster(args, &playbook, settings);
    }
    let sight = Sight::new(None, Vec::new(), Pretend::of(&args.pretend)?)?;
    let records = Journal::read(&directory).map_err(journal_trouble)?;
    let history = act::history(&records, &sight.clock(), sight.boot_id());
    let Some(past) = choose(&history.incidents, args.incident.as_deref())? else {
        settings.ui.note("nothing to undo");
        return Ok(DONE);
    };
    let stop = AtomicBool::new(false);
    let policy = &playbook.policy;
    let (_lock, gate) = if args.dry_run {
        (None, Gate::dry(&directory, policy, &sight, &stop))
    } else {
        let lock = Lock::take(&directory, Duration::from_secs(5), || false).map_err(lock_trouble)?;
        let author = Author { node: sight.node().to_owned(), boot_id: sight.boot_id().to_owned(), who: who() };
        let journal = Journal::open(&directory, author).map_err(journal_trouble)?;
        (Some(lock), Gate::open(journal, &directory, policy, &sight, &stop, None))
    };
    let in_cluster = past.isolation.as_ref().is_some_and(|isolation| isolation.means.is_some());
    let hands = in_cluster.then(|| super::hands(settings, std::sync::Arc::default())).transpose()?;
    say(Run::new(gate.in_cluster(hands), policy, &sight), past, args.dry_run, settings)
}

fn in_cluster(args: &Args, playbook: &Playbook, settings: &Settings) -> Done {
    let interrupt = Interrupt::catch().map_err(|error| Error::failed("cannot catch signals", error))?;
    let catalogue = super::super::diagnose::catalogue::load(&[])?;
    let pretend = Pretend::of(&args.pretend)?;
    let central = Central {
        playbook,
        catalogue: &catalogue,
        hands: super::hands(settings, interrupt.shared())?,
        chosen: Vec::new(),
        connection: Vec::new(),
        findings: None,
        pretend: &pretend,
        zone: jiff::tz::TimeZone::system(),
        deadline: Duration::from_secs(3600),
        wait: Duration::from_secs(5),
        stop: interrupt.flag(),
    };
    central.undo(args.incident.as_deref(), args.dry_run, settings)
}

/// Undoes, and says what became of it.
pub fn say(mut run: Run<'_>, past: &Past, dry: bool, settings: &Settings) -> Done {
    match run.undo(past) {
        Ok(Ok(said)) => {
            let done = if dry { "would be undone" } else { "undone" };
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            settings.ui.note(&format!("{} {done}{said}", past.id));
            Ok(DONE)
        }
        Ok(Err(why)) => Err(Error::new(Kind::Failed, format!("{} could not be undone: {why}", past.id))),
        Err(Held::Journal(error)) => Err(journal_trouble(error).into()),
        Err(held) => Err(Error::new(Kind::Failed, format!("{} is not undone: {}", past.id, held.why()))),
    }
}

pub fn choose<'p>(incidents: &'p [Past], wanted: Option<&str>) -> Result<Option<&'p Past>, Error> {
    if let Some(id) = wanted {
        let found = incidents.iter().find(|past| past.id == id);
        let unknown = || Error::usage(format!("no incident {id}")).hint("aictl remediate history has them");
        return found.map(Some).ok_or_else(unknown);
    }
    let left = |past: &&Past| {
        past.isolation.is_some() || matches!(past.standing, Standing::Open | Standing::Failed | Standing::HandedOver)
    };
    let left: Vec<&Past> = incidents.iter().filter(left).collect();
    match left[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => {
            let ids: Vec<&str> = left.iter().map(|past| past.id.as_str()).collect();
            Err(Error::usage("several incidents could be undone").hint(format!("name one: {}", ids.join(", "))))
        }
    }
}
