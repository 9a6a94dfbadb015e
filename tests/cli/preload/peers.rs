//! Nodes that give a model to each other: processes with stores of their own, and one source.

use std::fs;
use std::process::{Child, Stdio};

use super::super::environment::{Ran, TestEnvironment};
use super::super::support::http::{Hub, Served, Server, noise, sha256};
use super::archives::archive;
use super::sources::registry;
use super::{command, contents, repository, run, snapshot, wanted};

/// A node among peers: a store, and an address.
struct Node {
    environment: TestEnvironment,
    address: String,
}

/// So many nodes that know each other by a file.
fn nodes(count: usize, others: &[String]) -> Vec<Node> {
    let nodes: Vec<Node> = (0..count)
        .map(|_| {
            let port = super::super::support::kube::free_port();
            let environment = TestEnvironment::new().set("AICTL_PEER_TOKEN", "shared-secret");
            Node { environment, address: format!("127.0.0.1:{port}") }
        })
        .collect();
    let list: Vec<String> = nodes.iter().map(|node| node.address.clone()).chain(others.iter().cloned()).collect();
    for node in &nodes {
        node.environment.write("peers", list.join("\n"));
    }
    nodes
}

impl Node {
    fn start(&self, hub: &Hub, count: usize, arguments: &[&str]) -> Child {
        let count = count.to_string();
        let list = format!("@{}", self.environment.path("peers").display());
        let flags = ["org/model", "--peers", &list, "--peer-listen", &self.address, "--peer-count", &count];
        let mut command = command(&self.environment, hub, &[&flags, arguments].concat());
        command.args(["-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn end(&self, child: Child) -> Ran {
        self.environment.ran(child.wait_with_output().unwrap())
    }
}

#[test]
fn eight_nodes_read_the_source_about_once() {
    let files = [
        ("a.bin", noise(60_000_000, 1), true),
        ("b.bin", noise(20_000_000, 2), true),
        ("c.json", noise(300_000, 3), false),
    ];
    let size: u64 = files.iter().map(|(_, content, _)| content.len() as u64).sum();
    let hub = Hub::with("org/model", &files);
    let nodes = nodes(8, &[]);
    let running: Vec<Child> = nodes.iter().map(|node| node.start(&hub, 8, &["--connections", "8"])).collect();
    for (node, child) in nodes.iter().zip(running) {
        let ran = node.end(child);
        assert_eq!(ran.status, Some(0), "{ran}");
        assert!(!ran.stderr.contains("shared-secret"), "{ran}");
        assert!(snapshot(&repository(&node.environment)) == wanted(&files));
    }
    let sent = hub.server.take_bytes();
    assert!(sent as f64 <= size as f64 * 1.2, "the source sent {sent} for {size}");
}

#[test]
fn a_node_that_comes_late_takes_it_from_who_has_it() {
    let files = [("a.bin", noise(40_000_000, 1), true)];
    let hub = Hub::with("org/model", &files);
    let nodes = nodes(2, &[]);
    let first = nodes[0].start(&hub, 1, &[]);
    // Alone it has all from the source, and goes on giving while it waits for nobody: it must end.
    let ran = nodes[0].end(first);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(hub.server.take_bytes(), 40_000_000);
    let (again, late) = (nodes[0].start(&hub, 2, &[]), nodes[1].start(&hub, 2, &[]));
    for (node, child) in nodes.iter().zip([again, late]) {
        let ran = node.end(child);
        assert_eq!(ran.status, Some(0), "{ran}");
        assert!(snapshot(&repository(&node.environment)) == wanted(&files));
    }
    assert_eq!(hub.server.take_bytes(), 0, "the second node had all from the first");
}

/// A peer that is there, knows the secret, and gives other bytes, with the right sum of what it gives.
#[test]
fn a_peer_that_lies_is_found_out() {
    let files: Vec<(String, Vec<u8>)> = (0..10).map(|i| (format!("{i}.bin"), noise(1_000_000, i))).collect();
    let files: Vec<(&str, Vec<u8>, bool)> =
        files.iter().map(|(name, content)| (name.as_str(), content.clone(), true)).collect();
    let hub = Hub::with("org/model", &files);
    let liar = Server::start();
    liar.document("/v1/state", &[], "done");
    for (_, content, _) in &files {
        let lie = noise(content.len(), 999);
        let mut served = Served::new(lie.clone());
        served.headers.push(("x-aictl-sha256".to_owned(), sha256(&lie)));
        liar.file(&format!("/v1/blob/{}", sha256(content)), served);
    }
    let liars = liar.url().replace("http://", "");
    let nodes = nodes(1, std::slice::from_ref(&liars));
    let ran = nodes[0].end(nodes[0].start(&hub, 2, &["--connections", "2"]));
    assert_eq!(ran.status, Some(0), "{ran}");
    let repository = repository(&nodes[0].environment);
    assert!(snapshot(&repository) == wanted(&files));
    // Of ten files it owns some: one chance in a thousand that it owns none.
    assert!(liar.take_bytes() > 0);
    let banned = ran.stderr.lines().find(|line| line.contains("peer_banned")).unwrap_or_else(|| panic!("{ran}"));
    assert!(banned.contains(&liars), "{banned}");
    let aside = std::fs::read_dir(repository.join(".aictl/quarantine")).unwrap().count();
    assert!(aside >= 1, "the lie is kept apart");
}

#[test]
fn without_the_secret_nothing_is_given() {
    let files = [("a.bin", noise(1_000_000, 1), true)];
    let hub = Hub::with("org/model", &files);
    let nodes = nodes(2, &[]);
    let stranger = nodes[0].address.clone();
    // It waits for the second one, and serves meanwhile.
    let child = nodes[0].start(&hub, 2, &["--peer-wait", "60s"]);
    let path = format!("http://{stranger}/v1/blob/{}", sha256(&files[0].1));
    let curl = |token: &str| {
        let asked = std::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--retry",
                "60",
                "--retry-connrefused",
                "--retry-delay",
                "1",
            ])
            .args(["-H", &format!("Authorization: Bearer {token}"), "-H", "Range: bytes=0-99", &path])
            .output()
            .unwrap();
        String::from_utf8(asked.stdout).unwrap()
    };
    assert_eq!(curl("wrong"), "401");
    let second = nodes[1].start(&hub, 2, &["--peer-wait", "60s"]);
    for (node, child) in nodes.iter().zip([child, second]) {
        let ran = node.end(child);
        assert_eq!(ran.status, Some(0), "{ran}");
    }

    let environment = TestEnvironment::new();
    let ran = run(&environment, &hub, &["org/model", "--peers", "127.0.0.1:1", "--peer-address", "127.0.0.1"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("AICTL_PEER_TOKEN"), "{ran}");
}

#[test]
fn archives_are_given_whole_and_go_when_nobody_asks_any_more() {
    let nodes = nodes(3, &[]);
    let layer = archive(&[("a.bin", &noise(30_000_000, 1)), ("b.json", b"{}")]);
    let (server, host, revision) = registry(&nodes[0].environment, "application/vnd.cncf.model.weight.v1.tar", &layer);
    let login = fs::read(nodes[0].environment.path(".docker/config.json")).unwrap();
    let source = format!("oci://{host}/org/model:v1");
    let start = |node: &Node| {
        node.environment.write(".docker/config.json", &login);
        let list = format!("@{}", node.environment.path("peers").display());
        let mut command = node.environment.command();
        command.args(["preload", &source, "--to", "store", "-o", "name", "--peers", &list]);
        command.args(["--peer-listen", &node.address, "--peer-count", "3"]);
        command.current_dir(node.environment.path("")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<Child> = nodes.iter().map(start).collect();
    for (node, child) in nodes.iter().zip(running) {
        let ran = node.end(child);
        assert_eq!(ran.status, Some(0), "{ran}");
        let path = node.environment.path("store").join(ran.stdout.trim().split_once("store/").unwrap().1);
        assert!(path.ends_with(&revision), "{ran}");
        assert!(contents(&path) == [("a.bin".to_owned(), noise(30_000_000, 1)), ("b.json".to_owned(), b"{}".to_vec())]);
        assert_eq!(fs::read_dir(path.join("../../blobs")).unwrap().count(), 2, "the archive is gone");
    }
    let sent = server.take_bytes();
    assert!(sent as f64 <= layer.len() as f64 * 1.2, "the source sent {sent} for {}", layer.len());
}
