//! Lines in a script that ask for what flags ask for: `#AICTL` in the words of `aictl submit`,
//! `#SBATCH` in those of sbatch.

use std::collections::BTreeMap;

use clap::{Args as _, Command, FromArgMatches};

use super::SpecArgs;
use crate::cmd::error::Error;
use crate::queue::{Bytes, Draft};

/// What a script's directives come to.
#[derive(Debug, Default)]
pub struct Directives {
    /// What they ask for; `#AICTL` over `#SBATCH`.
    pub draft: Draft,
    /// What was not understood, with its line.
    pub unknown: Vec<String>,
}

/// Reads a script's directives. They stand before the first line that is neither empty nor a comment,
/// as sbatch has it.
///
/// # Errors
/// If a directive is understood and its value is wrong.
pub fn read(script: &str, path: &str) -> Result<Directives, Error> {
    let (mut ours, mut slurms) = (Draft::default(), Draft::default());
    let mut unknown = Vec::new();
    for (line, number) in script.lines().zip(1..) {
        let text = line.trim();
        if !text.is_empty() && !text.starts_with('#') {
            break;
        }
        let place = format!("{path}:{number}");
        let wrong = |why: String| Error::usage(format!("{place}: {why}"));
        let directive = |name: &str| text.strip_prefix(name).filter(|rest| rest.starts_with([' ', '\t']));
        let (rest, aictls) = match (directive("#AICTL"), directive("#SBATCH")) {
            (Some(rest), _) => (rest, true),
            (_, Some(rest)) => (rest, false),
            _ => continue,
        };
        let words = words(rest).ok_or_else(|| wrong("a quote is not closed".to_owned()))?;
        if aictls {
            ours = read_ours(&words).map_err(wrong)?.over(ours);
        } else {
            let (draft, not_understood) = read_sbatch(&words).map_err(wrong)?;
            slurms = draft.over(slurms);
            unknown.extend(not_understood.into_iter().map(|option| format!("{place}: #SBATCH {option}")));
        }
    }
    Ok(Directives { draft: ours.over(slurms), unknown })
}

/// Words of a line; a `#` that starts a word starts a comment.
fn words(line: &str) -> Option<Vec<String>> {
    shlex::split(line)
}

fn read_ours(words: &[String]) -> Result<Draft, String> {
    let command = SpecArgs::augment_args(Command::new("#AICTL").no_binary_name(true).disable_help_flag(true));
    let matches = command.try_get_matches_from(words).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("error: ").unwrap_or(first).to_owned()
    })?;
    let args = SpecArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    args.draft()
}

/// Options of sbatch that take a value: short name, long name.
const VALUED: &[(&str, &str)] = &[
    ("J", "job-name"),
    ("p", "partition"),
    ("N", "nodes"),
    ("n", "ntasks"),
    ("c", "cpus-per-task"),
    ("G", "gpus"),
    ("t", "time"),
    ("a", "array"),
    ("d", "dependency"),
    ("D", "chdir"),
    ("o", "output"),
    ("e", "error"),
    ("A", "account"),
    ("q", "qos"),
    ("C", "constraint"),
    ("", "gres"),
    ("", "gpus-per-node"),
    ("", "gpus-per-task"),
    ("", "ntasks-per-node"),
    ("", "mem"),
    ("", "export"),
    ("", "priority"),
    ("", "comment"),
    ("M", "clusters"),
    ("w", "nodelist"),
    ("x", "exclude"),
    ("b", "begin"),
    ("", "mail-type"),
    ("", "mail-user"),
    ("", "mem-per-cpu"),
    ("", "mem-per-gpu"),
    ("", "cpus-per-gpu"),
    ("", "reservation"),
    ("", "signal"),
    ("", "open-mode"),
    ("L", "licenses"),
    ("", "nice"),
    ("", "tmp"),
    ("m", "distribution"),
    ("", "gpu-bind"),
    ("", "switches"),
];

/// Options of sbatch, long or short, with `=` or without.
fn options(words: &[String]) -> Vec<(String, Option<String>)> {
    let mut options = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let takes = VALUED.iter().any(|(_, known)| *known == name);
            let value = value.or_else(|| if takes { words.next().cloned() } else { None });
            options.push((name.to_owned(), value));
        } else if let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) {
            let (letter, rest) = short.split_at(short.chars().next().map_or(0, char::len_utf8));
            let long = VALUED.iter().find(|(known, _)| *known == letter);
            let joined = rest.strip_prefix('=').unwrap_or(rest);
            match long {
                Some((_, long)) if joined.is_empty() => options.push(((*long).to_owned(), words.next().cloned())),
                Some((_, long)) => options.push(((*long).to_owned(), Some(joined.to_owned()))),
                None if letter == "H" => options.push(("hold".to_owned(), None)),
                None => options.push((format!("-{short}"), None)),
            }
        } else {
            options.push((word.clone(), None));
        }
    }
    options
}

fn read_sbatch(words: &[String]) -> Result<(Draft, Vec<String>), String> {
    let mut draft = Draft::default();
    let mut unknown = Vec::new();
    let (mut cpus_per_task, mut tasks, mut tasks_per_node) = (None, None, None);
    for (name, value) in options(words) {
        let shown = match &value {
            Some(value) => format!("--{name}={value}"),
            None if name.starts_with('-') => name.clone(),
            None => format!("--{name}"),
        };
        let needed = || value.clone().ok_or_else(|| format!("#SBATCH {shown} needs a value"));
        let number = || -> Result<u32, String> {
            let text = needed()?;
            text.parse().map_err(|_| format!("#SBATCH {shown}: {text:?} is no number"))
        };
        match name.as_str() {
            // Slurm takes any name; only its own is kept there, so it is made fit and not refused.
            "job-name" => draft.name = Some(Draft::fitting_name(&needed()?)),
            "partition" => draft.queue = Some(needed()?),
            "nodes" => {
                let text = needed()?;
                let least = text.split('-').next().unwrap_or_default();
                draft.nodes = Some(least.parse().map_err(|_| format!("#SBATCH {shown}: {text:?} is no number"))?);
                if text.contains('-') {
                    unknown.push(format!("{shown}: a range of nodes; the least is taken"));
                }
            }
            "ntasks" => tasks = Some(number()?),
            "ntasks-per-node" => tasks_per_node = Some(number()?),
            "cpus-per-task" => cpus_per_task = Some(number()?),
            "gpus" => (draft.gpu_type, draft.gpus) = gpus(&needed()?, &shown)?,
            "gpus-per-node" => (draft.gpu_type, draft.gpus_per_node) = gpus(&needed()?, &shown)?,
            "gres" => {
                for item in needed()?.split(',') {
                    match item.strip_prefix("gpu").map(|rest| rest.trim_start_matches(':')) {
                        Some("") => draft.gpus_per_node = Some(1),
                        Some(rest) => (draft.gpu_type, draft.gpus_per_node) = gpus(rest, &shown)?,
                        None => unknown.push(format!("--gres={item}")),
                    }
                }
            }
            "mem" => draft.memory = Some(Bytes::slurm(&needed()?)?),
            "time" => draft.time = Some(needed()?.parse()?),
            "array" => draft.array = Some(needed()?.parse()?),
            "dependency" => draft.after = dependencies(&needed()?, &mut unknown)?,
            "chdir" => draft.workdir = Some(needed()?),
            "output" => draft.output = Some(needed()?),
            "account" => draft.account = Some(needed()?),
            "qos" => draft.qos = Some(needed()?),
            "priority" => draft.priority = Some(needed()?),
            "constraint" => draft.constraint = Some(needed()?),
            "exclusive" => draft.exclusive = Some(true),
            "hold" => draft.hold = Some(true),
            "requeue" => draft.retries = Some(1),
            "no-requeue" => draft.retries = Some(0),
            "export" => export(&needed()?, &mut draft.env, &mut unknown),
            _ => unknown.push(shown),
        }
    }
    if let (Some(tasks), None, None) = (tasks, tasks_per_node, draft.nodes)
        && tasks > 1
    {
        unknown.push(format!("--ntasks={tasks}: without --nodes the tasks have no nodes; one node is taken"));
        draft.processes_per_node = Some(tasks);
    }
    if let Some(each) = tasks_per_node {
        draft.processes_per_node = Some(each);
    }
    if let Some(cpus) = cpus_per_task {
        let tasks = tasks_per_node.or(draft.processes_per_node).unwrap_or(1);
        draft.cpus = Some(format!("{}", u64::from(cpus) * u64::from(tasks)).parse()?);
    }
    Ok((draft, unknown))
}

/// `4`, `h100:4`.
fn gpus(text: &str, shown: &str) -> Result<(Option<String>, Option<u32>), String> {
    let (kind, count) = match text.rsplit_once(':') {
        Some((kind, count)) => (Some(kind.to_owned()), count),
        None => (None, text),
    };
    let count = count.parse().map_err(|_| format!("#SBATCH {shown}: {text:?} is no number of GPUs"))?;
    Ok((kind, Some(count)))
}

/// `afterok:12:13,afterany:14`.
fn dependencies(text: &str, unknown: &mut Vec<String>) -> Result<Vec<crate::queue::After>, String> {
    let mut after = Vec::new();
    for item in text.split(',') {
        let mut parts = item.split(':');
        let outcome = match parts.next() {
            Some("afterok") => "ok",
            Some("afterany") => "any",
            Some("afternotok") => "notok",
            _ => {
                unknown.push(format!("--dependency={item}"));
                continue;
            }
        };
        for job in parts {
            after.push(format!("{job}:{outcome}").parse()?);
        }
    }
    Ok(after)
}

/// `ALL`, `NONE`, `NAME=VALUE,NAME`.
fn export(text: &str, env: &mut BTreeMap<String, String>, unknown: &mut Vec<String>) {
    for item in text.split(',') {
        match item.split_once('=') {
            Some((name, value)) => {
                env.insert(name.to_owned(), value.to_owned());
            }
            None if matches!(item, "ALL" | "NONE" | "NIL") => {}
            None => match std::env::var(item) {
                Ok(value) => {
                    env.insert(item.to_owned(), value);
                }
                Err(_) => unknown.push(format!("--export={item}: there is no such variable")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCRIPT: &str = "#!/bin/bash
#SBATCH --job-name=Train_LLM -N 2
#SBATCH --gres=gpu:h100:8 --time=1-00:00:00
#SBATCH --mem 64G
#SBATCH -p batch --mail-type=END
#AICTL --queue research --image ghcr.io/x/y:1
set -e
#SBATCH --nodes=9
";

    #[test]
    fn directives_are_read_up_to_the_first_command() {
        let read = read(SCRIPT, "train.sh").unwrap();
        let draft = read.draft;
        assert_eq!(draft.name.as_deref(), Some("train-llm"));
        assert_eq!((draft.nodes, draft.gpus_per_node, draft.gpu_type.as_deref()), (Some(2), Some(8), Some("h100")));
        assert_eq!(draft.queue.as_deref(), Some("research"), "#AICTL wins");
        assert_eq!(draft.memory, Some(Bytes(64 << 30)));
        assert_eq!(draft.time.unwrap().0, 86_400);
        assert_eq!(read.unknown, ["train.sh:5: #SBATCH --mail-type=END"]);
    }

    #[test]
    fn wrong_values_name_their_line() {
        for (script, word) in [
            ("#SBATCH --nodes=two\n", "x:1"),
            ("\n#SBATCH --time=yesterday\n", "x:2"),
            ("#AICTL --nodes two\n", "x:1"),
            ("#AICTL --no-such-flag\n", "x:1"),
            ("#SBATCH --mem\n", "needs a value"),
            ("#SBATCH --job-name=\"open\n", "quote"),
            ("#SBATCH --array=9-0\n", "no array"),
        ] {
            let error = read(script, "x").unwrap_err().line();
            assert!(error.contains(word), "{script:?}: {error}");
        }
    }

    #[test]
    fn dependencies_and_exports_are_understood() {
        let script =
            "#SBATCH -d afterok:12:13,afterany:14,singleton --export=ALL,A=1\n#SBATCH -H --exclusive --requeue\n";
        let read = read(script, "x").unwrap();
        let after: Vec<String> = read.draft.after.iter().map(ToString::to_string).collect();
        assert_eq!(after, ["12:ok", "13:ok", "14:any"]);
        assert_eq!(
            (read.draft.env["A"].as_str(), read.draft.hold, read.draft.exclusive),
            ("1", Some(true), Some(true))
        );
        assert_eq!(read.unknown, ["x:1: #SBATCH --dependency=singleton"]);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_fall_over(line in "\\PC{0,60}") {
            let _ = read(&format!("#SBATCH {line}\n#AICTL {line}\n"), "x");
        }
    }
}
