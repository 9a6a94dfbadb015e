//! The flags for pods, and what is meant by them.

use std::time::Instant;

use clap::ValueEnum;
use regex::Regex;

use super::super::env;
use super::super::error::Error;
use super::super::settings::Settings;
use crate::agent::{self, AgentChoice, AgentKind, Order, Plan, PullPolicy, Selection, Target};
use crate::cluster::Cluster;
use crate::profile::CaptureOptions;
use crate::view::text;

/// Threads for the streams of nodes: more than the one who writes keeps up with help nobody.
const MOST_THREADS: usize = 16;

/// Flags for pods.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Pods")]
pub struct PodArgs {
    /// Pods with these labels: app=train,role!=launcher
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only this container of each pod
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Only processes whose command line matches
    #[arg(long, value_name = "REGEX")]
    process: Option<String>,
    /// Put a pod on each node, or use the installed DaemonSet
    #[arg(long, value_enum, value_name = "HOW", default_value_t = How::Pod, hide_short_help = true)]
    agent: How,
    /// Image of that pod [default: aictl of this version]
    #[arg(long, value_name = "IMAGE", env = env::AGENT_IMAGE, hide_env = true, hide_short_help = true)]
    agent_image: Option<String>,
    /// Namespace of that pod [default: the target's; of the DaemonSet: aictl]
    #[arg(long, value_name = "NAME", env = env::AGENT_NAMESPACE, hide_env = true, hide_short_help = true)]
    agent_namespace: Option<String>,
    /// When nodes pull that image
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = When::IfNotPresent, hide_short_help = true)]
    node_image_pull_policy: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// A pod for this capture, removed after it
    Pod,
    /// The DaemonSet of deploy/
    Daemonset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// If they have not got it
    IfNotPresent,
    /// Every time
    Always,
    /// Never
    Never,
}

impl PodArgs {
    /// Whether pods are named by labels.
    pub fn has_labels(&self) -> bool {
        self.selector.is_some()
    }

    /// Finds what is meant in the cluster; nothing is made there yet.
    pub fn plan(
        &self,
        targets: &[String],
        options: &CaptureOptions,
        asked: Instant,
        settings: &Settings,
    ) -> Result<Plan, Error> {
        let targets: Vec<Target> = targets.iter().map(|word| Target::parse(word)).collect::<Result<_, _>>()?;
        if let Some(pattern) = &self.process {
            Regex::new(pattern).map_err(|error| Error::usage("--process is no regular expression").because(error))?;
        }
        let selection = Selection { targets, labels: self.selector.clone(), container: self.container.clone() };
        // Nodes' streams are unpacked and joined there, each beside the others.
        let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, MOST_THREADS));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = runtime.map_err(|error| Error::failed("cannot wait for the network", error))?;
        let (cluster, found) = runtime.block_on(async {
            let cluster = Cluster::connect(&settings.cluster).await?;
            let found = agent::resolve(&cluster, &selection).await;
            Ok::<_, crate::cluster::ClusterError>((cluster, found))
        })?;
        let (pods, left_out) = found?;
        for why in left_out {
            settings.ui.warn(&text::plain(&format!("{why}: left out")));
        }
        let agent = AgentChoice {
            kind: match self.agent {
                How::Pod => AgentKind::Pod,
                How::Daemonset => AgentKind::Daemonset,
            },
            image: self.agent_image.clone().unwrap_or_else(|| format!("aictl:{}", env!("CARGO_PKG_VERSION"))),
            pull: match self.node_image_pull_policy {
                When::IfNotPresent => PullPolicy::IfNotPresent,
                When::Always => PullPolicy::Always,
                When::Never => PullPolicy::Never,
            },
            namespace: self.agent_namespace.clone(),
        };
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let order = Order {
            containers: Vec::new(),
            process: self.process.clone(),
            layers: options.layers.iter().map(|layer| layer.name().to_owned()).collect(),
            duration_ms: options.duration.map(millis),
            max_overhead: options.max_overhead,
            python_hz: options.python_hz,
            syscall_threshold_ns: u64::try_from(options.syscall_threshold.as_nanos()).unwrap_or(u64::MAX),
        };
        Ok(Plan { runtime, cluster, pods, agent, order, asked })
    }
}
