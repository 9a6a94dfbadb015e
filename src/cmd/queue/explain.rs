//! `aictl queue explain`.

use super::{ExplainArgs, quota, resolve};
use crate::cmd::Done;
use crate::cmd::error::{BLIND, DONE, Error};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::{OutputFormat, Settings};
use crate::queue::{Ahead, Explanation, State};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, human, text};

/// Explains.
pub fn run(args: &ExplainArgs, settings: &Settings) -> Done {
    block_on(async {
        let found = resolve::one(&args.job, settings).await?;
        let explanation = found.engine.explain(&found.job.id).await?;
        let ui = &settings.ui;
        match settings.output {
            OutputFormat::Json => ui.json(&explanation),
            OutputFormat::Yaml => ui.yaml(&explanation),
            OutputFormat::Name => ui.print(&explanation.job.address()),
            OutputFormat::Table | OutputFormat::Wide => ui.print(&page(&explanation, settings)),
        }
        .map_err(Error::output)?;
        Ok(if explanation.blind.is_empty() { DONE } else { BLIND })
    })
}

fn page(answer: &Explanation, settings: &Settings) -> String {
    let (job, width) = (&answer.job, settings.ui.width());
    let colour = match job.state {
        State::Running | State::Succeeded => style::GOOD,
        State::Failed => style::BAD,
        State::Held => style::WARN,
        _ => style::STRONG,
    };
    let where_to =
        if job.queue.is_empty() { job.target.clone() } else { format!("queue {} of {}", job.queue, job.target) };
    let mut lines = vec![format!(
        "{} is {} in {where_to}: {} node{}, {} GPUs",
        paint(style::STRONG, &text::plain(&job.name)),
        paint(colour, job.state.name()),
        job.nodes,
        if job.nodes == 1 { "" } else { "s" },
        job.gpus
    )];
    let mut say = |label: &str, what: &str| lines.push(text::wrap(&format!("{label:<11}"), &text::plain(what), width));
    if let Some(reason) = &job.reason {
        say("why", &reason.text);
        if !reason.raw.is_empty() {
            say("in full", &reason.raw);
        }
    }
    if let Some(place) = &answer.place {
        let blocked = match place.ahead_blocked {
            0 => String::new(),
            blocked => format!(", of which blocked: {blocked}"),
        };
        let how = if place.estimated { " (estimated)" } else { "" };
        say("position", &format!("{} of {}; ahead: {}{blocked}{how}", place.position, place.of, place.ahead));
    }
    if job.state == State::Pending {
        match &answer.eta {
            Some(eta) if eta.p90_s < 1.0 => say("starts in", &format!("a moment, as it seems ({})", eta.basis)),
            Some(eta) => say(
                "starts in",
                &format!(
                    "about {}, within {} nine times of ten (from {})",
                    human::seconds(eta.p50_s),
                    human::seconds(eta.p90_s),
                    eta.basis
                ),
            ),
            None => say("starts in", "unknown: nothing says when what it waits for comes free"),
        }
    }
    if let Some(unblock) = &answer.unblock {
        say("would help", unblock);
    }
    for blind in &answer.blind {
        say("not seen", blind);
    }
    let mut parts = vec![lines.join("\n")];
    for (title, others) in [("AHEAD", &answer.ahead), ("HOLDS", &answer.holders)] {
        if !others.is_empty() {
            parts.push(others_table(title, others, settings));
        }
    }
    if !answer.quota.is_empty() {
        parts.push(quota::table(&answer.quota, settings));
    }
    let page = parts.join("\n\n");
    if settings.ui.unicode() { page } else { text::to_ascii(&page) }
}

fn others_table(title: &'static str, others: &[Ahead], settings: &Settings) -> String {
    let mut table = Table::new(&[
        (title, Align::Flexible),
        ("OWNER", Align::Flexible),
        ("STATE", Align::Left),
        ("PRIORITY", Align::Right),
        ("NODES", Align::Right),
        ("GPUS", Align::Right),
        ("ENDS WITHIN", Align::Right),
    ]);
    for other in others {
        table.row([
            other.name.clone(),
            other.owner.clone(),
            other.state.to_string(),
            other.priority.map_or_else(|| "-".to_owned(), |priority| priority.to_string()),
            other.nodes.to_string(),
            other.gpus.to_string(),
            other.ends_within_s.map_or_else(|| "-".to_owned(), human::seconds),
        ]);
    }
    for name in ["PRIORITY", "ENDS WITHIN"] {
        table.drop_if_silent(name);
    }
    let lines = table.fit(settings.ui.width(), settings.ui.unicode(), &["PRIORITY", "NODES", "OWNER"]);
    let head = |index: usize| if index == 0 { style::HEADER } else { anstyle::Style::new() };
    lines.iter().enumerate().map(|(index, line)| paint(head(index), line)).collect::<Vec<_>>().join("\n")
}
