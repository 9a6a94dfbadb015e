//! `aictl queue sync`: Slurm and Kubernetes on the same nodes.

mod apply;
mod elastic;
mod show;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueHint;
use clap_complete::ArgValueCandidates;

use crate::act;
use crate::cluster::{self, Cluster};
use crate::cmd::Done;
use crate::cmd::error::{DONE, Error, FOUND};
use crate::cmd::interrupt::Interrupt;
use crate::cmd::names;
use crate::cmd::remediate::{journal_trouble, playbook, state_directory};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::Settings;
use crate::cmd::targets::Targets;
use crate::cmd::values::Length;
use crate::fault::playbook::{Clock, History, Standing};
use crate::queue::engines::{self, kubernetes, slurm_machines};
use crate::queue::sync::{DRAIN, Sheet, mirror};
use crate::queue::{EngineKind, QueueError, Target};

/// Compare what Slurm and Kubernetes say of the nodes that they share
///
/// With --apply drains and cordons are mirrored both ways. Only what was mirrored is ever taken back;
/// what a human did stays. With --elastic Slurm's CLOUD nodes are started for what waits, and stopped
/// when they are idle. Nothing is changed without --apply.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The Slurm [default: the only one]
    #[arg(long, value_name = "TARGET", add = ArgValueCandidates::new(names::targets))]
    slurm: Option<String>,
    /// The cluster, as a target of the configuration [default: that of --context and --kubeconfig]
    #[arg(long, value_name = "TARGET", conflicts_with = "elastic", add = ArgValueCandidates::new(names::targets))]
    kubernetes: Option<String>,
    /// Say what would be done, and change nothing (the default)
    #[arg(long, conflicts_with = "apply")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    apply: bool,
    /// Start and stop CLOUD nodes of Slurm by what waits
    #[arg(long)]
    elastic: bool,
    /// CLOUD nodes that stay on, whatever waits
    #[arg(long, value_name = "N", default_value_t = 0, requires = "elastic")]
    min: u32,
    /// CLOUD nodes that may be on [default: all]
    #[arg(long, value_name = "N", requires = "elastic")]
    max: Option<u32>,
    /// CLOUD nodes that may be started, or stopped, at one look
    #[arg(long, value_name = "N", default_value_t = 4, requires = "elastic")]
    step: u32,
    /// How long a node must have been idle before it is stopped
    #[arg(long, value_name = "DURATION", default_value = "10m", requires = "elastic")]
    idle: Length,
    /// Playbook whose rules of safety hold, as for `aictl remediate`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    playbook: Option<PathBuf>,
    /// Where the journal is [default: /var/lib/aictl as root, else $XDG_STATE_HOME/aictl]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    state_dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  aictl queue sync                                   where do Slurm and Kubernetes disagree?
  aictl queue sync --apply                           mirror drains and cordons; for cron
  aictl queue sync --elastic --max 16 --idle 15m     which CLOUD nodes would be started or stopped?
  aictl queue sync --elastic --max 16 --apply

Exit codes: 0 both agree, or it was made so · 1 failed · 2 usage · 3 they disagree, or something could
not be done · 4 a side could not be asked · 130 interrupted.";

/// How long to look whether the sides agree after a change: slurmctld hears of a node at its next ping.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(20);
/// Between looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Compares, or decides; and in earnest does it.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let policy = playbook(args.playbook.as_deref())?.policy;
    let directory = state_directory(args.state_dir.as_deref()).join("queue-sync");
    let slurm = block_on(slurm(args.slurm.as_deref(), settings))?;
    if args.elastic {
        return elastic::run(args, &slurm, &policy, &directory, settings);
    }
    let options = match &args.kubernetes {
        Some(name) => block_on(async { Ok(Targets::one(name, settings).await?.target().kubernetes.clone()) })?,
        None => settings.cluster.clone(),
    };
    let journals = Journals { directory: &directory };
    let mut sheet = look(&slurm, &options, &journals)?;
    if args.apply && sheet.nodes.iter().any(|row| row.order.is_some() || apply::is_stale(row, &journals)) {
        let interrupt = Interrupt::catch().map_err(|error| Error::failed("cannot catch signals", error))?;
        let namespace = settings.cluster.namespace.as_deref();
        let mut doing = apply::Doing::new(&slurm, &options, namespace, &policy, &directory, &interrupt)?;
        doing.mirror(&mut sheet)?;
        let began = Instant::now();
        loop {
            let mut after = look(&slurm, &options, &journals)?;
            apply::remember(&mut after, &sheet);
            let settled = after.agree() || !sheet.nodes.iter().any(|row| row.state == Some("done"));
            if settled || began.elapsed() > FOLLOWED_WITHIN || interrupt.is_set() {
                sheet = after;
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    sheet.apply = args.apply;
    show::sheet(&sheet, settings)?;
    let failed = sheet.nodes.iter().any(|row| matches!(row.state, Some("failed" | "refused")));
    Ok(if sheet.agree() && !failed { DONE } else { FOUND })
}

/// Both sides, side by side.
fn look(slurm: &Target, options: &cluster::Options, journals: &Journals<'_>) -> Result<Sheet, Error> {
    let (machines, nodes, name) = block_on(async {
        let cluster = Cluster::connect(options).await?;
        let (machines, nodes) = futures::try_join!(slurm_machines(slurm), kubernetes::machines(&cluster))?;
        Ok((machines, nodes, cluster.name().to_owned()))
    })?;
    // Journals are read before anything is compared: one that is damaged stops all.
    let mut drained = std::collections::BTreeSet::new();
    for node in &machines.nodes {
        if journals.holds(&node.name, DRAIN)? {
            drained.insert(node.name.clone());
        }
    }
    let mut sheet = mirror(&machines.nodes, &nodes, |node| drained.contains(node));
    sheet.slurm.clone_from(&slurm.name);
    sheet.kubernetes = name;
    Ok(sheet)
}

/// The Slurm that is meant: the named one, the only one of the configuration, or this machine's.
async fn slurm(name: Option<&str>, settings: &Settings) -> Result<Target, Error> {
    if let Some(name) = name {
        return Ok(Targets::one(name, settings).await?.target().clone());
    }
    let of_engine = |options: &&crate::queue::TargetOptions| options.engine == Some(EngineKind::Slurm);
    let configured: Vec<&str> =
        settings.config.targets.iter().filter(of_engine).map(|options| options.name.as_str()).collect();
    match configured.as_slice() {
        [only] => Ok(Targets::one(only, settings).await?.target().clone()),
        [] => engines::local().into_iter().find(|target| target.kind == EngineKind::Slurm).ok_or_else(|| {
            let looked = "there is no Slurm on this machine and none in the configuration";
            QueueError::NoEngine { looked: looked.to_owned() }.into()
        }),
        several => {
            Err(Error::usage(format!("there are several Slurms: {}", several.join(", ")))
                .hint("choose one with --slurm"))
        }
    }
}

/// The journals of nodes that anything was ever done to: a directory each.
struct Journals<'j> {
    directory: &'j Path,
}

impl Journals<'_> {
    /// A node's own; `None` for a name that is none.
    fn of(&self, node: &str) -> Option<PathBuf> {
        let fine = !node.is_empty() && !node.starts_with('.') && !node.contains(['/', '\0']);
        fine.then(|| self.directory.join(node))
    }

    /// What was done to a node.
    fn history(&self, node: &str) -> Result<History, Error> {
        let Some(directory) = self.of(node) else { return Ok(History::default()) };
        let records = act::Journal::read(&directory).map_err(|error| Error::from(journal_trouble(error)))?;
        let boot_id = crate::host::machine::boot_id().unwrap_or_default();
        Ok(act::history(&records, &clock(), &boot_id))
    }

    /// Whether the journal knows of something of ours on a node that was not taken back.
    fn holds(&self, node: &str, incident: &str) -> Result<bool, Error> {
        let history = self.history(node)?;
        let past = history.incident(incident);
        let done = |past: &crate::fault::playbook::Past| past.isolation.as_ref().is_some_and(|own| own.done);
        Ok(past.is_some_and(|past| past.standing == Standing::Open && done(past)))
    }

    /// What was done to all nodes: the breaker counts over them.
    fn all(&self) -> Result<History, Error> {
        let mut all = History::default();
        for entry in std::fs::read_dir(self.directory).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let history = self.history(&entry.file_name().to_string_lossy())?;
                all.incidents.extend(history.incidents);
            }
        }
        Ok(all)
    }
}

/// The clocks of this machine.
fn clock() -> Clock {
    let now = jiff::Timestamp::now();
    Clock {
        now,
        local: now.to_zoned(jiff::tz::TimeZone::system()).datetime(),
        up_s: crate::host::machine::uptime().as_secs_f64(),
    }
}
