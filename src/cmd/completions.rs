//! `aictl completions`: the lines that a shell needs.

use clap::ValueEnum;

use super::Done;
use super::error::{DONE, Error};
use super::settings::Settings;

/// Print the lines that switch completion on in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  aictl completions bash > /etc/bash_completion.d/aictl
  aictl completions zsh > \"${fpath[1]}/_aictl\"
  aictl completions fish > ~/.config/fish/completions/aictl.fish

The lines ask aictl itself, so they stay right when aictl is updated.";

/// The shells that aictl can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Elvish
    Elvish,
    /// Fish
    Fish,
    /// PowerShell
    Powershell,
    /// Z shell
    Zsh,
}

impl Shell {
    /// The lines that switch completion on. They call aictl each time the shell starts, as
    /// clap_complete advises: its protocol with the shell may change between versions.
    fn lines(self) -> &'static str {
        match self {
            Shell::Bash => "# bash completion for aictl\nsource <(COMPLETE=bash aictl)\n",
            Shell::Elvish => "# elvish completion for aictl\neval (E:COMPLETE=elvish aictl | slurp)\n",
            Shell::Fish => "# fish completion for aictl\nCOMPLETE=fish aictl | source\n",
            Shell::Powershell => {
                "# PowerShell completion for aictl\n$env:COMPLETE = \"powershell\"; aictl | Out-String | Invoke-Expression; Remove-Item Env:\\COMPLETE\n"
            }
            Shell::Zsh => "#compdef aictl\nsource <(COMPLETE=zsh aictl)\n",
        }
    }
}

/// Prints them.
pub fn run(args: &Args, settings: &Settings) -> Done {
    settings.ui.print(args.shell.lines()).map_err(Error::output)?;
    Ok(DONE)
}
