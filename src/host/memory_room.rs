//! How much memory there is for more: of the machine, and of the control groups this process is in.

use std::path::{Path, PathBuf};

use super::page_cache::page_size;
use super::tree::Tree;

/// Memory of the machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineMemory {
    /// All of it.
    pub total: u64,
    /// Free pages.
    pub free: u64,
    /// What the kernel could give without swapping: free pages and most of the clean page cache.
    pub available: u64,
    /// Free pages below which the kernel begins to reclaim: the high watermarks of all zones.
    pub watermark: u64,
}

/// A control group that limits this process, itself or one above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMemory {
    /// Its path in the hierarchy.
    pub group: String,
    /// Its limit in bytes: `memory.max`, `memory.high` if that is lower, or `memory.limit_in_bytes`.
    pub limit: u64,
    /// What is charged to it.
    pub used: u64,
    /// What of that is page cache that was not used lately.
    pub inactive_file: u64,
}

/// Reads the machine's memory.
///
/// # Errors
/// A sentence, if /proc/meminfo does not say.
pub fn machine(tree: &Tree) -> Result<MachineMemory, String> {
    let text = tree.read("/proc/meminfo")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib.saturating_mul(1024)).ok_or_else(|| format!("/proc/meminfo has no {name}"))
    };
    let (total, free) = (field("MemTotal")?, field("MemFree")?);
    // Before Linux 3.14 there was no estimate; free pages are the safe one.
    let available = field("MemAvailable").unwrap_or(free);
    let zones = tree.read("/proc/zoneinfo").unwrap_or_default();
    let high = zones.lines().filter_map(|line| line.trim().strip_prefix("high ")?.trim().parse::<u64>().ok());
    let watermark = high.fold(0u64, u64::saturating_add).saturating_mul(page_size());
    Ok(MachineMemory { total, free, available, watermark })
}

/// A limit of version 1 that means none: nearly 2^63, rounded down to pages.
const UNLIMITED: u64 = 1 << 60;

/// The limits of the groups that this process is in, its own first, then those above. None where
/// nothing is limited.
pub fn groups(tree: &Tree) -> Vec<GroupMemory> {
    let own = tree.read("/proc/self/cgroup").unwrap_or_default();
    let mounts = tree.read("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let unified = number == "0" && controllers.is_empty();
        if !unified && !controllers.split(',').any(|controller| controller == "memory") {
            continue;
        }
        for place in mounts.lines().filter_map(|line| Mount::read(line, unified)) {
            // One mount of a hierarchy is as good as another, if it reaches this group.
            if let Some(start) = place.directory(path) {
                walk(tree, &place.point, &start, unified, &mut found);
                break;
            }
        }
    }
    found
}

/// Where a hierarchy hangs: which of its directories, at which point.
#[derive(Debug)]
struct Mount {
    root: String,
    point: PathBuf,
}

impl Mount {
    /// Reads a line of proc_pid_mountinfo(5), if it is the hierarchy with the memory controller.
    fn read(line: &str, unified: bool) -> Option<Mount> {
        let (first, second) = line.split_once(" - ")?;
        let first: Vec<&str> = first.split(' ').collect();
        let mut second = second.split(' ');
        let (kind, options) = (second.next()?, second.nth(1).unwrap_or_default());
        let wanted = match kind {
            "cgroup2" => unified,
            "cgroup" => !unified && options.split(',').any(|option| option == "memory"),
            _ => false,
        };
        wanted.then_some(())?;
        Some(Mount { root: (*first.get(3)?).to_owned(), point: PathBuf::from(*first.get(4)?) })
    }

    /// The directory of a group; `None` if it is not below this mount.
    fn directory(&self, group: &str) -> Option<PathBuf> {
        // In a container without a namespace of groups, the mount shows the container's own group.
        let below = if self.root == "/" { group } else { group.strip_prefix(&self.root)? };
        if below.split('/').any(|part| part == "..") {
            return Some(self.point.clone());
        }
        Some(self.point.join(below.trim_start_matches('/')))
    }
}

fn walk(tree: &Tree, top: &Path, start: &Path, unified: bool, found: &mut Vec<GroupMemory>) {
    for directory in start.ancestors().take_while(|directory| directory.starts_with(top)) {
        let number = |name: &str| tree.number::<u64>(directory.join(name));
        let limit = if unified {
            // "max" is no number.
            [number("memory.max"), number("memory.high")].into_iter().flatten().min()
        } else {
            number("memory.limit_in_bytes").filter(|limit| *limit < UNLIMITED)
        };
        let Some(limit) = limit else { continue };
        let used = number(if unified { "memory.current" } else { "memory.usage_in_bytes" }).unwrap_or(0);
        let name = if unified { "inactive_file " } else { "total_inactive_file " };
        let statistics = tree.read(directory.join("memory.stat")).unwrap_or_default();
        let inactive_file = statistics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let below = directory.strip_prefix(top).unwrap_or(directory).display().to_string();
        let group = format!("/{below}");
        found.push(GroupMemory { group, limit, used, inactive_file: inactive_file.unwrap_or(0) });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::new(root.path());
        (root, tree)
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = machine(&Tree::new("/")).unwrap();
        assert!(memory.total > memory.available && memory.free > 0 && memory.watermark > 0, "{memory:?}");
        let _ = groups(&Tree::new("/"));
    }

    #[test]
    fn groups_of_version_2_are_read_up_to_the_top() {
        let (_root, tree) = tree(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.high", "700\n"),
            ("sys/fs/cgroup/a/b/memory.current", "500\n"),
            ("sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 120\nactive_file 4\n"),
            ("sys/fs/cgroup/a/memory.max", "2000\n"),
        ]);
        let found = groups(&tree);
        assert_eq!(found[0], GroupMemory { group: "/a/b".to_owned(), limit: 700, used: 500, inactive_file: 120 });
        assert_eq!((found[1].group.as_str(), found[1].limit, found.len()), ("/a", 2000, 2));
    }

    #[test]
    fn groups_of_version_1_too_and_from_inside_a_container() {
        let (_root, tree) = tree(&[
            ("proc/self/cgroup", "4:memory:/kubepods/pod1/c1\n1:cpu:/x\n0::/\n"),
            (
                "proc/self/mountinfo",
                "30 1 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                 31 1 0:27 /kubepods/pod1/c1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "96\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 40\n"),
        ]);
        let own = GroupMemory { group: "/".to_owned(), limit: 4096, used: 96, inactive_file: 40 };
        assert_eq!(groups(&tree), [own]);
    }

    #[test]
    fn what_is_unlimited_is_no_limit() {
        let (_root, tree) = tree(&[
            ("proc/self/cgroup", "4:memory:/\n"),
            ("proc/self/mountinfo", "31 1 0:27 / /cg rw - cgroup cgroup rw,memory\n"),
            ("cg/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(groups(&tree), []);
    }
}
