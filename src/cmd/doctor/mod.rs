//! `aictl doctor`: what works here, and what to do about the rest.

mod cluster;
mod gpu;
mod machine;
pub mod needs;
mod render;

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::Done;
use super::error::{BLIND, DONE, Error, FOUND};
use super::runtime::block_on;
use super::settings::{OutputFormat, Settings};
use super::values::Length;
use needs::Command;

/// Say what works here, and what to do about what does not
///
/// It looks at the kernel, permissions, GPUs, the cluster and the terminal, and changes nothing. Of
/// the cluster it asks what you may do, verb by verb, without trying it. Name subcommands to ask for
/// what these need alone.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = AFTER_LONG_HELP)]
pub struct Args {
    /// Subcommands that are meant to work here; all if none is named
    #[arg(value_enum, value_name = "SUBCOMMAND")]
    commands: Vec<Command>,
    /// Longest time that a driver or a cluster may take to answer (default 10s)
    #[arg(long, value_name = "TIME")]
    deadline: Option<Length>,
}

/// In short help and in long help alike.
macro_rules! examples {
    () => {
        "\
Examples:
  aictl doctor                      what works here?
  sudo aictl doctor profile         can processes be profiled on this machine?
  aictl doctor queue submit         may I use this cluster's queues?
  aictl doctor -o wide              with what each thing is needed for
  aictl doctor -o json | jq '.checks[] | select(.state != \"ok\")'"
    };
}

const EXAMPLES: &str = examples!();

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

States: ok · absent (not here; only what needs it does without) · broken (here, and does not work) ·
unknown (could not be looked at).

Exit codes: 0 done · 1 failed · 2 usage · 3 something that was asked for is missing, or something is
broken · 4 something could not be looked at. Without SUBCOMMAND nothing is asked for in particular, so
that what is absent is no error."
);

/// Of `--deadline`.
const DEADLINE: Duration = Duration::from_secs(10);

/// Schema of the report.
const SCHEMA: &str = "aictl.doctor/v1";

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It works.
    Ok,
    /// It is not here.
    Absent,
    /// It is here, and does not work.
    Broken,
    /// It could not be looked at.
    Unknown,
}

/// One thing.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Its name.
    name: String,
    /// What it is part of: "machine", "gpu", "cluster", "terminal".
    area: &'static str,
    /// How it is.
    state: State,
    /// What was seen.
    detail: String,
    /// Subcommands that need it.
    needed_for: Vec<Command>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn new(area: &'static str, name: impl Into<String>, needed_for: &[Command]) -> Check {
        let needed_for = needed_for.to_vec();
        Check { name: name.into(), area, state: State::Ok, detail: String::new(), needed_for, fix: None }
    }

    fn ok(mut self, detail: impl Into<String>) -> Check {
        self.detail = detail.into();
        self
    }

    fn is(mut self, state: State, detail: impl Into<String>, fix: impl Into<String>) -> Check {
        (self.state, self.detail, self.fix) = (state, detail.into(), Some(fix.into()));
        self
    }
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    /// Of aictl.
    version: &'static str,
    checks: Vec<Check>,
}

/// Looks, and says.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let deadline = args.deadline.map_or(DEADLINE, |length| length.0);
    let progress = settings.ui.progress();
    progress.set("looking at this machine");
    let mut checks = machine::checks();
    progress.set("asking NVML");
    checks.extend(gpu::checks(deadline));
    progress.set("asking the cluster");
    checks.extend(block_on(async { Ok(cluster::checks(settings, &args.commands, deadline).await) })?);
    progress.clear();
    checks.push(machine::terminal(settings));
    let asked = |check: &Check| check.needed_for.iter().any(|command| args.commands.contains(command));
    if !args.commands.is_empty() {
        checks.retain(asked);
    }
    let code = code(&checks, !args.commands.is_empty());
    let report = Report { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), checks };
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => ui.json(&report),
        OutputFormat::Yaml => ui.yaml(&report),
        OutputFormat::Name => {
            let wrong = report.checks.iter().filter(|check| check.state != State::Ok);
            let names: Vec<&str> = wrong.map(|check| check.name.as_str()).collect();
            if names.is_empty() { Ok(()) } else { ui.print(&names.join("\n")) }
        }
        OutputFormat::Table | OutputFormat::Wide => ui.print(&render::render(&report.checks, settings)),
    }
    .map_err(Error::output)?;
    Ok(code)
}

fn code(checks: &[Check], asked: bool) -> u8 {
    let any = |state| checks.iter().any(|check| check.state == state);
    if any(State::Broken) || (asked && any(State::Absent)) {
        FOUND
    } else if any(State::Unknown) {
        BLIND
    } else {
        DONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_counts_where_it_was_asked_for() {
        let check = |state| Check { state, ..Check::new("machine", "x", &[Command::Profile]) };
        let of = |states: &[State], asked| code(&states.iter().map(|state| check(*state)).collect::<Vec<_>>(), asked);
        assert_eq!((of(&[State::Ok], true), of(&[State::Absent], false), of(&[State::Absent], true)), (0, 0, 3));
        assert_eq!((of(&[State::Unknown], false), of(&[State::Unknown, State::Broken], false)), (4, 3));
    }
}
