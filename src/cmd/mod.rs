//! What the user says: one file a subcommand (arguments, help, run), their settings, and the
//! one place that turns errors into text and exit codes.
//!
//! The only room that sees all others; nobody uses it. Holds no knowledge of its own about
//! probes, formats or verdicts: it asks the rooms and shows what they say.

mod agent;
mod completions;
mod config;
mod diagnose;
mod doctor;
pub mod env;
mod error;
mod fault_log;
mod interrupt;
mod names;
mod preload;
mod profile;
mod queue;
mod recording;
mod remediate;
mod report;
mod runtime;
mod settings;
mod submit;
mod targets;
mod timeline;
mod top;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::parser::ValueSource;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::gpu::{events, sampler, session};
use crate::preload::{gpu as gpu_memory, pin};
use error::Error;
use settings::{CommonArgs, Settings};

/// See where an AI job's time goes; find faults of GPUs and nodes, and repair them
#[derive(Debug, Parser)]
#[command(
    name = "aictl",
    version,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false,
    max_term_width = 100,
    styles = STYLES,
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP
)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  sudo aictl profile --pid 41873 -d 10s     record a running process, then say why it is slow
  sudo aictl profile -- python train.py     the same from its first instruction on
  sudo aictl profile --pid 41873 --live     watch it while it is recorded
  aictl timeline run.pftrace                look at a recording: move, zoom, search
  aictl report run.pftrace                  read a recording again
  aictl report --diff before.pftrace after.pftrace
  sudo aictl diagnose --local               GPU and node faults of this machine
  sudo aictl remediate                      what would be done about them?
  aictl submit --gpus-per-node 8 train.sh   put a job in a queue
  aictl queue explain train                 why it waits, and when it may run
  aictl preload hf://org/model              bring a model to this node's disk
  aictl top                                 watch GPUs, and whose they are
  aictl doctor                              what works here, and what to do about the rest"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

Exit codes:
  0    done, nothing wrong
  1    aictl failed
  2    usage
  3    what was looked for is wrong
  4    could not see: not permitted, or the data are missing
  130  interrupted

Data goes to stdout, everything else to stderr. Settings come from flags, then the environment
(AICTL_OUTPUT, AICTL_COLOR, AICTL_CONFIG, and those of the commands), then the configuration file:
$XDG_CONFIG_HOME/aictl/config.yaml, or ~/.config/aictl/config.yaml."
);

#[derive(Debug, Subcommand)]
enum Command {
    Profile(profile::Args),
    Report(report::Args),
    Timeline(timeline::Args),
    Diagnose(diagnose::Args),
    Remediate(remediate::Args),
    Preload(Box<preload::Args>),
    Submit(Box<submit::Args>),
    Queue(queue::Args),
    Top(Box<top::Args>),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

/// The whole command line as data, for completions and man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// What subcommands need of a cluster: subcommand, verb, group and resource of each; the table of
/// deploy/README.md is held against it.
pub fn needs() -> impl Iterator<Item = (String, &'static str, &'static str, &'static str)> {
    doctor::needs::NEEDS
        .iter()
        .map(|need| (format!("{:?}", need.command).to_lowercase(), need.verb, need.group, need.resource))
}

/// Answers the shell and ends, if the shell asked for completions (`COMPLETE=bash aictl`).
pub fn complete() {
    clap_complete::CompleteEnv::with_factory(command).completer("aictl").complete();
}

/// Runs a command line and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|argument| argument == session::ARGUMENT) {
        // Our own child, which makes the calls that may hang; it needs no settings.
        if arguments.get(2).is_some_and(|argument| argument == sampler::ARGUMENT) {
            sampler::answer();
        } else {
            session::answer();
        }
        return error::DONE.into();
    }
    if arguments.get(1).is_some_and(|argument| argument == events::ARGUMENT) {
        events::answer();
        return error::DONE.into();
    }
    if arguments.get(1).is_some_and(|argument| argument == gpu_memory::ARGUMENT) {
        gpu_memory::serve();
        return error::DONE.into();
    }
    if arguments.get(1).is_some_and(|argument| argument == pin::ARGUMENT) {
        return if pin::serve() { error::DONE.into() } else { error::FAILED.into() };
    }
    if arguments.get(1).is_some_and(|argument| argument == agent::ARGUMENT) {
        return agent::run(&arguments);
    }
    let color = settings::color_before_parsing(&arguments);
    let mut command = command();
    if is_plugin(arguments.first()) {
        // In usage and errors, that is what its users type.
        command = command.bin_name("kubectl aictl");
    }
    let parsed = command
        .color(color.unwrap_or(ColorChoice::Auto))
        .try_get_matches_from(arguments)
        .and_then(|mut matches| Ok((wants_format(&matches), Cli::from_arg_matches_mut(&mut matches)?)));
    let (wants_format, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help into a closed pipe is no error.
            let _ = error.print();
            return if error.use_stderr() { error::USAGE.into() } else { error::DONE.into() };
        }
    };
    let settings = match Settings::new(cli.common) {
        Ok(settings) => settings,
        Err((ui, error)) => return error.show(&ui),
    };
    let for_top = matches!(cli.command, Command::Top(_));
    let done =
        match cli.command {
            _ if settings.prometheus && !for_top => Err(Error::usage("-o prometheus is for aictl top alone")
                .hint("table, wide, json, yaml and name are for all")),
            Command::Profile(args) => profile::run(args, &settings),
            Command::Report(args) => report::run(args, &settings),
            Command::Timeline(_) if wants_format => Err(Error::usage("-o has no meaning for a timeline")
                .hint("for what it shows as data: aictl report FILE -o json; for one frame: --snapshot COLUMNSxROWS")),
            Command::Timeline(args) => timeline::run(args, &settings),
            Command::Diagnose(args) => diagnose::run(args, &settings),
            Command::Remediate(args) => remediate::run(args, &settings),
            Command::Preload(args) => preload::run(*args, &settings),
            Command::Submit(args) => submit::run(*args, &settings),
            Command::Queue(args) => queue::run(args, &settings),
            Command::Top(args) => top::run(*args, &settings),
            Command::Doctor(args) => doctor::run(&args, &settings),
            Command::Completions(args) => completions::run(&args, &settings),
        };
    match done {
        Ok(code) => code.into(),
        Err(error) => error.show(&settings.ui),
    }
}

/// Whether kubectl runs this as its plugin.
fn is_plugin(program: Option<&OsString>) -> bool {
    program.is_some_and(|program| std::path::Path::new(program).file_stem().is_some_and(|name| name == "kubectl-aictl"))
}

/// Whether `-o` was typed; the environment and the configuration speak to all commands.
fn wants_format(matches: &clap::ArgMatches) -> bool {
    let of = |matches: &clap::ArgMatches| matches.value_source("output") == Some(ValueSource::CommandLine);
    of(matches) || matches.subcommand().is_some_and(|(_, matches)| of(matches))
}

/// What a subcommand returns: an exit code of [`error`], or an error that has one.
type Done = Result<u8, Error>;
