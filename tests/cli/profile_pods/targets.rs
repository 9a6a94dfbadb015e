//! What can be named is found by the labels that its controllers put on pods, with objects of the
//! kinds as their projects publish them (`AICTL_TEST_CRDS`). No controller runs: the test makes the pods.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Scene;
use crate::support::queues::{self, api, make};

fn template(name: &str) -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": name, "image": "any"}]}})
}

/// A pod that runs on a node of that name, as far as the API server knows.
fn running(scene: &Scene, name: &str, labels: &Value, node: &str) {
    let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node,
        "containers": [{"name": "main", "image": "any"}]}});
    let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "main", "image": "any",
        "imageID": "", "restartCount": 0, "ready": true, "containerID": format!("containerd://{}", "ab".repeat(32)),
        "state": {"running": {}}}]}});
    scene.kube.block_on(async {
        let pods: Api<Pod> = Api::namespaced(scene.kube.client(), &scene.namespace);
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    });
}

#[test]
fn each_kind_of_job_is_found_by_what_its_controller_writes() {
    let Some(kube) = queues::shared() else { return };
    let scene = Scene::at(kube, "kinds");
    let metadata = |name: &str| json!({"name": name, "namespace": scene.namespace});
    let master = json!({"replicas": 1, "template": template("pytorch")});
    let head = json!({"headGroupSpec": {"rayStartParams": {}, "template": template("head")}});
    // Word, labels of its pods; group, version, kind and plural of the object, and the object.
    let kinds = [
        ("job/a", json!({"batch.kubernetes.io/job-name": "a"}), None),
        (
            "jobset/b",
            json!({"jobset.sigs.k8s.io/jobset-name": "b", "jobset.sigs.k8s.io/replicatedjob-name": "w"}),
            Some((
                ["jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets"],
                json!({"spec": {"replicatedJobs": [{"name": "w", "replicas": 1, "template": {"spec": {"template": template("w")}}}]}}),
            )),
        ),
        (
            "pytorchjob/c",
            json!({"training.kubeflow.org/job-name": "c", "training.kubeflow.org/replica-type": "master", "training.kubeflow.org/replica-index": "0"}),
            Some((
                ["kubeflow.org", "v1", "PyTorchJob", "pytorchjobs"],
                json!({"spec": {"pytorchReplicaSpecs": {"Master": master}}}),
            )),
        ),
        (
            "trainjob/d",
            json!({"jobset.sigs.k8s.io/jobset-name": "d"}),
            Some((
                ["trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs"],
                json!({"spec": {"runtimeRef": {"name": "torch-distributed"}}}),
            )),
        ),
        (
            "rayjob/e",
            json!({"ray.io/cluster": "e-x7k2p", "ray.io/node-type": "worker"}),
            Some((
                ["ray.io", "v1", "RayJob", "rayjobs"],
                json!({"spec": {"entrypoint": "python x.py", "rayClusterSpec": head}, "status": {"rayClusterName": "e-x7k2p"}}),
            )),
        ),
    ];
    for (word, labels, object) in &kinds {
        let (kind, name) = word.split_once('/').unwrap();
        if let Some(([group, version, of, plural], object)) = object {
            let mut object = object.clone();
            object["apiVersion"] = json!(format!("{group}/{version}"));
            object["kind"] = json!(of);
            object["metadata"] = metadata(name);
            scene.kube.block_on(async {
                make(&api(kube, Some(&scene.namespace), group, version, of, plural), object).await;
            });
        }
        for number in 0..2 {
            running(&scene, &format!("{name}-{number}"), labels, &format!("node-{kind}-{number}"));
        }
    }
    // Its nodes are asked for an installed agent, and have none: which they are is what is of interest.
    for (word, ..) in &kinds {
        let (kind, _) = word.split_once('/').unwrap();
        let ran = scene.run(&[word, "-d", "1s", "--agent", "daemonset", "--agent-namespace", &scene.namespace]);
        assert_eq!(ran.status, Some(1), "{word}: {ran}");
        let count = |text: &str| ran.stderr.matches(text).count();
        assert!(count(&format!("node-{kind}-0")) > 0 && count(&format!("node-{kind}-1")) > 0, "{word}: {ran}");
        for (other, ..) in kinds.iter().filter(|(other, ..)| other != word) {
            let (other, _) = other.split_once('/').unwrap();
            assert_eq!(count(&format!("node-{other}-")), 0, "{word} takes pods of {other}: {ran}");
        }
    }
    // A Ray job whose cluster is not there yet, and one that is not there at all.
    let early = json!({"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata("early"),
        "spec": {"entrypoint": "python x.py", "rayClusterSpec": head}});
    kube.block_on(async {
        make(&api(kube, Some(&scene.namespace), "ray.io", "v1", "RayJob", "rayjobs"), early).await;
    });
    let ran = scene.run(&["rayjob/early", "-d", "1s"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("rayjob early has no cluster"), "{ran}");
    for word in ["rayjob/nobody", "jobset/nobody", "pytorchjob/nobody", "trainjob/nobody"] {
        let ran = scene.run(&[word, "-d", "1s"]);
        let words = word.replace('/', " ");
        assert!(ran.status == Some(1) && ran.stderr.contains(&words), "{ran}");
    }
}
