//! Slurm through slurmrestd. Its versions come from its own OpenAPI document: the newest that can
//! list and submit is taken, whatever its number is.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::super::http::{Answered, Http};
use super::json;
use super::record::{Node, Partition, Record};
use crate::queue::{QueueError, Target};

/// A slurmrestd.
pub(super) struct Rest {
    http: Http,
    target: String,
    user: Option<String>,
    /// When the token that is shown runs out, if it is a JWT that says so.
    expires: Option<Timestamp>,
    api: OnceCell<Api>,
}

/// What its document says.
pub(super) struct Api {
    /// "v0.0.38".
    pub version: String,
    document: Value,
}

impl Rest {
    /// Reads the token and the address; speaks to nobody yet.
    pub fn new(target: &Target, address: &str) -> Result<Rest, QueueError> {
        let token = token(target)?;
        let claims = token.as_deref().and_then(claims);
        let user = target.user.clone().or_else(|| Some(claims.as_ref()?["sun"].as_str()?.to_owned()));
        let expires = claims.as_ref().and_then(|claims| Timestamp::from_second(claims["exp"].as_i64()?).ok());
        let mut headers = Vec::new();
        if let Some(user) = &user {
            headers.push(("X-SLURM-USER-NAME", user.clone()));
        }
        if let Some(token) = token {
            headers.push(("X-SLURM-USER-TOKEN", token));
        }
        let http = Http::open(&target.name, address, &headers)?;
        Ok(Rest { http, target: target.name.clone(), user, expires, api: OnceCell::new() })
    }

    /// Who it takes us for, as far as we know.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What it serves.
    pub async fn api(&self) -> Result<&Api, QueueError> {
        let read = || async {
            self.check_token()?;
            let answered = self.http.get("/openapi/v3").await?;
            self.check(&answered, "read what it serves from")?;
            let document: Value =
                serde_json::from_slice(&answered.body).map_err(|_| self.foreign("its OpenAPI document is no JSON"))?;
            Api::of(document)
                .ok_or_else(|| self.foreign("its OpenAPI document names no version that lists and submits jobs"))
        };
        self.api.get_or_try_init(read).await
    }

    pub async fn jobs(&self) -> Result<Vec<Record>, QueueError> {
        let answered = self.ask(Method::GET, "jobs", None, "list the jobs of").await?;
        json::jobs(&answered.body).map_err(|error| self.foreign(&format!("its list of jobs can't be read: {error}")))
    }

    /// A job, or all of an array.
    pub async fn job(&self, id: &str) -> Result<Vec<Record>, QueueError> {
        let number = id.split('_').next().unwrap_or_default();
        let answered = self.ask(Method::GET, &format!("job/{number}"), None, &format!("read job {id} of")).await?;
        json::jobs(&answered.body).map_err(|error| self.foreign(&format!("job {id} can't be read: {error}")))
    }

    pub async fn nodes(&self) -> Result<Vec<Node>, QueueError> {
        let answered = self.ask(Method::GET, "nodes", None, "list the nodes of").await?;
        json::nodes(&answered.body).map_err(|error| self.foreign(&format!("its nodes can't be read: {error}")))
    }

    pub async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        let answered = self.ask(Method::GET, "partitions", None, "list the partitions of").await?;
        json::partitions(&answered.body)
            .map_err(|error| self.foreign(&format!("its partitions can't be read: {error}")))
    }

    /// Submits a body that [`super::request`] made, and gives the job's number and what the server
    /// remarked. 22.05 gives no number for a job that is held from the start.
    pub async fn submit(&self, body: &Value) -> Result<(Option<u64>, Vec<String>), QueueError> {
        let answered = self.ask(Method::POST, "job/submit", Some(body), "submit to").await?;
        let answer: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
        let number = |value: &Value| value.as_u64().or_else(|| value["number"].as_u64()).filter(|id| *id > 0);
        let id = number(&answer["job_id"]).or_else(|| number(&answer["result"]["job_id"]));
        let remark =
            answer["job_submit_user_msg"].as_str().or_else(|| answer["result"]["job_submit_user_msg"].as_str());
        let warnings =
            answer["warnings"].as_array().into_iter().flatten().filter_map(|warning| warning["description"].as_str());
        let said = remark.into_iter().chain(warnings).filter(|text| !text.is_empty()).map(str::to_owned).collect();
        Ok((id, said))
    }

    /// Changes a job.
    pub async fn update(&self, id: &str, change: &Value, what: &str) -> Result<(), QueueError> {
        self.ask(Method::POST, &format!("job/{id}"), Some(change), &format!("{what} job {id} of")).await.map(drop)
    }

    pub async fn cancel(&self, id: &str) -> Result<(), QueueError> {
        self.ask(Method::DELETE, &format!("job/{id}"), None, &format!("cancel job {id} of")).await.map(drop)
    }

    /// Where a path's request would go, for showing.
    pub async fn submit_url(&self) -> Result<String, QueueError> {
        Ok(self.http.url(&format!("/slurm/{}/job/submit", self.api().await?.version)))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, what: &str) -> Result<Answered, QueueError> {
        self.check_token()?;
        let api = self.api().await?;
        let path = api.path(path);
        let answered = match method {
            Method::GET => self.http.get(&path).await?,
            method => self.http.send(method, &path, body).await?,
        };
        self.check(&answered, what)?;
        Ok(answered)
    }

    /// An expired token is known before it is shown: slurmrestd answers it with words about its own
    /// configuration.
    fn check_token(&self) -> Result<(), QueueError> {
        match self.expires {
            Some(expires) if expires <= Timestamp::now() => Err(QueueError::Unreachable {
                what: format!("cannot ask {}", self.http.place()),
                message: format!("the token expired at {expires}; `scontrol token` makes a new one"),
                passing: false,
            }),
            _ => Ok(()),
        }
    }

    fn check(&self, answered: &Answered, what: &str) -> Result<(), QueueError> {
        let mut errors = json::errors(&answered.body);
        let held = errors.len();
        // ESLURM_JOB_HELD in slurm_errno.h: done, and the job is held, as was asked.
        errors.retain(|(_, number)| *number != 2042);
        if errors.is_empty() && held > 0 {
            return Ok(());
        }
        if answered.status.is_success() && errors.is_empty() {
            return Ok(());
        }
        let what = format!("cannot {what} {}", self.http.place());
        // ESLURM_INVALID_JOB_ID in slurm_errno.h.
        if errors.iter().any(|(text, number)| *number == 2017 || text.contains("Invalid job id")) {
            let job = what.split(' ').skip_while(|word| *word != "job").nth(1).unwrap_or_default().to_owned();
            return Err(QueueError::NoSuchJob { job, looked: self.target.clone(), nearest: Vec::new() });
        }
        let message = match &errors[..] {
            [] => answered.text(),
            errors => errors.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("; "),
        };
        let lower = message.to_ascii_lowercase();
        if matches!(answered.status.as_u16(), 401 | 403) || lower.contains("authentication") {
            let message = format!(
                "it does not know us ({message}); is the token valid and for this user? `scontrol token` makes one"
            );
            return Err(QueueError::Unreachable { what, message, passing: false });
        }
        if lower.contains("config is unable to load") || lower.contains("failed while looking") {
            // What 22.05 says to a wrong token as well as to a slurmctld that is away.
            let message = format!("{message}: either slurmctld is away or it does not take the token");
            return Err(QueueError::Unreachable { what, message, passing: true });
        }
        if lower.contains("unable to contact slurm controller")
            || lower.contains("communications connection")
            || matches!(answered.status.as_u16(), 502..=504)
        {
            return Err(QueueError::Unreachable { what, message, passing: true });
        }
        if answered.status.as_u16() == 404 && errors.is_empty() {
            return Err(self.foreign(&message));
        }
        Err(QueueError::Refused { what, message })
    }

    fn foreign(&self, why: &str) -> QueueError {
        QueueError::Unreachable {
            what: format!("{} does not answer as slurmrestd does", self.http.place()),
            message: why.to_owned(),
            passing: false,
        }
    }
}

impl Api {
    /// The newest version in a document that can list, read and submit jobs.
    pub fn of(document: Value) -> Option<Api> {
        let paths = document["paths"].as_object()?;
        let mut versions: Vec<(Vec<u32>, String)> = Vec::new();
        for path in paths.keys() {
            let Some(version) = path.strip_prefix("/slurm/").and_then(|rest| rest.split('/').next()) else { continue };
            let Some(numbers) = version.strip_prefix('v') else { continue };
            let numbers: Option<Vec<u32>> = numbers.split('.').map(|part| part.parse().ok()).collect();
            let serves = |name: &str| find(paths, version, name).is_some();
            if let Some(numbers) = numbers
                && serves("jobs")
                && serves("nodes")
                && serves("job/submit")
            {
                versions.push((numbers, version.to_owned()));
            }
        }
        let (_, version) = versions.into_iter().max()?;
        Some(Api { version, document })
    }

    /// A path as this version writes it: some end in a slash.
    fn path(&self, name: &str) -> String {
        let plain = match name.split_once('/') {
            Some(("job", id)) if id != "submit" => "job/{job_id}".to_owned(),
            _ => name.to_owned(),
        };
        let written = self.document["paths"].as_object().and_then(|paths| find(paths, &self.version, &plain));
        let slash = if written.is_some_and(|path| path.ends_with('/')) { "/" } else { "" };
        format!("/slurm/{}/{name}{slash}", self.version)
    }

    /// The properties of what can be asked of a job, by name: their OpenAPI types.
    pub fn job_properties(&self) -> serde_json::Map<String, Value> {
        let path = self.path("job/submit");
        let body = &self.document["paths"][&path]["post"]["requestBody"]["content"]["application/json"]["schema"];
        let submission = self.resolve(body);
        let job = self.resolve(&submission["properties"]["job"]);
        job["properties"].as_object().cloned().unwrap_or_default()
    }

    /// Follows one `$ref`.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(schema)
    }
}

fn find<'a>(paths: &'a serde_json::Map<String, Value>, version: &str, name: &str) -> Option<&'a str> {
    let plain = format!("/slurm/{version}/{name}");
    paths.keys().map(String::as_str).find(|path| path.trim_end_matches('/') == plain)
}

/// The token to show: the target's file, else SLURM_JWT as Slurm's own programs take it.
fn token(target: &Target) -> Result<Option<String>, QueueError> {
    let text = match &target.token_file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| QueueError::Invalid {
            what: format!("target {}: cannot read the token in {}: {error}", target.name, path.display()),
            hint: "`scontrol token > FILE` makes one".to_owned(),
        })?),
        None => std::env::var("SLURM_JWT").ok(),
    };
    // `scontrol token` prints SLURM_JWT=…; both forms are taken.
    Ok(text.map(|text| text.trim().trim_start_matches("SLURM_JWT=").to_owned()).filter(|token| !token.is_empty()))
}

/// What a JWT says of itself; not checked, which is the server's part.
fn claims(token: &str) -> Option<Value> {
    use base64::Engine as _;
    let part = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_version_that_can_do_it_is_taken() {
        let whole = |version: &str, slash: &str| {
            [("jobs", slash), ("nodes", slash), ("job/submit", ""), ("job/{job_id}", "")]
                .map(|(name, slash)| (format!("/slurm/{version}/{name}{slash}"), json!({"post": {}})))
        };
        let mut paths: serde_json::Map<String, Value> = whole("v0.0.9", "").into_iter().collect();
        paths.extend(whole("v0.0.38", ""));
        paths.extend(whole("v0.1.2", "/"));
        // Only half of it is there.
        paths.insert("/slurm/v0.2.0/jobs/".to_owned(), json!({}));
        paths.insert("/slurmdb/v0.9.0/jobs/".to_owned(), json!({}));
        let api = Api::of(json!({ "paths": paths })).unwrap();
        assert_eq!(api.version, "v0.1.2");
        assert_eq!(api.path("jobs"), "/slurm/v0.1.2/jobs/");
        assert_eq!(api.path("job/12"), "/slurm/v0.1.2/job/12");
        assert_eq!(api.path("job/submit"), "/slurm/v0.1.2/job/submit");
        assert!(Api::of(json!({"paths": {"/slurm/v0.0.38/jobs": {}}})).is_none());
        assert!(Api::of(json!([])).is_none());
    }

    #[test]
    fn what_a_token_says() {
        let token =
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3OTU4ODMxNTMsImlhdCI6MTc5NTg4MjU1Mywic3VuIjoicm9vdCJ9.x";
        let claims = claims(token).unwrap();
        assert_eq!((claims["sun"].as_str(), claims["exp"].as_i64()), (Some("root"), Some(1_795_883_153)));
        assert!(super::claims("no token").is_none());
    }
}
