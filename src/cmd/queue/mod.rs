//! `aictl queue`: the jobs of all engines, in one vocabulary.

mod examples;
mod explain;
pub(super) mod list;
mod order;
mod output;
mod quota;
mod release;
mod resolve;
mod sync;
mod wait;

use clap::{Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;

use super::Done;
use super::names;
use super::settings::Settings;
use super::values::Length;
use crate::queue::{JobId, State};

/// See and manage jobs of Kueue, Volcano, kube-queue, Slurm and Ray
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  aictl queue list --mine                    my jobs, wherever they are
  aictl queue explain train                  why does it wait, and when will it run?
  aictl queue wait train --exit-code         wait, and end as the job ends
  aictl queue logs train -f --all            what all ranks print
  aictl queue quota                          what is used, free and asked for";

#[derive(Debug, Subcommand)]
enum What {
    List(ListArgs),
    Explain(ExplainArgs),
    Wait(WaitArgs),
    Logs(LogsArgs),
    Exec(ExecArgs),
    /// End jobs, and see that they end
    #[command(after_help = examples::CANCEL)]
    Cancel(OrderArgs),
    /// Keep jobs from starting
    #[command(after_help = examples::HOLD)]
    Hold(OrderArgs),
    Release(release::Args),
    /// Put jobs back into their queue, from the start
    #[command(after_help = examples::REQUEUE)]
    Requeue(OrderArgs),
    Priority(PriorityArgs),
    Quota(QuotaArgs),
    Sync(sync::Args),
}

/// List jobs of all targets
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LIST)]
pub struct ListArgs {
    /// Only this target or engine
    #[arg(long = "on", value_name = "TARGET", add = ArgValueCandidates::new(names::targets))]
    target: Option<String>,
    /// Only my own
    #[arg(long)]
    mine: bool,
    /// Only this owner's
    #[arg(long, value_name = "USER", conflicts_with = "mine")]
    owner: Option<String>,
    /// Only these states
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<State>,
    /// Only this queue's
    #[arg(long, value_name = "QUEUE", add = ArgValueCandidates::new(names::queues))]
    queue: Option<String>,
    /// Of all namespaces (the default unless -n is given)
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only with these labels (Kubernetes)
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Print again what changes
    #[arg(short, long)]
    watch: bool,
}

/// Say why a job waits, who is before it, and when it may run
#[derive(Debug, clap::Args)]
#[command(after_help = examples::EXPLAIN)]
pub struct ExplainArgs {
    /// Name, id or TARGET:ID
    #[arg(value_name = "JOB", add = ArgValueCandidates::new(names::jobs))]
    job: JobId,
}

/// Wait for jobs
#[derive(Debug, clap::Args)]
#[command(after_help = examples::WAIT)]
pub struct WaitArgs {
    /// Names, ids or TARGET:ID
    #[arg(value_name = "JOB", required = true, add = ArgValueCandidates::new(names::living_jobs))]
    jobs: Vec<JobId>,
    /// Until what
    #[arg(long = "for", value_enum, value_name = "WHAT", default_value = "done")]
    until: Until,
    /// How long at most
    #[arg(long, value_name = "TIME")]
    timeout: Option<Length>,
    /// End with the job's own exit code
    #[arg(long)]
    exit_code: bool,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// It runs, or is over
    Running,
    /// It is over
    Done,
}

/// Print what a job prints
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LOGS)]
pub struct LogsArgs {
    /// Name, id or TARGET:ID
    #[arg(value_name = "JOB", add = ArgValueCandidates::new(names::jobs))]
    job: JobId,
    /// Go on until it is over
    #[arg(short, long)]
    follow: bool,
    /// Only this rank
    #[arg(long, value_name = "N", conflicts_with = "all")]
    rank: Option<u32>,
    /// All ranks (the default)
    #[arg(long)]
    all: bool,
    /// Only so many last lines of each rank
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
}

/// Run a command beside a job
#[derive(Debug, clap::Args)]
#[command(after_help = examples::EXEC)]
pub struct ExecArgs {
    /// Name, id or TARGET:ID
    #[arg(value_name = "JOB", add = ArgValueCandidates::new(names::jobs))]
    job: JobId,
    /// Beside which rank
    #[arg(long, value_name = "N", default_value_t = 0)]
    rank: u32,
    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Jobs to give an order.
#[derive(Debug, clap::Args)]
pub struct OrderArgs {
    /// Names, ids or TARGET:ID
    #[arg(value_name = "JOB", required = true, add = ArgValueCandidates::new(names::living_jobs))]
    jobs: Vec<JobId>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Change a job's priority
#[derive(Debug, clap::Args)]
#[command(after_help = examples::PRIORITY)]
pub struct PriorityArgs {
    /// Name, id or TARGET:ID
    #[arg(value_name = "JOB", add = ArgValueCandidates::new(names::jobs))]
    job: JobId,
    /// Priority class or number, as the engine has it
    #[arg(value_name = "PRIORITY", allow_hyphen_values = true)]
    priority: String,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Show quota: nominal, borrowed, used, pending, by queue and flavor
#[derive(Debug, clap::Args)]
#[command(after_help = examples::QUOTA)]
pub struct QuotaArgs {
    /// Only this queue's
    #[arg(value_name = "QUEUE", add = ArgValueCandidates::new(names::queues))]
    queue: Option<String>,
    /// Only this target or engine
    #[arg(long = "on", value_name = "TARGET", add = ArgValueCandidates::new(names::targets))]
    target: Option<String>,
}

/// Does what is asked.
pub fn run(args: Args, settings: &Settings) -> Done {
    match args.what {
        What::List(args) => list::run(&args, settings),
        What::Explain(args) => explain::run(&args, settings),
        What::Wait(args) => wait::run(&args, settings),
        What::Logs(args) => output::logs(&args, settings),
        What::Exec(args) => output::exec(&args, settings),
        What::Cancel(args) => order::run(order::Order::Cancel, &args, settings),
        What::Hold(args) => order::run(order::Order::Hold, &args, settings),
        What::Release(args) => release::run(&args, settings),
        What::Requeue(args) => order::run(order::Order::Requeue, &args, settings),
        What::Priority(args) => order::priority(&args, settings),
        What::Quota(args) => quota::run(&args, settings),
        What::Sync(args) => sync::run(&args, settings),
    }
}
