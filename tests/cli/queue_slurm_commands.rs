//! The commands with a real Slurm: arrays by name and number, scripts written for sbatch, and a Slurm
//! that can't be asked.

use std::process::Stdio;

use serde_json::Value;

use crate::environment::{Ran, TestEnvironment};
use crate::support::slurm::{Nodes, Slurm};
use crate::support::{program, require};

/// A place whose target `lab` is a Slurm's programs, and `rest` its slurmrestd if it has an address.
fn place(slurm: &Slurm, rest: Option<&str>) -> TestEnvironment {
    let environment = TestEnvironment::new();
    let rest = rest.map_or(String::new(), |address| format!("- {{name: rest, engine: slurm, address: '{address}'}}\n"));
    environment.write(
        "config.yaml",
        format!("targets:\n- {{name: lab, engine: slurm, programs: {}}}\n{rest}", slurm.programs().display()),
    );
    environment.set("AICTL_CONFIG", "config.yaml")
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

#[test]
fn an_array_is_one_job_by_name_and_number() {
    let Some(slurm) = Slurm::start(Nodes { count: 1, gpus: 0, shards: 0, more: "" }) else { return };
    let (place, below) = (place(&slurm, None), slurm.shared().display().to_string());
    let submit = ["submit", "--to", "lab", "--workdir", &below, "--time", "5", "-o", "name"];
    let ran = place.run([&submit[..], &["--name", "arr", "--array", "0-2%1", "--", "sleep", "3"]].concat());
    assert_eq!(ran.status, Some(0), "{ran}");
    let address = ran.stdout.trim().to_owned();
    let number = address.strip_prefix("lab:").unwrap().to_owned();
    let rest = format!("{address}_[0-2%1]");
    // Each of them is waited for from before its first task to after its last.
    let waits: Vec<_> = ["arr", &address, &number, &rest]
        .iter()
        .map(|job| {
            let mut command = place.command();
            command.args(["queue", "wait", "--timeout", "3m", job]).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for job in ["arr", &number] {
        let ran = place.run(["queue", "explain", job, "-o", "json"]);
        assert_eq!((ran.status, json(&ran)["job"]["name"].as_str()), (Some(0), Some("arr")), "{ran}");
        let ran = place.run(["queue", "cancel", "--dry-run", job]);
        assert!(ran.status == Some(0) && ran.stdout.starts_with(&format!("{address} would be")), "{ran}");
        let ran = place.run(["queue", "logs", job]);
        assert!(ran.status == Some(2) && ran.stderr.contains("is an array; each"), "{ran}");
    }
    for wait in waits {
        let ran = place.ran(wait.wait_with_output().unwrap());
        assert_eq!(ran.status, Some(0), "{ran}");
        assert!(ran.stderr.contains(&format!("{address} succeeded (exit code 0)")), "{ran}");
    }
    let left = slurm.said("squeue", &["--noheader"]);
    assert!(left.is_empty(), "all tasks were waited for: {left}");

    // Slurm has no labels, and sums over nothing are 0.
    let ran = place.run(["queue", "list", "--on", "lab", "-l", "a=b", "-o", "json"]);
    assert_eq!((ran.status, json(&ran)), (Some(0), Value::Array(Vec::new())), "{ran}");
    let ran = place.run(["queue", "quota", "--on", "lab"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("memory") && !ran.stdout.contains("-0"), "{ran}");
}

const SCRIPT: &str = "#!/bin/bash
#SBATCH --nodes=1-2
#SBATCH --ntasks-per-node=2
#SBATCH -c 2 --time=10
#SBATCH --mem=0 --mail-type=NONE
printf '%s|' \"$@\"
";

#[test]
fn a_script_for_slurm_goes_there_as_it_is_with_its_arguments() {
    let Some(mut slurm) = Slurm::start(Nodes { count: 1, gpus: 0, shards: 0, more: "" }) else { return };
    let rest = slurm.rest_at_socket();
    let (place, below) = (place(&slurm, rest.as_deref()), slurm.shared().display().to_string());
    place.write("ar.sh", SCRIPT);
    for target in ["lab", "rest"] {
        if target == "rest" && rest.is_none() {
            continue;
        }
        let submit = ["submit", "--to", target, "--workdir", &below, "-o", "name", "ar.sh", "one"];
        let ran = place.run([&submit[..], &["--", "--two", "three  four"]].concat());
        assert_eq!(ran.status, Some(0), "{ran}");
        assert!(!ran.stderr.contains("not understood") && !ran.stderr.contains("taken"), "{ran}");
        let job = ran.stdout.trim().to_owned();
        let ran = place.run(["queue", "wait", "--timeout", "3m", &job]);
        assert_eq!(ran.status, Some(0), "{ran}");
        let ran = place.run(["queue", "logs", &job]);
        assert_eq!(ran.stdout.trim(), "one|--two|three  four|", "{target}: {ran}");
        let ran = place.run(["queue", "logs", &job, "--rank", "7"]);
        assert!(ran.status == Some(2) && ran.stderr.contains("has no rank 7"), "{ran}");
        if target == "lab" {
            let said = slurm.said("scontrol", &["show", "job", job.trim_start_matches("lab:")]);
            assert!(said.contains("NumCPUs=4") && said.contains("CPUs/Task=2"), "{said}");
        }
    }
    // What the server only tries is not submitted, whatever the script's arguments are.
    let before = slurm.said("squeue", &["--noheader", "--states=all"]).lines().count();
    let ran = place.run(["submit", "--to", "lab", "--dry-run=server", "ar.sh", "other"]);
    assert!(ran.status == Some(0) && ran.stderr.contains("would take it"), "{ran}");
    assert_eq!(slurm.said("squeue", &["--noheader", "--states=all"]).lines().count(), before);

    // A dry run prints what sbatch takes, with all that is asked for.
    let ran = place.run([
        "submit",
        "--to",
        "lab",
        "--dry-run",
        "--name",
        "shown",
        "--array",
        "0-1",
        "--time",
        "7",
        "--cpus",
        "2",
        "--workdir",
        &below,
        "--",
        "true",
    ]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let file = slurm.shared().join("shown.sh");
    std::fs::write(&file, &ran.stdout).unwrap();
    let job = slurm.said("sbatch", &["--parsable", "--hold", &file.display().to_string()]);
    let said = slurm.said("scontrol", &["show", "job", &job]);
    for word in ["JobName=shown", "ArrayTaskId=0-1", "TimeLimit=00:07:00", "CPUs/Task=2", "Comment=aictl:"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_slurm_that_cannot_be_asked_is_named_with_what_it_lacks() {
    if !require("Slurm's programs", program("sbatch").is_some() && program("scontrol").is_some()) {
        return;
    }
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let orders = ["queue explain foo", "queue wait foo", "queue logs foo", "queue cancel foo", "queue hold foo"];
    let lists = ["queue list", "queue quota"];
    let check = |place: &TestEnvironment, arguments: &str, lacks: &str| {
        let ran = place.run(words(arguments));
        assert_eq!(ran.status, Some(4), "{arguments}: {ran}");
        assert!(ran.stderr.contains(lacks), "{arguments}: {ran}");
        ran
    };
    // Its programs alone, which are all that there is.
    let unconfigured = TestEnvironment::new().set("SLURM_CONF", "/nonexistent/slurm.conf");
    for arguments in orders.iter().chain(&lists) {
        check(&unconfigured, arguments, "SLURM_CONF names /nonexistent/slurm.conf, which is not there");
    }
    // Nothing at all.
    let nothing = TestEnvironment::new().set("PATH", "/nonexistent");
    for arguments in orders.iter().chain(&lists) {
        check(&nothing, arguments, "no queue was found");
    }
    // A target, and no configuration that its programs could read.
    let target = TestEnvironment::new();
    let empty = target.write("empty.conf", "");
    target.write("config.yaml", "targets:\n- {name: lab, engine: slurm}\n");
    let target = target.set("SLURM_CONF", &empty.display().to_string()).set("AICTL_CONFIG", "config.yaml");
    for arguments in
        ["queue list --on lab", "queue quota --on lab", "queue explain lab:7", "queue wait lab:7", "queue cancel lab:7"]
    {
        check(&target, arguments, "find no slurm.conf");
    }
    for place in [&unconfigured, &nothing, &target] {
        for arguments in lists {
            let ran = place.run(words(&format!("{arguments} -o json")));
            assert_eq!((ran.status, json(&ran)), (Some(4), Value::Array(Vec::new())), "{arguments}: {ran}");
        }
    }
}
