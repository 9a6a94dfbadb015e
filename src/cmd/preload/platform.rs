//! `aictl preload SOURCE --fluid` and `--local-model-cache`: others bring it near, followed from here.

use std::path::PathBuf;

use clap::ValueHint;
use serde_json::{Value, json};

use super::super::error::{DONE, Error, FOUND, Kind};
use super::super::settings::{OutputFormat, Settings};
use super::super::values::{Amount, Length};
use super::super::{Done, runtime};
use super::{Args, fetch, progress, render};
use crate::cluster::Cluster;
use crate::preload::Source;
use crate::preload::platform::{self, Cache, Fluid, LocalModel, Planned, PlatformError, Step};

/// Longest file of DataProcesses that is read.
const LONGEST: u64 = 4 << 20;

/// Flags of `aictl preload` for platforms.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Fluid and KServe")]
pub struct PlatformArgs {
    /// Let Fluid bring it into its distributed cache: a Dataset, a runtime and a DataLoad are made or
    /// reused, and followed
    #[arg(long, conflicts_with_all = ["nodes", "peers", "page_cache", "pin", "gpu"])]
    fluid: bool,
    /// With --fluid: run the DataProcesses of this file after it, one after the other; again for more
    #[arg(long, value_name = "FILE", requires = "fluid", value_hint = ValueHint::FilePath)]
    process: Vec<PathBuf>,
    /// Name of the Dataset or LocalModelCache [default: made of the source]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Kind of a new runtime, as AlluxioRuntime [default: what suits the source]
    #[arg(long, value_name = "KIND", requires = "fluid")]
    runtime: Option<String>,
    /// Workers of a new runtime
    #[arg(long, value_name = "N", requires = "fluid", default_value = "1")]
    cache_replicas: u32,
    /// Size of each worker's cache, as 100Gi
    #[arg(long, value_name = "QUANTITY", requires = "fluid", default_value = "100Gi")]
    cache_quota: String,
    /// What a worker's cache lies in: MEM, SSD or HDD
    #[arg(long, value_name = "MEDIUM", requires = "fluid", default_value = "MEM", value_parser = ["MEM", "SSD", "HDD"])]
    cache_medium: String,
    /// Where a worker's cache lies on its node
    #[arg(long, value_name = "DIR", requires = "fluid", default_value = "/dev/shm")]
    cache_path: String,
    /// Let KServe keep it on the nodes of this LocalModelNodeGroup; again for more
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["fluid", "nodes", "peers", "page_cache", "pin", "gpu"])]
    local_model_cache: Vec<String>,
    /// Size of the model, where the source can't be asked from here
    #[arg(long, value_name = "BYTES", requires = "local_model_cache")]
    model_size: Option<Amount>,
    /// Time after which it is not followed any more; it goes on by itself
    #[arg(long, value_name = "DURATION", default_value = "6h", hide = true)]
    platform_deadline: Length,
}

impl PlatformArgs {
    /// Whether a platform is to do it.
    pub fn wanted(&self) -> bool {
        self.fluid || !self.local_model_cache.is_empty()
    }
}

/// Makes the objects and follows them, or only says what would be done.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let flags = &args.platform;
    let [source] = args.sources.as_slice() else {
        return Err(Error::usage("Fluid and KServe take one source at a time"));
    };
    let processes = flags.process.iter().map(read).collect::<Result<Vec<_>, _>>()?.concat();
    let bytes = match (&flags.model_size, flags.fluid) {
        (Some(size), _) => size.0,
        (None, true) => 0,
        (None, false) => fetch::size(args, source).map_err(|error| {
            error.hint("where the source can't be asked from here, say how large it is: --model-size 16GB")
        })?,
    };
    let dry_run = args.dry_run;
    let (planned, steps) = runtime::block_on(async {
        let cluster = Cluster::connect(&settings.cluster).await?;
        let planned = plan(args, source, processes, bytes, &cluster).await?;
        if dry_run {
            return Ok((planned, None));
        }
        let listener = progress::listener(settings);
        let steps = platform::run(&cluster, &planned, flags.platform_deadline.0, listener.sink()).await;
        listener.close();
        Ok((planned, Some(steps?)))
    })?;
    match steps {
        Some(steps) => show(&planned, &steps, settings),
        None => show_plan(&planned, settings),
    }
}

async fn plan(
    args: &Args,
    source: &Source,
    processes: Vec<Value>,
    bytes: u64,
    cluster: &Cluster,
) -> Result<Vec<Planned>, PlatformError> {
    let flags = &args.platform;
    let name = flags.dataset.clone().unwrap_or_else(|| platform::name_of(source));
    if !flags.fluid {
        let (source, groups) = (source.clone(), flags.local_model_cache.clone());
        return LocalModel { source, name, groups, bytes }.plan(cluster).await;
    }
    let cache = Cache {
        runtime: flags.runtime.clone(),
        replicas: flags.cache_replicas,
        medium: flags.cache_medium.clone(),
        path: flags.cache_path.clone(),
        quota: flags.cache_quota.clone(),
    };
    let secret = args.nodes.secrets().first().cloned();
    Fluid { source: source.clone(), dataset: name, cache, secret, processes }.plan(cluster).await
}

/// The documents of a file of DataProcesses.
fn read(path: &PathBuf) -> Result<Vec<Value>, Error> {
    let what = || format!("cannot read {}", path.display());
    let length = std::fs::metadata(path).map_err(|error| Error::failed(what(), error))?.len();
    if length > LONGEST {
        return Err(Error::usage(format!("{} has {length} bytes: that is no file of DataProcesses", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| Error::failed(what(), error))?;
    let mut documents = Vec::new();
    for document in text.split("\n---").filter(|document| !document.trim_matches(['-', '\n', ' ']).is_empty()) {
        let read: Result<Value, _> = serde_yaml::from_str(document.trim_start_matches("---"));
        let value =
            read.map_err(|error| Error::usage(format!("{} is no YAML", path.display())).because(error.to_string()))?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

fn show_plan(planned: &[Planned], settings: &Settings) -> Done {
    let ui = &settings.ui;
    let printed = match settings.output {
        OutputFormat::Json => ui.json(&planned),
        OutputFormat::Yaml => {
            let items: Vec<&Value> = planned.iter().map(|one| &one.manifest).collect();
            ui.yaml(&json!({"apiVersion": "v1", "kind": "List", "items": items}))
        }
        OutputFormat::Name => {
            let names: Vec<String> =
                planned.iter().map(|one| format!("{}/{}", one.kind.to_lowercase(), one.name)).collect();
            ui.print(&names.join("\n"))
        }
        OutputFormat::Table | OutputFormat::Wide => ui.print(&render::platform_plan(planned, settings)),
    };
    printed.map_err(Error::output)?;
    Ok(DONE)
}

fn show(planned: &[Planned], steps: &[Step], settings: &Settings) -> Done {
    let ui = &settings.ui;
    // From cron nothing is said while nothing changes.
    let changed = planned.iter().any(|one| one.action != platform::Intent::Reuse);
    let good = steps.iter().all(|step| step.done);
    let asked = !matches!(settings.output, OutputFormat::Table | OutputFormat::Wide);
    if changed || !good || asked || std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        let printed = match settings.output {
            OutputFormat::Json => ui.json(&steps),
            OutputFormat::Yaml => ui.yaml(&steps),
            OutputFormat::Name => {
                let names: Vec<String> =
                    steps.iter().map(|step| format!("{}/{}", step.kind.to_lowercase(), step.name)).collect();
                ui.print(&names.join("\n"))
            }
            OutputFormat::Table | OutputFormat::Wide => ui.print(&render::platform(steps, settings)),
        };
        printed.map_err(Error::output)?;
    }
    Ok(if good { DONE } else { FOUND })
}

impl From<PlatformError> for Error {
    fn from(error: PlatformError) -> Error {
        let hint = error.hint();
        match error {
            PlatformError::Cluster(error) => error.into(),
            PlatformError::Unfit { .. } => Error::told(Kind::Usage, &error, hint),
            PlatformError::NotInstalled { .. } => Error::told(Kind::Blind, &error, hint),
            PlatformError::Late { .. } => Error::told(Kind::Failed, &error, hint),
        }
    }
}
