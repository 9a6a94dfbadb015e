//! Nodes, pods and agents' findings as a test makes them. The server is shared by all tests, so each
//! has nodes with a label of its own, and looks at those.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aictl::cluster::{NodeFindings, NodeFindingsSpec, definition};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::environment::{Ran, TestEnvironment};
use crate::support::kube::Kube;

/// A server with the resource installed, and a label for the test's nodes.
pub struct Scene {
    pub kube: &'static Kube,
    pub place: TestEnvironment,
    pub label: String,
    pub namespace: String,
}

impl Scene {
    pub fn new(name: &str) -> Option<Scene> {
        let kube = Kube::shared()?;
        let namespace = kube.namespace(name);
        let place = TestEnvironment::new();
        place.write("kubeconfig", kube.kubeconfig(&namespace));
        kube.block_on(install(kube));
        Some(Scene { kube, place, label: namespace.clone(), namespace })
    }

    /// aictl with this cluster.
    pub fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let file = self.place.path("kubeconfig").display().to_string();
        let ours = ["diagnose", "--kubeconfig", &file].map(str::to_owned);
        ours.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.place.run(self.arguments(arguments))
    }

    /// The fleet of this test's nodes.
    pub fn fleet(&self, arguments: &[&str]) -> Ran {
        let selector = format!("aictl-test={}", self.label);
        self.run(&[&["-l", &selector], arguments].concat())
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.fleet(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"))
    }

    /// The value of the label `aictl-test` that its nodes have.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A name for a node.
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.label)
    }

    /// Makes a node that is well.
    pub fn node(&self, name: &str) -> String {
        self.node_with(name, json!({}))
    }

    /// Makes a node; `status` is laid over that of one that is well.
    pub fn node_with(&self, name: &str, status: Value) -> String {
        let name = self.name(name);
        let node = node(&name, &self.label, status);
        self.kube.block_on(async {
            let nodes: Api<Node> = Api::all(self.kube.client());
            nodes.create(&PostParams::default(), &node).await.unwrap();
        });
        name
    }

    /// Publishes findings for a node, as its agent would have so long ago.
    pub fn findings(&self, node: &str, ago: SignedDuration, faults: &[&str]) {
        let object = findings(node, ago, faults);
        self.kube.block_on(async {
            let objects: Api<NodeFindings> = Api::all(self.kube.client());
            objects.create(&PostParams::default(), &object).await.unwrap();
        });
    }

    /// Makes a pod and gives it a status.
    pub fn pod(&self, name: &str, node: &str, metadata: Value, status: Value) {
        let mut pod = json!({
            "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
        });
        merge(&mut pod["metadata"], metadata);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(self.kube.client(), &self.namespace);
            pods.create(&PostParams::default(), &pod).await.unwrap();
            let patch = json!({"status": status});
            pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        });
    }

    pub fn object(&self, node: &str) -> Option<NodeFindingsSpec> {
        self.kube.block_on(async {
            let objects: Api<NodeFindings> = Api::all(self.kube.client());
            objects.get_opt(node).await.unwrap().map(|object| object.spec)
        })
    }

    pub fn get(&self, node: &str) -> Node {
        self.kube.block_on(async { Api::<Node>::all(self.kube.client()).get(node).await.unwrap() })
    }

    /// Reasons of the events about a node.
    pub fn events(&self, node: &str) -> Vec<String> {
        use k8s_openapi::api::events::v1::Event;
        self.kube.block_on(async {
            let events: Api<Event> = Api::namespaced(self.kube.client(), "default");
            let mut found = events.list(&ListParams::default()).await.unwrap().items;
            found.retain(|event| event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(node));
            found.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
            found.into_iter().filter_map(|event| event.reason).collect()
        })
    }
}

/// Waits until something is so; a test says what.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(90), "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

async fn install(kube: &Kube) {
    let definitions: Api<CustomResourceDefinition> = Api::all(kube.client());
    let apply = PatchParams::apply("test").force();
    definitions.patch("nodefindings.aictl.dev", &apply, &Patch::Apply(&definition())).await.unwrap();
    let objects: Api<NodeFindings> = Api::all(kube.client());
    // The server begins to serve it a moment later.
    for _ in 0..600 {
        if objects.list(&ListParams::default().limit(1)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nodefindings.aictl.dev is not served");
}

pub fn node(name: &str, label: &str, status: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"aictl-test": label}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "posting",
                "lastTransitionTime": "2026-11-01T00:00:00Z", "lastHeartbeatTime": Timestamp::now().to_string()}],
            "capacity": {"nvidia.com/gpu": "8"},
            "allocatable": {"nvidia.com/gpu": "8"},
        },
    });
    merge(&mut node["status"], status);
    serde_json::from_value(node).unwrap()
}

pub fn findings(node: &str, ago: SignedDuration, faults: &[&str]) -> NodeFindings {
    let looked = Timestamp::now().checked_sub(ago).unwrap();
    let finding = |fault: &&str| {
        json!({
            "fault": fault, "title": "a fault", "component": "gpu", "device": {"pci": "0000:3b:00.0"},
            "severity": "critical", "scope": "gpu", "action": "RESTART_BM", "count": 1, "first_seen": looked.to_string(),
            "last_seen": looked.to_string(), "evidence": ["a line"], "source": "kernel-log",
        })
    };
    let spec = json!({
        "lookedAt": looked.to_string(), "agent": "0.1.0", "refreshSeconds": 120, "gpus": 8,
        "state": if faults.is_empty() { "ok" } else { "fault" },
        "report": {
            "schema": "aictl.findings/v1", "node": node, "boot_id": null,
            "checks": [{"name": "kernel-log", "state": if faults.is_empty() { "ok" } else { "fault" }, "detail": "9 lines"}],
            "findings": faults.iter().map(finding).collect::<Vec<_>>(),
        },
    });
    NodeFindings::new(node, serde_json::from_value(spec).unwrap())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// A way to the server that a test can close: what goes over it is cut off, and no more is taken.
pub struct Way {
    port: u16,
    open: Arc<AtomicBool>,
}

impl Way {
    pub fn to(server: &str) -> Way {
        let server = server.trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(AtomicBool::new(true));
        let is_open = Arc::clone(&open);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_open.load(Ordering::SeqCst) {
                    let Ok(server) = TcpStream::connect(&server) else { continue };
                    for (mut from, mut to) in
                        [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                    {
                        let is_open = Arc::clone(&is_open);
                        std::thread::spawn(move || carry(&mut from, &mut to, &is_open));
                    }
                }
            }
        });
        Way { port, open }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }
}

fn carry(from: &mut TcpStream, to: &mut TcpStream, open: &AtomicBool) {
    use std::io::Read;
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let mut chunk = [0; 16 << 10];
    while open.load(Ordering::SeqCst) {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(size) => {
                if to.write_all(&chunk[..size]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}
