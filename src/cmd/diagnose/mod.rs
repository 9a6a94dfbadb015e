//! `aictl diagnose`: find faults of GPUs and nodes.

pub(super) mod catalogue;
mod checks;
mod explain;
mod kernel_log;
mod local;
mod render;

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use clap_complete::{ArgValueCandidates, CompletionCandidate};

use super::Done;
use super::error::{BLIND, DONE, Error, FOUND};
use super::settings::{OutputFormat, Settings};
use super::values::Length;
use crate::fault::{FINDINGS_SCHEMA, Findings, NvlinkTable, Severity, State};
use crate::host::machine;

/// Find faults of GPUs and nodes
///
/// Looks at the kernel's log, GPUs, PCIe, RDMA ports, disks, services and more, and says what is
/// wrong: which device, how bad, how far it reaches and what to do. Bursts become one finding;
/// lines that programs wrote, look-alikes and what came before the last boot are no faults. What
/// could not be looked at is blind: neither a fault nor health.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "aictl diagnose [OPTIONS] --local\n       aictl diagnose [OPTIONS] --kernel-log <FILE>\n       aictl diagnose [OPTIONS] --explain <FAULT>",
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    /// Look at this machine
    #[arg(long, conflicts_with_all = ["kernel_log", "explain"])]
    local: bool,
    /// Read a saved kernel log instead: dmesg, journalctl (-o json, too), syslog, /dev/kmsg; - for stdin
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "explain")]
    kernel_log: Option<PathBuf>,
    /// Say what a fault is and what to do: xid-79, sxid-20034, oom-memcg
    #[arg(long, value_name = "FAULT", add = ArgValueCandidates::new(fault_names))]
    explain: Option<String>,
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
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "local")]
    checks: Option<PathBuf>,
    /// Where to remember this look, for rates and for ports that once were up
    /// [default: /var/lib/aictl/diagnose.json for root, else below $XDG_STATE_HOME]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "local")]
    state: Option<PathBuf>,
    /// Remember nothing, and judge no rates
    #[arg(long, requires = "local", conflicts_with = "state")]
    no_state: bool,
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
  sudo aictl diagnose --local                         what is wrong with this machine?
  sudo aictl diagnose --local --checks /etc/aictl/checks
  aictl diagnose --kernel-log dmesg.txt               the log of another
  journalctl -k -o json | aictl diagnose --kernel-log - -o json
  ssh gpu-17 dmesg | aictl diagnose --kernel-log -
  aictl diagnose --explain xid-79"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

A file of --catalogue is a YAML list of entries; each names a `fault` and what differs from the
built-in entry (severity, action, scope, title, explain), or is a whole new one.

With -o name the names of the faults are printed, the worst first.

Exit codes: 0 nothing is wrong · 1 failed · 2 usage · 3 faults were found (warnings count, notes
do not) · 4 could not look."
);

/// Of `--deadline`.
const DEADLINE: Duration = Duration::from_secs(10);

/// Looks, then says.
pub fn run(args: Args, settings: &Settings) -> Done {
    let mut catalogue = catalogue::load(&args.catalogue)?;
    if let Some(fault) = &args.explain {
        return explain::print(fault, &catalogue, settings);
    }
    let site = match &args.checks {
        Some(directory) => checks::Checks::read(directory, &mut catalogue)?,
        None => checks::Checks::default(),
    };
    let nvlink = NvlinkTable::embedded().map_err(|error| Error::failed("the built-in tables are broken", error))?;
    let since = args.since.as_deref().map(kernel_log::since).transpose()?;
    let look = kernel_log::Look { catalogue: &catalogue, nvlink: &nvlink, since, trusting: args.trust_programs };
    let findings = if let Some(path) = &args.kernel_log {
        let (check, found) = look.replay(path, settings)?;
        Findings { schema: FINDINGS_SCHEMA, node: None, boot_id: None, checks: vec![check], findings: found }
    } else if args.local {
        let deadline = args.deadline.map_or(DEADLINE, |length| length.0);
        let mut kept = local::Kept::new(args.state, args.no_state, &args.root);
        let history = RefCell::new(kept.read(machine::boot_id().as_deref()));
        if let Some(unknown) = args.only.iter().find(|name| local::sources().all(|source| source != name.as_str())) {
            let names: Vec<&str> = local::sources().collect();
            return Err(Error::usage(format!("--only {unknown}: no such source")).hint(names.join(", ")));
        }
        let context = local::LocalContext {
            catalogue: &catalogue,
            look: &look,
            root: &args.root,
            deadline,
            settings,
            only: &args.only,
            gpus: RefCell::default(),
            history,
        };
        local::look(context, kept, &site)
    } else {
        return Err(Error::usage("nothing to look at")
            .hint("this machine: aictl diagnose --local; a saved log: aictl diagnose --kernel-log FILE"));
    };
    show(&findings, &catalogue, settings)
}

fn show(findings: &Findings, catalogue: &crate::fault::Catalogue, settings: &Settings) -> Done {
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => ui.json(findings),
        OutputFormat::Yaml => ui.yaml(findings),
        OutputFormat::Name if findings.findings.is_empty() => Ok(()),
        OutputFormat::Name => {
            let mut names: Vec<&str> = findings.findings.iter().map(|finding| finding.fault.as_str()).collect();
            names.dedup();
            ui.print(&names.join("\n"))
        }
        OutputFormat::Table | OutputFormat::Wide => ui.print(&render::render(findings, catalogue, settings)),
    }
    .map_err(Error::output)?;
    let found = findings.findings.iter().any(|finding| finding.severity > Severity::Info);
    let blind = findings.checks.iter().any(|check| check.state == State::Blind);
    Ok(match (found, blind) {
        (true, _) => FOUND,
        (false, true) => BLIND,
        (false, false) => DONE,
    })
}

/// Candidates for `--explain`.
fn fault_names() -> Vec<CompletionCandidate> {
    let Ok(catalogue) = crate::fault::Catalogue::embedded() else { return Vec::new() };
    let entries = catalogue.iter().filter(|entry| !entry.unused);
    entries.map(|entry| CompletionCandidate::new(&entry.fault).help(Some(entry.title.clone().into()))).collect()
}
