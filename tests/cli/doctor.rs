//! `aictl doctor`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::environment::{Ran, TestEnvironment};
use crate::support::kube::{Kube, NOBODY};

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"))
}

fn check<'j>(json: &'j Value, name: &str) -> &'j Value {
    let checks = json["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {json:#}"))
}

#[test]
fn every_thing_missing_says_what_to_do() {
    let environment = TestEnvironment::new().set("LD_LIBRARY_PATH", "/nonexistent");
    let ran = environment.run(["doctor", "-o", "json"]);
    let report = json(&ran);
    assert_eq!(report["schema"], "aictl.doctor/v1");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 15, "{report:#}");
    for check in checks {
        assert_eq!(check["state"] != "ok", check["fix"].is_string(), "{check:#}");
        assert!(!check["detail"].as_str().unwrap().is_empty(), "{check:#}");
    }
    assert_eq!(check(&report, "kubeconfig")["state"], "absent");
    assert!(check(&report, "kubeconfig")["fix"].as_str().unwrap().contains("--kubeconfig"));
    assert_eq!(check(&report, "terminal")["state"], "absent");
    let shown = environment.run(["doctor", "-o", "wide"]);
    for words in ["MACHINE", "GPU", "CLUSTER", "→ name one with --kubeconfig FILE", "for submit, queue"] {
        assert!(shown.stdout.contains(words), "{words}: {shown}");
    }
}

#[test]
fn what_is_asked_for_decides_the_exit_code() {
    let environment = TestEnvironment::new();
    let ran = environment.run(["doctor", "queue", "-o", "name"]);
    assert_eq!(ran.status, Some(3), "{ran}");
    assert!(ran.stdout.lines().any(|name| name == "kubeconfig") && !ran.stdout.contains("btf"), "{ran}");
    let ran = environment.run(["doctor", "preload"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    environment.write("kubeconfig", "apiVersion: v1\nkind: Config\ncontexts: nonsense\n");
    let ran = environment.run(["doctor", "--kubeconfig", "kubeconfig", "-o", "json"]);
    assert_eq!((ran.status, &check(&json(&ran), "kubeconfig")["state"]), (Some(3), &"broken".into()), "{ran}");
    // A server that is not there.
    let port = 1;
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    environment.write("kubeconfig", config);
    let ran = environment.run(["doctor", "--kubeconfig", "kubeconfig", "--deadline", "20s", "-o", "json"]);
    assert_ne!(check(&json(&ran), "api-server")["state"], "ok", "{ran}");
}

#[test]
fn the_server_is_asked_what_we_may_do() {
    let Some(kube) = Kube::shared() else { return };
    let environment = TestEnvironment::new();
    let ask = |token: Option<&str>| {
        let config =
            token.map_or_else(|| kube.kubeconfig("default"), |token| kube.kubeconfig_at(&kube.url(), token, "default"));
        environment.write("kubeconfig", config);
        environment.run(["doctor", "diagnose", "top", "queue", "--kubeconfig", "kubeconfig", "-o", "json"])
    };
    let report = json(&ask(None));
    for name in ["may-diagnose", "may-top", "may-queue"] {
        assert_eq!(check(&report, name)["state"], "ok", "{report:#}");
    }
    let ran = ask(Some(NOBODY));
    assert_eq!(ran.status, Some(3), "{ran}");
    let report = json(&ran);
    let detail = check(&report, "may-top")["detail"].as_str().unwrap();
    assert!(detail.contains("get pods/proxy in aictl"), "{detail}");
    assert!(check(&report, "may-top")["fix"].as_str().unwrap().contains("deploy/README.md"));
}

/// The table of deploy/README.md and the program's own list are the same.
#[test]
fn the_page_of_needs_lists_what_the_program_asks_about() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md")).unwrap();
    for need in aictl::cmd::needs() {
        let lacks = format!("deploy/README.md lacks {need:?}");
        let resource = if need.2.is_empty() { need.3.to_owned() } else { format!("{}.{}", need.3, need.2) };
        let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains(&resource));
        assert!(
            rows.into_iter().any(|row| row.split('|').nth(2).is_some_and(|verbs| verbs.contains(need.1))),
            "{lacks}"
        );
    }
}
