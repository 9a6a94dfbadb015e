//! Which library a thread was running in below Python.

use std::sync::Arc;

use crate::host::maps::{self, Mapping};

/// A process that makes code at run time jumps to addresses in no file: look at most this often.
const REFRESH_NS: u64 = 1_000_000_000;

/// The executable mappings of one process.
#[derive(Default)]
pub(crate) struct Libraries {
    /// (start, end, name; none for the interpreter), in order.
    ranges: Vec<(u64, u64, Option<Arc<str>>)>,
    read_ns: Option<u64>,
}

impl Libraries {
    /// The library that `ip` lies in; `None` for the interpreter itself and for what is no file.
    pub fn at(&mut self, pid: u32, ip: u64, interpreter: (u64, u64), now_ns: u64) -> Option<Arc<str>> {
        if let Some(found) = self.find(ip) {
            return found.clone();
        }
        if self.read_ns.is_some_and(|read| now_ns.saturating_sub(read) < REFRESH_NS) {
            return None;
        }
        self.read_ns = Some(now_ns);
        let maps = maps::of(pid).ok()?;
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        self.fill(&maps, interpreter, &program);
        self.find(ip).cloned().flatten()
    }

    fn fill(&mut self, maps: &[Mapping], interpreter: (u64, u64), program: &std::path::Path) {
        let name = |m: &Mapping| {
            let own = m.file == interpreter || m.path == program;
            (!own).then(|| Arc::from(m.path.file_name().unwrap_or_default().to_string_lossy()))
        };
        self.ranges = maps.iter().filter(|m| m.executable).map(|m| (m.start, m.end, name(m))).collect();
    }

    fn find(&self, ip: u64) -> Option<&Option<Arc<str>>> {
        let after = self.ranges.partition_point(|(start, ..)| *start <= ip);
        let (_, end, name) = self.ranges.get(after.checked_sub(1)?)?;
        (ip < *end).then_some(name)
    }
}
