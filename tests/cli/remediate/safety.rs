//! One rule of safety after the other, through the whole program.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::diagnose_gpu::{H100, can_build, library};

use super::site::{GPU, OTHER_GPU, REBOOT, RESET, Site, fault, has, plan, steps};

#[test]
fn a_fault_is_repaired_verified_and_the_node_put_back() {
    let site = Site::new(RESET);
    let output = site.apply();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let plan = plan(&output);
    assert_eq!(plan["schema"], "aictl.plan/v1");
    assert_eq!(steps(&plan).iter().filter(|step| step.ends_with(" done")).count(), 9, "{plan:#}");
    assert_eq!(plan["incidents"][0]["state"], "restored");
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let wanted = [
        &format!("cordon {node}"),
        "checkpoint",
        &format!("reset {GPU}"),
        "service",
        "script",
        &format!("burnin {GPU}"),
        &format!("uncordon {node}"),
    ];
    assert_eq!(site.log(), wanted);
    assert_eq!(site.events.lock().unwrap().len(), 1);
    // Nothing is wrong any more: not a word.
    let output = site.run(&["--apply", "--once"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}

#[test]
fn a_dry_run_changes_nothing_whatever_the_step() {
    for list in [RESET, REBOOT] {
        let site = Site::new(&format!("{}  - {{step: hand-over}}\n", list.trim_end_matches("  - {step: restore}\n")));
        for arguments in [&["-o", "json"][..], &["--dry-run", "-o", "json"]] {
            let output = site.run(arguments);
            assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
            let plan = plan(&output);
            let steps = plan["incidents"][0]["steps"].as_array().unwrap();
            assert!(steps.len() > 4);
            for step in steps {
                assert!(step["state"] == "planned" || step["step"] == "stop-holders", "{step}");
            }
        }
        assert!(site.log().is_empty() && !has(&site.path("state")) && site.events.lock().unwrap().is_empty());
    }
}

#[test]
fn a_plan_says_what_it_would_run() {
    let site = Site::new(RESET);
    let output = site.run(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("reset-gpu") && text.contains("--apply does it"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_kill_switch_stops_everything_even_in_the_middle() {
    let site = Site::new(RESET);
    site.write("stop", "");
    assert_eq!(plan(&site.apply())["refused"][0]["rule"], "kill_switch");
    assert!(site.log().is_empty());
    site.remove("stop");
    // It is thrown while the jobs save their work.
    site.edit("checkpoint", "echo checkpoint", "touch @/stop; echo checkpoint");
    let output = site.apply();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(site.log().last().map(String::as_str), Some("checkpoint"));
    assert_eq!(site.apply().status.code(), Some(3));
    assert_eq!(site.count("reset"), 0);
    site.remove("stop");
    assert_eq!((site.settle(), site.count("reset"), site.count("checkpoint")), (0, 1, 1));
}

#[test]
fn two_runs_at_once_are_one() {
    let site = Site::new(RESET);
    site.write("busy", "");
    site.edit("checkpoint", "echo checkpoint", "while test -e @/busy; do sleep 0.1; done; echo checkpoint");
    let first = site.start(None);
    until("the first at work", || format!("{:?}", site.log()), || has(&site.path("cordoned")));
    let second = site.apply();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another run is at work (pid ") && said.contains("--wait"), "{said}");
    site.remove("busy");
    let third = site.run(&["--apply", "--wait", "60s"]);
    assert_eq!(third.status.code(), Some(0));
    assert!(first.wait_with_output().unwrap().status.success());
    assert_eq!((site.count("reset"), site.count("cordon")), (1, 1));
}

#[test]
fn a_journal_that_cannot_be_written_stops_all_before_anything_is_done() {
    let site = Site::new(RESET);
    // Root writes into read-only directories, but not into a file.
    site.write("state", "");
    let output = site.apply();
    assert_eq!(output.status.code(), Some(1));
    assert!(site.log().is_empty());
    site.remove("state");
    site.apply();
    let journal = site.path("state/journal.jsonl");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[20] ^= 1;
    fs::write(&journal, bytes).unwrap();
    site.write("fault", "");
    let before = site.log();
    let output = site.apply();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 1 is damaged"));
    assert_eq!(site.log(), before);
}

#[test]
fn a_full_disk_stops_all_before_the_next_step() {
    let site = Site::new(RESET);
    // The kernel's own limit on a file's size: the disk is full after some records.
    let command = site.command(&["--apply", "--once"]);
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; exec prlimit --fsize=3000 \"$@\"", "sh"]);
    full.arg(command.get_program()).args(command.get_args()).env_clear();
    full.env("PATH", std::env::var_os("PATH").unwrap());
    let output = full.stdin(Stdio::null()).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(site.count("reset"), 0);
    assert_eq!((site.settle(), site.count("reset")), (0, 1));
    assert!(!site.is_isolated());
}

#[test]
fn holders_that_may_not_be_stopped_are_waited_for() {
    let site = Site::new(RESET);
    fs::create_dir_all(site.path(&format!("proc/driver/nvidia/gpus/{GPU}"))).unwrap();
    fs::create_dir(site.path("dev")).unwrap();
    site.write(&format!("proc/driver/nvidia/gpus/{GPU}/information"), "Device Minor: 0\n");
    site.write("dev/nvidia0", "");
    site.write("dev/nvidia1", "");
    let hold = |program: &str, device: &str| {
        let file = fs::File::open(site.path(device)).unwrap();
        Command::new(program).args(["60"]).stdin(Stdio::from(file)).spawn().unwrap()
    };
    // Another GPU's holder is in nobody's way.
    let mut bystander = hold("sleep", "dev/nvidia1");
    let tail = fs::File::open(site.path("dev/nvidia0")).unwrap();
    let mut job = Command::new("tail").args(["-f", "/dev/null"]).stdin(Stdio::from(tail)).spawn().unwrap();
    let mut daemon = hold("sleep", "dev/nvidia0");
    let output = site.apply();
    assert_eq!(output.status.code(), Some(3));
    let said = plan(&output);
    assert!(steps(&said).contains(&"stop-holders refused".to_owned()), "{said:#}");
    assert!(daemon.try_wait().unwrap().is_none(), "none is stopped where one may not be");
    job.kill().unwrap();
    job.wait().unwrap();
    assert_eq!(site.settle(), 0);
    assert!(daemon.try_wait().unwrap().is_some());
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert_eq!(site.count("reset"), 1);
}

#[test]
fn clocks_that_jump_do_not_repeat_a_repair() {
    let site = Site::new(RESET);
    // An event stays in the log after the repair; its time is read by the clock as it is.
    let seen = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(30);
    let event = |jump_h: i64, count: u64| {
        let mut event = fault("xid-95", "kernel-log", GPU);
        let seen = seen + jiff::SignedDuration::from_hours(jump_h);
        event["last_seen"] = seen.to_string().into();
        event["count"] = count.into();
        event
    };
    let at = |jump_h: i64| {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(jump_h);
        site.run(&["--apply", "-o", "json", "--pretend", &format!("now={now}")])
    };
    site.edit("reset", "rm -f", "true");
    site.sees(&[event(0, 1)]);
    assert_eq!(at(0).status.code(), Some(0));
    assert_eq!(site.count("reset"), 1);
    for jump_h in [-48, -1, 1, 48] {
        site.sees(&[event(jump_h, 1)]);
        let output = at(jump_h);
        assert_eq!((output.status.code(), site.count("reset")), (Some(0), 1), "{jump_h}: {}", plan(&output));
    }
    // It comes again.
    site.sees(&[event(0, 2)]);
    at(0);
    assert_eq!(site.count("reset"), 2);
}

#[test]
fn a_quiet_log_is_no_proof_of_a_repair_that_never_was() {
    let site = Site::new("\n  - {step: isolate}\n  - {step: verify, attempts: 2}\n  - {step: restore}\n");
    // A burn-in would be a proof of its own.
    site.edit("playbook.yaml", "burn_in: ", "# burn_in: ");
    let mut event = fault("xid-95", "kernel-log", GPU);
    event["count"] = 1.into();
    site.sees(&[event]);
    let waits = |what: &str| {
        let output = site.apply();
        assert_eq!(output.status.code(), Some(3), "{what}: {}", plan(&output));
        assert!(steps(&plan(&output)).contains(&"verify refused".to_owned()), "{what}: {}", plan(&output));
        assert!(site.is_isolated() && site.count("uncordon") == 0, "{what}");
    };
    waits("the event stands in the log");
    fs::remove_file(site.path("fault")).unwrap();
    waits("the log says nothing more");
    // Another boot is another start.
    site.write("boot", "boot-2");
    assert_eq!(site.settle(), 0);
    assert!(!site.is_isolated());
}

#[test]
fn blind_checks_and_other_machines_have_nothing_done() {
    let site = Site::new(RESET);
    fs::copy(site.path("blind.json"), site.path("sick.json")).unwrap();
    assert_eq!(site.apply().status.code(), Some(4));
    // The repair can't be seen to have helped: the node stays out, and nothing is done twice.
    site.sees(&[fault("xid-95", "nvml", GPU)]);
    fs::copy(site.path("blind.json"), site.path("well.json")).unwrap();
    let output = site.apply();
    assert_eq!(output.status.code(), Some(3));
    assert!(steps(&plan(&output)).contains(&"verify refused".to_owned()), "{}", plan(&output));
    assert!(site.is_isolated());
    assert_eq!((site.count("reset"), site.count("uncordon")), (1, 0));
    site.sees(&[fault("xid-95", "nvml", GPU)]);
    assert_eq!((site.settle(), site.count("reset")), (0, 1));
    assert!(!site.is_isolated());

    let site = Site::new(RESET);
    site.edit("sick.json", "\"node\":\"", "\"node\":\"other-");
    assert_eq!(plan(&site.apply())["refused"][0]["rule"], "node");
    site.sees(&[fault("xid-9999", "nvml", GPU)]);
    assert_eq!(plan(&site.apply())["refused"][0]["rule"], "unlisted");
    assert!(site.log().is_empty());
}

#[test]
fn a_fault_that_goes_away_needs_no_repair() {
    let site = Site::new(RESET);
    site.write("kill-checkpoint", "after");
    site.start(None).wait().unwrap();
    assert!(site.is_isolated());
    site.remove("fault");
    assert_eq!((site.settle(), site.count("reset")), (0, 0));
    assert!(!site.is_isolated());
}

#[test]
fn two_sick_gpus_are_repaired_one_after_the_other() {
    let site = Site::new(RESET);
    site.sees(&[fault("xid-95", "nvml", GPU), fault("xid-95", "nvml", OTHER_GPU)]);
    site.edit("reset", "rm -f", "true");
    let output = site.apply();
    let plan = plan(&output);
    assert_eq!(plan["incidents"].as_array().unwrap().len(), 1);
    assert_eq!(plan["refused"][0]["rule"], "concurrent");
    assert_eq!(site.log().iter().filter(|line| line.contains(OTHER_GPU)).count(), 0);
}

#[test]
fn nobody_told_is_no_reason_to_stop() {
    let site = Site::new(RESET);
    site.edit("playbook.yaml", "notify: {url: 'http://127.0.0.1:", "notify: {url: 'http://127.0.0.2:");
    site.edit("playbook.yaml", "notify, timeout: 5s", "notify, timeout: 1s");
    let output = site.apply();
    assert_eq!(output.status.code(), Some(0));
    assert!(steps(&plan(&output)).contains(&"notify failed".to_owned()));
}

#[test]
fn findings_come_from_a_file_or_from_stdin() {
    let site = Site::new(RESET);
    let file = site.path("given.json");
    fs::write(&file, fs::read_to_string(site.path("sick.json")).unwrap().replace("@BOOT", "boot-1")).unwrap();
    let output = site.run(&["--findings", file.to_str().unwrap(), "-o", "name"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("i-"));
    site.write("given.json", "{\"schema\": \"other\"}");
    let output = site.run(&["--findings", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(site.run(&["--apply", "--dry-run"]).status.code(), Some(2));
}

#[test]
fn a_watch_repairs_and_ends_on_sigterm() {
    let site = Site::new(RESET);
    let mut child = site.command(&["--apply", "--watch", "--interval", "100ms"]).spawn().unwrap();
    until("the node put back", || format!("{:?}", site.log()), || site.count("uncordon") == 1);
    // It looks some times more.
    std::thread::sleep(Duration::from_millis(400));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!((site.count("reset"), site.count("uncordon")), (1, 1));
}

#[test]
fn a_repair_that_was_verified_is_not_repeated_because_the_way_back_failed() {
    let site = Site::new(RESET);
    // A log keeps the event; only the journal knows that it was dealt with.
    site.edit("reset", "rm -f", "true");
    site.sees(&[fault("xid-95", "kernel-log", GPU)]);
    site.write("fails-uncordon", "");
    site.edit("uncordon", "rm -f ", "test -e @/fails-uncordon || rm -f ");
    for _ in 0..3 {
        assert_eq!(site.apply().status.code(), Some(3));
    }
    assert!(site.is_isolated());
    assert_eq!(site.count("reset"), 1, "{:?}", site.log());
    site.remove("fails-uncordon");
    assert_eq!((site.settle(), site.count("reset")), (0, 1));
    assert!(!site.is_isolated());
}

#[test]
fn an_isolation_that_failed_is_tried_again_before_anything_else() {
    let site = Site::new(RESET);
    site.write("fails-cordon", "");
    let output = site.apply();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(site.log().len(), 1, "{:?}", site.log());
    site.remove("fails-cordon");
    assert_eq!(site.settle(), 0);
    assert_eq!((site.count("cordon"), site.count("reset"), site.count("uncordon")), (2, 1, 1));
    assert!(!site.is_isolated());
}

#[test]
fn a_node_that_others_isolated_is_not_put_back() {
    let site = Site::new(RESET);
    site.edit("playbook.yaml", "commands:\n", "commands:\n  isolated: ['@/cordoned-by-others']\n");
    std::os::unix::fs::symlink("/bin/true", site.path("cordoned-by-others")).unwrap();
    let output = site.apply();
    assert_eq!(output.status.code(), Some(0), "{}", plan(&output));
    assert_eq!((site.count("cordon"), site.count("reset"), site.count("uncordon")), (0, 1, 0));
}

#[test]
fn a_step_that_could_not_end_in_time_is_not_begun() {
    let site = Site::new(RESET);
    let output = site.run(&["--apply", "--deadline", "1s"]);
    // No step could end within the time: none is begun.
    assert_eq!(output.status.code(), Some(3));
    assert!(site.log().is_empty(), "{:?}", site.log());
    assert_eq!((site.settle(), site.count("reset")), (0, 1));
}

#[test]
fn two_daemons_with_a_journal_each_are_not_let_repair_the_same() {
    let mut site = Site::new(RESET);
    // Slow enough for both to be at work at once, were they let.
    site.write("slow", "");
    let first = site.start(None);
    site.state = "other";
    let second = site.start(None);
    let codes = [first, second].map(|run| run.wait_with_output().unwrap().status.code());
    assert!(codes.contains(&Some(0)) && codes.contains(&Some(1)), "{codes:?}");
    assert_eq!(site.count("reset"), 1, "{:?}", site.log());
    // And one after the other: who was refused is refused until the machine boots.
    let refused = if codes[0] == Some(1) { "state" } else { "other" };
    site.state = refused;
    site.write("fault", "");
    let output = site.apply();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("the journal of this machine is in"), "{said}");
    fs::remove_dir_all(site.path("run")).unwrap();
    assert_eq!(site.apply().status.code(), Some(0));
}

#[test]
fn gpus_that_nvlink_joins_are_reset_together_or_not_at_all() {
    let steps = "\n  - {step: isolate}\n  - {step: reset-gpu}\n  - {step: verify}\n  - {step: restore}\n";
    let site = Site::new(steps);
    let mut sick: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(site.path("sick.json")).unwrap()).unwrap();
    sick["reset_groups"] = serde_json::json!([{"pci": GPU, "peers": [OTHER_GPU]}, {"pci": OTHER_GPU, "peers": [GPU]}]);
    site.write("sick.json", &sick.to_string());
    let (one, all) = (site.here("['@/reset', '{pci}']"), site.here("['@/reset', '{gpus}']"));
    site.edit("playbook.yaml", &one, &all);
    let output = site.apply();
    assert_eq!(plan(&output)["refused"][0]["rule"], "blast_radius", "{:#}", plan(&output));
    assert!(site.log().is_empty());
    // A site lets both go; its command names one alone: a human is asked.
    site.edit("playbook.yaml", "cool_down: 0s", "cool_down: 0s, blast_radius: 2");
    site.edit("playbook.yaml", &all, &one);
    let output = site.run(&["-o", "json"]);
    assert!(plan(&output).to_string().contains("the command names one GPU: use {gpus}"), "{:#}", plan(&output));
    site.edit("playbook.yaml", &one, &all);
    let output = site.apply();
    assert_eq!(output.status.code(), Some(0), "{:#}", plan(&output));
    assert!(site.log().contains(&format!("reset {GPU},{OTHER_GPU}")), "{:?}", site.log());
    assert_eq!(site.count("reset"), 1);
}

#[test]
fn a_watch_looks_at_once_when_nvml_tells_of_an_xid() {
    if !can_build() {
        return;
    }
    let site = Site::new(RESET);
    site.remove("fault");
    fs::create_dir_all(site.path(&format!("proc/driver/nvidia/gpus/{GPU}"))).unwrap();
    site.edit("diagnose", "#!/bin/sh\n", "#!/bin/sh\necho looked >> @/looks\n");
    site.write("facts", &format!("{H100}\ncount 1\n0.uuid GPU-0\n0.pci 00000000:3B:00.0\n"));
    site.write("events", "");
    let mut watch = site.command(&["--apply", "--watch", "--interval", "1h", "-o", "json"]);
    watch
        .env("LD_LIBRARY_PATH", library(false))
        .env("AICTL_TEST_NVML", site.path("facts"))
        .env("AICTL_TEST_NVML_EVENTS", site.path("events"));
    let said = fs::File::create(site.path("said")).unwrap();
    let mut watch = watch.stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap();
    let tell = || fs::read_to_string(site.path("said")).unwrap_or_default();
    let looks = || fs::read_to_string(site.path("looks")).unwrap_or_default().lines().count();
    until("the first look", tell, || looks() > 0);
    // The next look by the clock is an hour away.
    site.write("fault", "");
    let before = looks();
    // Whoever is not listening yet is not told: again, until somebody is.
    let mut events = fs::OpenOptions::new().append(true).open(site.path("events")).unwrap();
    until("the GPU is reset", tell, || {
        events.write_all(b"0 95\n").unwrap();
        site.count("uncordon") > 0
    });
    assert!(looks() > before);
    assert_eq!(site.count("reset"), 1);
    let pid = rustix::process::Pid::from_child(&watch);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    watch.wait().unwrap();
}

fn until(what: &str, tell: impl Fn() -> String, mut is: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(60), "never: {what}: {}", tell());
        std::thread::sleep(Duration::from_millis(50));
    }
}
