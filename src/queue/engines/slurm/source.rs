//! The two ways to a Slurm: its programs, or slurmrestd.

use serde_json::json;

use super::programs::Programs;
use super::record::{Node, Partition, Record};
use super::rest::Rest;
use crate::queue::QueueError;

pub(super) enum Source {
    Programs(Programs),
    Rest(Box<Rest>),
}

impl Source {
    /// All jobs that it knows of.
    pub async fn jobs(&self) -> Result<Vec<Record>, QueueError> {
        match self {
            Source::Programs(programs) => programs.jobs().await,
            Source::Rest(rest) => rest.jobs().await,
        }
    }

    /// The numbers of a user's jobs that came of a submission, rising.
    pub async fn submitted(&self, user: &str, submission_id: &str) -> Result<Vec<u64>, QueueError> {
        let comments = match self {
            Source::Programs(programs) => programs.comments(user).await?,
            Source::Rest(rest) => {
                let records = rest.jobs().await?.into_iter().filter(|record| record.user == user);
                records.map(|record| (record.array.unwrap_or(record.id), record.comment)).collect()
            }
        };
        let ours = comments.iter().filter(|(_, comment)| super::request::submission(comment) == Some(submission_id));
        let mut numbers: Vec<u64> = ours.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// A job; all of an array, or one of it (`12_3`). Never empty.
    pub async fn job(&self, id: &str) -> Result<Vec<Record>, QueueError> {
        let number = id.split('_').next().unwrap_or_default();
        let gone = || QueueError::NoSuchJob { job: id.to_owned(), looked: "Slurm".to_owned(), nearest: Vec::new() };
        let Ok(wanted) = number.parse::<u64>() else { return Err(gone()) };
        let records = match self {
            Source::Programs(programs) => programs.job(number).await,
            Source::Rest(rest) => rest.job(number).await,
        };
        let mut records = match records {
            Err(QueueError::NoSuchJob { looked, nearest, .. }) => {
                return Err(QueueError::NoSuchJob { job: id.to_owned(), looked, nearest });
            }
            records => records?,
        };
        records.retain(|record| record.id == wanted || record.array == Some(wanted));
        if let Some((_, task)) = id.split_once('_') {
            let index = task.parse::<u32>().ok();
            records.retain(|record| match index {
                Some(index) => {
                    record.task == Some(index)
                        || record
                            .tasks_left
                            .as_deref()
                            .and_then(|left| left.parse::<crate::queue::Array>().ok())
                            .is_some_and(|left| left.indices().contains(&index))
                }
                None => record.task.is_none(),
            });
        }
        if records.is_empty() { Err(gone()) } else { Ok(records) }
    }

    pub async fn nodes(&self) -> Result<Vec<Node>, QueueError> {
        match self {
            Source::Programs(programs) => programs.nodes().await,
            Source::Rest(rest) => rest.nodes().await,
        }
    }

    pub async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        match self {
            Source::Programs(programs) => programs.partitions().await,
            Source::Rest(rest) => rest.partitions().await,
        }
    }

    /// Orders a job's end.
    pub async fn cancel(&self, id: &str) -> Result<(), QueueError> {
        match self {
            Source::Programs(programs) => {
                programs.run("scancel", &[id], None, &format!("cancel job {id}")).await.map(drop)
            }
            Source::Rest(rest) => rest.cancel(id).await,
        }
    }

    /// Keeps a pending job from starting.
    pub async fn hold(&self, id: &str) -> Result<(), QueueError> {
        match self {
            Source::Programs(programs) => {
                programs.run("scontrol", &["hold", id], None, &format!("hold job {id}")).await.map(drop)
            }
            Source::Rest(rest) => rest.update(id, &json!({"hold": true}), "hold").await,
        }
    }

    /// Ends a hold.
    pub async fn release(&self, id: &str) -> Result<(), QueueError> {
        match self {
            Source::Programs(programs) => {
                programs.run("scontrol", &["release", id], None, &format!("release job {id}")).await.map(drop)
            }
            Source::Rest(rest) => rest.update(id, &json!({"hold": false}), "release").await,
        }
    }

    /// Sets a priority as Slurm counts it.
    pub async fn priority(&self, id: &str, priority: u32) -> Result<(), QueueError> {
        match self {
            Source::Programs(programs) => {
                let (job, value) = (format!("JobId={id}"), format!("Priority={priority}"));
                let what = format!("change the priority of job {id}");
                programs.run("scontrol", &["update", &job, &value], None, &what).await.map(drop)
            }
            Source::Rest(rest) => {
                let structured = rest
                    .api()
                    .await?
                    .job_properties()
                    .get("priority")
                    .is_some_and(|kind| kind["type"] != "string" && kind["type"] != "integer");
                let change = if structured {
                    json!({"priority": {"set": true, "infinite": false, "number": priority}})
                } else {
                    json!({"priority": priority})
                };
                rest.update(id, &change, "change the priority of").await
            }
        }
    }

    /// Puts a job back into its queue.
    pub async fn requeue(&self, id: &str) -> Result<(), QueueError> {
        match self {
            Source::Programs(programs) => {
                programs.run("scontrol", &["requeue", id], None, &format!("requeue job {id}")).await.map(drop)
            }
            Source::Rest(_) => Err(QueueError::Unsupported {
                engine: "slurmrestd".to_owned(),
                what: "requeue a job".to_owned(),
                instead: format!("scontrol requeue {id}, or a target without an address, which uses Slurm's programs"),
            }),
        }
    }

    /// Who Slurm takes us for.
    pub async fn user(&self) -> Result<String, QueueError> {
        if let Source::Rest(rest) = self
            && let Some(user) = rest.user()
        {
            return Ok(user.to_owned());
        }
        super::super::user::local().await
    }
}
