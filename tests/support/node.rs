//! A node whose pods are real containers, for the API server of `support::kube`: node.py beside
//! this plays its kubelet.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::kube::{ADMIN, Kube};
use super::{can_trace, program, require};

/// A node, and the directory of what its pods print and share.
pub struct Node {
    kube: &'static Kube,
    /// Its name.
    pub name: String,
    directory: tempfile::TempDir,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts one where that is possible; `aictl` is the program that agents run.
    pub fn start(kube: &'static Kube, prefix: &str, aictl: &Path) -> Option<Node> {
        require("runc", program("runc").is_some()).then_some(())?;
        require("root and a kernel with BTF", can_trace()).then_some(())?;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
            .args(["-keyout", &at("key"), "-out", &at("crt")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let name = kube.unique(prefix);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/node.py");
        let mut child = Command::new("/usr/bin/python3")
            .args([script, directory.path().to_str().unwrap(), &at("crt"), &at("key"), &kube.url(), ADMIN, &name])
            .arg(aictl)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(directory.path().join("node.log")).unwrap())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port: i32 = lines.next().unwrap().unwrap().trim().parse().unwrap();
        let node = json!({"metadata": {"name": name}, "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": null, "lastTransitionTime": null}]}});
        let object: NodeObject = serde_json::from_value(node.clone()).unwrap();
        kube.block_on(async {
            let nodes: Api<NodeObject> = Api::all(kube.client());
            nodes.create(&PostParams::default(), &object).await.unwrap();
            nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&node)).await.unwrap();
        });
        Some(Node { kube, name, directory, child, stdin, lines })
    }

    /// A directory that all containers have as /srv.
    pub fn share(&self) -> PathBuf {
        self.directory.path().join("share")
    }

    /// Tells the kubelet something (node.py lists what).
    pub fn say(&mut self, words: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{words}").unwrap();
        assert_eq!(self.lines.next().unwrap().unwrap(), "ok");
    }

    /// Marks a pod as the node lifecycle controller does that of a node that is silent.
    pub fn mark(&self, namespace: &str, name: &str) {
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        self.kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(self.kube.client(), namespace);
            pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        });
    }

    /// Gives a pod up in its kubelet's place, as a cluster's controllers do.
    pub fn fail(&self, namespace: &str, name: &str) {
        let status = json!({"status": {"phase": "Failed", "reason": "NodeLost"}});
        self.kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(self.kube.client(), namespace);
            pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        });
    }

    /// Removes its object, as a cloud's controller does with that of a machine that is gone.
    pub fn forget(&self) {
        self.kube.block_on(async {
            let nodes: Api<NodeObject> = Api::all(self.kube.client());
            nodes.delete(&self.name, &DeleteParams::default()).await.unwrap();
        });
    }

    /// Makes a pod of one container here, and waits until it runs.
    pub fn pod(&self, namespace: &str, name: &str, labels: &Value, command: &[&str], env: &[(&str, &str)]) -> Pod {
        let env: Vec<Value> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        self.run(
            namespace,
            name,
            &json!({"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": self.name,
            "containers": [{"name": "main", "image": "any", "command": command, "env": env}]}}),
        )
    }

    /// The same with the machine's processes and all rights.
    pub fn privileged(&self, namespace: &str, name: &str, labels: &Value, command: &[&str]) -> Pod {
        self.run(
            namespace,
            name,
            &json!({"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": self.name,
            "hostPID": true, "containers": [{"name": "main", "image": "any", "command": command,
                "securityContext": {"privileged": true}}]}}),
        )
    }

    /// A pod as the API server has it.
    pub fn get(&self, namespace: &str, name: &str) -> Pod {
        self.kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(self.kube.client(), namespace);
            pods.get(name).await.unwrap()
        })
    }

    fn run(&self, namespace: &str, name: &str, pod: &Value) -> Pod {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        self.kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(self.kube.client(), namespace);
            pods.create(&PostParams::default(), &pod).await.unwrap();
            let begin = Instant::now();
            loop {
                let pod = pods.get(name).await.unwrap();
                if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running") {
                    return pod;
                }
                assert!(begin.elapsed() < Duration::from_secs(60), "pod {name} does not run: {}", self.log("node"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }

    /// Names of the agents' pods in a namespace.
    pub fn agents(&self, namespace: &str) -> Vec<String> {
        self.kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(self.kube.client(), namespace);
            let found = pods.list(&ListParams::default().labels("app.kubernetes.io/name=aictl-profile")).await.unwrap();
            found.items.into_iter().filter_map(|pod| pod.metadata.name).collect()
        })
    }

    /// Waits until no agent's pod is left.
    pub fn wait_for_no_agent(&self, namespace: &str) {
        let begin = Instant::now();
        while !self.agents(namespace).is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(60), "agents are left: {:?}", self.agents(namespace));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Deletes a pod and makes another of the same name, as a StatefulSet's controller does.
    pub fn replace(&self, namespace: &str, name: &str) {
        let before = self.get(namespace, name);
        self.kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(self.kube.client(), namespace);
            pods.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
            let metadata = json!({"name": name, "labels": before.metadata.labels});
            let next = json!({"metadata": metadata, "spec": before.spec});
            pods.create(&PostParams::default(), &serde_json::from_value(next).unwrap()).await.unwrap();
        });
    }

    /// Deletes a pod.
    pub fn delete(&self, namespace: &str, name: &str) {
        self.kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(self.kube.client(), namespace);
            pods.delete(name, &DeleteParams::default().grace_period(1)).await.unwrap();
        });
    }

    /// What a pod (or "node", the kubelet) printed.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It ends its containers itself.
        drop(self.stdin.take());
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = (self.child.kill(), self.child.wait());
    }
}
