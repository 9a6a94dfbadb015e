//! `aictl remediate undo`: takes our own isolation back and closes an incident.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueHint;

use super::super::error::Kind;
use super::once::{journal_trouble, lock_trouble};
use super::sight::{Pretend, Sight};
use super::{DONE, Done, Error, Settings, playbook, state_directory, who};
use crate::act::{self, Author, Eyes, Gate, Held, Journal, Lock, Run};
use crate::fault::playbook::{Past, Standing};

/// Take our own isolation back, and close an incident that a human has dealt with
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which; needed if there are several
    #[arg(value_name = "INCIDENT")]
    incident: Option<String>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
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

/// Undoes.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let directory = state_directory(args.state_dir.as_deref());
    let playbook = playbook(args.playbook.as_deref())?;
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
    match Run::new(gate, policy, &sight).undo(past) {
        Ok(Ok(said)) => {
            let done = if args.dry_run { "would be undone" } else { "undone" };
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            settings.ui.note(&format!("{} {done}{said}", past.id));
            Ok(DONE)
        }
        Ok(Err(why)) => Err(Error::new(Kind::Failed, format!("{} could not be undone: {why}", past.id))),
        Err(Held::Journal(error)) => Err(journal_trouble(error).into()),
        Err(held) => Err(Error::new(Kind::Failed, format!("{} is not undone: {}", past.id, held.why()))),
    }
}

fn choose<'p>(incidents: &'p [Past], wanted: Option<&str>) -> Result<Option<&'p Past>, Error> {
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
