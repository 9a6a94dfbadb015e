//! XIDs by GPU: from the kernel's log, which has those since boot; where that can't be read, as NVML
//! tells of them from now on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::diagnose;
use crate::fault::{Catalogue, NvlinkTable};
use crate::gpu::events::{Ear, Heard};
use crate::metrics::{GpuSample, Metric};

/// The log is read again after this; it may have megabytes.
const AGAIN: Duration = Duration::from_secs(10);

/// By address: which was last, and when; how many in all.
type Seen = HashMap<String, (u32, Option<Timestamp>, u64)>;

/// Reads them now and then.
pub struct Xids {
    program: PathBuf,
    root: PathBuf,
    words: Option<(Catalogue, NvlinkTable)>,
    read: Option<Instant>,
    seen: Option<Seen>,
    ear: Option<Ear>,
    /// What was heard, as long as somebody listens.
    heard: Arc<Mutex<Option<Seen>>>,
}

impl Xids {
    /// Of a machine, or of a tree of a test; NVML is listened to through `program`, started again.
    pub fn new(program: &Path, root: &Path) -> Xids {
        let words = Catalogue::embedded().ok().zip(NvlinkTable::embedded().ok());
        let (program, root) = (program.to_owned(), root.to_owned());
        Xids { program, root, words, read: None, seen: None, ear: None, heard: Arc::default() }
    }

    /// Adds to GPUs what is known of them.
    pub fn add(&mut self, gpus: &mut [GpuSample]) {
        if gpus.is_empty() {
            return;
        }
        if self.read.is_none_or(|read| read.elapsed() >= AGAIN) {
            self.read = Some(Instant::now());
            self.seen = self.look();
        }
        if self.seen.is_none() && self.ear.is_none() {
            self.ear = Some(self.listen());
        }
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // Where nothing can be read or heard there are no zeros to tell.
        let Some(seen) = self.seen.as_ref().or(heard.as_ref()) else { return };
        for gpu in gpus {
            let Some(pci) = &gpu.pci else { continue };
            let (last, count) = seen.get(pci).map_or((0, 0), |(last, _, count)| (*last, *count));
            gpu.metrics.set(Metric::XidLast, f64::from(last));
            gpu.metrics.set(Metric::Xids, count as f64);
        }
    }

    fn listen(&self) -> Ear {
        let heard = Arc::clone(&self.heard);
        Ear::open(&self.program, move |news| {
            let mut held = heard.lock().unwrap_or_else(PoisonError::into_inner);
            match news {
                Heard::Listening(_) => {
                    held.get_or_insert_default();
                }
                Heard::Xid(event) => {
                    let (Some(seen), Some(pci)) = (held.as_mut(), event.pci) else { return };
                    let entry = seen.entry(pci).or_default();
                    *entry = (event.code, None, entry.2 + 1);
                }
                Heard::Deaf(_) => *held = None,
            }
        })
    }

    fn look(&self) -> Option<Seen> {
        let (catalogue, nvlink) = self.words.as_ref()?;
        let findings = diagnose::kernel_log_of(&self.root, catalogue, nvlink)?;
        let mut seen = Seen::new();
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
