//! `aictl queue sync` with a real Slurm and a real API server: drains and cordons go both ways, and
//! nothing that a human did is undone. `--elastic` with real CLOUD nodes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::environment::{Ran, TestEnvironment};
use crate::support::kube::{Kube, free_port};
use crate::support::slurm::{Nodes, Slurm};
use crate::support::write_program;

/// A playbook whose rules leave room: there are two nodes.
const ROOMY: &str = "policy:\n  kill_switch: KILL\n  breaker: {nodes: 1000}\n  out_of_service: {nodes: 1000}\n";

struct Town {
    environment: TestEnvironment,
    kube: &'static Kube,
    slurm: Slurm,
    /// The names in Kubernetes of n1 and n2.
    names: [String; 2],
}

impl Town {
    fn new() -> Option<Town> {
        let kube = Kube::apart()?;
        let slurm = Slurm::start(Nodes::default())?;
        let environment = TestEnvironment::new();
        let file = environment.write("kubeconfig", kube.kubeconfig("default"));
        let kill = environment.path("kill");
        environment.write("roomy.yaml", ROOMY.replace("KILL", &kill.display().to_string()));
        environment.write("strict.yaml", "policy:\n  out_of_service: {nodes: 0, share: 0.0}\n");
        environment.write(
            "config.yaml",
            format!("targets:\n- {{name: lab, engine: slurm, programs: {}}}\n", slurm.programs().display()),
        );
        let names = [kube.unique("sync"), kube.unique("sync")];
        let environment = environment.set("KUBECONFIG", &file.display().to_string());
        let town = Town { environment, kube, slurm, names };
        for (name, own) in town.names.iter().zip(["n1", "n2"]) {
            let node: Node = serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"aictl.dev/slurm-node": own}}, "spec": {},
            }))
            .unwrap();
            kube.block_on(async {
                town.nodes().create(&PostParams::default(), &node).await.unwrap();
                let status = json!({"status": {"allocatable": {"nvidia.com/gpu": "2"}, "capacity": {"nvidia.com/gpu": "2"},
                    "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": null, "lastTransitionTime": null, "reason": "t", "message": "t"}]}});
                town.nodes().patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
                // A node that was just made has this taint until its controller takes it off.
                let taints = json!({"spec": {"taints": null}});
                town.nodes().patch(name, &PatchParams::default(), &Patch::Merge(&taints)).await.unwrap();
            });
        }
        Some(town)
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.kube.client())
    }

    fn run(&self, more: &[&str]) -> (Option<i32>, Value) {
        self.run_with("roomy.yaml", more)
    }

    fn run_with(&self, playbook: &str, more: &[&str]) -> (Option<i32>, Value) {
        let fixed =
            ["queue", "sync", "--config", "config.yaml", "--playbook", playbook, "--state-dir", "state", "-o", "json"];
        let ran: Ran = self.environment.run([&fixed[..], more].concat());
        let value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        (ran.status, value)
    }

    fn row(value: &Value, node: &str) -> Value {
        let rows = value["nodes"].as_array().unwrap();
        rows.iter().find(|row| row["node"] == node).unwrap_or_else(|| panic!("{value:#}")).clone()
    }

    fn kubernetes(&self, which: usize) -> Node {
        self.kube.block_on(async { self.nodes().get(&self.names[which]).await.unwrap() })
    }

    fn is_cordoned(&self, which: usize) -> bool {
        self.kubernetes(which).spec.unwrap().unschedulable.unwrap_or(false)
    }

    fn cordon(&self, which: usize, to: bool) {
        let patch = json!({"spec": {"unschedulable": to.then_some(true)}});
        self.kube.block_on(async {
            self.nodes().patch(&self.names[which], &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        });
    }

    fn scontrol(&self, node: &str, words: &[&str]) {
        self.slurm.said("scontrol", &[&["update", &format!("nodename={node}")], words].concat());
    }

    fn in_slurm(&self, node: &str) -> String {
        self.slurm.said("scontrol", &["--oneliner", "show", "node", node])
    }

    fn journal(&self, node: &str) -> String {
        std::fs::read_to_string(self.environment.path(&format!("state/queue-sync/{node}/journal.jsonl")))
            .unwrap_or_default()
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.kube.block_on(async {
            for name in &self.names {
                let _ = self.nodes().delete(name, &Default::default()).await;
            }
        });
    }
}

#[test]
fn drains_and_cordons_go_both_ways_and_humans_are_not_undone() {
    let Some(town) = Town::new() else { return };
    let (code, seen) = town.run(&[]);
    assert_eq!((code, &seen["schema"]), (Some(0), &"aictl.queue-sync/v1".into()), "{seen:#}");
    let row = Town::row(&seen, "n1");
    assert_eq!(
        (&row["slurm"]["gpus"], &row["kubernetes"]["gpus"], &row["agree"]),
        (&2.0.into(), &2.0.into(), &true.into())
    );

    // A human drains in Slurm. A dry run, a kill switch and a full house change nothing.
    town.scontrol("n1", &["state=drain", "reason=bad fan"]);
    let (code, seen) = town.run(&[]);
    let row = Town::row(&seen, "n1");
    assert_eq!((code, &row["do"], &row["state"]), (Some(3), &"cordon".into(), &"planned".into()), "{seen:#}");
    assert_eq!(row["why"], "drained in Slurm: bad fan");
    town.environment.write("kill", "");
    let (code, seen) = town.run(&["--apply"]);
    assert_eq!((code, &Town::row(&seen, "n1")["state"]), (Some(3), &"refused".into()), "{seen:#}");
    std::fs::remove_file(town.environment.path("kill")).unwrap();
    let (code, seen) = town.run_with("strict.yaml", &["--apply"]);
    let row = Town::row(&seen, "n1");
    assert_eq!((code, &row["state"]), (Some(3), &"refused".into()), "{seen:#}");
    assert!(row["said"].as_str().unwrap().starts_with("out_of_service: "), "{row:#}");
    assert!(!town.is_cordoned(0));

    // In earnest, and once more: the second time there is nothing to do.
    let (code, seen) = town.run(&["--apply"]);
    assert_eq!((code, &Town::row(&seen, "n1")["state"]), (Some(0), &"done".into()), "{seen:#}");
    assert!(town.is_cordoned(0) && !town.is_cordoned(1));
    let annotations = town.kubernetes(0).metadata.annotations.unwrap();
    assert_eq!(annotations["aictl.dev/isolated-incident"], "queue-sync-cordon");
    let written = town.journal("n1");
    assert!(written.contains("\"rule\":\"queue-sync\"") && written.contains("bad fan"), "{written}");
    let (code, seen) = town.run(&["--apply"]);
    assert_eq!((code, &Town::row(&seen, "n1")["agree"], town.journal("n1")), (Some(0), &true.into(), written));
    assert!(town.in_slurm("n1").contains("Reason=bad fan"), "a human's reason stays");

    // He resumes it: our cordon goes.
    town.scontrol("n1", &["state=resume"]);
    let (code, seen) = town.run(&["--apply"]);
    assert_eq!((code, &Town::row(&seen, "n1")["do"]), (Some(0), &"uncordon".into()), "{seen:#}");
    assert!(!town.is_cordoned(0));
    assert!(!town.kubernetes(0).metadata.annotations.unwrap_or_default().contains_key("aictl.dev/isolated-incident"));

    // The other way about.
    town.cordon(1, true);
    let (code, seen) = town.run(&["--apply"]);
    assert_eq!((code, &Town::row(&seen, "n2")["do"]), (Some(0), &"drain".into()), "{seen:#}");
    let shown = town.in_slurm("n2");
    assert!(shown.contains("DRAIN") && shown.contains("Reason=aictl queue-sync: cordoned in Kubernetes"), "{shown}");
    // A human resumes it in Slurm all the same: it is left alone until the cordon is gone.
    town.scontrol("n2", &["state=undrain"]);
    // slurmctld asks it whether it is there before it is idle again.
    town.slurm.wait_for("idle n2", |slurm| {
        slurm.said("sinfo", &["--noheader", "--nodes=n2", "--format=%T"]).ends_with("idle")
    });
    let (code, seen) = town.run(&["--apply"]);
    let row = Town::row(&seen, "n2");
    assert_eq!((code, &row["do"], &row["agree"]), (Some(3), &Value::Null, &false.into()), "{seen:#}");
    assert!(row["said"].as_str().unwrap().contains("by hand") && !town.in_slurm("n2").contains("DRAIN"), "{row:#}");
    town.cordon(1, false);
    assert_eq!(settled(&town), Some(0));
    // A new cordon is a new cause.
    town.cordon(1, true);
    let (code, seen) = town.run(&["--apply"]);
    assert_eq!((code, town.in_slurm("n2").contains("DRAIN")), (Some(0), true), "{seen:#}");
    town.cordon(1, false);
    let (code, seen) = town.run(&["--apply"]);
    assert_eq!((code, town.in_slurm("n2").contains("DRAIN")), (Some(0), false), "{seen:#}");

    // GPUs that both hand out are seen.
    let namespace = town.kube.namespace("sync");
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"nodeName": town.names[0],
        "containers": [{"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]}}))
    .unwrap();
    town.kube.block_on(async {
        let pods: Api<Pod> = Api::namespaced(town.kube.client(), &namespace);
        pods.create(&PostParams::default(), &pod).await.unwrap();
    });
    let job = town.slurm.said("sbatch", &["--parsable", "--nodelist=n1", "--gres=gpu:1", "--wrap=sleep 300"]);
    let begin = Instant::now();
    loop {
        let (code, seen) = town.run(&[]);
        let row = Town::row(&seen, "n1");
        if row["slurm"]["gpus_allocated"] == 1.0 {
            assert_eq!((code, &row["kubernetes"]["gpus_allocated"]), (Some(3), &2.0.into()), "{seen:#}");
            assert_eq!(row["why"], "3 GPUs are handed out by both sides together, and it has 2");
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "job {job} does not run: {seen:#}");
    }
}

/// slurmctld hears of a node that was undrained at its next ping.
fn settled(town: &Town) -> Option<i32> {
    let begin = Instant::now();
    loop {
        let (code, _) = town.run(&["--apply"]);
        if code == Some(0) || begin.elapsed() > Duration::from_secs(60) {
            return code;
        }
    }
}

/// Ends the slurmds that the resume program started.
struct Cloud(PathBuf);

impl Drop for Cloud {
    fn drop(&mut self) {
        for node in ["c1", "c2"] {
            let pid = std::fs::read_to_string(self.0.join(format!("slurmd-{node}.pid"))).unwrap_or_default();
            if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

#[test]
fn cloud_nodes_are_started_for_what_waits_and_stopped_when_idle() {
    let ports = (free_port(), free_port());
    // The scheduler sleeps, so that what waits goes on waiting; Slurm hides CLOUD nodes that are off.
    let more = format!(
        "SuspendTime=100000
ResumeProgram=@/shared/resume
SuspendProgram=@/shared/suspend
ResumeTimeout=120
SuspendTimeout=5
SchedulerParameters=defer,sched_interval=3600,bf_interval=3600,batch_sched_delay=3600
NodeName=c1 NodeHostname=HOST NodeAddr=127.0.0.1 Port={} CPUs=2 RealMemory=1000 State=CLOUD
NodeName=c2 NodeHostname=HOST NodeAddr=127.0.0.1 Port={} CPUs=2 RealMemory=1000 State=CLOUD
PartitionName=cloud Nodes=c[1-2] State=UP
",
        ports.0, ports.1
    );
    let nodes = Nodes { count: 1, gpus: 0, shards: 0, more: Box::leak(more.into_boxed_str()) };
    let Some(slurm) = Slurm::start(nodes) else { return };
    let at = slurm.configuration().parent().unwrap().to_owned();
    let cloud = Cloud(at.clone());
    let script = |name: &str, line: &str| {
        let path = slurm.shared().join(name);
        let at = at.display();
        let text = format!(
            "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin SLURM_CONF={at}/slurm.conf\necho {name} $1 >> {at}/power\nfor n in $(scontrol show hostnames \"$1\"); do {line}; done\n"
        );
        write_program(&path, &text.replace('@', &at.to_string()));
    };
    script("resume", "slurmd -b -N $n");
    script("suspend", "kill $(cat @/slurmd-$n.pid)");
    slurm.said("scontrol", &["reconfigure"]);
    let environment = TestEnvironment::new();
    environment.write(
        "config.yaml",
        format!("targets:\n- {{name: lab, engine: slurm, programs: {}}}\n", slurm.programs().display()),
    );
    let run = |more: &[&str]| {
        let fixed = ["queue", "sync", "--elastic", "--config", "config.yaml", "--state-dir", "state", "-o", "json"];
        let ran: Ran = environment.run([&fixed[..], more].concat());
        let value: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        assert_eq!(value["schema"], "aictl.queue-elastic/v1");
        (ran.status, value)
    };
    let names = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|one| one["node"].as_str().unwrap().to_owned()).collect()
    };
    let power = || std::fs::read_to_string(cloud.0.join("power")).unwrap_or_default();
    let (code, nothing) = run(&[]);
    assert_eq!((code, &nothing["cloud_nodes"], &nothing["on"]), (Some(0), &2.into(), &0.into()), "{nothing:#}");
    assert_eq!(nothing["why"], "nothing waits for room; the least that stays on is 0");

    let job = slurm.said("sbatch", &["--parsable", "--partition=cloud", "--nodes=2", "--exclusive", "--wrap=sleep 1"]);
    let (_, few) = run(&["--max", "1"]);
    assert!(names(&few["resume"]).is_empty(), "{few:#}");
    assert!(few["unmet"][0]["why"].as_str().unwrap().contains("--max 1"), "{few:#}");
    let (code, planned) = run(&["--max", "2"]);
    assert_eq!((code, names(&planned["resume"])), (Some(0), vec!["c1".to_owned(), "c2".to_owned()]), "{planned:#}");
    assert_eq!(planned["resume"][0]["why"], format!("job {job} waits for it"));
    assert_eq!(power(), "", "a dry run starts nothing");
    let (code, done) = run(&["--max", "2", "--apply"]);
    assert_eq!((code, &done["resume"][1]["state"]), (Some(0), &"done".into()), "{done:#}");
    let (_, again) = run(&["--max", "2"]);
    assert_eq!((&again["on"], again["resume"].as_array().unwrap().len()), (&2.into(), 0), "{again:#}");
    // They come up, and are not asked for again meanwhile.
    let begin = Instant::now();
    loop {
        let (_, again) = run(&["--max", "2", "--apply"]);
        assert!(names(&again["resume"]).is_empty() && names(&again["suspend"]).is_empty(), "{again:#}");
        if again["idle"] == 2 {
            break;
        }
        let nodes = || slurm.said("scontrol", &["--oneliner", "show", "node"]);
        assert!(begin.elapsed() < Duration::from_secs(120), "{again:#}\n{}\n{}", power(), nodes());
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(power().contains("resume"), "{}", power());

    // Nothing waits any more: they are stopped, when they have been idle for long enough, and not all.
    slurm.said("scancel", &[&job]);
    let begin = Instant::now();
    while !slurm.said("squeue", &["--noheader"]).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    let (_, young) = run(&["--idle", "1h", "--apply"]);
    assert_eq!(
        (names(&young["suspend"]).len(), young["why"].as_str().unwrap().contains("idle for long enough")),
        (0, true)
    );
    let (code, stopped) = run(&["--idle", "0s", "--min", "1", "--apply"]);
    assert_eq!((code, names(&stopped["suspend"]).len()), (Some(0), 1), "{stopped:#}");
    slurm.wait_for("suspended node", |_| power().contains("suspend"));
    let (_, kept) = run(&["--idle", "0s", "--min", "1", "--apply"]);
    assert!(names(&kept["suspend"]).is_empty(), "{kept:#}");
    // Slurm's SuspendProgram ended that node's slurmd, and no other.
    let gone = names(&stopped["suspend"])[0].clone();
    let stays = if gone == "c1" { "c2" } else { "c1" };
    assert!(power().lines().any(|line| line == format!("suspend {gone}")), "{}", power());
    let pid = |node: &str| std::fs::read_to_string(cloud.0.join(format!("slurmd-{node}.pid"))).unwrap_or_default();
    slurm.wait_for("end of its slurmd", |_| {
        let pid = pid(&gone);
        pid.is_empty() || !std::path::Path::new(&format!("/proc/{}", pid.trim())).exists()
    });
    slurm.wait_for("node that is off", |slurm| {
        // Slurm shows it no more, or as what it is.
        let shown = slurm.command("scontrol").args(["--oneliner", "show", "node", &gone]).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        shown.contains("POWERED_DOWN") || !shown.contains("NodeName")
    });
    let (_, off) = run(&["--idle", "0s", "--min", "1"]);
    assert_eq!((&off["on"], &off["idle"], &off["cloud_nodes"]), (&1.into(), &1.into(), &2.into()), "{off:#}");
    let shown = slurm.said("scontrol", &["--oneliner", "show", "node", stays]);
    assert!(shown.contains("State=IDLE+CLOUD") && !shown.contains("POWER"), "{shown}");
    // What waits next gets it back.
    slurm.said("sbatch", &["--parsable", "--partition=cloud", "--nodes=2", "--exclusive", "--wrap=sleep 1"]);
    let (_, back) = run(&["--max", "2"]);
    assert_eq!(names(&back["resume"]), [gone.as_str()], "{back:#}");
    let journal = environment.path("state/queue-sync");
    assert!(std::fs::read_to_string(journal.join("c1/journal.jsonl")).unwrap().contains("queue-elastic-resume"));
}
