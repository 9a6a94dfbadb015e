//! Which engines are meant: those of the configuration, those that a cluster serves, those of this
//! machine.

use std::sync::Arc;

use futures::future::join_all;

use super::settings::Settings;
use crate::cluster::ClusterError;
use crate::queue::engines::kubernetes::Kubernetes;
use crate::queue::engines::{self};
use crate::queue::{Engine, EngineKind, QueueError, Target, TargetOptions};

/// An engine that several tasks may ask.
pub type Shared = Arc<dyn Engine>;

/// What there is.
#[derive(Default)]
pub struct Targets {
    /// Those that can be asked.
    pub engines: Vec<Shared>,
    /// Those that can't, by name, and why.
    pub unreached: Vec<(String, QueueError)>,
}

impl Targets {
    /// All that there is; what can't be reached hides nothing else.
    pub async fn all(settings: &Settings) -> Targets {
        let configured = join_all(settings.config.targets.iter().map(|options| of_options(options, settings)));
        let (configured, found) = futures::join!(configured, found(settings));
        let mut targets = Targets::default();
        let named = settings.config.targets.iter().map(|options| options.name.clone());
        for (name, opened) in named.zip(configured) {
            match opened {
                Ok(engines) => targets.engines.extend(engines),
                Err(error) => targets.unreached.push((name, error)),
            }
        }
        for engine in found.engines {
            let own = engine.target();
            let known = |known: &Shared| known.target().name == own.name || known.target().is_place_of(own);
            if !targets.engines.iter().any(known) {
                targets.engines.push(engine);
            }
        }
        targets.unreached.extend(found.unreached);
        targets
    }

    /// All that there is, if there is anything.
    ///
    /// # Errors
    /// If nothing was found at all.
    pub async fn some(settings: &Settings) -> Result<Targets, QueueError> {
        let targets = Targets::all(settings).await;
        if targets.engines.is_empty() && targets.unreached.is_empty() {
            return Err(nothing());
        }
        Ok(targets)
    }

    /// One, by its name or its engine's.
    ///
    /// # Errors
    /// If there is none of that name, or it can't be reached.
    pub async fn one(name: &str, settings: &Settings) -> Result<Shared, QueueError> {
        if let Some(options) = settings.config.targets.iter().find(|options| options.name == name) {
            let engines = of_options(options, settings).await?;
            return engines.into_iter().next().ok_or_else(|| none_of(name));
        }
        if let Ok(kind) = name.parse::<EngineKind>() {
            let mut target = engines::local().into_iter().find(|target| target.kind == kind);
            if kind.is_kubernetes() {
                let mut own = Target::found(kind, "");
                own.kubernetes = settings.cluster.clone();
                target = Some(own);
            }
            let target = target.unwrap_or_else(|| Target::found(kind, kind.name()));
            return Ok(Arc::from(engines::open(&target).await?));
        }
        let known = settings.config.targets.iter().map(|options| options.name.clone());
        let known = known.chain(EngineKind::ALL.iter().map(|kind| kind.name().to_owned())).collect();
        Err(QueueError::NoSuchTarget { name: name.to_owned(), known })
    }
}

/// Where Ray's job server answers unless it is told otherwise (RAY_DEFAULT_DASHBOARD_PORT of Ray's own).
const RAY: &str = "http://127.0.0.1:8265";

/// An engine that is written for and never asked, where it has no address here: Ray.
///
/// # Errors
/// If it can't be opened.
pub async fn unasked(name: &str, settings: &Settings) -> Result<Option<Shared>, QueueError> {
    let configured = settings.config.targets.iter().any(|options| options.name == name);
    let found = || engines::local().iter().any(|target| target.kind == EngineKind::Ray);
    if configured || name.parse() != Ok(EngineKind::Ray) || found() {
        return Ok(None);
    }
    let mut target = Target::found(EngineKind::Ray, EngineKind::Ray.name());
    target.address = Some(RAY.to_owned());
    Ok(Some(Arc::from(engines::open(&target).await?)))
}

/// What is said where there is no target at all.
pub fn nothing() -> QueueError {
    let looked =
        "there is no kubeconfig, no sbatch and scontrol on the PATH, no RAY_ADDRESS and no target in the configuration";
    // Where something else is, Slurm's bare programs are no target that anybody misses.
    engines::unconfigured().unwrap_or_else(|| QueueError::NoEngine { looked: looked.to_owned() })
}

fn none_of(name: &str) -> QueueError {
    QueueError::NoEngine { looked: format!("target {name} serves none") }
}

/// A configured target: a cluster may serve several engines, which then are called TARGET-ENGINE.
async fn of_options(options: &TargetOptions, settings: &Settings) -> Result<Vec<Shared>, QueueError> {
    let kubernetes = crate::cluster::Options {
        kubeconfig: options.kubeconfig.clone().or_else(|| settings.cluster.kubeconfig.clone()),
        context: options.context.clone(),
        namespace: options.namespace.clone().or_else(|| settings.cluster.namespace.clone()),
    };
    let Some(kind) = options.engine else {
        let mut engines = Kubernetes::discover(&kubernetes).await?;
        // A cluster without a queue is still a place for jobs; one with a queue needs no second face.
        if engines.len() > 1 {
            engines.pop();
        }
        let several = engines.len() > 1;
        let named = |engine: Kubernetes| -> Shared {
            let name = match several {
                true => format!("{}-{}", options.name, engine.target().kind),
                false => options.name.clone(),
            };
            Arc::new(engine.named(&name))
        };
        return Ok(engines.into_iter().map(named).collect());
    };
    let target = Target {
        name: options.name.clone(),
        kind,
        cluster: options
            .context
            .clone()
            .unwrap_or_else(|| if kind.is_kubernetes() { String::new() } else { options.name.clone() }),
        kubernetes,
        address: options.address.clone(),
        token_file: options.token_file.clone(),
        user: options.user.clone(),
        programs: options.programs.clone(),
    };
    Ok(vec![Arc::from(engines::open(&target).await?)])
}

/// What is there without being configured: the cluster of the kubeconfig, and this machine's own.
async fn found(settings: &Settings) -> Targets {
    let mut targets = Targets::default();
    match Kubernetes::discover(&settings.cluster).await {
        Ok(engines) => targets.engines.extend(engines.into_iter().map(|engine| Arc::new(engine) as Shared)),
        Err(QueueError::Cluster(ClusterError::NoConfiguration)) => {}
        Err(error) => {
            let name = settings.cluster.context.clone().unwrap_or_else(|| "kubernetes".to_owned());
            targets.unreached.push((name, error));
        }
    }
    for target in engines::local() {
        match engines::open(&target).await {
            Ok(engine) => targets.engines.push(Arc::from(engine)),
            Err(error) => targets.unreached.push((target.name.clone(), error)),
        }
    }
    targets
}
