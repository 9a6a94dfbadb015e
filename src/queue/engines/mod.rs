//! The engines, one file (or folder) each, and how a target is opened.

mod http;
pub mod kubernetes;
mod ray;
mod slurm;
mod user;

use self::kubernetes::Kubernetes;
use super::engine::{Answer, Engine};
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

/// The targets that this machine shows without being told: Slurm's programs on the PATH, Ray's
/// address in RAY_ADDRESS.
pub fn local() -> Vec<Target> {
    slurm::local().into_iter().chain(ray::local()).collect()
}
