//! `aictl top`: what GPUs do, and for whom.

mod agents;
mod live;
mod local;
mod prometheus;
mod render;
mod report;
mod serve;
mod source;
mod xids;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap_complete::ArgValueCandidates;

use super::Done;
use super::error::{BLIND, DONE, Error};
use super::names;
use super::runtime::block_on_threads;
use super::settings::{OutputFormat, Settings};
use super::timeline::ViewerArgs;
use super::values::Length;
use crate::metrics::exposition;
use report::Report;
use source::Source;

/// Watch GPUs: load, memory, power, faults, and whose they are
///
/// Of this machine, through NVML; of a cluster, from aictl's exporters over the API server (--fleet,
/// NODE, -l); or of a Prometheus that reads dcgm-exporter (--prometheus). Each GPU and process is
/// joined to its pod, job and user. What a GPU does not support is left out, never shown as 0.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "aictl top [OPTIONS]\n       aictl top [OPTIONS] --fleet | [NODE]...\n       aictl top [OPTIONS] --prometheus <URL>\n       aictl top [OPTIONS] --listen <ADDRESS>",
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    /// Nodes of the cluster
    #[arg(value_name = "NODE", conflicts_with_all = ["listen", "prometheus"], add = ArgValueCandidates::new(names::nodes))]
    nodes: Vec<String>,
    /// All nodes of the cluster that have an exporter
    #[arg(long, conflicts_with_all = ["listen", "prometheus"])]
    fleet: bool,
    /// Nodes with these labels only: pool=h100,zone!=b
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with_all = ["nodes", "listen", "prometheus"])]
    selector: Option<String>,
    /// A Prometheus that reads dcgm-exporter: http://prometheus:9090
    #[arg(long, value_name = "URL", conflicts_with = "listen")]
    prometheus: Option<String>,
    /// Serve Prometheus and aictl instead, at this address: 127.0.0.1:9400, :9400
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Look once and print; without a terminal, and with -o json or prometheus, this is meant anyway
    #[arg(long)]
    once: bool,
    /// Between two looks (default 2s)
    #[arg(long, value_name = "TIME")]
    interval: Option<Length>,
    /// What the rows of --once are
    #[arg(long, value_enum, value_name = "WHAT", default_value = "gpu")]
    by: By,
    /// Order of the rows [default: by node and index]
    #[arg(long, value_enum, value_name = "KEY")]
    sort: Option<Sort>,
    /// Only GPUs with this text in node, model, uuid, pod, user, job or program; again for more
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Only GPUs that have been idle for longer, and who owns them
    #[arg(long, value_name = "TIME")]
    idle: Option<Length>,
    /// Namespace of aictl's exporters
    #[arg(long, value_name = "NAME", default_value = "aictl")]
    agent_namespace: String,
    /// Longest time that a look may take (default 10s)
    #[arg(long, value_name = "TIME")]
    deadline: Option<Length>,
    /// Name of this machine in what is shown [default: $NODE_NAME, or the machine's name]
    #[arg(long, value_name = "NAME", env = super::env::NODE, hide_env = true)]
    node: Option<String>,
    #[command(flatten)]
    viewer: ViewerArgs,
    /// Look so many times, and print the last (for benchmarks)
    #[arg(long, value_name = "N", hide = true, default_value_t = 1)]
    looks: u32,
    /// Where /proc, /sys and /var hang (for tests)
    #[arg(long, value_name = "DIR", hide = true, default_value = "/")]
    root: PathBuf,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A GPU
    Gpu,
    /// A process on a GPU
    Process,
    /// A job: what it asked for, and what it uses
    Job,
    /// A node
    Node,
}

/// What rows are ordered by, the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Load
    Utilisation,
    /// Memory in use
    Memory,
    /// Power drawn
    Power,
    /// Temperature
    Temperature,
    /// Time idle
    Idle,
    /// Whose it is, by name
    Owner,
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  aictl top                                      a live screen of this machine's GPUs
  aictl top --once --sort memory
  aictl top --once --by process
  aictl top --fleet                              nodes of the cluster with an exporter
  aictl top gpu-17 gpu-18 --once -o wide
  aictl top --fleet --once --by job              what jobs asked for, and what they use
  aictl top --fleet --idle 10m                   GPUs that do nothing, and who has them
  aictl top --prometheus http://prometheus:9090 --once --idle 30m
  aictl top -o prometheus                        as dcgm-exporter names it
  aictl top --listen :9400                       the same for Prometheus to read, and for --fleet
  aictl top -o json | jq '.nodes[].gpus[].metrics.power_w'"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

In the live screen: enter goes into a node, GPU or process and esc back, s sorts, / filters, p
profiles what is chosen, d diagnoses it, l shows its log, ? tells all keys, q leaves.

--idle needs a history: that of an exporter (--fleet), of a Prometheus, or of a live screen since it
was opened.

-o prometheus and --listen have the names and labels of dcgm-exporter where the meaning is the same,
and aictl_… for the rest. docs/top.md lists all metrics.

Exit codes: 0 done · 1 failed · 2 usage · 4 GPUs, or those of a node, could not be read; what could
is shown nevertheless · 130 interrupted."
);

/// Of `--interval`, and the shortest: NVML measures PCIe for 40 ms a GPU.
const INTERVAL: Duration = Duration::from_secs(2);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);

/// Of `--deadline`.
const DEADLINE: Duration = Duration::from_secs(10);

/// GPUs are called idle in the sums of jobs after this, unless `--idle` says otherwise.
const IDLE: Duration = Duration::from_secs(600);

/// Shows.
pub fn run(args: Args, settings: &Settings) -> Done {
    let interval = args.interval.map_or(INTERVAL, |length| length.0);
    if interval < SHORTEST_INTERVAL {
        return Err(Error::usage("--interval is shorter than half a second"));
    }
    if let Some(address) = args.listen {
        if args.once || settings.output != OutputFormat::default() {
            return Err(Error::usage("--listen serves; --once and -o have no meaning with it"));
        }
        return serve::run(address, local::Local::new(&args, settings)?, settings);
    }
    let data =
        settings.prometheus || matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml | OutputFormat::Name);
    let once = args.once || data || !std::io::stdout().is_terminal();
    let mut source = Source::of(&args, settings)?;
    if !once {
        return live::run(&args, source, interval, settings);
    }
    if args.idle.is_some() && source.is_local() {
        return Err(Error::usage("--idle needs a history, and one look at this machine has none")
            .hint("use the live screen, an exporter with --fleet, or --prometheus URL"));
    }
    let progress = settings.ui.progress();
    progress.set(source.words());
    let shot = block_on_threads(async {
        let mut shot = source.settled_look().await?;
        for _ in 1..args.looks {
            let begin = std::time::Instant::now();
            shot = source.look().await?;
            if settings.ui.verbose() > 0 {
                settings.ui.note(&format!("looked again in {} ms", begin.elapsed().as_millis()));
            }
        }
        Ok(shot)
    })?;
    progress.clear();
    for note in &shot.notes {
        settings.ui.warn(&crate::view::text::plain(note));
    }
    let report = Report::new(shot, &args);
    show(&report, &args, settings)?;
    let blind = report.nodes.is_empty() || report.nodes.iter().any(|node| node.blind.is_some());
    let blind = blind || report.nodes.iter().flat_map(|node| &node.gpus).any(|gpu| gpu.blind.is_some());
    for why in report.blindness() {
        settings.ui.error(&crate::view::text::plain(&why));
    }
    if let Some(hint) = report.hint().filter(|_| blind) {
        settings.ui.hint(hint);
    }
    Ok(if blind { BLIND } else { DONE })
}

fn show(report: &Report, args: &Args, settings: &Settings) -> Result<(), Error> {
    let ui = &settings.ui;
    match settings.output {
        _ if settings.prometheus => ui.print(&exposition::render(&report.nodes)),
        OutputFormat::Json => ui.json(report),
        OutputFormat::Yaml => ui.yaml(report),
        OutputFormat::Name => ui.print(&report.names(args.by)),
        OutputFormat::Table | OutputFormat::Wide => ui.print(&render::render(report, args, settings)),
    }
    .map_err(Error::output)
}

/// "127.0.0.1:9400"; ":9400" is all addresses.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| "not an address; write 127.0.0.1:9400, [::1]:9400, or :9400 for all".to_owned())
}
