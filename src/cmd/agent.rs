//! `aictl agent`: the far end of a capture of pods, run by aictl itself and not by people; so it
//! stands in no help, and has no settings.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::error::{DONE, FAILED, USAGE};
use super::interrupt::Interrupt;
use crate::agent;

/// What tells this from the other subcommands.
pub const ARGUMENT: &str = "agent";

/// The far end of `aictl profile` of pods; aictl runs it itself
#[derive(Debug, Parser)]
#[command(name = "aictl agent", bin_name = "aictl agent")]
struct Agent {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Wait for an order at a socket, capture, and end
    Serve {
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// End after so many seconds, whatever happens
        #[arg(long, value_name = "SECONDS")]
        deadline: u64,
        /// End when nobody was heard for so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = agent::PATIENCE_S)]
        patience: u64,
    },
    /// Join stdin and stdout with such a socket
    Connect {
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// Start a `serve` for so many seconds first
        #[arg(long, value_name = "SECONDS")]
        start: Option<u64>,
    },
}

/// Runs it.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let parsed = Agent::try_parse_from(arguments.iter().skip(1));
    let what = match parsed {
        Ok(parsed) => parsed.what,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { DONE.into() };
        }
    };
    let result = match what {
        What::Serve { socket, deadline, patience } => Interrupt::catch().and_then(|interrupt| {
            agent::serve(&socket, Duration::from_secs(deadline), Duration::from_secs(patience), interrupt.flag())
        }),
        What::Connect { socket, start } => agent::connect(&socket, start.map(Duration::from_secs)),
    };
    match result {
        Ok(()) => DONE.into(),
        // The near end is gone: it has no use for words.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => DONE.into(),
        Err(error) => {
            // For whoever reads the pod's log, or the near end, which prints it.
            let _ = io::Write::write_all(&mut io::stderr(), format!("aictl agent: {error}\n").as_bytes());
            FAILED.into()
        }
    }
}
