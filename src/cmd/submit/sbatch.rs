//! What a script's `#SBATCH` options come to, all together: tasks, nodes and CPUs mean something only with
//! each other, on whatever lines they stand.

use std::collections::BTreeMap;

use crate::cmd::error::Error;
use crate::cmd::settings::Settings;
use crate::queue::{After, Bytes, Cpus, Draft};

/// One option, and where it stands.
pub(super) struct Given {
    /// `train.sh:2`.
    place: String,
    /// Long, without dashes; what is no option at all, as it is.
    name: String,
    value: Option<String>,
}

/// What is to be said of a script's options. Not for Slurm, where sbatch itself reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// What has no effect.
    pub unknown: Vec<String>,
    /// What is taken otherwise than sbatch would, in whole sentences.
    pub changed: Vec<String>,
    /// What no other engine could do, and must not be left out.
    pub refused: Vec<String>,
}

impl Remarks {
    /// Says it.
    ///
    /// # Errors
    /// If something can't be left out.
    pub fn say(&self, settings: &Settings) -> Result<(), Error> {
        if let Some(refused) = self.refused.first() {
            return Err(Error::usage(refused).hint("Slurm itself can: --to slurm"));
        }
        for unknown in &self.unknown {
            settings.ui.warn(&format!("{unknown} is not understood and has no effect"));
        }
        for changed in &self.changed {
            settings.ui.warn(changed);
        }
        Ok(())
    }
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
pub(super) fn options(words: &[String], place: &str) -> Vec<Given> {
    let mut options: Vec<(String, Option<String>)> = Vec::new();
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
    options.into_iter().map(|(name, value)| Given { place: place.to_owned(), name, value }).collect()
}

/// What sbatch counts and aictl has no word for.
#[derive(Default)]
struct Tasks {
    all: Option<(u32, String)>,
    per_node: Option<u32>,
    cpus: Option<u32>,
}

/// What options come to; of two of a name the later one holds.
pub(super) fn combine(given: &[Given]) -> Result<(Draft, Remarks), String> {
    let (mut draft, mut tasks, mut remarks) = (Draft::default(), Tasks::default(), Remarks::default());
    for option in given {
        option.apply(&mut draft, &mut tasks, &mut remarks).map_err(|why| format!("{}: {why}", option.place))?;
    }
    tasks.combine(&mut draft, &mut remarks)?;
    Ok((draft, remarks))
}

impl Tasks {
    /// As sbatch does it: tasks are spread over the nodes, and `--ntasks-per-node` beside `--ntasks` is
    /// how many fit on one.
    fn combine(&self, draft: &mut Draft, remarks: &mut Remarks) -> Result<(), String> {
        if let (Some((all, _)), Some(each), None) = (&self.all, self.per_node, draft.nodes) {
            draft.nodes = Some(all.div_ceil(each));
        }
        draft.processes_per_node = match (&self.all, self.per_node) {
            (Some((all, shown)), None) if draft.nodes.is_none() => {
                if *all > 1 {
                    remarks.changed.push(format!("{shown} without --nodes: they are all on one node"));
                }
                Some(*all).filter(|all| *all > 1)
            }
            (Some((all, _)), _) => Some(all.div_ceil(draft.nodes.unwrap_or(1).max(1))),
            (None, each) => each,
        };
        if let Some(cpus) = self.cpus {
            let cores = u64::from(cpus) * u64::from(draft.processes_per_node.unwrap_or(1));
            draft.cpus = Some(cores.to_string().parse::<Cpus>()?);
        }
        Ok(())
    }
}

impl Given {
    /// As it could be written: `--mem=4G`.
    fn shown(&self) -> String {
        match &self.value {
            Some(value) => format!("--{}={value}", self.name),
            None if self.name.starts_with('-') => self.name.clone(),
            None => format!("--{}", self.name),
        }
    }

    fn needed(&self) -> Result<&str, String> {
        self.value.as_deref().ok_or_else(|| format!("#SBATCH {} needs a value", self.shown()))
    }

    fn number(&self) -> Result<u32, String> {
        let text = self.needed()?;
        text.parse().map_err(|_| format!("#SBATCH {}: {text:?} is no number", self.shown()))
    }

    /// How many tasks: at least one.
    fn count(&self) -> Result<u32, String> {
        let count = self.number()?;
        if count == 0 { Err(format!("#SBATCH {}: 0 is too few", self.shown())) } else { Ok(count) }
    }

    fn apply(&self, draft: &mut Draft, tasks: &mut Tasks, remarks: &mut Remarks) -> Result<(), String> {
        let (place, shown) = (&self.place, self.shown());
        let whole = format!("{place}: #SBATCH {shown}");
        let mut unknown = |what: String| remarks.unknown.push(format!("{place}: #SBATCH {what}"));
        match self.name.as_str() {
            // Slurm takes any name; only its own is kept there, so it is made fit and not refused.
            "job-name" => draft.name = Some(Draft::fitting_name(self.needed()?)),
            "partition" => draft.queue = Some(self.needed()?.to_owned()),
            "nodes" => {
                let text = self.needed()?;
                let least = text.split('-').next().unwrap_or_default();
                draft.nodes = Some(least.parse().map_err(|_| format!("#SBATCH {shown}: {text:?} is no number"))?);
                if text.contains('-') {
                    remarks.changed.push(format!("{whole} is a range of nodes: the least, {least}, is taken"));
                }
            }
            "ntasks" => tasks.all = Some((self.count()?, whole)),
            "ntasks-per-node" => tasks.per_node = Some(self.count()?),
            "cpus-per-task" => tasks.cpus = Some(self.count()?),
            "gpus" => (draft.gpu_type, draft.gpus) = gpus(self.needed()?, &shown)?,
            "gpus-per-node" => (draft.gpu_type, draft.gpus_per_node) = gpus(self.needed()?, &shown)?,
            "gres" => {
                for item in self.needed()?.split(',') {
                    match item.strip_prefix("gpu").map(|rest| rest.trim_start_matches(':')) {
                        Some("") => draft.gpus_per_node = Some(1),
                        Some(rest) => (draft.gpu_type, draft.gpus_per_node) = gpus(rest, &shown)?,
                        None => unknown(format!("--gres={item}")),
                    }
                }
            }
            "mem" => {
                draft.memory = Some(Bytes::slurm(self.needed()?)?).filter(|memory| memory.0 > 0);
                if draft.memory.is_none() {
                    remarks.changed.push(format!(
                        "{whole} is all memory of a node, which only Slurm gives: no amount is asked for"
                    ));
                }
            }
            "time" => {
                let text = self.needed()?;
                let endless = matches!(text.to_ascii_uppercase().as_str(), "UNLIMITED" | "INFINITE" | "0" | "-1");
                draft.time = if endless { None } else { Some(text.parse()?) };
            }
            "array" => draft.array = Some(self.needed()?.parse()?),
            "dependency" if self.needed()?.contains('?') => {
                draft.after = Vec::new();
                remarks
                    .refused
                    .push(format!("{whole}: that any one of several jobs (`?`) is enough, only Slurm knows"));
            }
            "dependency" => draft.after = dependencies(self.needed()?, unknown)?,
            "chdir" => draft.workdir = Some(self.needed()?.to_owned()),
            "output" => draft.output = Some(self.needed()?.to_owned()),
            "account" => draft.account = Some(self.needed()?.to_owned()),
            "qos" => draft.qos = Some(self.needed()?.to_owned()),
            "priority" if self.needed()?.eq_ignore_ascii_case("TOP") => {
                draft.priority = None;
                remarks.changed.push(format!("{whole} is Slurm's: no priority is asked for"));
            }
            "priority" => draft.priority = Some(self.needed()?.to_owned()),
            "constraint" => draft.constraint = Some(self.needed()?.to_owned()),
            "exclusive" => draft.exclusive = Some(true),
            "hold" => draft.hold = Some(true),
            "requeue" => draft.retries = Some(1),
            "no-requeue" => draft.retries = Some(0),
            "export" => export(self.needed()?, &mut draft.env, unknown),
            _ => unknown(shown),
        }
        Ok(())
    }
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
fn dependencies(text: &str, mut unknown: impl FnMut(String)) -> Result<Vec<After>, String> {
    let mut after = Vec::new();
    for item in text.split(',') {
        let mut parts = item.split(':');
        let outcome = match parts.next() {
            Some("afterok") => "ok",
            Some("afterany") => "any",
            Some("afternotok") => "notok",
            _ => {
                unknown(format!("--dependency={item}"));
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
fn export(text: &str, env: &mut BTreeMap<String, String>, mut unknown: impl FnMut(String)) {
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
                Err(_) => unknown(format!("--export={item}: there is no such variable")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::directives::read;
    use super::*;

    /// What a script's lines come to for a node: nodes, processes, thousandths of cores.
    fn of(lines: &[&str]) -> (Option<u32>, Option<u32>, Option<u64>) {
        let script: String = lines.iter().map(|line| format!("#SBATCH {line}\n")).collect();
        let draft = read(&script, "x").unwrap().draft;
        (draft.nodes, draft.processes_per_node, draft.cpus.map(|cpus| cpus.0 / 1000))
    }

    #[test]
    fn tasks_and_cpus_count_together_on_whatever_lines_they_stand() {
        let apart: [(&[&str], _); 9] = [
            (&["--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=8"], (Some(2), Some(4), Some(32))),
            (&["--cpus-per-task=8", "--ntasks-per-node=4", "--nodes=2"], (Some(2), Some(4), Some(32))),
            (&["--nodes=2", "--ntasks=8"], (Some(2), Some(4), None)),
            (&["-N 1", "-n 8", "-c 2"], (Some(1), Some(8), Some(16))),
            (&["-n 8", "--ntasks-per-node=4"], (Some(2), Some(4), None)),
            (&["-n 6", "--ntasks-per-node=4", "-c 2"], (Some(2), Some(3), Some(6))),
            (&["-n 8", "-c 2"], (None, Some(8), Some(16))),
            (&["-c 2"], (None, None, Some(2))),
            (&["-N 3", "-c 2", "-c 4", "-n 7"], (Some(3), Some(3), Some(12))),
        ];
        for (lines, wanted) in apart {
            assert_eq!(of(lines), wanted, "{lines:?}");
            assert_eq!(of(&[&lines.join(" ")]), wanted, "{lines:?} on one line");
        }
        let remarks = read("#SBATCH -N 2\n#SBATCH -n 8\n", "x").unwrap().remarks;
        assert_eq!(remarks, Remarks::default());
        for wrong in ["-n 0", "-c 0", "--ntasks-per-node=0"] {
            assert!(read(&format!("#SBATCH {wrong}\n"), "x").is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_only_slurm_can_do_is_said_in_whole_sentences() {
        let script = "#SBATCH --nodes=2-4\n#SBATCH --mem=0 --priority=TOP\n#SBATCH --time=UNLIMITED\n#SBATCH -n 3\n";
        let read_all = read(script, "x").unwrap();
        let draft = &read_all.draft;
        assert_eq!((draft.nodes, draft.memory, &draft.priority, draft.time), (Some(2), None, &None, None));
        assert_eq!(
            read_all.remarks.changed,
            [
                "x:1: #SBATCH --nodes=2-4 is a range of nodes: the least, 2, is taken",
                "x:2: #SBATCH --mem=0 is all memory of a node, which only Slurm gives: no amount is asked for",
                "x:2: #SBATCH --priority=TOP is Slurm's: no priority is asked for",
            ]
        );
        for endless in ["INFINITE", "0", "unlimited"] {
            let read = read(&format!("#SBATCH --time=10\n#SBATCH --time={endless}\n"), "x").unwrap();
            assert_eq!(read.draft.time, None, "{endless}");
        }
        let any = read("#SBATCH --dependency=afterok:123:124?afterany:5\n", "x").unwrap();
        assert_eq!(any.draft.after, []);
        assert!(any.remarks.refused[0].starts_with("x:1: #SBATCH --dependency=afterok:123:124?afterany:5"));
    }
}
