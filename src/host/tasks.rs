//! Processes and threads of the machine as a whole: who is stuck in the kernel, who was never
//! collected, who has the GPUs open.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tree::Tree;
use crate::fault::facts::{Holder, Holders, StuckTask, Tasks};

/// A thread of the kernel (PF_KTHREAD in the flags of its stat).
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Threads in uninterruptible sleep both times are looked at closely.
const BETWEEN: Duration = Duration::from_millis(200);
/// Most stuck threads that are told; a dead file server can stop thousands.
const MOST: usize = 256;

struct Stat {
    name: String,
    state: char,
    parent: u32,
    flags: u64,
    started: u64,
}

/// All threads, looked at twice.
///
/// # Errors
/// A sentence, if there is no /proc to read.
pub fn tasks(tree: &Tree) -> Result<Tasks, String> {
    let pids = processes(tree)?;
    let mut tasks = Tasks { partial: !tree.exists("/proc/1/stat"), ..Tasks::default() };
    let mut zombies: BTreeMap<u32, u64> = BTreeMap::new();
    let mut waiting = Vec::new();
    for pid in pids {
        let Some(process) = stat(tree, format!("/proc/{pid}/stat")) else { continue };
        tasks.processes += 1;
        if process.state == 'Z' {
            tasks.zombies += 1;
            *zombies.entry(process.parent).or_default() += 1;
            continue;
        }
        for tid in numbers(tree, &format!("/proc/{pid}/task")) {
            tasks.threads += 1;
            let at = format!("/proc/{pid}/task/{tid}");
            if waiting.len() < MOST
                && let Some(thread) = stat(tree, format!("{at}/stat"))
                && thread.state == 'D'
            {
                waiting.push((pid, tid, switches(tree, &at)));
            }
        }
    }
    let worst = zombies.into_iter().max_by_key(|(_, count)| *count);
    tasks.zombie_parent = worst.map(|(pid, count)| {
        (pid, stat(tree, format!("/proc/{pid}/stat")).map(|parent| parent.name).unwrap_or_default(), count)
    });
    if !waiting.is_empty() && tree.is_machine() {
        std::thread::sleep(BETWEEN);
    }
    tasks.stuck = waiting.into_iter().filter_map(|(pid, tid, before)| stuck(tree, pid, tid, before)).collect();
    Ok(tasks)
}

/// A thread that still waits and has not run since.
fn stuck(tree: &Tree, pid: u32, tid: u32, before: u64) -> Option<StuckTask> {
    let at = format!("/proc/{pid}/task/{tid}");
    let stat = stat(tree, format!("{at}/stat")).filter(|stat| stat.state == 'D')?;
    let switches = switches(tree, &at);
    if switches != before {
        return None;
    }
    let stack = tree.read(format!("{at}/stack")).unwrap_or_default();
    Some(StuckTask {
        pid,
        tid,
        name: stat.name,
        kernel: stat.flags & KERNEL_THREAD != 0,
        started: stat.started,
        switches,
        waited_s: last_ran(tree, "/proc/self").zip(last_ran(tree, &at)).map(|(now, then)| (now - then).max(0.0)),
        waits_in: tree.word(format!("{at}/wchan")).filter(|word| word != "0").unwrap_or_default(),
        // "[<0>] rpc_wait_bit_killable+0x24/0xb0 [sunrpc]"
        stack: stack.lines().filter_map(|line| Some(line.split_once("] ")?.1.to_owned())).take(16).collect(),
    })
}

/// Who has the GPUs' device files open.
///
/// # Errors
/// A sentence, if there is no /proc or /dev to read.
pub fn holders(tree: &Tree) -> Result<Holders, String> {
    let is_gpu = |name: &str| name.starts_with("nvidia");
    let devices: Vec<String> = tree.names("/dev")?.into_iter().filter(|name| is_gpu(name)).collect();
    let mut found =
        Holders { devices: devices.iter().map(|name| format!("/dev/{name}")).collect(), ..Holders::default() };
    if devices.is_empty() {
        return Ok(found);
    }
    for pid in processes(tree)? {
        let directory = format!("/proc/{pid}/fd");
        let Ok(entries) = std::fs::read_dir(tree.path(&directory)) else {
            // A process that has just ended hides nothing.
            found.hidden += u64::from(tree.exists(&directory));
            continue;
        };
        let open = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let mut held: Vec<String> = open
            .filter_map(|target| target.to_str().map(str::to_owned))
            .filter(|target| target.strip_prefix("/dev/").is_some_and(is_gpu))
            .collect();
        held.sort();
        held.dedup();
        if !held.is_empty() {
            let name = tree.word(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.holders.push(Holder { pid, name, devices: held });
        }
    }
    Ok(found)
}

fn processes(tree: &Tree) -> Result<Vec<u32>, String> {
    let names = tree.names("/proc")?;
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    if pids.is_empty() { Err("no processes in /proc".to_owned()) } else { Ok(pids) }
}

fn numbers(tree: &Tree, directory: &str) -> Vec<u32> {
    tree.names(directory).unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect()
}

/// A stat file (proc_pid_stat(5)); the name may hold anything, so fields count from its last ')'.
fn stat(tree: &Tree, path: String) -> Option<Stat> {
    let text = tree.read(path).ok()?;
    let (head, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: u32::try_from(number(1)?).ok()?,
        flags: number(6)?,
        started: number(19)?,
    })
}

/// Times a thread was switched away from.
fn switches(tree: &Tree, at: &str) -> u64 {
    let text = tree.read(format!("{at}/status")).unwrap_or_default();
    let lines = text.lines().filter(|line| line.contains("ctxt_switches"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// When a thread last ran, seconds of the scheduler's clock; not all kernels say.
fn last_ran(tree: &Tree, at: &str) -> Option<f64> {
    let text = tree.read(format!("{at}/sched")).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.exec_start"))?;
    let milliseconds: f64 = line.rsplit(':').next()?.trim().parse().ok()?;
    Some(milliseconds / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn process(root: &Path, pid: u32, name: &str, state: char, parent: u32, flags: u64) -> PathBuf {
        let at = root.join(format!("proc/{pid}/task/{pid}"));
        fs::create_dir_all(&at).unwrap();
        let stat = format!("{pid} ({name}) {state} {parent} 1 1 0 -1 {flags} 1 2 3 4 5 6 0 0 20 0 1 0 777 1 1\n");
        fs::write(at.join("stat"), &stat).unwrap();
        fs::write(root.join(format!("proc/{pid}/stat")), stat).unwrap();
        fs::write(at.join("status"), "voluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n").unwrap();
        at
    }

    #[test]
    fn stuck_threads_zombies_and_holders_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        process(root, 1, "init", 'S', 0, 0);
        let at = process(root, 50, "odd) (name", 'D', 1, 0);
        fs::write(at.join("wchan"), "rpc_wait_bit_killable").unwrap();
        fs::write(at.join("stack"), "[<0>] rpc_wait_bit_killable+0x24/0xb0 [sunrpc]\n[<0>] x+0x1/0x2\n").unwrap();
        fs::write(at.join("sched"), "odd (50)\nse.exec_start : 1000.5\n").unwrap();
        fs::create_dir_all(root.join("proc/self")).unwrap();
        fs::write(root.join("proc/self/sched"), "se.exec_start   :   301000.5\n").unwrap();
        process(root, 60, "kworker", 'D', 2, KERNEL_THREAD);
        for pid in 70..75 {
            process(root, pid, "gone", 'Z', 50, 0);
        }
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::write(root.join("dev/nvidia0"), "").unwrap();
        fs::create_dir_all(root.join("proc/50/fd")).unwrap();
        std::os::unix::fs::symlink("/dev/nvidia0", root.join("proc/50/fd/7")).unwrap();
        std::os::unix::fs::symlink("/dev/null", root.join("proc/50/fd/8")).unwrap();
        fs::write(root.join("proc/50/comm"), "python3\n").unwrap();

        let tree = Tree::new(root);
        let seen = tasks(&tree).unwrap();
        assert_eq!((seen.processes, seen.threads, seen.zombies, seen.partial), (8, 3, 5, false));
        assert_eq!(seen.zombie_parent, Some((50, "odd) (name".to_owned(), 5)));
        let stuck = &seen.stuck[0];
        assert_eq!((stuck.pid, stuck.kernel, stuck.switches, stuck.started), (50, false, 42, 777));
        assert_eq!(stuck.waited_s, Some(300.0));
        assert_eq!(stuck.stack, ["rpc_wait_bit_killable+0x24/0xb0 [sunrpc]", "x+0x1/0x2"]);
        assert!(seen.stuck[1].kernel);
        let held = holders(&tree).unwrap();
        assert_eq!(held.holders, [Holder { pid: 50, name: "python3".into(), devices: vec!["/dev/nvidia0".into()] }]);
        assert!(tasks(&Tree::new(root.join("nothing"))).is_err());
    }

    #[test]
    fn this_machine_has_processes_and_is_not_stuck() {
        let seen = tasks(&Tree::new("/")).unwrap();
        assert!(seen.processes > 1 && seen.threads >= seen.processes - seen.zombies);
    }
}
