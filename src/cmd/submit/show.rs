//! A dry run's answer, in the form in which it would be sent.

use serde_json::json;

use crate::cmd::error::Error;
use crate::cmd::settings::{OutputFormat, Settings};
use crate::queue::{Plan, PlanForm};
use crate::view::yaml;

/// Prints it.
pub fn print(plan: &Plan, settings: &Settings) -> Result<(), Error> {
    let wrong = |error: yaml::YamlError| Error::failed("cannot write YAML", error);
    let printed = match (&plan.form, settings.output) {
        (_, OutputFormat::Name) => settings.ui.print(&plan.name),
        (PlanForm::Manifest(objects), OutputFormat::Json) => match objects.as_slice() {
            [one] => settings.ui.json(one),
            several => settings.ui.json(&json!({"apiVersion": "v1", "kind": "List", "items": several})),
        },
        (PlanForm::Manifest(objects), _) => {
            let texts: Result<Vec<String>, _> = objects.iter().map(yaml::to_string).collect();
            settings.ui.print(&texts.map_err(wrong)?.join("---\n"))
        }
        (PlanForm::Script { command, script }, OutputFormat::Json) => {
            settings.ui.json(&json!({"command": command, "script": script}))
        }
        (PlanForm::Script { command, script }, OutputFormat::Yaml) => {
            settings.ui.yaml(&json!({"command": command, "script": script}))
        }
        (PlanForm::Script { command, script }, _) => settings.ui.print(&script_with(command, script)),
        (PlanForm::Request { method, url, body }, OutputFormat::Yaml) => {
            settings.ui.yaml(&json!({"method": method, "url": url, "body": body}))
        }
        (PlanForm::Request { method, url, body }, _) => {
            settings.ui.json(&json!({"method": method, "url": url, "body": body}))
        }
    };
    printed.map_err(Error::output)
}

/// A script with the options that it is sent with as `#SBATCH` lines after its own, where they overrule
/// them as on the command line. sbatch takes the text as it is.
fn script_with(command: &[String], script: &str) -> String {
    let sbatch = command.iter().position(|word| word == "sbatch").unwrap_or_default();
    let (before, options) = command.split_at(sbatch);
    let options = options.get(1..).unwrap_or_default();
    // Behind the name of the script, which is where sbatch reads it from, stand its arguments.
    let end = options.iter().position(|word| !word.starts_with("--")).unwrap_or(options.len());
    let (options, arguments) = options.split_at(end);
    // How sbatch answers is no part of the job.
    let options = options.iter().filter(|word| *word != "--parsable");
    let mut lines: Vec<String> = options.map(|word| format!("#SBATCH {}", quoted(word))).collect();
    let arguments: Vec<String> = arguments.iter().skip(1).map(|word| quoted(word)).collect();
    // Neither has an option of its own.
    if !before.is_empty() {
        let before: Vec<String> = before.iter().skip(1).map(|word| quoted(word)).collect();
        lines.push(format!("# in its environment: {}", before.join(" ")));
    }
    if !arguments.is_empty() {
        lines.push(format!("# its arguments: {}", arguments.join(" ")));
    }
    let own = script.lines().take_while(|line| line.trim().is_empty() || line.trim().starts_with('#')).count();
    let (head, rest): (Vec<&str>, Vec<&str>) = (script.lines().take(own).collect(), script.lines().skip(own).collect());
    let all = head.into_iter().chain(lines.iter().map(String::as_str)).chain(rest);
    all.collect::<Vec<_>>().join("\n")
}

/// A word for a comment: one line, in quotes only where sbatch and people need them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,%+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let quoted = shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), |word| word.into_owned());
    quoted.replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_after_the_scripts_own_lines() {
        let words = |text: &str| shlex::split(text).unwrap();
        let command = words(
            "env 'A=b c' sbatch --parsable '--comment=aictl:x +ranks' --nodes=2 --hold /dev/stdin one 'two three' --four",
        );
        let shown = script_with(&command, "#!/bin/bash\n#SBATCH -N 1\n\necho\n#SBATCH -N 9\n");
        insta::assert_snapshot!(shown, @r##"
        #!/bin/bash
        #SBATCH -N 1

        #SBATCH '--comment=aictl:x +ranks'
        #SBATCH --nodes=2
        #SBATCH --hold
        # in its environment: 'A=b c'
        # its arguments: one 'two three' --four
        echo
        #SBATCH -N 9
        "##);
        assert_eq!(script_with(&words("sbatch --parsable"), "#!/bin/sh\ntrue\n"), "#!/bin/sh\ntrue");
    }
}
