//! The objects of a fleet, as data.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::part::fingerprint;
use super::super::peer;
use super::super::source::hex;
use super::LABEL;

/// A Job that ended stays so long, for a second run to see what failed.
const KEPT_S: u32 = 3600;
/// Memory that the program takes beside what `--max-memory` allows.
const OWN_MEMORY: u64 = 256 << 20;
/// The key of the token in its Secret.
const TOKEN: &str = "token";

/// Where the store of a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// A directory of the node, made where it is missing.
    Host(PathBuf),
    /// A claim, mounted at a directory.
    Claim(String, PathBuf),
}

/// A taint that is tolerated: `key[=value][:effect]`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration(Value);

impl FromStr for Toleration {
    type Err = String;

    fn from_str(text: &str) -> Result<Toleration, String> {
        if text == "*" {
            return Ok(Toleration(json!({"operator": "Exists"})));
        }
        let (rest, effect) = text.rsplit_once(':').map_or((text, None), |(rest, effect)| (rest, Some(effect)));
        let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value)));
        if key.is_empty() {
            return Err("not KEY[=VALUE][:EFFECT]".to_owned());
        }
        if effect.is_some_and(|effect| !matches!(effect, "NoSchedule" | "NoExecute" | "PreferNoSchedule")) {
            return Err("its effect is none of NoSchedule, NoExecute, PreferNoSchedule".to_owned());
        }
        let mut made = json!({"key": key, "operator": if value.is_some() { "Equal" } else { "Exists" }});
        if let Some(value) = value {
            made["value"] = json!(value);
        }
        if let Some(effect) = effect {
            made["effect"] = json!(effect);
        }
        Ok(Toleration(made))
    }
}

impl Toleration {
    /// What GPU nodes are kept for others by, as their device plugins' documents have it.
    pub fn usual() -> Vec<Toleration> {
        let keys = ["nvidia.com/gpu", "amd.com/gpu"];
        keys.iter().map(|key| Toleration(json!({"key": key, "operator": "Exists"}))).collect()
    }
}

/// What each node is to do, and as what.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The namespace of its objects.
    pub namespace: String,
    /// The image, whose entry is this program.
    pub image: String,
    /// What follows `aictl preload`: sources and flags, without the store.
    pub arguments: Vec<String>,
    /// Flags of this run alone, which make no other fleet of it: the rate.
    pub passing: Vec<String>,
    /// Variables without secrets.
    pub variables: Vec<(String, String)>,
    /// Secrets whose keys become variables.
    pub secrets: Vec<String>,
    /// Secrets to pull the image with.
    pub pull_secrets: Vec<String>,
    /// The account of the pods; its token is not mounted.
    pub service_account: Option<String>,
    /// Where to.
    pub store: StorePlace,
    /// Claims that sources are in, and where they are mounted.
    pub claims: Vec<(String, PathBuf)>,
    /// Directories of the node that sources are in.
    pub host_sources: Vec<PathBuf>,
    /// Taints.
    pub tolerations: Vec<Toleration>,
    /// Time after which a node's Job is given up, in seconds.
    pub deadline_s: u64,
    /// `--max-memory` of the program.
    pub max_memory: u64,
    /// Most memory of a pod, page cache counted; none where files are to stay in the page cache.
    pub memory_limit: Option<u64>,
    /// Who writes the store.
    pub run_as: u32,
    /// Whether nodes give to each other, and how many there are.
    pub peers: Option<usize>,
}

impl Fleet {
    /// What tells this fleet from others: what is brought and where to.
    pub fn id(&self) -> String {
        let store = match &self.store {
            StorePlace::Host(path) => format!("host {}", path.display()),
            StorePlace::Claim(claim, path) => format!("claim {claim} {}", path.display()),
        };
        let texts: Vec<String> = self.arguments.iter().cloned().chain([store]).collect();
        fingerprint(&texts)[..10].to_owned()
    }

    /// The name of all that it has once.
    pub fn name(&self) -> String {
        format!("aictl-preload-{}", self.id())
    }

    /// The name of a node's Job: a node's own name may be too long to be in it.
    pub fn job_name(&self, node: &str) -> String {
        format!("{}-{}", self.name(), &hex(&Sha256::digest(node.as_bytes()))[..8])
    }

    /// `LABEL=ID`.
    pub fn selector(&self) -> String {
        format!("{LABEL}={}", self.id())
    }

    fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name, "namespace": self.namespace,
            "labels": {LABEL: self.id(), "app.kubernetes.io/name": "aictl", "app.kubernetes.io/managed-by": "aictl"},
        })
    }

    /// The Job of a node.
    pub fn job(&self, node: &str) -> Value {
        let mut metadata = self.metadata(&self.job_name(node));
        metadata["annotations"] = json!({"aictl.dev/node": node});
        let labels = metadata["labels"].clone();
        let mut volumes = Vec::new();
        let mut mounts = Vec::new();
        let mut mount = |name: String, at: &str, source: (&str, Value), read_only: bool| {
            mounts.push(json!({"name": name, "mountPath": at, "readOnly": read_only}));
            let mut volume = json!({"name": name});
            volume[source.0] = source.1;
            volumes.push(volume);
        };
        let store = match &self.store {
            StorePlace::Host(path) => {
                let path = path.display().to_string();
                let source = json!({"path": path, "type": "DirectoryOrCreate"});
                mount("store".to_owned(), &path, ("hostPath", source), false);
                path
            }
            StorePlace::Claim(claim, path) => {
                let path = path.display().to_string();
                mount("store".to_owned(), &path, ("persistentVolumeClaim", json!({"claimName": claim})), false);
                path
            }
        };
        for (number, (claim, at)) in self.claims.iter().enumerate() {
            let source = json!({"claimName": claim, "readOnly": true});
            mount(format!("claim-{number}"), &at.display().to_string(), ("persistentVolumeClaim", source), true);
        }
        for (number, path) in self.host_sources.iter().enumerate() {
            let path = path.display().to_string();
            let source = json!({"path": path});
            mount(format!("source-{number}"), &path, ("hostPath", source), true);
        }
        let mut arguments = vec!["preload".to_owned()];
        arguments.extend(self.arguments.iter().chain(&self.passing).cloned());
        arguments.extend(["--to".to_owned(), store, "-o".to_owned(), "json".to_owned()]);
        // Nothing of the image's own home is written, and none of it is read.
        let mut variables = vec![json!({"name": "HOME", "value": "/tmp"})];
        variables.extend(self.variables.iter().map(|(name, value)| json!({"name": name, "value": value})));
        if let Some(count) = self.peers {
            let peers = format!("{}.{}.svc:{}", self.name(), self.namespace, peer::PORT);
            let count = count.to_string();
            let address = "$(AICTL_POD_IP)";
            let flags = ["--peers", &peers, "--peer-address", address, "--peer-count", &count];
            arguments.extend(flags.map(str::to_owned));
            variables.push(json!({"name": "AICTL_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}));
            let token = json!({"name": self.name(), "key": TOKEN});
            variables.push(json!({"name": "AICTL_PEER_TOKEN", "valueFrom": {"secretKeyRef": token}}));
        }
        let memory = self.max_memory + OWN_MEMORY;
        let mut resources = json!({"requests": {"cpu": "500m", "memory": memory.to_string()}});
        if let Some(limit) = self.memory_limit {
            resources["limits"] = json!({"memory": limit.max(memory).to_string()});
        }
        let mut container = json!({
            "name": "preload", "image": self.image, "args": arguments, "env": variables, "volumeMounts": mounts,
            "resources": resources,
            // The last lines of the output are what a failed pod is explained by where logs can't be read.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {
                "runAsUser": self.run_as, "runAsGroup": self.run_as, "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        });
        if !self.secrets.is_empty() {
            let from: Vec<Value> = self.secrets.iter().map(|name| json!({"secretRef": {"name": name}})).collect();
            container["envFrom"] = json!(from);
        }
        if self.peers.is_some() {
            container["ports"] = json!([{"name": "peers", "containerPort": peer::PORT}]);
        }
        let at_node = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
        let tolerations: Vec<&Value> = self.tolerations.iter().map(|toleration| &toleration.0).collect();
        let mut pod = json!({
            "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [at_node]}}},
            "tolerations": tolerations, "containers": [container], "volumes": volumes,
        });
        if let Some(account) = &self.service_account {
            pod["serviceAccountName"] = json!(account);
        }
        if !self.pull_secrets.is_empty() {
            let from: Vec<Value> = self.pull_secrets.iter().map(|name| json!({"name": name})).collect();
            pod["imagePullSecrets"] = json!(from);
        }
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": {
                // Tried again from here, so that it can be told why.
                "backoffLimit": 0, "completions": 1, "parallelism": 1,
                "activeDeadlineSeconds": self.deadline_s, "ttlSecondsAfterFinished": KEPT_S,
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        })
    }

    /// What peers find each other by, and the Secret with their token, where they are wanted.
    pub fn shared(&self, token: &str) -> Vec<Value> {
        if self.peers.is_none() {
            return Vec::new();
        }
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(&self.name()),
            "spec": {
                // Addresses of all pods, also of those that have just begun.
                "clusterIP": "None", "publishNotReadyAddresses": true, "selector": {LABEL: self.id()},
                "ports": [{"name": "peers", "port": peer::PORT, "targetPort": peer::PORT}],
            },
        });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": self.metadata(&self.name()), "type": "Opaque",
            "stringData": {TOKEN: token},
        });
        vec![service, secret]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn fleet() -> Fleet {
        Fleet {
            namespace: "ml".to_owned(),
            image: "aictl".to_owned(),
            arguments: vec!["hf://org/model@main".to_owned()],
            passing: Vec::new(),
            variables: vec![("HF_ENDPOINT".to_owned(), "https://mirror".to_owned())],
            secrets: vec!["hub".to_owned()],
            pull_secrets: Vec::new(),
            service_account: None,
            store: StorePlace::Host("/cache".into()),
            claims: vec![("models".to_owned(), "/mnt/pvc/models".into())],
            host_sources: Vec::new(),
            tolerations: Toleration::usual(),
            deadline_s: 60,
            max_memory: 256 << 20,
            memory_limit: None,
            run_as: 0,
            peers: None,
        }
    }

    #[test]
    fn names_tell_fleets_and_nodes_apart_and_are_the_same_again() {
        let one = fleet();
        assert_eq!(one.job_name("a"), fleet().job_name("a"));
        assert_ne!(one.job_name("a"), one.job_name("b"));
        let other = Fleet { arguments: vec!["hf://org/model@v2".to_owned()], ..fleet() };
        assert_ne!(one.id(), other.id());
        let slower = Fleet { passing: vec!["--limit-rate".to_owned(), "5".to_owned()], ..fleet() };
        assert_eq!(one.id(), slower.id());
        assert!(one.job_name(&"n".repeat(253)).len() <= 63);
    }

    #[test]
    fn peers_bring_their_service_token_and_flags() {
        assert!(fleet().shared("t").is_empty());
        let fleet = Fleet { peers: Some(8), ..fleet() };
        let shared = fleet.shared("t");
        assert_eq!(shared[0]["spec"]["clusterIP"], "None");
        assert_eq!(shared[1]["stringData"]["token"], "t");
        let job = fleet.job("node");
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].to_string();
        assert!(arguments.contains(&format!("{}.ml.svc:7473", fleet.name())) && !arguments.contains("\"t\""));
        assert_eq!(container["resources"]["limits"], Value::Null);
    }

    #[test]
    fn tolerations() {
        let read = |text: &str| text.parse::<Toleration>().map(|made| made.0);
        assert_eq!(read("*").unwrap(), json!({"operator": "Exists"}));
        let all = json!({"key": "a.b/c", "operator": "Equal", "value": "d", "effect": "NoSchedule"});
        assert_eq!(read("a.b/c=d:NoSchedule").unwrap(), all);
        assert_eq!(read("gpu").unwrap(), json!({"key": "gpu", "operator": "Exists"}));
        assert!(read("gpu:Never").is_err() && read("").is_err() && read("=x").is_err());
    }
}
