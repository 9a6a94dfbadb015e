//! `aictl timeline` as its users meet it: frames without a terminal, and the viewer in a real one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};

use super::environment::{TestEnvironment, binary};
use super::tmux::{self, Terminal};

/// What PyTorch's profiler wrote; small, and always the same.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kineto-2.15-cpu.json.gz")
}

/// Ten steps of 10 ms, as PyTorch's profiler marks them.
fn steps(environment: &TestEnvironment) -> PathBuf {
    let mut events = Vec::new();
    for step in 0..10 {
        let start = step * 10_000;
        for (cat, name, from, dur) in [
            ("user_annotation", format!("ProfilerStep#{step}").as_str(), 0, 10_000),
            ("user_annotation", "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 100, 5000),
            ("cpu_op", "aten::addmm", 6000, 3000),
        ] {
            let ts = start + from;
            events.push(format!(r#"{{"ph":"X","cat":"{cat}","name":"{name}","pid":7,"tid":7,"ts":{ts},"dur":{dur}}}"#));
        }
    }
    environment.write("steps.json", format!("{{\"traceEvents\":[{}]}}", events.join(",")))
}

fn frame(environment: &TestEnvironment, more: &[&str]) -> super::environment::Ran {
    let file = fixture().display().to_string();
    environment.run([&["timeline", file.as_str()], more].concat())
}

#[test]
fn a_frame_is_as_large_as_asked_and_always_the_same() {
    let environment = TestEnvironment::new();
    for size in ["80x24", "160x48", "20x5", "1x1", "300x100"] {
        let ran = frame(&environment, &["--snapshot", size]);
        assert_eq!(ran.status, Some(0), "{ran}");
        let (columns, rows) = size.split_once('x').unwrap();
        assert_eq!(ran.stdout.lines().count(), rows.parse::<usize>().unwrap(), "{ran}");
        let widest = ran.stdout.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns.parse().unwrap(), "{size}: {widest} columns\n{ran}");
        assert!(!ran.stdout.contains('\u{1b}'), "{ran}");
        assert_eq!(frame(&environment, &["--snapshot", size]).stdout, ran.stdout);
    }
    let ran = frame(&environment, &["--snapshot", "120x30"]);
    for text in ["torch", "python", "aten::", "3 ms", "help"] {
        assert!(ran.stdout.contains(text), "no {text} on\n{ran}");
    }
}

#[test]
fn what_is_shown_can_be_chosen() {
    let environment = TestEnvironment::new();
    let all = frame(&environment, &["--snapshot", "120x40"]).stdout;
    let mut seen = vec![all];
    for more in [
        &["--at", "1ms..2ms"][..],
        &["--select", "aten::addmm"],
        &["--panel", "table"],
        &["--panel", "flame"],
        &["--panel", "verdict"],
        &["--panel", "none"],
    ] {
        let ran = frame(&environment, &[&["--snapshot", "120x40"], more].concat());
        assert_eq!(ran.status, Some(0), "{more:?}: {ran}");
        assert!(!seen.contains(&ran.stdout), "{more:?} changes nothing:\n{ran}");
        seen.push(ran.stdout);
    }
    steps(&environment);
    let of = |at: &str| environment.run(["timeline", "steps.json", "--snapshot", "100x20", "--at", at]).stdout;
    let window = of("step 4..5");
    assert!(window.contains("ProfilerStep#3") && window.contains("ProfilerStep#4"), "{window}");
    assert!(of("35ms..45ms").contains("ProfilerStep#4"));
    assert_ne!(of("step 4"), window);
}

#[test]
fn ascii_is_ascii_and_colour_is_asked_for() {
    let environment = TestEnvironment::new();
    for panel in ["details", "table", "flame", "verdict"] {
        let ran = frame(&environment, &["--snapshot", "120x40", "--ascii", "--panel", panel]);
        assert!(ran.stdout.is_ascii(), "{ran}");
    }
    let c_locale = TestEnvironment::new().set("LANG", "C");
    assert!(frame(&c_locale, &["--snapshot", "80x24"]).stdout.is_ascii());
    let colours = |environment: &TestEnvironment, more: &[&str]| {
        frame(environment, &[&["--snapshot", "80x24"], more].concat()).stdout.contains('\u{1b}')
    };
    assert!(colours(&environment, &["--color", "always"]));
    let without = TestEnvironment::new().set("NO_COLOR", "1");
    assert!(!colours(&without, &[]));
    assert!(colours(&without, &["--color", "always"]), "a flag wins");
    assert!(!colours(&environment, &["--color", "never"]));
}

#[test]
fn a_picture_is_a_document() {
    let environment = TestEnvironment::new();
    let ran = frame(&environment, &["--snapshot", "100x30", "--svg", "-"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    well_formed(&ran.stdout);
    assert!(ran.stdout.contains("aten::"), "no text in it");
    let ran = frame(&environment, &["--snapshot", "100x30", "--svg", "x.svg", "--theme", "light"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""));
    well_formed(&std::fs::read_to_string(environment.path("x.svg")).unwrap());
}

/// Tags open and close in order, and nothing that must be escaped stands bare.
fn well_formed(document: &str) {
    let mut open = Vec::new();
    let mut rest = document;
    while let Some(start) = rest.find('<') {
        let (text, tag) = rest.split_at(start);
        for entity in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "apos;", "#"];
            assert!(known.iter().any(|known| entity.starts_with(known)), "&{entity}");
        }
        let end = tag.find('>').unwrap();
        let inside = &tag[1..end];
        assert!(!inside.contains('<'), "<{inside}>");
        if let Some(name) = inside.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()));
        } else if !inside.ends_with('/') && !inside.starts_with(['?', '!']) {
            open.push(inside.split_whitespace().next().unwrap().to_owned());
        }
        rest = &tag[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(document.trim_start().starts_with("<svg ") || document.starts_with("<?xml"), "{}", &document[..80]);
    assert_eq!(rest.trim(), "");
}

#[test]
fn several_files_become_one_view() {
    let environment = TestEnvironment::new();
    let recording = std::fs::read(fixture()).unwrap();
    environment.write("rank0.json.gz", &recording);
    environment.write("rank1.json.gz", &recording);
    let ran = environment.run(["timeline", "rank0.json.gz", "rank1.json.gz", "--snapshot", "120x60"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(ran.stdout.contains("rank 0") && ran.stdout.contains("rank 1"), "{ran}");
    assert!(ran.stderr.contains("warning: aligned by "), "{ran}");
}

#[test]
fn what_cannot_be_shown_is_told() {
    let environment = TestEnvironment::new();
    environment.write("empty.pftrace", "");
    environment.write("notes.txt", "Dear diary,\n");
    environment.write("nothing.json", "{\"traceEvents\": []}");
    let run = |arguments: &[&str]| environment.run([&["timeline"], arguments].concat());
    assert_snapshot!(run(&["missing.pftrace", "--snapshot", "80x24"]), @r#"
    status: 1
    ----- stderr
    error: cannot open missing.pftrace
    caused by: No such file or directory (os error 2)
    "#);
    assert_snapshot!(run(&["/", "--snapshot", "80x24"]), @r#"
    status: 1
    ----- stderr
    error: cannot read /: it is a directory
    "#);
    assert_snapshot!(run(&["empty.pftrace", "--snapshot", "80x24"]), @r#"
    status: 1
    ----- stderr
    error: cannot read empty.pftrace
    caused by: the file is empty; a capture that ran writes at least its clock, so record again
    "#);
    assert_snapshot!(run(&["notes.txt", "--snapshot", "80x24"]), @r#"
    status: 1
    ----- stderr
    error: cannot read notes.txt
    caused by: not a recording aictl can read: starts with 44 65 61 72 20 64 69 61; give a Perfetto recording, a Chrome JSON trace, or either in gzip
    "#);
    assert_snapshot!(run(&["-", "-", "--snapshot", "80x24"]), @r#"
    status: 2
    ----- stderr
    error: stdin can be read once only; name - once
    "#);
    let ran = run(&["nothing.json", "--snapshot", "80x24"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(4), "warning: the recording holds nothing to show\n"));
    assert_eq!(ran.stdout.lines().count(), 24, "{ran}");
}

#[test]
fn a_cut_file_is_shown_up_to_its_cut() {
    let environment = TestEnvironment::new();
    let whole = std::fs::read(fixture()).unwrap();
    environment.write("cut.json.gz", &whole[..whole.len() / 2]);
    let ran = environment.run(["timeline", "cut.json.gz", "--snapshot", "100x30"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(ran.stderr.contains("warning: the recording "), "{ran}");
    assert!(ran.stdout.contains("aten::"), "{ran}");
}

#[test]
fn what_was_typed_wrongly_is_told() {
    let environment = TestEnvironment::new();
    let run = |more: &[&str]| frame(&environment, more);
    assert_snapshot!(run(&[]), @r#"
    status: 2
    ----- stderr
    error: stdout is no terminal, and the viewer needs one
    hint: to print one frame without a terminal: aictl timeline FILE --snapshot 160x48
    "#);
    assert_snapshot!(run(&["--snapshot", "80"]), @r#"
    status: 2
    ----- stderr
    error: invalid value '80' for '--snapshot <COLUMNSxROWS>': not a size; write COLUMNSxROWS, such as 160x48

    For more information, try '--help'.
    "#);
    assert_snapshot!(run(&["--snapshot", "80x24", "--at", "noon"]), @r#"
    status: 2
    ----- stderr
    error: invalid value 'noon' for '--at <TIME|STEP>': 'noon' is no time; write 12.5s, 250ms, 1.2s..1.4s, or step 42

    For more information, try '--help'.
    "#);
    let ran = run(&["--snapshot", "80x24", "--at", "1h"]);
    assert_eq!(ran.status, Some(2), "{ran}");
    assert!(ran.stderr.contains("error: there is nothing at ") && ran.stderr.contains("3.44 ms long"), "{ran}");
    assert_snapshot!(run(&["--snapshot", "80x24", "--at", "step 1"]), @r#"
    status: 2
    ----- stderr
    error: no steps were found in this recording
    hint: give a time: --at 1.2s..1.4s
    "#);
    steps(&environment);
    assert_snapshot!(environment.run(["timeline", "steps.json", "--snapshot", "80x24", "--at", "step 11"]), @r#"
    status: 2
    ----- stderr
    error: there is no step 11
    hint: this recording has steps 1 to 10
    "#);
    assert_snapshot!(run(&["--snapshot", "80x24", "--select", "no such name"]), @r#"
    status: 2
    ----- stderr
    error: no slice's name matches 'no such name'
    "#);
    let ran = run(&["--snapshot", "80x24", "--select", "("]);
    assert_eq!(ran.status, Some(2), "{ran}");
    assert!(run(&["--svg", "x.svg"]).stderr.contains("--snapshot"), "a picture is one of a frame");
    assert_snapshot!(run(&["--snapshot", "80x24", "-o", "json"]), @r#"
    status: 2
    ----- stderr
    error: -o has no meaning for a timeline
    hint: for what it shows as data: aictl report FILE -o json; for one frame: --snapshot COLUMNSxROWS
    "#);
    let configured = TestEnvironment::new().set("AICTL_OUTPUT", "json");
    assert_eq!(frame(&configured, &["--snapshot", "80x24"]).status, Some(0));
}

/// The viewer in a real terminal; the shell around it tells how it left the terminal.
///
/// The terminal first: it ends before its directory goes.
struct Viewer {
    terminal: Terminal,
    _environment: TestEnvironment,
}

impl Viewer {
    fn open(columns: u16, rows: u16, more: &str) -> Viewer {
        let environment = TestEnvironment::new();
        let terminal = Terminal::start(&environment, columns, rows);
        let (program, file) = (binary().display(), steps(&environment).display().to_string());
        terminal.run(&format!("{program} timeline {file} {more}"));
        terminal.wait_for("help");
        Viewer { _environment: environment, terminal }
    }

    /// It has ended so, and the terminal is as it was.
    fn ended(&self, code: i32) {
        let (ended, screen) = self.terminal.ended();
        assert_eq!(ended, code, "{screen}");
        self.terminal.assert_as_before();
        self.terminal.line("echo modes are there");
        self.terminal.wait_for("\nmodes are there");
    }
}

#[test]
fn a_session_in_a_real_terminal() {
    if !tmux::there_is_one() {
        return;
    }
    let viewer = Viewer::open(120, 40, "");
    let terminal = &viewer.terminal;
    assert_eq!(terminal.switches(), "alternate 1 cursor 0 mouse 1");
    let first = terminal.wait_for("ProfilerStep#");
    terminal.keys(&["w", "w"]);
    terminal.wait_until("a closer view", |screen| screen != first);
    terminal.keys(&["?"]);
    terminal.wait_for("Keys and commands");
    terminal.keys(&["Escape"]);
    // Not before the page is gone: Escape and a key in one read are Alt and that key.
    terminal.wait_until("the rows again", |screen| screen.contains("aten::"));
    terminal.keys(&["/"]);
    terminal.line("aten::addmm");
    terminal.wait_until("a hit", |screen| screen.contains("aten::addmm"));
    terminal.resize(60, 15);
    terminal.wait_until("15 rows", |screen| screen.lines().count() <= 15);
    terminal.resize(2, 1);
    std::thread::sleep(std::time::Duration::from_millis(200));
    terminal.resize(120, 40);
    terminal.wait_for("aten::");
    terminal.keys(&["q"]);
    // At the prompt, where the question mark of a search would be text.
    viewer.ended(0);
}

#[test]
fn signals_give_the_terminal_back() {
    if !tmux::there_is_one() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let viewer = Viewer::open(100, 30, "");
        let pid = Pid::from_raw(viewer.terminal.child("aictl")).unwrap();
        kill_process(pid, signal).unwrap();
        viewer.ended(130);
    }
}

#[test]
fn ctrl_c_and_ctrl_z_are_what_they_are_elsewhere() {
    if !tmux::there_is_one() {
        return;
    }
    let viewer = Viewer::open(100, 30, "--no-mouse");
    assert_eq!(viewer.terminal.switches(), "alternate 1 cursor 0 mouse 0");
    viewer.terminal.keys(&["C-z"]);
    let (code, screen) = viewer.terminal.ended();
    assert!(code == 128 + libc::SIGTSTP && screen.contains("Stopped"), "{code}: {screen}");
    assert_eq!(viewer.terminal.switches(), "alternate 0 cursor 1 mouse 0");
    viewer.terminal.run("fg");
    viewer.terminal.wait_for("aten::");
    viewer.terminal.keys(&["C-c"]);
    viewer.ended(0);
}

#[test]
fn a_recording_comes_through_stdin_and_keys_from_the_terminal() {
    if !tmux::there_is_one() {
        return;
    }
    let environment = TestEnvironment::new();
    let terminal = Terminal::start(&environment, 100, 30);
    let (program, file) = (binary().display(), fixture().display().to_string());
    terminal.run(&format!("cat {file} | {program} timeline -"));
    terminal.wait_for("aten::");
    terminal.keys(&["q"]);
    let (code, screen) = terminal.ended();
    assert_eq!(code, 0, "{screen}");
}

#[test]
fn a_dumb_terminal_is_told_what_to_do() {
    if !tmux::there_is_one() {
        return;
    }
    let environment = TestEnvironment::new();
    let terminal = Terminal::start(&environment, 100, 30);
    terminal.run(&format!("TERM=dumb {} timeline {}", binary().display(), fixture().display()));
    let (code, screen) = terminal.ended();
    assert!(code == 2 && screen.contains("TERM=dumb") && screen.contains("--snapshot"), "{code}: {screen}");
}

const PANIC: &str = "AICTL_TEST_PANIC";

#[test]
fn a_panic_gives_the_terminal_back_before_it_is_told() {
    if std::env::var_os(PANIC).is_some() {
        aictl::tui::restore_on_panic();
        let _guard = aictl::tui::TerminalGuard::take(true, Arc::default()).unwrap();
        panic!("as a test");
    }
    if !tmux::there_is_one() {
        return;
    }
    let environment = TestEnvironment::new();
    let terminal = Terminal::start(&environment, 100, 30);
    let program = std::env::current_exe().unwrap();
    let test = "timeline::a_panic_gives_the_terminal_back_before_it_is_told";
    terminal.run(&format!("{PANIC}=1 {} --exact {test} --nocapture", program.display()));
    let (code, screen) = terminal.ended();
    assert!(code == 101 && screen.contains("as a test"), "{screen}");
    terminal.assert_as_before();
}
