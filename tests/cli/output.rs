//! What goes where: data to stdout, the rest to stderr, colour where it is wanted.

use std::process::Stdio;

use super::environment::TestEnvironment;

#[test]
fn colour_follows_the_flag_then_the_environment() {
    let has_colour = |environment: TestEnvironment, arguments: &[&str]| {
        environment.run([arguments, &["report", "missing"]].concat()).stderr.contains('\u{1b}')
    };
    assert!(!has_colour(TestEnvironment::new(), &[]), "not to a pipe");
    assert!(has_colour(TestEnvironment::new(), &["--color", "always"]));
    assert!(has_colour(TestEnvironment::new().set("AICTL_COLOR", "always"), &[]));
    assert!(has_colour(TestEnvironment::new().set("NO_COLOR", "1"), &["--color=always"]), "a flag wins");
    assert!(!has_colour(TestEnvironment::new().set("CLICOLOR_FORCE", "1"), &["--color=never"]), "a flag wins");

    let configured = TestEnvironment::new();
    configured.write(".config/aictl/config.yaml", "# mine\ncolor: always\n");
    assert!(has_colour(configured, &[]));
    let help = TestEnvironment::new().run(["--color", "always", "--help"]);
    assert!(help.stdout.contains('\u{1b}'), "{help}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let environment = TestEnvironment::new();
    let mut child = environment
        .command()
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before anything is written to it, or just after: neither is an error.
    drop(child.stdout.take());
    let ran = environment.ran(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let environment = TestEnvironment::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = environment.command().args(["completions", "bash"]).stdout(full).output().unwrap();
    let ran = environment.ran(output);
    assert_eq!(ran.status, Some(1), "{ran}");
    assert!(ran.stderr.starts_with("error: cannot write to stdout\ncaused by: "), "{ran}");
}
