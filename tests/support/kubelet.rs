//! A kubelet that has logs and nothing else (kubelet.py), for the API server to ask.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// It ends when this is dropped.
pub struct Kubelet {
    child: Child,
    /// The port that a node's `daemonEndpoints` is to name.
    pub port: u16,
    /// NAMESPACE-POD-CONTAINER in here is that container's output.
    pub logs: PathBuf,
}

impl Kubelet {
    /// Starts it, with its files in a directory.
    pub fn start(directory: &Path) -> Kubelet {
        let file = |name: &str| directory.join(name).display().to_string();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-keyout", &file("kubelet.key"), "-out", &file("kubelet.crt")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let logs = directory.join("logs");
        std::fs::create_dir_all(&logs).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/kubelet.py");
        let mut child = Command::new("/usr/bin/python3")
            .args([script, &file("logs"), &file("kubelet.crt"), &file("kubelet.key")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Kubelet { child, port: line.trim().parse().unwrap(), logs }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}
