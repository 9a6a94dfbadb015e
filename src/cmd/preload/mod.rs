//! `aictl preload`: bring models near, and say what is where.

mod evict;
mod fetch;
mod gc;
mod gpu;
mod memory;
mod nodes;
mod peers;
mod place;
mod platform;
mod progress;
mod ready;
mod render;
mod status;

pub use ready::{ModelPlace, is_ready};

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};

use super::error::{Error, Kind};
use super::settings::{OutputFormat, Settings};
use super::values::{Amount, Length};
use super::{Done, env};
use crate::preload::{Model, PreloadError, Source, Store};

/// Bring models to this node's disk, page cache and GPU memory, and prove it
///
/// Fetches what is missing of each SOURCE into a cache as Hugging Face's tools have it, so that
/// vLLM, SGLang and transformers start from it with no flag. A run that was cut off is gone on with
/// by the next one; one that finds nothing to do says nothing.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "aictl preload [OPTIONS] <SOURCE>...\n       aictl preload status | evict | gc [OPTIONS]",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// hf://org/model@revision (or org/model), s3://, oss://, gs://, az://, https://, file:///,
    /// pvc://claim/path, oci://registry/repository:tag, or a path
    #[arg(value_name = "SOURCE", required = true, value_parser = source)]
    sources: Vec<Source>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    choice: Choice,
    /// Hash all files again, also those that were found right before
    #[arg(long)]
    verify: bool,
    /// Say what would be done, how much it is and how long it may take, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    memory: memory::MemoryArgs,
    #[command(flatten)]
    nodes: nodes::NodeArgs,
    #[command(flatten)]
    peers: peers::PeerArgs,
    #[command(flatten)]
    platform: platform::PlatformArgs,
}

/// Which store.
#[derive(Debug, Clone, clap::Args)]
struct Place {
    /// Directory to serve as HF_HOME: models lie in its hub/
    /// [default: as Hugging Face's tools: $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub]
    #[arg(long, value_name = "DIR", env = env::PRELOAD_TO, hide_env = true, value_hint = ValueHint::DirPath)]
    to: Option<PathBuf>,
}

/// What of a source, and how.
#[derive(Debug, Clone, clap::Args)]
struct Choice {
    /// Only files that match; again for more (*.safetensors matches in all directories)
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No files that match; again for more
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Ask a source for a newer revision only if it was not asked for this long
    #[arg(long, value_name = "DURATION")]
    max_age: Option<Length>,
    /// Bytes a second, all connections (and with --nodes all nodes) together, as 200MB or 1GiB
    /// [default: no limit]
    #[arg(long, value_name = "BYTES")]
    limit_rate: Option<Amount>,
    /// Most connections; as many of them are opened as make it faster
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=512))]
    connections: u16,
    /// Most memory for data on its way
    #[arg(long, value_name = "BYTES", default_value = "256MiB")]
    max_memory: Amount,
    /// Time without a byte after which a request is made again
    #[arg(long, value_name = "DURATION", default_value = "20s")]
    stall_timeout: Length,
    /// Failures of a request, one after the other without progress, after which the run fails
    #[arg(long, value_name = "N", default_value = "8")]
    retries: u32,
    /// Time between two events about a file's progress
    #[arg(long, value_name = "DURATION", default_value = "100ms", hide = true)]
    tell: Length,
    /// Where a pod has mounted a claim of a pvc:// source [default: /mnt/pvc/CLAIM]
    #[arg(long, value_name = "CLAIM=DIR", value_parser = mount)]
    mount: Vec<(String, PathBuf)>,
    /// Wait this long for another run in the same store to end
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: Length,
}

#[derive(Debug, Subcommand)]
enum What {
    Status(status::Args),
    Evict(evict::Args),
    Gc(gc::Args),
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  aictl preload hf://Qwen/Qwen3-8B                       from the hub to this node's disk
  aictl preload s3://models/llama --to /cache            from a bucket; HF_HOME=/cache uses it
  aictl preload Qwen/Qwen3-8B --page-cache               and on into memory
  aictl preload /models/llama --pin                      a directory, where it lies; kept in memory
  aictl preload Qwen/Qwen3-8B --gpu 0                    how fast does it come into a GPU?
  aictl preload Qwen/Qwen3-8B --max-age 1h -q            for cron
  aictl preload Qwen/Qwen3-8B --dry-run                  how much would it be?
  aictl preload Qwen/Qwen3-8B --rank 0/4                 only what this pipeline rank needs
  aictl preload Qwen/Qwen3-8B --nodes -l gpu=true --peer on all GPU nodes, from each other
  aictl preload oss://models/llama --fluid               into Fluid's cache
  aictl preload status                                   what is where
  aictl preload gc --max-size 2TB --dry-run              what would have to go?"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

Credentials come from the environment (HF_TOKEN, AWS_*, OSS_*, GOOGLE_*, AZURE_*) and from where
the hub's and Docker's own tools keep theirs; docs/preload.md has the list. With -o json, stdout has
the models (aictl.model/v1) and stderr one JSON object a line for each thing that happens.

Paths alone with --page-cache, --pin or --gpu and no --to are used where they lie; nothing is copied.

Exit codes: 0 done · 1 failed; run it again to go on · 2 usage · 3 content is wrong, or not all of
it is in memory · 4 could not see: no GPU, or residency unknown · 130 interrupted."
);

/// Fetches, or does what was asked for instead.
pub fn run(args: Args, settings: &Settings) -> Done {
    match &args.what {
        Some(What::Status(args)) => return status::run(args, settings),
        Some(What::Evict(args)) => return evict::run(args, settings),
        Some(What::Gc(args)) => return gc::run(args, settings),
        None => {}
    }
    if args.platform.wanted() {
        return platform::run(&args, settings);
    }
    if args.nodes.wanted() {
        return nodes::run(&args, settings);
    }
    if args.memory.wants_memory() && args.place.is_unset() && args.sources.iter().all(place::is_path) {
        return place::run(&args, settings);
    }
    fetch::run(&args, settings)
}

impl Args {
    /// The flags that another node is to be given, too, as they would be typed.
    fn flags_again(&self) -> Vec<String> {
        let choice = &self.choice;
        let mut again = Vec::new();
        // One word each: a value may begin with a dash.
        let mut flag = |name: &str, value: Option<String>| {
            again.push(value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}")));
        };
        choice.include.iter().for_each(|glob| flag("--include", Some(glob.clone())));
        choice.exclude.iter().for_each(|glob| flag("--exclude", Some(glob.clone())));
        if let Some(age) = choice.max_age {
            flag("--max-age", Some(seconds(age)));
        }
        flag("--connections", Some(choice.connections.to_string()));
        flag("--max-memory", Some(choice.max_memory.0.to_string()));
        flag("--stall-timeout", Some(seconds(choice.stall_timeout)));
        flag("--retries", Some(choice.retries.to_string()));
        // Somebody else's run there, such as one from cron, is waited for.
        let wait = if choice.wait.0.is_zero() { "1h".to_owned() } else { seconds(choice.wait) };
        flag("--wait", Some(wait));
        // Logs of pods are kept, and are short.
        flag("--tell", Some("2s".to_owned()));
        choice.mount.iter().for_each(|(claim, at)| flag("--mount", Some(format!("{claim}={}", at.display()))));
        if self.verify {
            flag("--verify", None);
        }
        again.extend(self.memory.flags_again());
        again
    }
}

/// A length of time as it is typed: seconds.
fn seconds(length: Length) -> String {
    format!("{}s", length.0.as_secs_f64())
}

impl Place {
    /// Whether no store was named.
    fn is_unset(&self) -> bool {
        self.to.is_none()
    }

    /// The store that is meant.
    fn store(&self) -> Result<Store, Error> {
        if let Some(directory) = &self.to {
            return Ok(Store::at_home(&std::path::absolute(directory).unwrap_or_else(|_| directory.clone())));
        }
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Store::usual(variable).ok_or_else(|| Error::usage("no store: HOME is not set").hint("name one: --to DIR"))
    }
}

/// Prints models in whatever format was asked for.
fn show(models: &[Model], settings: &Settings) -> Result<(), Error> {
    let ui = &settings.ui;
    let printed = match settings.output {
        OutputFormat::Json => ui.json(&models),
        OutputFormat::Yaml => ui.yaml(&models),
        OutputFormat::Name if models.is_empty() => Ok(()),
        OutputFormat::Name => {
            ui.print(&models.iter().map(|model| model.path.display().to_string()).collect::<Vec<_>>().join("\n"))
        }
        OutputFormat::Table | OutputFormat::Wide if models.is_empty() => Ok(()),
        OutputFormat::Table => ui.print(&render::models(models, false, settings)),
        OutputFormat::Wide => ui.print(&render::models(models, true, settings)),
    };
    printed.map_err(Error::output)
}

/// Reads a SOURCE of the command line.
fn source(text: &str) -> Result<Source, String> {
    text.parse::<Source>().map(Source::absolute)
}

/// Reads `CLAIM=DIR`.
fn mount(text: &str) -> Result<(String, PathBuf), String> {
    let (claim, directory) = text.split_once('=').ok_or("not CLAIM=DIR")?;
    if claim.is_empty() || !Path::new(directory).is_absolute() {
        return Err("not CLAIM=DIR with an absolute DIR".to_owned());
    }
    Ok((claim.to_owned(), directory.into()))
}

impl From<PreloadError> for Error {
    fn from(error: PreloadError) -> Error {
        let kind = match &error {
            PreloadError::Refused { .. } => Kind::Blind,
            PreloadError::Listen { .. } => Kind::Failed,
            _ => Kind::Failed,
        };
        Error::told(kind, &error, error.hint())
    }
}
