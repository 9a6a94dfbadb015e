//! `aictl queue logs` and `exec`.

use std::io::IsTerminal;

use futures::StreamExt;

use super::resolve::{self, Resolved};
use super::{ExecArgs, LogsArgs};
use crate::cmd::Done;
use crate::cmd::error::{DONE, Error, FOUND};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::{OutputFormat, Settings};
use crate::queue::{ExecStreams, LogOptions, Ranks};
use crate::view::style::{self, paint};

/// Prints a job's output.
pub fn logs(args: &LogsArgs, settings: &Settings) -> Done {
    block_on(async {
        let Resolved { engine, job } = resolve::one(&args.job, settings).await?;
        let options = LogOptions {
            follow: args.follow,
            ranks: args.rank.map_or(Ranks::All, Ranks::One),
            tail: args.tail,
            since: None,
        };
        // A job of one rank needs no prefix, unless all ranks were asked for by name.
        let prefixed = args.all || (args.rank.is_none() && job.nodes > 1);
        let mut lines = engine.logs(&job.id, &options).await?;
        while let Some(line) = lines.next().await {
            let line = line?;
            let printed = match settings.output {
                OutputFormat::Json => {
                    let value = serde_json::json!({"rank": line.rank, "at": line.at, "text": line.text});
                    settings.ui.print(&value.to_string())
                }
                _ if prefixed => {
                    settings.ui.line(&format!("{} ", paint(style::HINT, &format!("[{}]", line.rank))), &line.text)
                }
                _ => settings.ui.line("", &line.text),
            };
            printed.map_err(Error::output)?;
        }
        Ok(DONE)
    })
}

/// Runs a command beside a job and ends with its exit code.
pub fn exec(args: &ExecArgs, settings: &Settings) -> Done {
    block_on(async {
        let Resolved { engine, job } = resolve::one(&args.job, settings).await?;
        let streams = ExecStreams {
            stdin: Box::pin(tokio::io::stdin()),
            stdout: Box::pin(tokio::io::stdout()),
            stderr: Box::pin(tokio::io::stderr()),
            terminal: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        };
        let code = engine.exec(&job.id, args.rank, &args.command, streams).await?;
        Ok(u8::try_from(code & 0xff).unwrap_or(FOUND))
    })
}
