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
/// Between looks at a job's place and start, for which the whole queue is read; longer where one takes long.
const PLACE_AGAIN: Duration = Duration::from_secs(6);
/// A look at the place may take this part of the time.
const PLACE_SHARE: u32 = 20;

/// Waits.
pub fn run(args: &WaitArgs, settings: &Settings) -> Done {
    block_on(async {
        let begin = Instant::now();
        let mut jobs = Vec::new();
        for id in &args.jobs {
            jobs.push(whole(resolve::one(id, settings).await?).await?);
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

/// What is left to start of an array is a part of it that changes its name as its tasks start: the array is
/// waited for.
async fn whole(mut resolved: Resolved) -> Result<Resolved, Error> {
    if let Some((array, _)) = resolve::part(&resolved.job).filter(|(_, tasks)| tasks.starts_with('[')) {
        resolved.job = resolved.engine.get(array).await?;
    }
    Ok(resolved)
}

async fn wait(
    resolved: &mut Resolved,
    args: &WaitArgs,
    begin: Instant,
    settings: &Settings,
    progress: &Progress,
) -> Result<(), Error> {
    let mut said: Option<(Job, Instant)> = None;
    let mut place_at = Instant::now();
    loop {
        if resolved.job.state == State::Pending && place_at <= Instant::now() {
            let began = Instant::now();
            look_at_place(resolved).await;
            place_at = Instant::now() + PLACE_AGAIN.max(began.elapsed() * PLACE_SHARE);
        }
        let job = &resolved.job;
        if job.state.is_over() || (args.until == Until::Running && job.state == State::Running) {
            return Ok(());
        }
        let line = line(job);
        progress.set(&line);
        if !progress.is_shown() && said.as_ref().is_none_or(|(last, at)| news(last, job) || at.elapsed() > SAY_AGAIN) {
            settings.ui.note(&line);
            said = Some((job.clone(), Instant::now()));
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
                let before = std::mem::replace(&mut resolved.job, job);
                if resolved.job.state == State::Pending {
                    resolved.job.position = resolved.job.position.or(before.position);
                    resolved.job.ahead = resolved.job.ahead.or(before.ahead);
                    resolved.job.eta = resolved.job.eta.take().or(before.eta);
                }
            }
            // Somebody deleted it.
            Err(QueueError::NoSuchJob { .. }) => resolved.job.state = State::Cancelled,
            Err(error) if error.is_passing() => settings.ui.warn(&format!("{error}; looking again")),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads a job's place in its queue and when it may start. Whoever may not see the queue waits without.
async fn look_at_place(resolved: &mut Resolved) {
    let Ok(seen) = resolved.engine.explain(&resolved.job.id).await else { return };
    // Of an array that is explained which waits: a part of it, under a name that is gone once it starts.
    if seen.job.id == resolved.job.id {
        resolved.job = seen.job;
    }
    if let Some(place) = seen.place {
        (resolved.job.position, resolved.job.ahead) = (Some(place.position), Some(place.ahead));
    }
    resolved.job.eta = seen.eta.or(resolved.job.eta.take());
}

/// Where a job stands, in one line.
fn line(job: &Job) -> String {
    let mut line = format!("{}: {}", job.name, job.state);
    match job.ahead.filter(|_| job.state == State::Pending) {
        Some(0) => line.push_str(", next in its queue"),
        Some(ahead) => line = format!("{line}, {ahead} ahead of it"),
        None => {}
    }
    if let Some(eta) = job.eta.as_ref().filter(|_| job.state == State::Pending) {
        line = match eta.p50_s {
            soon if soon < 1.0 => format!("{line}, starts in a moment"),
            p50_s => format!("{line}, starts in about {}", human::seconds(p50_s)),
        };
    }
    if let Some(reason) = &job.reason {
        line = format!("{line}: {}", reason.text);
    }
    // Names and reasons are other people's words.
    text::plain(&line)
}

/// Whether a line is worth another one in a file: the start comes nearer all the time, which is no news.
fn news(old: &Job, new: &Job) -> bool {
    let text = |job: &Job| job.reason.as_ref().map(|reason| reason.text.clone());
    (old.state, old.ahead, text(old)) != (new.state, new.ahead, text(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{EngineKind, Eta, Reason, ReasonKind, Target};

    #[test]
    fn a_line_moves_and_only_news_is_printed_again() {
        let job = Job {
            target: "lab".to_owned(),
            owner: "ada".to_owned(),
            queue: "main".to_owned(),
            position: Some(4),
            ahead: Some(3),
            eta: Some(Eta { p50_s: 600.0, p90_s: 900.0, basis: "time limits".to_owned() }),
            reason: Some(Reason::new(ReasonKind::WaitingForResources, "not enough\nis free", "Resources")),
            ..Job::bare(&Target::found(EngineKind::Slurm, "lab"), "7".to_owned(), "train".to_owned())
        };
        assert_eq!(line(&job), "train: pending, 3 ahead of it, starts in about 10m00s: not enough?is free");
        let mut later = job.clone();
        later.eta = Some(Eta { p50_s: 0.2, p90_s: 900.0, basis: "time limits".to_owned() });
        assert!(!news(&job, &later));
        later.ahead = Some(0);
        assert!(news(&job, &later));
        assert_eq!(line(&later), "train: pending, next in its queue, starts in a moment: not enough?is free");
        later.state = State::Running;
        later.reason = None;
        assert_eq!(line(&later), "train: running");
    }
}
