//! `aictl preload`, against servers that behave and servers that don't.

mod damage;
mod faults;
mod gc;
mod hub;
mod kill;
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::environment::{Ran, TestEnvironment};
use super::support::http::Hub;

/// aictl preload for a hub's repository, into the directory "store".
fn command(environment: &TestEnvironment, hub: &Hub, arguments: &[&str]) -> Command {
    let mut command = environment.command();
    command.env("HF_ENDPOINT", hub.server.url()).env("HF_TOKEN", "hf_token-secret").arg("preload").args(arguments);
    command.args(["--to".as_ref(), environment.path("store").as_os_str()]);
    command
}

fn run(environment: &TestEnvironment, hub: &Hub, arguments: &[&str]) -> Ran {
    let ran = environment.ran(command(environment, hub, arguments).output().unwrap());
    for secret in ["hf_token-secret", "signed-secret", "X-Amz-Signature"] {
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "a secret is printed: {ran}");
    }
    ran
}

fn repository(environment: &TestEnvironment) -> PathBuf {
    environment.path("store/hub/models--org--model")
}

/// All files below a directory, with their content.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

/// The snapshot that a branch leads to, file by file.
fn snapshot(repository: &Path) -> Vec<(String, Vec<u8>)> {
    let commit = std::fs::read_to_string(repository.join("refs/main")).unwrap();
    contents(&repository.join("snapshots").join(commit))
}

/// Files as a snapshot should have them.
fn wanted(files: &[(&str, Vec<u8>, bool)]) -> Vec<(String, Vec<u8>)> {
    let mut wanted: Vec<_> = files.iter().map(|(name, content, _)| ((*name).to_owned(), content.clone())).collect();
    wanted.sort();
    wanted
}
