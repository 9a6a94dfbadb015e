//! Checks of a site, described in files of a directory: programs of its own, and what must be true
//! of objects in a cluster.
//!
//! All files are read before anything runs. A check that can't be run, is late or does not say
//! what it saw is blind, never a fault.

mod file;
mod objects;
mod plugin;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use regex::Regex;

use super::Error;
use crate::fault::{Catalogue, Check, Device, Finding, Limits, Severity, State};
use crate::host::command::{self, End, Order, Ran};
use crate::host::machine;
use crate::view::yaml;

/// Bytes of output that are kept of a check.
const MOST_OUTPUT: usize = 64 << 10;
/// Checks that run at the same time.
const AT_ONCE: usize = 4;
/// Longest line of output that becomes evidence.
const LINE: usize = 300;

/// The file among the checks that says where soft faults begin.
const LIMITS: &str = "limits.yaml";

pub use objects::ObjectCheck;

/// All checks of a site.
#[derive(Debug, Default)]
pub struct Checks {
    checks: Vec<SiteCheck>,
    objects: Vec<ObjectCheck>,
}

/// What a file describes.
#[derive(Debug)]
enum Read {
    Program(SiteCheck),
    Objects(ObjectCheck),
}

/// One of them.
#[derive(Debug)]
struct SiteCheck {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    directory: Option<PathBuf>,
    timeout: Duration,
    /// How often a daemon is to run it.
    #[allow(dead_code, reason = "a look runs each check once; the daemon goes by it")]
    schedule: Option<Duration>,
    fault: String,
    rules: Rules,
    /// Characters of the first line that are shown.
    shown: usize,
}

/// What its end means.
#[derive(Debug)]
struct Rules {
    /// Tried in turn on the output; the first that matches decides.
    output: Vec<(Regex, Meaning)>,
    ok: Vec<i32>,
    fault: Vec<i32>,
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// All is well.
    Ok,
    /// The fault is there.
    Fault,
    /// It can't tell.
    Blind,
    /// There is nothing here to look at.
    Skipped,
}

impl Checks {
    /// Reads a directory's `*.yaml`, `*.yml` and `*.json`; new faults go into the catalogue, and so do
    /// limits.
    pub fn read(directory: &Path, catalogue: &mut Catalogue) -> Result<Checks, Error> {
        let shown = directory.display();
        let entries = std::fs::read_dir(directory)
            .map_err(|error| Error::usage(format!("cannot read the checks in {shown}")).because(error))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let (mut checks, mut objects) = (Vec::new(), Vec::new());
        for path in files {
            // What a ConfigMap or an editor leaves beside the files.
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if hidden || !matches!(extension, "yaml" | "yml" | "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Error::usage(format!("cannot read {}", path.display())).because(error))?;
            if path.file_name().is_some_and(|name| name == LIMITS) {
                limits(&path, &text, catalogue)?;
                continue;
            }
            match extension {
                "json" => checks.extend(plugin::read(&path, &text, catalogue)?),
                _ => match file::read(&path, &text, catalogue)? {
                    Read::Program(check) => checks.push(check),
                    Read::Objects(check) => objects.push(check),
                },
            }
        }
        let mut names = BTreeSet::new();
        let mut all = checks.iter().map(|check| &check.name).chain(objects.iter().map(|check| &check.name));
        match all.find(|name| !names.insert(name.as_str())) {
            Some(twice) => Err(Error::usage(format!("two checks in {shown} are called {twice}"))),
            None => Ok(Checks { checks, objects }),
        }
    }

    /// Those of objects in a cluster.
    pub fn objects(&self) -> &[ObjectCheck] {
        &self.objects
    }

    /// Names of those that run on a machine.
    pub fn of_machines(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().map(|check| check.name.as_str())
    }

    /// Whether a check of this name is one of objects.
    pub fn has(&self, name: &str) -> bool {
        self.objects.iter().any(|check| check.name == name)
    }

    /// Runs them all, a few at a time, and gives what they said in their order. Once what `stop`
    /// gives is set, those that run are ended, and no other begins. It is asked only if there is a
    /// program to run.
    pub fn run(&self, catalogue: &Catalogue, stop: impl FnOnce() -> Arc<AtomicBool>) -> Vec<(Check, Vec<Finding>)> {
        let stop = &if self.checks.is_empty() { Arc::default() } else { stop() };
        let next = Mutex::new(self.checks.iter().enumerate());
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(self.checks.len()) {
                scope.spawn(|| {
                    loop {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let Some((i, check)) = next.lock().ok().and_then(|mut next| next.next()) else { return };
                        let said = check.run(catalogue, stop);
                        if let Ok(mut done) = done.lock() {
                            done.push((i, said));
                        }
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_default();
        done.sort_by_key(|(i, _)| *i);
        let elsewhere = self.objects.iter().map(|check| {
            let detail = "looks at objects of a cluster: aictl diagnose without --local and --kernel-log".to_owned();
            (Check { name: check.name.clone(), state: State::Skipped, detail }, Vec::new())
        });
        done.into_iter().map(|(_, said)| said).chain(elsewhere).collect()
    }
}

/// Reads a site's limits.
fn limits(path: &Path, text: &str, catalogue: &mut Catalogue) -> Result<(), Error> {
    let wrong = || Error::usage(format!("wrong limits in {}", path.display())).hint("docs/checks.md has the keys");
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(());
    }
    let limits: Limits = yaml::from_str(text).map_err(|error| wrong().because(error))?;
    limits.check().map_err(|why| wrong().because(why))?;
    catalogue.limit(limits);
    Ok(())
}

impl SiteCheck {
    fn run(&self, catalogue: &Catalogue, stop: &Arc<AtomicBool>) -> (Check, Vec<Finding>) {
        let mut environment = vec![
            ("NODE_NAME".to_owned(), machine::node_name().into()),
            ("AICTL_CHECK".to_owned(), self.name.clone().into()),
            ("AICTL_TIMEOUT_S".to_owned(), self.timeout.as_secs_f64().to_string().into()),
        ];
        environment.extend(self.environment.iter().cloned());
        let ran = command::run(&Order {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            environment,
            directory: self.directory.clone(),
            timeout: self.timeout,
            most_output: MOST_OUTPUT,
            stop: Some(Arc::clone(stop)),
        });
        let (meaning, mut detail) = match &ran {
            Ok(ran) => self.rules.judge(ran, self.timeout),
            Err(error) => (Meaning::Blind, self.not_run(error)),
        };
        let lines: Vec<String> = ran.as_ref().map(telling).unwrap_or_default();
        if let Some(first) = lines.first() {
            let first: String = first.chars().take(self.shown).collect();
            detail = if detail.is_empty() { first } else { format!("{detail}: {first}") };
        }
        if detail.is_empty() {
            detail.push_str("it printed nothing");
        }
        if ran.as_ref().is_ok_and(|ran| ran.cut) {
            detail.push_str(" (more than 64 KiB of output; the rest was left out)");
        }
        let (state, found) = match meaning {
            Meaning::Ok => (State::Ok, Vec::new()),
            Meaning::Blind => (State::Blind, Vec::new()),
            Meaning::Skipped => (State::Skipped, Vec::new()),
            Meaning::Fault => {
                let finding = self.finding(catalogue, &lines, &detail);
                // Notes are no faults.
                (if finding.severity > Severity::Info { State::Fault } else { State::Ok }, vec![finding])
            }
        };
        (Check { name: self.name.clone(), state, detail }, found)
    }

    fn finding(&self, catalogue: &Catalogue, lines: &[String], detail: &str) -> Finding {
        let evidence = if lines.is_empty() { vec![detail.to_owned()] } else { lines.iter().take(3).cloned().collect() };
        // A program that knows which device says so: "device=0000:3b:00.0", "device=/dev/sda".
        let named = lines.iter().flat_map(|line| line.split_whitespace()).find_map(|word| word.strip_prefix("device="));
        let is_pci = |name: &str| name.len() == 12 && name.as_bytes().get(4) == Some(&b':') && name.contains('.');
        let device = match named {
            Some(name) if is_pci(name) => Device { pci: Some(name.to_owned()), ..Device::default() },
            named => Device { name: named.map(str::to_owned), ..Device::default() },
        };
        Finding::read(catalogue, &self.fault, device, evidence, &self.name, Timestamp::now())
    }

    fn not_run(&self, error: &std::io::Error) -> String {
        let program = self.program.display();
        match error.kind() {
            std::io::ErrorKind::NotFound => format!("{program} is not there, or its interpreter is not"),
            std::io::ErrorKind::PermissionDenied => format!("{program} may not be run: chmod +x it"),
            _ if error.raw_os_error() == Some(libc::ENOEXEC) => {
                format!("{program} is no program: begin a script with #!/bin/sh")
            }
            _ => format!("cannot run {program}: {error}"),
        }
    }
}

impl Rules {
    /// As node-problem-detector's plugins: 0 is well, 1 is the problem, anything else can't tell.
    fn usual() -> Rules {
        Rules { output: Vec::new(), ok: vec![0], fault: vec![1] }
    }

    fn judge(&self, ran: &Ran, timeout: Duration) -> (Meaning, String) {
        let code = match ran.end {
            End::Late => {
                let words = format!("not done after {} s, and killed with all it had started", timeout.as_secs_f64());
                return (Meaning::Blind, words);
            }
            End::Stopped => return (Meaning::Blind, "interrupted, and killed with all it had started".to_owned()),
            End::Signalled(signal) => return (Meaning::Blind, format!("ended by signal {signal}")),
            End::Exited(code) => code,
        };
        let said = self.output.iter().find(|(regex, _)| regex.is_match(&ran.stdout));
        if let Some((_, meaning)) = said {
            return (*meaning, String::new());
        }
        match code {
            code if self.ok.contains(&code) => (Meaning::Ok, String::new()),
            code if self.fault.contains(&code) => (Meaning::Fault, String::new()),
            code => (Meaning::Blind, format!("it can't tell (exit code {code})")),
        }
    }
}

/// Lines of output that say something: of stdout, else of stderr.
fn telling(ran: &Ran) -> Vec<String> {
    let text = if ran.stdout.trim().is_empty() { &ran.stderr } else { &ran.stdout };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take(16).map(|line| line.chars().take(LINE).collect()).collect()
}
