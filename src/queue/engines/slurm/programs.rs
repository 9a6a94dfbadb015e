//! Slurm through its programs: `scontrol`, `sbatch`, `scancel`, `sacct`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::record::{Node, Partition, Record};
use super::text;
use crate::queue::QueueError;

/// A program that isn't done by then hangs; slurmctld itself is waited for less.
const ANSWER: Duration = Duration::from_secs(60);

/// The programs, on the PATH or in a directory.
#[derive(Debug)]
pub(super) struct Programs {
    directory: Option<PathBuf>,
    target: String,
}

/// What a program printed.
pub(super) struct Printed {
    pub stdout: String,
    pub stderr: String,
}

impl Programs {
    pub fn new(target: &str, directory: Option<PathBuf>) -> Programs {
        Programs { directory, target: target.to_owned() }
    }

    /// All jobs that slurmctld knows of, those that ended lately among them.
    pub async fn jobs(&self) -> Result<Vec<Record>, QueueError> {
        let printed = self.run("scontrol", &["--all", "--oneliner", "show", "job"], None, "list the jobs").await?;
        Ok(text::jobs(&printed.stdout))
    }

    /// A job, or all of an array; from the accounting if slurmctld has forgotten it.
    pub async fn job(&self, id: &str) -> Result<Vec<Record>, QueueError> {
        let arguments = ["--all", "--oneliner", "show", "job", id];
        match self.run("scontrol", &arguments, None, &format!("read job {id}")).await {
            Ok(printed) => Ok(text::jobs(&printed.stdout)),
            Err(QueueError::NoSuchJob { job, looked, nearest }) => {
                let past = self.past(id).await;
                if past.is_empty() { Err(QueueError::NoSuchJob { job, looked, nearest }) } else { Ok(past) }
            }
            Err(error) => Err(error),
        }
    }

    /// The numbers and comments of a user's jobs: little, where all that is known of all jobs is much.
    pub async fn comments(&self, user: &str) -> Result<Vec<(u64, String)>, QueueError> {
        let arguments = ["--noheader", "--all", "--states=all", "--user", user, "--format=%F %k"];
        let printed = self.run("squeue", &arguments, None, "list the jobs").await?;
        let lines = printed.stdout.lines().filter_map(|line| {
            let (number, comment) = line.trim().split_once(' ')?;
            Some((number.parse().ok()?, comment.to_owned()))
        });
        Ok(lines.collect())
    }

    /// What the accounting knows of a job; nothing where there is no accounting.
    async fn past(&self, id: &str) -> Vec<Record> {
        let fields = format!("--format={}", super::past::FIELDS.join(","));
        let delimiter = format!("--delimiter={}", super::past::DELIMITER);
        let arguments = ["--parsable2", "--noheader", "--allocations", "--jobs", id, &delimiter, &fields];
        match self.run("sacct", &arguments, None, "read the accounting").await {
            Ok(printed) => super::past::jobs(&printed.stdout),
            Err(_) => Vec::new(),
        }
    }

    pub async fn nodes(&self) -> Result<Vec<Node>, QueueError> {
        let arguments = ["--all", "--detail", "--oneliner", "show", "node"];
        let printed = self.run("scontrol", &arguments, None, "list the nodes").await?;
        Ok(text::nodes(&printed.stdout))
    }

    pub async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        let arguments = ["--all", "--oneliner", "show", "partition"];
        let printed = self.run("scontrol", &arguments, None, "list the partitions").await?;
        Ok(text::partitions(&printed.stdout))
    }

    /// Runs the command of a plan: `[env NAME=VALUE…] sbatch OPTIONS`, with the script as its input.
    pub async fn submit(&self, command: &[&str], script: &str) -> Result<Printed, QueueError> {
        let sbatch = command.iter().position(|word| *word == "sbatch").unwrap_or_default();
        let (before, words) = command.split_at(sbatch);
        let environment: Vec<(&str, &str)> = before.iter().filter_map(|word| word.split_once('=')).collect();
        let arguments = words.get(1..).unwrap_or_default();
        self.run_in(&environment, "sbatch", arguments, Some(script), "submit to a partition").await
    }

    /// Runs a program to its end. `what` is what it is for: "list the jobs".
    pub async fn run(
        &self,
        program: &str,
        arguments: &[&str],
        input: Option<&str>,
        what: &str,
    ) -> Result<Printed, QueueError> {
        self.run_in(&[], program, arguments, input, what).await
    }

    async fn run_in(
        &self,
        environment: &[(&str, &str)],
        program: &str,
        arguments: &[&str],
        input: Option<&str>,
        what: &str,
    ) -> Result<Printed, QueueError> {
        let path = match &self.directory {
            Some(directory) => directory.join(program),
            None => PathBuf::from(program),
        };
        let mut command = Command::new(&path);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.envs(environment.iter().copied());
        // English, and indices of arrays in full.
        command.env("LC_ALL", "C").env("SLURM_BITSTR_LEN", "0");
        if matches!(program, "scontrol" | "sacct") {
            // Times are read as UTC. Not for sbatch, whose environment becomes the job's.
            command.env("TZ", "UTC").env_remove("SLURM_TIME_FORMAT");
        }
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let unreachable = |message: String, passing| QueueError::Unreachable {
            what: format!("cannot {what} of {}", self.target),
            message,
            passing,
        };
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unreachable(format!("there is no {}", path.display()), false),
            _ => unreachable(format!("{} can't be run: {error}", path.display()), false),
        })?;
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            // A program that ends before it has read all says why on stderr.
            let _ = pipe.write_all(input.as_bytes()).await;
        }
        let output = match tokio::time::timeout(ANSWER, child.wait_with_output()).await {
            Ok(output) => output.map_err(|error| unreachable(error.to_string(), true))?,
            Err(_) => return Err(unreachable(format!("{program} was not done after {ANSWER:?}"), true)),
        };
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        if output.status.success() {
            return Ok(Printed { stdout, stderr });
        }
        Err(self.failure(what, &said(&stderr, &stdout)))
    }

    fn failure(&self, what: &str, said: &str) -> QueueError {
        let lower = said.to_ascii_lowercase();
        if lower.contains("invalid job id") || lower.contains("invalid job array id") {
            return QueueError::NoSuchJob {
                job: what.rsplit(' ').next().unwrap_or_default().to_owned(),
                looked: self.target.clone(),
                nearest: Vec::new(),
            };
        }
        // Without a configuration no program of Slurm's knows whom to ask.
        if ["could not establish a configuration source", "unable to process configuration file"]
            .iter()
            .any(|words| lower.contains(words))
        {
            return QueueError::Unreachable {
                what: format!("cannot {what} of {}", self.target),
                message: format!("Slurm's programs find no slurm.conf here, nor a server that has one ({said})"),
                passing: false,
            };
        }
        let away = [
            "unable to contact slurm controller",
            "connection refused",
            "connect failure",
            "timed out",
            "unable to establish",
        ];
        if away.iter().any(|words| lower.contains(words)) {
            return QueueError::Unreachable {
                what: format!("cannot {what} of {}", self.target),
                message: said.to_owned(),
                passing: true,
            };
        }
        QueueError::Refused { what: format!("cannot {what} of {}", self.target), message: said.to_owned() }
    }
}

/// What a program said went wrong, in one line without its own name.
pub(super) fn said(stderr: &str, stdout: &str) -> String {
    let text = if stderr.trim().is_empty() { stdout } else { stderr };
    let lines = text.lines().map(|line| {
        let line = line.trim();
        let words = [
            "sbatch: error: ",
            "sbatch: ",
            "scontrol: error: ",
            "scancel: error: ",
            "sacct: error: ",
            "slurm_load_jobs error: ",
            "allocation failure: ",
        ];
        words.iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line))
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
