//! `aictl profile` of pods: a real API server, real containers, real eBPF; a kubelet of the tests'
//! own (support/node.py).

mod agents;
mod faults;
mod rights;
mod targets;
mod vanish;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::environment::{Ran, TestEnvironment, binary};
use super::support::kube::{Kube, NOBODY, free_port};
use super::support::node::Node;
use super::support::{require_some, system_torch};

/// A rank that trains nothing: 20 ms of Python, then a file is read. It says when it has come to its own code.
const WORK: &str = "
import os, time
def step():
    end = time.time() + 0.02
    n = 0
    while time.time() < end:
        n += 1
def train():
    open('/srv/' + os.uname().nodename + '.works', 'w').close()
    while True:
        step()
        open('/etc/hostname').read()
        time.sleep(0.005)
train()
";

struct Scene {
    kube: &'static Kube,
    place: TestEnvironment,
    namespace: String,
}

impl Scene {
    fn new(name: &str) -> Option<Scene> {
        Some(Scene::at(Kube::shared()?, name))
    }

    /// At a server other than the shared one.
    fn at(kube: &'static Kube, name: &str) -> Scene {
        let place = TestEnvironment::new();
        let namespace = kube.namespace(name);
        place.write("kubeconfig", kube.kubeconfig(&namespace));
        Scene { kube, place, namespace }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.place.command();
        command.args(["profile", "--kubeconfig"]).arg(self.place.path("kubeconfig")).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.place.ran(self.command(arguments).output().unwrap())
    }

    fn node(&self, name: &str) -> Option<Node> {
        Node::start(self.kube, name, binary())
    }

    fn python(&self, node: &Node, pod: &str, labels: &Value, env: &[(&str, &str)]) {
        self.put_work(node, WORK);
        let own = env.iter().any(|(name, _)| *name == "OWN_PYTHON");
        let python = if own { "/opt/own/python3" } else { "/usr/bin/python3" };
        node.pod(&self.namespace, pod, labels, &[python, "/srv/work.py"], env);
        self.wait_for_work(node, pod);
    }

    /// Gives the containers of a node their program.
    fn put_work(&self, node: &Node, work: &str) {
        std::fs::write(node.share().join("work.py"), work).unwrap();
    }

    /// Waits until a pod's program has come to its own code.
    fn wait_for_work(&self, node: &Node, pod: &str) {
        let begin = Instant::now();
        while !node.share().join(format!("{pod}.works")).exists() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{pod} does not work: {}", node.log(pod));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// aictl, while it runs.
    fn start(&self, arguments: &[&str]) -> Child {
        let file = self.place.path("said");
        let said = File::create(&file).unwrap();
        let child = self.command(arguments).stdout(Stdio::piped()).stderr(said).spawn().unwrap();
        std::fs::rename(file, self.said_by(&child)).unwrap();
        child
    }

    /// The file of what one that was started says.
    fn said_by(&self, child: &Child) -> PathBuf {
        self.place.path(&format!("said-{}", child.id()))
    }

    /// Waits until one that was started has said something.
    fn wait_for_words(&self, child: &Child, words: &str) {
        let begin = Instant::now();
        let said = || std::fs::read_to_string(self.said_by(child)).unwrap().replace('\n', " ");
        while !said().contains(words) {
            assert!(begin.elapsed() < Duration::from_secs(60), "no word of {words}: {}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an agent is there and captures into a file; gives its pod's name.
    fn wait_for_agent(&self, node: &Node) -> String {
        self.wait_for_data(node);
        node.agents(&self.namespace).first().unwrap().clone()
    }

    /// Waits until something is recorded.
    fn wait_for_data(&self, node: &Node) {
        self.wait_for_file(node, "run.pftrace");
    }

    /// Waits until something is recorded into a file.
    fn wait_for_file(&self, node: &Node, file: &str) {
        let begin = Instant::now();
        // The file is written from the moment the probes are in place.
        let begun = || std::fs::metadata(self.place.path(file)).is_ok_and(|data| data.len() > 0);
        while !begun() {
            assert!(begin.elapsed() < Duration::from_secs(60), "no agent: {}", node.log("node"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until what is recorded so far, as the report has it, is as wanted.
    fn wait_for_report(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let begin = Instant::now();
        loop {
            let ran = self.place.run(["report", "run.pftrace", "-o", "json"]);
            if serde_json::from_str(&ran.stdout).is_ok_and(|report| wanted(&report)) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{what}: never: {ran}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many seconds the data that came so far are long.
    fn seconds(&self) -> Option<f64> {
        let ran = self.place.run(["report", "run.pftrace", "-o", "json"]);
        serde_json::from_str::<Value>(&ran.stdout).ok()?["duration_s"].as_f64()
    }

    /// Waits until they are longer than that.
    fn wait_for_seconds(&self, seconds: f64) {
        let long = |report: &Value| report["duration_s"].as_f64().is_some_and(|duration| duration > seconds);
        self.wait_for_report("a longer recording", long);
    }

    /// Pod security of the namespace.
    fn label(&self, level: &str) {
        use k8s_openapi::api::core::v1::Namespace;
        let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        self.kube.block_on(async {
            let namespaces: kube::Api<Namespace> = kube::Api::all(self.kube.client());
            let patch = kube::api::Patch::Merge(&labels);
            namespaces.patch(&self.namespace, &kube::api::PatchParams::default(), &patch).await.unwrap();
        });
    }

    /// Lets the user who may do nothing see pods here.
    fn allow_nobody(&self) {
        use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
        let role = json!({"metadata": {"name": "see"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]});
        let binding = json!({"metadata": {"name": "see"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "see"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}]});
        self.kube.block_on(async {
            let roles: kube::Api<Role> = kube::Api::namespaced(self.kube.client(), &self.namespace);
            let bindings: kube::Api<RoleBinding> = kube::Api::namespaced(self.kube.client(), &self.namespace);
            let make = kube::api::PostParams::default();
            roles.create(&make, &serde_json::from_value(role).unwrap()).await.unwrap();
            bindings.create(&make, &serde_json::from_value(binding).unwrap()).await.unwrap();
        });
    }

    fn end(&self, child: Child) -> Ran {
        let said = self.said_by(&child);
        let mut output = child.wait_with_output().unwrap();
        output.stderr = std::fs::read(said).unwrap();
        self.place.ran(output)
    }

    fn report(&self, file: &str) -> Value {
        let ran = self.place.run(["report", file, "-o", "json"]);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
    }
}

#[test]
fn a_pod_is_profiled_from_a_laptop_and_nothing_stays() {
    let Some(scene) = Scene::new("pods") else { return };
    let Some(node) = scene.node("n") else { return };
    // Its interpreter is nowhere but in the container's own file system.
    scene.python(&node, "train-0", &json!({}), &[("OWN_PYTHON", "1"), ("RANK", "3")]);
    let ran = scene.run(&["pod/train-0", "-d", "2s", "-w", "run.pftrace", "-v", "--layers", "sched,syscall,python"]);
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}\n{}", node.log("node"));
    assert!(ran.stderr.contains("first data "), "{ran}");
    assert!(ran.stderr.contains("attached in "), "{ran}");
    let report = scene.report("run.pftrace");
    let process = report["processes"].as_array().unwrap().iter().find(|p| p["place"].is_object()).unwrap();
    assert_eq!(process["rank"], 3, "{report:#}");
    assert_eq!(process["place"]["node"], node.name.as_str());
    assert_eq!(process["place"]["pod"], format!("{}/train-0", scene.namespace));
    let python: Vec<&str> =
        report["top"]["python"].as_array().unwrap().iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(python.iter().any(|name| name.contains("step")), "{python:?}: {ran}");
    let about = &report["capture"]["nodes"][0];
    assert_eq!(about["node"], node.name.as_str());
    assert!(about["round_trips"].as_u64().unwrap() >= 3, "{about}");
    // The same machine: its clock is ours, as far as round trips can tell.
    let (offset, error) = (about["clock_offset_ns"].as_i64().unwrap(), about["clock_error_ns"].as_u64().unwrap());
    assert!(offset.unsigned_abs() <= error + 1, "{about}");
    assert!(scene.place.run(["report", "run.pftrace"]).stdout.contains("this machine's, give or take"));
    node.wait_for_no_agent(&scene.namespace);
}

#[test]
fn what_is_not_there_or_not_permitted_is_said_before_anything_is_made() {
    let Some(scene) = Scene::new("podless") else { return };
    let ran = scene.run(&["train-0", "-d", "1s"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no pod train-0 in namespace"), "{ran}");
    let ran = scene.run(&["job/train", "-d", "1s"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no pod of job train"), "{ran}");
    let ran = scene.run(&["deploy/train", "-d", "1s"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("no target"), "{ran}");
    let ran = scene.run(&["pod/../../x", "-d", "1s"]);
    assert_eq!(ran.status, Some(2), "{ran}");
    let ran = scene.run(&["x", "--pid", "1", "-d", "1s"]);
    assert_eq!(ran.status, Some(2), "{ran}");
    scene.place.write("kubeconfig", scene.kube.kubeconfig_at(&scene.kube.url(), NOBODY, &scene.namespace));
    let ran = scene.run(&["train-0", "-d", "1s"]);
    assert!(ran.status == Some(4) && ran.stderr.contains("cannot get resource \"pods\""), "{ran}");
}

const QUICK: [&str; 2] = ["--layers", "sched,python"];

#[test]
fn a_broken_connection_is_taken_up_again_and_loses_nothing() {
    let Some(scene) = Scene::new("dropped") else { return };
    let Some(mut node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-d", "8s", "-w", "run.pftrace"], &QUICK[..]].concat());
    scene.wait_for_agent(&node);
    node.say("drop");
    node.say("joined");
    // Until what happened after that comes as well.
    let came = scene.seconds().unwrap_or_default();
    scene.wait_for_seconds(came + 0.3);
    // Away for a while: no new connection is taken either.
    node.say("refuse");
    std::thread::sleep(Duration::from_millis(1500));
    node.say("accept");
    let ran = scene.end(child);
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}\n{}", node.log("node"));
    assert!(ran.stderr.contains("taking it up again"), "{ran}");
    let report = scene.report("run.pftrace");
    assert!(report["capture"]["nodes"][0]["resumed"].as_u64().unwrap() >= 2, "{:#}", report["capture"]);
    assert_eq!(report["capture"]["lost_events"], 0, "{:#}", report["capture"]);
    assert!(report["duration_s"].as_f64().unwrap() > 7.5, "{report:#}");
    node.wait_for_no_agent(&scene.namespace);
}

#[test]
fn an_evicted_agent_is_told_and_what_came_is_kept() {
    let Some(scene) = Scene::new("evicted") else { return };
    let Some(mut node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-d", "60s", "-w", "run.pftrace"], &QUICK[..]].concat());
    let agent = scene.wait_for_agent(&node);
    node.say(&format!("evict {agent}"));
    let ran = scene.end(child);
    assert!(ran.stderr.contains("Evicted: The node was low on resource: memory."), "{ran}");
    let report = scene.report("run.pftrace");
    assert!(report["capture"]["nodes"][0]["broke_off"].as_str().unwrap().contains("Evicted"), "{report:#}");
    node.wait_for_no_agent(&scene.namespace);
}

#[test]
fn two_captures_of_one_pod_and_one_that_is_replaced() {
    let Some(scene) = Scene::new("twice") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({"app": "x"}), &[]);
    let first = scene.start(&[&["train-0", "-d", "40s", "-w", "a.pftrace"], &QUICK[..]].concat());
    scene.wait_for_file(&node, "a.pftrace");
    let second = scene.start(&[&["-l", "app=x", "-c", "main", "-d", "2s", "-w", "b.pftrace"], &QUICK[..]].concat());
    let second = scene.end(second);
    assert!(matches!(second.status, Some(0 | 4)), "{second}");
    node.delete(&scene.namespace, "train-0");
    let first = scene.end(first);
    assert!(first.stderr.contains("pod train-0 was deleted while it was recorded"), "{first}");
    for file in ["a.pftrace", "b.pftrace"] {
        assert!(scene.report(file)["duration_s"].as_f64().unwrap() > 1.0);
    }
    node.wait_for_no_agent(&scene.namespace);
}

#[test]
fn ctrl_c_ends_it_with_a_report_and_without_an_agent() {
    let Some(scene) = Scene::new("ctrlc") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let child = scene.start(&[&["train-0", "-w", "run.pftrace"], &QUICK[..]].concat());
    scene.wait_for_agent(&node);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.id() as i32).unwrap(),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let ran = scene.end(child);
    assert!(matches!(ran.status, Some(0 | 4)) && ran.stderr.contains("recorded run.pftrace"), "{ran}");
    node.wait_for_no_agent(&scene.namespace);
}

#[test]
fn what_keeps_an_agent_from_starting_is_said() {
    let Some(scene) = Scene::new("refused") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let ran = scene.run(&["train-0", "-d", "1s", "-w", "run.pftrace", "--agent-image", "missing/aictl:1"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("ErrImagePull: not found"), "{ran}");
    assert!(ran.stderr.contains("--agent-image") && !ran.stderr.contains('\u{1b}'), "{ran}");
    assert!(!scene.place.path("run.pftrace").exists(), "a file was left behind");
    let ran = scene.run(&["train-0", "-d", "1s", "--process", "no such thing"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no process of these containers matches"), "{ran}");
    assert!(ran.stderr.contains("work.py"), "{ran}");
    let ran = scene.run(&["train-0", "-d", "1s", "-c", "other"]);
    assert!(
        ran.status == Some(1) && ran.stderr.contains("no container other") && ran.stderr.contains("it has main"),
        "{ran}"
    );
    let ran = scene.run(&["trian-0", "-d", "1s"]);
    assert!(ran.stderr.contains("did you mean train-0?"), "{ran}");
    node.wait_for_no_agent(&scene.namespace);

    // Pod security admission, as clusters have it that care.
    for level in ["baseline", "restricted"] {
        scene.label(level);
        let ran = scene.run(&["train-0", "-d", "1s", "-w", "run.pftrace"]);
        assert!(ran.status == Some(4) && ran.stderr.contains(&format!("violates PodSecurity \"{level}")), "{ran}");
        assert!(ran.stderr.contains("--agent-namespace") && ran.stderr.contains("--agent daemonset"), "{ran}");
        let label =
            format!("kubectl label namespace {} pod-security.kubernetes.io/enforce=privileged", scene.namespace);
        assert!(ran.stderr.replace('\n', " ").contains(&label), "{ran}");
        assert!(!scene.place.path("run.pftrace").exists() && node.agents(&scene.namespace).is_empty(), "{ran}");
    }
    let other = scene.kube.namespace("agents");
    let ran =
        scene.run(&[&["train-0", "-d", "1s", "--agent-namespace", &other, "-w", "o.pftrace"], &QUICK[..]].concat());
    assert!(matches!(ran.status, Some(0 | 4)) && ran.stderr.contains("recorded o.pftrace"), "{ran}");
    node.wait_for_no_agent(&other);

    // Somebody who may see pods and no more.
    scene.allow_nobody();
    scene.place.write("kubeconfig", scene.kube.kubeconfig_at(&scene.kube.url(), NOBODY, &scene.namespace));
    let ran = scene.run(&["train-0", "-d", "1s"]);
    for missing in ["create pods in", "delete pods in", "create pods/exec in"] {
        assert!(ran.status == Some(4) && ran.stderr.contains(missing), "{missing}: {ran}");
    }
}

#[test]
fn an_installed_agent_is_used_and_stays() {
    let Some(scene) = Scene::new("installed") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let ran = scene.run(&["train-0", "-d", "1s", "--agent", "daemonset", "--agent-namespace", &scene.namespace]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no pod of the DaemonSet runs there"), "{ran}");
    node.privileged(
        &scene.namespace,
        "agent-x",
        &json!({"app.kubernetes.io/name": "aictl-agent"}),
        &["/usr/bin/sleep", "300"],
    );
    let arguments =
        ["train-0", "-d", "2s", "--agent", "daemonset", "--agent-namespace", &scene.namespace, "-w", "run.pftrace"];
    let ran = scene.run(&[&arguments[..], &QUICK[..]].concat());
    assert!(
        matches!(ran.status, Some(0 | 4)) && ran.stderr.contains("recorded run.pftrace"),
        "{ran}\n{}",
        node.log("node")
    );
    assert!(scene.report("run.pftrace")["top"]["python"].as_array().unwrap().iter().any(|row| row["name"] == "step"));
    assert!(node.agents(&scene.namespace).is_empty(), "no pod was made");
}

/// Two ranks that reduce together, of which rank 1 does something else first.
const RANK: &str = "
import os, time, torch, torch.distributed as dist
rank = int(os.environ['WHO'])
torch.set_num_threads(1)
dist.init_process_group('gloo', init_method='tcp://127.0.0.1:' + os.environ['PORT'], rank=rank, world_size=2)
def preprocess():
    end = time.time() + 0.03
    while time.time() < end:
        pass
def train():
    while True:
        if rank == 1:
            preprocess()
        dist.all_reduce(torch.ones(1000))
        time.sleep(0.002)
# Both have come this far.
dist.all_reduce(torch.ones(1000))
open('/srv/' + os.uname().nodename + '.works', 'w').close()
train()
";

#[test]
fn the_straggler_of_a_job_on_two_nodes_is_named_with_its_node() {
    let Some(scene) = Scene::new("ranks") else { return };
    if require_some("python3-torch", system_torch()).is_none() {
        return;
    }
    let (Some(one), Some(two)) = (scene.node("one"), scene.node("two")) else { return };
    let port = free_port().to_string();
    for (rank, node) in [&one, &two].into_iter().enumerate() {
        std::fs::write(node.share().join("rank.py"), RANK).unwrap();
        let labels = json!({"batch.kubernetes.io/job-name": "train", "batch.kubernetes.io/job-completion-index": rank.to_string()});
        let who = rank.to_string();
        let env = [("WHO", who.as_str()), ("PORT", &port), ("GLOO_SOCKET_IFNAME", "lo")];
        node.pod(&scene.namespace, &format!("train-{rank}"), &labels, &["/usr/bin/python3", "/srv/rank.py"], &env);
    }
    for (rank, node) in [&one, &two].into_iter().enumerate() {
        scene.wait_for_work(node, &format!("train-{rank}"));
    }
    let ran =
        scene.run(&["job/train", "-d", "4s", "-w", "run.pftrace", "-v", "--layers", "sched,syscall,python,torch"]);
    // docs/profile-pods.md says how long that takes.
    eprintln!("{}", ran.stderr.lines().filter(|line| line.contains("first data")).collect::<String>());
    assert!(matches!(ran.status, Some(0 | 4)), "{ran}\n{}\n{}", one.log("node"), one.log("train-0"));
    let report = scene.report("run.pftrace");
    let late = &report["stragglers"][0];
    assert_eq!(late["rank"], 1, "{ran}\n{:#}", report["stragglers"]);
    assert_eq!(late["place"]["node"], two.name.as_str(), "{late:#}");
    assert!(ran.stdout.contains(&two.name), "{ran}");
    let nodes: Vec<&str> =
        report["capture"]["nodes"].as_array().unwrap().iter().map(|n| n["node"].as_str().unwrap()).collect();
    assert_eq!(nodes, [one.name.as_str(), two.name.as_str()]);
}

/// A message of the protocol, as docs/profile-pods.md has it.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32).to_le_bytes(), body].concat()
}

#[test]
fn an_agent_whose_laptop_died_ends_itself() {
    let Some(scene) = Scene::new("died") else { return };
    let Some(node) = scene.node("n") else { return };
    scene.python(&node, "train-0", &json!({}), &[]);
    let pod = node.get(&scene.namespace, "train-0");
    let id = pod.status.unwrap().container_statuses.unwrap()[0].container_id.clone().unwrap();
    let socket = scene.place.path("agent.sock");
    let mut agent = Command::new(binary())
        .args(["agent", "serve", "--deadline", "100", "--patience", "3", "--socket"])
        .arg(&socket)
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(60), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let order = json!({"protocol": 2, "version": "x", "next": 0, "order": {
        "containers": [{"id": id.trim_start_matches("containerd://"), "pod": "a/b", "container": "main", "rank": null}],
        "process": null, "layers": ["sched"], "duration_ms": null, "max_overhead": 0.02, "python_hz": 99,
        "syscall_threshold_ns": 100000}});
    stream.write_all(&message(1, order.to_string().as_bytes())).unwrap();
    // Events come, so probes are in place; then nothing is heard of us any more.
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains("attached") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    let silent = Instant::now();
    let status = loop {
        if let Some(status) = agent.try_wait().unwrap() {
            break status;
        }
        assert!(silent.elapsed() < Duration::from_secs(60), "the agent lives on");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success() && !socket.exists());
    // And strangers are told off: a wrong protocol, no words of ours.
    drop(stream);
}
