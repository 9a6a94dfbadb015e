//! `aictl submit`: put a job in a queue, whatever queues there.

mod directives;
mod file;
mod sbatch;
mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Done;
use super::env;
use super::error::{DONE, Error, Kind};
use super::names;
use super::runtime::block_on;
use super::settings::{OutputFormat, Settings};
use super::targets::{self, Shared, Targets};
use crate::queue::{
    After, Array, Bytes, Cpus, Draft, DryRun, EngineKind, JobSpec, Plan, QueueError, Shape, Submitted, TimeLimit,
};
use clap::ValueHint;
use clap_complete::ArgValueCandidates;
use sbatch::Remarks;

/// Put a job in a queue of Kueue, Volcano, kube-queue, Slurm or Ray
///
/// The job is a command after --, a script with #AICTL or #SBATCH lines, or a YAML file: aictl's own
/// Job, or a manifest of any kind, which is passed on with the queue's name added. The same submission
/// sent twice makes one job. What could never run is refused before anything is made.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "aictl submit [OPTIONS] [-- COMMAND...]\n       aictl submit [OPTIONS] SCRIPT [ARGUMENT...]\n       aictl submit [OPTIONS] FILE.yaml",
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    /// A script or a YAML file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// The script's arguments; those that begin with a dash after --
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// Engine or target: kueue, volcano, kube-queue, kubernetes, slurm, ray, or a name of the configuration
    #[arg(long, value_name = "TARGET", env = env::TO, hide_env = true, add = ArgValueCandidates::new(names::targets))]
    to: Option<String>,
    /// Print what would be sent; `server` lets the engine check it too
    #[arg(long, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "client", value_enum)]
    dry_run: Option<DryRunBy>,
    #[command(flatten)]
    spec: SpecArgs,
    /// What each node runs; after a script more of its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Who checks a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DryRunBy {
    /// aictl alone
    Client,
    /// The engine too, which keeps nothing
    Server,
}

/// What a job asks for: on the command line, and in #AICTL lines.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "What the job asks for")]
pub struct SpecArgs {
    /// What it is called [default: its program's or file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its submission: the same one is never made twice [default: a hash of what it asks for]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Queue (on Slurm the partition)
    #[arg(long, value_name = "QUEUE", env = env::QUEUE, hide_env = true, add = ArgValueCandidates::new(names::queues))]
    queue: Option<String>,
    /// Nodes, which start together or not at all [default: 1]
    #[arg(short = 'N', long, value_name = "N")]
    nodes: Option<u32>,
    /// GPUs on each node
    #[arg(long, value_name = "N")]
    gpus_per_node: Option<u32>,
    /// Kind of GPU, such as h100
    #[arg(long, value_name = "KIND")]
    gpu_type: Option<String>,
    /// Part of one GPU, between 0 and 1
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["gpus_per_node", "gpu_memory"])]
    gpu_fraction: Option<f64>,
    /// Part of one GPU, by its memory
    #[arg(long, value_name = "SIZE", conflicts_with = "gpus_per_node")]
    gpu_memory: Option<Bytes>,
    /// Cores on each node
    #[arg(long, value_name = "N")]
    cpus: Option<Cpus>,
    /// Memory on each node, such as 64Gi
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// How long it may run, such as 90m, 2d or 12:00:00
    #[arg(short = 't', long, value_name = "TIME")]
    time: Option<TimeLimit>,
    /// Container image
    #[arg(long, value_name = "IMAGE", env = env::IMAGE, hide_env = true)]
    image: Option<String>,
    /// Priority class or number
    #[arg(long, value_name = "PRIORITY", env = env::PRIORITY, hide_env = true)]
    priority: Option<String>,
    /// Variable of its environment; NAME alone takes its value from here
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Array of like jobs, such as 0-9%4: ten, four at a time
    #[arg(short = 'a', long, value_name = "INDICES")]
    array: Option<Array>,
    /// Start after another job [outcome: ok, any, notok]
    #[arg(long, value_name = "JOB[:OUTCOME]")]
    after: Vec<After>,
    /// Directory in which it runs
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    /// File for its output, where the engine writes files
    #[arg(long, value_name = "FILE")]
    log_file: Option<String>,
    /// Kind of Kubernetes object: job, jobset, pytorchjob, trainjob, mpijob, rayjob
    #[arg(long, value_name = "SHAPE")]
    shape: Option<Shape>,
    /// Processes that its launcher starts on each node [default: one a GPU]
    #[arg(long, value_name = "N")]
    processes_per_node: Option<u32>,
    /// Model that must be preloaded first
    #[arg(long, value_name = "SOURCE")]
    needs_model: Option<String>,
    /// Keep it from starting until `aictl queue release`
    #[arg(long)]
    hold: bool,
    /// How often it may start again after a failure
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Label of its objects
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Account that pays (Slurm)
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Quality of service (Slurm)
    #[arg(long, value_name = "QOS")]
    qos: Option<String>,
    /// Node features (Slurm), or node labels NAME=VALUE joined by & (Kubernetes)
    #[arg(long, value_name = "FEATURES")]
    constraint: Option<String>,
    /// Share its nodes with nobody (Slurm)
    #[arg(long)]
    exclusive: bool,
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  aictl submit --queue research --nodes 4 --gpus-per-node 8 --image IMAGE -- torchrun train.py
  aictl submit --to slurm train.sh                  its #SBATCH lines are understood everywhere
  aictl submit --queue research --dry-run train.sh  what would be sent?
  aictl submit --queue research pytorchjob.yaml     a manifest, with the queue's name added
  aictl submit --array 0-9%4 --after prepare -- python shard.py"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

A flag wins over AICTL_TO, AICTL_QUEUE, AICTL_IMAGE and AICTL_PRIORITY, these over #AICTL lines, these
over #SBATCH lines, and all over the file.

Every node finds MASTER_ADDR, MASTER_PORT, NODE_RANK, NNODES, NPROC_PER_NODE, RANK, WORLD_SIZE and
LOCAL_RANK in its environment, in every engine alike, and torchrun its defaults."
);

impl SpecArgs {
    /// As one source among others.
    ///
    /// # Errors
    /// If a pair is none.
    pub fn draft(self) -> Result<Draft, String> {
        let mut env = BTreeMap::new();
        for item in self.env {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => match std::env::var(&item) {
                    Ok(value) => (item, value),
                    Err(_) => return Err(format!("--env {item}: there is no such variable here; write {item}=VALUE")),
                },
            };
            env.insert(name, value);
        }
        let mut labels = BTreeMap::new();
        for item in self.label {
            let Some((name, value)) = item.split_once('=') else {
                return Err(format!("--label {item}: write NAME=VALUE"));
            };
            labels.insert(name.to_owned(), value.to_owned());
        }
        Ok(Draft {
            name: self.name,
            id: self.id,
            queue: self.queue,
            nodes: self.nodes,
            gpus_per_node: self.gpus_per_node,
            gpu_type: self.gpu_type,
            gpu_fraction: self.gpu_fraction,
            gpu_memory: self.gpu_memory,
            cpus: self.cpus,
            memory: self.memory,
            time: self.time,
            image: self.image,
            priority: self.priority,
            env,
            array: self.array,
            after: self.after,
            workdir: self.workdir,
            output: self.log_file,
            shape: self.shape,
            processes_per_node: self.processes_per_node,
            needs_model: self.needs_model,
            hold: self.hold.then_some(true),
            retries: self.retries,
            labels,
            account: self.account,
            qos: self.qos,
            constraint: self.constraint,
            exclusive: self.exclusive.then_some(true),
            ..Draft::default()
        })
    }
}

/// What there is to submit.
enum Request {
    /// In our own words.
    Spec { spec: Box<JobSpec>, remarks: Remarks },
    /// A manifest of the user's own.
    Manifest { object: Box<serde_json::Value>, draft: Box<Draft> },
}

/// Submits.
pub fn run(args: Args, settings: &Settings) -> Done {
    let mut draft = args.spec.draft().map_err(Error::usage)?;
    draft.namespace.clone_from(&settings.cluster.namespace);
    let request = request(draft, args.file.as_deref(), args.arguments, args.command)?;
    let mut sent = None;
    let done = block_on(submit(&request, args.to.as_deref(), args.dry_run, settings, &mut sent));
    match done {
        // What was on its way may have arrived.
        Err(error) if error.is_interruption() => Err(match sent {
            Some(name) => error.hint(format!(
                "{name} may have been made: the same command goes on with it, `aictl queue cancel {name}` ends it"
            )),
            None => error,
        }),
        done => done,
    }
}

/// Reads what is asked for: flags over directives over the file.
fn request(flags: Draft, file: Option<&Path>, arguments: Vec<String>, command: Vec<String>) -> Result<Request, Error> {
    let mut flags = flags;
    let Some(path) = file else {
        flags.command = command;
        let program = flags
            .command
            .iter()
            .find(|word| !matches!(word.as_str(), "python" | "python3" | "bash" | "sh" | "torchrun"));
        let program =
            program.and_then(|word| Path::new(word).file_name()).map(|name| name.to_string_lossy().into_owned());
        let spec = flags.settle(program.as_deref().unwrap_or("job")).map_err(Error::from)?;
        return Ok(Request::Spec { spec: Box::new(spec), remarks: Remarks::default() });
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::usage(format!("cannot read {}", path.display())).because(error))?;
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_yaml = path.extension().is_some_and(|extension| matches!(extension.to_str(), Some("yaml" | "yml" | "json")));
    if is_yaml {
        if let Some(first) = arguments.first() {
            return Err(Error::usage(format!("{first:?}: a YAML file takes no arguments"))
                .hint("a script does; a Job's own command can be given after --"));
        }
        return file::read(&text, path, flags, command, &name);
    }
    let found = directives::read(&text, &path.display().to_string())?;
    // Alone it may be nothing whole; then an engine that reads scripts itself compares word by word.
    let script_asks = Draft { script: Some(text.clone()), ..found.draft.clone() }.settle(&name).ok();
    flags.script = Some(text);
    flags.command = [arguments, command].concat();
    let mut spec = flags.over(found.draft).settle(&name).map_err(Error::from)?;
    spec.script_asks = script_asks.map(Box::new);
    Ok(Request::Spec { spec: Box::new(spec), remarks: found.remarks })
}

/// What a submission prints.
#[derive(serde::Serialize)]
struct Report<'a> {
    schema: &'static str,
    id: &'a str,
    address: String,
    name: &'a str,
    target: &'a str,
    backend: EngineKind,
    submission_id: &'a str,
    existed: bool,
    dry_run: bool,
}

async fn submit(
    request: &Request,
    to: Option<&str>,
    dry_run: Option<DryRunBy>,
    settings: &Settings,
    sent: &mut Option<String>,
) -> Done {
    let offline = dry_run == Some(DryRunBy::Client);
    let engine = choose(request, to, offline, settings).await?;
    let plan = match request {
        Request::Spec { spec, remarks } => {
            // sbatch reads such a script itself.
            if engine.target().kind != EngineKind::Slurm || !spec.is_for_slurm() {
                remarks.say(settings)?;
            }
            engine.plan(spec, offline).await?
        }
        Request::Manifest { object, draft } => file::plan(engine.target(), object, draft)?,
    };
    for note in &plan.notes {
        settings.ui.warn(note);
    }
    if offline {
        show::print(&plan, settings)?;
        return Ok(DONE);
    }
    *sent = Some(plan.name.clone());
    let server = dry_run == Some(DryRunBy::Server);
    let submitted = engine.submit(&plan, if server { DryRun::Server } else { DryRun::No }).await?;
    for warning in &submitted.warnings {
        settings.ui.warn(warning);
    }
    if server {
        show::print(&plan, settings)?;
        settings.ui.note(&format!("{} would take it", engine.target().name));
        return Ok(DONE);
    }
    report(&engine, &plan, &submitted, settings)?;
    Ok(DONE)
}

fn report(engine: &Shared, plan: &Plan, submitted: &Submitted, settings: &Settings) -> Result<(), Error> {
    let target = engine.target();
    let report = Report {
        schema: "aictl.submitted/v1",
        id: &submitted.id,
        address: format!("{}:{}", target.name, submitted.id),
        name: &plan.name,
        target: &target.name,
        backend: target.kind,
        submission_id: &plan.submission_id,
        existed: submitted.existed,
        dry_run: false,
    };
    match settings.output {
        OutputFormat::Json => settings.ui.json(&report),
        OutputFormat::Yaml => settings.ui.yaml(&report),
        OutputFormat::Name => settings.ui.print(&report.address),
        OutputFormat::Table | OutputFormat::Wide => {
            let how = if submitted.existed { "is there already, from the same submission" } else { "submitted" };
            settings.ui.print(&format!("{} {how}", report.address))
        }
    }
    .map_err(Error::output)?;
    if submitted.existed {
        settings.ui.hint("for another run of the same: --id SOMETHING-ELSE");
    } else {
        settings.ui.hint(&format!("aictl queue explain {} says when it may start", report.address));
    }
    Ok(())
}

/// The target that is meant: the named one, else the first that there is, Kubernetes queues first.
async fn choose(request: &Request, to: Option<&str>, offline: bool, settings: &Settings) -> Result<Shared, Error> {
    if let Some(to) = to {
        if offline && let Some(engine) = targets::unasked(to, settings).await? {
            settings.ui.warn(&format!(
                "no RAY_ADDRESS: written for {}, where Ray's job server answers on its own machine",
                engine.target().address.as_deref().unwrap_or_default()
            ));
            return Ok(engine);
        }
        return Ok(Targets::one(to, settings).await?);
    }
    let targets = Targets::all(settings).await;
    let fits = |engine: &&Shared| match request {
        Request::Manifest { .. } => engine.target().kind.is_kubernetes(),
        Request::Spec { .. } => true,
    };
    let found: Vec<&Shared> = targets.engines.iter().filter(fits).collect();
    let queues: Vec<&&Shared> = found.iter().filter(|engine| engine.target().kind != EngineKind::Kubernetes).collect();
    match (queues.as_slice(), found.as_slice()) {
        ([only], _) => return Ok(Shared::clone(only)),
        ([_, _, ..], _) => {
            let names: Vec<&str> = queues.iter().map(|engine| engine.target().name.as_str()).collect();
            return Err(Error::usage(format!("there are several places for it: {}", names.join(", ")))
                .hint("choose one with --to"));
        }
        ([], [plain, ..]) => return Ok(Shared::clone(plain)),
        ([], []) => {}
    }
    if offline {
        settings.ui.warn("no cluster, Slurm or Ray was found: written for Kueue; --to writes for another");
        return Ok(Targets::one("kueue", settings).await?);
    }
    if let Some((_, error)) = targets.unreached.into_iter().next() {
        return Err(error.into());
    }
    Err(targets::nothing().into())
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Error {
        let hint = error.hint();
        let kind = match error {
            QueueError::Cluster(error) => return error.into(),
            QueueError::NoSuchTarget { .. }
            | QueueError::NoSuchQueue { .. }
            | QueueError::Ambiguous { .. }
            | QueueError::Impossible { .. }
            | QueueError::Invalid { .. } => Kind::Usage,
            QueueError::NoEngine { .. } | QueueError::Unreachable { .. } => Kind::Blind,
            QueueError::NoSuchJob { .. }
            | QueueError::Unsupported { .. }
            | QueueError::Refused { .. }
            | QueueError::Unconfirmed { .. }
            | QueueError::LeftBehind { .. } => Kind::Failed,
        };
        let shown = Error::new(kind, error.to_string());
        match hint.filter(|hint| !hint.is_empty()) {
            Some(hint) => shown.hint(hint),
            None => shown,
        }
    }
}
