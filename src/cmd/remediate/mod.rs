//! `aictl remediate`: carry a fault from its discovery to a verified machine, or to a human.

mod central;
mod history;
mod once;
mod render;
mod sight;
mod undo;
mod wake;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::{Subcommand, ValueHint};

use super::Done;
use super::env;
use super::error::{BLIND, DONE, Error, FOUND, INTERRUPTED};
use super::interrupt::Interrupt;
use super::settings::{OutputFormat, Settings};
use super::values::Length;
use crate::act::Hands;
use crate::fault::playbook::Playbook;
use sight::{Pretend, Sight};
use wake::Woken;

pub(super) use once::journal_trouble;

/// Repair what is wrong with this machine, or say what would be done
///
/// Looks for faults, takes the steps that the playbook has for them, and verifies the result. Only
/// says what it would do unless --apply is given. Every step is journalled before and after; a run
/// that was cut off is gone on with by the next one.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "aictl remediate [OPTIONS] [--dry-run | --apply] [--once | --watch]\n       aictl remediate [OPTIONS] <NODE>... [--apply]\n       aictl remediate history [OPTIONS]\n       aictl remediate undo [OPTIONS] [INCIDENT]",
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Nodes of the cluster, from anywhere; what only the machine can do is left to its own agent
    #[arg(value_name = "NODE", conflicts_with_all = ["local", "kernel_log", "cluster", "watch", "checks"])]
    nodes: Vec<String>,
    /// The same for nodes with these labels; an empty selector is refused
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with_all = ["nodes", "local", "kernel_log", "cluster", "watch", "checks"])]
    selector: Option<String>,
    /// Playbook; `extends: default` in it keeps the built-in rules
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    playbook: Option<PathBuf>,
    /// Say what would be done, and change nothing (the default)
    #[arg(long, conflicts_with = "apply")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    apply: bool,
    /// Look once (the default); with --apply, silent if nothing was done
    #[arg(long, conflicts_with = "watch")]
    once: bool,
    /// Look again and again until SIGTERM
    #[arg(long)]
    watch: bool,
    /// Time between two looks of --watch
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "watch")]
    interval: Length,
    /// Look at this machine (the default)
    #[arg(long, conflicts_with = "findings")]
    local: bool,
    /// What `aictl diagnose -o json` said, instead of a look; - for stdin
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "kernel_log")]
    findings: Option<PathBuf>,
    /// Say what would be done about a saved kernel log, with --local in place of this machine's;
    /// - for stdin
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["apply", "watch"])]
    kernel_log: Option<PathBuf>,
    /// Catalogue of a site, which changes or adds entries; again for more
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    catalogue: Vec<PathBuf>,
    /// Directory of a site's own checks, as for `aictl diagnose`
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    checks: Option<PathBuf>,
    /// Longest time a run may take; steps that could not end in time are left to the next
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    deadline: Length,
    /// Wait this long for another run to end
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: Length,
    /// Where the journal is [default: /var/lib/aictl as root, else $XDG_STATE_HOME/aictl]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    state_dir: Option<PathBuf>,
    /// Isolate, evict and ask how many nodes are out of service through the cluster's API
    ///
    /// The cluster is that of --kubeconfig and --context, or of the pod that aictl runs in. Without
    /// this no cluster is ever spoken to. -n names aictl's own namespace there (default: aictl).
    #[arg(long, conflicts_with = "kernel_log")]
    cluster: bool,
    /// This machine's name in the cluster [default: its host name]
    #[arg(long, value_name = "NAME", env = env::NODE, hide_env = true, requires = "cluster")]
    node: Option<String>,
    /// Make something up (for tests): now=TIME, up=SECONDS, boot=ID, root=DIR, diagnose=PROGRAM
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    pretend: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    History(history::Args),
    Undo(undo::Args),
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  sudo aictl remediate                                what would be done here?
  aictl remediate --kernel-log dmesg.txt              and about this log?
  sudo aictl remediate --apply --once                 do it; for cron
  sudo aictl remediate --apply --watch --playbook site.yaml
  sudo aictl remediate --apply --watch --cluster      and isolate the node in its cluster
  sudo aictl remediate history                        who did what, when and why
  sudo aictl remediate undo                           take our isolation back"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

While the file /etc/aictl/stop is there (policy.kill_switch), nothing is changed.

Exit codes: 0 nothing is wrong, or all is restored · 1 failed, or another run is at work · 2 usage ·
3 a fault remains, waits, or is with a human · 4 could not look · 130 interrupted."
);

/// Plans, or does.
pub fn run(args: Args, settings: &Settings) -> Done {
    match &args.what {
        Some(What::History(args)) => return history::run(args, settings),
        Some(What::Undo(args)) => return undo::run(args, settings),
        None => {}
    }
    let playbook = playbook(args.playbook.as_deref())?;
    let catalogue = super::diagnose::catalogue::load(&args.catalogue)?;
    let pretend = Pretend::of(&args.pretend)?;
    if !args.nodes.is_empty() || args.selector.is_some() {
        return central(&args, &playbook, &catalogue, &pretend, settings);
    }
    let sight = Sight::new(playbook.policy.time_zone.as_deref(), args.catalogue.clone(), pretend)?;
    let directory = state_directory(args.state_dir.as_deref());
    let mut sight = sight.looking(args.checks.clone(), &directory);
    let interrupt = Interrupt::catch().map_err(|error| Error::failed("cannot catch signals", error))?;
    let findings = args.findings.as_deref().map(|path| Given::of(path, &interrupt)).transpose()?;
    if !args.apply {
        sight = sight.that_changes_nothing(interrupt.shared());
    }
    let hands = match args.cluster {
        true => {
            sight = sight.in_cluster(args.node.clone());
            Some(hands(settings, interrupt.shared())?)
        }
        false => None,
    };
    let once = once::Once {
        playbook: &playbook,
        catalogue: &catalogue,
        sight: &sight,
        directory: &directory,
        findings: findings.as_ref(),
        kernel_log: args.kernel_log.as_deref(),
        local: args.local,
        deadline: args.deadline.0,
        wait: args.wait.0,
        stop: interrupt.flag(),
        hands,
    };
    if !args.watch {
        let said = if args.apply { once.apply() } else { once.dry_run() };
        let report = match said {
            Ok(report) => report,
            // A look that was cut off saw nothing, and that is no fault of its own.
            Err(_) if interrupt.is_set() && !args.apply => return Ok(INTERRUPTED),
            Err(error) => return Err(error.into()),
        };
        let code = report.show(args.apply, settings)?;
        return Ok(if interrupt.is_set() { INTERRUPTED } else { code });
    }
    watch(&args, &once, &interrupt, settings)
}

fn watch(args: &Args, once: &once::Once<'_>, interrupt: &Interrupt, settings: &Settings) -> Done {
    let mut last = None;
    let mut wake = wake::Wake::new(once.sight.trusts(), args.findings.is_none(), once.sight.has_gpus());
    let mut woken = Woken::Clock;
    while !interrupt.is_set() {
        let since = Instant::now();
        let said = match (args.apply, woken) {
            (true, Woken::Log) => once.apply_at_once(),
            (true, Woken::Gpu | Woken::Clock) => once.apply(),
            (false, _) => once.dry_run(),
        };
        match said {
            // What stays as it was is not said again.
            Ok(report) if last.as_ref() != Some(&report) || report.did_something() => {
                report.show(args.apply, settings)?;
                last = Some(report);
            }
            Ok(_) => {}
            // A journal that can't be used does not heal; anything else may.
            Err(error) if error.is_for_good() => return Err(error.error),
            Err(_) if interrupt.is_set() && !args.apply => {}
            Err(error) => {
                let _ = error.error.show(&settings.ui);
            }
        }
        woken = wake.sleep(args.interval.0.saturating_sub(since.elapsed()), || interrupt.is_set());
    }
    Ok(if interrupt.terminated() { DONE } else { INTERRUPTED })
}

fn central(
    args: &Args,
    playbook: &Playbook,
    catalogue: &crate::fault::Catalogue,
    pretend: &Pretend,
    settings: &Settings,
) -> Done {
    let empty = |text: &String| text.trim().is_empty();
    if args.nodes.iter().any(empty) || args.selector.as_ref().is_some_and(empty) {
        return Err(Error::usage("an empty name or selector would mean every node").hint("say which: -l pool=training"));
    }
    let interrupt = Interrupt::catch().map_err(|error| Error::failed("cannot catch signals", error))?;
    let findings = args.findings.as_deref().map(|path| Given::of(path, &interrupt)).transpose()?;
    let hands = hands(settings, interrupt.shared())?;
    let mut chosen: Vec<std::ffi::OsString> = args.nodes.iter().map(Into::into).collect();
    if let Some(selector) = &args.selector {
        chosen.extend(["-l".into(), selector.into()]);
    }
    let mut connection: Vec<std::ffi::OsString> = Vec::new();
    for file in &args.catalogue {
        connection.extend(["--catalogue".into(), file.into()]);
    }
    if let Some(file) = &settings.cluster.kubeconfig {
        connection.extend(["--kubeconfig".into(), file.into()]);
    }
    if let Some(context) = &settings.cluster.context {
        connection.extend(["--context".into(), context.into()]);
    }
    let central = central::Central {
        playbook,
        catalogue,
        hands,
        chosen,
        connection,
        findings: findings.as_ref(),
        pretend,
        zone: sight::zone(playbook.policy.time_zone.as_deref())?,
        deadline: args.deadline.0,
        wait: args.wait.0,
        stop: interrupt.flag(),
    };
    let code = central.run(args.apply, settings)?;
    Ok(if interrupt.is_set() { INTERRUPTED } else { code })
}

/// Findings that were given, instead of a look.
#[derive(Debug)]
pub(super) struct Given {
    path: PathBuf,
    /// What stdin said: it can be read but once.
    stdin: Option<String>,
}

impl Given {
    /// Reads stdin, if that is meant; meanwhile a signal ends aictl at once.
    fn of(path: &Path, interrupt: &Interrupt) -> Result<Given, Error> {
        let mut given = Given { path: path.to_owned(), stdin: None };
        if path == Path::new("-") {
            interrupt.set_idle(true);
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            interrupt.set_idle(false);
            read.map_err(|error| Error::failed("cannot read stdin", error))?;
            given.stdin = Some(text);
        }
        Ok(given)
    }

    /// What they say now.
    fn text(&self) -> Result<String, Error> {
        if let Some(text) = &self.stdin {
            return Ok(text.clone());
        }
        let cannot = |error| Error::failed(format!("cannot read {}", self.path.display()), error);
        std::fs::read_to_string(&self.path).map_err(cannot)
    }

    /// They are none.
    fn wrong(&self, error: &str) -> Error {
        Error::usage(format!("{}: {error}", self.path.display()))
    }
}

/// Namespace of aictl's own objects, unless -n names another.
pub(super) const NAMESPACE: &str = "aictl";

/// The cluster that is meant.
fn hands(settings: &Settings, stop: Arc<AtomicBool>) -> Result<Rc<Hands>, Error> {
    let namespace = settings.cluster.namespace.as_deref().unwrap_or(NAMESPACE);
    Ok(Rc::new(Hands::connect(&settings.cluster, namespace, stop)?))
}

/// The playbook that was asked for, or the built-in one.
pub(super) fn playbook(file: Option<&Path>) -> Result<Playbook, Error> {
    let Some(path) = file else {
        return Playbook::embedded().map_err(|error| Error::failed("the built-in playbook is broken", error));
    };
    let shown = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| Error::usage(format!("cannot read {shown}")).because(error))?;
    Playbook::parse(&shown, &text)
        .map_err(|error| Error::usage("wrong playbook").because(error).hint("docs/remediate.md has the format"))
}

/// Where the journal is.
pub(super) fn state_directory(given: Option<&Path>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    if rustix::process::geteuid().is_root() {
        return "/var/lib/aictl".into();
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    base.unwrap_or_else(|| "/var/tmp".into()).join("aictl")
}

/// Who runs aictl: "root (pid 1204)", "ada as root (pid 1204)".
pub(super) fn who() -> String {
    let uid = rustix::process::geteuid();
    let name = if uid.is_root() { "root".to_owned() } else { format!("uid {}", uid.as_raw()) };
    let asked = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty() && *user != name);
    let name = asked.map_or_else(|| name.clone(), |user| format!("{user} as {name}"));
    format!("{name} (pid {})", std::process::id())
}
