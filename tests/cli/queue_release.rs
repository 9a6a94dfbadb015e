//! Jobs that are held for others or for a model, whoever may see what; over a real API server.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::environment::{Ran, TestEnvironment};
use crate::support::kube::{Kube, NOBODY};
use crate::support::queues;

struct Place {
    environment: TestEnvironment,
    kube: &'static Kube,
    namespace: String,
}

impl Place {
    fn new() -> Option<Place> {
        let kube = queues::shared()?;
        let (namespace, environment) = (kube.namespace("release"), TestEnvironment::new());
        let file = environment.write("kubeconfig", kube.kubeconfig(&namespace));
        // One engine alone: what others' tests make in the same server is of no interest.
        environment.write("config.yaml", "targets:\n- {name: plain, engine: kubernetes}\n");
        let environment = environment.set("KUBECONFIG", &file.display().to_string());
        Some(Place { environment: environment.set("AICTL_NAMESPACE", &namespace), kube, namespace })
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.environment.run([arguments, &["--config", "config.yaml"]].concat())
    }

    fn submit(&self, name: &str, more: &[&str]) {
        let fixed = ["submit", "--config", "config.yaml", "--to", "plain", "--image", "i", "--name", name];
        let ran = self.environment.run([&fixed[..], more, &["--", "true"]].concat());
        assert_eq!(ran.status, Some(0), "{ran}");
    }

    fn listed(&self, name: &str) -> Value {
        let ran = self.run(&["queue", "list", "--on", "plain", "-o", "json"]);
        let jobs: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        let found = jobs.as_array().unwrap().iter().find(|job| job["name"].as_str().unwrap().starts_with(name));
        found.unwrap_or_else(|| panic!("no {name}: {ran}")).clone()
    }

    /// Says of a Job what its controller would.
    fn ends(&self, name: &str) {
        let name = self.listed(name)["name"].as_str().unwrap().to_owned();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": "2026-01-01T00:01:00Z"});
        let status = json!({"status": {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z", "succeeded": 1,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}});
        self.kube.block_on(async {
            let jobs: Api<Job> = Api::namespaced(self.kube.client(), &self.namespace);
            jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        });
    }
}

#[test]
fn what_is_ready_is_released_once() {
    let Some(place) = Place::new() else { return };
    place.submit("first", &[]);
    place.submit("second", &["--after", "first"]);
    place.submit(
        "third",
        &["--after", "first", "--needs-model", &place.environment.path("model").display().to_string()],
    );
    place.submit("mine", &["--after", "first:any", "--hold"]);
    let second = place.listed("second");
    assert_eq!(
        (&second["state"], &second["waits_for"]["after"][0]),
        (&"held".into(), &"first:ok".into()),
        "{second:#}"
    );
    let release = |more: &[&str]| place.run(&[&["queue", "release", "--ready"], more].concat());
    let ran = release(&[]);
    assert!(ran.status == Some(0) && ran.stdout.is_empty(), "{ran}");
    assert!(ran.stderr.contains("waits: plain:") && ran.stderr.contains("nothing to release"), "{ran}");
    place.ends("first");
    let ran = release(&["--dry-run"]);
    assert!(ran.stdout.contains("second") && ran.stdout.contains("would be released"), "{ran}");
    assert_eq!(place.listed("second")["state"], "held");
    let ran = release(&[]);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran}");
    assert!(ran.stdout.contains("second") && ran.stderr.contains("is not preloaded yet"), "{ran}");
    assert!(ran.stderr.contains("stays held: it was submitted with --hold"), "{ran}");
    assert_ne!(place.listed("second")["state"], "held");
    let ran = release(&[]);
    assert!(ran.status == Some(0) && ran.stdout.is_empty(), "once: {ran}");
    // The model comes.
    place.environment.write("model/config.json", "{}");
    let ran = release(&[]);
    assert!(ran.stdout.contains("third") && ran.stdout.lines().count() == 1, "{ran}");
    let ran = place.run(&["queue", "release", "mine"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("released"), "{ran}");
    assert_eq!(place.run(&["queue", "release"]).status, Some(2));
}

#[test]
fn who_may_not_see_all_namespaces_sees_his_own() {
    let Some(place) = Place::new() else { return };
    place.submit("seen", &[]);
    let meta = json!({"name": "reader"});
    let role: Role = serde_json::from_value(
        json!({"metadata": meta, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]}),
    )
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}]}))
    .unwrap();
    place.kube.block_on(async {
        let (roles, bindings): (Api<Role>, Api<RoleBinding>) = (
            Api::namespaced(place.kube.client(), &place.namespace),
            Api::namespaced(place.kube.client(), &place.namespace),
        );
        roles.create(&PostParams::default(), &role).await.unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
    });
    let environment = TestEnvironment::new();
    let config = place.kube.kubeconfig_at(&place.kube.url(), NOBODY, &place.namespace);
    let file = environment.write("kubeconfig", config);
    let environment = environment.set("KUBECONFIG", &file.display().to_string());
    let ran = environment.run(["queue", "list", "--on", "kubernetes"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(ran.stdout.contains("seen-"), "{ran}");
    assert!(ran.stderr.contains(&format!("these are the jobs of namespace {}", place.namespace)), "{ran}");
    let ran = environment.run(["queue", "list", "--on", "kubernetes", "-A"]);
    assert!(ran.status == Some(4) && ran.stderr.contains("not permitted"), "{ran}");
}

#[test]
fn a_shell_is_told_names_and_no_errors() {
    let Some(place) = Place::new() else { return };
    place.submit("train", &[]);
    let told = |environment: &TestEnvironment, words: &[&str]| {
        let mut command = environment.command();
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        command.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true");
        let ran = environment.ran(command.arg("--").args(words).output().unwrap());
        assert!(ran.status == Some(0) && ran.stderr.is_empty(), "{ran}");
        ran.stdout
    };
    let place_config = |more: &str| place.environment.write(".config/aictl/config.yaml", more);
    place_config(
        "targets:\n- {name: plain, engine: kubernetes}\n- {name: far, engine: slurm, address: 'http://127.0.0.1:1'}\n",
    );
    assert!(told(&place.environment, &["aictl", "queue", "explain", "tr"]).contains("train-"));
    let targets = told(&place.environment, &["aictl", "queue", "list", "--on", ""]);
    assert!(targets.contains("plain") && targets.contains("far") && targets.contains("kueue"), "{targets}");
    // A cluster that is away says nothing, soon.
    let away = TestEnvironment::new();
    let file = away.write("kubeconfig", place.kube.kubeconfig_at("https://127.0.0.1:1", "t", "default"));
    let away = away.set("KUBECONFIG", &file.display().to_string());
    assert_eq!(told(&away, &["aictl", "queue", "cancel", "x"]).trim(), "");
}
