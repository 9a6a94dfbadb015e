//! A node, its namespace, its jobs, and those who look after them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::super::site::{REBOOT, Site};
use crate::support::kube::Kube;

/// All that is done to a node with its cluster. NS is the test's namespace.
pub const ALL: &str = "
  - {step: isolate, timeout: 20s}
  - {step: notify, timeout: 5s}
  - {step: checkpoint, namespaces: [NS], save: {annotate: true}, timeout: 20s}
  - {step: evict, namespaces: [NS], timeout: 30s}
  - {step: reset-gpu, timeout: 10s}
  - {step: verify, attempts: 2}
  - {step: restore, timeout: 20s}
  - {step: resume, timeout: 30s}
";

/// Identifier of the job that the tests' pods belong to.
const JOB: &str = "5f0c0000-0000-0000-0000-000000000001";

pub struct Town {
    pub site: Site,
    pub kube: &'static Kube,
    pub node: String,
    /// A node that nothing is wrong with.
    pub bystander: String,
    pub namespace: String,
    stop: Arc<AtomicBool>,
    /// Jobs do not answer.
    pub mute: Arc<AtomicBool>,
}

impl Town {
    pub fn new(steps: &str) -> Option<Town> {
        let kube = Kube::shared()?;
        let namespace = kube.namespace("remediate");
        let mut site = Site::new(REBOOT);
        let (node, bystander) = (kube.unique("sick"), kube.unique("well"));
        site.connection =
            ["--kubeconfig", site.path("kubeconfig").to_str().unwrap(), "-n", &namespace].map(str::to_owned).to_vec();
        site.also = ["--cluster", "--node", &node].map(str::to_owned).to_vec();
        site.write("kubeconfig", &kube.kubeconfig(&namespace));
        let town = Town { site, kube, node, bystander, namespace, stop: Arc::default(), mute: Arc::default() };
        town.playbook("{}", steps);
        for name in [&town.node, &town.bystander] {
            town.make_node(name, "boot-1");
        }
        // The node as it is when its GPU is reset.
        let url = format!("{}/api/v1/nodes/{}", kube.url(), town.node);
        let header = format!("Authorization: Bearer {}", crate::support::kube::ADMIN);
        town.site.script("reset", &format!("curl -sk -H '{header}' {url} > @/node-at-reset.json\nrm -f @/fault"));
        Some(town)
    }

    /// Writes a playbook with other means of isolation, or rules on top of those that disturb no
    /// other test's nodes.
    pub fn playbook(&self, isolate: &str, steps: &str) {
        let policy =
            "{kill_switch: '@/stop', cool_down: 0s, breaker: {nodes: 100000}, out_of_service: {nodes: 100000}}";
        self.playbook_with(isolate, policy, steps);
    }

    pub fn playbook_with(&self, isolate: &str, policy: &str, steps: &str) {
        let steps = steps.replace("NS", &self.namespace).replace('\n', "\n  ");
        let text = format!(
            "commands:\n  reset_gpu: ['@/reset', '{{pci}}']\n  burn_in: ['@/burnin', '{{pci}}']\n\
             isolate: {isolate}\npolicy: {policy}\n\
             rules:\n- name: ours\n  match: {{faults: [xid-95]}}\n  steps:{steps}"
        );
        self.site.write("playbook.yaml", &self.site.here(&text));
    }

    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.kube.client())
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.kube.client(), &self.namespace)
    }

    pub fn make_node(&self, name: &str, boot: &str) {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let status = json!({"status": {"nodeInfo": {"bootID": boot}}});
        self.kube.block_on(async {
            let nodes = self.nodes();
            nodes.create(&PostParams::default(), &node).await.unwrap();
            nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        });
    }

    pub fn patch_node(&self, name: &str, patch: &Value) {
        self.kube.block_on(async {
            self.nodes().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        });
    }

    pub fn get_node(&self, name: &str) -> Node {
        self.kube.block_on(async { self.nodes().get(name).await.unwrap() })
    }

    /// Cordoned; our taints; our annotations.
    pub fn marks(&self) -> (bool, Vec<String>, Vec<String>) {
        marks(&self.get_node(&self.node))
    }

    /// Whether nothing of ours is on the node.
    pub fn is_clean(&self) -> bool {
        let (_, taints, annotations) = self.marks();
        let labels = self.get_node(&self.node).metadata.labels.unwrap_or_default();
        taints.is_empty() && annotations.is_empty() && !labels.keys().any(|key| key.starts_with("aictl.dev"))
    }

    /// Pods of a job, with GPUs, on the node.
    pub fn job(&self, pods: usize) {
        for i in 0..pods {
            self.make_pod(&format!("worker-{i}"), &self.node, &json!({"kind": "Job", "uid": JOB}));
        }
    }

    pub fn make_pod(&self, name: &str, node: &str, owner: &Value) {
        self.kube.block_on(async { make_pod(&self.pods(), name, node, owner).await });
    }

    /// The pods that there are, by node.
    pub fn where_pods_are(&self) -> Vec<(String, String)> {
        let listed = self.kube.block_on(async { self.pods().list(&ListParams::default()).await.unwrap() });
        let place = |pod: Pod| (pod.metadata.name.unwrap(), pod.spec.unwrap().node_name.unwrap_or_default());
        listed.items.into_iter().map(place).collect()
    }

    /// Kubelets end pods that are to end; the job's controller makes `wanted` of them, elsewhere;
    /// the job saves when it is asked to.
    pub fn keepers(&self, wanted: usize) {
        let (kube, namespace, stop) = (self.kube, self.namespace.clone(), Arc::clone(&self.stop));
        let (mute, elsewhere) = (Arc::clone(&self.mute), self.bystander.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let pods: Api<Pod> = Api::namespaced(kube.client(), &namespace);
                let mut made = 0;
                while !stop.load(Ordering::Relaxed) {
                    let Ok(listed) = pods.list(&ListParams::default()).await else { continue };
                    for pod in &listed.items {
                        let name = pod.metadata.name.as_deref().unwrap();
                        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
                        let asked = annotations.get("aictl.dev/checkpoint-requested");
                        if pod.metadata.deletion_timestamp.is_some() {
                            let _ = pods.delete(name, &DeleteParams::default().grace_period(0)).await;
                        } else if asked != annotations.get("aictl.dev/checkpoint-done") && !mute.load(Ordering::Relaxed)
                        {
                            let done = json!({"metadata": {"annotations": {"aictl.dev/checkpoint-done": asked}}});
                            let _ = pods.patch(name, &PatchParams::default(), &Patch::Merge(&done)).await;
                        }
                    }
                    let of_job = |pod: &&Pod| {
                        pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == JOB)
                            && pod.metadata.deletion_timestamp.is_none()
                    };
                    if listed.items.iter().filter(of_job).count() < wanted {
                        made += 1;
                        let owner = json!({"kind": "Job", "uid": JOB});
                        make_pod(&pods, &format!("again-{made}"), &elsewhere, &owner).await;
                    }
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            });
        });
    }

    /// Versions of all objects that a run could write.
    pub fn versions(&self) -> Vec<String> {
        let mut versions = Vec::new();
        self.kube.block_on(async {
            let client = self.kube.client();
            let all = ListParams::default();
            for name in [&self.node, &self.bystander] {
                versions.push(self.nodes().get(name).await.unwrap().metadata);
            }
            versions.extend(self.pods().list(&all).await.unwrap().items.into_iter().map(|o| o.metadata));
            let leases: Api<Lease> = Api::namespaced(client.clone(), &self.namespace);
            versions.extend(leases.list(&all).await.unwrap().items.into_iter().map(|o| o.metadata));
            let maps: Api<ConfigMap> = Api::namespaced(client, &self.namespace);
            versions.extend(maps.list(&all).await.unwrap().items.into_iter().map(|o| o.metadata));
        });
        let mut versions: Vec<String> = versions
            .into_iter()
            .map(|meta| format!("{} {}", meta.name.unwrap(), meta.resource_version.unwrap()))
            .collect();
        versions.extend(self.events());
        versions
    }

    /// Reasons of the node's events.
    pub fn events(&self) -> Vec<String> {
        let of_node = ListParams::default().fields(&format!("involvedObject.name={}", self.node));
        let listed = self.kube.block_on(async {
            let events: Api<Event> = Api::namespaced(self.kube.client(), "default");
            events.list(&of_node).await.unwrap()
        });
        listed.items.into_iter().map(|event| event.reason.unwrap_or_default()).collect()
    }

    pub fn stop_object(&self, there: bool) {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "aictl-stop"}})).unwrap();
        self.kube.block_on(async {
            let maps: Api<ConfigMap> = Api::namespaced(self.kube.client(), &self.namespace);
            if there {
                maps.create(&PostParams::default(), &map).await.unwrap();
            } else {
                maps.delete("aictl-stop", &DeleteParams::default()).await.unwrap();
            }
        });
    }

    /// Waits until something is so.
    pub fn until(&self, what: &str, mut so: impl FnMut(&Town) -> bool) {
        let since = Instant::now();
        while !so(self) {
            assert!(since.elapsed() < Duration::from_secs(60), "never: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.kube.block_on(async {
            for name in [&self.node, &self.bystander] {
                let _ = self.nodes().delete(name, &DeleteParams::default()).await;
            }
        });
    }
}

pub fn marks(node: &Node) -> (bool, Vec<String>, Vec<String>) {
    let spec = node.spec.clone().unwrap_or_default();
    let taints = spec.taints.unwrap_or_default().into_iter().filter(|taint| taint.key.starts_with("aictl.dev"));
    let taints = taints.map(|taint| format!("{}={}:{}", taint.key, taint.value.unwrap_or_default(), taint.effect));
    let annotations = node.metadata.annotations.clone().unwrap_or_default();
    let ours = annotations.into_keys().filter(|key| key.starts_with("aictl.dev"));
    (spec.unschedulable.unwrap_or(false), taints.collect(), ours.collect())
}

/// Makes a pod that runs and is ready.
pub async fn make_pod(pods: &Api<Pod>, name: &str, node: &str, owner: &Value) {
    let mut metadata = json!({"name": name, "labels": {"app": "train"}});
    if let Some(kind) = owner["kind"].as_str() {
        let (api, name) = (if kind == "Node" { "v1" } else { "batch/v1" }, owner["name"].as_str().unwrap_or("train"));
        metadata["ownerReferences"] =
            json!([{"apiVersion": api, "kind": kind, "name": name, "uid": owner["uid"], "controller": true}]);
    }
    if let Some(annotation) = owner["annotation"].as_str() {
        metadata["annotations"] = json!({annotation: "x"});
    }
    let resources = if owner["cpu"] == true { json!({}) } else { json!({"limits": {"nvidia.com/gpu": "1"}}) };
    let pod: Pod = serde_json::from_value(json!({
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "x", "resources": resources}]},
    }))
    .unwrap();
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.create(&PostParams::default(), &pod).await.unwrap();
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}
