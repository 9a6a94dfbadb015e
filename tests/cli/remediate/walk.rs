//! The crash walk: aictl is killed at every point of every playbook, and run again as cron would.
//! Whatever the point: no device is reset twice in one attempt, none that is healthy at all, and
//! the node ends in service and verified, or with a human.

use std::collections::BTreeSet;
use std::time::Duration;

use super::every_mark;
use super::site::{GPU, OTHER_GPU, REBOOT, RESET, Site};

/// What must hold whatever happened.
fn holds(site: &Site, place: &str) {
    let code = site.settle();
    let log = site.log();
    let history = site.history();
    let tell = || format!("{place}: exit code {code}\n{}\n{history:#}", log.join("\n"));
    let incidents = history["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1, "{}", tell());
    let incident = &incidents[0];
    let attempts = incident["attempt"].as_u64().unwrap() as usize;
    assert!(attempts <= 2, "{}", tell());
    for command in ["reset", "reboot", "script", "service"] {
        assert!(site.count(command) <= attempts, "{command} more than once an attempt: {}", tell());
    }
    // Nothing but the sick GPU was touched.
    assert!(log.iter().filter(|line| line.starts_with("reset")).all(|line| *line == format!("reset {GPU}")));
    assert!(!log.iter().any(|line| line.contains(OTHER_GPU)), "{}", tell());
    let state = incident["state"].as_str().unwrap();
    match state {
        "restored" => {
            assert_eq!(code, 0, "{}", tell());
            assert!(!site.is_isolated(), "left isolated: {}", tell());
            assert!(!site.path("fault").exists(), "restored with the fault there: {}", tell());
        }
        "handed_over" => assert_eq!(code, 3, "{}", tell()),
        other => panic!("ends {other}: {}", tell()),
    }
    // What is told twice is known by its id.
    let ids: BTreeSet<String> = site.events.lock().unwrap().iter().cloned().collect();
    assert!(ids.len() <= 2 * attempts, "{ids:?}");
    // And nothing is left to do: another run changes nothing.
    let before = site.log();
    site.apply();
    assert_eq!(site.log(), before, "{}", tell());
}

/// Dies at each mark of the journal: before a line, in the middle of it, before and after it is on
/// disk; until a run gets through. Returns how many marks there were.
fn walk(steps: &str, first: impl Fn(&Site) + Sync, through: impl Fn(&Site, Option<i32>) -> bool + Sync) -> u64 {
    let die = |mark| {
        let site = Site::new(steps);
        first(&site);
        let status = site.start(Some(mark)).wait().unwrap();
        let through = through(&site, status.code());
        holds(&site, &format!("mark {mark}"));
        Some(through)
    };
    every_mark(1, die).unwrap()
}

#[test]
fn a_run_killed_at_any_mark_of_the_journal_is_gone_on_with() {
    let marks = walk(RESET, |_| {}, |_, code| code.is_some());
    assert!(marks > 60, "only {marks} marks");
}

#[test]
fn a_run_killed_before_or_after_the_restart_of_the_machine_is_gone_on_with() {
    // The restart kills the run that asked for it.
    let before = walk(REBOOT, |_| {}, |site, _| site.count("reboot") > 0);
    assert!(before > 20, "only {before} marks");
    let restart = |site: &Site| {
        site.start(None).wait().unwrap();
        assert_eq!(site.count("reboot"), 1);
    };
    let after = walk(REBOOT, restart, |_, code| code.is_some());
    assert!(after > 16, "only {after} marks");
}

#[test]
fn a_run_killed_inside_any_command_is_gone_on_with() {
    for steps in [RESET, REBOOT] {
        for command in ["cordon", "checkpoint", "reset", "service", "script", "burnin", "uncordon", "reboot"] {
            for when in ["before", "after"] {
                let site = Site::new(steps);
                site.write(&format!("kill-{command}"), when);
                site.start(None).wait().unwrap();
                holds(&site, &format!("killed {when} {command}"));
            }
        }
    }
}

#[test]
fn a_run_killed_at_any_time_is_gone_on_with() {
    for round in 0..12 {
        let site = Site::new(RESET);
        for kill in 0..3 {
            let mut child = site.start(None);
            std::thread::sleep(Duration::from_millis(11 * round + 17 * kill));
            let _ = child.kill();
            child.wait().unwrap();
        }
        holds(&site, &format!("round {round}"));
    }
}

#[test]
fn a_repair_that_does_not_help_ends_with_a_human() {
    let site = Site::new(RESET);
    // The fault stays.
    site.edit("reset", "rm -f", "true");
    let code = site.settle();
    assert_eq!(code, 3);
    let history = site.history();
    assert_eq!(history["incidents"][0]["state"], "handed_over", "{history:#}");
    assert_eq!((site.count("reset"), site.count("uncordon")), (2, 0));
    assert!(site.is_isolated());
    // Never again, until a human says so.
    for _ in 0..3 {
        assert_eq!(site.apply().status.code(), Some(3));
    }
    assert_eq!(site.count("reset"), 2);
    let output = site.run(&["undo"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!site.is_isolated());
    assert_eq!(site.apply().status.code(), Some(3));
    assert_eq!((site.count("reset"), site.count("cordon")), (2, 1), "what a human took back is a human's");
}
