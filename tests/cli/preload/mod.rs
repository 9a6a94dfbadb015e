//! `aictl preload`, against servers that behave and servers that don't.

mod archives;
mod damage;
mod faults;
mod gc;
mod hub;
mod kill;
mod nodes;
mod parts;
mod peers;
mod platform;
mod sources;
mod town;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::environment::{Ran, TestEnvironment};
use super::support::http::{Hub, noise};

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

/// A safetensors file with tensors of bytes.
fn safetensors(tensors: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut entries = serde_json::Map::new();
    let mut at = 0;
    for (name, bytes) in tensors {
        let end = at + bytes.len();
        entries.insert(
            name.clone(),
            serde_json::json!({"dtype": "U8", "shape": [bytes.len()], "data_offsets": [at, end]}),
        );
        at = end;
    }
    let json = serde_json::Value::Object(entries).to_string();
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    tensors.iter().for_each(|(_, bytes)| file.extend_from_slice(bytes));
    file
}

/// A safetensors file of a length, with one tensor.
fn shard(length: usize, seed: u64) -> Vec<u8> {
    const HEADER: usize = 128;
    let data = length - 8 - HEADER;
    let json = serde_json::json!({"w": {"dtype": "U8", "shape": [data], "data_offsets": [0, data]}}).to_string();
    let mut file = (HEADER as u64).to_le_bytes().to_vec();
    // The format lets a header end with spaces.
    file.extend_from_slice(format!("{json:<HEADER$}").as_bytes());
    file.extend_from_slice(&noise(data, seed));
    file
}
