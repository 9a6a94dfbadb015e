//! Slurm, through its programs or slurmrestd.

mod fits;
mod jobs;
mod json;
mod local;
mod logs;
mod loose;
mod machines;
mod order;
mod past;
mod programs;
mod quota;
mod record;
mod request;
mod rest;
mod script;
mod source;
mod state;
mod text;

use std::process::Stdio;

use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::queue::{
    Answer, DryRun, Engine, ExecStreams, Explanation, Filter, Job, JobSpec, Lines, LogOptions, Outcome, Plan, PlanForm,
    QueueError, QueueInfo, QuotaRow, Submitted, Target,
};
use record::Record;
use source::Source;

pub(super) use local::{local, unconfigured};
pub(super) use machines::machines;

/// A Slurm.
pub(super) struct Slurm {
    target: Target,
    source: Source,
    user: OnceCell<String>,
}

/// Opens a target: slurmrestd where it has an address, else the programs.
pub(super) fn open(target: &Target) -> Result<Slurm, QueueError> {
    let source = match &target.address {
        Some(address) => Source::Rest(Box::new(rest::Rest::new(target, address)?)),
        None => Source::Programs(programs::Programs::new(&target.name, target.programs.clone())),
    };
    Ok(Slurm { target: target.clone(), source, user: OnceCell::new() })
}

impl Slurm {
    async fn shards(&self, records: &[Record]) -> Result<f64, QueueError> {
        // Nodes are asked for only where a job has shards: they can be many.
        if records.iter().any(|record| record.gres("shard") > 0.0) {
            Ok(jobs::shards_per_gpu(&self.source.nodes().await?))
        } else {
            Ok(1.0)
        }
    }

    async fn me(&self) -> Result<&str, QueueError> {
        Ok(self.user.get_or_try_init(|| self.source.user()).await?)
    }

    async fn dependency(&self, spec: &JobSpec, offline: bool) -> Result<Option<String>, QueueError> {
        let mut words = Vec::new();
        for after in &spec.after {
            let named = after.job.rsplit_once(':').map_or(after.job.as_str(), |(_, job)| job);
            let is_number = named.split('_').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()));
            let id = if is_number {
                named.to_owned()
            } else if offline {
                return Err(QueueError::Invalid {
                    what: format!("--after {named}: which job that is can't be told without asking Slurm"),
                    hint: "give its number, or use --dry-run=server".to_owned(),
                });
            } else {
                let records = self.source.jobs().await?;
                let of_name = records
                    .iter()
                    .filter(|record| record.name == named || request::submission(&record.comment) == Some(named));
                let latest = of_name.map(number).max().ok_or_else(|| QueueError::NoSuchJob {
                    job: named.to_owned(),
                    looked: self.target.name.clone(),
                    nearest: Vec::new(),
                })?;
                latest.to_string()
            };
            let condition = match after.outcome {
                Outcome::Ok => "afterok",
                Outcome::NotOk => "afternotok",
                Outcome::Any => "afterany",
            };
            words.push(format!("{condition}:{id}"));
        }
        Ok((!words.is_empty()).then(|| words.join(",")))
    }

    async fn make_plan(&self, spec: &JobSpec, offline: bool) -> Result<Plan, QueueError> {
        let mut looked = request::Looked::default();
        // What the script's own lines say in sbatch's words, sbatch reads and judges.
        let own = spec.asked_of_slurm();
        if own.is_none_or(|own| own.after != spec.after) {
            looked.dependency = self.dependency(spec, offline).await?;
        }
        if !offline {
            let (partitions, nodes) = (self.source.partitions().await?, self.source.nodes().await?);
            let partition = fits::partition(&self.target.name, spec, &partitions)?;
            looked.share = fits::share(spec, &nodes)?;
            if let Some(partition) = partition {
                // Tasks without a number of nodes may go to as many as they need.
                let cpus = spec.cpus.filter(|_| own.is_none_or(|own| own.cpus != spec.cpus));
                fits::check(&JobSpec { cpus, ..spec.clone() }, looked.share.as_deref(), partition, &nodes)?;
            }
        } else if spec.gpu_share.is_some() {
            return Err(QueueError::Invalid {
                what: "how a GPU is shared can't be told without asking Slurm".to_owned(),
                hint: "use --dry-run=server".to_owned(),
            });
        }
        let request = request::request(spec, &looked)?;
        let form = match &self.source {
            Source::Programs(_) => PlanForm::Script { command: request.command(), script: request.script.clone() },
            Source::Rest(rest) => {
                let directory =
                    std::env::current_dir().map_or_else(|_| "/".to_owned(), |path| path.display().to_string());
                PlanForm::Request {
                    method: "POST".to_owned(),
                    url: rest.submit_url().await?,
                    body: request.body(&rest.api().await?.job_properties(), &directory)?,
                }
            }
        };
        Ok(Plan { name: spec.name.clone(), submission_id: spec.id.clone(), form, notes: request.notes })
    }

    async fn send(&self, plan: &Plan, dry_run: DryRun) -> Result<Submitted, QueueError> {
        let me = self.me().await?;
        if dry_run == DryRun::No
            && let Some(first) = self.source.submitted(me, &plan.submission_id).await?.first()
        {
            return Ok(Submitted { id: first.to_string(), existed: true, warnings: Vec::new() });
        }
        let (id, warnings) = match (&plan.form, &self.source, dry_run) {
            (PlanForm::Script { command, script }, Source::Programs(programs), dry_run) => {
                let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
                if dry_run == DryRun::Server {
                    // What follows the script is the script's.
                    let sbatch = words.iter().position(|word| *word == "sbatch").unwrap_or_default();
                    words.insert(sbatch + 1, "--test-only");
                }
                let printed = match programs.submit(&words, script).await {
                    Err(error) if dry_run == DryRun::No => return self.found_after(me, plan, error).await,
                    printed => printed?,
                };
                let warnings: Vec<String> = printed
                    .stderr
                    .lines()
                    .map(|line| line.trim_start_matches("sbatch: ").to_owned())
                    .filter(|line| !line.is_empty())
                    .collect();
                if dry_run == DryRun::Server {
                    return Ok(Submitted { id: String::new(), existed: false, warnings });
                }
                // "12" or "12;CLUSTER".
                let id = printed.stdout.trim().split(';').next().unwrap_or_default();
                let id = id.parse::<u64>().map_err(|_| QueueError::Refused {
                    what: format!("{}: sbatch took the job and gave no number", self.target.name),
                    message: printed.stdout.trim().to_owned(),
                })?;
                (id, warnings)
            }
            (PlanForm::Request { .. }, Source::Rest(_), DryRun::Server) => {
                return Err(QueueError::Unsupported {
                    engine: "slurmrestd".to_owned(),
                    what: "try a submission without keeping it".to_owned(),
                    instead: "--dry-run checks the request against nodes and partitions".to_owned(),
                });
            }
            (PlanForm::Request { body, .. }, Source::Rest(rest), DryRun::No) => {
                let (id, warnings) = match rest.submit(body).await {
                    Err(error) => return self.found_after(me, plan, error).await,
                    Ok(submitted) => submitted,
                };
                let id = match id {
                    Some(id) => id,
                    None => *self.source.submitted(me, &plan.submission_id).await?.first().ok_or_else(|| {
                        QueueError::Refused {
                            what: format!("{}: slurmrestd took the job and gave no number", self.target.name),
                            message: "no job of this submission is to be seen either".to_owned(),
                        }
                    })?,
                };
                (id, warnings)
            }
            _ => return Err(foreign(plan)),
        };
        // Somebody may have submitted the same at the same moment: the first stays.
        if let Ok(same) = self.source.submitted(me, &plan.submission_id).await
            && let Some(first) = same.first()
            && *first < id
        {
            self.source.cancel(&id.to_string()).await?;
            return Ok(Submitted { id: first.to_string(), existed: true, warnings });
        }
        Ok(Submitted { id: id.to_string(), existed: false, warnings })
    }

    /// Whether a submission arrived whose answer was lost; else what went wrong.
    async fn found_after(&self, me: &str, plan: &Plan, error: QueueError) -> Result<Submitted, QueueError> {
        if !error.is_passing() {
            return Err(error);
        }
        let same = self.source.submitted(me, &plan.submission_id).await.unwrap_or_default();
        let found = |id: &u64| Submitted { id: id.to_string(), existed: false, warnings: Vec::new() };
        same.first().map(found).ok_or(error)
    }

    async fn explanation(&self, id: &str) -> Result<Explanation, QueueError> {
        let records = self.source.jobs().await?;
        let wanted = self.source.job(id).await?;
        // Of an array, what waits is what is asked about.
        let own = wanted
            .iter()
            .find(|record| state::state(record).is_waiting())
            .or_else(|| wanted.iter().find(|record| !record.is_over()));
        let Some(own) = own.or(wanted.first()) else {
            return Err(QueueError::NoSuchJob {
                job: id.to_owned(),
                looked: self.target.name.clone(),
                nearest: Vec::new(),
            });
        };
        let mut blind = Vec::new();
        let mut seen = |what: &str, error: QueueError| blind.push(format!("{what}: {error}"));
        let nodes = self.source.nodes().await.unwrap_or_else(|error| {
            seen("nodes", error);
            Vec::new()
        });
        let partitions = self.source.partitions().await.unwrap_or_else(|error| {
            seen("partitions", error);
            Vec::new()
        });
        let seen = jobs::Seen { records: &records, nodes: &nodes, partitions: &partitions, blind };
        Ok(jobs::explain(own, seen, &self.target, Timestamp::now()))
    }
}

/// The number under which `scontrol` finds a job or its whole array.
fn number(record: &Record) -> u64 {
    record.array.unwrap_or(record.id)
}

fn foreign(plan: &Plan) -> QueueError {
    QueueError::Invalid {
        what: format!("{}: the plan was made for another engine", plan.name),
        hint: "plan and submit with the same target".to_owned(),
    }
}

impl Engine for Slurm {
    fn target(&self) -> &Target {
        &self.target
    }

    fn plan<'a>(&'a self, spec: &'a JobSpec, offline: bool) -> Answer<'a, Plan> {
        Box::pin(self.make_plan(spec, offline))
    }

    fn submit<'a>(&'a self, plan: &'a Plan, dry_run: DryRun) -> Answer<'a, Submitted> {
        Box::pin(self.send(plan, dry_run))
    }

    fn list<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Vec<Job>> {
        Box::pin(async move {
            let records = self.source.jobs().await?;
            if filter.selector.as_ref().is_some_and(|selector| !selector.is_empty()) {
                // Its jobs have no labels.
                return Ok(Vec::new());
            }
            let shards = self.shards(&records).await?;
            let mut jobs = jobs::jobs(&records, &self.target, shards, Timestamp::now());
            jobs.retain(|job| filter.passes(job));
            Ok(jobs)
        })
    }

    fn get<'a>(&'a self, id: &'a str) -> Answer<'a, Job> {
        Box::pin(async move {
            let records = self.source.job(id).await?;
            let shards = self.shards(&records).await?;
            let whole = jobs::whole(id, &records, &self.target, shards, Timestamp::now());
            whole.ok_or_else(|| QueueError::NoSuchJob {
                job: id.to_owned(),
                looked: self.target.name.clone(),
                nearest: Vec::new(),
            })
        })
    }

    fn explain<'a>(&'a self, id: &'a str) -> Answer<'a, Explanation> {
        Box::pin(self.explanation(id))
    }

    fn logs<'a>(&'a self, id: &'a str, options: &'a LogOptions) -> Answer<'a, Lines<'a>> {
        Box::pin(logs::lines(&self.source, id, options))
    }

    fn exec<'a>(&'a self, id: &'a str, rank: u32, command: &'a [String], streams: ExecStreams) -> Answer<'a, i32> {
        Box::pin(async move {
            let Source::Programs(_) = &self.source else {
                return Err(QueueError::Unsupported {
                    engine: "slurmrestd".to_owned(),
                    what: "run a command beside a job".to_owned(),
                    instead: "a target without an address uses srun".to_owned(),
                });
            };
            let record = self.source.job(id).await?.into_iter().next().unwrap_or_default();
            let nodes = record::host_list(&record.node_list);
            let Some(node) = nodes.get(rank as usize) else {
                return Err(QueueError::Invalid {
                    what: format!("job {id} has no rank {rank}: it has {} nodes now", nodes.len()),
                    hint: "ranks count its nodes from 0".to_owned(),
                });
            };
            let srun = self.target.programs.as_ref().map_or_else(|| "srun".into(), |directory| directory.join("srun"));
            let mut running = tokio::process::Command::new(srun);
            running.args([
                "--overlap",
                "--nodes=1",
                "--ntasks=1",
                "--jobid",
                &record.id.to_string(),
                "--nodelist",
                node,
                "--",
            ]);
            running
                .args(command)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true);
            let failed = |error: std::io::Error| QueueError::Unreachable {
                what: format!("cannot run srun beside job {id}"),
                message: error.to_string(),
                passing: false,
            };
            let mut child = running.spawn().map_err(failed)?;
            let (mut stdin, mut stdout, mut stderr) = (streams.stdin, streams.stdout, streams.stderr);
            let (mut to, mut from, mut errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let feed = async {
                if let Some(to) = &mut to {
                    let _ = tokio::io::copy(&mut stdin, to).await;
                }
                drop(to);
                std::future::pending::<()>().await;
            };
            let show = async {
                let out = async {
                    if let Some(from) = &mut from {
                        let _ = tokio::io::copy(from, &mut stdout).await;
                    }
                };
                let err = async {
                    if let Some(errors) = &mut errors {
                        let _ = tokio::io::copy(errors, &mut stderr).await;
                    }
                };
                futures::future::join(out, err).await;
            };
            tokio::select! {
                () = feed => {}
                () = show => {}
            }
            let status = child.wait().await.map_err(failed)?;
            Ok(status.code().unwrap_or(1))
        })
    }

    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.source.cancel(id))
    }

    fn hold<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.source.hold(id))
    }

    fn release<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.source.release(id))
    }

    fn priority<'a>(&'a self, id: &'a str, priority: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let number = priority.parse::<u32>().ok().filter(|number| (1..4_294_967_294).contains(number));
            let number = number.ok_or_else(|| QueueError::Invalid {
                what: format!("priority {priority:?} is no number above 0"),
                hint: "Slurm counts priorities: larger is first; `aictl queue hold` keeps a job back".to_owned(),
            })?;
            self.source.priority(id, number).await
        })
    }

    fn requeue<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.source.requeue(id))
    }

    fn quota<'a>(&'a self, queue: Option<&'a str>) -> Answer<'a, Vec<QuotaRow>> {
        Box::pin(async move {
            let (partitions, nodes, records) =
                (self.source.partitions().await?, self.source.nodes().await?, self.source.jobs().await?);
            let mut rows = quota::rows(&self.target.name, &partitions, &nodes, &records);
            rows.retain(|row| queue.is_none_or(|queue| row.queue == queue));
            Ok(rows)
        })
    }

    fn queues(&self) -> Answer<'_, Vec<QueueInfo>> {
        Box::pin(async move {
            let partitions = self.source.partitions().await?;
            let made = partitions.into_iter().map(|partition| QueueInfo {
                name: partition.name,
                namespace: None,
                open: partition.up,
            });
            Ok(made.collect())
        })
    }

    fn user(&self) -> Answer<'_, String> {
        Box::pin(async move { Ok(self.me().await?.to_owned()) })
    }
}
