//! What is shipped around the binary: the plugin of kubectl, the archive, the list of parts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::environment::{TestEnvironment, binary};
use crate::support;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn as_a_plugin_of_kubectl_it_says_what_its_users_type() {
    let place = TestEnvironment::new();
    let plugin = place.path("kubectl-aictl");
    symlink(binary(), &plugin).unwrap();
    let run = |arguments: &[&str]| place.ran(place.command_of(&plugin).args(arguments).output().unwrap());
    let ran = run(&["completions", "-h"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("Usage: kubectl aictl completions"), "{ran}");
    let ran = run(&["nonsense"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("Usage: kubectl aictl"), "{ran}");
    assert!(run(&["completions", "bash"]).stdout.contains("COMPLETE=bash aictl"));

    // As kubectl calls it: the words so far, the last of them unfinished.
    let path = format!("{}:/usr/bin:/bin", place.path("").display());
    let complete = |words: &[&str]| {
        let script = root().join("deploy/krew/kubectl_complete-aictl");
        let output = place.command_of(&script).env("PATH", &path).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = complete(&["dia"]);
    assert_eq!(said.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(), ["diagnose", ":4"]);
    let said = complete(&["report", "-o", ""]);
    assert!(said.lines().any(|line| line == "yaml") && said.ends_with(":4\n"), "{said}");
}

#[test]
fn the_archive_the_manifest_and_the_list_of_parts_are_made() {
    if !support::require("jq", support::program("jq").is_some()) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    // A copy of what the script reads, so that it writes nothing into the tree.
    for name in ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "man", "completions", "deploy", "src", "benches"] {
        symlink(root().join(name), place.path().join(name)).unwrap();
    }
    fs::remove_file(place.path().join("deploy")).unwrap();
    fs::create_dir_all(place.path().join("deploy/krew")).unwrap();
    for name in ["release.sh", "sbom.sh", "krew/aictl.yaml", "krew/kubectl_complete-aictl"] {
        fs::copy(root().join("deploy").join(name), place.path().join("deploy").join(name)).unwrap();
    }
    let mut command = Command::new("bash");
    command.arg("deploy/release.sh").current_dir(place.path()).env("CARGO_NET_OFFLINE", "true");
    // A small stand-in: an archive of a debug binary would take long.
    command.env("BINARY", "/bin/true").env("URL", "https://example.org/a.tar.gz");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let dist = place.path().join("dist");
    let names: Vec<String> =
        fs::read_dir(&dist).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    let archive = names.iter().find(|name| name.ends_with(".tar.gz")).unwrap();
    let listed = Command::new("tar").arg("-tzf").arg(dist.join(archive)).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in ["./aictl", "./kubectl_complete-aictl", "./LICENSE", "./man/aictl-top.1", "./completions/aictl.bash"] {
        assert!(listed.lines().any(|line| line == name), "{name} is not in\n{listed}");
    }
    let manifest = fs::read_to_string(dist.join("aictl.yaml")).unwrap();
    let manifest: serde_json::Value = aictl::view::yaml::from_str(&manifest).unwrap();
    let platform = &manifest["spec"]["platforms"][0];
    assert_eq!((&platform["uri"], &platform["bin"]), (&"https://example.org/a.tar.gz".into(), &"kubectl-aictl".into()));
    assert_eq!(platform["sha256"].as_str().unwrap().len(), 64);
    let parts = names.iter().find(|name| name.ends_with(".cdx.json")).unwrap();
    let parts: serde_json::Value = serde_json::from_slice(&fs::read(dist.join(parts)).unwrap()).unwrap();
    let components = parts["components"].as_array().unwrap();
    let has = |name: &str| components.iter().any(|component| component["name"] == name);
    assert!(has("kube") && has("ratatui") && !has("insta") && !has("openssl"), "{} parts", components.len());
}
