//! The plan of the house (docs/architecture.md), checked against the source.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom; a room that is not listed may not exist. `cmd` may use all.
const ARROWS: &[(&str, &[&str])] = &[
    // Their readers fill in `fault::facts`, `fault::gpu::facts` and `fault::cluster`'s facts: plain
    // data without judgement.
    ("host", &["fault", "metrics"]),
    ("gpu", &["fault", "metrics"]),
    ("cluster", &["fault"]),
    ("profile", &["host", "trace"]),
    ("agent", &["host", "profile", "trace", "cluster"]),
    ("trace", &[]),
    ("analyze", &["trace"]),
    ("metrics", &[]),
    ("fault", &[]),
    ("act", &["cluster", "fault"]),
    ("queue", &["cluster", "act", "host"]),
    ("preload", &["cluster", "act", "host"]),
    ("tui", &["trace", "analyze", "metrics", "view"]),
    ("view", &[]),
];

/// Rooms that judge: no clock, file, network, process or randomness.
const PURE: [&str; 4] = ["trace", "analyze", "fault", "metrics"];
const IMPURE: [&str; 7] =
    ["std::fs", "std::net", "std::process", "std::env", "Instant::now", "SystemTime", "Timestamp::now"];

/// Lines a file may have; most have a quarter.
const LONGEST: usize = 500;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn rooms() -> BTreeSet<String> {
    let entries = fs::read_dir(source()).unwrap().flatten();
    let rooms = entries.filter(|entry| entry.path().is_dir());
    rooms.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name != "bin").collect()
}

/// The code of a file without comments and without its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The rooms that some code names: `crate::trace::…`, `use crate::{host, trace}`.
fn named_rooms(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| {
            text.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
        };
        let Some(group) = rest.strip_prefix('{') else {
            named.insert(word(rest));
            continue;
        };
        // Names at the group's own depth.
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    named.insert(word(&item));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(c);
        }
        named.insert(word(&item));
    }
    named
}

#[test]
fn rooms_are_named_in_groups_and_paths() {
    let named = named_rooms("use crate::{host::{maps, os}, trace};\nlet x = crate::view::Ui::new();");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["host", "trace", "view"]);
}

#[test]
fn no_room_uses_another_that_it_should_not() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for room in &rooms {
        let allowed: Vec<&str> = match ARROWS.iter().find(|(name, _)| name == room) {
            Some((_, allowed)) => allowed.to_vec(),
            None if room == "cmd" => continue,
            None => panic!("room {room} is not in the plan: docs/architecture.md and ARROWS here"),
        };
        for file in rust_files(&source().join(room)) {
            for used in named_rooms(&code(&file)) {
                if rooms.contains(&used) && used != *room && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}: {room} may not use {used}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arrows_make_no_circle() {
    fn reaches(from: &str, to: &str, depth: usize) -> bool {
        let next = ARROWS.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, next)| next);
        depth > 0 && next.iter().any(|room| *room == to || reaches(room, to, depth - 1))
    }
    for (room, _) in ARROWS {
        assert!(!reaches(room, room, ARROWS.len()), "{room} uses itself");
    }
}

#[test]
fn judges_are_pure() {
    let mut wrong = Vec::new();
    for room in PURE {
        let directory = source().join(room);
        if !directory.exists() {
            continue;
        }
        for file in rust_files(&directory) {
            let code = code(&file);
            wrong.extend(
                IMPURE.iter().filter(|word| code.contains(*word)).map(|word| format!("{}: {word}", file.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Calls of kube that change something.
const WRITES: [&str; 10] = [
    ".create(",
    ".patch(",
    ".patch_status(",
    ".patch_metadata(",
    ".replace(",
    ".replace_status(",
    ".delete(",
    ".delete_collection(",
    ".create_subresource",
    ".exec(",
];

/// Functions of a file: name, whether others may call it, body.
fn functions(code: &str) -> Vec<(String, bool, String)> {
    let mut all: Vec<(String, bool, String)> = Vec::new();
    for line in code.lines() {
        let (line, indent) = (line.trim_start(), line.len() - line.trim_start().len());
        let open = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(super) "));
        let rest = open.unwrap_or(line);
        let rest = rest.strip_prefix("async ").unwrap_or(rest);
        match rest.strip_prefix("fn ") {
            Some(rest) if indent <= 4 => {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned();
                all.push((name, open.is_some(), String::new()));
            }
            _ => {
                if let Some((.., body)) = all.last_mut() {
                    body.push_str(line);
                    body.push('\n');
                }
            }
        }
    }
    all
}

/// Calls by which hands change a cluster, found in their source: what writes by itself, and what calls
/// one that does.
fn changes_of_hands() -> Vec<String> {
    let files = rust_files(&source().join("act/hands"));
    let all: Vec<_> = files.iter().flat_map(|file| functions(&code(file))).collect();
    let mut writing: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = writing.len();
        for (name, _, body) in &all {
            let inner = writing.iter().any(|known| body.contains(&format!("self.{known}(")));
            if inner || WRITES.iter().any(|word| body.contains(word)) {
                writing.insert(name);
            }
        }
        if writing.len() == before {
            break;
        }
    }
    let open = all.iter().filter(|(name, open, _)| *open && writing.contains(name.as_str()));
    open.map(|(name, ..)| format!(".{name}(")).collect()
}

/// What a file beside `change.rs` may call: the lease for the moment of an isolation, which holds off
/// others and changes nothing else.
fn of_others(file: &Path) -> &'static [&'static str] {
    if file.ends_with("outside.rs") { &[".lease(", ".give_back("] } else { &[] }
}

/// Files that change a cluster: the room that acts, engines and preloads with jobs of their own, and
/// the agent's pod, which a capture makes and removes. An access review is a question in the form of
/// a `create`, and exec reaches no object.
#[test]
fn a_cluster_is_changed_in_few_places() {
    let places = [
        "act/hands",
        "act/publish",
        "queue/engines",
        "preload/nodes/write.rs",
        "preload/platform/objects.rs",
        "agent/pod.rs",
        "agent/dial.rs",
        "cluster/access.rs",
    ];
    let mut wrong = Vec::new();
    for file in rust_files(&source()) {
        let code = code(&file);
        let asks = code.contains("Api<") || code.contains("kube::Api");
        if !asks || places.iter().any(|place| file.starts_with(source().join(place))) {
            continue;
        }
        wrong.extend(
            WRITES.iter().filter(|word| code.contains(*word)).map(|word| format!("{}: {word}", file.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// In the room that acts, one file changes things and a few carry them out for it; a step that went
/// past the gate would pass the dry run, the kill switch and the journal by.
#[test]
fn only_the_gate_changes_anything() {
    let hands = ["gate.rs", "command.rs", "post.rs", "journal.rs", "lock.rs"];
    let words = ["Command::new", "fs::write", "remove_file", "create_dir", "send_signal", "kill_process", "ureq"];
    // What hands do to a cluster; `change.rs` calls them for the gate.
    let of_hands = changes_of_hands();
    assert!(of_hands.iter().any(|call| call == ".isolate(") && of_hands.len() >= 8, "{of_hands:?}");
    let mut wrong = Vec::new();
    for file in rust_files(&source().join("act")) {
        // Those of the gate in a cluster.
        let of_cluster = file.components().any(|part| part.as_os_str() == "hands");
        if of_cluster || hands.iter().any(|hand| file.ends_with(hand)) {
            continue;
        }
        let code = code(&file);
        wrong
            .extend(words.iter().filter(|word| code.contains(*word)).map(|word| format!("{}: {word}", file.display())));
        let own = of_others(&file);
        if !file.ends_with("change.rs") {
            let used = of_hands.iter().filter(|word| code.contains(word.as_str()) && !own.contains(&word.as_str()));
            wrong.extend(used.map(|word| format!("{}: {word}", file.display())));
        }
        for hand in ["command::run", "post::post"] {
            if code.contains(hand) {
                wrong.push(format!("{}: {hand}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An agent's pod is made and removed past the gate, which docs/architecture.md allows; that stays in one
/// file, where a reviewer finds it.
#[test]
fn only_one_file_makes_agents() {
    let mut wrong = Vec::new();
    for file in rust_files(&source().join("agent")) {
        let code = code(&file);
        // A review of access is a question, though it is asked by a create.
        let asks = file.ends_with("access.rs") && code.contains("SelfSubjectAccessReview");
        if file.ends_with("pod.rs") || asks {
            continue;
        }
        let words =
            [".create(&PostParams", ".delete(", ".patch(", ".replace(&", ".evict(", "send_signal", "kill_process"];
        let used = words.iter().filter(|word| code.contains(*word));
        wrong.extend(used.map(|word| format!("{}: {word}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_says_what_it_is_for() {
    let library = fs::read_to_string(source().join("lib.rs")).unwrap();
    for room in rooms() {
        let text = fs::read_to_string(source().join(&room).join("mod.rs")).unwrap();
        let lines = text.lines().take_while(|line| line.starts_with("//!")).count();
        assert!((2..=10).contains(&lines), "src/{room}/mod.rs opens with {lines} lines of //!, not 2 to 10");
        assert!(library.contains(&format!("pub mod {room};")), "src/lib.rs does not name {room}");
    }
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for file in rust_files(&source()) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        let limit = if file.ends_with("bin/aictl.rs") { 40 } else { LONGEST };
        if lines > limit {
            long.push(format!("{}: {lines} lines, at most {limit}", file.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Two providers of cryptography in one program, and rustls takes neither.
#[test]
fn tls_has_one_provider() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"ring\""));
    assert!(!lock.contains("name = \"aws-lc-rs\""), "a dependency brings aws-lc-rs beside ring");
}
