//! Threads stuck in the kernel, processes never collected, and who has the GPUs open.

use super::super::facts::{Holders, StuckTask, Tasks};
use super::super::history::History;
use super::{Catalogue, Finding, Verdict, counted, escalate, found};

const SOURCE: &str = "tasks";
/// Waits in which a thread is asleep on purpose: frozen by its cgroup, or the parent of a vfork.
const PATIENT: [&str; 6] =
    ["__refrigerator", "kernel_clone", "_do_fork", "do_fork", "wait_for_vfork_done", "do_freezer_trap"];

/// Judges threads and processes.
pub fn tasks(tasks: &Tasks, catalogue: &Catalogue, history: &mut History) -> Verdict {
    let mut verdict = Verdict::of(format!(
        "{}, {}, {}",
        counted(usize::try_from(tasks.processes).unwrap_or(usize::MAX), "process", "processes"),
        counted(usize::try_from(tasks.threads).unwrap_or(usize::MAX), "thread", "threads"),
        counted(usize::try_from(tasks.zombies).unwrap_or(usize::MAX), "zombie", "zombies"),
    ));
    let limits = catalogue.limits().tasks;
    let mut hung: Vec<(&StuckTask, f64)> = Vec::new();
    let mut in_driver: Vec<(&StuckTask, f64)> = Vec::new();
    let mut unplaced = 0;
    for task in tasks.stuck.iter().filter(|task| !task.kernel && !is_patient(task)) {
        let Some(waited) = waited(task, history).filter(|waited| *waited >= limits.hung_s) else { continue };
        // Without the place a frozen thread looks the same.
        if task.waits_in.is_empty() && task.stack.is_empty() {
            unplaced += 1;
            continue;
        }
        if waits_in_driver(task) { in_driver.push((task, waited)) } else { hung.push((task, waited)) }
    }
    for (fault, list) in [("nvidia-smi-hang", in_driver), ("hung-task", hung)] {
        if let Some(finding) = of(fault, &list, catalogue, history) {
            verdict.add(finding);
        }
    }
    if tasks.zombies >= limits.zombies {
        let mut finding = found(catalogue, "zombies", SOURCE, history.now());
        finding.count = tasks.zombies;
        if let Some((pid, name, count)) = &tasks.zombie_parent {
            finding.pid = Some(*pid);
            finding.process = Some(name.clone());
            finding.because = Some(format!("{count} of them are children of {pid} {name}"));
        }
        finding.evidence.push(format!("{} zombies among {} processes", tasks.zombies, tasks.processes));
        verdict.add(finding);
    }
    if tasks.partial {
        verdict.blind = Some("other users' processes are hidden (hidepid)".to_owned());
    } else if unplaced > 0 {
        let threads = counted(unplaced, "thread has", "threads have");
        verdict.blind = Some(format!("{threads} waited for long, and only root may see where"));
    }
    verdict
}

fn is_patient(task: &StuckTask) -> bool {
    let function = |line: &str| line.split('+').next().unwrap_or_default().to_owned();
    let waits = std::iter::once(task.waits_in.clone()).chain(task.stack.iter().map(|line| function(line)));
    waits.into_iter().any(|name| PATIENT.contains(&name.as_str()))
}

/// How long a thread has waited: by the scheduler, else since an earlier look that saw it at the
/// same number of switches.
fn waited(task: &StuckTask, history: &mut History) -> Option<f64> {
    let key = format!("~task/{}/{}/{}", task.pid, task.tid, task.started);
    let wait = task.switches.to_string();
    history.note(&key, &wait);
    let seen = history.recall(&key).map(|known| history.now().duration_since(known.since).as_secs_f64());
    match (task.waited_s, seen) {
        (Some(now), _) => Some(now),
        (None, seen) => seen,
    }
}

/// Functions of a module carry its name: "os_acquire_mutex+0x2c/0x40 [nvidia]".
fn waits_in_driver(task: &StuckTask) -> bool {
    task.stack.iter().any(|line| line.contains("[nvidia")) || task.waits_in.starts_with("nvidia_")
}

fn of(fault: &str, list: &[(&StuckTask, f64)], catalogue: &Catalogue, history: &History) -> Option<Finding> {
    let (task, longest) = list.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut finding = found(catalogue, fault, SOURCE, history.now());
    let times = u64::try_from(list.len()).unwrap_or(u64::MAX);
    finding.count = times;
    finding.pid = Some(task.pid);
    finding.process = Some(task.name.clone());
    let place = task.stack.first().map_or(task.waits_in.as_str(), String::as_str);
    finding.because = Some(format!("{} has waited for {longest:.0} s in {place}", task.name));
    finding.evidence = list
        .iter()
        .take(3)
        .map(|(task, waited)| {
            let stack = task.stack.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(" < ");
            let place = if stack.is_empty() { task.waits_in.clone() } else { stack };
            format!("pid {} tid {} {} in D state for {waited:.0} s: {place}", task.pid, task.tid, task.name)
        })
        .collect();
    escalate(catalogue, &mut finding, times);
    Some(finding)
}

/// Who has the GPUs open: no fault, and what stands in the way of a reset.
pub fn holders(holders: &Holders) -> Verdict {
    let mut verdict = Verdict::of(match holders.holders.len() {
        0 => format!("nobody has any of {} open", counted(holders.devices.len(), "device file", "device files")),
        n => {
            let first = holders.holders.iter().take(5).map(|holder| format!("{} {}", holder.pid, holder.name));
            let more = if n > 5 { ", …" } else { "" };
            format!("{}: {}{more}", counted(n, "process", "processes"), first.collect::<Vec<_>>().join(", "))
        }
    });
    if holders.hidden > 0 {
        let hidden = counted(usize::try_from(holders.hidden).unwrap_or(usize::MAX), "process", "processes");
        verdict.blind = Some(format!("open files of {hidden} may not be read; run as root"));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::super::super::catalogue::Severity;
    use super::super::testing::{catalogue, fresh, later, names};
    use super::*;

    fn stuck(waited_s: Option<f64>, stack: &[&str]) -> StuckTask {
        StuckTask {
            pid: 50,
            tid: 51,
            name: "python3".to_owned(),
            started: 7,
            switches: 42,
            waited_s,
            stack: stack.iter().map(|line| (*line).to_owned()).collect(),
            ..StuckTask::default()
        }
    }

    fn with(stuck: Vec<StuckTask>) -> Tasks {
        Tasks { processes: 10, threads: 20, stuck, ..Tasks::default() }
    }

    fn judged(task: StuckTask) -> Vec<Finding> {
        tasks(&with(vec![task]), &catalogue(), &mut fresh()).findings
    }

    #[test]
    fn a_long_wait_is_a_fault_and_the_driver_is_told_apart() {
        assert_eq!(names(&judged(stuck(Some(121.0), &["rpc_wait_bit_killable+0x24/0xb0 [sunrpc]"]))), ["hung-task"]);
        assert!(judged(stuck(Some(5.0), &[])).is_empty(), "disks take time");
        let driver = judged(stuck(Some(600.0), &["os_acquire_mutex+0x2c/0x40 [nvidia]"]));
        assert_eq!((names(&driver), driver[0].severity), (vec!["nvidia-smi-hang"], Severity::Critical));
    }

    #[test]
    fn what_sleeps_on_purpose_is_no_fault() {
        assert!(judged(stuck(Some(9999.0), &["__refrigerator+0x50/0x100"])).is_empty());
        assert!(judged(StuckTask { waits_in: "kernel_clone".to_owned(), ..stuck(Some(9999.0), &[]) }).is_empty());
        assert!(judged(StuckTask { kernel: true, ..stuck(Some(9999.0), &[]) }).is_empty());
    }

    #[test]
    fn a_wait_without_a_place_is_blindness() {
        let verdict = tasks(&with(vec![stuck(Some(9999.0), &[])]), &catalogue(), &mut fresh());
        assert!(verdict.findings.is_empty() && verdict.blind.unwrap().contains("only root"));
    }

    #[test]
    fn without_the_schedulers_word_two_looks_tell() {
        let mut history = fresh();
        let look = |switches, history: &mut History| {
            let task = StuckTask { switches, ..stuck(None, &["x+0x1/0x2"]) };
            tasks(&with(vec![task]), &catalogue(), history).findings.len()
        };
        assert_eq!(look(42, &mut history), 0);
        let mut history = later(history, 130);
        assert_eq!(look(42, &mut history), 1);
        let mut history = later(history, 130);
        assert_eq!(look(43, &mut history), 0, "it ran in between");
    }

    #[test]
    fn many_at_once_are_graver() {
        let many = (0..10).map(|tid| StuckTask { tid, ..stuck(Some(300.0), &["x+0x1/0x2"]) }).collect();
        let found = tasks(&with(many), &catalogue(), &mut fresh()).findings;
        assert_eq!((found.len(), found[0].count, found[0].severity), (1, 10, Severity::Critical));
    }

    #[test]
    fn zombies_count_in_numbers() {
        let some = Tasks { zombies: 99, ..with(Vec::new()) };
        assert!(tasks(&some, &catalogue(), &mut fresh()).findings.is_empty());
        let many = Tasks { zombies: 500, zombie_parent: Some((9, "launcher".into(), 480)), ..some };
        let found = tasks(&many, &catalogue(), &mut fresh()).findings;
        assert_eq!((names(&found), found[0].pid, found[0].count), (vec!["zombies"], Some(9), 500));
    }
}
