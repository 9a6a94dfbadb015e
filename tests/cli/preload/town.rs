//! A cluster for `--nodes`: a real API server with nodes, and this test in the place of the Job
//! controller, the scheduler and the kubelets. Each Job gets its pod; each pod really runs aictl, with
//! its container's arguments and variables, in a directory that stands for its node's disk; what it
//! prints is its log, which the API server asks of a kubelet that has logs alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::environment::{Ran, TestEnvironment};
use crate::support::kube::{Kube, free_port};
use crate::support::kubelet::Kubelet;

/// The nodes, the namespace, and what runs.
pub struct Town {
    pub kube: &'static Kube,
    pub place: TestEnvironment,
    pub namespace: String,
    pub nodes: Vec<String>,
    shared: Arc<Shared>,
    worker: Option<std::thread::JoinHandle<()>>,
    _kubelet: Kubelet,
}

#[derive(Default)]
struct Shared {
    end: AtomicBool,
    /// Nodes on which the next pod fails, and with which code.
    broken: Mutex<BTreeMap<String, Vec<i32>>>,
    /// Most pods that ran at once.
    most: AtomicUsize,
    /// Pods that were started.
    started: AtomicUsize,
}

impl Town {
    /// So many nodes with the label `aictl-test=NAMESPACE`.
    pub fn new(name: &str, count: usize) -> Option<Town> {
        let kube = Kube::shared()?;
        let namespace = kube.namespace(name);
        let place = TestEnvironment::new();
        place.write("kubeconfig", kube.kubeconfig(&namespace));
        let kubelet = Kubelet::start(&place.path(""));
        let nodes: Vec<String> = (0..count).map(|number| format!("{namespace}-{number}")).collect();
        for node in &nodes {
            make_node(kube, node, &namespace, kubelet.port, json!({}));
        }
        let shared = Arc::new(Shared::default());
        let work = Work {
            kube,
            namespace: namespace.clone(),
            directory: place.path(""),
            logs: kubelet.logs.clone(),
            shared: Arc::clone(&shared),
            running: Vec::new(),
            seen: BTreeSet::new(),
        };
        let worker = Some(std::thread::spawn(move || work.run()));
        Some(Town { kube, place, namespace, nodes, shared, worker, _kubelet: kubelet })
    }

    /// One more node, which is laid over by a status or spec.
    pub fn other_node(&self, name: &str, over: Value) -> String {
        let name = format!("{}-{name}", self.namespace);
        make_node(self.kube, &name, &self.namespace, 1, over);
        name
    }

    /// The next pods of a node do not run: they end with these codes.
    pub fn break_next(&self, node: &str, codes: &[i32]) {
        self.shared.broken.lock().unwrap().insert(node.to_owned(), codes.to_vec());
    }

    /// Most pods that ran at once so far.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::Relaxed)
    }

    /// Pods that were started since the last call.
    pub fn started(&self) -> usize {
        self.shared.started.swap(0, Ordering::Relaxed)
    }

    /// The directory of a node's disk.
    pub fn disk(&self, node: &str) -> PathBuf {
        self.place.path(&format!("disks/{node}"))
    }

    /// aictl preload with this cluster and the hub.
    pub fn command(&self, hub: &str, arguments: &[&str]) -> std::process::Command {
        let mut command = self.place.command();
        command.env("HF_ENDPOINT", hub).arg("preload").args(arguments);
        command.arg("--kubeconfig").arg(self.place.path("kubeconfig"));
        command
    }

    /// Runs it to its end, on the nodes of this test.
    pub fn run(&self, hub: &str, arguments: &[&str]) -> Ran {
        let selector = format!("aictl-test={}", self.namespace);
        let output = self.command(hub, &[arguments, &["--nodes", "-l", &selector]].concat()).output().unwrap();
        self.place.ran(output)
    }

    pub fn jobs(&self) -> Vec<Job> {
        self.kube.block_on(async {
            let jobs: Api<Job> = Api::namespaced(self.kube.client(), &self.namespace);
            jobs.list(&ListParams::default()).await.unwrap().items
        })
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

fn make_node(kube: &Kube, name: &str, label: &str, port: u16, over: Value) {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"aictl-test": label}}, "spec": over.get("spec").cloned().unwrap_or(json!({})),
    }))
    .unwrap();
    let ready = over.get("ready").and_then(Value::as_str).unwrap_or("True");
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": ready, "reason": "test", "message": "", "lastHeartbeatTime": Timestamp::now(), "lastTransitionTime": Timestamp::now()}],
    }});
    kube.block_on(async {
        let nodes: Api<Node> = Api::all(kube.client());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    });
}

struct Work {
    kube: &'static Kube,
    namespace: String,
    directory: PathBuf,
    logs: PathBuf,
    shared: Arc<Shared>,
    running: Vec<(Job, String, Option<Child>, i32)>,
    seen: BTreeSet<String>,
}

impl Work {
    fn run(mut self) {
        while !self.shared.end.load(Ordering::Relaxed) {
            let kube = self.kube;
            kube.block_on(self.turn());
            std::thread::sleep(Duration::from_millis(100));
        }
        for (_, _, child, _) in &mut self.running {
            if let Some(child) = child {
                let _ = (child.kill(), child.wait());
            }
        }
    }

    async fn turn(&mut self) {
        let jobs: Api<Job> = Api::namespaced(self.kube.client(), &self.namespace);
        let Ok(list) = jobs.list(&ListParams::default()).await else { return };
        for job in list.items {
            if self.seen.insert(job.metadata.uid.clone().unwrap()) {
                self.start(job).await;
            }
        }
        self.shared.most.fetch_max(self.running.len(), Ordering::Relaxed);
        for (job, pod, child, code) in std::mem::take(&mut self.running) {
            let mut child = child;
            let ended = match &mut child {
                Some(child) => child.try_wait().unwrap().map(|status| status.code().unwrap_or(137)),
                None => Some(code),
            };
            match ended {
                Some(code) => self.end(&job, &pod, code).await,
                None => self.running.push((job, pod, child, code)),
            }
        }
    }

    /// Makes the Job's pod, places it, and runs its program.
    async fn start(&mut self, job: Job) {
        let mut template = serde_json::to_value(job.spec.as_ref().unwrap().template.clone()).unwrap();
        let wanted = &template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let node = wanted["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].as_str().unwrap().to_owned();
        let name = format!("{}-{:05x}", job.metadata.name.as_ref().unwrap(), fastrand::u32(..0xfffff));
        template["spec"]["nodeName"] = json!(node);
        template["metadata"]["name"] = json!(name);
        template["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid, "controller": true}]);
        let pod: Pod = serde_json::from_value(template.clone()).unwrap();
        let pods: Api<Pod> = Api::namespaced(self.kube.client(), &self.namespace);
        pods.create(&PostParams::default(), &pod).await.unwrap();
        self.shared.started.fetch_add(1, Ordering::Relaxed);
        let broken = self
            .shared
            .broken
            .lock()
            .unwrap()
            .get_mut(&node)
            .and_then(|codes| (!codes.is_empty()).then(|| codes.remove(0)));
        let log = File::create(self.logs.join(format!("{}-{name}-preload", self.namespace))).unwrap();
        let mut child = None;
        if broken.is_none() {
            let container = &template["spec"]["containers"][0];
            child = Some(
                self.program(container, &node).await.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap(),
            );
        } else {
            use std::io::Write;
            let mut log = log;
            writeln!(log, "error: this node is broken\nhint: mend it").unwrap();
        }
        if broken.is_some() {
            // What a kubelet says of an image that it can't get; long enough to be seen.
            let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such\u{1b}[2J image"}});
            self.say(&name, "Pending", waiting).await;
            tokio::time::sleep(Duration::from_millis(2500)).await;
        }
        let state = json!({"running": {"startedAt": Timestamp::now()}, "waiting": null});
        self.say(&name, "Running", state).await;
        self.running.push((job, name, child, broken.unwrap_or(0)));
    }

    /// The container's program as its kubelet would run it, with its volume as a directory here.
    async fn program(&self, container: &Value, node: &str) -> std::process::Command {
        let disk = self.directory.join("disks").join(node);
        std::fs::create_dir_all(&disk).unwrap();
        let mut command = std::process::Command::new(crate::environment::binary());
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(&disk).stdin(Stdio::null());
        for variable in container["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            if let Some(value) = variable["value"].as_str() {
                command.env(name, value);
            } else if let Some(from) = variable["valueFrom"]["secretKeyRef"].as_object() {
                let secrets: Api<Secret> = Api::namespaced(self.kube.client(), &self.namespace);
                let secret = secrets.get(from["name"].as_str().unwrap()).await.unwrap();
                let token = &secret.data.unwrap()[from["key"].as_str().unwrap()];
                command.env(name, String::from_utf8(token.0.clone()).unwrap());
            }
        }
        let arguments: Vec<&str> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let mut listens = None;
        let mut before = "";
        for argument in arguments {
            match before {
                "--to" => command.arg(disk.join("store")),
                // There is no DNS of a cluster here: a file has who is there, as it comes to be.
                "--peers" => command.arg(format!("@{}", self.directory.join("peers").display())),
                "--peer-address" => {
                    let address = format!("127.0.0.1:{}", free_port());
                    use std::io::Write;
                    let mut file =
                        File::options().append(true).create(true).open(self.directory.join("peers")).unwrap();
                    writeln!(file, "{address}").unwrap();
                    listens = Some(address.clone());
                    command.arg(address)
                }
                _ => command.arg(argument),
            };
            before = argument;
        }
        if let Some(address) = listens {
            command.args(["--peer-listen", &address]);
        }
        command
    }

    async fn say(&self, pod: &str, phase: &str, state: Value) {
        let pods: Api<Pod> = Api::namespaced(self.kube.client(), &self.namespace);
        let status = json!({"status": {"phase": phase, "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "containerStatuses": [{
            "name": "preload", "image": "aictl", "imageID": "", "ready": phase == "Running", "restartCount": 0, "state": state}]}});
        // A Job that was removed took its pod along.
        let _ = pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(&status)).await;
    }

    /// Writes what kubelet and Job controller write in the end (kubernetes, pkg/controller/job).
    async fn end(&self, job: &Job, pod: &str, code: i32) {
        let now = Timestamp::now();
        let terminated = json!({"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now, "reason": "test"}, "running": null});
        self.say(pod, if code == 0 { "Succeeded" } else { "Failed" }, terminated).await;
        let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "as the controller says", "lastProbeTime": now, "lastTransitionTime": now});
        let status = if code == 0 {
            json!({"startTime": now, "completionTime": now, "succeeded": 1, "uncountedTerminatedPods": {},
                "conditions": [condition("SuccessCriteriaMet", "CompletionsReached"), condition("Complete", "CompletionsReached")]})
        } else {
            json!({"startTime": now, "failed": 1, "uncountedTerminatedPods": {},
                "conditions": [condition("FailureTarget", "BackoffLimitExceeded"), condition("Failed", "BackoffLimitExceeded")]})
        };
        let jobs: Api<Job> = Api::namespaced(self.kube.client(), &self.namespace);
        let name = job.metadata.name.as_ref().unwrap();
        let patched = jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({"status": status}))).await;
        if let Err(kube::Error::Api(error)) = patched {
            assert_eq!(error.code, 404, "{error:?}");
        }
    }
}
