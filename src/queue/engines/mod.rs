//! The engines, one file (or folder) each, and how a target is opened.

pub mod kubernetes;

use self::kubernetes::Kubernetes;
use super::engine::{Answer, Engine};
use super::error::QueueError;
use super::target::{EngineKind, Target};

/// Opens a target: connects as far as its engine needs it.
pub fn open(target: &Target) -> Answer<'_, Box<dyn Engine>> {
    Box::pin(async move {
        let engine: Box<dyn Engine> = match target.kind {
            EngineKind::Slurm | EngineKind::Ray => return Err(missing(target)),
            EngineKind::Kueue | EngineKind::Volcano | EngineKind::KubeQueue | EngineKind::Kubernetes => {
                Box::new(Kubernetes::open(target).await)
            }
        };
        Ok(engine)
    })
}

fn missing(target: &Target) -> QueueError {
    QueueError::Unsupported {
        engine: target.kind.to_string(),
        what: "be reached by this aictl".to_owned(),
        instead: "take another target".to_owned(),
    }
}

/// The targets that this machine shows without being told: Slurm's programs on the PATH, Ray's
/// address in RAY_ADDRESS.
pub fn local() -> Vec<Target> {
    Vec::new()
}
