//! `aictl diagnose`: find faults of GPUs and nodes.

mod ask;
pub(super) mod catalogue;
mod checks;
mod explain;
mod fleet;
mod kernel_log;
mod local;
mod publish;
mod render;

use std::cell::{Cell, OnceCell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueHint;
use clap_complete::{ArgValueCandidates, CompletionCandidate};

use super::error::{BLIND, DONE, Error, FOUND, INTERRUPTED};
use super::interrupt::Interrupt;
use super::settings::{OutputFormat, Settings};
use super::values::Length;
use super::{Done, env};
use crate::fault::gpu::XidEvents;
use crate::fault::{FINDINGS_SCHEMA, Findings, NvlinkTable, Severity, State};
use crate::gpu::bus;
use crate::host::machine;
use crate::view::text;

/// Find faults of GPUs and nodes
///
/// On a machine (--local) it looks at the kernel's log, GPUs, PCIe, RDMA ports, disks, services and
/// more; without it, at the nodes of a cluster: what their agents published, their conditions,
/// devices, add-ons and the pods they turned away. It says what is wrong, how bad, how far it
/// reaches and what to do. Bursts become one finding; lines that programs wrote, look-alikes and
/// what came before the last boot are no faults. What could not be looked at is blind: neither a
/// fault nor health.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "aictl diagnose [OPTIONS] [NODE]...\n       aictl diagnose [OPTIONS] --local\n       aictl diagnose [OPTIONS] [--local] --kernel-log <FILE>\n       aictl diagnose [OPTIONS] --explain <FAULT>",
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    /// Nodes of the cluster; all if none is named
    #[arg(value_name = "NODE", conflicts_with_all = ["local", "explain"], add = ArgValueCandidates::new(super::names::nodes))]
    nodes: Vec<String>,
    /// Look at this machine
    #[arg(long, conflicts_with = "explain")]
    local: bool,
    /// Read a saved kernel log, with --local in place of this machine's: dmesg, journalctl (-o json,
    /// too), syslog, /dev/kmsg, plain or in gzip; - for stdin
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["explain", "publish"])]
    kernel_log: Option<PathBuf>,
    /// Say what a fault is and what to do: xid-79, sxid-20034, oom-memcg
    #[arg(long, value_name = "FAULT", add = ArgValueCandidates::new(fault_names))]
    explain: Option<String>,
    /// Nodes with these labels only: pool=h100,zone!=b
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with_all = ["nodes", "local", "explain"])]
    selector: Option<String>,
    /// Read the logs of pods with GPUs, too: collectives that hang, ranks that fell silent
    #[arg(long, conflicts_with_all = ["local", "kernel_log", "explain"])]
    logs: bool,
    /// Read the logs of this job (in the namespace); again for more
    #[arg(long, value_name = "NAME", conflicts_with_all = ["local", "kernel_log", "explain"])]
    job: Vec<String>,
    /// An agent that says nothing for this long is blind (default 5m)
    #[arg(long, value_name = "TIME", conflicts_with_all = ["local", "kernel_log", "explain"])]
    stale_after: Option<Length>,
    /// Catalogue of a site, which changes or adds entries; again for more
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    catalogue: Vec<PathBuf>,
    /// Leave out what happened before: a time, or a length back from now (2h)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Longest time a check may take that a broken driver or disk could hang (default 10s)
    #[arg(long, value_name = "TIME", requires = "local")]
    deadline: Option<Length>,
    /// Directory of a site's own checks: YAML files, or node-problem-detector's plugin configurations
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    checks: Option<PathBuf>,
    /// Where to remember this look, for rates and for ports that once were up
    /// [default: /var/lib/aictl/diagnose.json for root, else below $XDG_STATE_HOME]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "local")]
    state: Option<PathBuf>,
    /// Remember nothing, and judge no rates
    #[arg(long, requires = "local", conflicts_with = "state")]
    no_state: bool,
    /// Go by what earlier looks remembered, and write nothing (a dry run)
    #[arg(long, requires = "local", hide = true)]
    keep_state: bool,
    /// Publish what is found to the cluster: a findings object, a condition of the node, events
    #[arg(long, requires = "local")]
    publish: bool,
    /// Look and publish again and again, and at once when the kernel's log tells of a fault
    #[arg(long, requires = "publish")]
    watch: bool,
    /// Between two looks (default 30s)
    #[arg(long, value_name = "TIME", requires = "watch")]
    interval: Option<Length>,
    /// Ask a model for the root cause, too: sends what was found, without names and secrets, to
    /// $AICTL_ASK_URL; `show` says what would be sent, and sends nothing
    #[arg(long, value_name = "HOW", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "send", conflicts_with_all = ["explain", "watch"])]
    ask: Option<ask::How>,
    /// This machine's node [default: $NODE_NAME, or the machine's name]
    #[arg(long, value_name = "NAME", env = env::NODE, hide_env = true)]
    node: Option<String>,
    /// Ask these sources only: kernel-log, gpu, node (for tests)
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "local", hide = true)]
    only: Vec<String>,
    /// Where /proc, /sys and /dev hang (for tests)
    #[arg(long, value_name = "DIR", hide = true, default_value = "/")]
    root: PathBuf,
    /// Take the word of programs that write like the kernel (for tests through /dev/kmsg)
    #[arg(long, hide = true)]
    trust_programs: bool,
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  aictl diagnose                                      what is wrong with this cluster?
  aictl diagnose gpu-17                               all that is known of a node
  aictl diagnose -l pool=h100 --logs -o json
  sudo aictl diagnose --local                         what is wrong with this machine?
  sudo aictl diagnose --local --checks /etc/aictl/checks
  aictl diagnose --kernel-log dmesg.txt               the log of another
  aictl diagnose --kernel-log kern.log.1.gz --checks /etc/aictl/checks
  journalctl -k -o json | aictl diagnose --kernel-log - -o json
  ssh gpu-17 dmesg | aictl diagnose --kernel-log -
  aictl diagnose gpu-17 --ask=show                    what would a model be told?
  aictl diagnose --explain xid-79"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

A file of --catalogue is a YAML list of entries; each names a `fault` and what differs from the
built-in entry (severity, action, scope, title, explain), or is a whole new one.

With -o name the names of the faults are printed, the worst first; of a cluster those of the
nodes with faults.

A node's agent is the same program: aictl diagnose --local --publish --watch. deploy/ has it as a
DaemonSet. What it says counts while it is young and of the node's current boot.

--ask needs a model behind an interface like OpenAI's: AICTL_ASK_URL (https://HOST/v1),
AICTL_ASK_MODEL, AICTL_ASK_KEY or AICTL_ASK_KEY_FILE, or `ask` in the configuration. Its answer is
marked as its own, changes nothing, and has no say in the exit code.

Exit codes: 0 nothing is wrong · 1 failed · 2 usage · 3 faults were found (warnings count, notes
do not) · 4 could not look · 130 interrupted."
);

/// Of `--deadline`.
const DEADLINE: Duration = Duration::from_secs(10);

/// Of `--interval`, and the shortest.
const INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Looks, then says.
pub fn run(args: Args, settings: &Settings) -> Done {
    let mut catalogue = catalogue::load(&args.catalogue)?;
    if let Some(fault) = &args.explain {
        return explain::print(fault, &catalogue, settings);
    }
    if args.kernel_log.is_some() && (!args.nodes.is_empty() || args.selector.is_some()) {
        return Err(Error::usage(
            "--kernel-log can't be joined with nodes of a cluster: a saved log does not say whose it is",
        )
        .hint("look at one after the other; a node's own log is read by its agent"));
    }
    let asker = args.ask.map(|how| ask::Asker::of(how, settings)).transpose()?;
    let asker = asker.as_ref();
    let site = match &args.checks {
        Some(directory) => checks::Checks::read(directory, &mut catalogue)?,
        None => checks::Checks::default(),
    };
    let nvlink = NvlinkTable::embedded().map_err(|error| Error::failed("the built-in tables are broken", error))?;
    let since = args.since.as_deref().map(kernel_log::since).transpose()?;
    let look = kernel_log::Look { catalogue: &catalogue, nvlink: &nvlink, since, trusting: args.trust_programs };
    if let Some(path) = args.kernel_log.as_ref().filter(|_| !args.local) {
        return saved(path, &look, &site, asker, settings);
    }
    if !args.local {
        if args.since.is_some() {
            return Err(Error::usage("--since is for a kernel log: use it with --local or --kernel-log"));
        }
        let scope = fleet::Scope {
            nodes: &args.nodes,
            selector: args.selector.as_deref(),
            logs: args.logs,
            jobs: &args.job,
            silence: args.stale_after.map_or(fleet::SILENCE, |length| length.0),
            site: &site,
            asker,
        };
        return fleet::run(&scope, &catalogue, settings);
    }
    local(&args, &look, &site, asker, settings)
}

/// Looks at a saved log, and runs the site's checks here, if there are any.
fn saved(
    path: &std::path::Path,
    look: &kernel_log::Look<'_>,
    site: &checks::Checks,
    asker: Option<&ask::Asker>,
    settings: &Settings,
) -> Done {
    let of_log = look.replay(path, settings)?;
    let interrupt = OnceCell::new();
    let of_site = site.run(look.catalogue, || stop(&interrupt));
    if has_ended(&interrupt) {
        return Ok(INTERRUPTED);
    }
    let (checks, found): (Vec<_>, Vec<_>) = std::iter::once(of_log).chain(of_site).unzip();
    let mut found: Vec<_> = found.into_iter().flatten().collect();
    crate::fault::sort(&mut found);
    let schema = FINDINGS_SCHEMA;
    let findings = Findings { schema, node: None, boot_id: None, checks, findings: found, gpus: Vec::new() };
    show(&findings, look.catalogue, asker, settings)
}

/// Signals, from the first on that a program of a site must not be left behind by. Before that, and
/// where there is none, a signal ends aictl at once.
type Caught = OnceCell<Option<Interrupt>>;

/// What a signal sets from now on.
fn stop(caught: &Caught) -> Arc<AtomicBool> {
    // Without it they run on as they did, until their deadline.
    caught.get_or_init(|| Interrupt::catch().ok()).as_ref().map_or_else(Arc::default, Interrupt::shared)
}

/// Whether a signal came while programs ran; if not, the next one ends aictl at once again.
fn has_ended(caught: &Caught) -> bool {
    let Some(interrupt) = caught.get().and_then(Option::as_ref) else { return false };
    if interrupt.is_set() {
        return true;
    }
    interrupt.set_idle(true);
    false
}

/// Looks at this machine: once, or as the node's agent.
fn local(
    args: &Args,
    look: &kernel_log::Look<'_>,
    site: &checks::Checks,
    asker: Option<&ask::Asker>,
    settings: &Settings,
) -> Done {
    if let Some(unknown) = args.only.iter().find(|name| local::sources().all(|source| source != name.as_str())) {
        let names: Vec<&str> = local::sources().collect();
        return Err(Error::usage(format!("--only {unknown}: no such source")).hint(names.join(", ")));
    }
    let interval = args.interval.map_or(INTERVAL, |length| length.0);
    if interval < SHORTEST_INTERVAL {
        return Err(Error::usage("--interval is shorter than a second"));
    }
    let node = publish::node(args.node.as_deref());
    // Xids that NVML tells of; only a daemon is there to hear them.
    let asks_gpus = args.only.is_empty() || args.only.iter().any(|only| only == "gpu");
    let listens = args.watch && asks_gpus && bus::look(&args.root, machine::uptime().as_secs()).has_gpus();
    let events = RefCell::new(XidEvents::default());
    let saved_log = args.kernel_log.as_ref().map(|path| look.replay(path, settings)).transpose()?;
    let interrupt = OnceCell::new();
    let here = || {
        let mut kept = local::Kept::new(args.state.clone(), args.no_state, args.keep_state, &args.root);
        let history = RefCell::new(kept.read(machine::boot_id().as_deref()));
        let context = local::LocalContext {
            catalogue: look.catalogue,
            look,
            root: &args.root,
            deadline: args.deadline.map_or(DEADLINE, |length| length.0),
            settings,
            only: &args.only,
            gpus: RefCell::default(),
            reset_groups: RefCell::default(),
            gpus_on_bus: Cell::default(),
            history,
            events: listens.then_some(&events),
            saved_log: saved_log.as_ref(),
        };
        let (mut findings, gpus) = local::look(context, kept, site, || stop(&interrupt));
        if args.publish || args.node.is_some() {
            findings.node = Some(node.clone());
        }
        (findings, gpus)
    };
    if args.watch {
        let watch =
            publish::Watch { node: &node, interval, root: &args.root, trusting: args.trust_programs, gpus: listens };
        return publish::watch(&watch, &events, settings, here);
    }
    let (findings, gpus) = here();
    if has_ended(&interrupt) {
        return Ok(INTERRUPTED);
    }
    let code = show(&findings, look.catalogue, asker, settings)?;
    if args.publish {
        publish::once(&node, &findings, gpus, settings)?;
    }
    Ok(code)
}

/// What the kernel's log of a machine, or of a tree of a test, tells; `None` if it can't be read.
pub(super) fn kernel_log_of(
    root: &std::path::Path,
    catalogue: &crate::fault::Catalogue,
    nvlink: &NvlinkTable,
) -> Option<Vec<crate::fault::Finding>> {
    let look = kernel_log::Look { catalogue, nvlink, since: None, trusting: false };
    let (check, findings) =
        if root == std::path::Path::new("/") { look.local() } else { look.saved(&root.join("dev/kmsg")).ok()? };
    (check.state != State::Blind).then_some(findings)
}

fn show(
    findings: &Findings,
    catalogue: &crate::fault::Catalogue,
    asker: Option<&ask::Asker>,
    settings: &Settings,
) -> Done {
    let question = || ask::of_node(findings, catalogue);
    let said = ask::say(findings, asker, question, settings, |ui| match settings.output {
        OutputFormat::Name if findings.findings.is_empty() => Ok(()),
        OutputFormat::Name => {
            let mut names: Vec<&str> = findings.findings.iter().map(|finding| finding.fault.as_str()).collect();
            names.dedup();
            ui.print(&names.iter().map(|name| text::plain(name)).collect::<Vec<_>>().join("\n"))
        }
        _ => ui.print(&render::render(findings, catalogue, settings)),
    });
    let found = findings.findings.iter().any(|finding| finding.severity > Severity::Info);
    let blind = findings.checks.iter().any(|check| check.state == State::Blind);
    let code = match (found, blind) {
        (true, _) => FOUND,
        (false, true) => BLIND,
        (false, false) => DONE,
    };
    Error::unless_closed(said, code)
}

/// Candidates for `--explain`.
fn fault_names() -> Vec<CompletionCandidate> {
    let Ok(catalogue) = crate::fault::Catalogue::embedded() else { return Vec::new() };
    let entries = catalogue.iter().filter(|entry| !entry.unused);
    entries.map(|entry| CompletionCandidate::new(&entry.fault).help(Some(entry.title.clone().into()))).collect()
}
