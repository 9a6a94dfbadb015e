//! completions/ and man/ are generated and committed; `AICTL_UPDATE=1 cargo test --test cli generated`
//! writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::environment::TestEnvironment;

fn check(directory: &str, wanted: BTreeMap<String, Vec<u8>>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    if std::env::var_os("AICTL_UPDATE").is_some() {
        if directory.exists() {
            fs::remove_dir_all(&directory).unwrap();
        }
        fs::create_dir_all(&directory).unwrap();
        for (name, content) in &wanted {
            fs::write(directory.join(name), content).unwrap();
        }
    }
    let there: BTreeMap<String, Vec<u8>> = fs::read_dir(&directory)
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&there), names(&wanted), "{}: AICTL_UPDATE=1 writes it anew", directory.display());
    for (name, content) in &wanted {
        let same = there[name] == *content;
        assert!(same, "{}/{name} is out of date: AICTL_UPDATE=1 writes it anew", directory.display());
    }
}

#[test]
fn completions_are_up_to_date() {
    let files = [
        ("bash", "aictl.bash"),
        ("elvish", "aictl.elv"),
        ("fish", "aictl.fish"),
        ("powershell", "_aictl.ps1"),
        ("zsh", "_aictl"),
    ];
    let environment = TestEnvironment::new();
    let wanted = files.map(|(shell, file)| {
        let ran = environment.run(["completions", shell]);
        assert_eq!(ran.status, Some(0), "{ran}");
        (file.to_owned(), ran.stdout.into_bytes())
    });
    check("completions", BTreeMap::from(wanted));
}

#[test]
fn man_pages_are_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(aictl::cmd::command().disable_help_subcommand(true), directory.path()).unwrap();
    let pages = fs::read_dir(directory.path()).unwrap().flatten();
    let wanted = pages.map(|page| (page.file_name().into_string().unwrap(), fs::read(page.path()).unwrap())).collect();
    check("man", wanted);
}

/// The resource as deploy/ installs it is that of the program's own type.
#[test]
fn the_resource_definition_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/agent/nodefindings.yaml");
    let wanted = aictl::view::yaml::to_string(&aictl::cluster::definition()).unwrap();
    if std::env::var_os("AICTL_UPDATE").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == wanted, "deploy/agent/nodefindings.yaml is out of date: AICTL_UPDATE=1 writes it anew");
}

#[test]
fn a_shell_gets_its_completions() {
    let environment = TestEnvironment::new().set("COMPLETE", "bash");
    let ran = environment.run([""; 0]);
    assert!(ran.status == Some(0) && ran.stdout.contains("complete -o nospace"), "{ran}");

    let complete = |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let environment = TestEnvironment::new().set("COMPLETE", "bash").set("_CLAP_COMPLETE_INDEX", &index);
        environment.run([&["--"], words].concat()).stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["aictl", "pro"]), ["profile"]);
    assert_eq!(complete(&["aictl", "profile", "--layers", "sched,py"]), ["sched,python"]);
    assert_eq!(complete(&["aictl", "report", "-o", "y"]), ["yaml"]);
}
