//! The engines, one file (or folder) each, and how a target is opened.

mod http;
pub mod kubernetes;
mod ray;
mod slurm;
mod user;

use self::kubernetes::Kubernetes;
use super::engine::{Answer, Engine};
use super::error::QueueError;
use super::sync::Machines;
use super::target::{EngineKind, Target};

/// Opens a target: connects as far as its engine needs it.
pub fn open(target: &Target) -> Answer<'_, Box<dyn Engine>> {
    Box::pin(async move {
        let engine: Box<dyn Engine> = match target.kind {
            EngineKind::Slurm => Box::new(slurm::open(target)?),
            EngineKind::Ray => Box::new(ray::open(target)?),
            EngineKind::Kueue | EngineKind::Volcano | EngineKind::KubeQueue | EngineKind::Kubernetes => {
                Box::new(Kubernetes::open(target).await)
            }
        };
        Ok(engine)
    })
}

/// What the nodes of a Slurm are doing, and what waits for them.
///
/// # Errors
/// If the target is no Slurm, or can't be asked.
pub fn slurm_machines(target: &Target) -> Answer<'_, Machines> {
    Box::pin(async move {
        if target.kind != EngineKind::Slurm {
            return Err(QueueError::Unsupported {
                engine: target.name.clone(),
                what: format!("be asked for nodes: it is {}, not Slurm", target.kind),
                instead: "name a target whose engine is slurm".to_owned(),
            });
        }
        slurm::machines(target).await
    })
}

/// Why this machine's Slurm is no target, where its programs are there and that is all.
pub fn unconfigured() -> Option<QueueError> {
    slurm::unconfigured()
}

/// The targets that this machine shows without being told: Slurm's programs on the PATH, Ray's
/// address in RAY_ADDRESS.
pub fn local() -> Vec<Target> {
    slurm::local().into_iter().chain(ray::local()).collect()
}
