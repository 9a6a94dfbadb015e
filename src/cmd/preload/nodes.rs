//! `aictl preload … --nodes`: the same on many nodes, as Jobs, followed from here.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::super::error::{BLIND, DONE, Error, FAILED, FOUND, Kind};
use super::super::settings::{OutputFormat, Settings};
use super::super::values::{Amount, Length};
use super::super::{Done, env, runtime};
use super::{Args, fetch, progress, render};
use crate::cluster::{Cluster, NodeChoice, nodes};
use crate::preload::Source;
use crate::preload::access::text;
use crate::preload::nodes::{
    self as fleet, Action, Fleet, NodeReport, NodeState, Orders, Planned, StorePlace, Toleration,
};

/// Where the store of a node is unless `--to` says so.
const STORE: &str = "/var/lib/aictl/models";
/// Jobs at once unless told otherwise: what a registry and a source usually bear.
const AT_ONCE: usize = 32;
/// Variables that say where sources are, and hold no secrets.
const VARIABLES: [&str; 10] = [
    "HF_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_SKIP_SIGNATURE",
    "OSS_ENDPOINT",
    "OSS_REGION",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// Flags of `aictl preload` for many nodes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Nodes")]
pub struct NodeArgs {
    /// Do it on nodes of the cluster, as a Job on each: on those named, or on those that -l selects
    #[arg(long, value_name = "NODE", num_args = 0..)]
    nodes: Option<Vec<String>>,
    /// Nodes with these labels: gpu=true,zone!=b
    #[arg(short = 'l', long, value_name = "LABELS", requires = "nodes")]
    selector: Option<String>,
    /// Let nodes take files from each other, so that the source is read about once
    #[arg(long, requires = "nodes")]
    peer: bool,
    /// Jobs at once [default: 32; with --peer all]
    #[arg(long, value_name = "N", requires = "nodes", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,
    /// How often a node that failed is tried again
    #[arg(long, value_name = "N", requires = "nodes", default_value = "2")]
    node_retries: u32,
    /// Image with aictl as its entry
    #[arg(long, value_name = "IMAGE", env = env::PRELOAD_IMAGE, hide_env = true, default_value = concat!("aictl:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Secret to pull the image with; again for more
    #[arg(long, value_name = "NAME", requires = "nodes")]
    pull_secret: Vec<String>,
    /// Secret whose keys are credentials, as HF_TOKEN or AWS_ACCESS_KEY_ID; again for more
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,
    /// Keep the store in this claim instead of in a directory of the node
    #[arg(long, value_name = "NAME", requires = "nodes")]
    claim: Option<String>,
    /// Taint that is tolerated: KEY[=VALUE][:EFFECT], or * for all; again for more [default: GPU
    /// nodes' nvidia.com/gpu and amd.com/gpu]
    #[arg(long, value_name = "TAINT", requires = "nodes")]
    toleration: Vec<Toleration>,
    /// Account of the pods [default: the namespace's]
    #[arg(long, value_name = "NAME", requires = "nodes")]
    service_account: Option<String>,
    /// User id that writes the store
    #[arg(long, value_name = "UID", requires = "nodes", default_value = "0")]
    run_as: u32,
    /// Most memory of a pod, its page cache counted [default: 2GiB; none with --page-cache]
    #[arg(long, value_name = "BYTES", requires = "nodes")]
    pod_memory: Option<Amount>,
    /// Time after which a node is given up
    #[arg(long, value_name = "DURATION", requires = "nodes", default_value = "6h")]
    node_deadline: Length,
}

impl NodeArgs {
    /// Whether nodes are meant.
    pub fn wanted(&self) -> bool {
        self.nodes.is_some()
    }

    /// Secrets with credentials.
    pub fn secrets(&self) -> &[String] {
        &self.secret
    }
}

/// What a dry run says.
#[derive(Serialize)]
struct FleetPlan<'a> {
    schema: &'static str,
    nodes: &'a [Planned],
    left_out: &'a [(String, String)],
    at_once: usize,
    #[serde(flatten)]
    size: FleetSize,
    manifests: Vec<Value>,
}

/// How much it would be. What Jobs keep is not done again and not counted; what lies on a node's disk
/// already is not known here.
#[derive(Debug, Default, Serialize)]
pub struct FleetSize {
    /// Bytes of the model, if the source could be asked from here.
    pub bytes: Option<u64>,
    /// Most bytes that come from the source: for all nodes, with --peer about once.
    pub source_bytes: Option<u64>,
    /// How long that takes, where --limit-rate says how much goes over the wire.
    pub estimate_s: Option<f64>,
    /// Why the size is not known.
    pub unknown: Option<String>,
}

impl FleetSize {
    fn of(args: &Args, planned: &[Planned]) -> FleetSize {
        let nodes = planned.iter().filter(|one| one.action != Action::Keep).count() as u64;
        let mut bytes: u64 = 0;
        for source in &args.sources {
            if matches!(source, Source::Claim { .. } | Source::Path(_)) {
                let unknown = Some(format!("{source} is there on the nodes only"));
                return FleetSize { unknown, ..FleetSize::default() };
            }
            match fetch::size(args, source) {
                Ok(size) => bytes = bytes.saturating_add(size),
                Err(error) => return FleetSize { unknown: Some(error.line()), ..FleetSize::default() },
            }
        }
        let times = if args.nodes.peer { nodes.min(1) } else { nodes };
        let source_bytes = bytes.saturating_mul(times);
        let rate = args.choice.limit_rate.map(|rate| rate.0 as f64);
        FleetSize {
            bytes: Some(bytes),
            source_bytes: Some(source_bytes),
            estimate_s: rate.map(|rate| source_bytes as f64 / rate),
            unknown: None,
        }
    }
}

/// Makes Jobs and follows them, or only says what would be done.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let flags = &args.nodes;
    let named = flags.nodes.clone().unwrap_or_default();
    let choice = match (&flags.selector, named.is_empty()) {
        (Some(selector), true) => NodeChoice::Labels(selector.clone()),
        (None, false) => NodeChoice::Named(named),
        (Some(_), false) => return Err(Error::usage("--nodes with names, and -l: give one of them")),
        (None, true) => {
            let error = Error::usage("--nodes names none");
            return Err(error.hint("name nodes, or select them: --nodes -l gpu=true"));
        }
    };
    let only_here = args.memory.only_here().or(args.peers.wanted().then_some("--peers"));
    if let Some(flag) = only_here {
        let error = Error::usage(format!("{flag} is for this node, not for Jobs on others"));
        return Err(error.hint("what a Job holds in memory would end with it"));
    }
    let mut seen: Option<(Fleet, usize)> = None;
    let found = runtime::block_on(async {
        let cluster = Cluster::connect(&settings.cluster).await?;
        let (nodes, left_out) = chosen(&cluster, &choice).await?;
        let at_once = flags.at_once.map_or_else(
            || if flags.peer { nodes.len() } else { AT_ONCE.min(nodes.len()) },
            |count| usize::try_from(count).unwrap_or(usize::MAX).min(nodes.len()),
        );
        let fleet = fleet(args, &cluster, nodes.len(), at_once)?;
        let planned = fleet::plan(&cluster, &fleet, &nodes).await?;
        if args.dry_run {
            return Ok(Outcome::Plan(Box::new(fleet), planned, left_out, at_once));
        }
        for (node, why) in &left_out {
            settings.ui.warn(&format!("{node} is left out: it is {why}"));
        }
        seen = Some((fleet.clone(), nodes.len()));
        let listener = progress::listener(settings);
        let orders = Orders { at_once, retries: flags.node_retries };
        let ended = fleet::run(&cluster, &fleet, &planned, orders, listener.sink()).await;
        listener.close();
        Ok(Outcome::Reports(ended?))
    });
    match found {
        Ok(Outcome::Plan(fleet, planned, left_out, at_once)) => {
            let size = match settings.output {
                // Neither shows it.
                OutputFormat::Yaml | OutputFormat::Name => FleetSize::default(),
                _ => FleetSize::of(args, &planned),
            };
            show_plan(
                &fleet,
                FleetPlan {
                    schema: "aictl.preload-fleet/v1",
                    nodes: &planned,
                    left_out: &left_out,
                    at_once,
                    size,
                    manifests: Vec::new(),
                },
                settings,
            )
        }
        Ok(Outcome::Reports(reports)) => show(&reports, settings),
        Err(error) => match seen {
            // The Jobs are the cluster's; they go on whatever became of us.
            Some((fleet, _)) => Err(error
                .hint("Jobs that were made go on; the same command takes them up")
                .hint(format!("to end them: {}", fleet::forget(&fleet)))),
            None => Err(error),
        },
    }
}

enum Outcome {
    Plan(Box<Fleet>, Vec<Planned>, Vec<(String, String)>, usize),
    Reports(Vec<NodeReport>),
}

/// The nodes that are meant; of those that a selector finds, the ones that can run a pod now.
async fn chosen(cluster: &Cluster, choice: &NodeChoice) -> Result<(Vec<String>, Vec<(String, String)>), Error> {
    let mut good = Vec::new();
    let mut left_out = Vec::new();
    for node in nodes(cluster, choice).await? {
        let ready = node.conditions.iter().find(|condition| condition.kind == "Ready");
        let why = match ready {
            Some(ready) if ready.status != "True" => Some("not ready"),
            _ if node.unschedulable => Some("cordoned"),
            _ => None,
        };
        match (why, choice) {
            (Some(why), NodeChoice::Labels(_)) => left_out.push((node.name, why.to_owned())),
            _ => good.push(node.name),
        }
    }
    if good.is_empty() {
        let what = match choice {
            NodeChoice::Labels(selector) if left_out.is_empty() => format!("no node has the labels {selector}"),
            _ => format!("none of {} nodes can run a Job now", left_out.len()),
        };
        return Err(Error::new(Kind::Failed, what).hint("kubectl get nodes --show-labels shows what there is"));
    }
    Ok((good, left_out))
}

fn fleet(args: &Args, cluster: &Cluster, count: usize, at_once: usize) -> Result<Fleet, Error> {
    let (flags, choice) = (&args.nodes, &args.choice);
    let directory = args.place.to.clone().unwrap_or_else(|| STORE.into());
    if !directory.is_absolute() || directory == Path::new("/") {
        return Err(Error::usage(format!("--to {}: on other nodes it must be an absolute path", directory.display())));
    }
    let mut claims = Vec::new();
    let mut host_sources = Vec::new();
    for source in &args.sources {
        match source {
            Source::Claim { claim, .. } => {
                let given = choice.mount.iter().find(|(name, _)| name == claim).map(|(_, at)| at.clone());
                claims.push((claim.clone(), given.unwrap_or_else(|| PathBuf::from("/mnt/pvc").join(claim))));
            }
            Source::Path(path) => host_sources.push(path.clone()),
            Source::Web(url) if url.query().is_some() || !url.username().is_empty() || url.password().is_some() => {
                return Err(Error::usage(format!("{source} has a secret in its URL, which a Job would show to all")));
            }
            _ => {}
        }
    }
    claims.sort();
    claims.dedup();
    host_sources.sort();
    host_sources.dedup();
    let mut arguments: Vec<String> = args.sources.iter().map(ToString::to_string).collect();
    arguments.extend(args.flags_again());
    let passing = choice.limit_rate.map(|rate| (rate.0 / at_once.max(1) as u64).max(1).to_string());
    let passing = passing.map_or_else(Vec::new, |rate| vec!["--limit-rate".to_owned(), rate]);
    let warm = args.memory.wants_memory();
    Ok(Fleet {
        namespace: cluster.namespace().to_owned(),
        image: flags.image.clone(),
        arguments,
        passing,
        // An address with a name or a signature in it is a secret, too.
        variables: VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), text(name)?)))
            .filter(|(_, value)| !value.contains(['@', '?']))
            .collect(),
        secrets: flags.secret.clone(),
        pull_secrets: flags.pull_secret.clone(),
        service_account: flags.service_account.clone(),
        store: match &flags.claim {
            Some(claim) => StorePlace::Claim(claim.clone(), directory),
            None => StorePlace::Host(directory),
        },
        claims,
        host_sources,
        tolerations: if flags.toleration.is_empty() { Toleration::usual() } else { flags.toleration.clone() },
        deadline_s: flags.node_deadline.0.as_secs().max(1),
        max_memory: choice.max_memory.0,
        memory_limit: flags.pod_memory.map(|amount| amount.0).or_else(|| (!warm).then_some(2 << 30)),
        run_as: flags.run_as,
        peers: flags.peer.then_some(count.min(at_once)),
    })
}

fn show_plan(fleet: &Fleet, mut plan: FleetPlan<'_>, settings: &Settings) -> Done {
    // A token is made when it is needed, and never shown.
    let mut manifests = fleet.shared("made when the Jobs are");
    manifests.extend(plan.nodes.iter().map(|one| fleet.job(&one.node)));
    let ui = &settings.ui;
    let printed = match settings.output {
        OutputFormat::Yaml => ui.yaml(&json!({"apiVersion": "v1", "kind": "List", "items": manifests})),
        OutputFormat::Json => {
            plan.manifests = manifests;
            ui.json(&plan)
        }
        OutputFormat::Name => {
            let names: Vec<String> = plan.nodes.iter().map(|one| format!("job/{}", one.job)).collect();
            ui.print(&names.join("\n"))
        }
        OutputFormat::Table | OutputFormat::Wide => {
            ui.print(&render::fleet_plan(plan.nodes, plan.left_out, plan.at_once, &plan.size, settings))
        }
    };
    printed.map_err(Error::output)?;
    Ok(DONE)
}

fn show(reports: &[NodeReport], settings: &Settings) -> Done {
    let ui = &settings.ui;
    let printed = match settings.output {
        OutputFormat::Json => ui.json(&reports),
        OutputFormat::Yaml => ui.yaml(&reports),
        OutputFormat::Name => {
            let names: Vec<String> = reports.iter().map(|report| format!("node/{}", report.node)).collect();
            ui.print(&names.join("\n"))
        }
        OutputFormat::Table | OutputFormat::Wide => ui.print(&render::fleet(reports, settings)),
    };
    printed.map_err(Error::output)?;
    let any = |state: NodeState| reports.iter().any(|report| report.state == state);
    let failed = reports.iter().filter(|report| report.state != NodeState::Done).count();
    if failed > 0 {
        ui.hint(&format!("{failed} of {} nodes are not done; the same command runs those again", reports.len()));
    }
    Ok(match () {
        () if any(NodeState::Failed) => FAILED,
        () if any(NodeState::Wrong) => FOUND,
        () if any(NodeState::Blind) => BLIND,
        () => DONE,
    })
}
