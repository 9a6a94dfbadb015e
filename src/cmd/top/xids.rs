//! XIDs by GPU, from the kernel's log: NVML tells of none that came before it was asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::diagnose;
use crate::fault::{Catalogue, NvlinkTable};
use crate::metrics::{GpuSample, Metric};

/// The log is read again after this; it may have megabytes.
const AGAIN: Duration = Duration::from_secs(10);

/// By address: which was last, and when; how many in all.
type Seen = HashMap<String, (u32, Option<Timestamp>, u64)>;

/// Reads them now and then.
pub struct Xids {
    root: PathBuf,
    words: Option<(Catalogue, NvlinkTable)>,
    read: Option<Instant>,
    seen: Option<Seen>,
}

impl Xids {
    /// Of a machine, or of a tree of a test.
    pub fn new(root: &Path) -> Xids {
        let words = Catalogue::embedded().ok().zip(NvlinkTable::embedded().ok());
        Xids { root: root.to_owned(), words, read: None, seen: None }
    }

    /// Adds to GPUs what the log has of them.
    pub fn add(&mut self, gpus: &mut [GpuSample]) {
        if gpus.is_empty() {
            return;
        }
        if self.read.is_none_or(|read| read.elapsed() >= AGAIN) {
            self.read = Some(Instant::now());
            self.seen = self.look();
        }
        // A log that can't be read has no zeros to tell.
        let Some(seen) = &self.seen else { return };
        for gpu in gpus {
            let Some(pci) = &gpu.pci else { continue };
            match seen.get(pci) {
                Some((last, _, count)) => {
                    gpu.metrics.set(Metric::XidLast, f64::from(*last));
                    gpu.metrics.set(Metric::Xids, *count as f64);
                }
                None => {
                    gpu.metrics.set(Metric::XidLast, 0.0);
                    gpu.metrics.set(Metric::Xids, 0.0);
                }
            }
        }
    }

    fn look(&self) -> Option<Seen> {
        let (catalogue, nvlink) = self.words.as_ref()?;
        let findings = diagnose::kernel_log_of(&self.root, catalogue, nvlink)?;
        let mut seen: Seen = HashMap::new();
        for finding in findings {
            let (Some(code), Some(pci)) = (finding.code, finding.device.pci) else { continue };
            if !finding.fault.starts_with("xid-") {
                continue;
            }
            let entry = seen.entry(pci).or_insert((code, finding.last_seen, 0));
            entry.2 += finding.count;
            if finding.last_seen >= entry.1 {
                (entry.0, entry.1) = (code, finding.last_seen);
            }
        }
        Some(seen)
    }
}
