//! `aictl queue wait`.

use std::time::{Duration, Instant};

use super::resolve::{self, Resolved};
use super::{Until, WaitArgs};
use crate::cmd::Done;
use crate::cmd::error::{DONE, Error, FOUND, Kind};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::Settings;
use crate::queue::{Job, QueueError, State};
use crate::view::{Progress, human, text};

/// Between looks.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Between plain lines where nobody sees a moving one, if nothing changes.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Waits.
pub fn run(args: &WaitArgs, settings: &Settings) -> Done {
    block_on(async {
        let begin = Instant::now();
        let mut jobs = Vec::new();
        for id in &args.jobs {
            jobs.push(resolve::one(id, settings).await?);
        }
        let progress = settings.ui.progress();
        let mut code = DONE;
        for resolved in &mut jobs {
            wait(resolved, args, begin, settings, &progress).await?;
            let job = &resolved.job;
            progress.suspend(|| settings.ui.note(&text::plain(&format!("{} {}", job.address(), ended(job)))));
            if job.state.is_over() && job.state != State::Succeeded && code == DONE {
                code = match (args.exit_code, job.exit_code) {
                    (true, Some(own)) => u8::try_from(own & 0xff).unwrap_or(FOUND),
                    _ => FOUND,
                };
            }
        }
        Ok(code)
    })
}

fn ended(job: &Job) -> String {
    match (job.exit_code, &job.reason) {
        (Some(code), _) if job.state.is_over() => format!("{} (exit code {code})", job.state),
        (_, Some(reason)) if job.state == State::Failed => format!("{}: {}", job.state, reason.raw),
        _ => job.state.to_string(),
    }
}

async fn wait(
    resolved: &mut Resolved,
    args: &WaitArgs,
    begin: Instant,
    settings: &Settings,
    progress: &Progress,
) -> Result<(), Error> {
    let mut said: Option<(String, Instant)> = None;
    loop {
        let job = &resolved.job;
        let there = job.state.is_over() || (args.until == Until::Running && job.state == State::Running);
        if there {
            return Ok(());
        }
        let mut line = format!("{}: {}", job.name, job.state);
        if let Some(ahead) = job.ahead {
            line = format!("{line}, {ahead} ahead");
        }
        if let Some(eta) = &job.eta {
            line = format!("{line}, starts in about {}", human::seconds(eta.p50_s));
        }
        if let Some(reason) = &job.reason {
            line = format!("{line}: {}", reason.text);
        }
        // Names and reasons are other people's words.
        let line = text::plain(&line);
        progress.set(&line);
        let again = said.as_ref().is_none_or(|(last, at)| *last != line || at.elapsed() > SAY_AGAIN);
        if again && !progress.is_shown() {
            settings.ui.note(&line);
            said = Some((line, Instant::now()));
        }
        if let Some(limit) = args.timeout
            && begin.elapsed() >= limit.0
        {
            return Err(Error::new(
                Kind::Failed,
                format!("{} is still {} after {:?}", job.address(), job.state, limit.0),
            )
            .hint(format!("aictl queue explain {} says why", job.address())));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        match resolved.engine.get(&resolved.job.id).await {
            Ok(job) => {
                // A place is only in the list and the explanation; it is kept while the job waits.
                let (position, ahead) = (resolved.job.position, resolved.job.ahead);
                resolved.job = job;
                if resolved.job.state == State::Pending {
                    resolved.job.position = resolved.job.position.or(position);
                    resolved.job.ahead = resolved.job.ahead.or(ahead);
                }
            }
            // Somebody deleted it.
            Err(QueueError::NoSuchJob { .. }) => resolved.job.state = State::Cancelled,
            Err(error) if error.is_passing() => settings.ui.warn(&format!("{error}; looking again")),
            Err(error) => return Err(error.into()),
        }
    }
}
