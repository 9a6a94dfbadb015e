//! What users get wrong, and what the machine refuses.

use std::os::unix::process::CommandExt;

use insta::assert_snapshot;

use super::environment::{TestEnvironment, binary};
use super::support;

#[test]
fn no_target() {
    assert_snapshot!(TestEnvironment::new().run(["profile"]), @r#"
    status: 2
    ----- stderr
    error: nothing to record
    hint: name a process with --pid PID, a command after --, or a pod: aictl profile pod/NAME
    "#);
}

#[test]
fn targets_that_are_none() {
    let environment = TestEnvironment::new();
    assert_snapshot!(environment.run(["profile", "41873"]), @r#"
    status: 2
    ----- stderr
    error: '41873' is no target
    hint: for a process id: aictl profile --pid 41873
    "#);
    assert_snapshot!(environment.run(["profile", "pod/trainer-0"]), @r#"
    status: 2
    ----- stderr
    error: no cluster is configured: there is no kubeconfig, and this is not a pod
    hint: name one with --kubeconfig FILE, or set KUBECONFIG
    "#);
    assert_snapshot!(environment.run(["profile", "python", "train.py", "a b"]), @r#"
    status: 2
    ----- stderr
    error: 'python' is no target
    hint: to start a command: aictl profile -- python train.py 'a b'
    "#);
    assert_snapshot!(environment.run(["profile", "--pid", "1", "--", "true"]), @r#"
    status: 2
    ----- stderr
    error: --pid and a command can't be recorded together
    hint: choose one of the two
    "#);
}

#[test]
fn commands_that_cannot_run() {
    let environment = TestEnvironment::new();
    let script = environment.write("script.py", "print()");
    assert_snapshot!(environment.run(["profile", "--", "no-such-command"]), @r#"
    status: 2
    ----- stderr
    error: command not found: no-such-command
    "#);
    assert_snapshot!(environment.run(["profile", "--", "./no-such-file"]), @r#"
    status: 2
    ----- stderr
    error: cannot run ./no-such-file: no such file
    "#);
    assert_snapshot!(environment.run(["profile", "--", script.to_str().unwrap()]), @r#"
    status: 2
    ----- stderr
    error: cannot run $DIR/script.py
    hint: it is not executable
    "#);
}

#[test]
fn values_that_are_none() {
    let environment = TestEnvironment::new();
    assert_snapshot!(environment.run(["profile", "--pid", "1", "-d", "ten"]), @r#"
    status: 2
    ----- stderr
    error: invalid value 'ten' for '--duration <TIME>': not a duration; write 10s, 1m30s, 500ms or 100us

    For more information, try '--help'.
    "#);
    assert_snapshot!(environment.run(["profile", "--pid", "1", "-d", "0"]), @r#"
    status: 2
    ----- stderr
    error: a capture of no length shows nothing
    hint: give it some seconds: -d 10s
    "#);
    assert_snapshot!(environment.run(["profile", "--pid", "one"]), @r#"
    status: 2
    ----- stderr
    error: invalid value 'one' for '--pid <PID>': not a process id

    For more information, try '--help'.
    "#);
    assert_snapshot!(environment.run(["profile", "--pid", "1", "--layers", "sched,foo"]), @r#"
    status: 2
    ----- stderr
    error: invalid value 'sched,foo' for '--layers <LIST>': no layer 'foo'; there are sched, syscall, io, python, torch, cuda, nccl and all

    For more information, try '--help'.
    "#);
    assert_snapshot!(environment.run(["profile", "--pid", "1", "--max-overhead", "2"]), @r#"
    status: 2
    ----- stderr
    error: invalid value '2' for '--max-overhead <SHARE>': more than all of the time; did you mean 2%?

    For more information, try '--help'.
    "#);
    assert_snapshot!(environment.run(["profile", "--pid", "1", "--python-hz", "0"]), @r#"
    status: 2
    ----- stderr
    error: invalid value '0' for '--python-hz <HZ>': 0 is not in 1..=10000

    For more information, try '--help'.
    "#);
}

#[test]
fn no_such_process() {
    let environment = TestEnvironment::new();
    if !support::require("root and BTF", support::can_trace()) {
        return;
    }
    assert_snapshot!(environment.run(["profile", "--pid", "1073741823", "-d", "1"]), @r#"
    status: 1
    ----- stderr
    error: no process with pid 1073741823
    hint: list processes with: ps -eo pid,etime,args | grep python
    "#);
    assert_eq!(std::fs::read_dir(environment.path("")).unwrap().count(), 0, "a file was left behind");
}

#[test]
fn not_permitted() {
    if !support::require("root, to stop being root", support::is_root()) {
        return;
    }
    let environment = TestEnvironment::new();
    // Nobody must be able to run the program and to write the file.
    let program = environment.path("aictl");
    std::fs::copy(binary(), &program).unwrap();
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(environment.path(""), everyone).unwrap();
    let mut command = environment.command_of(&program);
    command.args(["profile", "--pid", "1", "-d", "1", "-w", "x.pftrace"]).uid(65534).gid(65534);
    let ran = environment.ran(command.output().unwrap());
    assert_eq!(ran.status, Some(4), "{ran}");
    assert!(ran.stderr.starts_with("error: not permitted to "), "{ran}");
    assert!(ran.stderr.contains("\nhint: run as root"), "{ran}");
    assert!(!environment.path("x.pftrace").exists(), "an empty recording was left behind");
}

#[test]
fn places_that_cannot_be_written() {
    let environment = TestEnvironment::new();
    let source = environment.write("train.py", "import torch\n");
    assert_snapshot!(environment.run(["profile", "--pid", "1", "-w", "no/such/directory.pftrace"]), @r#"
    status: 1
    ----- stderr
    error: cannot write no/such/directory.pftrace
    caused by: No such file or directory (os error 2)
    hint: the directory does not exist; make it, or choose another with -w FILE
    "#);
    assert_snapshot!(environment.run(["profile", "--pid", "1", "-w", "/"]), @r#"
    status: 1
    ----- stderr
    error: cannot write /
    caused by: Is a directory (os error 21)
    hint: choose another file with -w FILE
    "#);
    assert_snapshot!(environment.run(["profile", "--pid", "1", "-w", "train.py"]), @r#"
    status: 2
    ----- stderr
    error: train.py exists and is no recording; not overwriting it
    hint: choose another file with -w FILE, or remove it first
    "#);
    assert_eq!(std::fs::read_to_string(source).unwrap(), "import torch\n");
}

#[test]
fn files_that_are_no_recordings() {
    let environment = TestEnvironment::new();
    environment.write("empty.pftrace", "");
    environment.write("notes.txt", "Dear diary,\n");
    environment.write("other.json", "{\"a\": [1, 2]}");
    environment.write("cut.json.gz", b"\x1f\x8b\x08\x00\x00");
    assert_snapshot!(environment.run(["report"]), @r#"
    status: 2
    ----- stderr
    error: the following required arguments were not provided:
      <FILE>

    Usage: aictl report [OPTIONS] <FILE>
           aictl report [OPTIONS] --diff <BEFORE> <AFTER>

    For more information, try '--help'.
    "#);
    assert_snapshot!(environment.run(["report", "missing.pftrace"]), @r#"
    status: 1
    ----- stderr
    error: cannot open missing.pftrace
    caused by: No such file or directory (os error 2)
    "#);
    assert_snapshot!(environment.run(["report", "/"]), @r#"
    status: 1
    ----- stderr
    error: cannot read /: it is a directory
    "#);
    assert_snapshot!(environment.run(["report", "empty.pftrace"]), @r#"
    status: 1
    ----- stderr
    error: cannot read empty.pftrace
    caused by: the file is empty; a capture that ran writes at least its clock, so record again
    "#);
    assert_snapshot!(environment.run(["report", "notes.txt"]), @r#"
    status: 1
    ----- stderr
    error: cannot read notes.txt
    caused by: not a recording aictl can read: starts with 44 65 61 72 20 64 69 61; give a Perfetto recording, a Chrome JSON trace, or either in gzip
    "#);
    assert_snapshot!(environment.run(["report", "other.json"]), @r#"
    status: 1
    ----- stderr
    error: cannot read other.json
    caused by: JSON, but not a trace: no `traceEvents` and no list of events up to byte 12
    "#);
    assert_snapshot!(environment.run(["report", "cut.json.gz"]), @r#"
    status: 1
    ----- stderr
    error: cannot read cut.json.gz
    caused by: can't read on at byte 0; copy the file again if it was cut on its way
    caused by: unexpected end of file
    "#);
    assert_snapshot!(environment.run(["report", "--diff", "empty.pftrace"]), @r#"
    status: 2
    ----- stderr
    error: 2 values required for '--diff <BEFORE> <AFTER>' but 1 was provided

    Usage: aictl report [OPTIONS] <FILE>
           aictl report [OPTIONS] --diff <BEFORE> <AFTER>

    For more information, try '--help'.
    "#);
}

#[test]
fn configurations_that_are_wrong() {
    let environment = TestEnvironment::new();
    environment.write("unknown.yaml", "color: never\nprofile:\n  duratoin: 10s\n");
    environment.write("value.yaml", "profile:\n  max_overhead: 2\n");
    environment.write("layers.yaml", "profile:\n  layers: [sched, foo]\n");
    environment.write("twice.yaml", "color: never\ncolor: always\n");
    environment.write("syntax.yaml", "profile: [\n");
    let run = |file: &str| environment.run(["--config", file, "report", "x"]);
    assert_snapshot!(run("unknown.yaml"), @r#"
    status: 2
    ----- stderr
    error: wrong configuration in unknown.yaml
    caused by: line 3, column 3: unknown field `duratoin`, expected one of duration, layers, max_overhead, python_hz, syscall_threshold
    "#);
    assert_snapshot!(run("value.yaml"), @r#"
    status: 2
    ----- stderr
    error: wrong configuration in value.yaml
    caused by: line 2, column 17: 2: more than all of the time; did you mean 2%?
    "#);
    assert_snapshot!(run("layers.yaml"), @r#"
    status: 2
    ----- stderr
    error: wrong configuration in layers.yaml
    caused by: line 2, column 11: sched,foo: no layer 'foo'; there are sched, syscall, io, python, torch, cuda, nccl and all
    "#);
    assert_snapshot!(run("twice.yaml"), @r#"
    status: 2
    ----- stderr
    error: wrong configuration in twice.yaml
    caused by: line 2, column 1: duplicate mapping key `color` is not allowed here
    "#);
    assert_snapshot!(run("syntax.yaml"), @r#"
    status: 2
    ----- stderr
    error: wrong configuration in syntax.yaml
    caused by: line 1, column 10: expected mapping start
    "#);
    assert_snapshot!(run("missing.yaml"), @r#"
    status: 2
    ----- stderr
    error: cannot read missing.yaml
    caused by: No such file or directory (os error 2)
    "#);
}
