//! Orders to jobs: given, and then seen to be followed.

use std::time::{Duration, Instant};

use super::resolve::{self, Resolved};
use super::{OrderArgs, PriorityArgs};
use crate::cmd::Done;
use crate::cmd::error::{DONE, Error};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::{OutputFormat, Settings};
use crate::queue::{JobId, QueueError, State};

/// What a job is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To end.
    Cancel,
    /// Not to start.
    Hold,
    /// To go on.
    Release,
    /// To begin again.
    Requeue,
}

/// How long to look whether an order is followed.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(30);
/// Between looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Order {
    fn done(self) -> &'static str {
        match self {
            Order::Cancel => "cancelled",
            Order::Hold => "held",
            Order::Release => "released",
            Order::Requeue => "requeued",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Order::Cancel => "cancelling",
            Order::Hold => "holding",
            Order::Release => "releasing",
            Order::Requeue => "requeueing",
        }
    }
}

/// Gives jobs an order.
pub fn run(order: Order, args: &OrderArgs, settings: &Settings) -> Done {
    give(order, &args.jobs, args.dry_run, settings)
}

/// The same, by parts.
pub fn give(order: Order, ids: &[JobId], dry_run: bool, settings: &Settings) -> Done {
    block_on(async {
        // All are found before any is touched.
        let mut jobs = Vec::new();
        for id in ids {
            jobs.push(found(id, order, settings).await?);
        }
        for Resolved { engine, job } in jobs {
            if let (Order::Cancel, true) = (order, job.state.is_over()) {
                say(settings, &job.address(), &format!("is over already: {}", job.state))?;
                continue;
            }
            if dry_run {
                say(settings, &job.address(), &format!("would be {} (it is {})", order.done(), job.state))?;
                continue;
            }
            let id = job.id.as_str();
            match order {
                Order::Cancel => engine.cancel(id).await?,
                Order::Hold => engine.hold(id).await?,
                Order::Release => engine.release(id).await?,
                Order::Requeue => engine.requeue(id).await?,
            }
            if order == Order::Cancel {
                confirm(&engine, id, &format!("{} {}", order.doing(), job.address())).await?;
            }
            say(settings, &job.address(), order.done())?;
        }
        Ok(DONE)
    })
}

async fn found(id: &JobId, order: Order, settings: &Settings) -> Result<Resolved, Error> {
    let resolved = resolve::one(id, settings).await?;
    let job = &resolved.job;
    if job.state.is_over() && matches!(order, Order::Hold | Order::Release) {
        return Err(Error::usage(format!("{} is over ({}) and can't be {}", job.address(), job.state, order.done())));
    }
    Ok(resolved)
}

pub(super) fn say(settings: &Settings, address: &str, what: &str) -> Result<(), Error> {
    let text = if settings.output == OutputFormat::Name { address.to_owned() } else { format!("{address} {what}") };
    settings.ui.print(&text).map_err(Error::output)
}

/// Reads the state again until the job is over or gone: an order taken is not an order followed.
async fn confirm(engine: &crate::cmd::targets::Shared, id: &str, what: &str) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        let state = match engine.get(id).await {
            Err(QueueError::NoSuchJob { .. }) => return Ok(()),
            Err(error) if error.is_passing() => State::Running,
            Err(error) => return Err(error.into()),
            Ok(job) if job.state.is_over() => return Ok(()),
            Ok(job) => job.state,
        };
        if begin.elapsed() > FOLLOWED_WITHIN {
            let after_s = begin.elapsed().as_secs();
            return Err(QueueError::Unconfirmed { what: what.to_owned(), state, after_s }.into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Changes a job's priority.
pub fn priority(args: &PriorityArgs, settings: &Settings) -> Done {
    block_on(async {
        let Resolved { engine, job } = resolve::one(&args.job, settings).await?;
        if args.dry_run {
            say(settings, &job.address(), &format!("would get priority {}", args.priority))?;
            return Ok(DONE);
        }
        engine.priority(&job.id, &args.priority).await?;
        say(settings, &job.address(), &format!("has priority {}", args.priority))?;
        Ok(DONE)
    })
}
