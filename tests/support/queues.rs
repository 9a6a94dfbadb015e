//! The kinds of Kueue, Volcano, kube-queue, JobSet, Kubeflow and Ray in the tests' API server. Their
//! controllers do not run: tests write the status that they would write.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;
use serde_json::{Value, json};

use super::kube::Kube;

#[derive(Deserialize)]
struct Kind {
    group: String,
    versions: Vec<String>,
    kind: String,
    plural: String,
    #[serde(default)]
    scope: Option<String>,
}

/// A directory with the CRDs as their projects publish them.
pub fn published() -> Option<PathBuf> {
    std::env::var_os("AICTL_TEST_CRDS").map(PathBuf::from)
}

/// The server with all the kinds, installed by the first test that asks.
pub fn shared() -> Option<&'static Kube> {
    static READY: OnceLock<()> = OnceLock::new();
    let kube = Kube::shared()?;
    READY.get_or_init(|| install(kube));
    Some(kube)
}

fn install(kube: &Kube) {
    let mut definitions = match published() {
        Some(directory) => read_published(&directory),
        None => own(),
    };
    definitions.retain(|definition| definition["kind"] == "CustomResourceDefinition");
    apply(kube, &definitions);
}

/// Installs kinds, and waits until they are served.
pub fn apply(kube: &Kube, definitions: &[Value]) {
    kube.block_on(async {
        let api: Api<CustomResourceDefinition> = Api::all(kube.client());
        for definition in definitions {
            let name = definition["metadata"]["name"].as_str().unwrap();
            let parameters = PatchParams::apply("aictl-tests").force();
            api.patch(name, &parameters, &Patch::Apply(definition)).await.unwrap();
        }
        let begin = Instant::now();
        for definition in definitions {
            let name = definition["metadata"]["name"].as_str().unwrap();
            loop {
                let status = api.get(name).await.unwrap().status;
                let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
                if conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
                    break;
                }
                assert!(begin.elapsed() < Duration::from_secs(120), "{name} is not established");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
}

fn own() -> Vec<Value> {
    let kinds: Vec<Kind> = serde_yaml::from_str(include_str!("crds/kinds.yaml")).unwrap();
    kinds
        .into_iter()
        .map(|kind| {
            let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
            let versions: Vec<Value> = kind
                .versions
                .iter()
                .enumerate()
                .map(|(index, version)| {
                    json!({"name": version, "served": true, "storage": index == 0, "schema": schema, "subresources": {"status": {}}})
                })
                .collect();
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {
                    "name": format!("{}.{}", kind.plural, kind.group),
                    "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
                },
                "spec": {
                    "group": kind.group, "scope": kind.scope.as_deref().unwrap_or("Namespaced"), "versions": versions,
                    "names": {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.to_lowercase()},
                },
            })
        })
        .collect()
}

fn read_published(directory: &std::path::Path) -> Vec<Value> {
    let projects = ["kueue", "volcano", "kube-queue", "jobset", "training-operator", "trainer", "kuberay"];
    let mut definitions = Vec::new();
    for project in projects {
        for entry in std::fs::read_dir(directory.join(project)).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            for document in text.split("\n---\n").filter(|document| document.contains("kind: CustomResourceDefinition"))
            {
                definitions.push(serde_yaml::from_str(document.trim_start_matches("---\n")).unwrap());
            }
        }
    }
    definitions
}

/// Where objects of a kind are.
pub fn api(
    kube: &Kube,
    namespace: Option<&str>,
    group: &str,
    version: &str,
    kind: &str,
    plural: &str,
) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(kube.client(), namespace, &resource),
        None => Api::all_with(kube.client(), &resource),
    }
}

/// Makes an object, and gives it a status if it has one.
pub async fn make(api: &Api<DynamicObject>, object: Value) -> DynamicObject {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let name = object.metadata.name.clone().unwrap();
    let made = api.create(&PostParams::default(), &object).await.unwrap();
    match object.data.get("status") {
        Some(status) => {
            let patch = json!({"status": status});
            match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                // A kind whose definition has no such subresource took the status with the rest.
                Err(kube::Error::Api(said)) if said.code == 404 && made.data.get("status") == Some(status) => made,
                patched => patched.unwrap(),
            }
        }
        None => made,
    }
}

/// A LocalQueue `queue` in a namespace, that leads to a ClusterQueue of a test's own with so many GPUs.
pub fn kueue_queue(kube: &Kube, namespace: &str, queue: &str, gpus: u32) -> String {
    let cluster_queue = kube.unique("cq");
    kube.block_on(async {
        let queues = api(kube, None, "kueue.x-k8s.io", "v1beta2", "ClusterQueue", "clusterqueues");
        make(
            &queues,
            json!({
                "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": cluster_queue},
                "spec": {"namespaceSelector": {}, "resourceGroups": [{"coveredResources": ["nvidia.com/gpu"], "flavors": [
                    {"name": "h100", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": gpus}]}]}]},
                "status": {"flavorsReservation": [{"name": "h100", "resources": [{"name": "nvidia.com/gpu", "total": "8", "borrowed": "0"}]}]},
            }),
        )
        .await;
        let locals = api(kube, Some(namespace), "kueue.x-k8s.io", "v1beta2", "LocalQueue", "localqueues");
        make(
            &locals,
            json!({
                "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue",
                "metadata": {"name": queue, "namespace": namespace}, "spec": {"clusterQueue": cluster_queue},
            }),
        )
        .await;
    });
    cluster_queue
}
