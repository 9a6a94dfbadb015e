//! In whom a library is probed: in every process that maps it, or in ours one by one.
//!
//! A probe in a shared library slows everyone who maps the file, target or not, and containers
//! of one image share their files. One link for everyone is cheap and covers forks from their
//! first instruction, so it is taken where nobody else would pay for it.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::host::maps::Mapping;
use crate::host::process;

/// Remembers, for each file, whether others have it mapped.
#[derive(Default)]
pub(crate) struct Scopes {
    family: FxHashSet<u32>,
    shared: FxHashMap<(u64, u64), bool>,
}

impl Scopes {
    /// A process that is followed, or about to be.
    pub fn ours(&mut self, pid: u32) {
        self.family.insert(pid);
    }

    /// A process that ended.
    pub fn forget(&mut self, pid: u32) {
        self.family.remove(&pid);
    }

    /// The one process to probe a file in, or `None` for all.
    ///
    /// Looked up once a file: who comes later pays for the rest of the capture.
    pub fn of(&mut self, pid: u32, mapping: &Mapping) -> Option<u32> {
        let family = &self.family;
        let shared = *self.shared.entry(mapping.file).or_insert_with(|| {
            // Only libraries of the kinds we probe are worth a look at every process of the machine.
            let name = mapping.path.file_name().unwrap_or_default().to_string_lossy();
            let probed = ["torch", "cuda", "nccl"].into_iter().any(|part| name.contains(part));
            probed && process::maps_elsewhere(&name, mapping.file, |other| family.contains(&other))
        });
        shared.then_some(pid)
    }
}
