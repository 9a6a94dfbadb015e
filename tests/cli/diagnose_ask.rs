//! `aictl diagnose --ask` against an interface like OpenAI's, which is a server of the test's own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::environment::{Ran, TestEnvironment};

const LOG: &str = "\
Nov 24 10:00:01 gpu-17 kernel: NVRM: Xid (PCI:0000:3b:00): 79, pid=77, name=python3, GPU has fallen off the bus.
Nov 24 10:00:02 gpu-17 kernel: nfs: server fs01.corp.example.com not responding, still trying
";

/// A server that gives one answer, after a while, and says what it was sent.
fn server(status: &'static str, body: String, after: Duration) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        let (head, length) = loop {
            let mut part = [0; 4096];
            let size = stream.read(&mut part).unwrap();
            read.extend_from_slice(&part[..size]);
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            break (head.to_owned(), length.unwrap_or(0));
        };
        while read.len() < head.len() + 4 + length {
            let mut part = [0; 4096];
            let size = stream.read(&mut part).unwrap();
            read.extend_from_slice(&part[..size]);
        }
        let sent = serde_json::from_slice(&read[head.len() + 4..]).unwrap();
        send.send((head, sent)).unwrap();
        std::thread::sleep(after);
        let size = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n{body}"
        );
    });
    (url, receive)
}

fn says(words: &str) -> String {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": words}}]}).to_string()
}

fn asking(url: &str) -> TestEnvironment {
    let environment = TestEnvironment::new()
        .set("AICTL_ASK_URL", url)
        .set("AICTL_ASK_MODEL", "small-1")
        .set("AICTL_ASK_KEY", "key-of-a-test");
    environment.write("log", LOG);
    environment
}

fn ask(environment: &TestEnvironment, more: &[&str]) -> Ran {
    environment.run([&["diagnose", "--kernel-log", "log"], more].concat())
}

#[test]
fn a_model_is_asked_without_names_and_its_answer_is_marked() {
    let words = "<think>hm</think>The riser.\u{1b}[2J\nLook at HOST_1 \u{202e}first.";
    let (url, sent) = server("200 OK", says(words), Duration::ZERO);
    let environment = asking(&url);
    let plain = ask(&environment, &[]);
    let ran = ask(&environment, &["--ask"]);
    assert_eq!(ran.status, Some(3), "{ran}");
    assert!(ran.stdout.starts_with(plain.stdout.trim_end().lines().next().unwrap()), "{ran}");
    let answer = ran.stdout.split_once("small-1 says").unwrap().1;
    assert!(answer.contains("not aictl's") && answer.contains("The riser.?[2J"), "{ran}");
    assert!(answer.contains("Look at fs01.corp.example.com ?first."), "names come back: {ran}");
    assert!(!ran.stdout.contains(['\u{1b}', '\u{202e}']) && !answer.contains("hm"), "{ran}");
    let (head, request) = sent.recv().unwrap();
    assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer key-of-a-test"), "{head}");
    assert_eq!(request["model"], "small-1");
    let told = request.to_string();
    for there in ["xid-79", "0000:3b:00", "fallen off the bus", "HOST_1", "## xid-79"] {
        assert!(told.contains(there), "{there}: {told}");
    }
    for hidden in ["gpu-17", "fs01", "example.com", "key-of-a-test"] {
        assert!(!told.contains(hidden), "{hidden}: {told}");
    }
}

#[test]
fn programs_get_the_answer_beside_the_findings() {
    let (url, _sent) = server("200 OK", says("The riser."), Duration::ZERO);
    let ran = ask(&asking(&url), &["--ask", "-o", "json"]);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.status, &found["schema"]), (Some(3), &json!("aictl.findings/v1")));
    assert_eq!(found["asked"]["answer"], "The riser.");
    assert_eq!((&found["asked"]["sent"], &found["asked"]["model"]), (&json!(true), &json!("small-1")));
    assert_eq!(found["asked"]["pages"][0], "xid-79");
    // Only where it was asked for.
    let plain: Value = serde_json::from_str(&ask(&asking(&url), &["-o", "json"]).stdout).unwrap();
    assert_eq!((&plain["findings"], plain.get("asked")), (&found["findings"], None));
}

#[test]
fn whatever_a_model_does_the_findings_are_shown() {
    let leak = json!({"error": {"message": "wrong key key-of-a-test\u{1b}[2J"}}).to_string();
    for (status, body, told) in [
        ("401 Unauthorized", leak, "answered 401: wrong key (the key)?[2J"),
        ("200 OK", "no JSON".to_owned(), "no answer that can be read"),
        ("200 OK", says("  "), "empty answer"),
        ("302 Found", String::new(), "answered 302"),
    ] {
        let (url, _sent) = server(status, body, Duration::ZERO);
        let ran = ask(&asking(&url), &["--ask"]);
        assert_eq!(ran.status, Some(3), "{ran}");
        assert!(ran.stdout.contains("xid-79") && !ran.stdout.contains("says"), "{ran}");
        assert!(ran.stderr.contains(told) && !ran.stderr.contains("key-of-a-test"), "{told}: {ran}");
    }
    let nobody = ask(&asking("http://127.0.0.1:1/v1"), &["--ask", "-o", "json"]);
    let found: Value = serde_json::from_str(&nobody.stdout).unwrap();
    assert_eq!((nobody.status, found["findings"][0]["fault"].as_str()), (Some(3), Some("xid-79")));
    assert!(found["asked"]["error"].as_str().is_some_and(|error| !error.is_empty()), "{found:#}");
}

#[test]
fn a_model_that_takes_too_long_is_not_waited_for() {
    let (url, _sent) = server("200 OK", says("late"), Duration::from_secs(120));
    let environment = asking(&url).set("AICTL_ASK_TIMEOUT", "1s");
    let begin = Instant::now();
    let ran = ask(&environment, &["--ask"]);
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!(ran.status, Some(3));
    assert!(ran.stderr.contains("no answer within 1 s"), "{ran}");
}

#[test]
fn what_would_be_sent_is_shown_and_nothing_is_sent() {
    let (url, sent) = server("200 OK", says("x"), Duration::ZERO);
    let ran = ask(&asking(&url), &["--ask=show"]);
    assert_eq!(ran.status, Some(3));
    for there in ["would be sent to", "chat/completions, for small-1", "## xid-79", "HOST_1 is fs01.corp.example.com"] {
        assert!(ran.stdout.contains(there), "{there}: {ran}");
    }
    // Also before anybody is there to be asked.
    let environment = TestEnvironment::new();
    environment.write("log", LOG);
    let shown = ask(&environment, &["--ask=show", "-o", "json"]);
    let found: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(
        (&found["asked"]["sent"], &found["asked"]["request"]["messages"][1]["role"]),
        (&json!(false), &json!("user"))
    );
    assert_eq!(found["asked"]["hidden"][0], json!({"as": "HOST_1", "is": "fs01.corp.example.com"}));
    assert!(sent.try_recv().is_err(), "nothing was sent");
    // Nothing wrong: nothing to ask.
    environment.write("log", "[ 1.0] usb 1-1: new device\n");
    let well = ask(&environment, &["--ask=show", "-o", "json"]);
    let found: Value = serde_json::from_str(&well.stdout).unwrap();
    assert_eq!((well.status, found.get("asked")), (Some(0), Some(&Value::Null)));
}

#[test]
fn who_is_to_be_asked_must_be_said() {
    let environment = TestEnvironment::new().set("AICTL_ASK_URL", "https://h/v1");
    environment.write("log", LOG);
    let ran = ask(&environment, &["--ask"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("AICTL_ASK_MODEL"), "{ran}");
    let environment = TestEnvironment::new();
    environment.write("log", LOG);
    environment.write("config.yaml", "ask: {url: 'ftp://h', model: m}\n");
    let ran = ask(&environment, &["--ask", "--config", "config.yaml"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("neither https nor http"), "{ran}");
    let ran = ask(&environment, &["--ask", "-o", "name", "--config", "config.yaml"]);
    assert_eq!(ran.status, Some(2), "{ran}");
}
