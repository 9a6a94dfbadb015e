//! Steps in pods: saving by a command, a signal and HTTP; restarting an add-on's pod; one GPU alone.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::super::site::{GPU, plan, steps};
use super::proxy::Proxy;
use super::town::{Town, make_pod, marks};
use crate::support::kube::ADMIN;

/// Two pods of a job, their commands run by the test.
fn saving(save: &str) -> Option<(Town, Proxy)> {
    let steps = format!(
        "\n  - {{step: isolate, timeout: 20s}}\n  - {{step: checkpoint, namespaces: [NS], save: {save}, timeout: 30s, required: true}}\n  \
         - {{step: reset-gpu}}\n  - {{step: verify}}\n  - {{step: restore, timeout: 20s}}\n"
    );
    let town = Town::new(&steps)?;
    let proxy = Proxy::new(&town.kube.url());
    town.site.write("kubeconfig", &town.kube.kubeconfig_at(&proxy.url, ADMIN, &town.namespace));
    town.job(2);
    Some((town, proxy))
}

fn checkpoint(said: &Value) -> (String, String) {
    let steps = said["incidents"][0]["steps"].as_array().cloned().unwrap_or_default();
    let step = steps.into_iter().find(|step| step["step"] == "checkpoint").unwrap();
    (step["state"].as_str().unwrap().to_owned(), step["why"].as_str().unwrap().to_owned())
}

type Ran = Arc<Mutex<Vec<(String, Vec<String>)>>>;

#[test]
fn a_command_in_each_pod_saves_however_much_it_says() {
    let Some((town, proxy)) = saving("{exec: [save, '--to={incident}']}") else { return };
    let ran = Ran::default();
    let noted = Arc::clone(&ran);
    proxy.exec(move |pod, words| {
        noted.lock().unwrap().push((pod.to_owned(), words.to_vec()));
        (0, vec![b'x'; 60_000])
    });
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!(
        (output.status.code(), checkpoint(&said)),
        (Some(0), ("done".to_owned(), "2 saved".to_owned())),
        "{said:#}"
    );
    let ran = ran.lock().unwrap();
    let mut pods: Vec<&str> = ran.iter().map(|(pod, _)| pod.as_str()).collect();
    pods.sort_unstable();
    assert_eq!(pods, ["worker-0", "worker-1"]);
    let incident = said["incidents"][0]["id"].as_str().unwrap();
    assert!(ran.iter().all(|(_, words)| *words == ["save".to_owned(), format!("--to={incident}")]), "{ran:?}");
}

#[test]
fn a_command_that_fails_says_why_and_nothing_is_reset() {
    let Some((town, proxy)) = saving("{exec: [save]}") else { return };
    proxy.exec(|pod, _| if pod == "worker-1" { (3, b"quota\nno space left\n".to_vec()) } else { (0, Vec::new()) });
    let said = plan(&town.site.apply());
    let (state, why) = checkpoint(&said);
    assert!(state == "failed" && why.contains("1 of 2 saved") && why.contains("no space left"), "{said:#}");
    assert_eq!(town.site.count("reset"), 0);
}

#[test]
fn a_signal_is_sent_and_proved() {
    let Some((town, proxy)) = saving("{signal: USR1, proof: [test, '-e', /done]}") else { return };
    let (ran, asked) = (Ran::default(), AtomicUsize::new(0));
    let noted = Arc::clone(&ran);
    proxy.exec(move |pod, words| {
        noted.lock().unwrap().push((pod.to_owned(), words.to_vec()));
        // Not at once.
        let proved = words[0] != "test" || asked.fetch_add(1, Ordering::SeqCst) >= 3;
        (i32::from(!proved), Vec::new())
    });
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!((output.status.code(), checkpoint(&said).0.as_str()), (Some(0), "done"), "{said:#}");
    let ran = ran.lock().unwrap();
    let signals = ran.iter().filter(|(_, words)| words.join(" ") == "kill -s USR1 1").count();
    assert!(signals == 2 && ran.len() >= 7, "{ran:?}");
}

#[test]
fn a_pod_is_asked_over_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut text = String::new();
            while !text.contains('}') {
                let mut part = [0; 4096];
                let Ok(size @ 1..) = stream.read(&mut part) else { break };
                text.push_str(&String::from_utf8_lossy(&part[..size]));
            }
            noted.lock().unwrap().push(text);
            let _ = stream.write_all(b"HTTP/1.1 204 Saved\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let Some((town, _proxy)) = saving(&format!("{{http: ':{port}/checkpoint'}}")) else { return };
    let place = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    town.kube.block_on(async {
        for pod in ["worker-0", "worker-1"] {
            town.pods().patch_status(pod, &PatchParams::default(), &Patch::Merge(&place)).await.unwrap();
        }
    });
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!((output.status.code(), checkpoint(&said).0.as_str()), (Some(0), "done"), "{said:#}");
    let asked = asked.lock().unwrap();
    let incident = said["incidents"][0]["id"].as_str().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|text| text.starts_with("POST /checkpoint ") && text.contains(incident)), "{asked:?}");
}

const RESTART: &str = "
  - {step: restart-pod, namespaces: [NS], selector: app=train, timeout: 40s}
  - {step: verify}
";

#[test]
fn an_add_ons_pod_is_made_again_once() {
    let Some(town) = Town::new(RESTART) else { return };
    let owner = json!({"kind": "DaemonSet", "name": "plugin", "uid": "5f0c0000-0000-0000-0000-00000000000d"});
    town.make_pod("plugin-a", &town.node, &owner);
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, namespace, node, kube) = (Arc::clone(&stop), town.namespace.clone(), town.node.clone(), town.kube);
    let fault = town.site.path("fault");
    let controller = std::thread::spawn(move || {
        kube.block_on(async {
            let pods: Api<Pod> = Api::namespaced(kube.client(), &namespace);
            while !stopped.load(Ordering::SeqCst) {
                let old = pods.get_opt("plugin-a").await.unwrap();
                if old.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()) {
                    pods.delete("plugin-a", &DeleteParams::default().grace_period(0)).await.unwrap();
                    make_pod(&pods, "plugin-b", &node, &owner).await;
                    std::fs::remove_file(&fault).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
    });
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!(output.status.code(), Some(0), "{said:#}");
    assert!(said.to_string().contains("DaemonSet/plugin was made again"), "{said:#}");
    assert_eq!(town.where_pods_are(), [("plugin-b".to_owned(), town.node.clone())]);
    stop.store(true, Ordering::SeqCst);
    controller.join().unwrap();
    // A job's pod would not be made again there.
    let Some(town) = Town::new(RESTART) else { return };
    town.job(1);
    let said = plan(&town.site.apply());
    assert!(said.to_string().contains("is no DaemonSet's"), "{said:#}");
    assert_eq!(town.where_pods_are(), [("worker-0".to_owned(), town.node.clone())]);
}

const ONE_GPU: &str = "
  - {step: isolate, timeout: 30s}
  - {step: evict, namespaces: [NS], timeout: 30s}
  - {step: reset-gpu, timeout: 20s}
  - {step: verify}
  - {step: restore, timeout: 30s}
";

/// With dynamic resource allocation one GPU is taken out of service, and the node goes on.
#[test]
fn one_gpu_is_isolated_where_the_cluster_hands_them_out_one_by_one() {
    let Some(town) = Town::new(ONE_GPU) else { return };
    let rules = format!("{}/apis/resource.k8s.io/v1beta2/devicetaintrules", town.kube.url());
    let header = format!("Authorization: Bearer {ADMIN}");
    let served = std::process::Command::new("curl").args(["-skf", "-H", &header, &rules]).output().unwrap();
    if !crate::support::require("an API server that taints devices (1.36)", served.status.success()) {
        return;
    }
    let node_url = format!("{}/api/v1/nodes/{}", town.kube.url(), town.node);
    town.site.script(
        "reset",
        &format!(
            "curl -sk -H '{header}' {rules} > @/rules-at-reset.json\ncurl -sk -H '{header}' {node_url} > @/node-at-reset.json\nrm -f @/fault"
        ),
    );
    town.job(2);
    let driver = "gpu.example.com";
    let slice = json!({
    "metadata": {"name": town.node},
    "spec": {"driver": driver, "nodeName": town.node,
        "pool": {"name": town.node, "generation": 1, "resourceSliceCount": 1},
        "devices": [
            {"name": "gpu-0", "attributes": {"uuid": {"string": "GPU-0"}, "resource.example.com/pciBusID": {"string": GPU}}},
            {"name": "gpu-1", "attributes": {"uuid": {"string": "GPU-1"}}},
        ]}});
    town.kube.block_on(async {
        let client = town.kube.client();
        let slices: Api<ResourceSlice> = Api::all(client.clone());
        slices.create(&PostParams::default(), &serde_json::from_value(slice).unwrap()).await.unwrap();
        // The sick GPU is worker-0's.
        let uid = town.pods().get("worker-0").await.unwrap().metadata.uid.unwrap();
        let claims: Api<ResourceClaim> = Api::namespaced(client, &town.namespace);
        let claim = json!({"metadata": {"name": "one"}, "spec": {"devices": {"requests": [
            {"name": "gpu", "exactly": {"deviceClassName": driver}}]}}});
        claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();
        let status = json!({"status": {
            "allocation": {"devices": {"results": [{"request": "gpu", "driver": driver, "pool": town.node, "device": "gpu-0"}]}},
            "reservedFor": [{"resource": "pods", "name": "worker-0", "uid": uid}]}});
        claims.patch_status("one", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    });
    town.keepers(2);
    let output = town.site.apply();
    let said = plan(&output);
    assert_eq!(output.status.code(), Some(0), "{said:#}");
    let done = steps(&said).iter().filter(|step| step.ends_with(" done")).count();
    assert_eq!(done, 5, "{said:#}");
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(town.site.path(name)).unwrap()).unwrap()
    };
    let incident = said["incidents"][0]["id"].as_str().unwrap();
    let ours = |rules: &Value| -> Vec<Value> {
        let items = rules["items"].as_array().unwrap().clone();
        items.into_iter().filter(|rule| rule["metadata"]["name"] == format!("aictl-{incident}")).collect()
    };
    let there = ours(&read("rules-at-reset.json"));
    assert_eq!(there.len(), 1, "the device was tainted while it was reset");
    assert_eq!(there[0]["spec"]["deviceSelector"]["device"], "gpu-0", "{there:#?}");
    let (cordoned, taints, _) = marks(&serde_json::from_value(read("node-at-reset.json")).unwrap());
    assert!(!cordoned && taints.is_empty(), "the node went on: {taints:?}");
    // The pod with the other GPU stayed.
    let places = town.where_pods_are();
    assert!(places.contains(&("worker-1".to_owned(), town.node.clone())), "{places:?}");
    assert!(!places.iter().any(|(name, _)| name == "worker-0"), "{places:?}");
    let output = std::process::Command::new("curl").args(["-sk", "-H", &header, &rules]).output().unwrap();
    assert!(ours(&serde_json::from_slice(&output.stdout).unwrap()).is_empty(), "it was taken back");
    town.kube.block_on(async {
        let slices: Api<ResourceSlice> = Api::all(town.kube.client());
        let _ = slices.delete(&town.node, &DeleteParams::default()).await;
        let _ = slices.list(&ListParams::default()).await;
    });
}

/// A device plugin can't be told of one GPU: the node as a whole goes, and who wanted less is told.
#[test]
fn a_device_plugin_means_the_whole_node() {
    let steps = "\n  - {step: isolate, timeout: 20s}\n  - {step: reset-gpu}\n  - {step: verify}\n  - {step: restore, timeout: 20s}\n";
    for (by, code, told) in [("auto", 0, "the whole node"), ("gpu", 3, "the device plugin takes no word")] {
        let Some(town) = Town::new(steps) else { return };
        town.playbook(&format!("{{by: {by}}}"), steps);
        let gpus = json!({"nvidia.com/gpu": "8"});
        let status = json!({"status": {"allocatable": gpus, "capacity": gpus}});
        town.kube.block_on(async {
            town.nodes().patch_status(&town.node, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        });
        let output = town.site.apply();
        let said = plan(&output);
        assert_eq!(output.status.code(), Some(code), "{by}: {said:#}");
        let isolate = &said["incidents"][0]["steps"][0];
        assert!(isolate["why"].as_str().is_some_and(|why| why.contains(told)), "{by}: {said:#}");
        assert_eq!(town.site.count("reset"), usize::from(code == 0), "nothing is reset where it is not isolated");
        assert!(town.is_clean());
    }
}
