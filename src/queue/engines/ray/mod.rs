//! Ray, through its job server.

mod api;
mod jobs;
mod logs;
mod request;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;

use super::http::{Answered, Http};
use crate::queue::{
    Answer, DryRun, Engine, EngineKind, ExecStreams, Explanation, Filter, Job, JobSpec, Lines, LogOptions, Plan,
    PlanForm, QueueError, QueueInfo, QuotaRow, Submitted, Target,
};
use api::{Cluster, RayJob};
pub(super) use request::{DRIVER, SPEC, Told, told};

/// A Ray cluster.
pub(super) struct Ray {
    target: Target,
    http: Http,
}

/// Opens a target; speaks to nobody yet.
pub(super) fn open(target: &Target) -> Result<Ray, QueueError> {
    let address = target.address.as_deref().ok_or_else(|| QueueError::Invalid {
        what: format!("target {}: no address of Ray's job server", target.name),
        hint: "set `address: http://HEAD:8265`, or RAY_ADDRESS".to_owned(),
    })?;
    let headers: Vec<(&str, String)> =
        token(target)?.map(|token| ("Authorization", format!("Bearer {token}"))).into_iter().collect();
    Ok(Ray { target: target.clone(), http: Http::open(&target.name, address, &headers)? })
}

/// The Ray that the environment names, as Ray's own programs take it.
pub(super) fn local() -> Option<Target> {
    let named = ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"].into_iter().filter_map(|name| std::env::var(name).ok());
    // "auto", "ray://…" and "HOST:6379" name other servers of Ray's than that for jobs.
    let address =
        named.into_iter().find(|address| address.starts_with("http://") || address.starts_with("https://"))?;
    let host = url::Url::parse(&address).ok().and_then(|url| url.host_str().map(str::to_owned));
    let mut target = Target::found(EngineKind::Ray, host.unwrap_or_else(|| "ray".to_owned()));
    target.address = Some(address);
    Some(target)
}

/// The token to show: the target's file, else as Ray's own programs take it.
fn token(target: &Target) -> Result<Option<String>, QueueError> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|error| QueueError::Invalid {
            what: format!("target {}: cannot read the token in {}: {error}", target.name, path.display()),
            hint: "`ray get-auth-token` prints it".to_owned(),
        })
    };
    let text = match &target.token_file {
        Some(path) => Some(read(path)?),
        None => match (std::env::var("RAY_AUTH_TOKEN"), std::env::var_os("RAY_AUTH_TOKEN_PATH")) {
            (Ok(token), _) => Some(token),
            (Err(_), Some(path)) => Some(read(std::path::Path::new(&path))?),
            (Err(_), None) => None,
        },
    };
    Ok(text.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// Whether a job ended, as Ray has it.
fn is_over(job: &RayJob) -> bool {
    matches!(job.status.as_str(), "SUCCEEDED" | "FAILED" | "STOPPED")
}

impl Ray {
    async fn ask(&self, path: &str, what: &str) -> Result<Answered, QueueError> {
        let answered = self.http.get(path).await?;
        self.check(&answered, what)?;
        Ok(answered)
    }

    fn check(&self, answered: &Answered, what: &str) -> Result<(), QueueError> {
        if answered.status.is_success() {
            return Ok(());
        }
        let what = format!("cannot {what} {}", self.http.place());
        // Ray answers with a traceback, whose last line says what went wrong.
        let text = answered.text();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.len() > 1).collect();
        let message = format!("{} ({})", lines.last().unwrap_or(&"no words"), answered.status.as_u16());
        Err(match answered.status.as_u16() {
            401 | 403 => QueueError::Unreachable {
                what,
                message: format!("{message}: it wants a token: `token_file:` of the target, or RAY_AUTH_TOKEN"),
                passing: false,
            },
            429 | 502..=504 => QueueError::Unreachable { what, message, passing: true },
            _ => QueueError::Refused { what, message },
        })
    }

    fn unreadable(&self, what: &str, error: &serde_json::Error) -> QueueError {
        QueueError::Unreachable {
            what: format!("{} does not answer as Ray's job server does", self.http.place()),
            message: format!("{what}: {error}"),
            passing: false,
        }
    }

    async fn jobs(&self) -> Result<Vec<RayJob>, QueueError> {
        let answered = self.ask("/api/jobs/", "list the jobs of").await?;
        serde_json::from_slice(&answered.body).map_err(|error| self.unreadable("its list of jobs", &error))
    }

    async fn job(&self, id: &str) -> Result<RayJob, QueueError> {
        let answered = self.http.get(&format!("/api/jobs/{}", encoded(id))).await?;
        if answered.status.as_u16() == 404 {
            return Err(QueueError::NoSuchJob {
                job: id.to_owned(),
                looked: self.target.name.clone(),
                nearest: Vec::new(),
            });
        }
        self.check(&answered, &format!("read job {id} of"))?;
        serde_json::from_slice(&answered.body).map_err(|error| self.unreadable("a job", &error))
    }

    async fn log(&self, id: &str) -> Result<String, QueueError> {
        #[derive(serde::Deserialize)]
        struct Log {
            #[serde(default)]
            logs: Option<String>,
        }
        let answered =
            self.ask(&format!("/api/jobs/{}/logs", encoded(id)), &format!("read the output of {id} from")).await?;
        let log: Log = serde_json::from_slice(&answered.body).map_err(|error| self.unreadable("a log", &error))?;
        Ok(log.logs.unwrap_or_default())
    }

    async fn cluster(&self) -> Result<Cluster, QueueError> {
        let answered = self.ask("/api/cluster_status", "see the nodes of").await?;
        let answer: Value =
            serde_json::from_slice(&answered.body).map_err(|error| self.unreadable("its nodes", &error))?;
        Ok(Cluster::of(&answer))
    }

    /// The placement groups, where jobs of ours run that may still wait for theirs.
    async fn groups(&self, jobs: &[RayJob]) -> Result<jobs::Groups, QueueError> {
        if !jobs.iter().any(|job| job.is_ours() && job.status == "RUNNING") {
            return Ok(None);
        }
        let answered = self.ask("/api/v0/placement_groups?limit=10000", "see the placement groups of").await?;
        let answer: Value =
            serde_json::from_slice(&answered.body).map_err(|error| self.unreadable("its placement groups", &error))?;
        Ok(Some(api::groups(&answer)))
    }

    async fn send(&self, plan: &Plan, dry_run: DryRun) -> Result<Submitted, QueueError> {
        let PlanForm::Request { body, .. } = &plan.form else {
            return Err(QueueError::Invalid {
                what: format!("{}: the plan was made for another engine", plan.name),
                hint: "plan and submit with the same target".to_owned(),
            });
        };
        let id = body["submission_id"].as_str().unwrap_or_default().to_owned();
        if dry_run == DryRun::Server {
            return Err(QueueError::Unsupported {
                engine: "Ray".to_owned(),
                what: "try a submission without keeping it".to_owned(),
                instead: "--dry-run checks the request against the cluster's nodes".to_owned(),
            });
        }
        let submitted = |existed: bool| Submitted { id: id.clone(), existed, warnings: Vec::new() };
        match self.job(&id).await {
            Ok(_) => return Ok(submitted(true)),
            Err(QueueError::NoSuchJob { .. }) => {}
            Err(error) => return Err(error),
        }
        let sent = self.http.send(Method::POST, "/api/jobs/", Some(body)).await;
        let said = match sent {
            Ok(answered) => match self.check(&answered, "submit to") {
                Ok(()) => return Ok(submitted(false)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        // An answer that was lost, or "it is there already", which Ray says with a 500: look.
        match self.job(&id).await {
            Ok(_) => Ok(submitted(!matches!(said, QueueError::Unreachable { .. }))),
            Err(_) => Err(said),
        }
    }

    async fn explanation(&self, id: &str) -> Result<Explanation, QueueError> {
        let own = self.job(id).await?;
        let mut blind = Vec::new();
        let all = self.jobs().await.unwrap_or_else(|error| {
            blind.push(format!("other jobs: {error}"));
            vec![own.clone()]
        });
        let groups = self.groups(std::slice::from_ref(&own)).await.unwrap_or_else(|error| {
            blind.push(format!("whether its driver waits for nodes: {error}"));
            None
        });
        let cluster = self.cluster().await.map_err(|error| blind.push(format!("the cluster's nodes: {error}"))).ok();
        Ok(jobs::explain(&own, &all, &groups, cluster.as_ref(), &self.target, blind, Timestamp::now()))
    }

    fn cannot<T>(&self, what: &str, instead: &str) -> Result<T, QueueError> {
        Err(QueueError::Unsupported { engine: "Ray".to_owned(), what: what.to_owned(), instead: instead.to_owned() })
    }
}

/// An id as a part of a path.
fn encoded(id: &str) -> String {
    let mut encoded = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl Engine for Ray {
    fn target(&self) -> &Target {
        &self.target
    }

    fn plan<'a>(&'a self, spec: &'a JobSpec, offline: bool) -> Answer<'a, Plan> {
        Box::pin(async move {
            let notes = request::notes(spec)?;
            let body = request::body(spec, &super::user::local().await?)?;
            if !offline {
                request::check(spec, &self.cluster().await?)?;
            }
            let form = PlanForm::Request { method: "POST".to_owned(), url: self.http.url("/api/jobs/"), body };
            Ok(Plan { name: spec.name.clone(), submission_id: spec.id.clone(), form, notes })
        })
    }

    fn submit<'a>(&'a self, plan: &'a Plan, dry_run: DryRun) -> Answer<'a, Submitted> {
        Box::pin(self.send(plan, dry_run))
    }

    fn list<'a>(&'a self, filter: &'a Filter) -> Answer<'a, Vec<Job>> {
        Box::pin(async move {
            let jobs = self.jobs().await?;
            // A Ray that does not tell of placement groups still has its jobs.
            let groups = self.groups(&jobs).await.unwrap_or(None);
            let made = jobs.iter().map(|job| jobs::job(job, &groups, &self.target));
            Ok(made.filter(|job| filter.passes(job)).collect())
        })
    }

    fn get<'a>(&'a self, id: &'a str) -> Answer<'a, Job> {
        Box::pin(async move {
            let job = self.job(id).await?;
            let groups = self.groups(std::slice::from_ref(&job)).await.unwrap_or(None);
            Ok(jobs::job(&job, &groups, &self.target))
        })
    }

    fn explain<'a>(&'a self, id: &'a str) -> Answer<'a, Explanation> {
        Box::pin(self.explanation(id))
    }

    fn logs<'a>(&'a self, id: &'a str, options: &'a LogOptions) -> Answer<'a, Lines<'a>> {
        Box::pin(logs::lines(self, id, options))
    }

    fn exec<'a>(&'a self, _: &'a str, _: u32, _: &'a [String], _: ExecStreams) -> Answer<'a, i32> {
        Box::pin(async move { self.cannot("run a command beside a job", "`ray attach` or the node's own shell") })
    }

    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let job = self.job(id).await?;
            if is_over(&job) {
                return Ok(());
            }
            if job.submission_id.is_empty() {
                return self.cannot("stop a driver that was not submitted as a job", "end its process");
            }
            // Of a job whose entrypoint waits for resources Ray says "stopped" and does it when it
            // starts: whoever asked reads the state again.
            let answered = self.http.send(Method::POST, &format!("/api/jobs/{}/stop", encoded(id)), None).await?;
            self.check(&answered, &format!("stop job {id} of"))
        })
    }

    fn hold<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.cannot("hold a job", "cancel it, and submit it when it may start") })
    }

    fn release<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.cannot("hold or release a job", "a job of Ray's is never held") })
    }

    fn priority<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.cannot("put one job before another", "whatever fits first is started") })
    }

    fn requeue<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.cannot("put a job back", "cancel it and submit it again with another --id") })
    }

    fn quota<'a>(&'a self, queue: Option<&'a str>) -> Answer<'a, Vec<QuotaRow>> {
        Box::pin(async move {
            let mut rows = jobs::quota(&self.cluster().await?, &self.target.name);
            rows.retain(|row| queue.is_none_or(|queue| row.queue == queue));
            Ok(rows)
        })
    }

    fn queues(&self) -> Answer<'_, Vec<QueueInfo>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn user(&self) -> Answer<'_, String> {
        Box::pin(super::user::local())
    }
}
