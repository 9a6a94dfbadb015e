//! Servers that misbehave: the right bytes come all the same, or a clear error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::environment::TestEnvironment;
use super::super::support::http::{COMMIT, Fault, Hub, Request, Served, Server, git_digest, noise};
use super::{contents, repository, run, snapshot, wanted};

fn files() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![("a.bin", noise(30_000_000, 7), true), ("b.json", b"{}".to_vec(), false), ("c.bin", noise(5_000_000, 8), true)]
}

fn survives(faults: impl FnMut(&Request, usize) -> Option<Fault> + Send + 'static, arguments: &[&str]) -> Hub {
    let environment = TestEnvironment::new();
    let files = files();
    let hub = Hub::with("org/model", &files);
    hub.server.faults(faults);
    let ran = run(&environment, &hub, &[&["org/model"], arguments].concat());
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(snapshot(&repository(&environment)), wanted(&files));
    hub
}

#[test]
fn cut_off_answers_are_gone_on_with() {
    let hub = survives(|_, number| (number < 6).then_some(Fault::Truncate(1_000_000 + number)), &[]);
    // What came before the cut was not asked for again, up to what was lost in buffers.
    assert!(hub.server.take_bytes() < 35_000_002 + 6 * 500_000);
}

#[test]
fn resets_are_gone_on_with() {
    survives(|_, number| (number % 2 == 0 && number < 10).then_some(Fault::Reset(100_000)), &[]);
}

#[test]
fn a_stalled_connection_is_given_up() {
    survives(|_, number| (number == 1).then_some(Fault::Stall(200_000)), &["--stall-timeout", "300ms"]);
}

#[test]
fn an_overloaded_server_is_given_rest() {
    survives(|_, number| (number < 5).then_some(Fault::Status(503, None)), &[]);
    survives(|_, number| (number < 2).then_some(Fault::Status(429, Some(1))), &[]);
}

/// A server that says a part is behind the end has another file than it listed: it is listed anew.
#[test]
fn a_part_that_is_not_there_is_listed_anew() {
    survives(|_, number| (number == 1).then_some(Fault::Status(416, None)), &[]);
}

#[test]
fn files_without_bytes_are_files() {
    let environment = TestEnvironment::new();
    let files = [("a.bin", Vec::new(), true), ("b/c.txt", Vec::new(), false), ("d.json", b"{}".to_vec(), false)];
    let hub = Hub::with("org/model", &files);
    let ran = run(&environment, &hub, &["org/model"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert_eq!(snapshot(&repository(&environment)), wanted(&files));
}

/// A bucket by S3's protocol, whose server wants rest and says for how long.
#[test]
fn a_bucket_that_wants_rest_gets_it() {
    let server = Server::start();
    let content = noise(20_000_000, 3);
    let served = Served::new(content.clone());
    let tag = served.etag.clone().unwrap().replace('"', "&quot;");
    let listing = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>models</Name><Prefix>m/</Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys>\
         <IsTruncated>false</IsTruncated><Contents><Key>m/a.bin</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
         <ETag>{tag}</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>",
        content.len()
    );
    let mut object = served;
    object.headers.push(("Last-Modified".to_owned(), "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()));
    server.document("/models?list-type=2&prefix=m%2F", &[], listing);
    server.file("/models/m/a.bin", object);
    server.faults(|_, number| (number < 3).then_some(Fault::Status(503, Some(1))));
    let environment = TestEnvironment::new()
        .set("AWS_ENDPOINT_URL", &server.url())
        .set("AWS_ACCESS_KEY_ID", "key")
        .set("AWS_SECRET_ACCESS_KEY", "secret-of-the-key")
        .set("AWS_REGION", "us-east-1");
    let begin = std::time::Instant::now();
    let ran = environment.run(["preload", "s3://models/m", "--to", "store", "-o", "json"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(begin.elapsed().as_millis() >= 1000, "it came back before the second was over");
    let waits: Vec<u64> = ran
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["event"] == "retry")
        .filter_map(|event| event["wait_ms"].as_u64())
        .collect();
    assert!(waits.iter().any(|wait| *wait >= 900), "{waits:?}: {ran}");
    assert!(!ran.stderr.contains("secret-of-the-key"), "{ran}");
}

#[test]
fn a_signed_address_that_ran_out_is_asked_for_anew() {
    survives(
        |request, number| (request.target.starts_with("/cdn/") && number == 2).then_some(Fault::Status(403, None)),
        &[],
    );
}

#[test]
fn a_server_that_never_works_is_given_up() {
    let environment = TestEnvironment::new();
    let hub = Hub::with("org/model", &files());
    hub.server.faults(|_, _| Some(Fault::Status(500, None)));
    let ran = run(&environment, &hub, &["org/model", "--retries", "2"]);
    assert!(
        ran.status == Some(1) && ran.stderr.contains("HTTP 500") && ran.stderr.contains("hint: run the same again"),
        "{ran}"
    );
    assert!(!repository(&environment).join("refs/main").exists());
}

#[test]
fn a_file_that_changes_midway_is_never_mixed() {
    let environment = TestEnvironment::new();
    let server = Arc::new(Server::start());
    let (old, new) = (noise(40_000_000, 1), noise(40_000_000, 2));
    server.file("/model.bin", Served::new(old));
    let weak = Arc::downgrade(&server);
    let newer = Served::new(new.clone());
    server.faults(move |_, number| {
        if number == 4 {
            weak.upgrade()?.file("/model.bin", newer.clone());
        }
        None
    });
    let ran = environment.run(["preload", &format!("{}/model.bin", server.url()), "--to", "store", "-o", "name"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let path = environment.path("store").join(ran.stdout.trim().split_once("store/").unwrap().1);
    assert!(contents(&path) == [("model.bin".to_owned(), new)]);
}

#[test]
fn a_file_that_never_rests_is_an_error() {
    let environment = TestEnvironment::new();
    let server = Arc::new(Server::start());
    server.file("/model.bin", Served::new(noise(20_000_000, 1)));
    let weak = Arc::downgrade(&server);
    server.faults(move |_, number| {
        weak.upgrade()?.file("/model.bin", Served::new(noise(20_000_000, number as u64 + 10)));
        None
    });
    let ran = environment.run(["preload", &format!("{}/model.bin", server.url()), "--to", "store"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("changed while it was read"), "{ran}");
}

#[test]
fn a_server_without_parts_gives_whole_files() {
    let environment = TestEnvironment::new();
    let server = Server::start();
    let content = noise(20_000_000, 5);
    server.file("/model.bin", Served { ranges: false, ..Served::new(content.clone()) });
    let cuts = AtomicUsize::new(0);
    server.faults(move |request, _| {
        // Not the look at its manners.
        let look = request.headers.get("range").is_some_and(|range| range == "bytes=0-0");
        (!look && cuts.fetch_add(1, Ordering::Relaxed) == 0).then_some(Fault::Truncate(3_000_000))
    });
    let ran = environment.run([
        "preload",
        &format!("{}/model.bin?token=geheim", server.url()),
        "--to",
        "store",
        "-o",
        "name",
    ]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(!ran.stderr.contains("geheim") && !ran.stdout.contains("geheim"), "{ran}");
    let path = environment.path("store").join(ran.stdout.trim().split_once("store/").unwrap().1);
    assert!(contents(&path) == [("model.bin".to_owned(), content)]);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["../../../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "Config.json"] {
        let environment = TestEnvironment::new();
        let hub = Hub::with("org/model", &[]);
        let node = |path: &str| serde_json::json!({"type": "file", "oid": git_digest(b"x"), "size": 1, "path": path});
        hub.tree(COMMIT, vec![node("config.json"), node(name)]);
        let ran = run(&environment, &hub, &["org/model"]);
        assert!(ran.status == Some(1) && ran.stderr.contains("names a file"), "{name}: {ran}");
        let left: Vec<String> = contents(&environment.path("store")).into_iter().map(|(name, _)| name).collect();
        assert!(left.iter().all(|name| name.contains(".locks")), "{name}: {left:?}");
    }
}

#[test]
fn digests_that_are_none_are_refused() {
    for digest in ["../../evil", "", "zz"] {
        let environment = TestEnvironment::new();
        let hub = Hub::with("org/model", &[]);
        hub.tree(COMMIT, vec![serde_json::json!({"type": "file", "oid": digest, "size": 1, "path": "a"})]);
        let ran = run(&environment, &hub, &["org/model"]);
        assert!(ran.status == Some(1) && ran.stderr.contains("digest"), "{digest}: {ran}");
    }
}

#[test]
fn sizes_that_lie_do_no_harm() {
    let content = noise(9_000_000, 4);
    for size in [u64::MAX, 1 << 60, 8_999_999, 9_000_001, 0] {
        let environment = TestEnvironment::new();
        let hub = Hub::with("org/model", &[("a.bin", content.clone(), false)]);
        hub.tree(
            COMMIT,
            vec![serde_json::json!({"type": "file", "oid": git_digest(&content), "size": size, "path": "a.bin"})],
        );
        let ran = run(&environment, &hub, &["org/model", "--retries", "1"]);
        assert!(matches!(ran.status, Some(1 | 3)), "{size}: {ran}");
        assert!(!repository(&environment).join("refs/main").exists(), "{size}");
    }
}
