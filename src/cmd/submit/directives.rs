//! Lines in a script that ask for what flags ask for: `#AICTL` in the words of `aictl submit`,
//! `#SBATCH` in those of sbatch.

use clap::{Args as _, Command, FromArgMatches};

use super::SpecArgs;
use super::sbatch::{self, Remarks};
use crate::cmd::error::Error;
use crate::queue::Draft;

/// What a script's directives come to.
#[derive(Debug, Default)]
pub struct Directives {
    /// What they ask for; `#AICTL` over `#SBATCH`.
    pub draft: Draft,
    /// What is to be said of `#SBATCH` lines.
    pub remarks: Remarks,
}

/// Reads a script's directives. They stand before the first line that is neither empty nor a comment,
/// as sbatch has it.
///
/// # Errors
/// If a directive is understood and its value is wrong.
pub fn read(script: &str, path: &str) -> Result<Directives, Error> {
    let (mut ours, mut slurms) = (Draft::default(), Vec::new());
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
            slurms.extend(sbatch::options(&words, &place));
        }
    }
    let (slurms, remarks) = sbatch::combine(&slurms).map_err(Error::usage)?;
    Ok(Directives { draft: ours.over(slurms), remarks })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::queue::Bytes;

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
        assert_eq!(read.remarks.unknown, ["train.sh:5: #SBATCH --mail-type=END"]);
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
        assert_eq!(read.remarks.unknown, ["x:1: #SBATCH --dependency=singleton"]);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_fall_over(line in "\\PC{0,60}") {
            let _ = read(&format!("#SBATCH {line}\n#AICTL {line}\n"), "x");
        }
    }
}
