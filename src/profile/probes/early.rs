//! Looks for PyTorch in the targets' libraries while the eBPF programs are still being loaded: the
//! two take about as long, and neither needs the other.

use std::path::Path;
use std::thread::{self, JoinHandle};

use rustc_hash::FxHashMap;

use super::elf::Elf;
use super::{cache, torch};
use crate::host::maps;
use crate::profile::options::{CaptureOptions, Layers};
use crate::trace::Layer;

/// What was found in each file, by its identity; `None` where there is nothing to probe.
pub(crate) type Found = FxHashMap<(u64, u64), Option<torch::TorchScan>>;

/// A search that is under way.
pub(crate) struct Early(JoinHandle<Found>);

/// Whether PyTorch is probed at all.
pub(super) fn is_wanted(layers: Layers) -> bool {
    layers.has(Layer::Torch) || layers.has(Layer::Nccl)
}

impl Early {
    /// Begins with the libraries that the targets have now; `None` if nobody asks for them.
    pub fn start(options: &CaptureOptions) -> Option<Early> {
        if !is_wanted(options.layers) {
            return None;
        }
        let (pids, cache) = (options.pids.clone(), options.cache_dir.clone());
        // Without it everything is found as well, only later.
        let search = thread::Builder::new().name("libraries".to_owned());
        search.spawn(move || search_all(&pids, cache.as_deref())).ok().map(Early)
    }

    /// Waits for what was found.
    pub fn join(self) -> Found {
        self.0.join().unwrap_or_default()
    }
}

fn search_all(pids: &[u32], cache: Option<&Path>) -> Found {
    let mut found = Found::default();
    for &pid in pids {
        // A process that ended, or a file that can't be read, is met again when it is attached to.
        for mapping in maps::of(pid).unwrap_or_default().iter().filter(|mapping| mapping.executable) {
            if found.contains_key(&mapping.file) {
                continue;
            }
            let Ok(elf) = maps::open(pid, mapping).and_then(Elf::open) else { continue };
            if let Ok(scan) = scan(cache, &elf) {
                found.insert(mapping.file, scan);
            }
        }
    }
    found
}

/// What there is to probe, from the last capture of this library if it was kept.
pub(super) fn scan(cache: Option<&Path>, elf: &Elf) -> std::io::Result<Option<torch::TorchScan>> {
    let Some(dir) = cache else { return torch::scan(elf) };
    if let Some(kept) = cache::load(dir, elf) {
        return Ok(Some(kept));
    }
    let scan = torch::scan(elf)?;
    if let Some(scan) = &scan {
        // A cache that can't be written only costs time, the next time.
        let _ = cache::store(dir, elf, scan);
    }
    Ok(scan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_pytorch_has_nothing_to_probe() {
        let found = search_all(&[std::process::id(), 0x3fff_ffff], None);
        assert!(!found.is_empty() && found.values().all(Option::is_none), "{found:?}");
    }
}
