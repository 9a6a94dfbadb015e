//! A check as a YAML file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;

use super::super::super::values::Length;
use super::super::Error;
use super::{Meaning, Read, Rules, SiteCheck, objects};
use crate::fault::{Catalogue, Component, Entry, Rating};
use crate::view::yaml;

/// Of a check that gives none.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that may be given: a look has to end.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    script: Option<PathBuf>,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    timeout: Option<Length>,
    #[serde(default)]
    schedule: Option<Length>,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    kubernetes: Option<objects::Written>,
    fault: String,
    #[serde(default)]
    define: Option<Define>,
    #[serde(default)]
    when: Option<When>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Command,
    /// Exit codes and the short first line of node-problem-detector.
    NodeProblemDetector,
}

/// A fault that the catalogue does not have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Define {
    title: String,
    component: Component,
    severity: Rating,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    then: Option<String>,
    #[serde(default)]
    explain: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct When {
    exit_code: Option<ExitCodes>,
    output: Vec<Output>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ExitCodes {
    ok: Vec<i32>,
    fault: Vec<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    #[serde(rename = "match")]
    pattern: String,
    means: Meaning,
}

/// Reads a check; a fault that it defines goes into the catalogue.
pub(super) fn read(path: &Path, text: &str, catalogue: &mut Catalogue) -> Result<Read, Error> {
    let shown = path.display();
    let wrong = |why: String| Error::usage(format!("wrong check in {shown}: {why}"));
    let written: Written = yaml::from_str(text).map_err(|error| {
        Error::usage(format!("wrong check in {shown}")).because(error).hint("docs/checks.md has all keys")
    })?;
    if written.name.trim().is_empty() {
        return Err(wrong("name is empty".to_owned()));
    }
    let directory = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned));
    let beside = |file: &Path| match (&directory, file.is_absolute()) {
        (Some(directory), false) => directory.join(file),
        _ => file.to_owned(),
    };
    if let Some(kubernetes) = written.kubernetes {
        let of_program = !written.command.is_empty()
            || !written.arguments.is_empty()
            || !written.environment.is_empty()
            || written.script.is_some()
            || written.when.is_some();
        if of_program {
            return Err(wrong("it looks at objects of Kubernetes, and can't run a program as well".to_owned()));
        }
        let check = kubernetes.check(written.name, written.fault.to_ascii_lowercase());
        let check = check.map_err(|why| wrong(why).hint("docs/checks.md has all keys"))?;
        name_fault(&check.fault, written.define, &shown.to_string(), catalogue)?;
        return Ok(Read::Objects(check));
    }
    let (program, mut arguments) = match (&written.script, written.command.split_first()) {
        (Some(script), None) => (beside(script), Vec::new()),
        (None, Some((program, arguments))) => {
            // A name alone is looked for where programs are.
            let program = if program.contains('/') { beside(Path::new(program)) } else { program.into() };
            (program, arguments.to_vec())
        }
        (Some(_), Some(_)) => return Err(wrong("it has a command and a script; one will do".to_owned())),
        (None, None) => return Err(wrong("it has neither a command nor a script, nor kubernetes".to_owned())),
    };
    arguments.extend(written.arguments);
    let timeout = written.timeout.map_or(TIMEOUT, |length| length.0);
    if timeout.is_zero() || timeout > LONGEST {
        return Err(wrong("its timeout is not between 0 and 1 h".to_owned()));
    }
    let fault = written.fault.to_ascii_lowercase();
    name_fault(&fault, written.define, &shown.to_string(), catalogue)?;
    let mut rules = Rules::usual();
    let when = written.when.unwrap_or_default();
    if let Some(codes) = when.exit_code {
        if let Some(both) = codes.ok.iter().find(|code| codes.fault.contains(code)) {
            return Err(wrong(format!("exit code {both} can't be both ok and fault")));
        }
        (rules.ok, rules.fault) = (codes.ok, codes.fault);
    }
    for output in when.output {
        let regex = Regex::new(&output.pattern)
            .map_err(|error| wrong(format!("no regular expression: {}", output.pattern)).because(error))?;
        rules.output.push((regex, output.means));
    }
    Ok(Read::Program(SiteCheck {
        name: written.name,
        program,
        arguments: arguments.into_iter().map(Into::into).collect(),
        environment: written.environment.into_iter().map(|(name, value)| (name, value.into())).collect(),
        directory,
        timeout,
        schedule: written.schedule.map(|length| length.0),
        fault,
        rules,
        shown: if written.kind == Kind::NodeProblemDetector { super::plugin::SHOWN } else { super::LINE },
    }))
}

/// The fault of a check is one of the catalogue's, or is defined with it.
fn name_fault(fault: &str, define: Option<Define>, shown: &str, catalogue: &mut Catalogue) -> Result<(), Error> {
    let wrong = |why: String| Error::usage(format!("wrong check in {shown}: {why}"));
    match define {
        Some(define) => catalogue
            .add(define.entry(fault, shown))
            .map_err(|entry| wrong(format!("{} is in the catalogue already; leave out `define`", entry.fault))),
        None if catalogue.get(fault).is_none() => Err(wrong(format!("{fault} is not in the catalogue"))
            .hint("`define` adds it: title, component, severity, and if need be scope, action, explain")),
        None => Ok(()),
    }
}

impl Define {
    fn entry(self, fault: &str, source: &str) -> Entry {
        let usual = Entry::of_site(fault.to_owned(), self.title, self.component, self.severity, source.to_owned());
        Entry {
            scope: self.scope.unwrap_or(usual.scope),
            action: self.action.unwrap_or(usual.action),
            then: self.then,
            explain: self.explain.unwrap_or_else(|| "A check of this site's own found it.".to_owned()),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> Result<Read, String> {
        let mut catalogue = Catalogue::embedded().unwrap();
        read(Path::new("/checks/one.yaml"), text, &mut catalogue).map_err(|error| format!("{error:?}"))
    }

    fn parsed(text: &str) -> Result<SiteCheck, String> {
        match read_one(text)? {
            Read::Program(check) => Ok(check),
            Read::Objects(check) => panic!("{check:?}"),
        }
    }

    #[test]
    fn objects_of_a_cluster_are_checked_for_a_condition_or_a_field() {
        let of = |rest: &str| {
            let text = format!(
                "name: pools\nfault: io-error\nkubernetes:\n  apiVersion: karpenter.sh/v1\n  kind: NodePool\n{rest}"
            );
            match read_one(&text) {
                Ok(Read::Objects(check)) => Ok(check),
                Ok(Read::Program(check)) => panic!("{check:?}"),
                Err(error) => Err(error),
            }
        };
        let check = of("  condition: {type: Ready, status: True, for: 5m}\n").unwrap();
        assert_eq!(check.none, Meaning::Skipped);
        assert!(format!("{:?}", check.test).contains("status: \"True\""), "{:?}", check.test);
        assert!(
            of("  field: status.nodes\n  at_least: 1\n  default: 0\n  node: spec.nodeName\n  none: fault\n").is_ok()
        );
        for (rest, words) in [
            ("", "neither a condition nor a field"),
            ("  field: status.x\n", "what must status.x be"),
            ("  field: status.x\n  at_least: 1\n  at_most: 2\n", "two ways"),
            ("  field: a[\n  equals: 1\n", "has no ]"),
            ("  condition: {type: Ready, status: yes}\n  field: a\n  equals: 1\n", "one will do"),
            ("  condition: {type: Ready, status: Maybe}\n", "True, False or Unknown"),
            ("  condition: {type: Ready}\n", "status"),
            ("  fields: a\n", "line 6"),
            ("  field: a\n  equals: 1\nscript: x\n", "can't run a program as well"),
        ] {
            let error = of(rest).unwrap_err();
            assert!(error.contains(words), "{rest}: {error}");
        }
    }

    #[test]
    fn a_check_has_its_defaults() {
        let check = parsed("name: raid\nscript: ./raid.sh\nfault: io-error\n").unwrap();
        assert_eq!(check.program, Path::new("/checks/./raid.sh"));
        assert_eq!((check.timeout, check.schedule), (TIMEOUT, None));
        let check =
            parsed("name: a\ncommand: [mdadm, --detail]\nfault: IO-ERROR\ntimeout: 5s\nschedule: 10m\n").unwrap();
        assert_eq!((check.program.as_path(), check.timeout.as_secs()), (Path::new("mdadm"), 5));
        assert_eq!(check.schedule, Some(Duration::from_secs(600)));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, words) in [
            ("name: a\nscript: x\nfault: io-error\nfualt: y\n", "line 4"),
            ("name: a\nfault: io-error\n", "neither a command nor a script"),
            ("name: a\nscript: x\ncommand: [y]\nfault: io-error\n", "one will do"),
            ("name: a\nscript: x\nfault: no-such\n", "not in the catalogue"),
            ("name: a\nscript: x\nfault: io-error\ntimeout: 0\n", "timeout"),
            ("name: a\nscript: x\nfault: io-error\ndefine: {title: a, component: node, severity: error}\n", "already"),
            ("name: a\nscript: x\nfault: io-error\nwhen: {output: [{match: '(', means: ok}]}\n", "regular expression"),
            ("name: a\nscript: x\nfault: io-error\nwhen: {exit_code: {ok: [0], fault: [0]}}\n", "both"),
            ("name: [\n", "wrong check in /checks/one.yaml"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn output_decides_before_the_exit_code() {
        use crate::host::command::{End, Ran};
        let check = parsed(
            "name: a\nscript: x\nfault: io-error\nwhen:\n  output:\n  - {match: degraded, means: fault}\n  - {match: '^no array', means: skipped}\n  exit_code: {ok: [0, 4], fault: [2]}\n",
        )
        .unwrap();
        let judged = |stdout: &str, code| {
            let ran = Ran { end: End::Exited(code), stdout: stdout.to_owned(), stderr: String::new(), cut: false };
            check.rules.judge(&ran, TIMEOUT).0
        };
        assert_eq!(judged("md0 degraded", 0), Meaning::Fault);
        assert_eq!(judged("no array", 1), Meaning::Skipped);
        assert_eq!((judged("", 4), judged("", 2), judged("", 1)), (Meaning::Ok, Meaning::Fault, Meaning::Blind));
    }
}
