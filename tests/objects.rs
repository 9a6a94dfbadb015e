//! The committed eBPF objects are what their sources compile to.
#![allow(clippy::unwrap_used, reason = "what a test needs fails it where it is missing")]

mod support;

use std::path::Path;
use std::process::Command;

/// The compiler that `src/profile/bpf/build.sh` uses; another version gives other bytes.
const CLANG: &str = "clang-19";

#[test]
fn the_committed_objects_are_up_to_date() {
    let there = support::program(CLANG).is_some() && Path::new("/usr/include/bpf/bpf_helpers.h").exists();
    if !support::require("clang-19 and libbpf's headers", there) {
        return;
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile/bpf");
    let fresh = tempfile::tempdir().unwrap();
    let status = Command::new(sources.join("build.sh")).arg("--check").arg(fresh.path()).status().unwrap();
    assert!(status.success(), "build.sh failed");
    let mut compared = 0;
    for entry in std::fs::read_dir(fresh.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let committed = std::fs::read(sources.join(&name)).unwrap_or_default();
        let built = std::fs::read(fresh.path().join(&name)).unwrap();
        assert!(committed == built, "{name:?} is not what its source compiles to: run src/profile/bpf/build.sh");
        compared += 1;
    }
    assert!(compared >= 2, "only {compared} objects were built");
}
