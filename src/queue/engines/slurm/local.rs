//! The Slurm that a machine belongs to without anybody naming it.

use std::path::Path;

use crate::queue::engine::program;
use crate::queue::{EngineKind, QueueError, Target};

/// Where distributions and configless clusters have their configuration.
const CONFIGURATIONS: [&str; 4] =
    ["/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf", "/usr/local/etc/slurm.conf"];

/// The Slurm that this machine belongs to: its programs on the PATH, and a configuration for them.
pub(in crate::queue::engines) fn local() -> Option<Target> {
    program("sbatch").and(program("scontrol"))?;
    let found = match std::env::var_os("SLURM_CONF").map(std::path::PathBuf::from) {
        // Slurm's programs look nowhere else then.
        Some(named) => Some(named).filter(|path| path.exists()),
        None => CONFIGURATIONS.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned),
    };
    if found.is_none() && std::env::var_os("SLURM_CONF_SERVER").is_none() {
        return None;
    }
    let text = found.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("ClusterName")
            .then(|| value.split('#').next().unwrap_or_default().trim().to_owned())
    });
    Some(Target::found(EngineKind::Slurm, name.unwrap_or_else(|| "slurm".to_owned())))
}

/// Why this machine's Slurm can't be asked, where there are its programs and no configuration for them.
pub(in crate::queue::engines) fn unconfigured() -> Option<QueueError> {
    let sbatch = program("sbatch").filter(|_| program("scontrol").is_some() && local().is_none())?;
    let missing = match std::env::var_os("SLURM_CONF") {
        Some(named) => format!("SLURM_CONF names {}, which is not there", Path::new(&named).display()),
        None => format!("there is no slurm.conf at {}, and no SLURM_CONF", CONFIGURATIONS.join(", ")),
    };
    Some(QueueError::Unreachable {
        what: format!("{} is there and not configured", sbatch.display()),
        message: missing,
        passing: false,
    })
}
