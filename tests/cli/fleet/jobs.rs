//! Logs of jobs, read through the API server from a kubelet that has nothing but logs.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::scene::Scene;
use crate::support::kubelet::Kubelet;

#[test]
fn a_collective_that_hung_is_found_in_the_logs_of_its_job() {
    let Some(scene) = Scene::new("logs") else { return };
    let kubelet = Kubelet::start(&scene.place.path(""));
    let at = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}}});
    let node = scene.node_with("n", at);
    scene.findings(&node, SignedDuration::ZERO, &[]);
    let now = Timestamp::now();
    for rank in 0..3 {
        let name = format!("w-{rank}");
        scene.pod(&name, &node, json!({"labels": {"job-name": "llama"}}), json!({"phase": "Running"}));
        let line = if rank == 2 {
            format!(
                "{now} [rank2]:[E] [PG ID 0 PG GUID 0(default_pg) Rank 2]  failure detected by watchdog at work sequence id: 6 PG status: last enqueued work: 6, last completed work: 6\n"
            )
        } else {
            format!(
                "{now} [rank{rank}]:[E] [Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600001 milliseconds before timing out.\n"
            )
        };
        scene.place.write(&format!("logs/{}-{name}-main", scene.namespace), line);
    }
    let fleet = scene.json(&["--job", "llama"]);
    let findings = fleet["findings"].as_array().unwrap();
    let hang = findings.iter().find(|finding| finding["fault"] == "nccl-hang").unwrap_or_else(|| panic!("{fleet:#}"));
    let because = hang["because"].as_str().unwrap();
    assert!(because.contains("ranks 0-1 waited 600 s in collective 7 (ALLREDUCE)"), "{because}");
    assert!(because.contains(&format!("rank 2 ({}/w-2 on {node}) had come to 6 only", scene.namespace)), "{because}");
    assert_eq!(scene.fleet(&["--job", "llama"]).status, Some(3));

    // Without --logs nobody's logs are read; a job that is not there is said.
    assert!(scene.json(&[])["findings"].as_array().unwrap().iter().all(|finding| finding["component"] != "job"));
    let ran = scene.fleet(&["--job", "other"]);
    assert!(ran.status == Some(4) && ran.stdout.contains("no pod of a job other"), "{ran}");
}

#[test]
fn a_log_that_can_not_be_read_makes_blind() {
    let Some(scene) = Scene::new("nologs") else { return };
    let node = scene.node("n");
    scene.findings(&node, SignedDuration::ZERO, &[]);
    scene.pod("w-0", &node, json!({"labels": {"job-name": "llama"}}), json!({"phase": "Running"}));
    let ran = scene.fleet(&["--job", "llama"]);
    assert!(ran.status == Some(4) && ran.stdout.contains("1 could not be read"), "{ran}");
}
