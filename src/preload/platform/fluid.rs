//! Fluid: a Dataset and its runtime, a DataLoad that fills the cache, DataProcesses that follow it.
//! (fluid-cloudnative.github.io; phases as in pkg/common and api/v1alpha1/status.go of the project)

use serde_json::{Value, json};

use super::super::access::text;
use super::super::source::{Bucketry, Source};
use super::objects::{Kinds, served};
use super::{Intent, Planned, PlatformError, Standing, clean};
use crate::cluster::Cluster;

const VERSION: &str = "data.fluid.io/v1alpha1";

/// The cache of a new runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Kind of the runtime; the one that suits the source if `None`.
    pub runtime: Option<String>,
    /// Workers.
    pub replicas: u32,
    /// "MEM", "SSD" or "HDD".
    pub medium: String,
    /// Directory of the nodes.
    pub path: String,
    /// Size of each worker's, as a quantity of Kubernetes.
    pub quota: String,
}

/// What Fluid is to do.
#[derive(Debug, Clone)]
pub struct Fluid {
    /// The source.
    pub source: Source,
    /// Name of the Dataset.
    pub dataset: String,
    /// For a runtime that is not there yet.
    pub cache: Cache,
    /// Secret with the keys of the source.
    pub secret: Option<String>,
    /// DataProcesses, in order, as their file has them.
    pub processes: Vec<Value>,
}

impl Fluid {
    /// Looks what is there, and says what will be done. Nothing is changed.
    ///
    /// # Errors
    /// If Fluid is not installed, has no way to the source, or the Dataset is of another one.
    pub async fn plan(&self, cluster: &Cluster) -> Result<Vec<Planned>, PlatformError> {
        let (mount, usual) = mount_point(&self.source)?;
        let kinds = served(cluster, VERSION).await?;
        if kinds.is_empty() {
            let (cluster, group) = (cluster.name().to_owned(), VERSION.to_owned());
            return Err(PlatformError::NotInstalled { what: "Fluid", cluster, group });
        }
        let mut known = Kinds::default();
        let namespace = cluster.namespace();
        let mut planned = Vec::new();
        match known.find(cluster, VERSION, "Dataset", &self.dataset).await? {
            Some(there) => {
                let mounts = there["spec"]["mounts"].as_array();
                let same = |at: &Value| {
                    at["mountPoint"].as_str().map(|at| at.trim_end_matches('/')) == Some(mount.trim_end_matches('/'))
                };
                if !mounts.is_some_and(|mounts| mounts.iter().any(same)) {
                    return Err(PlatformError::Unfit {
                        what: format!("the Dataset {} is not of {mount}", self.dataset),
                        hint: "give another name: --dataset NAME".to_owned(),
                    });
                }
                planned.push(as_it_is(Intent::Reuse, self.dataset(namespace, &mount, usual)));
            }
            None => {
                let runtime = self.cache.runtime.as_deref().unwrap_or(usual);
                planned.push(as_it_is(Intent::Create, self.dataset(namespace, &mount, runtime)));
                // One that waits for its Dataset is taken.
                let there = known.find(cluster, VERSION, runtime, &self.dataset).await?;
                let action = if there.is_some() { Intent::Reuse } else { Intent::Create };
                planned.push(as_it_is(action, self.runtime(namespace, runtime)));
            }
        }
        let load = self.load(namespace);
        let processes = self.processes(namespace, load["metadata"]["name"].as_str().unwrap_or_default())?;
        for object in std::iter::once(load).chain(processes) {
            let (kind, name) =
                (object["kind"].as_str().unwrap_or_default(), object["metadata"]["name"].as_str().unwrap_or_default());
            let there = known.find(cluster, VERSION, kind, name).await?;
            let action = match there.map(|there| standing(kind, &there).done) {
                None => Intent::Create,
                Some(Some(false)) => Intent::RunAgain,
                Some(_) => Intent::Reuse,
            };
            planned.push(as_it_is(action, object));
        }
        Ok(planned)
    }

    fn metadata(name: &str, namespace: &str) -> Value {
        json!({"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "aictl"}})
    }

    fn dataset(&self, namespace: &str, mount: &str, runtime: &str) -> Value {
        let mut options = serde_json::Map::new();
        let mut secrets = Vec::new();
        let jindo = runtime == "JindoRuntime";
        let scheme = self.source.scheme();
        let (endpoint, keys) = match (scheme, jindo) {
            ("oss", _) => (
                text("OSS_ENDPOINT"),
                [("fs.oss.accessKeyId", "OSS_ACCESS_KEY_ID"), ("fs.oss.accessKeySecret", "OSS_ACCESS_KEY_SECRET")],
            ),
            ("s3", true) => (
                text("AWS_ENDPOINT_URL"),
                [("fs.s3.accessKeyId", "AWS_ACCESS_KEY_ID"), ("fs.s3.accessKeySecret", "AWS_SECRET_ACCESS_KEY")],
            ),
            _ => (
                text("AWS_ENDPOINT_URL"),
                [("aws.accessKeyId", "AWS_ACCESS_KEY_ID"), ("aws.secretKey", "AWS_SECRET_ACCESS_KEY")],
            ),
        };
        if matches!(scheme, "oss" | "s3") {
            let name = match (scheme, jindo) {
                ("oss", _) => "fs.oss.endpoint",
                (_, true) => "fs.s3.endpoint",
                _ => "alluxio.underfs.s3.endpoint",
            };
            options.extend(endpoint.map(|endpoint| (name.to_owned(), json!(endpoint))));
            if let Some(secret) = &self.secret {
                secrets.extend(keys.map(|(option, key)| {
                    json!({"name": option, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
                }));
            }
        }
        let mut at = json!({"mountPoint": mount, "name": "model", "path": "/", "readOnly": true});
        if !options.is_empty() {
            at["options"] = Value::Object(options);
        }
        if !secrets.is_empty() {
            at["encryptOptions"] = json!(secrets);
        }
        json!({
            "apiVersion": VERSION, "kind": "Dataset", "metadata": Fluid::metadata(&self.dataset, namespace),
            "spec": {"accessModes": ["ReadOnlyMany"], "mounts": [at]},
        })
    }

    fn runtime(&self, namespace: &str, kind: &str) -> Value {
        let cache = &self.cache;
        json!({
            "apiVersion": VERSION, "kind": kind, "metadata": Fluid::metadata(&self.dataset, namespace),
            "spec": {"replicas": cache.replicas, "tieredstore": {"levels": [{
                "mediumtype": cache.medium, "path": cache.path, "quota": cache.quota, "high": "0.95", "low": "0.7"}]}},
        })
    }

    fn load(&self, namespace: &str) -> Value {
        let name = format!("{}-load", self.dataset);
        json!({
            "apiVersion": VERSION, "kind": "DataLoad", "metadata": Fluid::metadata(&name, namespace),
            "spec": {
                "dataset": {"name": self.dataset, "namespace": namespace}, "loadMetadata": true,
                "target": [{"path": "/", "replicas": 1}],
            },
        })
    }

    /// The processes, each after what is before it unless it says otherwise itself.
    fn processes(&self, namespace: &str, load: &str) -> Result<Vec<Value>, PlatformError> {
        let mut before = ("DataLoad".to_owned(), load.to_owned());
        let mut made = Vec::new();
        for given in &self.processes {
            let unfit = |what: &str| PlatformError::Unfit {
                what: format!("--process: {what}"),
                hint: "a file has DataProcess objects of data.fluid.io/v1alpha1, one after the other".to_owned(),
            };
            if given["kind"] != "DataProcess" || given["apiVersion"] != VERSION {
                return Err(unfit(&format!(
                    "a {} is no DataProcess",
                    clean(given["kind"].as_str().unwrap_or("document"))
                )));
            }
            let name = given["metadata"]["name"].as_str().ok_or_else(|| unfit("a DataProcess has no name"))?;
            if given["metadata"]["namespace"].as_str().is_some_and(|other| other != namespace) {
                return Err(unfit(&format!("{} is in another namespace than {namespace}", clean(name))));
            }
            if !given["spec"]["processor"].is_object() {
                return Err(unfit(&format!("{} has no processor", clean(name))));
            }
            let mut process = given.clone();
            process["metadata"]["namespace"] = json!(namespace);
            if process["spec"]["dataset"].is_null() {
                process["spec"]["dataset"] =
                    json!({"name": self.dataset, "namespace": namespace, "mountPath": "/data"});
            }
            if process["spec"]["runAfter"].is_null() {
                process["spec"]["runAfter"] = json!({"kind": before.0, "name": before.1, "namespace": namespace});
            }
            before = ("DataProcess".to_owned(), name.to_owned());
            made.push(process);
        }
        Ok(made)
    }
}

fn as_it_is(action: Intent, manifest: Value) -> Planned {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Planned { action, kind: text(&manifest["kind"]), name: text(&manifest["metadata"]["name"]), manifest }
}

/// A source as Fluid mounts it, and the runtime that does it best.
fn mount_point(source: &Source) -> Result<(String, &'static str), PlatformError> {
    let unfit = |why: &str| PlatformError::Unfit {
        what: format!("Fluid can't mount {source}: {why}"),
        hint: "bring it into a bucket or a claim first, or let Jobs do it: --nodes -l LABELS".to_owned(),
    };
    match source {
        Source::Bucket { store: Bucketry::S3 | Bucketry::Oss, .. } => Ok((source.to_string(), "JindoRuntime")),
        Source::Bucket { store: Bucketry::Gs, .. } => Ok((source.to_string(), "AlluxioRuntime")),
        Source::Bucket { .. } => Err(unfit("none of its runtimes reads Azure's storage")),
        Source::Claim { .. } => Ok((source.to_string(), "JindoRuntime")),
        Source::Web(url) if url.query().is_some() => Err(unfit("a URL with a query is no directory")),
        Source::Web(_) => Ok((source.to_string(), "AlluxioRuntime")),
        Source::Path(path) => Ok((format!("local://{}", path.display()), "AlluxioRuntime")),
        Source::Hub { .. } => Err(unfit("none of its runtimes reads a hub")),
        Source::Registry { .. } => Err(unfit("none of its runtimes reads a registry")),
    }
}

/// How an object stands.
pub fn standing(kind: &str, object: &Value) -> Standing {
    let status = &object["status"];
    let phase = clean(status["phase"].as_str().unwrap_or_default());
    let condition = |wanted: &str| {
        let all = status["conditions"].as_array()?;
        let found = all.iter().find(|condition| condition["type"] == wanted && condition["status"] == "True")?;
        Some(clean(found["message"].as_str().filter(|text| !text.is_empty()).or(found["reason"].as_str())?))
    };
    match kind {
        "Dataset" => {
            let states = &status["cacheStates"];
            let cached = states["cachedPercentage"].as_str().map(|share| format!("{} cached", clean(share)));
            let done = match phase.as_str() {
                // Who fills it is the DataLoad; a Dataset that waits for it goes on being waited for.
                "Bound" | "Updating" | "DataMigrating" => Some(true),
                "Failed" => Some(false),
                _ => None,
            };
            let detail = if done == Some(false) { condition("Failed").or(cached) } else { cached };
            let phase = if phase.is_empty() { "NotBound".to_owned() } else { phase };
            Standing { phase, detail, done }
        }
        "DataLoad" | "DataProcess" => {
            let done = match phase.as_str() {
                "Complete" => Some(true),
                "Failed" => Some(false),
                _ => None,
            };
            let detail = match done {
                Some(false) => condition("Failed"),
                Some(true) => status["duration"].as_str().map(|time| format!("took {}", clean(time))),
                None => None,
            };
            let phase = if phase.is_empty() { "Pending".to_owned() } else { phase };
            Standing { phase, detail, done }
        }
        // A runtime is as its workers are; its Dataset says when they will do.
        _ => {
            let workers = status["workerPhase"].as_str().unwrap_or("NotReady");
            Standing { phase: clean(workers), detail: None, done: Some(true) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_can_not_mount_is_said() {
        let point = |text: &str| mount_point(&text.parse().unwrap()).map_err(|error| error.to_string());
        assert_eq!(point("oss://b/p").unwrap(), ("oss://b/p".to_owned(), "JindoRuntime"));
        assert_eq!(point("file:///mnt/m").unwrap(), ("local:///mnt/m".to_owned(), "AlluxioRuntime"));
        for text in ["hf://a/b", "oci://r/a:v1", "az://c/p"] {
            assert!(point(text).unwrap_err().contains("can't mount"), "{text}");
        }
    }

    #[test]
    fn phases_are_read() {
        let load = |status: Value| standing("DataLoad", &json!({"status": status}));
        assert_eq!(load(json!({})).done, None);
        assert_eq!(load(json!({"phase": "Executing"})).done, None);
        assert_eq!(load(json!({"phase": "Complete", "duration": "11s"})).detail.unwrap(), "took 11s");
        let failed = load(
            json!({"phase": "Failed", "conditions": [{"type": "Failed", "status": "True", "message": "no\u{1b}[2J"}]}),
        );
        assert_eq!((failed.done, failed.detail.as_deref()), (Some(false), Some("no[2J")));
    }
}
