//! The batch script of a job.

use std::collections::BTreeMap;

use crate::queue::{JobSpec, rendezvous};

/// The script that starts the command, or the spec's own script, on each node.
pub(super) fn script(spec: &JobSpec) -> String {
    let mut lines = vec!["#!/bin/bash".to_owned(), "# Made by aictl: starts the command once on each node.".to_owned()];
    for (name, value) in &spec.env {
        lines.push(format!("export {name}={}", quoted(value)));
    }
    lines.push(format!("export {}={}", rendezvous::SUBMISSION_ID, quoted(&spec.id)));
    if spec.array.is_some() {
        lines.push(format!("export {}=$SLURM_ARRAY_TASK_ID", rendezvous::ARRAY_INDEX));
        lines.push(format!("export {}=$SLURM_ARRAY_TASK_COUNT", rendezvous::ARRAY_COUNT));
    }
    // Jobs share nodes here, so each has a port of its own, below those that systems give out.
    let port = rendezvous::MASTER_PORT;
    lines.push(format!("export {port}=${{{port}:-$((20000 + SLURM_JOB_ID % 12000))}}"));
    let words: Vec<String> = spec.words().iter().map(|word| quoted(word)).collect();
    let words = words.join(" ");
    let processes = spec.processes_per_node();
    if spec.nodes == 1 {
        lines.push(rendezvous::shell("0", "1", "localhost", processes));
        lines.push(if spec.retries == 0 { format!("exec {words}") } else { words });
    } else {
        // Rank 0 is the node that this script runs on; its address is the one Slurm itself uses.
        lines.push("aictl_first=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)".to_owned());
        lines.push(
            "aictl_address=$(scontrol show node \"$aictl_first\" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')"
                .to_owned(),
        );
        let address = rendezvous::MASTER_ADDR;
        lines.push(format!("export {address}=${{aictl_address:-$aictl_first}}"));
        let prelude = rendezvous::shell("$SLURM_NODEID", "$SLURM_NNODES", &format!("${address}"), processes);
        let start = quoted(&format!("{prelude}\nexec \"$@\""));
        let cpus = spec.cpus.map_or(String::new(), |cpus| format!(" --cpus-per-task={}", cpus.cores()));
        lines.push(format!(
            "srun --nodes=\"$SLURM_JOB_NUM_NODES\" --ntasks-per-node=1{cpus} --kill-on-bad-exit=1 --label /bin/bash -c {start} aictl {words}"
        ));
    }
    if spec.retries > 0 {
        lines.push("aictl_status=$?".to_owned());
        lines.push(format!(
            "if [ $aictl_status -ne 0 ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {} ]; then scontrol requeue \"$SLURM_JOB_ID\" && sleep 60; fi",
            spec.retries
        ));
        lines.push("exit $aictl_status".to_owned());
    }
    lines.join("\n") + "\n"
}

/// A word for a shell. What can't be quoted (a zero byte) can't be in a command either.
fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| quoted(&word.replace('\0', "")), |word| word.into_owned())
}

/// Options that mean the same thing to sbatch: the long name that aictl gives, then others.
const ALIASES: [(&str, &[&str]); 17] = [
    ("job-name", &["job-name", "J"]),
    ("comment", &["comment"]),
    ("partition", &["partition", "p"]),
    ("nodes", &["nodes", "N"]),
    ("gres", &["gres", "gpus-per-node", "gpus", "G", "gpus-per-task", "tres-per-task"]),
    ("cpus-per-task", &["cpus-per-task", "c"]),
    ("mem", &["mem", "mem-per-cpu", "mem-per-gpu"]),
    ("time", &["time", "t"]),
    ("priority", &["priority"]),
    ("array", &["array", "a"]),
    ("dependency", &["dependency", "d"]),
    ("chdir", &["chdir", "D"]),
    ("output", &["output", "o"]),
    ("account", &["account", "A"]),
    ("qos", &["qos", "q"]),
    ("constraint", &["constraint", "C"]),
    ("exclusive", &["exclusive"]),
];

/// Takes out of the options what the script's own `#SBATCH` lines say already: they stay the
/// script's. An option that says something else than the script goes before it, as flags do.
pub(super) fn leave_what_it_says(options: &mut BTreeMap<&'static str, String>, script: &str) {
    let own = directives(script);
    for (name, aliases) in ALIASES {
        let Some(value) = options.get(name) else { continue };
        let Some((alias, said)) = own.iter().find(|(option, _)| aliases.contains(&option.as_str())) else { continue };
        let same = match name {
            "comment" => {
                // Ours finds the job again; the script's own words stay beside it.
                let both = format!("{value} {said}");
                options.insert(name, both);
                continue;
            }
            "time" => said.parse::<crate::queue::TimeLimit>().ok().map(|limit| limit.slurm()).as_ref() == Some(value),
            "mem" if alias == "mem" => {
                crate::queue::Bytes::slurm(said).ok().map(|bytes| format!("{}M", bytes.mebibytes())).as_ref()
                    == Some(value)
            }
            "gres" => said.trim_start_matches("gpu:") == value.trim_start_matches("gpu:"),
            // The same count in other words: `gpus=4` over two nodes is 2 on each.
            "mem" => true,
            _ => said == value,
        };
        let other_words = alias != name && alias.len() > 1 && matches!(name, "gres" | "mem");
        if same || other_words {
            options.remove(name);
        }
    }
}

/// The options of a script's `#SBATCH` lines, which end where its first command begins.
fn directives(script: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in script.lines() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            break;
        }
        let Some(rest) = line.strip_prefix("#SBATCH") else { continue };
        let words = shlex::split(rest).unwrap_or_default();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            if word.starts_with('#') {
                break;
            }
            let (name, value) = if let Some(long) = word.strip_prefix("--") {
                match long.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (long.to_owned(), None),
                }
            } else if let Some(short) = word.strip_prefix('-') {
                let mut letters = short.chars();
                let Some(letter) = letters.next() else { continue };
                let rest = letters.as_str().trim_start_matches('=');
                (letter.to_string(), (!rest.is_empty()).then(|| rest.to_owned()))
            } else {
                continue;
            };
            let value = value.or_else(|| words.next_if(|next| !next.starts_with('-'))).unwrap_or_default();
            found.push((name, value));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_slurm() {
        let script = "#!/bin/bash\n#SBATCH -N 2 --gres=gpu:4  # two\n#SBATCH --time=1:00:00 -p main\n#SBATCH --exclusive\necho\n#SBATCH --mem=1G\n";
        let own = directives(script);
        let words: Vec<(&str, &str)> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(words, [("N", "2"), ("gres", "gpu:4"), ("time", "1:00:00"), ("p", "main"), ("exclusive", "")]);
        let mut options: BTreeMap<&'static str, String> = [
            ("nodes", "2"),
            ("gres", "gpu:4"),
            ("time", "2:00:00"),
            ("partition", "main"),
            ("exclusive", ""),
            ("comment", "aictl:x"),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
        leave_what_it_says(&mut options, script);
        let left: Vec<&str> = options.keys().copied().collect();
        assert_eq!(left, ["comment", "time"], "what a flag changed goes before the script's own");
    }

    #[test]
    fn words_are_quoted() {
        assert_eq!(quoted("a b'c"), "\"a b'c\"");
        assert_eq!(quoted("$HOME"), "'$HOME'");
    }
}
