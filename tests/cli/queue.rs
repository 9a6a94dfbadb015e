//! `aictl queue` over a real API server; tests write what Kueue's and Volcano's controllers would.

use serde_json::{Value, json};

use crate::environment::{Ran, TestEnvironment, binary};
use crate::support::kube::{Kube, NOBODY};
use crate::support::queues;
use crate::tmux::{self, Terminal};

struct Place {
    environment: TestEnvironment,
    kube: &'static Kube,
    namespace: String,
}

impl Place {
    fn new() -> Option<Place> {
        let kube = queues::shared()?;
        let namespace = kube.namespace("queue");
        let environment = TestEnvironment::new();
        let file = environment.write("kubeconfig", kube.kubeconfig(&namespace));
        Some(Place { environment: environment.set("KUBECONFIG", &file.display().to_string()), kube, namespace })
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.environment.run(arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
    }

    /// A Workload, as Kueue's controller makes one of a Job, with its status.
    fn workload(&self, name: &str, gpus: u32, priority: i32, conditions: &Value) {
        let api = |group: &str, version: &str, kind: &str, plural: &str| {
            queues::api(self.kube, Some(&self.namespace), group, version, kind, plural)
        };
        let container = json!({"name": "main", "image": "i", "resources": {"requests": {"nvidia.com/gpu": gpus.to_string()}, "limits": {"nvidia.com/gpu": gpus.to_string()}}});
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
        self.kube.block_on(async {
            let job = queues::make(
                &api("batch", "v1", "Job", "jobs"),
                json!({"apiVersion": "batch/v1", "kind": "Job",
                    "metadata": {"name": name, "labels": {"kueue.x-k8s.io/queue-name": "research"}, "annotations": {"aictl.dev/owner": "ada"}},
                    "spec": {"suspend": true, "template": template}}),
            )
            .await;
            queues::make(
                &api("kueue.x-k8s.io", "v1beta2", "Workload", "workloads"),
                json!({"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload",
                    "metadata": {"name": format!("job-{name}"), "labels": {"kueue.x-k8s.io/job-uid": job.metadata.uid},
                        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job.metadata.uid, "controller": true}]},
                    "spec": {"active": true, "queueName": "research", "priority": priority, "maximumExecutionTimeSeconds": 3600,
                        "podSets": [{"name": "main", "count": 1, "template": template}]},
                    "status": {"conditions": conditions}}),
            )
            .await;
        });
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn waiting() -> Value {
    json!([condition(
        "QuotaReserved",
        "False",
        "Pending",
        "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 8 more needed"
    )])
}

#[test]
fn a_waiting_job_is_listed_and_explained() {
    let Some(place) = Place::new() else { return };
    queues::kueue_queue(place.kube, &place.namespace, "research", 8);
    let admitted = json!([
        condition("QuotaReserved", "True", "QuotaReserved", ""),
        condition("Admitted", "True", "Admitted", ""),
        condition("PodsReady", "True", "PodsReady", "")
    ]);
    place.workload("runs", 8, 0, &admitted);
    place.workload("first", 8, 100, &waiting());
    place.workload("second", 4, 0, &waiting());
    let jobs = place.json(&["queue", "list", "--on", "kueue", "-n", &place.namespace]);
    let names: Vec<&str> = jobs.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], "runs", "{jobs:#}");
    let second = jobs.as_array().unwrap().iter().find(|job| job["name"] == "second").unwrap();
    assert_eq!(second["schema"], "aictl.job/v1");
    assert_eq!(
        (&second["state"], &second["gpus"], &second["nodes"], &second["owner"]),
        (&"pending".into(), &4.into(), &1.into(), &"ada".into())
    );
    assert_eq!(second["reason"]["kind"], "waiting_for_quota");
    assert!(second["reason"]["raw"].as_str().unwrap().contains("8 more needed"));

    let explained = place.json(&["queue", "explain", "second", "-n", &place.namespace]);
    assert_eq!(explained["schema"], "aictl.explain/v1");
    assert_eq!(
        (&explained["place"]["position"], &explained["place"]["ahead"]),
        (&2.into(), &1.into()),
        "{explained:#}"
    );
    assert_eq!(explained["ahead"][0]["name"], "first");
    assert_eq!(explained["holders"][0]["name"], "runs");
    assert_eq!(explained["quota"][0]["nominal"], 8.0);
    assert!(explained["unblock"].as_str().unwrap().contains("before it"), "{explained:#}");
    let ran = place.run(&["queue", "explain", "second", "-n", &place.namespace]);
    assert!(ran.stdout.contains("position   2 of 2; ahead: 1"), "{ran}");
}

#[test]
fn orders_are_followed_and_seen_to_be() {
    let Some(place) = Place::new() else { return };
    queues::kueue_queue(place.kube, &place.namespace, "research", 8);
    place.workload("train", 8, 0, &waiting());
    let address = format!("kueue:{}/job/train", place.namespace);
    let state = || {
        place.json(&["queue", "list", "--on", "kueue", "-n", &place.namespace])[0]["state"].as_str().map(str::to_owned)
    };
    let ran = place.run(&["queue", "hold", &address, "--dry-run"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("would be held"), "{ran}");
    assert_eq!(state().as_deref(), Some("pending"));
    assert_eq!(place.run(&["queue", "hold", &address]).status, Some(0));
    assert_eq!(state().as_deref(), Some("held"));
    assert_eq!(place.run(&["queue", "release", &address]).status, Some(0));
    assert_eq!(state().as_deref(), Some("pending"));
    assert_eq!(place.run(&["queue", "priority", &address, "500"]).status, Some(0));
    assert_eq!(place.json(&["queue", "list", "--on", "kueue", "-n", &place.namespace])[0]["priority"], 500);
    let ran = place.run(&["queue", "cancel", &address]);
    assert!(ran.status == Some(0) && ran.stdout.contains("cancelled"), "{ran}");
    let ran = place.run(&["queue", "cancel", "--dry-run", "trian", "-n", &place.namespace]);
    assert_eq!(ran.status, Some(1), "{ran}");
}

#[test]
fn a_target_that_cannot_be_asked_hides_no_other() {
    let Some(place) = Place::new() else { return };
    queues::kueue_queue(place.kube, &place.namespace, "research", 8);
    place.workload("train", 8, 0, &waiting());
    let kube = place.kube;
    place.environment.write("dead", kube.kubeconfig_at("https://127.0.0.1:1", "t", "default"));
    place.environment.write("nobody", kube.kubeconfig_at(&kube.url(), NOBODY, "default"));
    place.environment.write(
        "config.yaml",
        "targets:\n- {name: gone, kubeconfig: dead}\n- {name: shut, kubeconfig: nobody, engine: kueue}\n",
    );
    let ran = place.run(&["queue", "list", "--config", "config.yaml", "-n", &place.namespace]);
    assert_eq!(ran.status, Some(4), "{ran}");
    assert!(ran.stdout.contains("train"), "{ran}");
    assert!(ran.stderr.contains("gone could not be asked") && ran.stderr.contains("shut could not be asked"), "{ran}");
}

#[test]
fn waiting_ends_as_the_job_ends() {
    let Some(place) = Place::new() else { return };
    queues::kueue_queue(place.kube, &place.namespace, "research", 8);
    place.workload("good", 1, 0, &json!([condition("Finished", "True", "Succeeded", "")]));
    place.workload(
        "bad",
        1,
        0,
        &json!([condition("Finished", "True", "Failed", "Job has reached the specified backoff limit")]),
    );
    place.workload("stuck", 1, 0, &waiting());
    let wait =
        |name: &str, more: &[&str]| place.run(&[&["queue", "wait", name, "-n", &place.namespace], more].concat());
    assert_eq!(wait("good", &["--exit-code"]).status, Some(0));
    assert_eq!(wait("bad", &[]).status, Some(3));
    let ran = wait("stuck", &["--timeout", "1s"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("still pending"), "{ran}");
}

#[test]
fn quota_has_bars_and_rows() {
    let Some(place) = Place::new() else { return };
    let queue = queues::kueue_queue(place.kube, &place.namespace, "research", 16);
    let rows = place.json(&["queue", "quota", "--on", "kueue", "research"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["queue"] == queue.as_str()).unwrap();
    assert_eq!((&row["flavor"], &row["nominal"], &row["used"]), (&"h100".into(), &16.0.into(), &8.into()));
    let ran = place.run(&["queue", "quota", "--on", "kueue", &queue]);
    assert!(ran.stdout.contains("|████████        |"), "{ran}");
}

#[test]
fn quota_fits_a_narrow_terminal_and_says_the_same_without_colour() {
    let Some(place) = Place::new() else { return };
    if !tmux::there_is_one() {
        return;
    }
    let queue = queues::kueue_queue(place.kube, &place.namespace, "research", 8);
    for (columns, bar) in [(100, "█| 100%"), (80, "█| 100%"), (60, ""), (40, "")] {
        let terminal = Terminal::start(&place.environment, columns, 20);
        let mut shown = Vec::new();
        for colour in ["", "NO_COLOR=1 "] {
            terminal
                .run(&format!("{colour}{} queue quota --kubeconfig kubeconfig --on kueue {queue}", binary().display()));
            let (code, screen) = terminal.ended();
            let lines: Vec<String> = screen.lines().take(2).map(str::to_owned).collect();
            assert!(code == 0 && lines[0].starts_with("QUEUE") && lines[1].contains(bar), "{columns}: {screen}");
            let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
            assert_eq!(coloured.contains("\u{1b}["), colour.is_empty(), "{coloured:?}");
            shown.push(lines);
        }
        assert_eq!(shown[0], shown[1]);
    }
}

#[test]
fn the_line_of_a_wait_moves_and_goes() {
    let Some(place) = Place::new() else { return };
    if !tmux::there_is_one() {
        return;
    }
    queues::kueue_queue(place.kube, &place.namespace, "research", 8);
    place.workload("train", 16, 0, &waiting());
    let (program, namespace) = (binary().display(), &place.namespace);
    for (columns, colour) in [(100, ""), (50, "NO_COLOR=1 ")] {
        let terminal = Terminal::start(&place.environment, columns, 10);
        terminal.run(&format!("{colour}{program} queue wait --kubeconfig kubeconfig -n {namespace} train"));
        let screen = terminal.wait_for(" train: pending");
        let line = screen.lines().find(|line| line.contains(" train: pending")).unwrap();
        assert!(line.chars().count() < columns.into(), "{screen}");
        assert_eq!(screen.lines().filter(|line| !line.trim().is_empty()).count(), 1, "{screen}");
        // It turns while nothing changes.
        let before = screen.clone();
        terminal.wait_until("a turn", |screen| screen != before && screen.contains(" train: pending"));
        terminal.keys(&["C-c"]);
        let (code, screen) = terminal.ended();
        assert!(code == 130 && screen.contains("interrupted"), "{code}: {screen}");
        assert!(!screen.contains("train: pending"), "the line stayed:\n{screen}");
        terminal.assert_as_before();
    }
}

/// A machine with no cluster, no Slurm and no Ray.
#[test]
fn where_no_queue_is_every_command_says_so() {
    let place = TestEnvironment::new();
    for arguments in [&["list"][..], &["wait", "x"], &["explain", "x"], &["quota"], &["cancel", "x"], &["release", "x"]]
    {
        let mut command = place.command();
        let output = command.env("PATH", "/nonexistent").arg("queue").args(arguments).output().unwrap();
        let ran = place.ran(output);
        assert_eq!(ran.status, Some(4), "{arguments:?}: {ran}");
        assert!(ran.stderr.starts_with("error: no queue was found: there is no kubeconfig, "), "{arguments:?}: {ran}");
    }
    let ran = place.run(["queue", "wait", "nobody:x"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("no target \"nobody\""), "{ran}");
}

#[test]
fn volcano_says_why_in_the_same_words() {
    let Some(place) = Place::new() else { return };
    let kube = place.kube;
    kube.block_on(async {
        let jobs = queues::api(kube, Some(&place.namespace), "batch.volcano.sh", "v1alpha1", "Job", "jobs");
        let job = queues::make(
            &jobs,
            json!({"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": {"name": "gang"},
                "spec": {"queue": "default", "minAvailable": 2, "schedulerName": "volcano", "tasks": [{"name": "node", "replicas": 2, "template": {
                    "spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]}}}]},
                "status": {"state": {"phase": "Pending"}}}),
        )
        .await;
        let groups = queues::api(kube, Some(&place.namespace), "scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups");
        queues::make(
            &groups,
            json!({"apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "PodGroup",
                "metadata": {"name": "gang", "ownerReferences": [{"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "name": "gang", "uid": job.metadata.uid}]},
                "spec": {"minMember": 2, "queue": "default"},
                "status": {"phase": "Pending", "conditions": [{"type": "Unschedulable", "status": "True", "reason": "NotEnoughResources", "message": "2/2 tasks in gang unschedulable"}]}}),
        )
        .await;
    });
    let jobs = place.json(&["queue", "list", "--on", "volcano", "-n", &place.namespace]);
    assert_eq!(
        (&jobs[0]["state"], &jobs[0]["gpus"], &jobs[0]["nodes"]),
        (&"pending".into(), &16.into(), &2.into()),
        "{jobs:#}"
    );
    assert_eq!(jobs[0]["reason"]["kind"], "waiting_for_resources");
}
