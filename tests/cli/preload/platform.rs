//! `--fluid` and `--local-model-cache`, against a real API server with the published kinds. Their
//! controllers do not run: tests write the status that Fluid (pkg/ddc, pkg/dataoperation) and KServe
//! (pkg/controller/v1alpha1/localmodel) would write, and say so here once for all.

use std::process::{Child, Stdio};
use std::sync::OnceLock;

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::environment::{Ran, TestEnvironment};
use super::super::support::http::{Hub, Server, noise};
use super::super::support::kube::Kube;
use super::super::support::queues;

const FLUID: &str = "data.fluid.io";
const KSERVE: &str = "serving.kserve.io";
/// Group, kind, plural, whether in a namespace.
const KINDS: [(&str, &str, &str, bool); 7] = [
    (FLUID, "Dataset", "datasets", true),
    (FLUID, "DataLoad", "dataloads", true),
    (FLUID, "DataProcess", "dataprocesses", true),
    (FLUID, "JindoRuntime", "jindoruntimes", true),
    (FLUID, "AlluxioRuntime", "alluxioruntimes", true),
    (KSERVE, "LocalModelCache", "localmodelcaches", false),
    (KSERVE, "LocalModelNodeGroup", "localmodelnodegroups", false),
];

/// A cluster with the kinds, and a namespace.
struct Scene {
    kube: &'static Kube,
    place: TestEnvironment,
    namespace: String,
}

fn definitions() -> Vec<Value> {
    let own = |(group, kind, plural, namespaced): &(&str, &str, &str, bool)| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": if *namespaced { "Namespaced" } else { "Cluster" },
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        })
    };
    let read = |kind: &(&str, &str, &str, bool)| {
        let (group, _, plural, _) = kind;
        let folder = if *group == FLUID { "fluid" } else { "kserve" };
        let path = queues::published()?.join(folder).join(format!("{group}_{plural}.yaml"));
        let text = std::fs::read_to_string(path).ok()?;
        serde_yaml::from_str(text.trim_start_matches("---\n")).ok()
    };
    KINDS.iter().map(|kind| read(kind).unwrap_or_else(|| own(kind))).collect()
}

impl Scene {
    fn new(name: &str) -> Option<Scene> {
        static READY: OnceLock<()> = OnceLock::new();
        let kube = Kube::shared()?;
        READY.get_or_init(|| queues::apply(kube, &definitions()));
        let namespace = kube.namespace(name);
        let place = TestEnvironment::new();
        place.write("kubeconfig", kube.kubeconfig(&namespace));
        Some(Scene { kube, place, namespace })
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.place.command();
        command.arg("preload").args(arguments).arg("--kubeconfig").arg(self.place.path("kubeconfig"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn end(&self, child: Child) -> Ran {
        self.place.ran(child.wait_with_output().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.end(self.start(arguments))
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, kind, plural, namespaced) = KINDS.into_iter().find(|(_, name, _, _)| *name == kind).unwrap();
        queues::api(self.kube, namespaced.then_some(self.namespace.as_str()), group, "v1alpha1", kind, plural)
    }

    /// Waits for an object.
    fn wait(&self, kind: &str, name: &str) -> Value {
        let since = std::time::Instant::now();
        self.kube.block_on(async {
            let api = self.api(kind);
            loop {
                if let Some(found) = api.get_opt(name).await.unwrap() {
                    return serde_json::to_value(found).unwrap();
                }
                assert!(since.elapsed().as_secs() < 60, "no {kind} {name}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        })
    }

    /// Waits for an object, and gives it a status.
    fn say(&self, kind: &str, name: &str, status: Value) -> Value {
        let found = self.wait(kind, name);
        self.kube.block_on(async {
            let patch = json!({"status": status});
            self.api(kind).patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        });
        found
    }
}

const PIPELINE: &str = "
apiVersion: data.fluid.io/v1alpha1
kind: DataProcess
metadata: {name: convert}
spec:
  processor:
    script: {image: converter, imageTag: '1', source: 'convert /data', command: [bash]}
---
apiVersion: data.fluid.io/v1alpha1
kind: DataProcess
metadata: {name: build}
spec:
  processor:
    script: {image: builder, imageTag: '1', source: 'build /data', command: [bash]}
";

fn over(phase: &str) -> Value {
    json!({"phase": phase, "duration": "11s", "conditions": [{"type": phase, "status": "True", "reason": "Job", "message": "as the Job ended"}]})
}

#[test]
fn fluid_loads_and_processes_in_order() {
    let Some(scene) = Scene::new("fluid") else { return };
    scene.place.write("pipeline.yaml", PIPELINE);
    let arguments = ["s3://models/Llama-3", "--fluid", "--process", "pipeline.yaml", "--secret", "keys"];
    let ran = scene.run(&[&arguments[..], &["--dry-run"]].concat());
    assert!(ran.status == Some(0) && ran.stdout.contains("JindoRuntime") && ran.stdout.contains("create"), "{ran}");

    let child = scene.start(&[&arguments[..], &["-o", "json"]].concat());
    let dataset = scene.say(
        "Dataset",
        "models-llama-3",
        json!({"phase": "Bound", "conditions": [], "cacheStates": {"cachedPercentage": "0.0%"}}),
    );
    let mount = &dataset["spec"]["mounts"][0];
    assert_eq!(mount["mountPoint"], "s3://models/Llama-3");
    assert_eq!(
        mount["encryptOptions"][0]["valueFrom"]["secretKeyRef"],
        json!({"name": "keys", "key": "AWS_ACCESS_KEY_ID"})
    );
    let runtime = scene.wait("JindoRuntime", "models-llama-3");
    assert_eq!(runtime["spec"]["tieredstore"]["levels"][0]["quota"], "100Gi");
    scene.say("DataLoad", "models-llama-3-load", over("Complete"));
    let convert = scene.say("DataProcess", "convert", over("Complete"));
    assert_eq!(convert["spec"]["runAfter"]["name"], "models-llama-3-load");
    let build = scene.say("DataProcess", "build", over("Failed"));
    assert_eq!(
        build["spec"]["runAfter"],
        json!({"kind": "DataProcess", "name": "convert", "namespace": scene.namespace})
    );
    let ran = scene.end(child);
    assert_eq!(ran.status, Some(3), "{ran}");
    let steps: Value = serde_json::from_str(&ran.stdout).unwrap();
    let last = steps.as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["name"], &last["phase"], &last["detail"]),
        (&"build".into(), &"Failed".into(), &"as the Job ended".into())
    );

    // What failed alone is made again.
    let child = scene.start(&arguments);
    let old = build["metadata"]["uid"].clone();
    loop {
        let now = scene.kube.block_on(async { scene.api("DataProcess").get_opt("build").await.unwrap() });
        if now.is_some_and(|now| json!(now.metadata.uid) != old) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    scene.say("DataProcess", "build", over("Complete"));
    let ran = scene.end(child);
    assert!(ran.status == Some(0) && ran.stdout.contains("run again"), "{ran}");
    let ran = scene.run(&arguments);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""), "{ran}");
    let ran = scene.run(&["s3://other/model", "--fluid", "--dataset", "models-llama-3"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("is not of s3://other/model"), "{ran}");
}

#[test]
fn what_platforms_can_not_do_is_said() {
    let Some(scene) = Scene::new("fluid-no") else { return };
    let ran = scene.run(&["hf://org/model", "--fluid"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("none of its runtimes reads a hub"), "{ran}");
    let ran = scene.run(&["s3://models/x", "--fluid", "--runtime", "NoSuchRuntime"]);
    assert!(ran.status == Some(4) && ran.stderr.contains("NoSuchRuntime"), "{ran}");
    scene.place.write("bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n");
    let ran = scene.run(&["s3://models/x", "--fluid", "--process", "bad.yaml"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("a Pod is no DataProcess"), "{ran}");
    let ran = scene.run(&["s3://models/x", "--local-model-cache", "nobody", "--model-size", "1GB"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("no LocalModelNodeGroup nobody"), "{ran}");

    // A cluster that serves none of it.
    let empty = Server::start();
    let place = TestEnvironment::new();
    place.write("kubeconfig", scene.kube.kubeconfig_at(&empty.url(), "t", "default"));
    let config = place.path("kubeconfig").display().to_string();
    for (arguments, what) in [
        (&["preload", "s3://models/x", "--fluid"][..], "Fluid is not installed"),
        (
            &["preload", "s3://models/x", "--local-model-cache", "g", "--model-size", "1GB"],
            "KServe's local model cache is not installed",
        ),
    ] {
        let ran = place.run([arguments, &["--kubeconfig", &config]].concat());
        assert!(ran.status == Some(4) && ran.stderr.contains(what) && ran.stderr.contains("--nodes"), "{ran}");
    }
}

#[test]
fn kserve_keeps_a_copy_on_each_node_of_a_group() {
    let Some(scene) = Scene::new("kserve") else { return };
    let group = scene.kube.unique("gpus");
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}});
    scene.kube.block_on(async {
        let object = json!({
            "apiVersion": "serving.kserve.io/v1alpha1", "kind": "LocalModelNodeGroup", "metadata": {"name": group},
            "spec": {"storageLimit": "10Gi", "persistentVolumeClaimSpec": claim, "persistentVolumeSpec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/models"}}},
        });
        queues::make(&scene.api("LocalModelNodeGroup"), object).await;
    });
    // The size is asked of the source.
    let hub = Hub::with("org/model", &[("a.bin", noise(123_456, 1), true)]);
    let name = scene.kube.unique("cache");
    let mut command = scene.place.command();
    command.env("HF_ENDPOINT", hub.server.url()).args([
        "preload",
        "org/model",
        "--local-model-cache",
        &group,
        "--dataset",
        &name,
    ]);
    command.arg("--kubeconfig").arg(scene.place.path("kubeconfig"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = |state: &str| json!({"copies": {"available": 1, "failed": 0, "total": 2}, "nodeStatus": {"a": "NodeDownloaded", "b": state}});
    let made = scene.say("LocalModelCache", &name, status("NodeDownloading"));
    assert_eq!(
        (&made["spec"]["sourceModelUri"], &made["spec"]["modelSize"]),
        (&"hf://org/model".into(), &"123456".into())
    );
    scene.say("LocalModelCache", &name, status("NodeDownloaded"));
    let ran = scene.end(child);
    assert!(ran.status == Some(0) && ran.stdout.contains("2 of 2 nodes"), "{ran}");
    assert_eq!(hub.server.take_bytes(), 0);
}
