//! Custom plugin configurations of node-problem-detector, as they stand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::super::super::values::Length;
use super::super::Error;
use super::{Rules, SiteCheck};
use crate::fault::{Catalogue, Component, Entry, Rating};

/// Characters of a plugin's message that node-problem-detector shows by default.
pub(super) const SHOWN: usize = 80;
/// Its default time for a plugin.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Keys that we have no use for (conditions, metrics, concurrency) are left alone.
#[derive(Debug, Deserialize)]
struct Written {
    plugin: String,
    #[serde(default, rename = "pluginConfig")]
    settings: Plugin,
    #[serde(default)]
    source: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Plugin {
    invoke_interval: Option<String>,
    timeout: Option<String>,
    max_output_length: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    condition: String,
    reason: String,
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    timeout: Option<String>,
}

/// Reads the rules of a configuration; each is a check.
pub(super) fn read(path: &Path, text: &str, catalogue: &mut Catalogue) -> Result<Vec<SiteCheck>, Error> {
    let shown = path.display();
    let written: Written =
        serde_json::from_str(text).map_err(|error| Error::usage(format!("wrong check in {shown}")).because(error))?;
    if written.plugin != "custom" {
        return Err(Error::usage(format!("wrong check in {shown}: its plugin is {:?}", written.plugin))
            .hint("only node-problem-detector's \"custom\" plugins are checks; kernel logs are read by themselves"));
    }
    let length = |text: &Option<String>| match text.as_deref().map(str::parse::<Length>) {
        None => Ok(None),
        Some(Ok(length)) => Ok(Some(length.0)),
        Some(Err(why)) => {
            Err(Error::usage(format!("wrong check in {shown}: {}: {why}", text.as_deref().unwrap_or(""))))
        }
    };
    let (schedule, usual) = (length(&written.settings.invoke_interval)?, length(&written.settings.timeout)?);
    let mut checks = Vec::new();
    for rule in written.rules {
        let fault = dashed(&rule.reason);
        if catalogue.get(&fault).is_none() {
            // Two rules may give one reason; the first one's entry stands.
            let _ = catalogue.add(entry(&fault, &rule, &shown.to_string()));
        }
        let source = if written.source.is_empty() { "custom-plugin" } else { &written.source };
        let mut name = format!("{source}/{}", rule.reason);
        if checks.iter().any(|check: &SiteCheck| check.name == name) {
            name = format!("{name}/{}", checks.len());
        }
        checks.push(SiteCheck {
            name,
            program: place(path, &rule.path),
            arguments: rule.args.iter().map(Into::into).collect(),
            environment: Vec::new(),
            directory: None,
            timeout: length(&rule.timeout)?.or(usual).filter(|length| !length.is_zero()).unwrap_or(TIMEOUT),
            schedule,
            fault,
            rules: Rules::usual(),
            shown: written.settings.max_output_length.unwrap_or(SHOWN),
        });
    }
    Ok(checks)
}

/// Its paths count from where node-problem-detector runs, which is unknown: beside the file, in
/// the directory above it (`./config/plugin/x.sh` in config/), or from here.
fn place(file: &Path, program: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let above = file.ancestors().skip(1).take(2).map(|directory| directory.join(program));
    let here = std::path::absolute(program).ok();
    let found = above.chain(here).find(|path| path.exists());
    found.unwrap_or_else(|| file.parent().unwrap_or(Path::new("/")).join(program))
}

/// "NTPIsDown" is "ntp-is-down".
fn dashed(reason: &str) -> String {
    let letters: Vec<char> = reason.chars().collect();
    let mut name = String::new();
    for (i, letter) in letters.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| letters.get(i));
        let after = letters.get(i + 1);
        let begins = letter.is_uppercase()
            && before.is_some_and(|before| !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase()));
        if begins && !name.ends_with('-') {
            name.push('-');
        }
        match letter {
            letter if letter.is_alphanumeric() => name.extend(letter.to_lowercase()),
            _ if !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    name.trim_matches('-').to_owned()
}

fn entry(fault: &str, rule: &Rule, source: &str) -> Entry {
    let permanent = rule.kind != "temporary";
    let condition = if rule.condition.is_empty() { String::new() } else { format!(" ({})", rule.condition) };
    let title = format!("{}{condition}", rule.reason);
    // A temporary problem is an event, a permanent one a condition of the node.
    let severity = if permanent { Rating::Error } else { Rating::Warning };
    Entry {
        name: rule.reason.clone(),
        explain: format!("The plugin {} reported it; its message says more.", rule.path.display()),
        ..Entry::of_site(fault.to_owned(), title, Component::Node, severity, source.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_become_names() {
        for (reason, name) in [
            ("NTPIsDown", "ntp-is-down"),
            ("KubeletUnhealthy", "kubelet-unhealthy"),
            ("FilesystemIsReadOnly", "filesystem-is-read-only"),
            ("already_named x", "already-named-x"),
        ] {
            assert_eq!(dashed(reason), name);
        }
    }

    #[test]
    fn a_configuration_is_taken_as_it_stands() {
        let text = r#"{"plugin": "custom", "source": "ntp-monitor",
            "pluginConfig": {"invoke_interval": "30s", "timeout": "5s", "max_output_length": 40, "concurrency": 3},
            "conditions": [{"type": "NTPProblem", "reason": "NTPIsUp", "message": "up"}],
            "rules": [
              {"type": "permanent", "condition": "NTPProblem", "reason": "NTPIsDown", "path": "./x.sh", "timeout": "3m"},
              {"type": "temporary", "reason": "NTPIsDown", "path": "/y", "args": ["--a=b"]}]}"#;
        let mut catalogue = Catalogue::embedded().unwrap();
        let checks = read(Path::new("/etc/npd/ntp.json"), text, &mut catalogue).unwrap();
        assert_eq!(checks.len(), 2);
        let (first, second) = (&checks[0], &checks[1]);
        assert_eq!((first.name.as_str(), second.name.as_str()), ("ntp-monitor/NTPIsDown", "ntp-monitor/NTPIsDown/1"));
        assert_eq!((first.timeout.as_secs(), second.timeout.as_secs(), first.shown), (180, 5, 40));
        assert_eq!(first.program, Path::new("/etc/npd/./x.sh"));
        assert_eq!(second.arguments, ["--a=b"]);
        assert_eq!(catalogue.get("ntp-is-down").unwrap().severity, Rating::Error);
        let kernel = read(Path::new("/k.json"), r#"{"plugin": "kmsg"}"#, &mut catalogue);
        assert!(format!("{:?}", kernel.unwrap_err()).contains("kmsg"));
        assert!(read(Path::new("/k.json"), "{", &mut catalogue).is_err());
    }
}
