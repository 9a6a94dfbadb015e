//! `aictl queue wait` with a real Slurm: the place in the queue moves while it waits.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::environment::TestEnvironment;
use crate::support::slurm::{Nodes, Slurm};

#[test]
fn a_place_moves_while_a_job_waits() {
    let Some(slurm) = Slurm::start(Nodes { count: 1, gpus: 0, shards: 0, more: "" }) else { return };
    let environment = TestEnvironment::new();
    environment.write(
        "config.yaml",
        format!("targets:\n- {{name: lab, engine: slurm, programs: {}}}\n", slurm.programs().display()),
    );
    let batch = |name: &str, wrapped: &str| {
        let name = format!("--job-name={name}");
        slurm.said("sbatch", &["--parsable", "--exclusive", "--time=10", &name, &format!("--wrap={wrapped}")])
    };
    let holder = batch("holder", "sleep 300");
    slurm.wait_for("running job", |slurm| {
        slurm.said("squeue", &["--noheader", "--format=%T", "--jobs", &holder]) == "RUNNING"
    });
    let (before, own) = (batch("before", "sleep 300"), batch("own", "sleep 1"));
    let mut command = environment.command();
    let job = format!("lab:{own}");
    command.args(["queue", "wait", "--config", "config.yaml", "--timeout", "3m", &job]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = Arc::new(Mutex::new(Vec::<String>::new()));
    let (written, stderr) = (Arc::clone(&said), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| written.lock().unwrap().push(line));
    });
    let sees = |what: &str| {
        let begin = Instant::now();
        while !said.lock().unwrap().iter().any(|line| line.contains(what)) {
            assert!(begin.elapsed() < Duration::from_secs(60), "no {what:?} in {:#?}", said.lock().unwrap());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    // With a start, from the time limits of what runs and waits.
    sees("own: pending, 1 ahead of it, starts in about ");
    slurm.said("scancel", &[&before]);
    sees("own: pending, next in its queue, starts in about ");
    slurm.said("scancel", &[&holder]);
    let status = child.wait().unwrap();
    reader.join().unwrap();
    let lines = said.lock().unwrap();
    assert!(
        status.success() && lines.last().unwrap().ends_with(&format!("{job} succeeded (exit code 0)")),
        "{lines:#?}"
    );
    // A start that comes nearer is no news: only what else changes has a line.
    assert!(lines.len() < 12, "{lines:#?}");
}
